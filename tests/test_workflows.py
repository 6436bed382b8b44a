"""The public CI runs what a person runs: its files are well formed, call what exists, and can do no more than read."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from vidistill.lab import nights

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def when(workflow):
    return workflow[True]  # YAML 1.1 reads the key "on" as true


def jobs(workflow):
    return list(workflow["jobs"].values())


def steps(workflow):
    return [step for job in jobs(workflow) for step in job["steps"]]


def commands(workflow):
    return "\n".join(step["run"] for step in steps(workflow) if "run" in step)


def makefile():
    """Return target -> its lines."""
    parts = re.split(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_there_is_one_for_pushes_and_one_for_nights():
    assert WORKFLOWS.keys() == {"ci", "nightly"}
    assert when(WORKFLOWS["ci"]).keys() == {"push", "pull_request"}
    assert when(WORKFLOWS["nightly"]).keys() == {"schedule", "workflow_dispatch"}
    ((cron,),) = [entry.values() for entry in when(WORKFLOWS["nightly"])["schedule"]]
    assert re.fullmatch(r"\d{1,2} \d{1,2} \* \* \*", cron)  # once a day


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_may_only_read_and_ends(name):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for job in jobs(workflow):
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 180


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_and_no_address_is_named(name):
    used = [step["uses"] for step in steps(WORKFLOWS[name]) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+", action) for action in used), used
    text = (FOLDER / f"{name}.yml").read_text()
    assert not re.search(r"https?://|\b[a-z0-9-]+\.(org|com|io)\b|secrets\.", text)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_runs_on_the_oldest_python_that_is_promised(name):
    for job in jobs(WORKFLOWS[name]):
        versions = job["strategy"]["matrix"]["python"]
        assert all(isinstance(version, str) for version in versions), "3.10 as a number is 3.1"
        assert f">={min(versions, key=lambda version: int(version.split('.')[1]))}" == PROJECT["requires-python"]
        (setup,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
        assert setup["with"]["python-version"] == "${{ matrix.python }}"
        assert (ROOT / setup["with"]["cache-dependency-path"]).is_file()


def test_what_they_call_exists():
    assert commands(WORKFLOWS["ci"]) == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    targets = makefile()
    called = [word for workflow in WORKFLOWS.values() for word in re.findall(r"\bmake ([a-z]+)", commands(workflow))]
    assert called == ["nightly"]
    assert "vidistill nightly" in targets["nightly"]


def test_the_night_before_is_where_the_command_looks():
    held = {step["name"]: step for step in steps(WORKFLOWS["nightly"]) if "name" in step}
    before, after = held["the nights before"]["with"], held["the nights for the next one"]
    assert before["path"] == after["with"]["path"] == f"runs/nightly/*/{nights.STATUS}"
    assert before["key"] == after["with"]["key"]
    assert before["key"].startswith(before["restore-keys"])
    assert after["if"] == "always()"  # a night with a failure is compared with, too
    assert "changes.md" in held["what changed"]["run"]
    assert "${{ env.NIGHT }}" in held["notebooks, page, numbers"]["with"]["path"]


def test_the_newest_night_sorts_last(tmp_path):
    """The workflow takes the last of the sorted names for this night."""
    from datetime import UTC, datetime, timedelta

    start = datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)
    names = [nights.open_night(tmp_path, now=start + timedelta(hours=hours)).name for hours in (0, 1, 9, 100, 3000)]
    assert names == sorted(names)
