"""Model cards: what they measure on models whose truth is known, how they resume, how bars and comparisons are judged."""

import copy
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from vidistill import zoo
from vidistill.data.world import factors
from vidistill.errors import Cancelled, InputError
from vidistill.files import file_digest, load_json, save_json
from vidistill.lab import zoo_bars, zoo_card, zoo_text
from vidistill.lab.train.latents import TEST_SEED, train_factors, world_latents
from vidistill.measure.generated import share
from vidistill.measure.probe import Probe, new_network
from vidistill.weights import write_network

PROMPTS = [factors(TEST_SEED, i).caption() for i in range(4)]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """An empty cache, little to time, and no shipped classifier."""
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo_card, "STEPS", (1, 2))
    monkeypatch.setattr(zoo_card, "REPEATS", 2)
    monkeypatch.setattr(zoo_card, "CHUNK", 2)
    monkeypatch.setattr(zoo_card, "_probe", lambda given, device: given)
    zoo_card._references.clear()


@pytest.fixture(scope="module")
def probe():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Probe(new_network(channels=(8, 8), maps=2, width=8, blocks=1))


def copied(folder: Path, to: Path, **training) -> Path:
    shutil.copytree(folder, to, symlinks=True)
    if training:
        save_json(to / "training.json", training)
    return to


def test_card_of_a_random_model_is_whole(tiny_unet, tmp_path, probe):
    stages = {}
    model = copied(tiny_unet, tmp_path / "tiny", name="tiny", steps=7, data="Motion World", seed=3, settings={"seed": 3, "clips": 3})
    card = zoo_card.measure_model(
        model, clips=4, device="cpu", probe=probe, progress=lambda *call: stages.setdefault(call[0], []).append(call)
    )
    parts = zoo.load(model).parts
    assert card["name"] == "tiny"
    assert card["class"] == "TextToVideoSDPipeline"
    assert card["parameters"]["unet"] == sum(p.numel() for p in parts["unet"].parameters())
    assert card["parameters"]["total"] == card["parameters"]["unet"] + card["parameters"]["text_encoder"]
    assert card["bytes"]["unet"] == (model / "unet/diffusion_pytorch_model.safetensors").stat().st_size
    assert card["weights_sha256"]["text_encoder"] == file_digest(model / "text_encoder/model.safetensors")
    assert card["sampling"] == {"steps": 4, "guidance": 3.0, "frames": 16, "size": 64}
    assert card["fidelity"].keys() == {"parser", "probe", "real clips, parser", "real clips, probe"}
    assert card["fidelity"]["real clips, parser"]["together"]["mean"] == 1
    assert card["fidelity"]["parser"]["motion"]["n"] == 4
    assert card["nearest_training"]["training clips searched"] == 3
    assert card["seconds"]["by steps, with guidance and decoding"].keys() == {"1", "2"}
    assert card["training"]["seed"] == 3
    assert card["seeds"]["motion-world training"] == 30_003
    assert card["drift"]["features"]["real"]["mean"] > 0
    for calls in stages.values():  # the total is honest: it stays, and it is reached
        assert len({total for _, _, total in calls}) == 1
        assert calls[-1][1] == calls[-1][2]
        assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)

    zoo_text.write_card(tmp_path / "out", card)
    held = load_json(tmp_path / "out/card.json")
    text = (tmp_path / "out/README.md").read_text()
    assert held == card
    assert text == zoo_text.card_text(held)
    for words in ("# tiny", "TextToVideoSDPipeline.from_pretrained", "7 steps", f"{card['parameters']['total']:,}", "real clips, probe"):
        assert words in text
    assert str(tmp_path) not in text + json.dumps(card)
    assert {row["verdict"] for row in zoo_bars.compare(card, held)} <= {"same", "overlaps", "no interval"}


def test_card_of_a_few_step_student_has_its_own_steps_alone(tiny_dit, tmp_path):
    model, times = copied(tiny_dit, tmp_path / "few"), [1.0, 0.7]
    save_json(model / "sampling.json", {"steps": 2, "guidance": 1.0, "frames": 16, "size": 64, "times": times, "renoise": "sde"})
    card = zoo_card.measure_model(model, clips=2, device="cpu")
    few = {"times": times, "renoise": "sde"}
    assert card["sampling"] == {"steps": 2, "guidance": 1.0, "frames": 16, "size": 64, **few}
    assert card["seconds"]["by steps, with guidance and decoding"].keys() == {"2"}
    zoo_text.write_card(tmp_path / "out", card)
    assert "2 steps and guidance 1" in (tmp_path / "out/README.md").read_text()
    homes = set((tmp_path / "cache/zoo-cards").iterdir())
    save_json(model / "sampling.json", {"steps": 2, "guidance": 1.0, "frames": 16, "size": 64, "times": [1.0, 0.6], "renoise": "sde"})
    zoo_card.measure_model(model, clips=2, device="cpu")
    assert len(set((tmp_path / "cache/zoo-cards").iterdir()) - homes) == 1  # other times, other clips


