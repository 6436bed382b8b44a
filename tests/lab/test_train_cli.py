"""``vidistill train``: each recipe gets what it knows, says what it cost, and how to measure it."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from vidistill import shipped
from vidistill.lab import cli
from vidistill.lab.commands import models
from vidistill.lab.train import few_step


def call(*arguments: object):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def asked(monkeypatch) -> dict:
    """Stand-ins for two recipes; what they were asked for."""
    seen: dict = {}

    def plain(out, *, minutes, seed, device, progress):
        seen.update(out=out, minutes=minutes, seed=seed, device=device)
        return {"steps": 12}

    def begun(out, *, start=None, prior="uniform", **options):
        seen.update(options, start=start, prior=prior)
        return {"steps": 13}

    monkeypatch.setitem(sys.modules, "toy_trainers", SimpleNamespace(train=plain, begun=begun))
    monkeypatch.setattr(models, "TRAINERS", {"plain": "toy_trainers", "begun": "toy_trainers:begun"})
    return seen


@pytest.mark.parametrize("name", models.TRAINERS)
def test_every_model_of_the_zoo_has_a_recipe(name: str) -> None:
    assert set(models.TRAINERS) == set(shipped.NAMES) | set(few_step.STUDENTS)
    module, _, function = models.TRAINERS[name].partition(":")
    assert callable(getattr(import_module(module), function or "train"))


def test_the_recipe_is_asked_and_the_cost_is_told(asked: dict, tmp_path: Path) -> None:
    done = call("train", "plain", "--out", tmp_path / "my run", "--minutes", "2", "--device", "cpu", "--seed", "5")
    assert done.exit_code == 0, done.output
    assert asked == {"out": tmp_path / "my run", "minutes": 2.0, "seed": 5, "device": "cpu"}
    record, _, rest = done.stdout.rpartition("}\n")
    assert json.loads(record + "}") == {"steps": 12}
    model = tmp_path / "my run/model"
    assert rest == f"model: {model}\nmeasure it: vidistill zoo card '{model}'\n"


def test_a_prior_is_handed_on(asked: dict, tmp_path: Path) -> None:
    assert call("train", "begun", "--out", tmp_path, "--device", "cpu", "--prior", "rare").exit_code == 0
    assert asked["prior"] == "rare"


def test_where_to_start_is_handed_on(asked: dict, tmp_path: Path) -> None:
    assert call("train", "begun", "--out", tmp_path, "--device", "cpu").exit_code == 0
    assert (asked["start"], asked["prior"]) == (None, "uniform")  # what is not given is the recipe's
    assert call("train", "begun", "--out", tmp_path, "--device", "cpu", "--start", "none").exit_code == 0
    assert asked["start"] == "none"


@pytest.mark.parametrize("option", ["--start", "--data"])
def test_an_option_that_a_recipe_does_not_know_is_refused(asked: dict, tmp_path: Path, option: str) -> None:
    done = call("train", "plain", "--out", tmp_path, option, tmp_path)
    assert (done.exit_code, done.stderr) == (2, f"error: the recipe of plain has no use for {option}: leave it out\n")
    assert not asked


def test_of_several_processes_one_speaks(asked: dict, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    done = call("train", "plain", "--out", tmp_path, "--device", "cpu")
    assert (done.exit_code, done.stdout) == (0, "")
    assert asked


def test_help_says_where_lab_unet_starts() -> None:
    text = " ".join(call("train", "--help").stdout.replace("│", " ").split())
    assert "left out: lab-base where it is shipped" in text
    assert "lab-vae, lab-unet, lab-base, lab-dit, lab-probe" in text
