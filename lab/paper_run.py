"""One run of a paper into a folder: report, page and record, as ``vidistill run`` and every cell of a sweep write them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidistill.data.clip_record import made_by
from vidistill.files import ensure_folder
from vidistill.lab.presets import PLANE, paper_module
from vidistill.lab.record import Stages, commit, write_record
from vidistill.lab.report import write_report
from vidistill.lab.source import open_source
from vidistill.types import Progress, silent


def run_paper(
    paper: str,
    values: Mapping[str, Any],
    out: str | Path,
    *,
    results: Callable[[Path], Sequence[str]],
    data: str | Path | None = None,
    layout: str = "ucf101",
    seed: int = 0,
    device: str = "cpu",
    command: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run a paper and return its report as JSON; ``out`` gets ``report.json``, ``report.html`` and, last of all, ``record.json``.

    Those of an earlier run are removed first, so that they never stand beside the results of this one.

    Args:
        paper, values: which, and its knobs; those that are left out keep their defaults.
        results: folder -> names of the files in it that the record is to hold with their hashes.
        data, layout: see :func:`vidistill.lab.source.open_source`; the papers of points read none.
        command: the command line that repeats the run; left out, it is made of the knobs that are not at their defaults.

    Raises:
        InputError: as the paper; or there is no such paper or data.
    """
    started, out, module = datetime.now(UTC), ensure_folder(out), paper_module(paper)
    knobs = module.KNOBS.resolve(values)
    if command is None:
        turned = [f"{name}={value}" for name, value in knobs.items() if value != module.KNOBS[name].default]
        source = ["--data", str(data), "--layout", layout] if data else []
        words = ["vidistill", "run", paper, *source, *(part for pair in turned for part in ("--set", pair))]
        command = shlex.join([*words, "--seed", str(seed), "--device", device.partition(":")[0]])
    for name in ("record.json", "report.json", "report.html"):
        (out / name).unlink(missing_ok=True)
    stages = Stages(progress)
    videos = None if paper in PLANE else open_source(data, layout, knobs, stages)
    with made_by(command=command, commit=commit(), device=device):
        report = write_report(out, module.run(knobs, videos, out, device=device, seed=seed, progress=stages))
    facts: dict[str, Any] = {"paper": paper, "knobs": knobs, "seed": seed, "device": device, "command": command}
    write_record(out, **facts, stages=stages, started=started, outputs=results(out))
    return report
