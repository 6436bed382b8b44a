"""How stored numbers are written: fp32, fp16, or int8 with one logarithmic scale byte per slot.

A slot is one position of the core, (c, t, h, w); its values over all N clips share a scale. After a Tucker rotation the slots differ
by orders of magnitude, so a scale per slot is what makes eight bits enough. The scale itself costs one byte,
``scale = top 2^(-q / 16)``, q in 0..255: rounded up, so nothing is clipped, and never more than 4.5 % above the exact one. All blocks
share the scales, so they cost exactly as much as one more clip would, however many bases there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidistill.compress.tucker import steps
from vidistill.errors import InputError

CORE_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
PER_OCTAVE = 16


def factor_dtype(core_dtype: str) -> torch.dtype:
    """Return the dtype of factors and means: float32 beside an fp32 core, else float16 (its error is far below the core's)."""
    return torch.float32 if core_dtype == "fp32" else torch.float16


@torch.no_grad()
def write(name: str, x: Tensor, core_dtype: str) -> dict[str, Tensor]:
    """Return the tensors that store ``x`` under ``name``; a slot is a position of ``x[0]``.

    Args:
        name: key of the values; int8 adds ``name.scale`` (uint8, the shape of a slot) and ``name.top`` (float32 ``[1]``).
        x: float32 ``[n, ...]``.
        core_dtype: ``"fp32"``, ``"fp16"`` or ``"int8"``.

    Raises:
        InputError: a value does not fit into fp16.
    """
    x = x.cpu()
    if core_dtype == "fp32":
        return {name: x.contiguous()}
    if core_dtype == "fp16":
        out = x.half()
        if not all(out[rows].isfinite().all() for rows in steps(len(out))):
            raise InputError(f"{name} holds values beyond 65504, which fp16 cannot store; choose core_dtype fp32 or int8")
        return {name: out}
    peak = torch.stack([x[rows].abs().amax(0) for rows in steps(len(x))]).amax(0) / 127
    top = peak.max().clamp_min(torch.finfo(torch.float32).tiny)
    q = (PER_OCTAVE * (top.log2() - peak.clamp_min(1e-45).log2())).floor().clamp(0, 255).to(torch.uint8)
    stored = {name: torch.empty(x.shape, dtype=torch.int8), f"{name}.scale": q, f"{name}.top": top.reshape(1)}
    inverse = 1 / scales(stored, name)
    for rows in steps(len(x)):
        stored[name][rows] = (x[rows] * inverse).round_().clamp_(-127, 127).to(torch.int8)
    return stored


def scales(stored: dict[str, Tensor], name: str) -> Tensor:
    """Return the float32 scale of every slot: ``top 2^(-q / 16)``."""
    return stored[f"{name}.top"] * torch.exp2(stored[f"{name}.scale"].float() / -PER_OCTAVE)


def read(stored: dict[str, Tensor], name: str) -> Tensor:
    """Return the float32 values that :func:`write` stored under ``name``."""
    values = stored[name].float()
    return values.mul_(scales(stored, name)) if stored[name].dtype == torch.int8 else values
