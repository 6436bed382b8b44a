"""The whole list of what must not pass for a result, through the command line: one line on stderr, exit code 1 or 2, nothing left to read.

A paper called toy has a notebook, a card, a protocol and a preset of its own; each test breaks one of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from house import CARD, House, protocol_of
from typer.testing import CliRunner, Result

from vidistill.knobs import Knob, Knobs
from vidistill.lab import cli, standing
from vidistill.lab.cards import Card, judge
from vidistill.measure import interval

KNOBS = Knobs("toy", Knob("instances", 2, "clips per class", low=1, high=9))
PARAMETERS = """tier: str = "toy"  # how much
instances: int = 2  # clips per class
out: str = ""  # where parts go
out_json: str = ""  # where the result goes"""
PROTOCOL = protocol_of("[runs.main]\ninstances = 3\n[quick.main]")
ROW = {"card": "toy-01-up", **judge(Card("toy-01-up", **CARD), interval([2.0, 3.0, 4.0, 5.0, 6.0]), interval([1.0] * 5))}
RESULT = {"extra": {"verdicts": [ROW]}}
WRITE = f"import json\nwith open(out_json, 'w') as file:\n    json.dump({RESULT!r}, file)"


@pytest.fixture
def toy(monkeypatch, tmp_path) -> House:
    own = House(tmp_path, monkeypatch, KNOBS)
    own.protocol(PROTOCOL)
    own.card("01-up")
    own.cells(PARAMETERS, WRITE)
    return own


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def one(out: Path, *more: Any) -> Result:
    """Run the paper's notebook alone."""
    return call("reproduce", "toy", "--tier", "toy", "--out", out, *more)


def suite(out: Path, *more: Any) -> Result:
    """Run everything."""
    return call("reproduce", "--all", "--tier", "toy", "--out", out, *more)


def last_line(done: Result) -> str:
    """Return what was said last, which is the error; only progress may stand before it."""
    lines = done.stderr.splitlines()
    assert not [line for line in lines[:-1] if line.startswith(("error", "Traceback"))], done.stderr
    return lines[-1]


def test_whole_it_passes_both_ways(toy, tmp_path) -> None:
    done = one(tmp_path / "one")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "one" / "toy.json").read_text()) == RESULT
    done = suite(tmp_path / "suite")
    assert done.exit_code == 0, done.output
    status = json.loads((tmp_path / "suite" / "status.json").read_text())
    assert [row["verdict"] for row in status["papers"]["toy"]["cards"]] == ["direction holds"]
    assert status["failed"] == []


