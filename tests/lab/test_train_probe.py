"""Recipe of lab-probe: what a batch holds, that it learns, that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vidistill.data.world import FACTORS, INK, factors, render
from vidistill.errors import Cancelled, InputError
from vidistill.lab.train import probe as recipe
from vidistill.lab.train.latents import TRAIN_SEED
from vidistill.measure.probe import HEADS, load_probe, new_network

TINY: dict[str, Any] = {"channels": (8, 16), "maps": 2, "width": 16, "blocks": 1}


class Mirror:
    """A codec for tests: it halves the brightness of what it is given, and counts what it decodes."""

    fingerprint = "mirror"
    decoded = 0

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return video[:, :1, :, ::8, ::8].float()

    def decode(self, z: torch.Tensor, frames: int) -> torch.Tensor:
        Mirror.decoded += len(z)
        return (z / 2).byte().repeat_interleave(8, 3).repeat_interleave(8, 4).expand(-1, 3, -1, -1, -1).contiguous()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipe, "load_codec", lambda name: Mirror())
    monkeypatch.setattr(recipe, "SIZES", {"cpu": {"batch": 4, "clips": 5}})
    monkeypatch.setattr(recipe, "new_network", lambda: new_network(**TINY))
    monkeypatch.setattr(recipe, "confusion", lambda model, path: None)


def test_a_batch_is_a_function_of_seed_and_k() -> None:
    clips = recipe.Clips(0, 4, 5)
    a, b, c = clips(3), recipe.Clips(0, 4, 5)(3), clips(4)
    assert a.keys() == {"video", "labels", "opacity", "track"}
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["video"], c["video"])
    assert a["video"].shape == (4, 3, 16, 64, 64)
    assert a["video"].dtype == torch.uint8
    assert not torch.equal(recipe.Clips(1, 4, 5)(3)["video"], a["video"])


def test_half_of_a_batch_is_fresh_and_half_came_through_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "disturb", lambda video, flip, draw: video)
    clips = recipe.Clips(0, 4, 5)
    batches = [clips(k) for k in range(5)]
    for k, batch in enumerate(batches):
        fresh = [factors(TRAIN_SEED, i) for i in (2 * k, 2 * k + 1)]
        assert torch.equal(batch["video"][:2], render(fresh, 16, 64))
        assert batch["labels"][:2].tolist() == [[FACTORS[name].index(getattr(record, name)) for name in HEADS] for record in fresh]
    decoded = torch.cat(clips.parts)
    rows = [i for batch in batches for clip in batch["video"][2:] for i in range(5) if torch.equal(clip, decoded[i])]
    assert sorted(rows) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]  # every clip once an epoch
    assert decoded.max() <= 127


def test_the_codec_is_asked_once() -> None:
    Mirror.decoded = 0
    first = recipe.Clips(0, 4, 5).parts
    again = recipe.Clips(0, 4, 5).parts
    assert Mirror.decoded == 5
    assert torch.equal(first[0], again[0])


@pytest.mark.parametrize("flipped", [False, True])
def test_the_track_points_at_the_object_and_its_ink_spot(monkeypatch: pytest.MonkeyPatch, flipped: bool) -> None:
    records = [factors(5, i, shape=shape, motion=motion) for i, (shape, motion) in enumerate([("star", "orbit"), ("square", "spin")])]
    monkeypatch.setattr(recipe.torch, "rand", lambda *size, **_: torch.full(size, 0.4 if flipped else 0.5))  # gain, offset, grain: 1, 0, 1
    batch = recipe.label(render(records, 16, 64), records, torch.Generator().manual_seed(0))
    for record, clip, track in zip(records, batch["video"], batch["track"], strict=True):
        for t in range(0, 16, 5):
            column, row = (int((track[t, i] + 1) * 32) for i in (3, 4))
            spot = clip[:, t, row, column].float()
            assert (spot - torch.tensor(INK).float()).abs().max() < 60, (record.motion, t)
        assert (track[:, 2] - record.size / 2).abs().max() < 1e-5


def test_disturbed_clips_are_the_same_clips() -> None:
    video = render([factors(5, i) for i in range(4)], 16, 64)
    flip = torch.tensor([True, False, True, False])
    out = recipe.disturb(video, flip, torch.Generator().manual_seed(1))
    for b in range(4):
        back = out[b].flip(-1) if flip[b] else out[b]
        assert 0 < (back.float() - video[b].float()).abs().mean() < 30
        assert torch.corrcoef(torch.stack([back.flatten().float(), video[b].flatten().float()]))[0, 1] > 0.95


def test_every_weight_learns_and_one_batch_is_learnt() -> None:
    model, batch = recipe.Classifier(0), recipe.Clips(0, 4, 5)(0)
    batch = {key: value[:2, :, ::4] if key == "video" else value[:2] if key == "labels" else value[:2, ::4] for key, value in batch.items()}
    batch["labels"][1] = (batch["labels"][0] + 1) % 6  # nothing in common
    optimiser, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(25):
        loss, figures = model(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle
    assert losses[-1] < losses[0] / 2
    assert all(figures[name] == 1 for name in HEADS)


def test_hidden_frames_say_nothing_about_the_object() -> None:
    """The loss of a frame in which nothing is seen is least when its classes are equally likely, that of the background is not."""
    model, batch = recipe.Classifier(0), recipe.Clips(0, 4, 5)(0)
    batch["opacity"] = torch.zeros_like(batch["opacity"])
    loss = model(batch)[0]
    for name, head in model.network.frame_heads.items():
        for p in head.parameters():
            p.data.zero_()
        gradient = torch.autograd.grad(model(batch)[0], list(head.parameters()))[1]
        assert (gradient.abs().max() < 1e-6) == (name != "background"), name
    assert loss.isfinite()


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("train") and done >= 250:
            raise Cancelled

    whole = recipe.train(tmp_path / "whole", steps=4, device="cpu")
    with pytest.raises(Cancelled):
        recipe.train(tmp_path / "parts", steps=4, device="cpu", progress=stop)
    assert json.loads((tmp_path / "parts/model/training.json").read_text())["steps"] == 2
    parts = recipe.train(tmp_path / "parts", steps=4, device="cpu")
    assert whole["steps"] == parts["steps"] == 4
    assert whole["samples"] == parts["samples"] == 16
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "whole/model" / name).read_bytes() == (tmp_path / "parts/model" / name).read_bytes()
    load_probe(tmp_path / "whole/model")
    with pytest.raises(InputError, match="another"):
        recipe.train(tmp_path / "whole", steps=4, seed=1, device="cpu")


def test_the_picture_of_confusions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.undo()
    model = recipe.Classifier(0)
    monkeypatch.setattr(recipe.Probe, "predict", lambda self, video: {"motion": torch.zeros(len(video), dtype=torch.int64)})
    recipe.confusion(model, tmp_path / "sheet.png", clips=24)
    image = Image.open(tmp_path / "sheet.png")
    assert image.size == (192, 192)
    assert image.getpixel((8, 8)) == 255  # every answer is the first motion
    assert image.getpixel((24, 8)) == 0
