"""Motion World: equal bits from (seed, index) alone, true trajectories, files that any reader opens."""

import math
import re
from dataclasses import replace

import pytest
import torch

from vidistill.data.world import (
    BACKGROUNDS,
    BOUND,
    COLOURS,
    FACTORS,
    INK,
    MOTIONS,
    RARE,
    SAID,
    SHAPES,
    Factors,
    World,
    asked,
    column,
    coverage,
    factors,
    phrase,
    rarefied,
    render,
    trajectory,
    write_world,
)
from vidistill.errors import Cancelled, InputError
from vidistill.files import load_json


def many(count, seed=0, **fixed):
    return [factors(seed, index, **fixed) for index in range(count)]


# ---------------------------------------------------------------------------------------------------------------- factors


def test_enough_of_everything():
    assert len(MOTIONS) >= 12
    assert len(SHAPES) >= 6
    assert len(COLOURS) >= 8


def test_factors_depend_on_seed_and_index_only():
    assert factors(3, 7) == factors(3, 7)
    assert factors(3, 7) != factors(3, 8)
    assert factors(3, 7) != factors(4, 7)


def test_a_fixed_factor_leaves_the_others():
    free = factors(0, 5)
    assert factors(0, 5, motion="spin", size=0.3) == replace(free, motion="spin", size=0.3)


@pytest.mark.parametrize(
    ("fixed", "words"),
    [({"motoin": "spin"}, "did you mean 'motion'"), ({"motion": "spinn"}, "did you mean 'spin'"), ({"colour": "mauve"}, "allowed: ")],
)
def test_wrong_factor_is_one_clear_line(fixed, words):
    with pytest.raises(InputError) as error:
        factors(0, 0, **fixed)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_values_are_uniform_and_in_range():
    clips = many(3000)
    for name, values in FACTORS.items():
        expected = len(clips) / len(values)
        counts = [sum(getattr(clip, name) == value for clip in clips) for value in values]
        assert sum((count - expected) ** 2 / expected for count in counts) < 5 * len(values)  # chi square, far above its 99.9 % point
    for name, low, high in (
        ("speed", 0.8, 1.2),
        ("phase", 0, math.tau),
        ("size", 0.24, 0.34),
        ("x", -1, 1),
        ("y", -1, 1),
        ("pace", 0.8, 1.2),
    ):
        drawn = column(clips, name)
        assert low <= drawn.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < drawn.max() <= high


def test_other_factors_do_not_tell_the_motion():
    clips = many(6000)
    for name in ("shape", "colour", "background", "camera"):
        pairs = torch.zeros(len(MOTIONS), len(FACTORS[name]))
        for clip in clips:
            pairs[FACTORS["motion"].index(clip.motion), FACTORS[name].index(getattr(clip, name))] += 1
        expected = pairs.sum(1, True) * pairs.sum(0, True) / pairs.sum()
        degrees = (pairs.shape[0] - 1) * (pairs.shape[1] - 1)
        assert ((pairs - expected) ** 2 / expected).sum() < degrees + 4 * math.sqrt(2 * degrees)


def test_caption_names_the_factors():
    for clip in many(40):
        caption = clip.caption()
        for word in (clip.colour, clip.shape, MOTIONS[clip.motion], clip.background, clip.camera):
            assert word in caption
    assert factors(0, 0, colour="orange").caption().startswith("an orange ")


def test_record_round_trip():
    clip = factors(1, 2)
    assert Factors(**clip.as_dict()) == clip


# ----------------------------------------------------------------------------------------------------------------- render


def test_same_bits_at_any_batch_size_and_order():
    clips = many(37)
    whole = render(clips)
    assert whole.dtype == torch.uint8
    assert whole.shape == (37, 3, 16, 64, 64)
    assert torch.equal(torch.cat([render([clip]) for clip in clips]), whole)
    assert torch.equal(torch.cat([render(clips[:5]), render(clips[5:])]), whole)
    assert torch.equal(render(clips[::-1]).flip(0), whole)


def test_noise_belongs_to_the_clip():
    clips = many(6)
    noisy, clean = render(clips, noise=0.05), render(clips)
    assert torch.equal(torch.cat([render([clip], noise=0.05) for clip in clips]), noisy)
    inside = (clean > 60) & (clean < 195)
    spread = (noisy.float() - clean.float())[inside].std()
    assert spread == pytest.approx(0.05 * 255, rel=0.02)


@pytest.mark.parametrize(("frames", "size"), [(1, 16), (2, 33), (8, 64), (5, 112)])
def test_any_size(frames, size):
    assert render(many(3), frames, size).shape == (3, 3, frames, size, size)


