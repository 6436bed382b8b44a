"""read_clip: which frames, which pixels, and one clear line for every file that gives none."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F

from vidistill.data import BACKENDS, BadClip, count_frames, frame_indices, inspect_files, pick_backend, read_clip, resized
from vidistill.data.clips import fit
from vidistill.errors import InputError
from vidistill.rng import stream
from vidistill.types import Protocol

SMALL = Protocol(frames=8, gap=4, size=32, crop="squash")
CENTRE, TRAIN = "test", "train"
each_backend = pytest.mark.parametrize("backend", BACKENDS)


# --- frame indices: equalities of the specification, 3.1 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "skip"), [(64, 4), (200, 4), (63, 3), (48, 3), (47, 2), (32, 2), (31, 1), (16, 1), (17, 1)])
def test_gap_shortens_as_in_the_official_code(n, skip):
    index = frame_indices(n, Protocol(), CENTRE)
    assert index.dtype == torch.int64
    assert index.shape == (16,)
    assert (index.diff() == skip).all()
    left, right = int(index[0]), n - 1 - int(index[-1])
    assert 0 <= right - left <= 1  # centred


@pytest.mark.parametrize("n", [2, 5, 15])
def test_short_video_is_played_once_and_holds_its_last_frame(n):
    assert frame_indices(n, Protocol(), CENTRE).tolist() == [*range(n), *[n - 1] * (16 - n)]


def test_train_start_is_uniform_over_every_start_that_fits():
    protocol, n = Protocol(frames=4, gap=2), 12  # starts 0 .. 5
    generator = stream(0, "test")
    starts = torch.stack([frame_indices(n, protocol, TRAIN, generator)[0] for _ in range(3000)])
    counts = torch.bincount(starts)
    assert len(counts) == n - 3 * 2
    assert (counts - 500).abs().max() < 110  # 5 sigma of a binomial


def test_train_start_depends_on_the_stream_alone():
    draw = [frame_indices(300, Protocol(), TRAIN, stream(seed, "clip", "v")).tolist() for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]


def test_one_frame_is_refused():
    with pytest.raises(InputError, match="at least 2"):
        frame_indices(1, Protocol(), CENTRE)
    with pytest.raises(InputError, match="did you mean 'train'"):
        frame_indices(10, Protocol(), "trian")


# --- pixels -------------------------------------------------------------------------------------------------------------------------------


def test_resize_crop_equals_scaling_to_160_by_120_and_cutting_the_centre():
    frames = torch.randint(0, 256, (2, 240, 320, 3), dtype=torch.uint8, generator=stream(0, "pixels"))
    full = F.interpolate(frames.permute(0, 3, 1, 2).double(), (120, 160), mode="bilinear")
    wanted = full[:, :, 4:116, 24:136].permute(1, 0, 2, 3)
    clip = fit(frames, Protocol(size=112))
    assert clip.shape == (3, 2, 112, 112)
    assert clip.dtype == torch.uint8
    assert (clip.double() - wanted).abs().max() <= 1  # fixed point: half a level for each direction


def test_center_takes_the_largest_part_of_a_rectangle():
    frames = torch.zeros((2, 40, 100, 3), dtype=torch.uint8)
    frames[:, :, 10:90] = 200  # the middle of the form 1 : 2
    clip = fit(frames, Protocol(size=16, crop="center", width=32))
    assert clip.shape == (3, 2, 16, 32)
    assert (clip == 200).all()
    assert fit(frames.transpose(1, 2), Protocol(size=16, crop="center", width=32)).shape == (3, 2, 16, 32)


def test_center_takes_the_middle_square_and_squash_takes_everything():
    frames = torch.zeros((1, 40, 80, 3), dtype=torch.uint8)
    frames[:, :, 20:60] = 200  # the middle square is bright, the sides are black
    assert (fit(frames, Protocol(size=16, crop="center")) == 200).all()
    squashed = fit(frames, Protocol(size=16, crop="squash"))
    assert squashed[0, 0, 0].tolist()[:3] == [0, 0, 0]
    assert abs(squashed.float().mean() - 100) < 1


def test_a_frame_that_has_the_right_size_is_not_touched():
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=stream(0, "pixels"))
    for crop in ("center", "squash"):
        assert torch.equal(fit(frames, Protocol(size=32, crop=crop)), frames.permute(3, 0, 1, 2))


# --- reading ------------------------------------------------------------------------------------------------------------------------------

KINDS = {
    "h264.mp4": {"b_frames": 2},
    "faststart.mp4": {"movflags": "faststart"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "b_frames.avi": {"codec": "mpeg4", "b_frames": 2},  # open GOPs and missing time stamps: where decord's own seeks go wrong
    "open_gop.mp4": {"codec": "mpeg4", "b_frames": 2, "gop": 7},
    "vp9.webm": {"codec": "libvpx-vp9"},
    **{f"narrow_{width}.mp4": {"width": width, "height": 48} for width in (32, 40, 48, 56)},  # decord takes row padding for a channel
}


@pytest.mark.parametrize("name", KINDS)
def test_backends_give_the_frames_that_were_asked_for_and_agree(name, tmp_path, write_video, frame_number):
    path = write_video(tmp_path / name, 50, **KINDS[name])
    protocol = Protocol(frames=8, gap=5, size=32, crop="squash")
    clips = {}
    for backend in BACKENDS:
        assert count_frames(path, backend) == 50
        clips[backend] = read_clip(path, protocol, TRAIN, seed=3, backend=backend)
        wanted = frame_indices(50, protocol, TRAIN, stream(3, "clip", path.stem))
        assert frame_number(clips[backend]) == wanted.tolist()
        assert clips[backend].shape == (3, 8, 32, 32)
    assert (clips["decord"].int() - clips["pyav"].int()).abs().max() <= 2


@each_backend
def test_every_single_frame_is_found(backend, tmp_path, write_video, frame_number):
    """The last frame, key frames and their neighbours, each by a fresh reader: no seek may miss."""
    path = write_video(tmp_path / "v.mp4", 30, codec="mpeg4", b_frames=2, gop=6)
    from vidistill.data.clips import _open

    for i in (0, 5, 6, 7, 11, 12, 13, 29):
        reader = _open(path, backend)
        assert frame_number(reader.read([i]).permute(3, 0, 1, 2)) == [i]
        reader.close()


@each_backend
def test_short_video_repeats_its_last_frame(backend, tmp_path, write_video, frame_number):
    path = write_video(tmp_path / "v.mp4", 5)
    assert frame_number(read_clip(path, SMALL, CENTRE, backend=backend)) == [0, 1, 2, 3, 4, 4, 4, 4]


def test_random_test_policy_draws_start_and_flip_from_the_seed(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", 50)
    protocol = Protocol(frames=8, gap=2, size=32, crop="squash", test_policy="random")
    clips = [read_clip(path, protocol, CENTRE, seed=seed, backend="pyav") for seed in range(12)]
    assert torch.equal(clips[0], read_clip(path, protocol, CENTRE, seed=0, backend="pyav"))
    square_left = [bool(clip[0, 0, :, :16].float().mean() > clip[0, 0, :, 16:].float().mean()) for clip in clips]
    assert len(set(square_left)) == 2  # some are mirrored, some are not
    trains = [read_clip(path, protocol, TRAIN, seed=seed, backend="pyav") for seed in range(12)]
    assert all(clip[0, 0, :, :16].float().mean() > clip[0, 0, :, 16:].float().mean() for clip in trains)


def test_start_belongs_to_the_key_not_to_the_file_name(tmp_path, write_video):
    one, two = (write_video(tmp_path / name, 50) for name in ("one.mp4", "two.mp4"))
    assert torch.equal(read_clip(one, SMALL, TRAIN, key="k", backend="pyav"), read_clip(two, SMALL, TRAIN, key="k", backend="pyav"))


# --- files that give no clip --------------------------------------------------------------------------------------------------------------


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.fixture
def bad_files(tmp_path, write_video, write_sound):
    damaged = write_video(tmp_path / "damaged.mp4", 40, movflags="faststart", width=160, height=120)
    data = bytearray(damaged.read_bytes())
    middle = data.index(b"mdat") + 8 + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 3000] = bytes((i * 37) % 256 for i in range(3000))
    damaged.write_bytes(data)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 100)
    (tmp_path / "stub.mp4").write_bytes(b"\0\0\0")
    return {
        "missing.mp4": (tmp_path / "missing.mp4", "No such file"),
        "empty.mp4": (tmp_path / "empty.mp4", "it is empty"),
        "text.mp4": (tmp_path / "text.mp4", "not a readable video"),
        "stub.mp4": (tmp_path / "stub.mp4", "not a readable video"),
        "one.mp4": (write_video(tmp_path / "one.mp4", 1), "1 frame; a clip needs at least 2"),
        "sound.mp4": (write_sound(tmp_path / "sound.mp4"), "no video stream"),
        "cut.mp4": (cut(write_video(tmp_path / "cut.mp4", 40)), "cut short"),
        "cut_faststart.mp4": (cut(write_video(tmp_path / "cut_faststart.mp4", 40, movflags="faststart")), "cut short"),
        "cut_tail.mp4": (cut(write_video(tmp_path / "cut_tail.mp4", 40, movflags="faststart"), 0.95), "cut short"),
        "cut.avi": (cut(write_video(tmp_path / "cut.avi", 40, codec="mpeg4")), "cut short"),
        "cut.webm": (cut(write_video(tmp_path / "cut.webm", 40, codec="libvpx-vp9")), "cut short"),
        "damaged.mp4": (damaged, "damaged"),
    }


@each_backend
def test_each_bad_file_says_why_in_one_line(backend, bad_files):
    for path, reason in bad_files.values():
        with pytest.raises(BadClip, match=reason) as caught:
            read_clip(path, Protocol(frames=16, gap=2, size=16), CENTRE, backend=backend)
        assert caught.value.path == path
        assert str(caught.value) == f"{path}: {caught.value.reason}"
        assert "\n" not in str(caught.value)


@each_backend
def test_inspect_finds_the_bad_ones(backend, bad_files, tmp_path, write_video):
    good = write_video(tmp_path / "good.mp4", 20)
    names = ["empty.mp4", "one.mp4", "sound.mp4", "cut.avi"]
    found = inspect_files([good, *(bad_files[name][0] for name in names)], backend, workers=2)
    assert found[0] == (good, 20, None)
    for name, (path, frames, reason) in zip(names, found[1:], strict=True):
        assert path.name == name
        assert bad_files[name][1] in reason
        assert frames == (1 if name == "one.mp4" else None)


def test_live_recordings_promise_no_length_and_are_read(tmp_path, write_video):
    """A Matroska stream of unknown length, as live recorders write it, is not taken for a cut file (decord cannot read such a stream)."""
    assert count_frames(write_video(tmp_path / "live.webm", 10, codec="libvpx-vp9", live="1"), "pyav") == 10


# --- backends -----------------------------------------------------------------------------------------------------------------------------


def test_pick_backend(monkeypatch):
    assert pick_backend("pyav") == "pyav"
    with pytest.raises(InputError, match="did you mean 'decord'"):
        pick_backend("decrod")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "decord" else there(name))
    assert pick_backend("auto") == "pyav"
    with pytest.raises(InputError, match="not installed"):
        pick_backend("decord")


def test_resized_clips_keep_their_mean_and_come_back_as_they_are():
    video = torch.randint(0, 256, (3, 3, 5, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = resized(video, 16)
    assert small.shape == (3, 3, 5, 16, 16)
    assert small.dtype == torch.uint8
    torch.testing.assert_close(small.float().mean((3, 4)), video.float().mean((3, 4)), atol=1.5, rtol=0)
    assert resized(video, 32) is video
    flat = torch.full((1, 3, 300, 16, 16), 77, dtype=torch.uint8)
    assert bool((resized(flat, 24) == 77).all())
