"""The recipe of lab-vae on a tiny scale: it learns, it resumes bit for bit, and what it exports is what the card describes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from vidistill.codec import load_codec
from vidistill.errors import Cancelled, InputError
from vidistill.files import file_digest, load_tensors
from vidistill.lab.train import vae


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    for name, value in {"BANK": 4, "BATCH": 2, "WORLD_TEST_CLIPS": 2, "SIZE": 32}.items():
        monkeypatch.setattr(vae, name, value)
    monkeypatch.setitem(vae.CONFIG, "block_out_channels", (8, 8, 8, 8))


def stop_after(steps: int):
    calls = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == steps:
            raise Cancelled

    return progress


def test_two_steps_export_a_codec_and_its_card(tmp_path: Path) -> None:
    card = vae.train(tmp_path, steps=2, device="cpu")
    codec = load_codec(tmp_path / "model")
    assert (codec.channels, codec.f_space) == (4, 8)
    assert card["training"]["steps"] == 2
    assert card["parameters"]["full"] == sum(p.numel() for p in codec.module.parameters())
    assert card["weights_sha256"] == file_digest(tmp_path / "model" / "diffusion_pytorch_model.safetensors")
    assert json.loads((tmp_path / "model" / "card.json").read_text()) == card
    assert f"{card['psnr_db']['motion-world 64 px']['mean']:.2f}" in (tmp_path / "model" / "README.md").read_text()
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    weights, _ = load_tensors(tmp_path / "model" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    # unit size over training frames is what the scaling factor is for
    frames = torch.cat([vae.Frames(0, None)(k) for k in range(32)])
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


def test_another_seed_or_length_needs_another_folder(tmp_path: Path) -> None:
    vae.train(tmp_path, steps=1, device="cpu")
    with pytest.raises(InputError, match="use another --out"):
        vae.train(tmp_path, steps=1, seed=1, device="cpu")


def test_it_learns(tmp_path: Path) -> None:
    run, batches = vae.Run(0, torch.device("cpu")), vae.Frames(0, None)
    psnr = [run.update(batches(0), 0, done=0.0)["psnr"] for _ in range(40)]  # one batch, again and again
    assert psnr[-1] > psnr[0] + 3


def test_batches_depend_on_seed_and_number_alone() -> None:
    one, two = vae.Frames(0, None), vae.Frames(0, None)
    two(9)  # another history
    assert torch.equal(one(1), two(1))
    assert not torch.equal(one(1), one(2))
    assert not torch.equal(one(1), vae.Frames(1, None)(1))


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (64, 2, 1, 1)])
def test_orthogonalised_steps_have_unit_singular_values(shape: tuple[int, ...]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    s = torch.linalg.svdvals(vae.orthogonalise(g).flatten(1))
    assert s.min() > 0.6
    assert s.max() < 1.3


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    assert vae.rate(0, 0.0) == pytest.approx(1 / vae.WARMUP)
    assert vae.rate(10_000, 0.5) == pytest.approx(0.5)
    assert vae.rate(10_000, 1.0) == pytest.approx(0, abs=1e-12)


def test_data_without_jhmdb_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder jhmdb-21"):
        vae.train(tmp_path / "out", steps=1, data=tmp_path)


@pytest.mark.data
@pytest.mark.skipif("VIDISTILL_DATA" not in os.environ, reason="VIDISTILL_DATA is not set: no real clips")
def test_real_frames_are_half_of_a_batch(monkeypatch) -> None:
    clips = vae.real_clips(Path(os.environ["VIDISTILL_DATA"]), "test", 2)
    assert clips.shape == (257, 3, 2, 112, 112)
    monkeypatch.setattr(vae, "real_clips", lambda data, split, frames: clips)
    batches = vae.Frames(0, Path("data"))
    assert batches(3).shape == (2, 3, 32, 32)
    assert batches(3).dtype == torch.uint8
    assert torch.equal(batches(3)[:1], batches._world(3))
    assert torch.equal(batches(3)[1:], batches._real(3, 1))
