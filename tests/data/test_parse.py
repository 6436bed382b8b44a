"""The parser against the truth it was built to recover, and the symmetries it must respect."""

from dataclasses import fields

import pytest
import torch

from vidistill.data.parse import HIDDEN, Parsed, parse
from vidistill.data.world import BACKGROUNDS, CAMERAS, COLOURS, FACTORS, PAN, SHAPES, ZOOM, column, factors, render, trajectory
from vidistill.errors import InputError


def index(clips, name):
    return torch.tensor([FACTORS[name].index(getattr(clip, name)) for clip in clips])


@pytest.fixture(scope="module")
def clean():
    clips = [factors(20261, i) for i in range(240)]
    video = render(clips)
    return clips, video, parse(video)


def test_every_factor_is_recovered(clean):
    clips, _, seen = clean
    agreement = seen.agreement(clips)
    assert set(agreement) == {"motion", "shape", "colour", "background", "camera"}
    assert min(agreement.values()) >= 0.98, agreement


def test_every_frame_answers_for_itself(clean):
    clips, _, seen = clean
    for name in ("shape", "colour", "background"):
        answer, truth = getattr(seen, f"frame_{name}"), index(clips, name)[:, None]
        told = answer != HIDDEN
        assert (answer == truth)[told].float().mean() >= 0.98
        assert told.float().mean() > 0.9


def test_tracks_are_measured(clean):
    clips, _, seen = clean
    truth = trajectory(clips)
    shown = truth.opacity > 0.9
    assert (seen.frame_shape != HIDDEN)[shown].all()
    assert (seen.frame_shape == HIDDEN)[truth.opacity == 0].all()
    pixel = 2 / 64
    assert (seen.x - truth.x)[shown].abs().mean() < 0.3 * pixel
    assert (seen.y - truth.y)[shown].abs().mean() < 0.3 * pixel
    assert (seen.radius / (truth.scale * column(clips, "size")))[shown].mean() == pytest.approx(1, abs=0.06)
    turn = (seen.angle - truth.angle + torch.pi).remainder(2 * torch.pi) - torch.pi
    assert turn[shown].abs().median() < 0.1
    assert (seen.opacity - truth.opacity).abs().mean() < 0.05


def test_camera_travel_is_measured(clean):
    clips, _, seen = clean
    truth = torch.tensor([CAMERAS[clip.camera] for clip in clips]) * torch.tensor([PAN, PAN, ZOOM]) * column(clips, "pace")
    assert (seen.travel - truth).abs().mean() < 0.03


@pytest.mark.parametrize(("frames", "size"), [(8, 64), (16, 48)])
def test_other_sizes(frames, size):
    clips = [factors(5, i) for i in range(60)]
    assert min(parse(render(clips, frames, size)).agreement(clips).values()) >= 0.96


def test_a_little_noise_is_forgiven():
    clips = [factors(6, i) for i in range(60)]
    assert min(parse(render(clips, noise=0.02)).agreement(clips).values()) >= 0.96


def test_a_clip_is_parsed_alone(clean):
    _, video, seen = clean
    for single in (0, 17, 101):
        alone = parse(video[single : single + 1])
        for field in fields(Parsed):
            assert torch.allclose(getattr(alone, field.name)[0].float(), getattr(seen, field.name)[single].float(), atol=1e-3), field.name


def test_a_mirror_only_swaps_left_and_right(clean):
    _, video, seen = clean
    mirrored = parse(video[:60].flip(-1))
    for name in ("motion", "shape", "colour", "background"):
        assert torch.equal(getattr(mirrored, name), getattr(seen, name)[:60])
    names = list(CAMERAS)
    swap = torch.tensor([names.index({"pan-left": "pan-right", "pan-right": "pan-left"}.get(name, name)) for name in names])
    assert torch.equal(mirrored.camera, swap[seen.camera[:60]])


def test_played_backwards_the_camera_returns():
    clips = [factors(8, i, motion="spin") for i in range(40)]
    forward, back = parse(render(clips)), parse(render(clips).flip(2))
    assert torch.allclose(forward.travel, -back.travel, atol=1e-3)
    assert torch.equal(back.motion, forward.motion)


def test_a_change_of_identity_is_seen_in_its_frame():
    """Splice two clips that differ in shape and colour only: the frames tell where the cut is."""
    first = factors(1, 3, motion="spin", shape="ring", colour="blue")
    second = factors(1, 3, motion="spin", shape="star", colour="yellow")
    a, b = render([first, second])
    seen = parse(torch.cat([a[:, :10], b[:, 10:]], 1)[None])
    colours, shapes = list(COLOURS), list(SHAPES)
    assert [colours[i] for i in seen.frame_colour[0]] == ["blue"] * 10 + ["yellow"] * 6
    assert [shapes[i] for i in seen.frame_shape[0]] == ["ring"] * 10 + ["star"] * 6
    assert (seen.frame_background == list(BACKGROUNDS).index(first.background)).all()


def test_an_empty_scene_hides_its_object():
    dark, light = torch.tensor(BACKGROUNDS["teal"], dtype=torch.float32)
    ramp = torch.linspace(0, 1, 64)[None, None, None, :]
    video = (dark[:, None, None, None] + (light - dark)[:, None, None, None] * ramp).expand(3, 8, 64, 64).round().to(torch.uint8)[None]
    (record,) = parse(video).records()
    assert record == {"motion": "hidden", "shape": "hidden", "colour": "hidden", "background": "teal", "camera": "still"}


@pytest.mark.parametrize(
    "shape", [(1, 3, 16, 64, 48), (3, 16, 64, 64), (1, 1, 16, 64, 64), (0, 3, 16, 64, 64), (1, 3, 2, 64, 64), (1, 3, 16, 16, 16)]
)
def test_refuses_other_shapes(shape):
    with pytest.raises(InputError, match="cannot parse"):
        parse(torch.zeros(shape, dtype=torch.uint8))


def test_refuses_floats():
    with pytest.raises(InputError, match="uint8"):
        parse(torch.zeros(1, 3, 16, 64, 64))
