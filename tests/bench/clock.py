"""The clock of the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call, what it left to a GPU included."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
