"""``vidistill render``: the executed copies of the notebooks that are read on the web."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidistill.lab.runner import notebooks_dir
from vidistill.lab.terminal import progress_bars


def render(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="learn/guidance, or a room: learn [default: all]")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the copies [default: notebooks/rendered]")] = None,
) -> None:
    """Execute notebooks and write small copies for readers on the web: films as animated PNG, figures as pictures, no script."""
    from vidistill.lab import rendered

    folder = out or notebooks_dir() / "rendered"
    for name in rendered.choose_sources(names or []):
        with progress_bars() as bars:
            path, size = rendered.render(name, folder, bars)
        typer.echo(f"{path}  {size:,} bytes")