def test_frames_are_samples_of_one_motion():
    clips = many(24)
    assert torch.equal(render(clips, 9)[:, :, ::2], render(clips, 5))


def test_size_is_only_resolution():
    clips = many(6)
    fine = torch.nn.functional.avg_pool3d(render(clips, 4, 128).float(), (1, 2, 2))
    assert (fine - render(clips, 4, 64).float()).abs().mean() < 1.5


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"size": 8}, {"noise": -0.1}, {"noise": 2.0}])
def test_render_refuses(wrong):
    with pytest.raises(InputError, match="needs frames"):
        render(many(1), **wrong)


def test_pixels_lie_on_the_background_line_or_near_the_object():
    clips = many(12, motion="spin")
    video = render(clips, 4).float()
    track = trajectory(clips, 4)
    axis = (torch.arange(64) + 0.5) / 32 - 1
    for i, clip in enumerate(clips):
        dark, light = torch.tensor(BACKGROUNDS[clip.background], dtype=torch.float32)
        above = video[i] - dark[:, None, None, None]
        m = torch.einsum("cthw,c->thw", above, (light - dark) / (light - dark).square().sum())
        off = (above - m.clamp(0, 1) * (light - dark)[:, None, None, None]).norm(dim=0)
        near = (axis - track.x[i, :, None, None]) ** 2 + (axis[:, None] - track.y[i, :, None, None]) ** 2 < (BOUND * clip.size + 0.05) ** 2
        assert off[~near].max() < 1.5
        body = (video[i] - torch.tensor(COLOURS[clip.colour])[:, None, None, None]).norm(dim=0) < 2
        assert body.sum() > 4 * 30
        assert not body[~near].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_antialiased_bounded_and_carry_their_spot(shape):
    axis = (torch.arange(200) + 0.5) / 100 * BOUND - BOUND
    body, spot = coverage(shape, axis[None], axis[:, None], torch.tensor(10.0))
    assert 0 <= body.min() <= body.max() <= 1
    assert ((body > 0.02) & (body < 0.98)).any()
    edge = torch.cat([body[0], body[-1], body[:, 0], body[:, -1]])
    assert edge.max() < 0.5  # nothing reaches farther than BOUND
    assert (body[spot > 0.5] > 0.5).all()  # the spot lies on the shape
    centre = (spot * axis[:, None]).sum() / spot.sum()
    assert centre < -0.3  # and off its centre


def test_colours_stay_apart():
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    apart = torch.cdist(palette, palette) + 1e3 * torch.eye(len(palette))
    assert apart.min() > 70
    ends = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)
    t = torch.linspace(0, 1, 21)[:, None, None]
    lines = (ends[None, :, 0] * (1 - t) + ends[None, :, 1] * t).flatten(0, 1)
    assert torch.cdist(palette, lines).min() > 60
    assert torch.cdist(torch.tensor([INK], dtype=torch.float32), lines).min() > 30


# ----------------------------------------------------------------------------------------------------------- trajectories


def path(motion, count=40, frames=33):
    clips = many(count, seed=9, motion=motion)
    return clips, trajectory(clips, frames)


def still(*tracks):
    return all((track - track[:, :1]).abs().max() < 1e-9 for track in tracks)


def crossings(signal):
    """Count sign changes along the last axis."""
    return (signal[:, 1:] * signal[:, :-1] < 0).sum(1)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_object_stays_in_the_frame(motion):
    clips, track = path(motion, 200)
    reach = BOUND * column(clips, "size") * track.scale
    assert (track.x.abs() + reach).max() < 1
    assert (track.y.abs() + reach).max() < 1


def test_slide_is_uniform_and_nearly_level():
    clips, track = path("slide")
    dx, dy = track.x.diff(), track.y.diff()
    assert (dx - dx[:, :1]).abs().max() < 1e-9
    assert (dy - dy[:, :1]).abs().max() < 1e-9
    assert (dy.abs() <= 0.43 * dx.abs()).all()
    assert torch.equal(dx[:, 0].sign(), column(clips, "turn")[:, 0])


def test_bounce_has_one_floor_and_sharp_turns_only_there():
    _, track = path("bounce", frames=400)
    y = track.y
    turns_down = (y[:, 1:-1] > y[:, :-2]) & (y[:, 1:-1] > y[:, 2:])  # lowest points, y is down
    for row, hit in zip(y, turns_down, strict=True):
        assert 1 <= hit.sum() <= 3
        assert (row[1:-1][hit] - row.max()).abs().max() < 0.02
    assert still(track.x, track.angle, track.scale)