def test_a_perfect_model_has_a_perfect_card(tiny_dit, tmp_path, monkeypatch):
    """The real clips' own latents, handed out as if they were generated; the training set holds one of them."""
    model = copied(tiny_dit, tmp_path / "tiny", name="lab-dit", settings={"seed": 0, "clips": 4})

    def perfect(model, folder, prompts, seeds, progress):
        assert prompts == PROMPTS
        return world_latents([factors(TEST_SEED, i) for i in range(4)], model.codec).float()

    monkeypatch.setattr(zoo_card, "made", perfect)
    card = zoo_card.measure_model(model, clips=4, device="cpu")
    assert all(row["mean"] == 1 for row in card["fidelity"]["parser"].values())
    assert card["spread"]["x"] == {"mean": None, "low": None, "high": None, "n": 4}  # no motion has two clips
    for ratio in (card["drift"]["any"]["ratio"], card["contrast"]["ratio"], card["saturation"]["ratio"]):
        assert ratio == {"mean": 1, "low": 1, "high": 1, "n": 4}
    assert card["nearest_training"]["generated"] == card["nearest_training"]["held_out"]
    assert card["nearest_training"]["nearer"]["mean"] == 0
    reached = {bar["bar"]: bar["reached"] for bar in card["bars"]}
    assert all(reached[f"{name} fidelity"] for name in ("motion", "shape", "colour"))
    assert reached["identity drift / real clips'"]

    monkeypatch.setattr(zoo_card, "made", lambda model, *_: world_latents(train_factors(0, 4), model.codec).float())
    thief = zoo_card.measure_model(model, clips=4, device="cpu")
    assert thief["nearest_training"]["generated"]["50%"]["mean"] == 0
    assert thief["nearest_training"]["copies"]["mean"] == thief["nearest_training"]["nearer"]["mean"] == 1
    assert thief["fidelity"]["parser"]["together"]["mean"] < 1
    said = {place: zoo_text.card_text(thief | {"training": thief["training"] | {"on": place}}) for place in ("cpu, 1 threads", "H100")}
    assert "There was no GPU for it, and" in said["cpu, 1 threads"]
    assert "There was no GPU" not in said["H100"]


def test_generation_is_cached_resumes_and_is_checked(tiny_dit, tmp_path, monkeypatch):
    folder = copied(tiny_dit, tmp_path / "tiny")
    model, calls, real = zoo.load(folder), [], zoo_card.generate

    def counted(model, prompts, *, seeds, **options):
        calls.append(list(seeds))
        return real(model, prompts, seeds=seeds, **options)

    monkeypatch.setattr(zoo_card, "generate", counted)

    def stop(stage, done, total):
        if done > 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        zoo_card.made(model, folder, PROMPTS, range(4), stop)
    assert calls == [[0, 1], [2, 3]]
    latents = zoo_card.made(model, folder, PROMPTS, range(4))
    assert calls[2:] == [[0], [2, 3]]  # the check, and what was missing
    assert torch.equal(latents[1], real(model, PROMPTS[:2], seeds=[0, 1])[1])
    assert torch.equal(zoo_card.made(model, folder, PROMPTS, range(4)), latents)
    assert calls[4:] == [[0]]
    assert torch.equal(zoo_card.made(model, folder, PROMPTS[:2], range(2)), latents[:2])  # fewer clips share the files

    monkeypatch.setattr(zoo_card, "generate", lambda *a, **k: 1 + real(*a, **k))  # another sampler: nothing old is used
    assert torch.equal(zoo_card.made(model, folder, PROMPTS, range(4)), latents + 1)
    monkeypatch.setattr(zoo_card, "generate", counted)
    calls.clear()
    model.steps = 2
    assert not torch.equal(zoo_card.made(model, folder, PROMPTS, range(4)), latents)
    assert calls == [[0, 1], [2, 3]]


