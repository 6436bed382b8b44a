"""ClipStore: the same clips as read_clip, in any order, bounded in memory, resumed after a kill, bad files reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from vidistill.data import BadClip, Item, VideoSet, prepare_clips, read_clip, share_of_frames, store
from vidistill.errors import Cancelled, InputError
from vidistill.types import Protocol

TINY = Protocol(frames=4, gap=2, size=16, crop="squash")
CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def items(tmp_path_factory, write_video):
    """150 videos in three classes: three shards. Each is one of 15 files under its own name."""
    root = tmp_path_factory.mktemp("videos")
    files = [write_video(root / f"{i}.mp4", 6 + 3 * i, width=32, height=32) for i in range(15)]
    folders = [root / f"set{i}" for i in range(10)]
    out = []
    for k, folder in enumerate(folders):
        folder.mkdir()
        for i, file in enumerate(files):
            (folder / file.name).symlink_to(file)
            out.append(Item(folder / file.name, f"{CLASSES[k % 3]}/{k}-{i}", k % 3, f"g{i:02d}"))
    return out


def prepare(items, cache, policy="train", **options):
    return prepare_clips(items, CLASSES, TINY, policy, backend="pyav", cache=cache, workers=2, **options)


def test_store_holds_what_read_clip_gives(items, tmp_path):
    clips = prepare(items, tmp_path, seed=5)
    wanted = torch.stack([read_clip(item.path, TINY, "train", seed=5, backend="pyav", key=item.name) for item in items])
    assert torch.equal(clips.batch(torch.arange(len(items))), wanted)
    assert clips.labels.dtype == torch.int64
    assert clips.labels.tolist() == [item.label for item in items]
    assert clips.names == tuple(item.name for item in items)
    assert clips.groups == tuple(item.group for item in items)
    assert (len(clips), clips.classes, clips.backend, clips.skipped) == (150, CLASSES, "pyav", [])
    assert sorted(path.name for path in clips.folder.iterdir()) == ["index.json", *(f"shard-0000{i}.safetensors" for i in range(3))]


@pytest.mark.parametrize("resident", [store.RESIDENT, 0])
def test_batches_in_any_order(items, tmp_path, monkeypatch, resident):
    clips = prepare(items, tmp_path)
    whole = clips.batch(range(150))
    monkeypatch.setattr(store, "RESIDENT", resident)
    again = prepare(items, tmp_path)
    rows = [*torch.randperm(150, generator=torch.Generator().manual_seed(0))[:40].tolist(), 3, 3, -1]
    assert torch.equal(again.batch(rows), whole[rows])
    assert torch.equal(again.batch(torch.tensor(rows)), whole[rows])
    assert again.batch([]).shape == (0, 3, 4, 16, 16)
    streamed = list(again.batches(47))
    assert [start for start, _ in streamed] == [0, 47, 94, 141]
    assert torch.equal(torch.cat([video for _, video in streamed]), whole)
    assert ("_all" in vars(again)) == (resident > 0)
    with pytest.raises(IndexError):
        again.batch([150])


def test_the_number_of_workers_changes_nothing(items, tmp_path):
    one = prepare_clips(items[:70], CLASSES, TINY, "train", backend="pyav", cache=tmp_path / "1", workers=1)
    four = prepare_clips(items[:70], CLASSES, TINY, "train", backend="pyav", cache=tmp_path / "4", workers=4)
    assert one.key == four.key
    for name in ("shard-00000.safetensors", "shard-00001.safetensors"):
        assert (one.folder / name).read_bytes() == (four.folder / name).read_bytes()


def test_second_time_nothing_is_decoded(items, tmp_path, monkeypatch):
    first = prepare(items, tmp_path)
    monkeypatch.setattr(store, "read_clip", lambda *_, **__: pytest.fail("decoded again"))
    assert prepare(items, tmp_path).key == first.key


def test_key_follows_everything_that_the_clips_depend_on(items, tmp_path, write_video):
    some = items[:6]
    base = prepare(some, tmp_path).key
    other = Protocol(frames=4, gap=1, size=16, crop="squash")
    keys = {
        base,
        prepare(some, tmp_path, seed=1).key,
        prepare(some, tmp_path, policy="test").key,
        prepare(some[:5], tmp_path).key,
        prepare_clips(some, CLASSES, other, "train", backend="pyav", cache=tmp_path).key,
        prepare_clips(some, CLASSES, TINY, "train", backend="decord", cache=tmp_path).key,
    }
    assert len(keys) == 6
    assert prepare(some, tmp_path, policy="test", seed=0).key == prepare(some, tmp_path, policy="test", seed=1).key  # nothing is drawn
    changing = Item(write_video(tmp_path / "v.mp4", 10), "a/v", 0)
    before = prepare([changing], tmp_path).key
    os.utime(changing.path, ns=(1, 1))
    assert prepare([changing], tmp_path).key != before


def test_bad_clips_are_left_out_and_listed(items, tmp_path):
    (tmp_path / "empty.mp4").touch()
    bad = Item(tmp_path / "empty.mp4", "b/empty", 1)
    mixed = [*items[:30], bad, *items[30:70], *[Item(bad.path, f"b/empty{i}", 1) for i in range(60)], *items[70:]]
    for _ in range(2):  # decoded, then found
        clips = prepare(mixed, tmp_path)
        assert len(clips) == 150
        assert clips.names == tuple(item.name for item in items)
        assert [skip["name"] for skip in clips.skipped] == ["b/empty", *(f"b/empty{i}" for i in range(60))]
        assert clips.skipped[0]["reason"] == "it is empty (0 bytes)"
        assert torch.equal(clips.batch([29, 30, 149]), prepare(items, tmp_path).batch([29, 30, 149]))
    assert json.loads((clips.folder / "index.json").read_text())["skipped"] == clips.skipped


def test_a_shard_may_hold_bad_clips_only(items, tmp_path):
    (tmp_path / "empty.mp4").touch()
    bad = [Item(tmp_path / "empty.mp4", f"b/empty{i}", 1) for i in range(64)]
    clips = prepare([*items[:64], *bad, *items[64:70]], tmp_path)
    assert torch.equal(clips.batch(range(70)), prepare(items, tmp_path).batch(range(70)))


def test_class_left_without_clips_is_refused(items, tmp_path):
    (tmp_path / "empty.mp4").touch()
    bad = [Item(tmp_path / "empty.mp4", f"b/{i}", 1) for i in range(3)]
    with pytest.raises(InputError, match=r"class 'b' has no readable video: all 3 are bad, the first is b/0: it is empty"):
        prepare([*items[:15], *bad], tmp_path)
    with pytest.raises(InputError, match="no video can be read: all 3 are bad"):
        prepare(bad, tmp_path)
    with pytest.raises(InputError, match="the list is empty"):
        prepare([], tmp_path)


def test_cache_that_cannot_be_written(items, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        prepare(items[:2], tmp_path / "file")


def test_cancel_keeps_the_finished_shards(items, tmp_path, monkeypatch):
    def stop_at_100(stage, done, total):
        assert (stage, total) == ("decode clips", 150)
        if done == 100:
            raise Cancelled

    with pytest.raises(Cancelled):
        prepare(items, tmp_path, progress=stop_at_100)
    read = []
    monkeypatch.setattr(store, "read_clip", lambda path, *a, key, **k: read.append(key) or read_clip(path, *a, key=key, **k))
    clips = prepare(items, tmp_path)
    assert sorted(read) == sorted(item.name for item in items[64:])
    assert torch.equal(clips.batch(range(150)), prepare(items, tmp_path / "other").batch(range(150)))


def test_damaged_shard_is_decoded_again(items, tmp_path):
    clips = prepare(items, tmp_path)
    whole = clips.batch(range(150))
    (clips.folder / "shard-00001.safetensors").write_bytes(b"half a file")
    assert torch.equal(prepare(items, tmp_path).batch(range(150)), whole)


def test_killed_at_any_point_then_resumed(items, tmp_path):
    """kill -9 after the first shard has appeared; the same call then gives the same bytes as an undisturbed run."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from vidistill.data import Item, prepare_clips\n"
        "from vidistill.types import Protocol\n"
        "items = [Item(Path(p), n, int(k), g) for p, n, k, g in (line.rstrip('\\n').split('\\t') for line in open(sys.argv[1]))]\n"
        "slow = lambda stage, done, total: time.sleep(0.02 if done > 70 else 0)\n"
        "protocol = Protocol(4, 2, 16, 'squash')\n"
        "prepare_clips(items, 'abc', protocol, 'train', backend='pyav', cache=sys.argv[2], workers=2, progress=slow)\n"
    )
    (tmp_path / "items.tsv").write_text("".join(f"{i.path}\t{i.name}\t{i.label}\t{i.group}\n" for i in items))
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "items.tsv"), str(tmp_path / "killed")])
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed").rglob("shard-00000.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    whole, resumed = prepare(items, tmp_path / "whole"), prepare(items, tmp_path / "killed")
    for path in whole.folder.iterdir():
        assert path.read_bytes() == (resumed.folder / path.name).read_bytes()


