"""The recipe of lab-vae on a tiny scale: it learns, it resumes bit for bit, and what it exports is a codec with latents of unit size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from vidistill.codec import load_codec
from vidistill.errors import Cancelled, InputError
from vidistill.files import load_tensors
from vidistill.lab.train import loop, vae


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    for name, value in {"BANK": 4, "SIZE": 32, "MEASURED": 64}.items():
        monkeypatch.setattr(vae, name, value)
    monkeypatch.setitem(vae.BATCH, "cpu", 2)
    monkeypatch.setitem(vae.CONFIG, "block_out_channels", (8, 8, 8, 8))


def stop_after(steps: int):
    calls = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == steps:
            raise Cancelled

    return progress


def test_two_steps_export_a_codec(tmp_path: Path) -> None:
    cost = vae.train(tmp_path, steps=2, device="cpu")
    codec = load_codec(tmp_path / "model")
    assert (codec.channels, codec.f_space) == (4, 8)
    assert json.loads((tmp_path / "model/training.json").read_text()) == cost
    assert {key: cost[key] for key in ("name", "steps", "samples", "data", "left_out", "seed")} == {
        "name": "lab-vae",
        "steps": 2,
        "samples": 4,
        "data": "Motion World",
        "left_out": [],
        "seed": 0,
    }
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    weights, _ = load_tensors(tmp_path / "model" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    # unit size over training frames is what the scaling factor is for
    batches = vae.Frames(0, 2, None)
    frames = torch.cat([batches.frames(k) for k in range(32)])
    assert codec.encode(frames[:, :, None]).std().item() == pytest.approx(1, abs=0.02)


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    vae.train(tmp_path / "whole", steps=4, device="cpu")
    with pytest.raises(Cancelled):
        vae.train(tmp_path / "parts", steps=4, device="cpu", progress=stop_after(2))
    assert json.loads(load_tensors(tmp_path / "parts/state.safetensors")[1]["record"])["step"] == 2
    vae.train(tmp_path / "parts", steps=4, device="cpu")
    whole, parts = (load_tensors(tmp_path / name / "state.safetensors")[0] for name in ("whole", "parts"))
    assert set(whole) == set(parts)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    weights = [(tmp_path / name / "model/diffusion_pytorch_model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_another_seed_needs_another_folder(tmp_path: Path) -> None:
    vae.train(tmp_path, steps=1, device="cpu")
    with pytest.raises(InputError, match="use another --out"):
        vae.train(tmp_path, steps=1, seed=1, device="cpu")


def test_it_learns() -> None:
    model, batch = vae.Autoencoder(0), vae.Frames(0, 2, None)(0)  # one batch, again and again
    run, psnr = loop.Run("lab-vae", model, vae.hidden), []
    for step in range(40):
        loss, figures = model(batch)
        model.zero_grad()
        loss.backward()
        run.update(loop.rate(step, done=0.0))
        psnr.append(figures["psnr"].item())
    assert psnr[-1] > psnr[0] + 3


def test_the_loss_is_the_stated_one() -> None:
    model, batch = vae.Autoencoder(0), vae.Frames(0, 2, None)(0)
    x = batch["frames"].float() / 127.5 - 1
    posterior = model.vae.encode(x).latent_dist
    y = model.vae.decode(posterior.mean + posterior.std * batch["noise"]).sample
    log_mse = torch.stack([((y[b] - x[b]) / 2).square().mean() + 1e-5 for b in range(2)]).log().mean()
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.mean, posterior.std), torch.distributions.Normal(0, 1)
    ).mean()
    loss, figures = model(batch)
    assert loss.item() == pytest.approx((log_mse + vae.BETA * kl).item(), rel=1e-4)
    assert figures["psnr"].item() == pytest.approx(10 * torch.log10(torch.exp(-log_mse)).item(), rel=1e-4)


def test_batches_depend_on_seed_and_number_alone() -> None:
    one, two = vae.Frames(0, 2, None), vae.Frames(0, 2, None)
    two(9)  # another history
    assert all(torch.equal(one(1)[key], two(1)[key]) for key in ("frames", "noise"))
    assert not any(torch.equal(one(1)[key], one(2)[key]) for key in ("frames", "noise"))
    other = vae.Frames(1, 2, None)
    assert not any(torch.equal(one(1)[key], other(1)[key]) for key in ("frames", "noise"))


def test_hidden_convolutions_are_orthogonalised_and_nothing_else() -> None:
    names = {name for name, p in vae.Autoencoder(0).named_parameters() if vae.hidden(name, p)}
    assert "vae.encoder.down_blocks.0.resnets.0.conv1.weight" in names
    assert not names & {
        f"vae.{edge}.weight" for edge in ("encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out", "quant_conv")
    }


def test_data_without_jhmdb_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder jhmdb-21"):
        vae.train(tmp_path / "out", steps=1, data=tmp_path)


def test_real_clips_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch) -> None:
    from vidistill.data import clips, layouts, store

    items = [layouts.Item(tmp_path / f"{name}.avi", f"run/{name}", 0) for name in ("good", "bad", "fine")]
    monkeypatch.setattr(layouts, "open_videos", lambda folder, layout: type("Set", (), {"train": items, "test": items[1:2]}))
    frames = torch.zeros(3, 2, 112, 112, dtype=torch.uint8)
    read = lambda some, *rest, **more: (clips.BadClip(item.path, "is cut short") if item.name == "run/bad" else frames for item in some)  # noqa: E731
    monkeypatch.setattr(store, "decode_clips", read)
    (tmp_path / "jhmdb-21").mkdir()
    kept, left_out = vae.real_clips(tmp_path, "train", 2)
    assert kept.shape == (2, 3, 2, 112, 112)
    assert left_out == [{"name": "run/bad", "reason": "is cut short"}]
    cost = vae.train(tmp_path / "out", steps=1, data=tmp_path, device="cpu")
    assert cost["left_out"] == left_out
    assert "half each" in cost["data"]
    with pytest.raises(InputError, match="1 are bad, the first is run/bad: is cut short"):
        vae.real_clips(tmp_path, "test", 2)


@pytest.mark.data
@pytest.mark.skipif("VIDISTILL_DATA" not in os.environ, reason="VIDISTILL_DATA is not set: no real clips")
def test_real_frames_are_half_of_a_batch(monkeypatch) -> None:
    clips, left_out = vae.real_clips(Path(os.environ["VIDISTILL_DATA"]), "test", 2)
    assert clips.shape == (257, 3, 2, 112, 112)
    assert len(left_out) == 0
    monkeypatch.setattr(vae, "real_clips", lambda data, split, frames: (clips, left_out))
    batches = vae.Frames(0, 2, Path("data"))
    frames = batches(3)["frames"]
    assert frames.shape == (2, 3, 32, 32)
    assert frames.dtype == torch.uint8
    assert torch.equal(frames[:1], batches._world(3))
    assert torch.equal(frames[1:], batches._real(3, 1))
