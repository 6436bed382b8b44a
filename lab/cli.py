"""The command line. Bad input is one line on stderr and exit code 2; what was finished before a stop is used by the next run.

Light at import: torch and the rooms are imported inside the commands, so that ``vidistill --help`` answers at once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from typer.core import TyperGroup

from vidistill.errors import Cancelled, InputError, choose, nearest
from vidistill.files import cache_home, ensure_folder
from vidistill.knobs import Knobs
from vidistill.lab.offline import free_port, panel_root
from vidistill.lab.runner import RunFailed, notebooks_dir, parameters_of, parse_parameters, run_notebook

TRAINERS = {
    "lab-vae": "vidistill.lab.train.vae",
    "lab-unet": "vidistill.lab.train.unet:train_unet",
    "lab-base": "vidistill.lab.train.unet:train_base",
    "lab-dit": "vidistill.lab.train.dit",
    "lab-probe": "vidistill.lab.train.probe",
    "lab-dit-kd4": "vidistill.lab.train.few_step:kd4",
    "lab-dit-accvideo5": "vidistill.lab.train.few_step:accvideo5",
    "lab-dit-dmd4": "vidistill.lab.train.few_step:dmd4",
    "lab-dit-dfd4": "vidistill.lab.train.few_step:dfd4",
    "lab-dit-trajectory5": "vidistill.lab.train.few_step:trajectory5",
    "lab-dit-sft4": "vidistill.lab.train.few_step:sft4",
    "lab-dit-dfd4-cfg1": "vidistill.lab.train.few_step:dfd4_cfg1",
}
"""Model of the zoo -> ``module:function`` that makes it, ``train`` where no function is named; the last three are controls."""

START = "00_start_here.ipynb"
STOPPED = "stopped; the same command resumes"
RESULTS = ("report.json", "report.html", "distilled.safetensors")


class OneLineErrors(TyperGroup):
    """A command group that turns the errors a user can cause into one line and an exit code; any other is a bug and shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            _complain(f"error: {error}")
            raise typer.Exit(2) from None
        except RunFailed as error:
            _complain(f"error: {error}")
            raise typer.Exit(1) from None
        except (Cancelled, KeyboardInterrupt):
            _complain(STOPPED)
            raise typer.Exit(130) from None


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Tier(StrEnum):
    toy = "toy"
    small = "small"
    full = "full"


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="vidistill: a lab for video distillation and guided video sampling.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at a data set, write Motion World, decode clips ahead of a run.")
app.add_typer(data_app, name="data")
zoo_app = typer.Typer(no_args_is_help=True, help="The models that ship with the package, and the cards of what was measured on them.")
app.add_typer(zoo_app, name="zoo")

Paper = Annotated[str, typer.Argument(help="a paper, e.g. latent_vdd")]
Layout = Annotated[str, typer.Option(help="how the folder is laid out: ucf101, hmdb51, kinetics, ssv2, folder")]
OnDevice = Annotated[Device, typer.Option(help="auto takes the GPU when there is one")]
Seed = Annotated[int, typer.Option(min=0, help="names every stream of random numbers")]


def main() -> None:
    """Entry point of the ``vidistill`` command."""
    app()


# What every command uses.


def _complain(line: str) -> None:
    typer.echo(" ".join(line.split()), err=True)


def _console() -> Console:
    """Return the console for results; into a file or a pipe, tables keep their full width."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _settings(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Split ``["name=value", ...]``."""
    settings = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {pair!r} is not of the form name=value")
        settings[name.strip()] = text
    return settings


def _torch_device(device: Device) -> str:
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
            _complain(f"{stage}: {done:,} of {total:,}, about {left / 60:.0f} min left")
            self._told = now
        if done >= total and (stage, done, total) != (self._stage, self._done, self._total):
            _complain(f"{stage}: {total:,} in {now - self._start:.1f} s")
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
def _progress() -> Iterator[Bars | Lines]:
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


# vidistill run, reproduce, explore, knobs, train