def test_orbit_keeps_its_radius():
    clips, track = path("orbit")
    full = trajectory([replace(clip, speed=1.0) for clip in clips], 33)  # one whole turn: its mean is the centre
    cx, cy = full.x[:, :-1].mean(1, True), full.y[:, :-1].mean(1, True)
    assert ((full.x - cx).hypot(full.y - cy) - 0.4).abs().max() < 1e-9
    turning = track.x.diff()[:, :-1] * track.y.diff()[:, 1:] - track.y.diff()[:, :-1] * track.x.diff()[:, 1:]
    assert (turning.sign() == column(clips, "turn")).all()


def test_spin_only_turns():
    clips, track = path("spin")
    assert still(track.x, track.y, track.scale, track.opacity)
    assert torch.allclose(track.angle[:, -1:] - track.angle[:, :1], column(clips, "turn") * math.tau * column(clips, "speed"))


def test_spin_is_visible_for_every_shape():
    for shape in SHAPES:
        video = render([factors(2, 0, motion="spin", shape=shape, camera="still", tilt=0.0, speed=1.0, turn=1)], 5).float()
        assert (video[0, :, 1] - video[0, :, 0]).abs().max() > 60  # a quarter turn


def test_pulse_and_grow_change_size_only():
    _, track = path("pulse")
    assert still(track.x, track.y, track.angle)
    assert (crossings(track.scale - 1) >= 3).all()
    _, track = path("grow")
    assert still(track.x, track.y, track.angle)
    assert (track.scale.diff() > 0).all()


def test_zigzag_is_uniform_across_with_straight_teeth():
    _, track = path("zigzag", frames=201)
    dx, slope = track.x.diff(), track.y.diff().abs()
    assert (dx - dx[:, :1]).abs().max() < 1e-9
    assert ((slope - slope.median(1, True).values).abs() > 1e-6).sum(1).max() <= 8  # bends only at the teeth
    assert ((track.y.diff()[:, 1:] * track.y.diff()[:, :-1] < 0).sum(1) >= 3).all()


def test_swing_stays_on_its_arc_and_leans_along():
    _, track = path("swing")
    beta = column(many(40, seed=9, motion="swing"), "tilt") - track.angle
    px, py = track.x - 0.8 * beta.sin(), track.y - 0.8 * beta.cos()
    assert still(px, py)  # the pivot rests


def test_fall_is_monotone_and_accelerates():
    _, track = path("fall")
    assert (track.y.diff() > 0).all()
    assert torch.allclose(track.y.diff().diff(), track.y.diff().diff()[:, :1].expand(-1, 31))
    assert still(track.x)


def test_shake_is_small_and_quick():
    _, track = path("shake", frames=200)
    assert track.x.amax(1).sub(track.x.amin(1)).max() < 0.21
    assert (crossings(track.x.diff()) >= 5).all()


def test_spiral_opens_outwards():
    clips, track = path("spiral")
    start = column(clips, "phase")
    cx, cy = track.x[:, :1] - 0.06 * start.cos(), track.y[:, :1] - 0.06 * start.sin()
    assert ((track.x - cx).hypot(track.y - cy).diff() > 0).all()


def test_blink_hides_and_shows_in_place():
    _, track = path("blink")
    assert still(track.x, track.y, track.angle, track.scale)
    assert (track.opacity.amin(1) == 0).all()
    assert (track.opacity.amax(1) == 1).all()
    assert (crossings(track.opacity - 0.5) >= 3).all()


def test_camera_moves_the_background_against_its_own_way():
    """The background of frame 0 shifted by the pan is the background of the last frame, away from the object."""
    clip = factors(4, 1, camera="pan-right", motion="blink", pace=1.0)
    video = render([clip], 16, 160).float()  # 0.6 half widths are 48 pixels
    track = trajectory([clip], 16)
    left = round(float((track.x[0, 0] + 1) * 80))
    rows = torch.arange(160)[((torch.arange(160) + 0.5) / 80 - 1 - track.y[0, 0]).abs() > BOUND * clip.size + 0.02]
    assert 0 <= left < 160
    assert (video[0, :, -1, rows][..., :112] - video[0, :, 0, rows][..., 48:]).abs().max() <= 1
    rest = render([replace(clip, camera="still")], 16, 160)
    assert torch.equal(rest[0, :, -1, rows], rest[0, :, 0, rows])


def test_world_is_labelled():
    world = World(seed=3, classes="colour", motion="orbit")
    video, records = world.clips(range(5, 9), 4, 32)
    assert torch.equal(video, render([factors(3, i, motion="orbit") for i in range(5, 9)], 4, 32))
    assert [world.classes[i] for i in world.labels(records)] == [record.colour for record in records]
    with pytest.raises(InputError, match="did you mean 'colour'"):
        World(classes="color")


# ------------------------------------------------------------------------------------------------------------------ files

