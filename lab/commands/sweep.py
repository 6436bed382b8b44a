"""The command that turns knobs over a grid: ``vidistill sweep``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidistill.errors import InputError, choose
from vidistill.files import ensure_folder
from vidistill.lab.terminal import Device, Layout, OnDevice, Paper, complain, console, progress_bars, split_settings, torch_device

if TYPE_CHECKING:
    from vidistill.lab.sweep_table import Point
    from vidistill.lab.sweeps import Done


def sweep(
    paper: Paper,
    grid: Annotated[list[str], typer.Option(metavar="KNOB=VALUE,VALUE", help="turn a knob; the first is across, the second down")],
    seeds: Annotated[str, typer.Option(help="the same at every point: 0:5 is 0 to 4; or 0,3,8")] = "0:5",
    engine: Annotated[str, typer.Option(help="threads: this machine; ray: a cluster (RAY_ADDRESS), else this machine")] = "threads",
    jobs: Annotated[int | None, typer.Option(min=1, help="cells at once, one thread each [default: one a core, on a GPU one]")] = None,
    preset: Annotated[str | None, typer.Option(help="a named set of knob values")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="a knob of every cell; may be repeated")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of videos; left out: the embedded Motion World")] = None,
    layout: Layout = "ucf101",
    out: Annotated[Path | None, typer.Option(help="folder for cells and tables [default: runs/sweeps/PAPER]")] = None,
    arm: Annotated[str | None, typer.Option(help="the arm that is shown [default: the method]")] = None,
    device: OnDevice = Device.auto,
) -> None:
    """Run a paper over a grid of knobs, the same seeds at every point; finished cells are read, so the same command resumes."""
    import torch

    from vidistill.distill.parallel import start, stop
    from vidistill.lab import presets
    from vidistill.lab.cell_key import key_of
    from vidistill.lab.engines import ENGINES
    from vidistill.lab.sweep_page import write_page
    from vidistill.lab.sweep_table import arrow, pick_arm, points_of, table_of, write_table
    from vidistill.lab.sweeps import parse_grid, parse_seeds, plan, run_sweep, save_summary

    module = presets.paper_module(paper)
    choose("engine", engine, ENGINES)
    if arm is not None:
        choose("arm", arm, module.ARMS)
    if data and paper in presets.PLANE:
        raise InputError(f"paper {paper} reads no videos, its world is made of points: leave out --data")
    arrow()
    turned = module.KNOBS.parse(split_settings(settings or [], "--set"))
    named = presets.preset(paper, preset, module.KNOBS) if preset else {}
    wanted, numbers, place = parse_grid(module.KNOBS, grid), parse_seeds(seeds), torch_device(device)
    source: dict[str, Any] = {"data": str(data) if data else "", "layout": layout}
    out = ensure_folder(out or Path("runs", "sweeps", paper))
    said = [*(part for text in grid for part in ("--grid", text)), "--seeds", seeds, *(["--preset", preset] if preset else [])]
    said += [part for pair in settings or [] for part in ("--set", pair)]
    said += ["--data", str(data), "--layout", layout] if data else []
    command = shlex.join(["vidistill", "sweep", paper, *said, "--out", str(out), "--device", device.value])

    ranks = start(torch.device("cpu"))
    with progress_bars() as bars:
        first: dict[str, Any] = {"progress": bars} if ranks.rank == 0 else {}  # of several processes the first one speaks
        key = key_of(module.KNOBS, **source, **first)
        request = plan(module.KNOBS, wanted, numbers, turned, named=named, key=key, device=place, **source)
        done = run_sweep(request, out, engine=engine, jobs=jobs, ranks=ranks, told=complain, **first)
    if done is None:
        return stop(ranks)
    shown = pick_arm(done, arm)
    points = points_of(done, shown)
    write_table(out / "sweep.parquet", table_of(done))
    save_summary(out, done, command, **source)
    write_page(out, done, shown, points)
    stop(ranks)
    _print(done, shown, points)
    typer.echo(f"table: {out / 'sweep.parquet'}\npage: {out / 'index.html'}\ncells: {out / 'cells'}")
    if done.failed:
        complain(f"{len(done.failed)} of {len(request.cells)} cells failed; the same command makes them again")
        raise typer.Exit(1)


def _print(done: Done, arm: str, points: Sequence[Point]) -> None:
    """Print a row for each point of the grid: its score, and what it gains over the base."""
    from rich.table import Table
    from rich.text import Text

    from vidistill.lab.grid import told
    from vidistill.lab.report import spread
    from vidistill.lab.sweep_table import base_line

    form, knobs = f".{done.score.get('digits', 1)}f", list(done.sweep.grid)
    table = Table(title=f"{done.sweep.paper}, {arm or 'no cell is finished'}", title_justify="left")
    for name in (*knobs, f"{done.score.get('heading', 'score')} [95 %]", "against the base", "seeds", "failed"):
        table.add_column(name, justify="right")
    for point in points:
        change = "base" if point.base else "-"
        if point.difference:
            change = f"{spread(point.difference, form, sign=True)} {point.difference['verdict']}"
        cells = [*(told(point.turned[name]) for name in knobs), spread(point.score, form), change]
        table.add_row(*map(Text, [*cells, str(point.score["n"] if point.score else 0), str(point.failed or "-")]))
    console().print(table)
    typer.echo(base_line(done.sweep))