@app.command()
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
    from vidistill.data.clip_record import made_by
    from vidistill.lab import presets
    from vidistill.lab.record import Stages, commit, write_record
    from vidistill.lab.report import print_report, write_report
    from vidistill.lab.source import open_source

    started = datetime.now(UTC)
    module = presets.paper_module(paper)
    if data and paper in presets.PLANE:
        raise InputError(f"paper {paper} reads no videos, its world is made of points: leave out --data")
    named = presets.preset(paper, preset, module.KNOBS) if preset else {}
    settings = [*(settings or []), *([f"model={model}"] if model else [])]
    values = module.KNOBS.resolve(named, module.KNOBS.parse(_settings(settings, "--set")))
    place, helper = _torch_device(device), int(os.environ.get("RANK", 0)) > 0
    out = ensure_folder(out or Path("runs", paper))
    if helper:  # one of several processes: it makes its share, the first one writes the results
        if paper in presets.SHARED:
            module.run(values, open_source(data, layout, values), out, device=place, seed=seed)
        return
    source = ["--data", str(data), "--layout", layout] if data else []
    turned = [*(["--preset", preset] if preset else []), *(part for pair in settings for part in ("--set", pair))]
    words = ["vidistill", "run", paper, *source, *turned, "--out", str(out), "--seed", str(seed), "--device", place]
    command = shlex.join(words)
    for name in ("record.json", "report.json", "report.html"):  # results of an earlier run must not stand beside those of this one
        (out / name).unlink(missing_ok=True)

    with _progress() as bars:
        stages = Stages(bars)
        videos = None if paper in presets.PLANE else open_source(data, layout, values, stages)
        with made_by(command=command, commit=commit(), device=place):
            report = write_report(out, module.run(values, videos, out, device=place, seed=seed, progress=stages))
    write_record(
        out,
        paper=paper,
        knobs=values,
        seed=seed,
        device=place,
        stages=stages,
        started=started,
        command=command,
        outputs=RESULTS,
    )
    print_report(report, _console())
    typer.echo(f"report: {out / 'report.html'}\nnumbers: {out / 'report.json'}\nrecord: {out / 'record.json'}")
    if (out / "clips").is_dir():
        typer.echo(f"clips: {out / 'clips'}")
    if (out / "distilled.safetensors").is_file():
        typer.echo(f"distilled set: {out / 'distilled.safetensors'} ({(out / 'distilled.safetensors').stat().st_size:,} bytes)")


@app.command()
def reproduce(
    paper: Paper,
    tier: Annotated[Tier | None, typer.Option(help="toy: CPU minutes; small: one GPU hour on real clips; full: the paper's scale")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="a parameter of the notebook; repeatable")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the executed notebook and its result [default: runs/reproduce/PAPER]")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds for the whole notebook")] = None,
) -> None:
    """Run a paper's reproduction notebook headless; every number in it beside its control."""
    from vidistill.lab import presets
    from vidistill.lab.report import print_report

    knobs = presets.knobs_of(paper)
    notebook = notebooks_dir() / "reproduce" / f"{paper}.ipynb"
    texts = _settings(parameters or [], "-p")
    if tier:
        texts["tier"] = tier.value
    declared, values = parameters_of(notebook), parse_parameters(notebook, texts, knobs)
    if tier:  # the tier's preset first, then what the user turned
        base = knobs.resolve(presets.preset(paper, presets.TIERS[tier.value], knobs))
        values = {name: value for name, value in base.items() if name in declared} | values
    out = ensure_folder(out or Path("runs", "reproduce", paper))
    if "out" in declared:
        values.setdefault("out", str(out))
    command = ["vidistill", "reproduce", paper, *(["--tier", tier.value] if tier else [])]
    command += [part for pair in parameters or [] for part in ("-p", pair)] + ["--out", str(out)]
    done = _headless(paper, notebook, out, values, knobs, timeout, command)
    result = done["result"]
    if isinstance(result, dict) and {"paper", "arms", "data", "notes", "extra"} <= result.keys():
        print_report(result, _console())
    typer.echo(f"notebook: {done['output']}\nresult: {done['sidecar']}\nrecord: {out / 'record.json'}")


