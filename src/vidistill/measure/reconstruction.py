"""How close a reconstruction comes to its original. Legend: B clips, C T H W as everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidistill.errors import InputError

SLICE = 64
"""Clips compared at once: bounds the float copies."""


@torch.inference_mode()
def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each clip.

    ``PSNR = 10 log10(255^2 / mean((a - b)^2))``, the mean over all pixels, frames and channels of a clip; equal clips give ``inf``.

    Args:
        a, b: uint8 ``[B, ...]`` of the same shape.

    Returns:
        float32 ``[B]`` in dB, on the CPU.

    Raises:
        InputError: not uint8, or shapes that differ.
    """
    if a.dtype != torch.uint8 or b.dtype != torch.uint8 or a.shape != b.shape or a.ndim < 2:
        raise InputError(
            f"psnr needs two uint8 tensors [B, ...] of one shape; got {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        )
    if not len(a):
        return torch.empty(0)
    squares = [
        (x.float() - y.to(x.device).float()).square().flatten(1).mean(1) for x, y in zip(a.split(SLICE), b.split(SLICE), strict=True)
    ]
    return (10 * torch.log10(255**2 / torch.cat(squares))).cpu()


def mean_psnr(clips: Tensor, originals: Callable[[Sequence[int]], Tensor], index: Sequence[int]) -> float:
    """Return the mean PSNR in dB of ``clips`` (uint8 ``[B, ...]``) against ``originals(index)``, fetched a slice at a time."""
    slices = [slice(start, start + SLICE) for start in range(0, len(clips), SLICE)]
    return torch.cat([psnr(clips[rows].cpu(), originals(index[rows])) for rows in slices]).mean().item()


@torch.inference_mode()
def relative_error(z: Tensor, z_hat: Tensor) -> float:
    """Return the relative Frobenius error ``||z - z_hat||_F / ||z||_F`` of a whole tensor, summed in float64.

    Args:
        z: original, any float shape, not all zero.
        z_hat: reconstruction, the same shape.

    Raises:
        InputError: shapes that differ, nothing to compare, or an original of only zeros.
    """
    if z.shape != z_hat.shape or not z.numel():
        raise InputError(f"relative_error needs two non-empty tensors of one shape; got {tuple(z.shape)} and {tuple(z_hat.shape)}")
    pairs = (
        list(zip(z.reshape(len(z), -1).split(SLICE), z_hat.to(z.device).reshape(len(z), -1).split(SLICE), strict=True))
        if z.ndim
        else [(z, z_hat)]
    )
    energy = sum(float(x.double().square().sum()) for x, _ in pairs)
    lost = sum(float((x.double() - y.double()).square().sum()) for x, y in pairs)
    if energy == 0:
        raise InputError("relative_error is not defined for an original of only zeros")
    return (lost / energy) ** 0.5
