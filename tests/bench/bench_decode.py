"""Clips per second of the loader against plain decord, one clip at a time: same files, same frames, same resize, in one process.

python tests/bench/bench_decode.py [--clips 160] [--repeats 7] [--target 1.5]

Reads the clips of ``$VIDISTILL_DATA/jhmdb-21`` where it is set, else writes UCF-like files (320x240, 90 frames, H.264). The two ways take
turns and the ratio is the median over the turns. Prints one JSON line; exits 1 below the target.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import decord
import torch

from vidistill.data.clips import fit, frame_indices, worker_count
from vidistill.data.layouts import Item, open_videos
from vidistill.data.store import decode_clips, prepare_clips
from vidistill.types import Protocol


def real_items(count: int) -> list[Item]:
    videos = open_videos(Path(os.environ["VIDISTILL_DATA"]) / "jhmdb-21")
    step = max(1, len(videos.train) // count)
    return list(videos.train[::step][:count])


def written_items(count: int, folder: Path) -> list[Item]:
    import av

    y, x = torch.meshgrid(torch.arange(240), torch.arange(320), indexing="ij")
    files = [folder / f"v_{i}.mp4" for i in range(8)]
    for shift, path in enumerate(files):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for t in range(90):
                frame = torch.stack([x + 3 * t, y * 2 + shift * t, (x + y) // 2 + 5 * t], dim=-1).remainder(256).to(torch.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
            container.mux(stream.encode())
    return [Item(files[i % len(files)], f"{i}", 0) for i in range(count)]


def plain(items: list[Item], protocol: Protocol) -> list[torch.Tensor]:
    """The loop that one writes first: open, ask for the frames, resize, next file."""
    clips = []
    for item in items:
        reader = decord.VideoReader(str(item.path))
        frames = reader.get_batch(frame_indices(len(reader), protocol, "test").tolist()).asnumpy()
        clips.append(fit(torch.from_numpy(frames), protocol))
    return clips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--target", type=float, default=1.5)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a clip is too small to be resized by two threads: on a busy machine that would only slow the plain loop
    protocol = Protocol()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        real = bool(os.environ.get("VIDISTILL_DATA"))
        items = real_items(args.clips) if real else written_items(args.clips, folder)
        same = all(torch.equal(a, b) for a, b in zip(plain(items, protocol), decode_clips(items, protocol, "test"), strict=True))
        seconds: dict[str, list[float]] = {"plain": [], "loader": [], "prepare": []}
        cpu = {name: 0.0 for name in seconds}
        for turn in range(args.repeats):
            ways = {
                "plain": lambda: plain(items, protocol),
                "loader": lambda: list(decode_clips(items, protocol, "test")),
                "prepare": lambda turn=turn: prepare_clips(
                    items, ["all"] * 101, protocol, "test", backend="decord", cache=folder / f"{turn}"
                ),
            }
            for name, way in ways.items():
                start, used = time.perf_counter(), time.process_time()
                way()
                seconds[name].append(time.perf_counter() - start)
                cpu[name] += (time.process_time() - used) * 1000 / (args.repeats * len(items))
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds["plain"], seconds[name], strict=True)) for name in ("loader", "prepare")
    }
    print(
        json.dumps(
            {
                "bench": "decode",
                "data": "jhmdb-21" if real else "written 320x240",
                "clips": len(items),
                "repeats": args.repeats,
                "cores": worker_count(),
                "load": round(os.getloadavg()[0], 1),
                "same_pixels": same,
                "clips_per_second": {name: round(len(items) / statistics.median(times), 1) for name, times in seconds.items()},
                "cpu_ms_per_clip": {name: round(used, 2) for name, used in cpu.items()},
                "ratio": round(ratios["loader"], 2),
                "ratio_with_disk": round(ratios["prepare"], 2),
                "target": args.target,
            }
        )
    )
    return 0 if ratios["loader"] >= args.target and same else 1


if __name__ == "__main__":
    sys.exit(main())
