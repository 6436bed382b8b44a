"""What every command says and takes: lines, tables, progress with the time left, devices, ``name=value``. Light at import: no torch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from vidistill.errors import Cancelled, InputError


class Device(StrEnum):
    """Where a command computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Tier(StrEnum):
    """How much a reproduction takes."""

    toy = "toy"
    small = "small"
    full = "full"


Paper = Annotated[str, typer.Argument(help="a paper, e.g. latent_vdd")]
Layout = Annotated[str, typer.Option(help="how the folder is laid out: ucf101, hmdb51, kinetics, ssv2, folder")]
OnDevice = Annotated[Device, typer.Option(help="auto takes the GPU when there is one")]
Seed = Annotated[int, typer.Option(min=0, help="names every stream of random numbers")]


def complain(line: str) -> None:
    """Say one line on stderr."""
    typer.echo(" ".join(line.split()), err=True)


def console() -> Console:
    """Return the console for results; into a file or a pipe, tables keep their full width."""
    shown = Console()
    return shown if shown.is_terminal else Console(width=160)


def split_settings(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Split ``["name=value", ...]``."""
    settings = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {pair!r} is not of the form name=value")
        settings[name.strip()] = text
    return settings


def torch_device(device: Device) -> str:
    """Return the torch device that a user asked for.

    Raises:
        InputError: there is no GPU.
    """
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError("device cuda is not available on this machine: use --device cpu (vidistill doctor says what is missing)")
    if device is Device.cpu or not torch.cuda.is_available():
        return "cpu"
    local = os.environ.get("LOCAL_RANK")  # of several processes on a machine each has a GPU of its own
    return "cuda" if local is None else f"cuda:{local}"


class Lines:
    """Progress for logs: one line when a stage is done, and a sign of life with the time left after each minute of a long one."""

    PULSE = 60.0

    def __init__(self) -> None:
        self._stage, self._done, self._total = "", 0, 0
        self._start = self._told = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage or done < self._done or self._done >= self._total:
            self._start = self._told = now
        elif now - self._told > self.PULSE and 0 < done < total:
            left = (now - self._start) * (total - done) / done
            complain(f"{stage}: {done:,} of {total:,}, about {left / 60:.0f} min left")
            self._told = now
        if done >= total and (stage, done, total) != (self._stage, self._done, self._total):
            complain(f"{stage}: {total:,} in {now - self._start:.1f} s")
        self._stage, self._done, self._total = stage, done, total


class Bars:
    """Progress for a terminal: one bar per stage with the time left."""

    def __init__(self, display: Any) -> None:
        self._display, self._task, self._stage, self._done = display, None, "", 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._task is None or stage != self._stage or done < self._done:
            self._task = self._display.add_task(stage, total=max(total, 1))
        self._display.update(self._task, completed=done if total else 1, total=max(total, 1))
        self._stage, self._done = stage, done


@contextmanager
def progress_bars() -> Iterator[Bars | Lines]:
    """Yield a progress callback ``(stage, done, total)``: bars on a terminal, lines in a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=600) as display:
        yield Bars(display)


@contextmanager
def stop_at_next_step(progress: Any) -> Iterator[Any]:
    """Let the first Ctrl-C end the current training step before it stops, so that the state of the last step is saved."""
    asked: list[int] = []

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        if asked:
            raise Cancelled

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second one stops at once

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield report
    finally:
        signal.signal(signal.SIGINT, before)