def test_card_of_a_classifier(tmp_path, probe, monkeypatch):
    write_network(probe.network, tmp_path / "lab-probe")
    card = zoo_card.measure_model(tmp_path / "lab-probe", clips=6, device="cpu")
    assert card["family"] == "classifier"
    assert card["accuracy"].keys() == card["accuracy_through_codec"].keys() == set(probe.factors)
    assert card["accuracy"]["motion"]["n"] == 6
    assert card["parameters"]["total"] == sum(p.numel() for p in probe.network.parameters())
    assert sum(row["clips"] for row in card["motion_confusions"]["raw"]) == pytest.approx(
        6 * (1 - card["accuracy"]["motion"]["mean"]), abs=1e-4
    )
    assert [bar["reached"] for bar in card["bars"]] == [False] * 8
    text = zoo_text.card_text(card)
    assert "Commonest wrong motions" in text
    assert "motion, clips through lab-vae" in text


def test_card_of_the_autoencoder():
    card = zoo_card.measure_model("lab-vae", clips=2, device="cpu")
    held = load_json(zoo.path("lab-vae") / "card.json")
    verdicts = {row["number"]: row["verdict"] for row in zoo_bars.compare(card, held)}
    assert verdicts["weights_sha256"] == verdicts["parameters, decoder"] == "same"
    assert "DIFFERS" not in verdicts.values()
    assert verdicts["psnr_db, jhmdb-21 test split 1, 112 px"] == "not in both"
    assert card["training"] == held["training"]


@pytest.mark.parametrize("name", zoo.ZOO)
def test_shipped_cards_are_generated_from_what_is_shipped(name):
    folder = zoo.path(name)
    card = load_json(folder / "card.json")
    assert (folder / "README.md").read_text() == zoo_text.card_text(card)
    assert card["training"] == load_json(folder / "training.json")
    shas = [file_digest(file) for file in zoo_card.weights(folder).values()]
    held = card["weights_sha256"]
    assert shas == (list(held.values()) if isinstance(held, dict) else [held])


# ------------------------------------------------------------------------------------------------------------ bars, comparing


def row(mean, half=0.01, n=512):
    return {"mean": mean, "low": mean - half, "high": mean + half, "std": 0.2, "n": n}


def pretend(name, motion=0.9, drift=0.01, ratio=1.2, look=1.0, seconds=1.0, threads=2):
    together = {"together": row(motion - 0.1)}
    return {
        "name": name,
        "fidelity": {"parser": {"motion": row(motion), "shape": row(0.95), "colour": row(0.96)} | together},
        "fidelity_by_value": {"shape": {"star": share([False] * 9 + [True])}, "colour": {}},
        "drift": {"any": {"generated": row(drift), "ratio": row(ratio)}},
        "contrast": {"ratio": row(look)},
        "saturation": {"ratio": row(2 - look)},
        "seconds": {
            "device": "cpu",
            "threads": threads,
            "by steps, with guidance and decoding": {"20": row(seconds)},
            "loading from disk": 1.0,
        },
        "defects": {"never shown": {"shape": "star", "colour": "purple"}, "share of training clips with jumps": 0.5},
    }


def judged(card, unet=None):
    return {bar["bar"]: bar["reached"] for bar in zoo_bars.bars(card, unet)}


def test_bars_of_the_good_models():
    good = judged(pretend("lab-unet"))
    assert set(good.values()) == {True}
    assert len(good) == 8
    assert judged(pretend("lab-unet", motion=0.84))["motion fidelity"] is False
    assert judged(pretend("lab-unet", ratio=1.6))["identity drift / real clips'"] is False
    poor = judged(pretend("lab-unet", look=0.85))
    assert poor["contrast / real clips'"] is poor["saturation / real clips'"] is False
    assert judged(pretend("lab-unet", seconds=2.0))["seconds, 20 guided steps"] is True
    assert judged(pretend("lab-dit", seconds=2.0))["seconds, 20 guided steps"] is False
    assert judged(pretend("lab-dit", seconds=2.0, threads=16))["seconds, 20 guided steps"] is None
    assert judged(pretend("lab-dit"), pretend("lab-unet", motion=0.89))["motion, shape and colour together"] is True
    assert judged(pretend("lab-dit"), pretend("lab-unet", motion=0.9))["motion, shape and colour together"] is False
    assert judged(pretend("lab-dit"))["motion, shape and colour together"] is None
    assert judged(pretend("another")) == {}


