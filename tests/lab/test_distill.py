"""Distillation of a Wan pipeline, small and with random weights: the way that a full-size one takes, stage by stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from vidistill.data.world import write_world
from vidistill.distill import Trainer, roll_out
from vidistill.distill.trajectory import open_trajectories
from vidistill.errors import Cancelled, InputError
from vidistill.files import load_json, load_tensors
from vidistill.lab import distill as room
from vidistill.lab.cli import app
from vidistill.lab.distill import distill
from vidistill.lab.distill_order import order, rows_of, side_lengths, value_of
from vidistill.rng import normal
from vidistill.sample import generate, load_denoiser

SMALL = {"size": (32, 48), "frames": 8, "lora": 4, "batch": 2}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.getbasetemp() / "distill"))  # encoded once for all tests
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Clips of a few motions, and what they show in a file of captions; the one that is damaged has a caption, too."""
    folder = tmp_path_factory.mktemp("clips")
    write_world(folder / "whole", seed=0, per_class_train=1, per_class_test=1, size=48, frames=8)
    files = sorted((folder / "whole").rglob("*.mp4"))[:4]
    (folder / "few").mkdir()
    for path in files:
        shutil.copy(path, folder / "few" / path.name)
    (folder / "few" / "broken.mp4").write_bytes(b"no video")
    rows = [f"{path.name},clip number {i}" for i, path in enumerate(files)]
    (folder / "captions.csv").write_text("\n".join(["video,prompt", *rows, "broken,nothing"]))
    return folder


@pytest.fixture
def ask(tiny_dit, world) -> Callable[..., Any]:
    def make(recipe: str, **options: Any) -> Any:
        return order(str(tiny_dit), recipe, world / "few", world / "captions.csv", **SMALL | options)

    return make


@pytest.fixture
def trainers(monkeypatch) -> list[Trainer]:
    seen: list[Trainer] = []
    write = room.write
    monkeypatch.setattr(room, "write", lambda wanted, trainer, *rest: seen.append(trainer) or write(wanted, trainer, *rest))
    return seen


def stop_after(iterations: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if stage in ("dfd", "accvideo", "kd") and done == iterations:
            raise Cancelled

    return progress


def test_dfd_with_lora(ask, tiny_dit, trainers, tmp_path):
    record = distill(ask("dfd", updates=20, lr=1e-3, critic_lr=1e-3), tmp_path)
    assert (record["updates"], record["iterations"], record["samples"]) == (20, 100, 40)
    assert [bad["name"] for bad in record["skipped"]] == ["broken"]
    (trainer,) = trainers
    before, _ = load_tensors(tiny_dit / "transformer/diffusion_pytorch_model.safetensors")
    base = trainer.nets.student.base
    assert base is trainer.nets.critic.base is trainer.nets.teacher.base
    frozen = {name.replace(".base_layer.", "."): w for name, w in base.transformer.named_parameters() if ".lora_" not in name}
    assert before.keys() == frozen.keys()
    assert all(torch.equal(before[name], w) for name, w in frozen.items())
    model = load_denoiser(tmp_path / "model")
    assert (model.times, model.renoise, model.size) == ((0.999, 0.937, 0.833, 0.624), False, [32, 48])
    ours = generate(model, ["clip number 1"], seeds=[1])
    with torch.no_grad():
        text = load_denoiser(tiny_dit).encode(["clip number 1"])
        theirs = roll_out(trainer.student(), normal([1], "init", model.shape), trainer.recipe.times, text, renoise="ode")
    assert ours.shape == (1, 4, 8, 4, 6)
    assert torch.allclose(ours, theirs, atol=1e-4)
    after, _ = load_tensors(tmp_path / "model/transformer/diffusion_pytorch_model.safetensors")
    changed = {name for name, w in after.items() if not torch.equal(w, before[name])}
    assert changed == {name for name in before if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))} | {
        name for name in before if name.endswith(("ffn.net.0.proj.weight", "ffn.net.2.weight"))
    }


def test_diffusers_loads_the_lora(ask, tiny_dit, trainers, tmp_path):
    from diffusers import WanPipeline

    distill(ask("dfd", updates=1, student_update_freq=2, lr=1e-2), tmp_path)
    pipe: Any = WanPipeline.from_pretrained(str(tiny_dit), vae=None)
    x, t, c = torch.randn(2, 4, 8, 4, 4), torch.tensor([0.3, 0.9]), torch.randn(2, 6, 16)
    call = lambda net: net(hidden_states=x, timestep=1000 * t, encoder_hidden_states=c).sample  # noqa: E731
    with torch.no_grad():
        plain = call(pipe.transformer)
        pipe.load_lora_weights(str(tmp_path / "model"))
        loaded, own = call(pipe.transformer), trainers[0].student()(x, t, c)
    assert not torch.allclose(plain, own)
    assert torch.equal(loaded, own)