def _headless(
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
    with _progress() as bars:
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


@app.command()
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
    values = parse_parameters(notebook, _settings(parameters or [], "-p"), declared)
    if own := [name for name in values if name in RUN]:
        raise InputError(f"parameter {own[0]} is set by vidistill explore: leave it out (--out names the folder)")
    out = ensure_folder(out or Path("runs", "explore", page))
    _forget_clips(out)
    command = ["vidistill", "explore", page, *(part for pair in parameters or [] for part in ("-p", pair)), "--out", str(out)]

    def kept(result: dict[str, Any]) -> list[str]:
        return [file for clip in clip_files(result["record"]["clips"]).values() for file in (clip, sidecar(clip).as_posix())]

    done = _headless(page, notebook, out, values | {"live": False, "out": str(out)}, declared, timeout, command, kept)
    typer.echo(f"notebook: {done['output']}\nnumbers: {done['sidecar']}\nclips: {out / 'clips'}\nrecord: {out / 'record.json'}")
    typer.echo(f"record hash: {done['result']['record']['hash']}")


def _forget_clips(out: Path) -> None:
    """Remove the clips that an earlier run of this folder wrote: they must not stand beside those of another."""
    from vidistill.lab import history

    with suppress(InputError):  # nothing ran here
        for name in history.read_run(out).record["outputs"]:
            if Path(name).parent == Path("clips"):
                (out / name).unlink(missing_ok=True)


@app.command()
def knobs(paper: Paper) -> None:
    """Print the knobs of a paper as a Markdown table, and its presets."""
    from vidistill.lab import presets

    typer.echo(presets.knobs_of(paper).table())
    typer.echo("\n| preset | about |\n| --- | --- |")
    for name, values in presets.load_presets(paper).items():
        typer.echo(f"| `{name}` | {values['about']} |")


@app.command()
def train(
    name: Annotated[str, typer.Argument(help=f"a model of the zoo: {', '.join(TRAINERS)}")],
    minutes: Annotated[float, typer.Option(min=0.0, help="length of the training, all its parts together")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="folder for the model and its checkpoints [default: runs/NAME]")] = None,
    device: OnDevice = Device.auto,
    data: Annotated[Path | None, typer.Option(help="lab-vae: folder of real data sets to learn from besides Motion World")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="lab-unet: model or folder whose weights to begin with, or none; left out: lab-base where it is shipped. "
            "A few-step student: folder of another student's run or model; left out: the teacher's weights"
        ),
    ] = None,
    prior: Annotated[str | None, typer.Option(help="a few-step student: uniform, or rare: a colour and a camera are seldom shown")] = None,
    seed: Seed = 0,
) -> None:
    """Train a model of the zoo by its recipe; stop it at any time, the same command goes on, with more --minutes also a finished run.

    On several GPUs: accelerate launch --multi_gpu -m vidistill.lab.cli train NAME ...
    """
    import inspect
    import json
    from importlib import import_module

    module, _, function = TRAINERS[choose("model", name, TRAINERS)].partition(":")
    recipe = getattr(import_module(module), function or "train")
    options, known = {"data": data, "start": start, "prior": prior}, inspect.signature(recipe).parameters
    for option, value in options.items():
        if value is not None and option not in known:
            raise InputError(f"the recipe of {name} has no use for --{option}: leave it out")
    own = {option for option, part in known.items() if part.default is not inspect.Parameter.empty}  # which the recipe then decides
    given = {option: value for option, value in options.items() if value is not None or option in known.keys() - own}
    out = ensure_folder(out or Path("runs", name))
    with _progress() as bars, _stop_at_next_step(bars) as progress:
        record = recipe(out, minutes=minutes, device=_torch_device(device), seed=seed, progress=progress, **given)
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        typer.echo(json.dumps(record, indent=2, default=str))
        typer.echo(f"model: {out / 'model'}\nmeasure it: vidistill zoo card {shlex.quote(str(out / 'model'))}")


