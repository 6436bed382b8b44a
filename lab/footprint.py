"""How much memory this process holds now: read from the operating system in microseconds, without a package for it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
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
