"""A video file becomes a clip: count its frames, choose T of them, decode only those, bring them to S x S.

Shapes: T frames, S = H = W pixels; a clip is uint8 RGB ``[3, T, S, S]``. Both backends only decode: which frames, resizing, cropping and
flipping are done here, so a clip does not depend on the backend beyond its colour conversion.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import torch
import torch.nn.functional as F
from torch.utils.dlpack import from_dlpack

from vidistill.errors import InputError, choose
from vidistill.rng import stream
from vidistill.types import Progress, Protocol, silent

BACKENDS = ("decord", "pyav")
MODULES = {"decord": "decord", "pyav": "av"}
POLICIES = ("train", "test")
ISO_BOXES = b"ftyp moov mdat moof mfra sidx styp free skip wide udta uuid meta".split()


class BadClip(Exception):
    """A file that gives no clip. ``path`` says which, ``reason`` why, in one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


def pick_backend(name: str = "auto") -> str:
    """Return the decoder of this run: ``"auto"`` is decord where it is installed, else PyAV.

    Raises:
        InputError: ``name`` is unknown or is not installed.
    """
    choose("video backend", name, ("auto", *BACKENDS))
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(MODULES[backend])]
    if name == "auto" and installed:
        return installed[0]
    if name not in installed:
        raise InputError(f"video backend {name!r} is not installed: run  pip install {'av' if name == 'auto' else MODULES[name]}")
    return name


def worker_count(workers: int | None = None) -> int:
    """Return ``workers``, by default the number of cores this process may use: one thread decodes one file."""
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers} is out of range: it must be at least 1")
    return workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


# --- the two decoders ---------------------------------------------------------------------------------------------------------------------


class _Decord:
    """decord with one thread: files are decoded side by side, so threads inside a file would only get in each other's way.

    It is never let seek: its seeks, also those that ``get_batch`` makes, land on wrong frames where B-frames reach over a key frame (open
    GOPs) or have no time stamps (AVI), and in some files on other frames now and then (dmlc/decord issues 54, 78, 195, 252). Inside one
    group of pictures it counts right, and so it does when every frame is played.
    """

    def __init__(self, path: Path) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self.path = path
        try:
            self.reader = decord.VideoReader(str(path), num_threads=1)
        except (RuntimeError, decord.DECORDError) as error:
            sound_only = "cannot find video stream" in str(error)
            raise BadClip(path, "it has no video stream" if sound_only else "it is not a readable video") from None
        self.frames = len(self.reader)

    def read(self, index: Sequence[int]) -> torch.Tensor:
        import decord

        reader, position, parts = self.reader, 0, []
        try:
            stamps = reader.get_frame_timestamp(range(self.frames))[:, 0]
            stamped = stamps[0] >= 0 and (stamps[1:] > stamps[:-1]).all()
            # without time stamps every frame counts as a group: it is played, never skipped
            starts = [0, *(key for key in reader.get_key_indices() if key > 0)] if stamped else list(range(index[-1] + 1))
            for start, stop in pairwise([*starts, self.frames]):
                if start > position:
                    if start - 1 > position:
                        reader.skip_frames(start - 1 - position)
                    reader.next()  # playing crosses into the group at ``start``; a skip would seek
                    position = start
                if group := [i for i in index if start <= i < stop]:
                    parts.append(from_dlpack(reader.get_batch(group).to_dlpack()))
                    position = group[-1] + 1
                if position > index[-1]:
                    break
            frames = torch.cat(parts) if len(parts) > 1 else parts[0]
        except (decord.DECORDError, RuntimeError, IndexError, StopIteration) as error:
            if "size must exactly match" in str(error):
                return self._narrow(index)
            raise BadClip(self.path, f"its data are damaged: decoding failed ({type(error).__name__})") from None
        return frames if frames.shape[-1] == 3 else self._narrow(index)

    def _narrow(self, index: Sequence[int]) -> torch.Tensor:
        """Read through PyAV, with the same pixels: in narrow videos (48 px) decord 0.6 takes the padding of a row for a channel."""
        other = _PyAV(self.path)
        try:
            return other.read(index)
        finally:
            other.close()

    def close(self) -> None:
        del self.reader


