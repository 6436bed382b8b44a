"""Small video files with a known number in every frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch


def _write(
    path: Path, frames: int, *, width: int = 64, height: int = 48, codec: str = "libx264", gop: int = 12, b_frames: int = 0, **options: str
) -> Path:
    """Write a video whose frame ``t`` is grey level ``4 t`` (t < 60) with a white square in its left half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size, stream.max_b_frames, stream.bit_rate = gop, b_frames, 2_000_000
        for t in range(frames):
            image = np.full((height, width, 3), 4 * t % 240, np.uint8)
            image[height // 4 : height // 2, width // 8 : width // 4] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return _write


@pytest.fixture(scope="session")
def write_sound() -> Callable[[Path], Path]:
    """Write an mp4 file that holds sound only."""

    def write(path: Path) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def frame_number() -> Callable[[torch.Tensor], list[int]]:
    """Read the frame numbers back from a clip ``[3, T, S, S]``: the grey level of the lower right corner."""

    def number(clip: torch.Tensor) -> list[int]:
        return (clip[:, :, -8:, -8:].float().mean((0, 2, 3)) / 4).round().long().tolist()

    return number
