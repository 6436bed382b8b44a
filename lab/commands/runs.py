"""``vidistill runs, diff, open, recall``: what was run, what differs, the notebook again, and the command of a kept clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vidistill.errors import InputError, choose
from vidistill.lab.commands import papers
from vidistill.lab.commands.doors import jupyter
from vidistill.lab.terminal import Device, complain, console, split_settings


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
    found = history.choose_runs(history.find_runs(places, complain), paper, since, split_settings(where or [], "--where"))
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
    console().print(table)
    for row in rows:
        if row["files"] not in (None, "as written"):
            typer.echo(f"{row['id']}: {row['files']}")
        if row["thumbnails"]:
            typer.echo(f"{row['id']}, pictures: {' '.join(row['thumbnails'])}")


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
            complain(f"{run.id}: {run.files or 'kept no hashes of its files'}")
        if not run.report:
            complain(f"{run.id}: no report of this version in {run.folder}, so results are not compared")
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
        console().print(table)
    else:
        typer.echo(f"{a.folder} and {b.folder}: nothing differs but clocks")
    if a.commit == b.commit and (a.commit or "").endswith("+"):
        typer.echo("both were made from the same commit with changes that it does not hold: the code may differ")
    typer.echo("clocks: " + ", ".join(f"{name} {one} and {other}" for name, (one, other) in spent.items()))
    raise typer.Exit(1 if found else 0)


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
    jupyter(found.folder.resolve(), found.notebook.name, port, no_browser, print_command)


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

    wanted = recalled(file, seed, split_settings(settings or [], "--set"), out)
    for note in wanted.notes:
        complain(note)
    typer.echo(wanted.command)
    if not run_it:
        complain(f"the clip will be {wanted.clip}")
        return
    data, device = Path(wanted.data) if wanted.data else None, Device(choose("device", wanted.device or "auto", list(Device)))
    papers.run(wanted.paper, data, wanted.layout, settings=wanted.turned, out=wanted.out, seed=wanted.seed, device=device)
    typer.echo(f"clip: {wanted.clip}")
    if seed == "same" and not settings and file.suffix == ".mp4" and file.is_file():
        same = "the same frames as" if same_frames(file, wanted.clip) else "OTHER frames than"
        typer.echo(f"it has {same} {file}")
