"""The cores of this machine between a page's models and the browser that shows it."""

from __future__ import annotations

import os

import torch


def spare_one() -> None:
    """Let torch use all cores but one, unless ``OMP_NUM_THREADS`` says how many.

    A page that draws while a clip forms takes a core. Threads of one operator wait for each other, so with a thread on every core the
    sampler waits for the browser: on two cores a turn of GVD's lambda takes 3 s with two threads, and 2.3 s with one.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