def test_large_clips_have_small_shards(items, tmp_path):
    few = prepare(items[:10], tmp_path, shard=4)
    assert sorted(path.name for path in few.folder.iterdir()) == ["index.json", *(f"shard-0000{i}.safetensors" for i in range(3))]
    whole = prepare(items[:10], tmp_path)
    assert whole.key != few.key
    assert torch.equal(whole.batch(range(10)), few.batch(range(10)))


def test_few_clips_are_in_flight(items, monkeypatch):
    """A slow consumer does not let decoded clips pile up."""
    started, lock = [], threading.Lock()

    def read(*_, key, **__):
        with lock:
            started.append(key)
        raise BadClip("x", "not now")

    monkeypatch.setattr(store, "read_clip", read)
    clips = store.decode_clips(items, TINY, "test", backend="pyav", workers=2)
    for _ in range(10):
        next(clips)
    time.sleep(0.05)
    assert len(started) <= 10 + store.AHEAD
    clips.close()
    assert len(started) <= 10 + store.AHEAD


def test_share_of_frames_is_said_both_ways(items, tmp_path):
    (tmp_path / "empty.mp4").touch()
    listed = (*items, Item(tmp_path / "empty.mp4", "b/empty", 1))
    clips = prepare(listed, tmp_path)
    whole, sampled = share_of_frames(VideoSet(tmp_path, "folder", 1, CLASSES, listed, ()), clips, 30)
    every = 10 * sum(6 + 3 * i for i in range(15))
    assert (whole["frames"], whole["percent"]) == (every, pytest.approx(100 * 30 * TINY.frames / every))
    assert (sampled["frames"], sampled["percent"]) == (150 * TINY.frames, pytest.approx(100 * 30 / 150))
    assert whole["distilled"] == sampled["distilled"] == 30 * TINY.frames