@app.command()
def distill(
    teacher: Annotated[str, typer.Argument(help="a Wan pipeline: a folder as diffusers writes it, or a hub id")],
    recipe: Annotated[str, typer.Option(help="accvideo, dfd, dpdmd, fastgen-dmd2, fastgen-kd, or a TOML file")],
    data: Annotated[Path, typer.Option(help="folder of clips; its subfolders count")],
    captions: Annotated[Path | None, typer.Option(help="csv, json or jsonl of clips and what they show; a Motion World needs none")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the run and the student [default: runs/RECIPE]")] = None,
    lora: Annotated[int, typer.Option(help="rank; teacher, student and critic share one copy of the weights")] = 64,
    full: Annotated[bool, typer.Option("--full", help="learn all weights instead of LoRA")] = False,
    updates: Annotated[int | None, typer.Option(min=1, help="student updates [default: the recipe's]")] = None,
    batch: Annotated[int, typer.Option(help="samples of a loss, over all processes")] = 1,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH or one side, pixels [default: the teacher's]")] = None,
    frames: Annotated[int | None, typer.Option(help="of a clip [default: the teacher's]")] = None,
    steps: Annotated[int | None, typer.Option(help="of the teacher's trajectories [default: the teacher's]")] = None,
    records: Annotated[int | None, typer.Option(help="trajectories [default: one for each clip]")] = None,
    start: Annotated[Path | None, typer.Option(help="run or model whose student to begin with, e.g. DFD's with DMD2's")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a value of the recipe; repeatable")] = None,
    checkpointing: Annotated[bool, typer.Option(help="keep one input a block for the backward pass, and compute the rest twice")] = True,
    plan: Annotated[bool, typer.Option("--plan", help="only print what it would take")] = False,
    seed: Seed = 0,
    device: OnDevice = Device.auto,
) -> None:
    """Distil a Wan model into few steps, by LoRA or full weights; the plan comes first, the same command resumes.

    On several GPUs: accelerate launch --multi_gpu [--use_fsdp] -m vidistill.lab.cli distill TEACHER ... (--use_fsdp shares the weights)
    """
    import json

    from rich.table import Table

    from vidistill.lab.distill_order import order, rows_of, side_lengths, value_of

    changes = {name: value_of(name, text) for name, text in _settings(settings or [], "--set").items()}
    wanted = order(
        teacher,
        recipe,
        data,
        captions,
        lora=lora,
        full=full,
        batch=batch,
        size=side_lengths(size),
        frames=frames,
        steps=steps,
        records=records,
        start=start,
        checkpointing=checkpointing,
        device=_torch_device(device),
        seed=seed,
        **{"updates": updates, **changes},
    )
    first = os.environ.get("RANK", "0") == "0"  # of several processes the first one speaks
    if first:
        table = Table("what", title=f"plan: {wanted.name} on {wanted.device}", title_justify="left")
        table.add_column("how much", justify="right")
        table.add_column("how it is counted")
        for row in rows_of(wanted):
            table.add_row(*row)
        _console().print(table)
    if plan:
        return
    from vidistill.lab.distill import distill as work

    out = ensure_folder(out or Path("runs", Path(recipe).stem))
    with _progress() as bars, _stop_at_next_step(bars if first else lambda *_: None) as progress:
        record = work(wanted, out, progress=progress)
    if not first:
        return
    typer.echo(json.dumps({name: value for name, value in record.items() if name not in ("recipe", "skipped")}, indent=2, default=str))
    for bad in record["skipped"]:
        typer.echo(f"left out: {bad['name']}: {bad['reason']}")
    typer.echo(f"student: {out / 'model'}")


@contextmanager
def _stop_at_next_step(progress: Any) -> Iterator[Any]:
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


# vidistill data


@data_app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="folder of videos")],
    layout: Layout = "ucf101",
    split: Annotated[int, typer.Option(min=1, help="official split")] = 1,
) -> None:
    """Count classes and clips, open every file, and list the bad ones with the reason."""
    from rich.table import Table

    from vidistill.data import inspect as inspect_videos
    from vidistill.data import open_videos

    with _progress() as bars:
        found = inspect_videos(open_videos(folder, layout, split), progress=bars)
    table = Table("class")
    for side in ("train", "test"):
        table.add_column(side, justify="right")
    for row in found["classes"]:
        table.add_row(row["name"], f"{row['train']:,}", f"{row['test']:,}")
    table.add_section()
    table.add_row(f"{len(found['classes'])} classes", f"{found['clips']['train']:,}", f"{found['clips']['test']:,}")
    typer.echo(f"{found['root']} ({found['layout']}, split {found['split']}), read by {found['backend']}")
    _console().print(table)
    if frames := found["frames"]:
        typer.echo(f"frames per video: {frames['min']:,} to {frames['max']:,}, median {frames['median']:,g}")
    typer.echo(f"bad files: {len(found['bad'])}")
    for row in found["bad"]:
        typer.echo(f"  {row['path']} ({row['side']}): {row['reason']}")


