"""``vidistill zoo``: the models that ship with the package, and the cards of what was measured on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidistill.errors import InputError
from vidistill.lab.terminal import Device, OnDevice, console, progress_bars, torch_device


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
    console().print(table)


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
        with progress_bars() as bars:
            new = zoo_card.measure_model(one, clips=clips, device=torch_device(device), data=data, progress=bars)
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
    console().print(table)
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
