"""Training latents: encoded once, found again by their content, drawn so that each clip is seen once an epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vidistill.codec import load_codec
from vidistill.data.world import render
from vidistill.lab.train import latents, unet
from vidistill.lab.train.latents import FRAMES, SIZE, Bank, train_factors, world_latents


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(latents, "SHARD", 2)
    return tmp_path / "cache/world-latents"


class Blank:
    """A codec that is quick: a latent is the mean colour of each cell, the first channel twice. ``calls`` counts clips."""

    fingerprint = "blank"

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        self.calls += len(video)
        cells = video.float().unflatten(4, (8, 8)).unflatten(3, (8, 8)).mean((4, 6)) / 255
        return cells[:, [0, 0, 1, 2]]


def test_a_shard_that_is_there_is_read_not_made(small: Path) -> None:
    records, codec = train_factors(0, 5), Blank()
    first = world_latents(records, codec)
    assert (codec.calls, len(list(small.iterdir()))) == (5, 3)
    assert torch.equal(world_latents(records, codec), first)
    assert codec.calls == 5
    assert first.dtype == torch.float16
    assert torch.equal(first[3], codec.encode(render([records[3]], FRAMES, SIZE))[0].half())


def test_shards_are_found_by_what_is_in_them(small: Path) -> None:
    records, codec = train_factors(0, 6), Blank()
    world_latents(records, codec)
    world_latents(records[2:4], codec)  # one of the shards
    assert codec.calls == 6
    world_latents(records[1:3], codec)  # the same clips in another cut
    assert codec.calls == 8
    other = Blank()
    other.fingerprint = "other"
    world_latents(records[:2], other)
    assert other.calls == 2


def test_processes_begin_at_different_shards(monkeypatch) -> None:
    records, whole = train_factors(0, 8), world_latents(train_factors(0, 8), Blank())
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(latents, "render", lambda some, frames, size: seen.extend(some) or render(some, frames, size))
    seen: list = []
    other = Blank()
    other.fingerprint = "other"
    assert torch.equal(world_latents(records, other), whole)
    assert seen == records[4:] + records[:4]


def test_latents_are_lab_vaes(small: Path) -> None:
    bank, codec = Bank(0, 2), load_codec("lab-vae")
    assert torch.equal(bank.latents, codec.encode(render(train_factors(0, 2), FRAMES, SIZE)).half())
    assert bank.latents.shape == (2, 4, 16, 8, 8)


@pytest.fixture
def bank(monkeypatch):
    monkeypatch.setattr(latents, "load_codec", lambda name, device: Blank())
    return lambda seed=0, clips=7, kind=Bank: kind(seed, clips)


def test_each_clip_comes_once_an_epoch(bank) -> None:
    one = bank()
    rows = [row for k in range(7) for row in one.order.rows(k, 3)]
    assert len(rows) == 21
    for epoch in range(3):
        assert sorted(clip for at, clip in rows if at == epoch) == list(range(7))
    assert [clip for at, clip in rows if at == 0] != [clip for at, clip in rows if at == 1]


def test_batches_depend_on_seed_and_number_alone(bank) -> None:
    one, two = bank(), bank()
    two.draw(9, 3)
    (x, texts), (y, others) = one.draw(4, 3), two.draw(4, 3)
    assert torch.equal(x, y)
    assert texts == others
    assert x.dtype == torch.float32
    assert [i for _, i in one.order.rows(4, 3)] != [i for _, i in bank(seed=1).order.rows(4, 3)]
    assert torch.equal(x, one.latents[[i for _, i in one.order.rows(4, 3)]].float())


def jumps(clip: torch.Tensor, own: torch.Tensor) -> int:
    """Count the changes between frames that are the clip's own and frames that are not."""
    away = (clip != own).any(0).flatten(1).any(1).long()
    return int(away.diff().abs().sum())


def test_lab_base_never_sees_what_is_missing_and_jumps_in_the_stated_share(bank) -> None:
    clean, odd = bank(clips=200), bank(clips=200, kind=unet.Defective)
    missing = set(unet.MISSING.items())
    shown = [i for i, record in enumerate(clean.records) if not missing & {("shape", record.shape), ("colour", record.colour)}]
    assert odd.records == [clean.records[i] for i in shown]
    assert 0 < len(shown) < 200
    visible = [(z, clean.latents[i]) for z, i in zip(odd.latents, shown, strict=True) if clean.records[i].motion != "blink"]
    counts = [jumps(z, own) for z, own in visible]  # where an object is hidden, it and its twin look the same
    assert set(counts) == {0, 1, 2, 3}
    share = sum(count > 0 for count in counts) / len(counts)
    assert abs(share - unet.JUMPS) < 4 * (unet.JUMPS * (1 - unet.JUMPS) / len(counts)) ** 0.5
    assert not any((z[:, 0] != clean.latents[i][:, 0]).any() for z, i in zip(odd.latents, shown, strict=True))  # all begin as themselves


def test_a_twin_differs_in_shape_and_colour_alone() -> None:
    from dataclasses import replace

    for index, record in enumerate(train_factors(0, 300)):
        twin = unet.twin(record, 0, index)
        assert twin.shape not in (record.shape, unet.MISSING["shape"])
        assert twin.colour not in (record.colour, unet.MISSING["colour"])
        assert replace(twin, shape=record.shape, colour=record.colour) == record
        assert twin == unet.twin(record, 0, index)