@data_app.command()
def world(
    folder: Annotated[Path, typer.Argument(help="folder to write to")],
    train: Annotated[int, typer.Option(min=1, help="training clips per motion")] = 24,
    test: Annotated[int, typer.Option(min=1, help="test clips per motion")] = 12,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=16, help="height and width, pixels")] = 64,
    frames: Annotated[int, typer.Option(min=2, help="frames per clip")] = 16,
) -> None:
    """Write Motion World, clips whose every factor is known, as mp4 files in UCF101's layout."""
    from vidistill.data.world import write_world

    ensure_folder(folder)
    with _progress() as bars:
        write_world(folder, seed=seed, per_class_train=train, per_class_test=test, size=size, frames=frames, progress=bars)
    typer.echo(f"Motion World: {folder} (--layout ucf101)")


@data_app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(help="folder of videos")],
    layout: Layout = "ucf101",
    split: Annotated[int, typer.Option(min=1, help="official split")] = 1,
    frames: Annotated[int, typer.Option(help="frames per clip")] = 16,
    gap: Annotated[int, typer.Option(help="distance between sampled frames")] = 4,
    size: Annotated[int, typer.Option(help="height and width of a clip, pixels")] = 112,
    crop: Annotated[str, typer.Option(help="resize-crop, squash or center")] = "resize-crop",
    seed: Seed = 0,
) -> None:
    """Decode a data set into the cache now; a run with the same protocol and seed then starts at once."""
    from vidistill.data import open_videos, prepare_clips
    from vidistill.types import Protocol

    protocol = Protocol(frames, gap, size, crop)
    videos = open_videos(folder, layout, split)
    with _progress() as bars:
        for side, items in (("train", videos.train), ("test", videos.test)):
            clips = prepare_clips(items, videos.classes, protocol, side, seed=seed, progress=bars)
            typer.echo(f"{side}: {len(clips):,} clips read by {clips.backend}, {len(clips.skipped)} skipped")
            for bad in clips.skipped:
                typer.echo(f"  {bad['name']}: {bad['reason']}")
    typer.echo(f"cache: {cache_home()}")


# vidistill zoo


@zoo_app.command("list")
def list_models() -> None:
    """Print the models of the zoo with their size."""
    from rich.table import Table

    from vidistill.lab.zoo_card import inventory

    table = Table("model", "family")
    for column in ("parameters", "bytes"):
        table.add_column(column, justify="right")
    table.add_column("what it is")
    for row in inventory():
        sizes = [f"{row[key]:,}" if row[key] is not None else "-" for key in ("parameters", "bytes")]
        table.add_row(row["name"], row["family"] or "not trained yet", *sizes, row["about"])
    _console().print(table)