HIDDEN = PARAMETERS.replace("# clips per class", "# clips per class, 1 = few")
BROKEN = {
    "an equals sign in a parameter's comment": (
        lambda toy: toy.cells(HIDDEN, WRITE),
        "line 2 of the parameters cell has '=' in its comment",
    ),
    "no parameters tag": (lambda toy: toy.cells(PARAMETERS, WRITE, tag="parameter"), "no cell tagged 'parameters'"),
    "a card without a control": (lambda toy: toy.card("01-up", control=None), "toy-01-up.toml lacks control"),
    "a control without a name": (lambda toy: toy.card("01-up", control=""), "control='' must be text"),
    "a misspelt entry of a card": (lambda toy: toy.card("01-up", margn="1"), "unknown entry 'margn': did you mean 'margin'"),
    "a card of a run that is not there": (
        lambda toy: toy.card("01-up", run="mian"),
        "unknown run of card toy-01-up 'mian': did you mean 'main'",
    ),
    "no such notebook": (lambda toy: toy.notebook.unlink(), "toy.ipynb"),
}
"""What stops before anything runs: how it is broken, and what is said."""


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("way", [one, suite])
def test_bad_files_stop_before_anything_runs(toy, tmp_path, way, broken) -> None:
    breaks, words = BROKEN[broken]
    breaks(toy)
    out = tmp_path / "out"
    done = way(out)
    assert done.exit_code == 2, done.output
    line = last_line(done)
    assert line.startswith("error: ")
    assert words in line
    assert not list(out.rglob("*.json")), "a result stands there"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-p", "instanses=3"], "error: unknown parameter 'instanses' for toy.ipynb: did you mean 'instances'?"),
        (["-p", "instances=30"], "error: knob instances=30 is not allowed: it must be a whole number in [1, 9]"),
        (["-p", "instances=many"], "error: knob instances='many' is not allowed"),
        (["-p", "instances"], "error: -p 'instances' is not of the form name=value"),
        (["-p", "out_json=x"], "error: parameter out_json is set by the runner"),
    ],
)
def test_a_parameter_that_is_not_one_stops_before_anything_runs(toy, tmp_path, arguments, line) -> None:
    done = one(tmp_path / "out", *arguments)
    assert done.exit_code == 2, done.output
    assert last_line(done).startswith(line)
    assert not list((tmp_path / "out").rglob("*.json"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("instances = 3", "instanses = 3", "unknown parameter 'instanses' for toy.ipynb: did you mean 'instances'?"),
        ("instances = 3", "instances = 30", "knob instances=30 is not allowed: it must be a whole number in [1, 9]"),
        ("version = 1", 'version = "1"', "version='1' must be a number"),
        ("[quick.main]", "[quick.mian]", "every run needs both"),
        ('needs = "a GPU"', "", "[full] lacks needs"),
    ],
)
def test_a_broken_protocol_stops_the_suite_before_anything_runs(toy, tmp_path, old, new, words) -> None:
    toy.protocol(PROTOCOL.replace(old, new))
    done = suite(tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert words in last_line(done)
    assert not list((tmp_path / "out").rglob("*.json"))


DYING = {
    "a dead kernel": ("import os; os._exit(0)", "cell 3 (import os; os._exit(0)): the kernel died"),
    "a failing cell": ("raise KeyError('gone')", "KeyError: 'gone'"),
    "no result": ("pass", "wrote no result"),
    "no JSON": ("with open(out_json, 'w') as file:\n    file.write('{')", "not JSON"),
}


@pytest.mark.parametrize("dies", DYING)
@pytest.mark.parametrize(("way", "folder"), [(one, ""), (suite, "toy-main")])
def test_a_notebook_without_a_result_is_a_failure(toy, tmp_path, way, folder, dies) -> None:
    cell, words = DYING[dies]
    toy.cells(PARAMETERS, cell)
    earlier = tmp_path / "out" / folder / "toy.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text(json.dumps(RESULT))
    done = way(tmp_path / "out")
    assert done.exit_code == 1, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert not earlier.exists(), "the earlier result stands there"
    for status in (tmp_path / "out").glob("status.json"):
        held = json.loads(status.read_text())
        assert (held["papers"]["toy"]["cards"], len(held["failed"])) == ([], 1)


def test_a_time_limit_is_a_failure_and_ends_the_kernel(toy, tmp_path) -> None:
    pid = tmp_path / "pid"
    toy.cells(PARAMETERS, f"import os, time\nwith open({str(pid)!r}, 'w') as file:\n    file.write(str(os.getpid()))\ntime.sleep(60)")
    done = one(tmp_path / "out", "--timeout", 3)
    assert done.exit_code == 1, done.output
    assert "still running when the time limit of 3 s was over" in last_line(done)
    assert not list((tmp_path / "out").glob("*.json"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_card_that_nothing_judged_is_a_failure(toy, tmp_path) -> None:
    toy.cells(PARAMETERS, WRITE.replace("toy-01-up", "toy-02-other"))
    done = suite(tmp_path / "out")
    assert done.exit_code == 1, done.output
    assert "nothing judged the card toy-01-up" in done.stderr


@pytest.mark.parametrize("result", [{}, {"extra": []}, [1]])
def test_a_result_without_verdicts_is_a_failure(toy, tmp_path, result) -> None:
    toy.cells(PARAMETERS, f"with open(out_json, 'w') as file:\n    file.write({json.dumps(result)!r})")
    done = suite(tmp_path / "out")
    assert done.exit_code == 1, done.output
    assert "toy-main: " in done.stderr
    assert "verdicts" in done.stderr
    assert len(json.loads((tmp_path / "out" / "status.json").read_text())["failed"]) == 1


def test_an_edited_result_is_a_failure(toy, tmp_path) -> None:
    out = tmp_path / "out"
    assert suite(out).exit_code == 0
    result = out / "toy-main" / "toy.json"
    result.write_text(result.read_text().replace("2.0", "9.0"))
    done = suite(out)
    assert done.exit_code == 1, done.output
    assert "toy.json was changed after the run wrote it (its SHA-256 differs)" in done.stderr
    assert json.loads((out / "status.json").read_text())["papers"]["toy"]["cards"] == []


def test_an_edited_result_is_said_of_a_single_run(toy, tmp_path) -> None:
    out = tmp_path / "out"
    assert one(out).exit_code == 0
    (out / "toy.json").write_text("{}")
    done = call("runs", tmp_path / "out")
    assert "toy.json was changed after the run wrote it (its SHA-256 differs)" in done.output


def test_an_edited_result_of_the_project_is_refused(toy, tmp_path) -> None:
    """Results that are kept with the project are read by people and by the tables alone: an edited number must not become a verdict."""
    assert suite(tmp_path / "out").exit_code == 0
    (kept,) = standing.keep(json.loads((tmp_path / "out" / "status.json").read_text()))
    assert call("cards", "toy").exit_code == 0
    kept.write_text(kept.read_text().replace("6.0", "9.0"))
    done = call("cards", "toy")
    assert done.exit_code == 2, done.output
    assert "toy.json was changed after the suite wrote it" in last_line(done)
