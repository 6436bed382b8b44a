"""``vidistill run, explore, knobs``: a paper from its knobs, and a page of it without a screen."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from vidistill.errors import InputError
from vidistill.files import ensure_folder
from vidistill.lab.headless import RESULTS, run_headless
from vidistill.lab.runner import parse_parameters
from vidistill.lab.terminal import (
    Device,
    Layout,
    OnDevice,
    Paper,
    Seed,
    console,
    progress_bars,
    split_settings,
    torch_device,
)


def run(
    paper: Paper,
    data: Annotated[Path | None, typer.Option(help="folder of videos; left out: the embedded Motion World")] = None,
    layout: Layout = "ucf101",
    preset: Annotated[str | None, typer.Option(help="a named set of knob values")] = None,
    model: Annotated[str | None, typer.Option(help="the knob of that name: a model of the zoo, a folder or a hub id")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="turn one knob; may be repeated")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the results [default: runs/PAPER]")] = None,
    seed: Seed = 0,
    device: OnDevice = Device.auto,
) -> None:
    """Run a paper; writes report.json, report.html, record.json, and distilled.safetensors or clips; resumes where it stopped."""
    from vidistill.lab import presets
    from vidistill.lab.paper_run import run_paper
    from vidistill.lab.report import print_report
    from vidistill.lab.source import open_source

    module = presets.paper_module(paper)
    if data and paper in presets.PLANE:
        raise InputError(f"paper {paper} reads no videos, its world is made of points: leave out --data")
    named = presets.preset(paper, preset, module.KNOBS) if preset else {}
    settings = [*(settings or []), *([f"model={model}"] if model else [])]
    values = module.KNOBS.resolve(named, module.KNOBS.parse(split_settings(settings, "--set")))
    place, helper = torch_device(device), int(os.environ.get("RANK", 0)) > 0
    out = ensure_folder(out or Path("runs", paper))
    if helper:  # one of several processes: it makes its share, the first one writes the results
        if paper in presets.SHARED:
            module.run(values, open_source(data, layout, values), out, device=place, seed=seed)
        return
    source = ["--data", str(data), "--layout", layout] if data else []
    turned = [*(["--preset", preset] if preset else []), *(part for pair in settings for part in ("--set", pair))]
    words = ["vidistill", "run", paper, *source, *turned, "--out", str(out), "--seed", str(seed), "--device", place]
    with progress_bars() as bars:
        options: dict[str, Any] = {"data": data, "layout": layout, "seed": seed, "device": place, "progress": bars}
        report = run_paper(paper, values, out, results=lambda out: RESULTS, command=shlex.join(words), **options)
    print_report(report, console())
    typer.echo(f"report: {out / 'report.html'}\nnumbers: {out / 'report.json'}\nrecord: {out / 'record.json'}")
    if (out / "clips").is_dir():
        typer.echo(f"clips: {out / 'clips'}")
    if (out / "distilled.safetensors").is_file():
        typer.echo(f"distilled set: {out / 'distilled.safetensors'} ({(out / 'distilled.safetensors').stat().st_size:,} bytes)")


def explore(
    page: Annotated[str, typer.Argument(help="a page of notebooks/explore, e.g. videoguide")],
    parameters: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="a parameter of the page; repeatable")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the executed notebook, its numbers and the clips [default: runs/explore/PAGE]")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds for the whole notebook")] = None,
) -> None:
    """Run an explore page without a screen: what "copy as command" on the page gives, with the same record hash."""
    from vidistill.data.clip_record import sidecar
    from vidistill.lab.explore import RUN, clip_files, knobs_of, notebook_of

    notebook, declared = notebook_of(page), knobs_of(page)
    values = parse_parameters(notebook, split_settings(parameters or [], "-p"), declared)
    if own := [name for name in values if name in RUN]:
        raise InputError(f"parameter {own[0]} is set by vidistill explore: leave it out (--out names the folder)")
    out = ensure_folder(out or Path("runs", "explore", page))
    _forget_clips(out)
    command = ["vidistill", "explore", page, *(part for pair in parameters or [] for part in ("-p", pair)), "--out", str(out)]

    def kept(result: dict[str, Any]) -> list[str]:
        return [file for clip in clip_files(result["record"]["clips"]).values() for file in (clip, sidecar(clip).as_posix())]

    done = run_headless(page, notebook, out, values | {"live": False, "out": str(out)}, declared, timeout, command, kept)
    typer.echo(f"notebook: {done['output']}\nnumbers: {done['sidecar']}\nclips: {out / 'clips'}\nrecord: {out / 'record.json'}")
    typer.echo(f"record hash: {done['result']['record']['hash']}")


def _forget_clips(out: Path) -> None:
    """Remove the clips that an earlier run of this folder wrote: they must not stand beside those of another."""
    from vidistill.lab import history

    with suppress(InputError):  # nothing ran here
        for name in history.read_run(out).record["outputs"]:
            if Path(name).parent == Path("clips"):
                (out / name).unlink(missing_ok=True)


def knobs(paper: Paper) -> None:
    """Print the knobs of a paper as a Markdown table, and its presets."""
    from vidistill.lab import presets

    typer.echo(presets.knobs_of(paper).table())
    typer.echo("\n| preset | about |\n| --- | --- |")
    for name, values in presets.load_presets(paper).items():
        typer.echo(f"| `{name}` | {values['about']} |")