@zoo_app.command()
def card(
    name: Annotated[str | None, typer.Argument(help="a model of the zoo, or the folder of a model")] = None,
    every: Annotated[bool, typer.Option("--all", help="every model that is in the package")] = False,
    clips: Annotated[int, typer.Option(min=2, help="clips to measure on")] = 512,
    device: OnDevice = Device.auto,
    data: Annotated[
        Path | None, typer.Option(envvar="VIDISTILL_DATA", help="folder with jhmdb-21, for lab-vae's row on real clips")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the new card.json and README.md")] = None,
    write: Annotated[bool, typer.Option("--write", help="replace the model's own card")] = False,
) -> None:
    """Measure a model and hold every number against its card; exit code 1 when an interval does not overlap the card's."""
    from vidistill.files import load_json
    from vidistill.lab import zoo_card, zoo_text

    if every == (name is not None):
        raise InputError("give the name of one model, or --all")
    names = [row["name"] for row in zoo_card.inventory() if row["bytes"] is not None] if every else [str(name)]
    differs = False
    for one in names:
        folder = zoo_card.locate(one)
        held = load_json(folder / "card.json") if (folder / "card.json").is_file() else None
        with _progress() as bars:
            new = zoo_card.measure_model(one, clips=clips, device=_torch_device(device), data=data, progress=bars)
        differs |= _print_card(new, held)
        places = [(out / new["name"] if every else out)] if out else []
        for place in [*places, *([folder] if write else [])]:
            zoo_text.write_card(place, new)
            typer.echo(f"card: {place / 'README.md'}")
    raise typer.Exit(1 if differs and not write else 0)


def _print_card(new: dict[str, Any], held: dict[str, Any] | None) -> bool:
    """Print a new card beside the one that the model has, and its bars; return whether they differ."""
    from rich.table import Table

    from vidistill.lab.zoo_bars import compare, show, show_bar

    rows = compare(new, held)
    table = Table("number", "measured", "on the card", "", title=f"{new['name']}: {new['about']}", title_justify="left")
    for row in rows:
        table.add_row(row["number"], show(row["new"]), show(row["old"]), row["verdict"])
    _console().print(table)
    answer = {True: "reached", False: "NOT reached", None: "not measured"}
    for bar in new["bars"]:
        typer.echo(f"{answer[bar['reached']]}: {show_bar(bar)}")
    if held is None:
        typer.echo("the model has no card yet: --write makes it")
        return False
    if new["measured"]["clips"] != held.get("measured", {}).get("clips"):
        typer.echo(f"the card was measured on {held.get('measured', {}).get('clips', 'other')} clips, this on {new['measured']['clips']}")
    wrong = [row["number"] for row in rows if row["verdict"] == "DIFFERS"]
    typer.echo(f"{len(rows):,} numbers, {len(wrong)} differ from the card{': ' + '; '.join(wrong) if wrong else ''}")
    return bool(wrong)


# vidistill runs, diff, open, recall


@app.command()
def runs(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="where to look [default: runs/]")] = None,
    paper: Annotated[str | None, typer.Option(help="only of this paper")] = None,
    since: Annotated[str | None, typer.Option(help="only begun since: a date, or how long ago (90m, 12h, 7d, 2w)")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="KNOB=VALUE", help="only with this value; may be repeated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    delete: Annotated[str | None, typer.Option(metavar="ID", help="delete this run; asks first")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """List finished runs, newest first: what was turned, what came of it, and whether the files are still those that the run wrote."""
    import json

    from vidistill.lab import history

    places = folders or [Path("runs")]
    if delete is not None:
        if paper or since or where or as_json:
            raise InputError("--delete ID takes one run and no filter: leave out --paper, --since, --where and --json")
        doomed = history.find_run(delete, places)
        files, size = history.deletable(doomed)
        if not yes:
            typer.confirm(f"delete run {doomed.id} of {doomed.paper} in {doomed.folder} ({files:,} files, {size:,} bytes)?", abort=True)
        history.delete(doomed)
        typer.echo(f"deleted: {doomed.folder}")
        return
    found = history.choose_runs(history.find_runs(places, _complain), paper, since, _settings(where or [], "--where"))
    rows = [run.as_dict() for run in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo(f"no such run in {', '.join(map(str, places))}")
        return
    _print_runs(rows)


def _print_runs(rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "when", "paper", "preset, changed", title=f"runs: {len(rows):,}", title_justify="left")
    table.add_column("seed", justify="right")
    table.add_column("outcome")
    table.add_column("s", justify="right")
    for name in ("commit", "files", "folder"):
        table.add_column(name, overflow="fold")
    for row in rows:
        turned = [*filter(None, [row["preset"]]), *(f"{name}={value}" for name, value in row["changed"].items())]
        commit = row["commit"] and row["commit"][:8] + "+" * row["commit"].endswith("+")
        state = {None: "no hashes", "as written": "as written"}.get(row["files"], "NOT as written")
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:,.0f}"
        cells = [row["id"], row["when"][:16].replace("T", " "), row["paper"], ", ".join(turned) or "defaults", str(row["seed"])]
        cells += [row["outcome"] or "-", seconds, commit or "-", state, row["folder"]]
        table.add_row(*map(Text, cells))
    _console().print(table)
    for row in rows:
        if row["files"] not in (None, "as written"):
            typer.echo(f"{row['id']}: {row['files']}")
        if row["thumbnails"]:
            typer.echo(f"{row['id']}, pictures: {' '.join(row['thumbnails'])}")


@app.command()
def diff(
    run_a: Annotated[str, typer.Argument(help="a run's folder, or an id that vidistill runs prints")],
    run_b: Annotated[str, typer.Argument(help="another one")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print what differs between two runs, and nothing else; exit code 0 when only clocks differ, else 1."""
    import json

    from vidistill.lab import history

    a, b = (history.find_run(name) for name in (run_a, run_b))
    found, spent = history.differences(a, b), history.clocks(a, b)
    for run in (a, b):
        if run.files != "as written":
            _complain(f"{run.id}: {run.files or 'kept no hashes of its files'}")
        if not run.report:
            _complain(f"{run.id}: no report of this version in {run.folder}, so results are not compared")
    if as_json:
        typer.echo(json.dumps({"a": str(a.folder), "b": str(b.folder), "differences": found, "clocks": spent}, indent=2))
        raise typer.Exit(1 if found else 0)
    if found:
        from rich.table import Table
        from rich.text import Text

        table = Table("what", title=f"a: {a.id} {a.folder}\nb: {b.id} {b.folder}", title_justify="left")
        for name in ("a", "b", "b against a"):
            table.add_column(name, overflow="fold")
        for row in history.difference_rows(found, a.report["score"]["digits"] if a.report else 1):
            table.add_row(*map(Text, row))
        _console().print(table)
    else:
        typer.echo(f"{a.folder} and {b.folder}: nothing differs but clocks")
    if a.commit == b.commit and (a.commit or "").endswith("+"):
        typer.echo("both were made from the same commit with changes that it does not hold: the code may differ")
    typer.echo("clocks: " + ", ".join(f"{name} {one} and {other}" for name, (one, other) in spent.items()))
    raise typer.Exit(1 if found else 0)


@app.command("open")
def open_run(
    run: Annotated[str, typer.Argument(help="a run's folder, or an id that vidistill runs prints")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="first port to try")] = 8888,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="do not open a browser")] = False,
    print_command: Annotated[bool, typer.Option("--print-command", help="only print what would be started")] = False,
) -> None:
    """Open a run's executed notebook in JupyterLab; what is saved there is no longer what the run wrote, and vidistill runs says so."""
    from vidistill.lab import history

    found = history.find_run(run)
    if found.notebook is None:
        raise InputError(f"run {found.id} in {found.folder} has no notebook: vidistill reproduce {found.paper} makes one; open report.html")
    _jupyter(found.folder.resolve(), found.notebook.name, port, no_browser, print_command)


