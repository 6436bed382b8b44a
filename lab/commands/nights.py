"""``vidistill nightly``: the toy suite of this night, and what changed since the night before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidistill.lab.terminal import progress_bars


def nightly(
    out: Annotated[Path, typer.Option(help="folder of the nights")] = Path("runs/nightly"),
    quick: Annotated[bool, typer.Option("--quick", help="few seeds, arms and clips; compared with quick nights alone")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="notebooks at a time, one thread each")] = 2,
    keep: Annotated[int, typer.Option(min=1, help="nights that stay, this one included")] = 30,
) -> None:
    """Run the toy suite into a folder of its own and compare it with the night before; a night that was cut off within a day goes on.

    A changed verdict is news, not a failure: exit code 1 only when something failed.
    """
    from vidistill.lab import nights
    from vidistill.lab.suite import run_suite

    folder = nights.open_night(out, quick)
    with progress_bars() as bars:
        run_suite(folder, quick=quick, jobs=jobs, progress=bars)
    changes = nights.write_changes(folder, nights.previous_night(folder))
    nights.forget_nights(folder, keep)
    typer.echo(f"{nights.headline(changes)}\nchanges: {folder / 'changes.md'}\npage: {folder / 'index.html'}")
    if changes["failed"]:
        raise typer.Exit(1)
