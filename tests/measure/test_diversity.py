"""Diversity of clips and of paths, on features and tracks whose numbers are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vidistill.data.parse import HIDDEN, parse
from vidistill.data.world import CAMERAS, PAN, factors, render, trajectory
from vidistill.errors import InputError
from vidistill.measure.diversity import (
    camera_track,
    clip_diversity,
    feature_diversity,
    gap_closed,
    gap_table,
    object_track,
    pairwise_diversity,
    path_diversity,
    rows_by_prompt,
    track_diversity,
)

E1, E2 = torch.eye(2)


def test_equal_features_have_none_and_orthogonal_ones_all() -> None:
    assert float(pairwise_diversity(torch.ones(8, 5))) == pytest.approx(0, abs=1e-12)
    assert float(pairwise_diversity(torch.eye(8))) == pytest.approx(1)
    assert float(pairwise_diversity(torch.stack([E1, -E1]))) == pytest.approx(2)
    scaled = torch.stack([E1, 7 * E1, 0.1 * E2])
    assert float(pairwise_diversity(scaled)) == pytest.approx(2 / 3)  # one of three pairs is equal; lengths do not matter


def test_eight_seeds_by_hand() -> None:
    four = torch.cat([E1.repeat(4, 1), E2.repeat(4, 1)])
    assert float(pairwise_diversity(four)) == pytest.approx(1 - 12 / 28)  # 2 * 6 of 28 pairs are equal
    f = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(0))
    slow = [1 - 2 / (8 * 7) * sum(float(torch.cosine_similarity(p[i], p[j], 0)) for i in range(8) for j in range(i)) for p in f]
    assert pairwise_diversity(f).tolist() == pytest.approx(slow, abs=1e-6)


def test_frames_pooled_and_frames_apart() -> None:
    there, back = torch.stack([E1, E2]), torch.stack([E2, E1])
    found = feature_diversity(torch.stack([there, back]))
    assert float(found["mean"]) == pytest.approx(0, abs=1e-12)  # the same frames in another order
    assert float(found["frame"]) == pytest.approx(1)
    batch = feature_diversity(torch.stack([torch.stack([there, back]), torch.stack([there, there])]))
    assert batch["frame"].tolist() == pytest.approx([1, 0], abs=1e-12)


def test_features_without_a_direction_are_refused() -> None:
    with pytest.raises(InputError, match="L >= 2"):
        pairwise_diversity(torch.ones(1, 4))
    for bad in (0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="no direction"):
            pairwise_diversity(torch.stack([E1, E2 * bad]))


def test_clips_are_compared_with_those_of_their_prompt() -> None:
    video = torch.zeros(6, 3, 2, 4, 4, dtype=torch.uint8)
    video[[1, 3, 4]] = 1
    prompts = ["a", "b", "b", "a", "c", "c"]  # a: 0 and 1, b: 1 and 0, c: 1 and 0
    see = lambda clips: torch.stack([E1, E2])[clips[:, 0, :, 0, 0].long()]  # noqa: E731
    found = clip_diversity(video, prompts, see)
    assert found["mean"]["prompts"] == pytest.approx({"a": 1, "b": 1, "c": 1})
    video[3] = 0
    found = clip_diversity(video, prompts, see)
    assert found["frame"]["prompts"] == pytest.approx({"a": 0, "b": 1, "c": 1}, abs=1e-12)
    assert found["frame"]["mean"] == pytest.approx(2 / 3)
    assert 0 <= found["frame"]["low"] < 2 / 3 < found["frame"]["high"] <= 1
    assert found["frame"]["n"] == 3
    alone = clip_diversity(video[:2], ["a", "a"], see)["mean"]
    assert (alone["mean"], alone["low"], alone["high"]) == (pytest.approx(1), None, None)
    assert rows_by_prompt(prompts) == {"a": [0, 3], "b": [1, 2], "c": [4, 5]}
    with pytest.raises(InputError, match="'b' has one"):
        clip_diversity(video[:3], ["a", "a", "b"], see)
    with pytest.raises(InputError, match="there are none"):
        rows_by_prompt([])
    with pytest.raises(InputError, match="6 clips, 5 prompts"):
        clip_diversity(video, prompts[:5], see)


# ------------------------------------------------------------------------------------------------------------------- paths


def test_paths_by_hand() -> None:
    there = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])  # out by 5 and back
    still = torch.zeros(3, 2)
    along = torch.tensor([[0.0, 0.0], [6.0, 8.0], [6.0, 8.0]])
    found = path_diversity(torch.stack([there, still, along]))
    assert found["path"] == pytest.approx((10 + 0 + 10) / 3)
    assert found["reach"] == pytest.approx((5 + 0 + 10) / 3)
    assert found["endpoint"] == pytest.approx((0 + 10 + 10) / 3)
    assert found["trajectory"] == pytest.approx((5 / 3 + (5 + 10) / 3 + 20 / 3) / 3)
    moved = path_diversity(torch.stack([there, still, along]) + torch.tensor([7.0, -1.0]))
    assert moved == pytest.approx(found)  # where all begin is nothing
    third = (2 / 9) ** 0.5  # deviation of (0, 0, 1) over all three
    assert found["spread"] == pytest.approx(10 * third)
    assert path_diversity(torch.stack([there, there])) == pytest.approx(
        {"path": 10, "reach": 5, "spread": 0, "endpoint": 0, "trajectory": 0}
    )
    for wrong in (there[None], torch.zeros(2, 1, 2), torch.zeros(2, 3)):
        with pytest.raises(InputError, match=r"tracks \[L, T, D\]"):
            path_diversity(wrong)
    with pytest.raises(InputError, match="not finite"):
        path_diversity(torch.full((2, 3, 2), torch.nan))


def test_the_cameras_of_the_world() -> None:
    cameras = ["pan-left", "pan-right", "still", "zoom-in"]
    clips = [factors(3, i, camera=camera, motion="spin", pace=1.0) for i, camera in enumerate(cameras)]
    parsed = parse(render(clips))
    tracks = camera_track(parsed, 16)
    assert tracks.shape == (4, 16, 3)
    assert not tracks[:, 0].any()
    torch.testing.assert_close(tracks[:, -1], parsed.travel.double())
    assert tracks[:2, -1, 0].tolist() == pytest.approx([CAMERAS[name][0] * PAN for name in cameras[:2]], abs=0.08)
    opposite = path_diversity(tracks[:2])
    assert opposite["endpoint"] == pytest.approx(2 * PAN, abs=0.12)
    assert opposite["trajectory"] == pytest.approx(opposite["endpoint"] / 2)  # straight and uniform
    assert opposite["path"] == pytest.approx(opposite["reach"])
    assert path_diversity(tracks[2:3].repeat(2, 1, 1))["reach"] < 0.08


def test_the_objects_of_the_world() -> None:
    clips = [factors(5, i, motion=motion, camera="still") for i, motion in enumerate(("slide", "orbit"))]
    truth, tracks = trajectory(clips, 16), object_track(parse(render(clips)))
    torch.testing.assert_close(tracks, torch.stack([truth.x, truth.y], -1), rtol=0, atol=0.05)


def test_a_hidden_object_lies_between_its_places() -> None:
    parsed = parse(render([factors(5, 0, motion="slide", camera="still")], frames=8))
    x = torch.arange(8.0)[None]
    shape = torch.zeros(1, 8, dtype=torch.int64)
    shape[0, [0, 3, 4, 7]] = HIDDEN
    garbled = torch.where(shape == HIDDEN, 99.0, x)
    found = object_track(replace(parsed, x=garbled, y=garbled, frame_shape=shape))
    assert found[0, :, 0].tolist() == [1, 1, 2, 3, 4, 5, 6, 6]
    nothing = object_track(replace(parsed, x=x, y=x, frame_shape=torch.full_like(shape, HIDDEN)))
    assert nothing.isnan().all()


def test_paths_are_compared_with_those_of_their_prompt() -> None:
    line = torch.stack([torch.linspace(0, 1, 5), torch.zeros(5)], -1)
    tracks = torch.stack([line, torch.full_like(line, torch.nan), 2 * line, 3 * line, -line])
    found = track_diversity(tracks, ["a", "a", "b", "b", "a"])
    assert found["endpoint"]["prompts"] == pytest.approx({"a": 2, "b": 1})
    assert found["endpoint"]["mean"] == pytest.approx(1.5)
    assert found["left_out"] == 1
    with pytest.raises(InputError, match="'a' has one"):
        track_diversity(tracks[:4], ["a", "a", "b", "b"])
    with pytest.raises(InputError, match="5 tracks, 1 prompts"):
        track_diversity(tracks, ["a"])


# --------------------------------------------------------------------------------------------------------------------- gap


def test_what_data_forcing_wins_back() -> None:
    """Table 1 of arXiv 2606.18478, and what its rows mean."""
    columns = ("clip mean", "clip frame", "dino mean", "dino frame", "endpoint", "trajectory")
    teacher, dmd2, dpdmd, dfd = (
        dict(zip(columns, row, strict=True))
        for row in (
            (0.178, 0.222, 0.301, 0.350, 30.571, 26.651),
            (0.120, 0.165, 0.190, 0.239, 9.148, 4.284),
            (0.126, 0.165, 0.197, 0.239, 7.208, 3.466),
            (0.128, 0.170, 0.205, 0.252, 18.513, 19.256),
        )
    )
    found = gap_table(dmd2, dfd, teacher)
    assert [round(found[name], 1) for name in columns] == [13.8, 8.8, 13.5, 11.7, 43.7, 66.9]
    assert gap_table(dmd2, dpdmd, teacher)["endpoint"] < 0  # farther from the teacher than before
    assert set(gap_table(dmd2, teacher, teacher).values()) == {100}
    assert gap_closed(1, 2, 1) is None
    assert gap_table({"a": 1.0}, {"a": 2.0}, {"a": 1.0}) == {"a": None}
    with pytest.raises(InputError, match="not in all three: b"):
        gap_table({"a": 1.0}, {"a": 2.0, "b": 1.0}, {"a": 1.0})