@pytest.mark.parametrize(("recipe", "lora"), [("accvideo", False), ("accvideo", True), ("fastgen-kd", False)])
def test_trajectories_with_full_weights_and_lora(ask, tiny_dit, tmp_path, recipe, lora):
    record = distill(ask(recipe, updates=2, steps=10, records=3, lr=1e-4, full=not lora), tmp_path)
    assert record["iterations"] == 2
    assert record["samples"] == {"accvideo": 2 * 2 * 5, "fastgen-kd": 2 * 2}[recipe]
    store = open_trajectories(tmp_path / "trajectories")
    assert len(store) == 3
    assert (store.times[0], store.times[-1]) == (1.0, 0.0)
    model = load_denoiser(tmp_path / "model")
    assert model.times == store.times[:-1]
    assert (tmp_path / "model/pytorch_lora_weights.safetensors").is_file() == lora
    before, after = (load_tensors(f / "transformer/diffusion_pytorch_model.safetensors")[0] for f in (tiny_dit, tmp_path / "model"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_full_weights_learn_a_trajectory_for_twenty_updates(ask, tmp_path):
    distill(ask("fastgen-kd", updates=20, steps=8, lr=1e-3, full=True), tmp_path)
    losses = [line["losses"]["kd"] for line in load_json(tmp_path / "log.json")]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize(("recipe", "options"), [("dfd", {}), ("accvideo", {"full": True, "steps": 10})])
def test_resumed_equals_uninterrupted(ask, tmp_path, recipe, options):
    options = {"updates": 2, "student_update_freq": 2, "lr": 1e-3, "ema": 0.5, **options}
    distill(ask(recipe, **options), tmp_path / "whole")
    with pytest.raises(Cancelled):
        distill(ask(recipe, **options), tmp_path / "parts", progress=stop_after(1))
    distill(ask(recipe, **options), tmp_path / "parts")
    for file in ("state.safetensors", "student.safetensors", "model/transformer/diffusion_pytorch_model.safetensors"):
        a, b = (load_tensors(tmp_path / run / file)[0] for run in ("whole", "parts"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(InputError, match=r"state of another run|trajectories of other prompts or seeds"):
        distill(ask(recipe, **options | {"seed": 1}), tmp_path / "whole")


def test_a_store_that_was_cut_short_goes_on(ask, tmp_path):
    wanted = ask("fastgen-kd", updates=1, steps=8, records=3)
    with pytest.raises(Cancelled):
        distill(wanted, tmp_path, progress=stop_after(1))
    (tmp_path / "trajectories/shard-00000.safetensors").unlink()
    with pytest.raises(InputError, match="3 of 3 records remain"):
        open_trajectories(tmp_path / "trajectories")
    distill(wanted, tmp_path)
    assert len(open_trajectories(tmp_path / "trajectories")) == 3


def test_students_begin_where_another_ended(ask, trainers, tmp_path):
    distill(ask("fastgen-dmd2", updates=1, student_update_freq=2, lr=1e-2), tmp_path / "dmd")
    distill(ask("dfd", updates=1, student_update_freq=2, lr=0.0, weight_decay=0.0, start=tmp_path / "dmd"), tmp_path / "dfd")
    dmd, dfd = trainers
    assert all(torch.equal(w, dfd.weights()[name]) for name, w in dmd.weights().items())
    with pytest.raises(InputError, match=r"of rank 2: 40 of its|with rank 2: 40 of its weights differ"):
        distill(ask("dfd", updates=1, start=tmp_path / "dmd", lora=2), tmp_path / "other")


def test_another_architecture_is_named(ask, tiny_dit, tmp_path):
    from diffusers import WanTransformer3DModel

    config = load_json(tiny_dit / "transformer/config.json")
    WanTransformer3DModel.from_config(config | {"ffn_dim": 48}).save_pretrained(tmp_path / "other/transformer")
    with pytest.raises(InputError, match=r"the student \(WanTransformer3DModel, 2 layers of width 24.* cannot begin from .*48"):
        distill(ask("fastgen-kd", updates=1, steps=10, full=True, start=tmp_path / "other"), tmp_path / "run")


def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(ask, tmp_path):
    with pytest.raises(InputError, match=r"not finite at iteration \d+ .*student.safetensors holds the student's weights of before"):
        distill(ask("dfd", updates=5, student_update_freq=2, lr=1e30, clip=0.0), tmp_path)
    weights, _ = load_tensors(tmp_path / "student.safetensors")
    assert all(bool(w.isfinite().all()) for w in weights.values())


def test_the_plan_is_arithmetic(ask, tiny_dit):
    wanted = ask("dfd", updates=20)
    net = load_denoiser(tiny_dit).parts["transformer"]
    adapted = [w for n, w in net.named_modules() if n.endswith(("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"))]
    adapter = 4 * sum(w.in_features + w.out_features for w in adapted)
    assert wanted.shape["weights"] == sum(w.numel() for w in net.parameters())
    assert (wanted.shape["latent"], wanted.shape["tokens"]) == ((4, 8, 4, 6), 8 * 2 * 3)
    assert wanted.plan["learning"] == 2 * adapter
    assert wanted.plan["trained"] == 16 * 2 * adapter
    assert wanted.plan["base"] == 4 * wanted.shape["weights"]
    assert wanted.plan["latents"] == 5 * 4 * 8 * 4 * 6 * 2
    assert (wanted.plan["samples"], wanted.plan["iterations"], wanted.plan["critic"]) == (40, 100, 80)
    full = ask("accvideo", updates=3, full=True, records=7, steps=10)
    assert full.plan["kept"] == 7 * 5 * 4 * 8 * 4 * 6 * 2
    assert full.plan["whole"] == 7 * 11 * 4 * 8 * 4 * 6 * 2
    assert full.plan["samples"] == 3 * 2 * 5
    assert {"trajectories", "memory", "student"} <= {row[0] for row in rows_of(full)}


def test_a_real_wan_is_planned_from_its_configuration_alone(world, tmp_path):
    """Wan 2.1 1.3 B: 1,418,996,800 weights; 81 frames of 480 x 832 are 32,760 tokens."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    for part, kind in (("transformer", WanTransformer3DModel), ("vae", AutoencoderKLWan)):
        (tmp_path / part).mkdir()
        own = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30} if part == "transformer" else {}
        with torch.device("meta"):
            kind(**own).save_config(tmp_path / part)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    wanted = order(str(tmp_path), "dfd", world / "few", world / "captions.csv", size=(480, 832))
    assert wanted.shape["weights"] == 1_418_996_800
    assert (wanted.shape["latent"], wanted.shape["tokens"]) == ((16, 21, 60, 104), 32_760)
    assert wanted.recipe.updates == 20


def test_bad_input_is_one_line(ask, tiny_dit, tiny_unet, world, tmp_path):
    (tmp_path / "few.json").write_text(json.dumps({"broken.mp4": "nothing"}))
    for options, line in (
        ({"lora": 0}, "LoRA rank 0 is out of range"),
        ({"batch": 0}, "batch=0 is out of range"),
        ({"size": (30, 33)}, "patches of 1 x 2 x 2 do not divide: take a height that is a multiple of 16"),
        ({"updatez": 3}, "did you mean 'updates'"),
        ({"times": [0.5, 0.7, 0.0]}, "must fall from noise"),
    ):
        with pytest.raises(InputError, match=line):
            ask("dfd", **options)
    for recipe, line in (
        ("plane-dfd", "for points in the plane, not for a video model: take accvideo, dfd"),
        ("plane-teacher", "for points in the plane"),
        ("nothing", "neither a TOML file nor one that ships"),
    ):
        with pytest.raises(InputError, match=line):
            ask(recipe)
    with pytest.raises(InputError, match=r"key times not increasing: .* take more --steps"):
        distill(ask("accvideo", steps=3), tmp_path / "steps")
    with pytest.raises(InputError, match=r"has no caption in .*few.json \(4 of 5 clips have none\)"):
        order(str(tiny_dit), "dfd", world / "few", tmp_path / "few.json", **SMALL)
    with pytest.raises(InputError, match="no captions for"):
        order(str(tiny_dit), "dfd", world / "few", **SMALL)
    with pytest.raises(InputError, match="which is no flow"):
        order(str(tiny_unet), "dfd", world / "few", world / "captions.csv", **SMALL)
    (tmp_path / "flow.toml").write_text("method = 'flow'\n")
    with pytest.raises(InputError, match="makes a teacher from nothing"):
        ask(str(tmp_path / "flow.toml"))
    for text in ("480x", "axb", "1x2x3"):
        with pytest.raises(InputError, match="not of the form HEIGHTxWIDTH"):
            side_lengths(text)
    assert [side_lengths(text) for text in (None, "64", "64x64", "480x832")] == [None, 64, 64, (480, 832)]
    assert [value_of("x", text) for text in ("0.5", "true", "ode", "[1.0, 0.0]")] == [0.5, True, "ode", [1.0, 0.0]]


def test_a_student_is_no_teacher(ask, world, tmp_path):
    distill(ask("dfd", updates=1, student_update_freq=2), tmp_path)
    with pytest.raises(InputError, match="is a few-step student itself"):
        order(str(tmp_path / "model"), "dfd", world / "few", world / "captions.csv", **SMALL)


def test_the_command(tiny_dit, world, tmp_path):
    words = ["distill", str(tiny_dit), "--recipe", "dfd", "--data", str(world / "few"), "--captions", str(world / "captions.csv")]
    words += ["--size", "32x48", "--frames", "8", "--lora", "4", "--batch", "2", "--updates", "1", "--set", "student_update_freq=2"]
    words += ["--device", "cpu", "--out", str(tmp_path)]
    run = CliRunner().invoke(app, [*words, "--plan"])
    assert run.exit_code == 0
    assert "48 tokens" in run.output
    assert not list(tmp_path.iterdir())
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert "left out: broken: " in run.output
    assert (tmp_path / "model/pytorch_lora_weights.safetensors").is_file()
    run = CliRunner().invoke(app, [*words, "--lora", "0"])
    assert run.exit_code == 2
    assert "LoRA rank 0" in run.output
    run = CliRunner().invoke(app, [*words[:5], str(world / "whole"), "--size", "32", "--frames", "8", "--plan"])
    assert run.exit_code == 0, run.output  # a Motion World knows what its clips show
