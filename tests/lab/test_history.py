"""Finished runs: real small ones are listed, filtered, told apart from what is no run, compared and deleted."""

import json
import os
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidistill.data.world import factors, render, write_clip, write_world
from vidistill.errors import InputError
from vidistill.lab import cli, history

TINY = ["frames=8", "gap=2", "size=48", "crop=center", "instances=2", "width=4", "steps=2", "seeds=2", "arms=method"]


def call(*arguments, answer=None):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=answer)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs of one paper on a tiny world: a, the same again, and another rank ratio with a seed that a shares."""
    root = tmp_path_factory.mktemp("made")
    write_world(root / "world", seed=3, per_class_train=3, per_class_test=1, frames=16, size=64, classes=("slide", "spin"))
    turned = {"a": [], "again": [], "other": ["--set", "rank_ratio=0.25", "--seed", "1"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(root / "cache"))
        for name, more in turned.items():
            settings = [part for pair in TINY for part in ("--set", pair)]
            place = ["--data", root / "world", "--out", root / "runs" / name, "--device", "cpu"]
            done = call("run", "latent_vdd", *place, "--preset", "quick", *settings, *more)
            assert done.exit_code == 0, done.output
    return root / "runs"


@pytest.fixture
def runs(made, tmp_path, monkeypatch):
    """A copy of the three runs under ``runs/`` of the current folder."""
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "runs")
    return Path("runs")


def listed(*arguments):
    done = call("runs", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_history_says_what_was_turned_and_what_came_of_it(runs):
    rows = {Path(row["folder"]).name: row for row in listed()}
    assert rows.keys() == {"a", "again", "other"}
    assert [row["when"] for row in listed()] == sorted((row["when"] for row in rows.values()), reverse=True)
    other = rows["other"]
    assert (other["paper"], other["preset"], other["seed"], other["files"]) == ("latent_vdd", "quick", 1, "as written")
    assert other["changed"]["rank_ratio"] == 0.25
    assert "rank_ratio" not in rows["a"]["changed"], "the preset's own values are not changes"
    assert "crop" not in other["changed"], "what was said and is the preset's is no change"
    assert other["outcome"].startswith("method ")
    assert "against random: " in other["outcome"]
    assert len({row["id"] for row in rows.values()}) == 3
    done = call("runs")
    assert done.exit_code == 0, done.output
    assert all(row["id"] in done.stdout for row in rows.values())


def test_filters_choose_runs(runs):
    names = lambda *arguments: sorted(Path(row["folder"]).name for row in listed(*arguments))  # noqa: E731
    assert names("--where", "rank_ratio=0.25") == names("--where", "seed=1") == ["other"]
    assert names("--where", "width=4", "--where", "seed=0") == ["a", "again"]
    assert names("--paper", "gvd") == names("--since", "2999-01-01") == []
    assert names("--since", "1d") == names("--paper", "latent_vdd") == ["a", "again", "other"]
    now = datetime(2026, 1, 10, tzinfo=UTC)
    assert history.since("7d", now) == datetime(2026, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runs", "--paper", "latent_vd"], "error: unknown paper 'latent_vd': did you mean 'latent_vdd'?"),
        (["runs", "--since", "yesterday"], "error: --since 'yesterday' is no time: write a date (2026-11-22)"),
        (["runs", "--where", "rank_rato=1"], "error: --where: unknown knob 'rank_rato': did you mean 'rank_ratio'?"),
        (["runs", "--where", "rank_ratio=7"], "error: knob rank_ratio=7.0 is not allowed"),
        (["runs", "--where", "rank_ratio"], "error: --where 'rank_ratio' is not of the form name=value"),
        (["runs", "nowhere"], "error: there is no folder nowhere"),
        (["runs", "--delete", "zz"], "error: no run 'zz', neither a folder nor an id in runs"),
        (["runs", "--delete", ".", "--yes"], "error: . is no run: it holds neither record.json nor"),
        (["diff", "runs/a", "runs/b"], "error: no run 'runs/b', neither a folder nor an id in runs"),
        (["open", "runs/a"], "error: run "),
    ],
)
def test_bad_input_is_one_line(runs, arguments, line):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_an_edited_result_is_said_in_the_history(runs):
    with (runs / "a" / "report.json").open("a") as file:
        file.write(" ")
    row = next(row for row in listed() if row["folder"] == "runs/a")
    assert "report.json was changed after the run wrote it" in row["files"]
    assert "NOT as written" in call("runs").stdout


def test_what_is_no_run_is_left_out_with_a_line(runs):
    for name, text in {"text": "no JSON", "list": "[]", "foreign": '{"paper": "x", "run": 1}', "pickle": "\x80"}.items():
        (runs / name).mkdir()
        (runs / name / "record.json").write_text(text)
    done = call("runs", "--json")
    assert len(json.loads(done.stdout)) == 3
    assert done.stderr.count("left out: ") == 4
    assert "foreign/record.json is not the record of a run" in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"command": "vidistill run 'a"},
        {"started": "noon"},
        {"seed": "1"},
        {"outputs": {"a": 1}},
        {"seconds": 3},
        {"source": "abc"},
        {"paper": None},
    ],
)
def test_an_edited_record_is_left_out_with_a_line(runs, change):
    path = runs / "a" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    done = call("runs", "--json")
    assert (done.exit_code, len(json.loads(done.stdout))) == (0, 2)
    assert done.stderr.startswith("left out: runs/a/record.json is not the record of a run")


def test_a_report_of_another_form_is_no_result(runs):
    (runs / "a" / "report.json").write_text('{"paper": "latent_vdd", "arms": [{"name": "method", "score": 3}]}')
    row = next(row for row in listed() if row["folder"] == "runs/a")
    assert row["outcome"] == ""
    done = call("diff", runs / "a", runs / "again")
    assert done.exit_code == 1
    assert "no report of this version in runs/a, so results are not compared" in done.stderr


def test_clips_have_pictures(runs):
    write_clip(runs / "a" / "clips" / "method" / "0000.mp4", render([factors(0, 0)], 4, 32)[0])
    (runs / "a" / "clips" / "broken").mkdir()
    (runs / "a" / "clips" / "broken" / "0000.mp4").write_bytes(b"no clip")
    pictures = next(row["thumbnails"] for row in listed() if row["folder"] == "runs/a")
    assert len(pictures) == 1
    assert Path(pictures[0]).read_bytes().startswith(b"\x89PNG")


def test_diff_of_the_same_run_finds_only_clocks(runs):
    done = call("diff", runs / "a", runs / "again", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["differences"] == {}
    assert "seconds" in told["clocks"]
    assert "nothing differs but clocks" in call("diff", runs / "a", runs / "again").stdout


def test_diff_shows_differences_only_with_the_paired_effect(runs):
    done = call("diff", runs / "a", runs / "other", "--json")
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)["differences"]
    assert found.keys() <= {"knobs", "seed", "arms", "files", "commit"}
    assert found["knobs"]["rank_ratio"][1] == 0.25
    assert list(found["knobs"]) == ["rank_ratio"]
    assert found["seed"] == [0, 1]
    row = found["arms"]["method"]
    assert row["bytes"][0]["total"] > row["bytes"][1]["total"]
    assert "clips" not in row
    if "score" in row:  # seeds 0 and 1 against seeds 1 and 2: one is shared
        a, b = (json.loads((runs / name / "report.json").read_text())["arms"][0]["score"]["values"] for name in ("a", "other"))
        assert row["effect"]["values"] == [b[0] - a[1]]
    shown = call("diff", runs / "a", runs / "other")
    assert shown.exit_code == 1
    assert "knobs: rank_ratio" in shown.stdout
    assert "knobs: instances" not in shown.stdout


def test_the_effect_is_paired_by_seed(runs):
    """Known numbers: the seeds 1 and 2 are shared, and b is higher by 2 and 4 there."""
    changed = json.loads((runs / "again" / "report.json").read_text())
    base = json.loads((runs / "a" / "report.json").read_text())
    for report, values in ((base, [1.0, 2.0, 3.0]), (changed, [4.0, 7.0, 0.0])):
        report["arms"][0]["score"] = {"mean": 0.0, "low": None, "high": None, "std": None, "n": 3, "values": values}
    a, b = history.read_run(runs / "a"), history.read_run(runs / "again")
    a = history.Run(a.folder, a.id, {**a.record, "seed": 0}, base)
    b = history.Run(b.folder, b.id, {**b.record, "seed": 1}, changed)
    found = history.differences(a, b)
    effect = found["arms"]["method"]["effect"]
    assert (effect["mean"], effect["n"], effect["values"]) == (3.0, 2, [2.0, 4.0])
    row = next(row for row in history.difference_rows(found) if row[0] == "arm method: score")
    assert row[1:3] == ["0.0", "0.0"], "means are those of the reports"
    assert row[3].startswith("+3.0 [")
    assert row[3].endswith("]: cannot tell, 2 shared seeds")


def test_a_run_is_meant_by_the_first_digits_of_its_id(runs):
    row = listed()[0]
    assert history.find_run(row["id"]).folder == history.find_run(row["folder"]).folder == Path(row["folder"])
    assert history.find_run(f"{row['folder']}/record.json").id == row["id"]
    shutil.copytree(row["folder"], runs / "copy")
    with pytest.raises(InputError, match=rf"run '{row['id']}' is not clear in runs: it may be"):
        history.find_run(row["id"])


def test_delete_asks_and_takes_the_run_alone(runs):
    row = next(row for row in listed() if row["folder"] == "runs/a")
    kept = call("runs", "--delete", row["id"], answer="n\n")
    assert kept.exit_code == 1
    assert "delete run" in kept.stdout
    assert (runs / "a" / "record.json").is_file()
    assert call("runs", "--delete", row["id"]).exit_code == 1, "nobody there to ask is no yes"
    assert (runs / "a" / "record.json").is_file()
    assert call("runs", "--delete", row["id"], "--yes").stdout == "deleted: runs/a\n"
    assert sorted(os.listdir(runs)) == ["again", "other"]


def test_delete_refuses_what_a_run_did_not_write(runs, monkeypatch):
    (runs / "a" / "thesis.tex").write_text("mine")
    done = call("runs", "--delete", runs / "a", "--yes")
    assert (done.exit_code, "holds what no run writes: thesis.tex" in done.stderr) == (2, True)
    (runs / "a" / "thesis.tex").unlink()
    (runs / "link").symlink_to("a")
    assert "is a link" in call("runs", "--delete", runs / "link", "--yes").stderr
    monkeypatch.chdir(runs / "a")
    assert "the folder you work in" in call("runs", "--delete", ".", "--yes").stderr
    assert Path("record.json").is_file()


def test_an_executed_notebook_is_a_run_and_opens(runs):
    """Without record.json papermill's own words count; the result is a report, as the reproduce notebooks write it."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("papermill")
    from vidistill.lab.runner import run_notebook

    report = runs / "a" / "report.json"
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    parameters = 'tier: str = "toy"\nseed: int = 0\nout_json: str = ""'
    notebook.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook.cells += [nbformat.v4.new_code_cell(f"import shutil; shutil.copyfile({str(report.resolve())!r}, out_json)")]
    nbformat.write(notebook, runs / "source.ipynb")
    run_notebook(runs / "source.ipynb", runs / "a & b" / "latent_vdd.ipynb", {"seed": 4})
    row = next(row for row in listed() if row["folder"] == "runs/a & b")
    assert (row["paper"], row["seed"], row["files"], row["command"]) == ("latent_vdd", 4, None, None)
    assert row["outcome"] == next(other["outcome"] for other in listed() if other["folder"] == "runs/a")
    assert "no record.json" in call("runs", "--delete", row["id"], "--yes").stderr
    pytest.importorskip("jupyterlab")
    done = call("open", row["id"], "--print-command", "--no-browser")
    assert done.exit_code == 0, done.output
    words = shlex.split(done.stdout)
    assert f"--ServerApp.root_dir={(runs / 'a & b').resolve()}" in words
    assert "--LabApp.default_url=/lab/tree/latent_vdd.ipynb" in words
    assert any(word.startswith("JUPYTER_CONFIG_PATH=") for word in words)