class _PyAV:
    """PyAV with one thread. The compressed packets are read first, which counts the frames, and decoded in order from memory: no seeks."""

    def __init__(self, path: Path) -> None:
        import av

        self.path = path
        try:
            self.container = av.open(str(path))
        except (OSError, av.FFmpegError):
            raise BadClip(path, "it is not a readable video") from None
        if not self.container.streams.video:
            self.container.close()
            raise BadClip(path, "it has no video stream")
        video = self.container.streams.video[0]
        video.codec_context.thread_count = 1
        try:
            self.packets = list(self.container.demux(video))  # the last one is empty and flushes the decoder
        except av.FFmpegError:
            self.container.close()
            raise BadClip(path, "its data are damaged: its packets cannot be read") from None
        self.frames = sum(1 for packet in self.packets if packet.size and not packet.is_discard)

    def read(self, index: Sequence[int]) -> torch.Tensor:
        import av

        wanted, frames, position = set(index), [], 0
        try:
            for packet in self.packets:
                for frame in packet.decode():
                    if position in wanted:
                        frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24", interpolation="BICUBIC")))
                    position += 1
                if len(frames) == len(wanted):
                    return torch.stack(frames)
        except av.FFmpegError as error:
            raise BadClip(self.path, f"its data are damaged: decoding failed ({type(error).__name__})") from None
        raise BadClip(self.path, f"its data are damaged: frame {index[len(frames)]} of {self.frames} cannot be decoded")

    def close(self) -> None:
        self.container.close()


READERS: dict[str, type[_Decord] | type[_PyAV]] = {"decord": _Decord, "pyav": _PyAV}