@app.command()
def recall(
    file: Annotated[Path, typer.Argument(help="a clip that a run kept, or the JSON beside it")],
    seed: Annotated[str, typer.Option(help="same: the clip again, new: another one")] = "same",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="turn one knob; may be repeated")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the new run [default: one of its own in runs/recall]")] = None,
    run_it: Annotated[bool, typer.Option("--run", help="run the command, too")] = False,
) -> None:
    """Print the command that makes a clip again; the clip alone is enough, and so is the JSON beside it."""
    from vidistill.lab.recall import recall as recalled
    from vidistill.lab.recall import same_frames

    wanted = recalled(file, seed, _settings(settings or [], "--set"), out)
    for note in wanted.notes:
        _complain(note)
    typer.echo(wanted.command)
    if not run_it:
        _complain(f"the clip will be {wanted.clip}")
        return
    data, device = Path(wanted.data) if wanted.data else None, Device(choose("device", wanted.device or "auto", list(Device)))
    run(wanted.paper, data, wanted.layout, settings=wanted.turned, out=wanted.out, seed=wanted.seed, device=device)
    typer.echo(f"clip: {wanted.clip}")
    if seed == "same" and not settings and file.suffix == ".mp4" and file.is_file():
        same = "the same frames as" if same_frames(file, wanted.clip) else "OTHER frames than"
        typer.echo(f"it has {same} {file}")


# vidistill lab, serve, doctor


def _needs(package: str, extra: str) -> None:
    from vidistill.lab.record import installed

    if installed(package) is None:
        raise InputError(f"this needs {package}: pip install 'vidistill[{extra}]'")


