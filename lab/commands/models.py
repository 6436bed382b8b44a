"""``vidistill train, distill``: make a model of the zoo by its recipe, and distil a model into few steps."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from vidistill.errors import InputError, choose
from vidistill.files import ensure_folder
from vidistill.lab.terminal import Device, OnDevice, Seed, console, progress_bars, split_settings, stop_at_next_step, torch_device

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
    with progress_bars() as bars, stop_at_next_step(bars) as progress:
        record = recipe(out, minutes=minutes, device=torch_device(device), seed=seed, progress=progress, **given)
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        typer.echo(json.dumps(record, indent=2, default=str))
        typer.echo(f"model: {out / 'model'}\nmeasure it: vidistill zoo card {shlex.quote(str(out / 'model'))}")


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

    changes = {name: value_of(name, text) for name, text in split_settings(settings or [], "--set").items()}
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
        device=torch_device(device),
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
        console().print(table)
    if plan:
        return
    from vidistill.lab.distill import distill as work

    out = ensure_folder(out or Path("runs", Path(recipe).stem))
    with progress_bars() as bars, stop_at_next_step(bars if first else lambda *_: None) as progress:
        record = work(wanted, out, progress=progress)
    if not first:
        return
    typer.echo(json.dumps({name: value for name, value in record.items() if name not in ("recipe", "skipped")}, indent=2, default=str))
    for bad in record["skipped"]:
        typer.echo(f"left out: {bad['name']}: {bad['reason']}")
    typer.echo(f"student: {out / 'model'}")
