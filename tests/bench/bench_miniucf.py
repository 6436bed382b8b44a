"""Distillation at MiniUCF's size: 4,662 synthetic clips of 16x112x112; encode, select, compress, store, decode.

    python tests/bench/bench_miniucf.py --device cuda            # SD-VAE's configuration, random weights, bf16
    python tests/bench/bench_miniucf.py --device cpu --codec tiny  # the same pipeline and memory, a codec that a laptop can afford

The paper says "under 10 minutes" and 11,085 MiB on an H100 SXM. Prints one JSON line: seconds by stage, clips, peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from vidistill.codec import encode_store, load_codec, pack, unpack
from vidistill.compress import compress, load_distilled, save_distilled
from vidistill.rng import stream
from vidistill.select import select
from vidistill.types import Protocol

SD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TINY = SD_VAE | {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4, "mid_block_add_attention": False}
PER_CLASS = [94] * 12 + [93] * 38  # 50 classes, 4,662 clips


class SyntheticClips:
    """Smooth random clips, drawn when they are asked for: the shape and the interface of a ClipStore, without files."""

    def __init__(self, counts: list[int], protocol: Protocol) -> None:
        self.protocol = protocol
        self.labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        self.names = tuple(f"clip{i:05d}" for i in range(len(self.labels)))
        self.groups = ("",) * len(self.names)
        self.classes = tuple(f"class{i:02d}" for i in range(len(counts)))
        self.key = f"synthetic-{len(self.names)}-{protocol}"

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, size: int):
        T, S = self.protocol.frames, self.protocol.size
        for start in range(0, len(self), size):
            count = min(size, len(self) - start)
            coarse = torch.rand(count, 3, 4, 7, 7, generator=stream(0, "clips", start))
            yield start, (torch.nn.functional.interpolate(coarse, (T, S, S), mode="nearest") * 255).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--codec", choices=("sd", "tiny"), default="sd")
    parser.add_argument("--instances", type=int, default=24)
    parser.add_argument("--selector", default="dpp", help="all: keep every clip, the largest set a run ever decodes")
    parser.add_argument("--share", type=float, default=1.0, help="share of the 4,662 clips, for a trial")
    args = parser.parse_args()

    from diffusers import AutoencoderKL

    cuda = args.device.startswith("cuda")
    seconds: dict[str, float] = {}

    def lap(stage: str, since: float) -> float:
        if cuda:
            torch.cuda.synchronize()
        seconds[stage] = round(time.perf_counter() - since, 2)
        return time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        AutoencoderKL(**(SD_VAE if args.codec == "sd" else TINY)).save_pretrained(Path(folder) / "vae")
        codec = load_codec(str(Path(folder) / "vae"), device=args.device, dtype="bf16" if cuda else "fp32")
        clips = SyntheticClips([max(args.instances, round(n * args.share)) for n in PER_CLASS], Protocol(16, 4, 112))
        if cuda:
            codec.decode(codec.encode(torch.zeros(1, 3, 16, 112, 112, dtype=torch.uint8)), 16)  # the libraries load, outside the clock
            torch.cuda.reset_peak_memory_stats()

        begin = now = time.perf_counter()
        z = encode_store(codec, clips, cache=Path(folder) / "cache")
        now = lap("encode", now)
        kept = z.take(select(z, selector=args.selector, kernel="rbf-median", k=args.instances, seed=0).index)
        now = lap("select", now)
        tucker = compress(kept.z, kept.labels, rank_ratio=0.75, core_dtype="int8")
        now = lap("compress", now)
        packed, record = pack(codec, "decoder", "int8")
        path = Path(folder) / "distilled.safetensors"
        parts = {"codec_record": record, "codec_tensors": packed, "protocol": clips.protocol.as_dict(), "meta": {}}
        size = save_distilled(path, tucker, labels=kept.labels, classes=z.classes, names=(), frames=16, **parts)
        count = len(kept)
        del kept, tucker  # a run has let them go when it decodes
        now = lap("store", now)
        stored = load_distilled(path)
        decoder = unpack(stored.codec_tensors, stored.codec, device=args.device)
        pixels = decoder.decode(stored.z, stored.frames)  # whole, as a run hands it to its students
        lap("decode", now)

    json.dump(
        {
            "clips": len(clips),
            "kept": count,
            "pixels_MiB": pixels.numel() // 2**20,
            "codec": args.codec,
            "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
            "seconds": seconds | {"total": round(time.perf_counter() - begin, 2)},
            "peak_process_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "peak_device_MiB": torch.cuda.max_memory_allocated() // 2**20 if cuda else None,
            "file_MiB": round(size["total"] / 2**20, 2),
            "paper": {"seconds": "under 600 on an H100 SXM", "peak_device_MiB": 11085},
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