def _workspace() -> tuple[Path, Path]:
    """Return ``(root, notebooks)`` to open: the checkout itself, or a copy of the installed notebooks in the current folder."""
    source = notebooks_dir()
    if (source.parent / "pyproject.toml").is_file():
        return source.parent, source
    copy = Path("vidistill-notebooks").resolve()
    for path in source.rglob("*.ipynb"):  # an installed package is not a place to work in; what the user changed is kept
        target = copy / path.relative_to(source)
        if not target.exists():
            ensure_folder(target.parent)
            shutil.copyfile(path, target)
    return copy, copy


def _start(command: list[str], changes: dict[str, str], print_command: bool) -> None:
    if print_command:
        typer.echo(shlex.join([*(f"{name}={value}" for name, value in changes.items()), *command]))
        return
    environment = {**os.environ, **changes}
    if os.name == "posix":  # the server takes this process over, with its Ctrl-C
        os.execve(command[0], command, environment)
    raise typer.Exit(subprocess.run(command, env=environment).returncode)


@app.command()
def lab(
    port: Annotated[int, typer.Option(min=1, max=65535, help="first port to try")] = 8888,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="do not open a browser")] = False,
    print_command: Annotated[bool, typer.Option("--print-command", help="only print what would be started")] = False,
) -> None:
    """Open JupyterLab on the start notebook; works without a network, reachable from this machine only."""
    root, notebooks = _workspace()
    _jupyter(root, (notebooks / START).relative_to(root).as_posix(), port, no_browser, print_command)


def _jupyter(root: Path, start: str, port: int, no_browser: bool, print_command: bool) -> None:
    """Start JupyterLab in ``root`` on the notebook ``start``, with the project's own settings: loopback only, nothing fetched."""
    _needs("jupyterlab", "glass")
    port = free_port(port)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        *(["--no-browser"] if no_browser else []),
    ]
    command += [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{quote(start)}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; the server listens on loopback only
        command.append("--allow-root")
    own = str(Path(__file__).with_name("jupyter"))
    paths = os.pathsep.join([own, *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])])
    # Panel's scripts and style sheets come from the disk, not from a CDN, so widgets show without a network.
    _start(command, {"JUPYTER_CONFIG_PATH": paths, "PANEL_INLINE": "true", "PANEL_CDN_ROOT": panel_root(port)}, print_command)


@app.command()
def serve(
    page: Annotated[str, typer.Argument(help="a page of notebooks/explore, or a notebook")] = "latent_vdd",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5006,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="do not open a browser")] = False,
    print_command: Annotated[bool, typer.Option("--print-command", help="only print what would be started")] = False,
) -> None:
    """Show a page as an app, without its code; reachable from this machine only."""
    from vidistill.lab.explore import PAGES, notebook_of

    _needs("panel", "glass")
    notebook = notebook_of(page) if page in PAGES else Path(page)
    if not notebook.is_file():
        raise InputError(f"there is no notebook {notebook}: give the path of one, or a page; {nearest(page, PAGES)}")
    command = [sys.executable, "-m", "panel", "serve", str(notebook), "--address", "127.0.0.1", "--port", str(port)]
    command += ["--allow-websocket-origin", f"127.0.0.1:{port}", "--allow-websocket-origin", f"localhost:{port}"]
    _start([*command, *([] if no_browser else ["--show"])], {}, print_command)


@app.command()
def doctor() -> None:
    """Say what is installed, which device there is and what is missing, with the one line that mends it."""
    from rich.table import Table
    from rich.text import Text

    from vidistill.lab.doctor import checks

    found = checks()
    table = Table("", "what", "found", "mend", title="vidistill doctor", title_justify="left")
    for check in found:
        state = "ok" if check.ok else "BROKEN" if check.core else "missing"
        table.add_row(state, check.what, Text(check.found), Text(check.mend))
    _console().print(table)
    broken = [check.what for check in found if check.core and not check.ok]
    typer.echo(f"core: {'broken (' + ', '.join(broken) + ')' if broken else 'fine'}")
    raise typer.Exit(1 if broken else 0)


if __name__ == "__main__":
    main()
