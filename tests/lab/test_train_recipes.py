"""The recipes of lab-dit, lab-unet and lab-base on a tiny scale: they learn, resume, and what they export is what stock classes load."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from vidistill import shipped
from vidistill.errors import Cancelled, InputError
from vidistill.files import file_digest, load_tensors, save_tensors
from vidistill.lab.train import dit, export, loop, unet
from vidistill.lab.train.latents import Bank

RECIPES = {"lab-dit": dit.train, "lab-unet": unet.train_unet, "lab-base": unet.train_base}
PARTS = {"lab-dit": ("text_encoder", "transformer"), "lab-unet": ("text_encoder", "unet"), "lab-base": ("text_encoder", "unet")}


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path_factory) -> None:
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.getbasetemp() / "recipes"))  # eight clips, encoded once for all tests
    for module in (dit, unet):
        monkeypatch.setitem(module.SIZES, "cpu", {"batch": 4, "clips": 8})
    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 1, "text_dim": 16}
    monkeypatch.setattr(dit, "TRANSFORMER", dit.TRANSFORMER | sizes)
    monkeypatch.setattr(dit, "TEXT", dit.TEXT | {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2})
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(unet, "TEXT", text)
    small = {"block_out_channels": (8, 16), "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2}
    monkeypatch.setattr(unet, "UNET", unet.UNET | small)
    monkeypatch.setattr(export, "SHEET", {"a red circle spinning": 1, "a blue star falling": 2})
    monkeypatch.setattr(export, "SHEET_STEPS", 2)
    monkeypatch.setattr(unet.shipped, "folder", lambda name, own=unet.shipped.folder: own("lab-vae") if name == "lab-base" else own(name))


def stop_after(steps: int):
    calls: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("train"):
            calls.append(done)
        if len(calls) == steps:
            raise Cancelled

    return progress


@pytest.fixture
def model(tmp_path: Path, request) -> Path:
    RECIPES[request.param](tmp_path / "run", steps=2, device="cpu")
    return tmp_path / "run/model"


every = pytest.mark.parametrize("model", list(RECIPES), indirect=True)


def say(folder: Path) -> tuple[str, dict[str, Any]]:
    about = json.loads((folder / "training.json").read_text())
    return about["name"], about


@every
def test_stock_classes_load_the_export_without_a_word(model: Path, caplog, capfd) -> None:
    import diffusers
    import transformers

    index = json.loads((model / "model_index.json").read_text())
    name, about = say(model)
    assert about["steps"] == 2
    state, _ = load_tensors(model.parent / "state.safetensors")
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for part in PARTS[name]:
            library, kind = index[part]
            loaded, report = getattr({"diffusers": diffusers, "transformers": transformers}[library], kind).from_pretrained(
                model / part, output_loading_info=True
            )
            assert not any(report.values()), report
            assert loaded.dtype == torch.float32
            weights = {key.removeprefix(f"average/{part}."): t for key, t in state.items() if key.startswith(f"average/{part}.")}
            own = dict(loaded.named_parameters())
            assert len(own) == len(weights)
            for key, p in own.items():
                average = weights.get(key, weights.get("encoder.embed_tokens.weight" if key == "shared.weight" else key))
                assert torch.equal(p, average.half().float()), key
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file() and "vae" not in path.parts}
    assert not [name for name in files if not name.endswith((".json", ".safetensors"))]


@every
def test_the_stock_pipeline_makes_the_clip_of_the_sampler(model: Path) -> None:
    """With nothing but the folder named: every network comes in fp32, so that they fit each other."""
    import diffusers

    from vidistill.rng import normal
    from vidistill.sample import generate, load_denoiser

    ours = generate(load_denoiser(model), ["a red circle"], seeds=[3], steps=2, guidance=3.0)
    noise = normal([3], "init", (4, 16, 8, 8))
    common = {"num_inference_steps": 2, "guidance_scale": 3.0, "latents": noise, "output_type": "latent", "negative_prompt": ""}
    if say(model)[0] == "lab-dit":
        pipeline: Any = diffusers.WanPipeline.from_pretrained(model, vae=None)
        pipeline.set_progress_bar_config(disable=True)
        theirs = pipeline("a red circle", height=64, width=64, num_frames=61, max_sequence_length=20, **common).frames
    else:
        pipeline = diffusers.TextToVideoSDPipeline.from_pretrained(model)
        pipeline.set_progress_bar_config(disable=True)
        theirs = pipeline("a red circle", height=64, width=64, num_frames=16, **common).frames
        assert file_digest(model / "vae/diffusion_pytorch_model.safetensors") == file_digest(
            shipped.folder("lab-vae") / "diffusion_pytorch_model.safetensors"
        )
    assert torch.allclose(theirs.float(), ours, atol=1e-5)


@every
def test_the_folder_says_what_it_is(model: Path) -> None:
    name, about = say(model)
    module = dit if name == "lab-dit" else unet
    assert name in RECIPES
    assert json.loads((model / "sampling.json").read_text()) == {
        "steps": module.STEPS,
        "guidance": module.GUIDANCE,
        "frames": 16,
        "size": 64,
    }
    assert (about["seed"], about["start"], about["samples"]) == (0, None, 8)
    assert ("star" in about["data"]) == (name == "lab-base")
    from PIL import Image

    with Image.open(model.parent / "sheet.png") as sheet:
        assert sheet.size == (6 * 128, 2 * (128 + 20))


@pytest.mark.parametrize("name", ["lab-dit", "lab-base"])
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export, "sheet", lambda model, path: None)
    train = RECIPES[name]
    train(tmp_path / "whole", steps=3, device="cpu")
    with pytest.raises(Cancelled):
        train(tmp_path / "parts", steps=3, device="cpu", progress=stop_after(1))
    train(tmp_path / "parts", steps=3, device="cpu")
    a, b = (load_tensors(tmp_path / run / "state.safetensors")[0] for run in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("module", [dit, unet])
def test_it_learns_one_batch(module) -> None:
    model = module.Flow(0) if module is dit else module.Denoise(0)
    batch = module.batches(Bank(0, 8), model, 0, 2)(0)
    run = loop.Run("toy", model, module.hidden)
    losses = []
    for _ in range(12):
        loss, _ = model(batch)
        model.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in run.live.values())  # several GPUs wait for every gradient
        run.update(1.0)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses
    assert run.finite()


@pytest.mark.parametrize("module", [dit, unet])
def test_batches_depend_on_seed_and_number_alone(module) -> None:
    model = module.Flow(0) if module is dit else module.Denoise(0)
    bank = Bank(0, 8)
    one, two, other = (module.batches(bank, model, seed, 4) for seed in (0, 0, 1))
    two(5)
    assert all(torch.equal(x, y) for x, y in zip(one(1).values(), two(1).values(), strict=True))
    assert not torch.equal(one(1)["noise"], one(2)["noise"])
    assert not torch.equal(one(1)["noise"], other(1)["noise"])
    t = one(1)["t"].float() / (1000 if module is unet else 1)
    u = t / (dit.SHIFT - (dit.SHIFT - 1) * t) if module is dit else t
    assert ((u * 4).floor().sort().values == torch.arange(4)).all()  # one time in each quarter


def test_shift_moves_times_towards_noise() -> None:
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(dit.shift(u), torch.tensor([3 * x / (1 + 2 * x) for x in u.tolist()], dtype=torch.float64))
    assert torch.equal(dit.shift(u, 1.0), u)
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=dit.SHIFT)
    assert torch.allclose(scheduler.sigmas, dit.shift(torch.arange(1000, 0, -1) / 1000), atol=1e-6)


def test_min_snr_weights() -> None:
    assert unet.weight(torch.tensor([0.1, 5.0, 10.0, 50.0])).tolist() == pytest.approx([1.0, 1.0, 0.5, 0.1])


def test_the_losses_are_the_stated_ones(monkeypatch) -> None:
    """With a network that answers zero, the loss is the mean square of the target, weighted."""
    bank = Bank(0, 8)
    model: Any = dit.Flow(0)
    batch = dit.batches(bank, model, 0, 4)(0)
    torch.nn.init.zeros_(model.transformer.proj_out.weight)
    torch.nn.init.zeros_(model.transformer.proj_out.bias)
    error = (batch["noise"] - batch["x0"]).square().mean((1, 2, 3, 4))
    loss, figures = model(batch)
    assert loss.item() == pytest.approx(error.mean().item(), rel=1e-5)
    assert figures["late"].item() == pytest.approx(error[batch["t"] < 0.5].mean().item(), rel=1e-5)
    model = unet.Denoise(0)
    batch = unet.batches(bank, model, 0, 4)(0)
    torch.nn.init.zeros_(model.unet.conv_out.weight)
    torch.nn.init.zeros_(model.unet.conv_out.bias)
    abar = model.scheduler.alphas_cumprod[batch["t"]]
    error = batch["noise"].square().mean((1, 2, 3, 4))
    assert model(batch)[0].item() == pytest.approx((error * unet.weight(abar / (1 - abar))).mean().item(), rel=1e-5)


def test_lab_unet_starts_from_lab_bases_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export, "sheet", lambda model, path: None)
    unet.train_base(tmp_path / "base", steps=1, device="cpu")
    cost = unet.train_unet(tmp_path / "unet", steps=1, device="cpu", start=tmp_path / "base/model")
    assert cost["start"] == "lab-base"
    model: Any = unet.Denoise(0)
    export.restore(tmp_path / "base/model", {"text_encoder": model.text_encoder, "unet": model.unet})
    weights, _ = load_tensors(tmp_path / "base/model/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(t, weights[key].float()) for key, t in model.unet.state_dict().items())
    assert not torch.equal(model.unet.conv_in.weight, unet.Denoise(0).unet.conv_in.weight)


def test_where_to_start(monkeypatch, tmp_path: Path) -> None:
    assert unet.origin(None) is None
    assert unet.origin("none") is None
    assert unet.origin("lab-base") == shipped.folder("lab-base")
    assert unet.origin(tmp_path) == tmp_path
    monkeypatch.setattr(shipped, "folder", lambda name: tmp_path / name)
    assert unet.origin("auto") is None
    (tmp_path / "lab-base").mkdir()
    (tmp_path / "lab-base/model_index.json").write_text("{}")
    assert unet.origin("auto") == tmp_path / "lab-base"


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    model: Any = unet.Denoise(0)
    unet.write(model, tmp_path)
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    tensors, _ = load_tensors(path)
    save_tensors(path, tensors | {"conv_in.weight": torch.zeros(1)})
    with pytest.raises(
        InputError, match=r"cannot start from .*: its unet is another architecture, 1 of its weights do not fit, e.g. conv_in.weight"
    ):
        export.restore(tmp_path, {"unet": model.unet})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot read"):
        unet.train_unet(tmp_path / "out", steps=1, device="cpu", start=tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        unet.train_unet(tmp_path / "out", steps=1, device="cpu", start=tmp_path / "nowhere")


def test_a_folder_that_was_moved_finds_its_autoencoder_again(tmp_path: Path) -> None:
    model = dit.Flow(0)
    dit.write(model, tmp_path / "model")
    (tmp_path / "deep").mkdir()
    (tmp_path / "model").rename(tmp_path / "deep/model")
    assert not (tmp_path / "deep/model/vae").exists()
    dit.write(model, tmp_path / "deep/model")
    assert (tmp_path / "deep/model/vae/config.json").is_file()


def test_pictures_hold_the_frames_in_order(tmp_path: Path) -> None:
    from PIL import Image

    video = torch.arange(2 * 3, dtype=torch.uint8).view(2, 1, 3, 1, 1).expand(2, 3, 3, 64, 64) * 40
    export.picture(video, ["one", "two"], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (3 * 128, 2 * 148)
        got = [[image.getpixel((x, y)) for x in (64, 192, 320)] for y in (64, 212)]
    assert got == [[(0, 0, 0), (40, 40, 40), (80, 80, 80)], [(120, 120, 120), (160, 160, 160), (200, 200, 200)]]
