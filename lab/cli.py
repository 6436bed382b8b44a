"""The command line. Bad input is one line on stderr and exit code 2; what was finished before a stop is used by the next run.

Light at import: torch and the rooms are imported inside the commands, so that ``vidistill --help`` answers at once.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from vidistill.errors import Cancelled, InputError
from vidistill.lab.commands import data, doors, models, nights, papers, render, reproduce, runs, sweep, zoo
from vidistill.lab.runner import RunFailed
from vidistill.lab.terminal import complain

STOPPED = "stopped; the same command resumes"


class OneLineErrors(TyperGroup):
    """A command group that turns the errors a user can cause into one line and an exit code; any other is a bug and shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            complain(f"error: {error}")
            raise typer.Exit(2) from None
        except RunFailed as error:
            complain(f"error: {error}")
            raise typer.Exit(1) from None
        except (Cancelled, KeyboardInterrupt):
            complain(STOPPED)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="vidistill: a lab for video distillation and guided video sampling.",
)
for command in (
    papers.run,
    papers.explore,
    papers.knobs,
    reproduce.reproduce,
    reproduce.cards,
    sweep.sweep,
    nights.nightly,
    models.train,
    models.distill,
):
    app.command()(command)
for command in (runs.runs, runs.diff, runs.recall, render.render, doors.lab, doors.serve, doors.doctor):
    app.command()(command)
app.command("open")(runs.open_run)

data_app = typer.Typer(no_args_is_help=True, help="Look at a data set, write Motion World, decode clips ahead of a run.")
app.add_typer(data_app, name="data")
for command in (data.inspect, data.world, data.prepare):
    data_app.command()(command)

zoo_app = typer.Typer(no_args_is_help=True, help="The models that ship with the package, and the cards of what was measured on them.")
app.add_typer(zoo_app, name="zoo")
zoo_app.command("list")(zoo.list_models)
zoo_app.command()(zoo.card)


def main() -> None:
    """Entry point of the ``vidistill`` command."""
    app()


if __name__ == "__main__":
    main()
