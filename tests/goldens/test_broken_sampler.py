"""A pull of the wrong sign, changed in the operator and nowhere else, turns its goldens red, and a card of GVD; and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goldens
import pytest
import torch
from torch import Tensor

from vidistill.codec import encode_store, load_codec
from vidistill.data import open_videos, spoken
from vidistill.data.world import write_world
from vidistill.guide import Moment, Pull
from vidistill.lab.cards import judge_cards, load_cards
from vidistill.lab.sweep import sweep
from vidistill.lab.toy import Mixture
from vidistill.lab.train.captions import clip_tokenizer
from vidistill.papers import gvd
from vidistill.papers.sets import real_clips

SMALL = {"frames": 4, "gap": 1, "size": 48, "crop": "center", "instances": 4, "videos": 1, "sampling_steps": 8, "seeds": 5}
SMALL |= {"soft": 0.0, "teacher": "student", "width": 4, "steps": 1, "batch": 8, "model": "known"}


@pytest.fixture
def flipped(monkeypatch) -> None:
    """The sampler broken: a pull pushes."""
    right = Pull.on_x0

    def wrong(self: Pull, x0: Tensor, at: Moment) -> Tensor | None:
        change = right(self, x0, at)
        return None if change is None else -change

    monkeypatch.setattr(Pull, "on_x0", wrong)


def red() -> set[str]:
    """Return the cases that differ from their goldens; no draft is made."""
    held = goldens.load(goldens.goldens_of("cpu"))
    return {name for name in goldens.CASES if goldens.changes(name, held.get(name), goldens.made(name, "cpu"))}


def test_a_pull_of_the_wrong_sign_turns_its_goldens_red_and_no_other(flipped) -> None:
    assert red() == {name for name in goldens.CASES if name.startswith("pull-")}


class Known(Mixture):
    """The exact denoiser of one Gaussian a class, around the mean of its real clips, as wide as they are; a prompt is a class's name."""

    def __init__(self, videos: Any, k: dict[str, Any]) -> None:
        codec, names = load_codec("lab-vae"), [spoken(name) for name in videos.classes]
        z = encode_store(codec, real_clips(k, videos, "train", 0))
        means = torch.stack([z.z[z.labels == c].flatten(1).mean(0) for c in range(len(names))])
        super().__init__(means, float((z.z.flatten(1) - means[z.labels]).std()), torch.arange(len(names)), names)
        self.codec, self.size, self.frames, self.steps = codec, k["size"], k["frames"], k["sampling_steps"]
        self.id = self.fingerprint = "known"
        self.tokenizer = clip_tokenizer()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.codec.latent_shape(self.frames, self.size)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=3, per_class_train=8, per_class_test=1, frames=8, size=48, classes=("slide", "spin"))
    return folder


def verdicts(world: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the verdicts of GVD's cards on where the pulled videos end, from five seeds of its own run at two strengths."""
    monkeypatch.setenv("VIDISTILL_CACHE", str(world / "cache"))
    videos, k = open_videos(world), gvd.KNOBS.resolve(SMALL)
    model = Known(videos, k)
    monkeypatch.setattr(gvd, "load_denoiser", lambda name, **options: model)
    settings = {f"lambda {text}": {"strength": float(text)} for text in ("0", "0.5")}
    rows = sweep(gvd.run, k, videos, out, settings, "lambda 0", seed=0)
    named = {row["setting"]: row for row in rows} | {"lambda:first": rows[0], "lambda:last": rows[-1]}
    return {row["card"]: row["verdict"] for row in judge_cards(load_cards("gvd"), named) if row["measure"] == "hits"}


def test_a_card_of_gvd_holds(world, tmp_path, monkeypatch) -> None:
    found = verdicts(world, tmp_path / "out", monkeypatch)
    assert set(found.values()) == {"direction holds"}


def test_a_pull_of_the_wrong_sign_turns_that_card_red(world, tmp_path, monkeypatch, flipped) -> None:
    found = verdicts(world, tmp_path / "out", monkeypatch)
    assert set(found.values()) == {"direction does not hold"}
