"""A notebook run from the command line: progress on the terminal, and a record of the files that it left."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidistill.knobs import Knobs
from vidistill.lab.runner import run_notebook
from vidistill.lab.terminal import progress_bars

RESULTS = ("report.json", "report.html", "distilled.safetensors")
"""Files that a run of a paper may leave."""


def run_headless(
    name: str,
    notebook: Path,
    out: Path,
    values: dict[str, Any],
    knobs: Knobs,
    timeout: float | None,
    command: Sequence[str],
    kept: Callable[[Any], Sequence[str]] = lambda result: (),
) -> dict[str, Any]:
    """Run a notebook into ``out``, with a record of its files and those that it ``kept``; an earlier record does not stand beside them."""
    from vidistill.lab.record import Stages, write_record

    started = datetime.now(UTC)
    (out / "record.json").unlink(missing_ok=True)
    with progress_bars() as bars:
        stages = Stages(bars)
        done = run_notebook(notebook, out / f"{name}.ipynb", values, knobs=knobs, timeout=timeout, progress=stages)
    write_record(
        out,
        paper=name,
        knobs=values,
        seed=int(values.get("seed", 0)),
        device=str(values.get("device", "cpu")),
        stages=stages,
        started=started,
        command=shlex.join(command),
        outputs=(f"{name}.ipynb", f"{name}.json", *RESULTS, *kept(done["result"])),
    )
    return done