def test_bars_of_the_weak_sibling():
    found = judged(pretend("lab-base", drift=0.04), pretend("lab-unet", drift=0.01))
    assert found == {
        "identity drift / lab-unet's": True,
        "fidelity of the missing shape, star": True,
        "fidelity of the missing colour, purple": None,  # no clip was asked for it
    }
    assert judged(pretend("lab-base", drift=0.02), pretend("lab-unet", drift=0.01))["identity drift / lab-unet's"] is False
    assert judged(pretend("lab-base"))["identity drift / lab-unet's"] is None


def test_bars_of_a_student_are_its_teachers():
    card = pretend("lab-dit-kd4", motion=0.85) | {"sampling": {"times": [1.0, 0.5]}}
    assert zoo_bars.beside(card) == "lab-dit"
    assert zoo_bars.beside(pretend("lab-dit") | {"sampling": {"steps": 20}}) == "lab-unet"
    assert judged(card, pretend("lab-dit", motion=0.89))["motion fidelity"] is True  # .85 >= .95 x .89
    assert judged(card, pretend("lab-dit", motion=0.90))["motion fidelity"] is False
    assert judged(card)["motion fidelity"] is None
    assert set(judged(card)) == {f"{factor} fidelity" for factor in zoo_bars.TARGETS} | {
        "contrast / real clips'",
        "saturation / real clips'",
    }


def test_comparison_tells_overlap_from_difference():
    old = {"parameters": {"total": 5}, "contrast": {"ratio": row(1.0, 0.1)}, "psnr_db": {"world": {"mean": 1.0, "low": None, "high": None}}}
    new = copy.deepcopy(old)
    new["contrast"]["ratio"] = row(1.15, 0.1)
    assert [line["verdict"] for line in zoo_bars.compare(new, old)] == ["same", "overlaps", "overlaps"]
    new["contrast"]["ratio"] = row(1.25, 0.1)
    new["parameters"]["total"] = 6
    new["psnr_db"]["world"]["mean"] = 2.0
    assert [line["verdict"] for line in zoo_bars.compare(new, old)] == ["DIFFERS", "DIFFERS", "no interval"]
    assert {line["verdict"] for line in zoo_bars.compare(new, None)} == {""}
    assert zoo_bars.compare(new, {**old, "psnr_db": {}})[-1]["verdict"] == "not in both"


def test_defects_are_said_on_the_page():
    card = pretend("lab-base", drift=0.02)
    card["bars"] = zoo_bars.bars(card, pretend("lab-unet"))
    card["fidelity"]["parser"]["shape"], card["fidelity_by_value"].pop("colour")
    text = "\n".join(zoo_text._text_defects(card))
    assert "in 50 % of its training clips" in text
    assert "the shape star and the colour purple" in text
    assert "Not reached: identity drift / lab-unet's 2" in text
    assert "Weakest shape: star, 10.0 %" in text


# ------------------------------------------------------------------------------------------------------------------- bad input


def test_bad_names_and_folders(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="did you mean 'lab-unet'"):
        zoo_card.measure_model("lab-unte")
    with pytest.raises(InputError, match="neither a model's folder"):
        zoo_card.measure_model(tmp_path)
    with pytest.raises(InputError, match="at least 2 clips"):
        zoo_card.measure_model("lab-vae", clips=1)
    monkeypatch.setattr(zoo_card.shipped, "locate", lambda name: tmp_path / name)
    with pytest.raises(InputError, match="vidistill train lab-unet"):
        zoo_card.measure_model("lab-unet")
    assert [row["bytes"] for row in zoo_card.inventory()] == [None] * len(zoo.ZOO)


def test_inventory_counts_a_models_own_parts(tiny_unet, tmp_path, monkeypatch):
    locate = zoo_card.shipped.locate
    places = {name: tmp_path / name for name in zoo.ZOO} | {"lab-unet": tiny_unet}
    monkeypatch.setattr(zoo_card.shipped, "locate", lambda name: places.get(str(name)) or locate(name))
    rows = {row["name"]: row for row in zoo_card.inventory()}
    parts = zoo.load(tiny_unet).parts.values()
    assert rows["lab-unet"]["parameters"] == sum(p.numel() for part in parts for p in part.parameters())  # not lab-vae's
    assert rows["lab-unet"]["family"] == "TextToVideoSDPipeline"
    assert rows["lab-dit"]["parameters"] is None


def test_truncated_weights_are_one_line(tiny_unet, tmp_path):
    model = copied(tiny_unet, tmp_path / "cut")
    file = model / "unet/diffusion_pytorch_model.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match="cannot") as caught:
        zoo_card.measure_model(model, clips=2)
    assert "\n" not in str(caught.value)
