"""``vidistill reproduce, cards``: a paper's notebook judged, the whole suite, and where every claim stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidistill.errors import InputError, choose
from vidistill.files import ensure_folder
from vidistill.lab.headless import run_headless
from vidistill.lab.runner import notebooks_dir, parameters_of, parse_parameters
from vidistill.lab.terminal import Tier, complain, console, progress_bars, split_settings

README = "README.md"


def reproduce(
    paper: Annotated[str | None, typer.Argument(help="a paper, e.g. latent_vdd; none with --all")] = None,
    every: Annotated[bool, typer.Option("--all", help="the suite: every run of every paper, and a page of all claims")] = False,
    tier: Annotated[Tier | None, typer.Option(help="toy: CPU minutes; small: one GPU hour on real clips; full: the paper's scale")] = None,
    run: Annotated[str, typer.Option(help="tier toy: which run of the paper's protocol")] = "main",
    quick: Annotated[bool, typer.Option("--quick", help="tier toy in its shortest form, to see that all can be computed")] = False,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="a parameter of the notebook; repeatable")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for executed notebooks and results [default: runs/reproduce/PAPER, runs/suite]")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds for the whole notebook")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="--all: notebooks at a time, each with one thread")] = 2,
    write: Annotated[bool, typer.Option("--write", help="--all: keep the results with the project, and write its tables")] = False,
) -> None:
    """Run a paper's reproduction notebook headless, every number beside its control; or, with --all, all of them."""
    if every == (paper is not None):
        raise InputError("give the name of one paper, or --all")
    if not every:
        if write:
            raise InputError("--write keeps the results of a whole suite: it goes with --all")
        _one(str(paper), tier, run, quick, parameters or [], out, timeout)
        return
    if parameters or timeout or run != "main":
        raise InputError("--all takes its parameters from the protocols in lab/cards: leave out -p, --run and --timeout")
    if tier in (Tier.small, Tier.full):
        _print_plans(tier)
        return
    _suite(out or Path("runs", "suite"), quick, jobs, write)


def _one(paper: str, tier: Tier | None, run: str, quick: bool, parameters: list[str], out: Path | None, timeout: float | None) -> None:
    from vidistill.lab import presets
    from vidistill.lab.cards import load_protocol
    from vidistill.lab.report import print_report

    knobs = presets.knobs_of(paper)
    notebook = notebooks_dir() / "reproduce" / f"{paper}.ipynb"
    texts = split_settings(parameters, "-p")
    toy = tier is Tier.toy
    if not toy and (quick or run != "main"):
        raise InputError("--quick and --run are of tier toy: add --tier toy")
    if tier:
        texts["tier"] = tier.value
    declared, values = parameters_of(notebook), parse_parameters(notebook, texts, knobs)
    if toy:  # what the protocol says first, then what the user turned
        values = load_protocol(paper).parameters(run, quick) | values
    elif tier:
        base = knobs.resolve(presets.preset(paper, presets.TIERS[tier.value], knobs))
        values = {name: value for name, value in base.items() if name in declared} | values
    out = ensure_folder(out or Path("runs", "reproduce", paper))
    if "out" in declared:
        values.setdefault("out", str(out))
    command = ["vidistill", "reproduce", paper, *(["--tier", tier.value] if tier else [])]
    command += [*(["--run", run] if run != "main" else []), *(["--quick"] if quick else [])]
    command += [part for pair in parameters for part in ("-p", pair)] + ["--out", str(out)]
    done = run_headless(paper, notebook, out, values, knobs, timeout, command)
    result = done["result"]
    if isinstance(result, dict) and {"paper", "arms", "data", "notes", "extra"} <= result.keys():
        print_report(result, console())
    typer.echo(f"notebook: {done['output']}\nresult: {done['sidecar']}\nrecord: {out / 'record.json'}")


def _suite(out: Path, quick: bool, jobs: int, write: bool) -> None:
    from vidistill.lab import suite
    from vidistill.lab.standing import keep, standings

    checkout = notebooks_dir().parent
    if write and not (checkout / README).is_file():
        raise InputError("--write keeps results with the project: run it in a checkout, not in an installed package")
    with progress_bars() as bars:
        status = suite.run_suite(out, quick=quick, jobs=jobs, progress=bars)
    _print_summary({paper: standings(paper, held | {"quick": quick}) for paper, held in status["papers"].items()})
    typer.echo(f"page: {out / suite.PAGE}\nnumbers: {out / suite.STATUS}")
    for line in status["failed"]:
        complain(f"failed: {line}")
    if write:
        for path in [*keep(status), *_write_tables(checkout)]:
            typer.echo(f"kept: {path}")
    raise typer.Exit(1 if status["failed"] else 0)


def _write_tables(checkout: Path) -> list[Path]:
    from vidistill.lab.standing import write_tables

    return write_tables(checkout / README)


def _print_plans(tier: Tier) -> None:
    from rich.table import Table
    from rich.text import Text

    from vidistill.lab.suite import plans

    rows = plans(tier.value)
    table = Table(title=f"tier {tier.value}: not attempted here; what each paper takes", title_justify="left")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    console().print(table)


def _print_summary(found: dict[str, Any]) -> None:
    from rich.table import Table

    from vidistill.lab.standing import summary_rows

    header, rows = summary_rows(found)
    table = Table(*header, title="where every claim stands", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def cards(
    paper: Annotated[str | None, typer.Argument(help="a paper; all when left out")] = None,
    write: Annotated[bool, typer.Option("--write", help="write the tables of the README and of lab/results anew")] = False,
) -> None:
    """Print where every claim stands by the results that are kept with the project: verdicts by rule, and what is stale."""
    from rich.table import Table
    from rich.text import Text

    from vidistill.lab import presets
    from vidistill.lab.standing import claim_rows, standings

    papers = [choose("paper", paper, presets.PAPERS)] if paper else list(presets.PAPERS)
    found = {name: standings(name) for name in papers}
    for name in papers if paper else ():
        header, rows = claim_rows(found[name])
        table = Table(*header, title=name, title_justify="left")
        for row in rows:
            table.add_row(*map(Text, row))
        console().print(table)
    _print_summary(found)
    if write:
        for path in _write_tables(notebooks_dir().parent):
            typer.echo(f"written: {path}")