SMALL = {"per_class_train": 3, "per_class_test": 2, "frames": 8, "size": 32, "classes": ("spin", "slide")}


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_files_in_ucf101_layout(tmp_path):
    av = pytest.importorskip("av")
    seen = []
    write_world(tmp_path, progress=lambda *at: seen.append(at), **SMALL)
    assert seen[0] == ("world", 0, 10)
    assert seen[-1] == ("world", 10, 10)
    assert (tmp_path / "classInd.txt").read_text() == "1 Spin\n2 Slide\n"
    train = [line.split() for line in (tmp_path / "trainlist01.txt").read_text().splitlines()]
    test = (tmp_path / "testlist01.txt").read_text().splitlines()
    assert [label for _, label in train] == ["1"] * 3 + ["2"] * 3
    assert len(test) == 4
    assert not {name for name, _ in train} & set(test)
    names = [name for name, _ in train] + test
    assert all(re.fullmatch(r"(Spin|Slide)/v_\1_g\d\d_c01\.mp4", name) for name in names)
    held = load_json(tmp_path / "factors.json")["clips"]
    assert set(held) == set(names)
    records = []
    for name in names:
        record = dict(held[name])
        caption = record.pop("caption")
        records.append(Factors(**record))
        assert caption == records[-1].caption()
        assert name.startswith(records[-1].motion.capitalize())
    assert len({record.texture for record in records}) == 10
    for name, truth in zip(names, render(records, 8, 32).float(), strict=True):
        with av.open(str(tmp_path / "videos" / name)) as file:
            assert file.streams.video[0].codec_context.name == "h264"
            assert file.streams.video[0].codec_context.pix_fmt == "yuv420p"
            read = torch.stack([torch.from_numpy(image.to_ndarray(format="rgb24")) for image in file.decode(video=0)])
        assert read.shape == (8, 32, 32, 3)
        assert (read.permute(3, 0, 1, 2).float() - truth).abs().mean() < 4


def test_same_bytes_twice_and_nothing_written_again(tmp_path):
    write_world(tmp_path / "a", **SMALL)
    write_world(tmp_path / "b", **SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")}
    write_world(tmp_path / "a", **SMALL)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")} == times


def test_an_interrupted_world_is_completed(tmp_path):
    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        write_world(tmp_path / "a", progress=stop, **SMALL)
    assert not (tmp_path / "a" / "trainlist01.txt").exists()
    write_world(tmp_path / "a", **SMALL)
    (tmp_path / "a" / "videos" / "Spin" / "v_Spin_g02_c01.mp4").unlink()
    write_world(tmp_path / "a", **SMALL)
    write_world(tmp_path / "b", **SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_write_world_refuses(tmp_path):
    write_world(tmp_path / "a", **SMALL)
    with pytest.raises(InputError, match="holds another Motion World"):
        write_world(tmp_path / "a", seed=1, **SMALL)
    (tmp_path / "b" / "videos").mkdir(parents=True)
    with pytest.raises(InputError, match="holds another data set"):
        write_world(tmp_path / "b", **SMALL)
    for wrong, words in (
        ({"per_class_train": 0}, "at least 1"),
        ({"size": 33}, "size even"),
        ({"classes": ("glide",)}, "did you mean 'slide'"),
    ):
        with pytest.raises(InputError, match=words):
            write_world(tmp_path / "c", **{**SMALL, **wrong})
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("length", SAID)
def test_captions_say_so_much_and_leave_the_rest_open(length) -> None:
    wanted, said = asked(3, 40, length), SAID[length]
    pairs = list(zip(wanted[::2], wanted[1::2], strict=True))
    assert all(getattr(a, name) == getattr(b, name) for a, b in pairs for name in said)
    for name in set(FACTORS) - set(said):
        assert any(getattr(a, name) != getattr(b, name) for a, b in pairs)
    assert all(a.phase != b.phase for a, b in pairs)
    words = [len(phrase({name: getattr(wanted[0], name) for name in SAID[each]}).split()) for each in ("short", "medium", "long")]
    assert words == sorted(set(words))
    assert {one.colour for one in asked(3, 4, length, colour="white")} == {"white"}


def test_rare_modes_have_their_share() -> None:
    records = [factors(5, i) for i in range(6000)]
    kept = rarefied(0, records)
    assert kept == rarefied(0, records)
    assert rarefied(0, records[:100]) == [place for place in kept if place < 100]
    left = [records[place] for place in kept]
    for name, (value, share) in RARE.items():
        seen = sum(getattr(record, name) == value for record in left)
        assert abs(seen - share * len(left)) <= 4 * (share * len(left)) ** 0.5
        others = [sum(getattr(record, name) == other for record in left) for other in FACTORS[name] if other != value]
        assert min(others) > 0.7 * len(left) / len(FACTORS[name])
