"""A notebook that is a cell of a sweep and imports nothing heavy, and the sweep of it; the parameter ``data`` names a file that counts.

Run as a program, it is a sweep that a test kills: ``python cell_stub.py FOLDER ENGINE JOBS POINTS SEEDS``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat

from vidistill.knobs import Knob, Knobs
from vidistill.lab.sweeps import Sweep, plan

KNOBS = Knobs(
    "toy",
    Knob("strength", 0, "what is turned", low=0, high=100),
    Knob("way", "up", "how it is turned", choices=("up", "down")),
    Knob("slow", 0.0, "seconds that a cell takes", low=0, high=100),
    Knob("seeds", 5, "repetitions", low=1, high=9),
)
PARAMETERS = """
paper: str = ""
knobs: str = "{}"
data: str = ""
layout: str = ""
out: str = ""
out_json: str = ""
seed: int = 0
device: str = "cpu"
"""
WORK = """
import hashlib, json, os, time
from pathlib import Path

values = json.loads(knobs)
with open(data, "a") as log:
    print("begun", values["strength"], values["way"], seed, file=log, flush=True)
time.sleep(values["slow"])
if values["strength"] == 13:
    raise ValueError("unlucky strength")
value = seed * 10 + values["strength"] * (1 if values["way"] == "up" else -1) + (seed * values["strength"] % 3) / 8
one = lambda x: {"mean": x, "low": None, "high": None, "std": None, "n": 1, "values": [x]}
common = {"bytes": {"core": 3, "total": 7}, "seconds": one(time.time())}
arms = [
    {"name": "method", "role": "method", "score": one(value), "difference": one(value - seed), **common},
    {"name": "random", "role": "control", "score": one(float(seed)), "difference": one(0.0), "bytes": None, "kernel": "rbf"},
]
score = {"title": "Score", "heading": "points", "control": "random", "about": "Made up.", "chance": None, "digits": 2}
Path(out, "report.json").write_text(json.dumps({"arms": arms, "score": score}))
files = {"report.json": hashlib.sha256(Path(out, "report.json").read_bytes()).hexdigest()}
entries = {name: {"bytes": 1, "sha256": sha256} for name, sha256 in files.items()}
record = {"paper": paper, "seconds": {"total": time.time() % 1}, "command": "again", "threads": os.environ.get("OMP_NUM_THREADS")}
record |= {"rank": os.environ.get("RANK"), "outputs": entries}
Path(out, "record.json").write_text(json.dumps(record))
Path(out_json).write_text("{}")
"""


def stub(folder: Path, work: str = WORK) -> Path:
    """Write the notebook."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    notebook.cells = [nbformat.v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(work)]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "stub.ipynb")
    return folder / "stub.ipynb"


def sweep_of(folder: Path, strengths, seeds, work: str = WORK, ways=("up", "down"), **values) -> Sweep:
    """Return a sweep over both knobs, whose cells append a line each to ``folder/log``."""
    grid = {"strength": list(strengths), "way": list(ways)}
    return plan(KNOBS, grid, seeds, values, notebook=stub(folder, work), data=str(folder / "log"), layout="none")


if __name__ == "__main__":
    import torch

    from vidistill.distill.parallel import start, stop
    from vidistill.lab.sweep_table import table_of, write_table
    from vidistill.lab.sweeps import run_sweep

    place, engine, jobs, points, count = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
    ranks = start(torch.device("cpu"))
    done = run_sweep(sweep_of(place, range(points), range(count)), place / "out", engine=engine, jobs=jobs, ranks=ranks)
    if done is not None:
        write_table(place / "out" / "sweep.parquet", table_of(done))
    stop(ranks)
    os._exit(0)
