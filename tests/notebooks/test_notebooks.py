"""Every notebook is thin, clean and runs headless through the runner that the nightly job uses."""

import json
from pathlib import Path

import pytest

from vidistill.lab.presets import preset
from vidistill.lab.runner import notebooks_dir, run_notebook
from vidistill.papers.latent_vdd import KNOBS

NOTEBOOKS = sorted(path for path in notebooks_dir().rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts and "runs" not in path.parts)
RUN_HERE = {"00_start_here.ipynb", "learn/latent_vdd.ipynb", "reproduce/latent_vdd.ipynb"}
RUN_ELSEWHERE = {"explore/latent_vdd.ipynb", "explore/zoo.ipynb"}  # test_explore.py, widgets/test_zoo.py, and in a browser in tests/ui
SMALL = {"frames": 8, "gap": 2, "size": 48, "instances": 2, "width": 4, "steps": 2, "seeds": 2}


def name_of(path: Path) -> str:
    return path.relative_to(notebooks_dir()).as_posix()


def test_every_notebook_is_on_exactly_one_list():
    assert not RUN_HERE & RUN_ELSEWHERE
    assert {name_of(path) for path in NOTEBOOKS} == RUN_HERE | RUN_ELSEWHERE


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_thin_and_clean(path):
    notebook = json.loads(path.read_text())
    assert len(notebook["cells"]) <= 25
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in notebook["cells"]) == 1
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "outputs do not belong in git: make format"
        assert cell.get("execution_count") is None


def test_the_parameters_of_reproduce_are_the_declared_knobs():
    notebook = json.loads((notebooks_dir() / "reproduce/latent_vdd.ipynb").read_text())
    (cell,) = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    space: dict = {}
    exec("".join(cell["source"]), space)
    assert {name: space[name] for name in KNOBS} == KNOBS.resolve(preset("latent_vdd", "quick", KNOBS))
    source = "".join(cell["source"])
    assert all(f"# {knob.doc}" in source for knob in KNOBS.values())


@pytest.mark.slow
def test_start_here(tmp_path):
    done = run_notebook(notebooks_dir() / "00_start_here.ipynb", tmp_path / "start.ipynb", {"per_class": 1, "out": str(tmp_path / "out")})
    assert done["result"]["bytes"] == (tmp_path / "out" / "start.safetensors").stat().st_size
    assert done["result"]["codec dB"] > 20
    assert (tmp_path / "start.ipynb").stat().st_size < 2**20


@pytest.mark.slow
def test_learn(tmp_path):
    """Its own check cells are the test: a failing one fails the run."""
    done = run_notebook(notebooks_dir() / "learn/latent_vdd.ipynb", tmp_path / "learn.ipynb", {"per_class": 10, "k": 4})
    assert done["result"]["identity"]
    assert (tmp_path / "learn.ipynb").stat().st_size < 2**20


@pytest.mark.slow
def test_reproduce_judges_every_claim(tmp_path, monkeypatch):
    from vidistill.data.world import write_world

    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    write_world(tmp_path / "world", per_class_train=8, per_class_test=2, classes=("slide", "spin"))
    parameters = SMALL | {"instances": 4, "data": str(tmp_path / "world"), "out": str(tmp_path / "out"), "sweep": "0.5, 1.0"}
    done = run_notebook(notebooks_dir() / "reproduce/latent_vdd.ipynb", tmp_path / "reproduce.ipynb", parameters, knobs=KNOBS, timeout=600)
    extra = done["result"]["extra"]
    assert len(extra["verdicts"]) == 5
    for row in extra["verdicts"]:
        assert row["verdict"] in ("direction holds", "direction does not hold", "cannot tell")
        assert row["difference"]["n"] == 2
    assert [row["rank_ratio"] for row in extra["rank ratio sweep"]] == [0.5, 1.0]
    assert extra["rank ratio sweep"][1]["error"] < extra["rank ratio sweep"][0]["error"]
