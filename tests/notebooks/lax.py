"""Teaching notebooks by nbval: every cell runs, and those tagged so give the output that the notebook holds."""

import json
import subprocess
import sys

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from vidistill.lab.runner import SIDECAR, notebooks_dir

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"]


def run_lax(name, folder, values):
    """Run a copy of a notebook with other parameters cell by cell, and return the numbers that it leaves."""
    copy, result = folder / name.rpartition("/")[2], folder / "result.json"
    whole = load_notebook_node(str(notebooks_dir() / name))
    nbformat.write(parameterize_notebook(whole, values | {SIDECAR: str(result)}), copy)
    done = subprocess.run([*PYTEST, f"--rootdir={folder}", copy.name], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return json.loads(result.read_text())
