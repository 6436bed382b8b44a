"""How much memory this process holds now, read from the operating system in microseconds, and how many weights a model's folder has."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path

from vidistill.lab.record import peak_memory

STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Footprint:
    """Memory in bytes.

    Attributes:
        resident: of this process; None where the system does not say.
        device: that tensors hold on the GPU, None where none is in use.
    """

    resident: int | None
    device: int | None


def footprint() -> Footprint:
    """Return what this process holds now; outside Linux ``resident`` is the most that it ever held."""
    torch = sys.modules.get("torch")  # what is not imported holds nothing, and an idle GPU is not woken
    on_device = None
    if torch is not None and torch.cuda.is_initialized():
        on_device = sum(torch.cuda.memory_allocated(index) for index in range(torch.cuda.device_count()))
    try:
        resident = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return Footprint(peak_memory()["resident_bytes"], on_device)
    return Footprint(resident, on_device)


def weights(folder: str | Path) -> int:
    """Return how many numbers the safetensors of a model's folder hold, by their headers alone."""
    from safetensors import safe_open

    count = 0
    for root, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if name.endswith(".safetensors"):
                with safe_open(Path(root) / name, "pt") as file:
                    count += sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    return count
