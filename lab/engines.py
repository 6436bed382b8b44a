"""Where the cells of a sweep run: threads over kernels on this machine, or tasks of a Ray cluster. The results are the same.

A kernel is a process of its own, so threads are enough to keep every core busy; Ray goes on where one machine ends. A cell's result comes
back by value and is written here: no other machine needs this one's disk, only the same version of vidistill, and a user's own data in
the same place.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidistill.errors import Cancelled, InputError
from vidistill.lab.cells import Cell, Outcome, run_cell

BEAT = 0.25
"""Seconds between two signs of life."""

TRIES = 3
"""Times that Ray is started before it is given up."""

APART = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and accelerate tell a process of the others; a cell is computed alone."""

Engine = Callable[[Sequence[Cell], Path, int | None, Callable[[], object]], Generator[tuple[Cell, Outcome], None, None]]
"""Cells, their notebook, how many at once, a sign of life several times a second -> each cell with its outcome, as they come."""


@contextmanager
def alone() -> Iterator[None]:
    """Let kernels that start within know nothing of other processes."""
    before = {name: os.environ.pop(name) for name in APART if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def on_threads(
    cells: Sequence[Cell], notebook: Path, jobs: int | None, alive: Callable[[], object]
) -> Generator[tuple[Cell, Outcome], None, None]:
    """Run cells on this machine, ``jobs`` at once (default: one a core, on a GPU one). Closing the iterator ends their kernels."""
    stop = threading.Event()

    def progress(stage: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Cancelled

    cores = 1 if _on_gpu(cells) else os.cpu_count() or 1
    with alone(), ThreadPoolExecutor(min(jobs or cores, max(1, len(cells))), "cell") as pool:
        running = {pool.submit(run_cell, cell, notebook, progress): cell for cell in cells}
        try:
            while running:
                for future in wait(running, BEAT, FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
                alive()
        finally:
            stop.set()
            for future in running:
                future.cancel()


def on_ray(
    cells: Sequence[Cell], notebook: Path, jobs: int | None, alive: Callable[[], object]
) -> Generator[tuple[Cell, Outcome], None, None]:
    """Run cells as tasks of the Ray cluster that ``RAY_ADDRESS`` names, or of one on this machine that ends with the sweep.

    Args:
        cells, notebook, alive: see :data:`Engine`.
        jobs: tasks at once; default: one a core of the cluster.

    Raises:
        InputError: Ray is not installed, or does not start.
    """
    if not cells:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
    try:
        import ray
    except ImportError:
        raise InputError(
            "engine ray needs the package ray: pip install 'vidistill[ray]'; engine threads needs no more than this machine"
        ) from None

    _start(ray, jobs)
    running: dict = {}
    try:
        at_once = jobs or int(ray.cluster_resources().get("CPU", 1))
        # a task that is lost is a failed cell, made by the next run: tried again at once, one that needs too much memory never ends
        task = ray.remote(num_cpus=1, num_gpus=1 if _on_gpu(cells) else 0, max_retries=0)(_task)
        left = list(reversed(cells))
        while left or running:
            while left and len(running) < at_once:
                cell = left.pop()
                running[task.remote(cell, str(notebook))] = cell
            for done in ray.wait(list(running), timeout=BEAT)[0]:
                cell = running.pop(done)
                try:
                    outcome = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    outcome = Outcome({}, f"its Ray worker was lost: {type(error).__name__} (out of memory, or the machine is gone)")
                yield cell, outcome
            alive()
    finally:
        for reference in running:
            ray.cancel(reference)
        ray.shutdown()


def _start(ray: Any, jobs: int | None) -> None:
    """Connect to the cluster, or start one; Ray gives its own processes half a minute, which a busy machine may need more than once."""
    own: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"address": "local", "num_cpus": jobs, "include_dashboard": False}
    for left in reversed(range(TRIES)):
        try:
            ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray has no type of its own for it
            ray.shutdown()
            if not left:
                line = " ".join(str(error).split())[:200]
                raise InputError(
                    f"Ray did not start: {line}; is the machine too busy, or RAY_ADDRESS wrong? --engine threads needs no Ray"
                ) from None


def _task(cell: Cell, notebook: str) -> Outcome:
    """What a worker of Ray does."""
    with alone():
        return run_cell(cell, notebook)


def _on_gpu(cells: Sequence[Cell]) -> bool:
    return any(str(cell.parameters.get("device", "")).startswith("cuda") for cell in cells)


ENGINES: dict[str, Engine] = {"threads": on_threads, "ray": on_ray}
