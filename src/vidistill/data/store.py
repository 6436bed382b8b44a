"""Decoded clips on disk: read once by a pool of threads, kept as uint8 shards, given back in batches of any order.

A shard holds the clips of 64 consecutive videos (fewer where some are bad) and is written atomically, so a run that was killed goes on
with the first shard that is missing. Memory is bounded by one shard and the clips in flight, never by the data set.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from vidistill.data.clips import BadClip, inspect_files, is_random, pick_backend, read_clip, worker_count
from vidistill.data.layouts import Item, VideoSet
from vidistill.errors import InputError
from vidistill.files import cache_home, digest, ensure_folder, save_json, save_tensors
from vidistill.types import Progress, Protocol, silent

SHARD = 64  # videos per file
AHEAD = 64  # clips decoded ahead of the one that is waited for: enough to keep the threads busy while a shard is written
RESIDENT = 256 * 2**20  # sets up to this many bytes are kept in memory after the first read


class ClipStore:
    """The clips of many videos; made by :func:`prepare_clips`.

    Attributes:
        labels: int64 ``[B]``, class index in ``classes``.
        names, groups: of each clip, in order.
        classes: class names.
        protocol: how the clips were cut.
        skipped: the videos that gave no clip, ``{"name", "reason"}``.
        backend: the decoder used.
        key: digest of everything the clips depend on; the key for whatever is computed from them.
        folder: where the shards lie.
    """

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        classes: Sequence[str],
        protocol: Protocol,
        *,
        shards: Sequence[int],
        skipped: list[dict[str, str]],
        backend: str,
        key: str,
    ) -> None:
        self.labels = torch.tensor([item.label for item in items], dtype=torch.int64)
        self.names = tuple(item.name for item in items)
        self.groups = tuple(item.group for item in items)
        self.classes = tuple(classes)
        self.protocol, self.skipped, self.backend, self.key, self.folder = protocol, skipped, backend, key, folder
        self._starts = [0, *accumulate(shards)]  # clip number at which each shard begins

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of one clip, ``(3, T, H, W)``."""
        return 3, self.protocol.frames, *self.protocol.height_width

    def batch(self, index: torch.Tensor | Sequence[int]) -> torch.Tensor:
        """Return the clips at ``index`` (int64 ``[b]``, any order, repeats allowed) as uint8 ``[b, 3, T, S, S]``."""
        rows = [int(i) for i in index]
        if bad := [i for i in rows if not -len(self) <= i < len(self)]:
            raise IndexError(f"clip {bad[0]} of {len(self)}")
        rows = [i % len(self) for i in rows]
        if self._starts[-1] * torch.Size(self.shape).numel() <= RESIDENT:
            return self._all[torch.tensor(rows, dtype=torch.int64)]
        out = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        places: dict[int, list[int]] = {}
        for place, i in enumerate(rows):
            places.setdefault(bisect_right(self._starts, i) - 1, []).append(place)
        for shard, here in places.items():
            # the file is mapped only while its clips are copied, so mapped pages never pile up in memory
            with _open_shard(self.folder, shard) as file:
                video = file.get_slice("video")
                for place in here:
                    row = rows[place] - self._starts[shard]
                    out[place] = video[row : row + 1][0]
        return out

    def batches(self, size: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield ``(start, uint8 [b, 3, T, S, S])`` over all clips in order, ``b = size`` except for the last."""
        for start in range(0, len(self), size):
            yield start, self.batch(range(start, min(start + size, len(self))))

    @cached_property
    def _all(self) -> torch.Tensor:
        out = torch.empty((len(self), *self.shape), dtype=torch.uint8)
        for shard, (start, stop) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            if stop > start:
                with _open_shard(self.folder, shard) as file:
                    out[start:stop] = file.get_tensor("video")
        return out


def prepare_clips(
    items: Sequence[Item],
    classes: Sequence[str],
    protocol: Protocol,
    policy: str,
    *,
    seed: int = 0,
    backend: str = "auto",
    cache: str | Path | None = None,
    workers: int | None = None,
    shard: int = SHARD,
    progress: Progress = silent,
) -> ClipStore:
    """Decode one clip of every video into the cache, or find it there.

    Args:
        items: the videos of one side of a :class:`vidistill.data.layouts.VideoSet`.
        classes: class names; ``item.label`` points into them.
        protocol, policy, seed: as in :func:`vidistill.data.clips.read_clip`; the stream of each video is its ``name``.
        backend: ``"auto"``, ``"decord"`` or ``"pyav"``.
        cache: the cache's folder; default :func:`vidistill.files.cache_home`.
        workers: decoding threads; default: one per core.
        shard: videos per file, and as many are decoded ahead: what memory holds at once. Less than the usual for large clips.

    Returns:
        The store; bad videos are left out of it and listed in ``skipped``.

    Raises:
        InputError: no video, or no video of some class, gives a clip; the cache cannot be written.
    """
    backend = pick_backend(backend)
    if not items:
        raise InputError("no videos to read: the list is empty")
    if not is_random(protocol, policy):
        seed = 0  # nothing is drawn: runs with different seeds share these clips
    recipe = {"protocol": protocol.as_dict(), "policy": policy, "seed": seed, "backend": backend}
    recipe |= {} if shard == SHARD else {"shard": shard}
    key = digest(
        {"videos": [(item.name, item.label, item.group, *_stamp(item.path)) for item in items], "classes": list(classes), **recipe}
    )
    folder = ensure_folder(Path(cache or cache_home()) / "clips" / key)

    parts = [items[start : start + shard] for start in range(0, len(items), shard)]
    bad = {number: why for number in range(len(parts)) if (why := _finished(folder, number)) is not None}
    todo = [number for number in range(len(parts)) if number not in bad]
    done = sum(len(parts[number]) for number in bad)
    queue = [item for number in todo for item in parts[number]]
    with closing(decode_clips(queue, protocol, policy, seed=seed, backend=backend, workers=workers, ahead=min(shard, AHEAD))) as clips:
        for number in todo:
            good, why = [], {}
            for row in range(len(parts[number])):
                clip = next(clips)
                if isinstance(clip, BadClip):
                    why[row] = clip.reason
                else:
                    good.append(clip)
                done += 1
                progress("decode clips", done, len(items))
            video = torch.stack(good) if good else torch.empty((0, 3, protocol.frames, *protocol.height_width), dtype=torch.uint8)
            save_tensors(_shard(folder, number), {"video": video}, {"bad": json.dumps(why)})
            bad[number] = why

    reasons = {number * shard + row: reason for number in sorted(bad) for row, reason in sorted(bad[number].items())}
    skipped = [{"name": items[i].name, "reason": reason} for i, reason in reasons.items()]
    kept = [item for i, item in enumerate(items) if i not in reasons]
    _check_classes(items, kept, classes, reasons)
    shards = [len(part) - len(bad[number]) for number, part in enumerate(parts)]
    index: dict[str, Any] = {"key": key, **recipe, "clips": len(kept), "shards": shards, "skipped": skipped, "classes": list(classes)}
    if not (folder / "index.json").exists():
        save_json(folder / "index.json", {**index, "names": [item.name for item in kept], "labels": [item.label for item in kept]})
    return ClipStore(folder, kept, classes, protocol, shards=shards, skipped=skipped, backend=backend, key=key)


def decode_clips(
    items: Sequence[Item],
    protocol: Protocol,
    policy: str,
    *,
    seed: int = 0,
    backend: str = "decord",
    workers: int | None = None,
    ahead: int = AHEAD,
) -> Generator[torch.Tensor | BadClip, None, None]:
    """Yield the clip of each video, uint8 ``[3, T, S, S]``, or why it has none, in order.

    Decoding and resizing release the interpreter's lock, so threads share the cores without copying between processes. Arguments as in
    :func:`prepare_clips`; ``ahead``: clips decoded before the first one is asked for.
    """

    def read(item: Item) -> torch.Tensor | BadClip:
        try:
            return read_clip(item.path, protocol, policy, seed, backend, key=item.name)
        except BadClip as bad:
            return bad

    flying: deque = deque()
    with ThreadPoolExecutor(worker_count(workers)) as pool:
        try:
            for item in items:
                flying.append(pool.submit(read, item))
                if len(flying) >= ahead:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_classes(items: Sequence[Item], kept: Sequence[Item], classes: Sequence[str], reasons: Mapping[int, str]) -> None:
    """Refuse to go on without a class: accuracy over the classes that happen to be readable would be another number."""
    lost = {item.label for item in items} - {item.label for item in kept}
    if not lost:
        return
    mine = [i for i, item in enumerate(items) if item.label == min(lost)]
    what, count = (f"class {classes[min(lost)]!r} has no readable video", len(mine)) if kept else ("no video can be read", len(items))
    first = f"{items[mine[0]].name}: {reasons[mine[0]]}"
    raise InputError(f"{what}: all {count} are bad, the first is {first}; mend the files or choose others")


def _stamp(path: Path) -> tuple[int, int]:
    """Return a file's size and time of change: what tells that it is still the same video."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _open_shard(folder: Path, number: int) -> Any:
    from safetensors import safe_open

    return safe_open(str(_shard(folder, number)), framework="pt")


def _finished(folder: Path, number: int) -> dict[int, str] | None:
    """Return the bad rows of a shard that is there, with their reasons; ``None`` when it has to be decoded."""
    from safetensors import SafetensorError

    try:
        with _open_shard(folder, number) as file:
            return {int(row): reason for row, reason in json.loads(file.metadata()["bad"]).items()}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def describe(videos: VideoSet, train: ClipStore, test: ClipStore) -> dict[str, Any]:
    """Say what a run read, for its report: where from, how many clips, which were skipped and why, and the protocol they were cut by."""
    return {
        "root": str(videos.root),
        "layout": videos.layout,
        "split": videos.split,
        "classes": list(videos.classes),
        "train": len(train),
        "test": len(test),
        "backend": train.backend,
        "skipped": [*train.skipped, *test.skipped],
        "protocol": train.protocol.as_dict(),
    }


def share_of_frames(videos: VideoSet, train: ClipStore, clips: int) -> list[dict[str, Any]]:
    """Return how many frames a distilled set has, as a share of all frames of the training videos (GVD's way) and of the sampled ones.

    Args:
        videos: the set; its training videos are opened, not decoded. One that cannot be read counts nothing.
        train: the clips that were sampled from them.
        clips: of the distilled set, each as long as a sampled one.
    """
    found = inspect_files([item.path for item in videos.train], train.backend)
    every = sum(frames or 0 for _, frames, reason in found if reason is None)
    sampled, distilled = (count * train.protocol.frames for count in (len(train), clips))
    rows = {"all frames of the training videos": every, "frames sampled from them": sampled}
    return [
        {"of": name, "frames": total, "distilled": distilled, "percent": 100 * distilled / max(1, total)} for name, total in rows.items()
    ]