def _vint(file: BinaryIO) -> int | None:
    """Read one Matroska variable-length size; ``None`` means "unknown", as live recordings write it."""
    first = file.read(1)[0]
    width = 9 - first.bit_length()
    value = int.from_bytes(bytes([first]) + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value


def _promised_bytes(file: BinaryIO, size: int) -> int:
    """Return how long the container's own headers say the file is; ``size`` where they say nothing.

    Decoders read a cut file as a shorter video without a word, so the headers are the only witness: RIFF (AVI), ISO boxes (MP4, MOV)
    and Matroska (WebM, MKV) all begin with the length of what follows.
    """
    head = file.read(12)
    if head[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        return 8 + length if length < 2**31 - 1 else size
    if head[:4] == b"\x1aE\xdf\xa3":
        file.seek(4)
        file.seek((_vint(file) or 0), os.SEEK_CUR)
        segment = _vint(file) if file.read(4) == b"\x18S\x80g" else None
        return size if segment is None else file.tell() + segment
    offset = 0
    while offset < size:
        file.seek(offset)
        head = file.read(16)
        if head[4:8] not in ISO_BOXES:
            return size
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if length == 0:
            return size  # "up to the end of the file"
        offset += max(length, 8)
    return offset


def _open(path: str | Path, backend: str) -> _Decord | _PyAV:
    """Open a video after the checks that no decoder makes.

    Raises:
        BadClip: missing, empty, cut short, without a video stream, without frames or not a video.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size == 0:
            raise BadClip(path, "it is empty (0 bytes)")
        with open(path, "rb") as file:
            promised = _promised_bytes(file, size)
    except OSError as error:
        raise BadClip(path, f"it cannot be read ({error.strerror or error})") from None
    except IndexError:
        promised = size + 1  # cut inside the first header
    if promised > size:
        raise BadClip(path, f"it is cut short: {size} of the {promised} bytes that its header promises")
    reader = READERS[choose("video backend", backend, BACKENDS)](path)
    if reader.frames == 0:
        reader.close()
        raise BadClip(path, "it has no frames")
    return reader


def count_frames(path: str | Path, backend: str) -> int:
    """Return the number of frames of a video without decoding them.

    Raises:
        BadClip: the file cannot be read as a video.
    """
    reader = _open(path, backend)
    reader.close()
    return reader.frames


# --- which frames -------------------------------------------------------------------------------------------------------------------------


def frame_indices(n_frames: int, protocol: Protocol, policy: str, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return the T frames that make the clip: ``start + skip * (0 .. T-1)`` (LVDD's sampling, specification 3.1).

    ``skip = gap`` if ``n >= T * gap`` else ``max(1, n // T)``; ``start`` is uniform in ``[0, n - (T-1) * skip)``, or the middle of that
    range for a centred test clip. A video of fewer than T frames is played once and holds its last frame.

    Args:
        n_frames: n, frames in the video, >= 2.
        protocol: gives T, gap and the test policy.
        policy: ``"train"`` (random start) or ``"test"`` (``protocol.test_policy``).
        generator: where a random start is drawn from; default: the stream ``clip`` of seed 0.

    Returns:
        int64 ``[T]``, not decreasing, within ``[0, n)``.

    Raises:
        InputError: unknown policy or ``n_frames < 2``.
    """
    choose("clip policy", policy, POLICIES)
    if n_frames < 2:
        raise InputError(f"a video of {n_frames} frame is too short: a clip needs at least 2")
    T, gap = protocol.frames, protocol.gap
    skip = gap if n_frames >= T * gap else max(1, n_frames // T)
    starts = max(1, n_frames - (T - 1) * skip)
    start = (starts - 1) // 2
    if is_random(protocol, policy):
        start = int(torch.randint(starts, (), generator=generator or stream(0, "clip")))
    return (start + skip * torch.arange(T)).clamp(max=n_frames - 1)


def is_random(protocol: Protocol, policy: str) -> bool:
    """Return whether the seed matters for clips read with this policy."""
    return policy == "train" or protocol.test_policy == "random"


# --- pixels -------------------------------------------------------------------------------------------------------------------------------


def fit(frames: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    """Return frames scaled and cropped to S x S, or H x W, in fixed-point uint8 arithmetic (no float copy; the same on every machine).

    Args:
        frames: uint8 ``[T, H, W, 3]``, as decoded.
        protocol: ``crop="resize-crop"`` scales to ``15/14 S x 10/7 S`` (120 x 160 for S = 112) by plain bilinear interpolation, as cv2
            does, and cuts the centre; ``"squash"`` and ``"center"`` average over the source pixels (antialiased), as ffmpeg and PIL do.

    Returns:
        uint8 ``[3, T, S, S]``.
    """
    S, (H, W) = protocol.size, protocol.height_width
    video = frames.permute(0, 3, 1, 2)  # channels last in memory: what the fast uint8 path wants
    if protocol.crop == "resize-crop":
        height, width = round(S * 15 / 14), round(S * 10 / 7)
        top, left = (height - S) // 2, (width - S) // 2
        video = F.interpolate(video, (height, width), mode="bilinear")[:, :, top : top + S, left : left + S]
    else:
        if protocol.crop == "center":
            whole_height, whole_width = video.shape[2:]
            height, width = min(whole_height, max(1, whole_width * H // W)), min(whole_width, max(1, whole_height * W // H))
            top, left = (whole_height - height) // 2, (whole_width - width) // 2
            video = video[:, :, top : top + height, left : left + width]
        video = F.interpolate(video, (H, W), mode="bilinear", antialias=True)
    return video.permute(1, 0, 2, 3).contiguous()


@torch.inference_mode()
def read_clip(
    path: str | Path, protocol: Protocol, policy: str = "test", seed: int = 0, backend: str = "decord", key: str | None = None
) -> torch.Tensor:
    """Read one clip of a video, decoding only the frames it needs.

    A random start belongs to the video (stream ``clip/key`` of ``seed``), so it does not depend on the order or number of clips read. The
    test policy ``"random"`` also mirrors left-right with probability 1/2, as the official code does; training flips are the student's.

    Args:
        path: the video file.
        protocol, policy, seed: as in :func:`frame_indices`.
        backend: one of :data:`BACKENDS`.
        key: name of the video's random stream; default: the file's name without suffix.

    Returns:
        uint8 ``[3, T, S, S]``.

    Raises:
        BadClip: the file gives no clip; the reason is in it.
    """
    generator = stream(seed, "clip", key or Path(path).stem)
    reader = _open(path, backend)
    try:
        if reader.frames < 2:
            raise BadClip(path, "it has 1 frame; a clip needs at least 2")
        index, back = frame_indices(reader.frames, protocol, policy, generator).unique(return_inverse=True)
        clip = fit(reader.read(index.tolist()), protocol)
        if len(index) < protocol.frames:
            clip = clip[:, back]
    finally:
        reader.close()
    mirrored = policy == "test" and protocol.test_policy == "random" and bool(torch.rand((), generator=generator) < 0.5)
    return clip.flip(-1) if mirrored else clip


def inspect_files(
    paths: Iterable[str | Path], backend: str, workers: int | None = None, progress: Progress = silent
) -> list[tuple[Path, int | None, str | None]]:
    """Open every file, count its frames and decode its first one.

    Returns:
        One ``(path, frames, reason)`` per file, in order: ``frames`` is ``None`` when it cannot be opened, ``reason`` when it is good.
    """

    def look(path: Path) -> tuple[Path, int | None, str | None]:
        frames = None
        try:
            reader = _open(path, backend)
            frames = reader.frames
            try:
                reader.read([0])
            finally:
                reader.close()
            return path, frames, None if frames > 1 else "it has 1 frame; a clip needs at least 2"
        except BadClip as bad:
            return path, frames, bad.reason

    files = [Path(path) for path in paths]
    found = []
    with ThreadPoolExecutor(worker_count(workers)) as pool:
        for result in pool.map(look, files):
            found.append(result)
            progress("inspect", len(found), len(files))
    return found


def resized(video: torch.Tensor, size: int) -> torch.Tensor:
    """Return uint8 clips ``[N, 3, T, S, S]`` at another size, bilinear with antialiasing; clips that have it come back as they are."""
    if video.shape[-1] == size:
        return video
    frames = video.transpose(1, 2).flatten(0, 1)
    parts = [F.interpolate(part.float(), size=(size, size), mode="bilinear", antialias=True) for part in frames.split(256)]
    return torch.cat([part.round().clamp(0, 255).byte() for part in parts]).unflatten(0, (len(video), -1)).transpose(1, 2).contiguous()
