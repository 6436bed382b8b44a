"""The run record: what was run, on what, how long it took, and the hashes that prove the results are the ones it wrote."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vidistill import __version__
from vidistill.errors import InputError
from vidistill.files import file_digest, load_json, save_json
from vidistill.types import Progress, silent

PACKAGES = (
    *("torch", "numpy", "diffusers", "transformers", "safetensors", "tensorly", "scikit-learn", "scipy", "av", "decord", "decord2"),
    *("faiss-cpu", "faiss-gpu", "papermill", "ipykernel", "jupyterlab", "panel"),
)
"""The packages whose versions can change a number or a picture."""


class Stages:
    """A progress callback that also keeps the time: seconds per stage name, summed when a stage comes back.

    The time between two calls belongs to the later one when that reports work done, otherwise (a stage that opens with ``done=0``)
    to the stage before it, or to none if that one was complete.
    """

    def __init__(self, forward: Progress = silent) -> None:
        self._forward = forward
        self._open: str | None = None
        self._last = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._credit(stage if done > 0 else self._open)
        self._seconds.setdefault(stage, 0.0)
        self._open = stage if done < total else None
        self._forward(stage, done, total)

    def _credit(self, stage: str | None) -> None:
        now = time.perf_counter()
        if stage is not None:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Return seconds per stage, in the order the stages first appeared."""
        self._credit(self._open)
        return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return the interpreter, the package versions and the machine that a result was made with."""
    import torch

    cuda = device.startswith("cuda")
    return {
        "vidistill": __version__,
        "python": platform.python_version(),
        "packages": {package: found for package in PACKAGES if (found := installed(package))},
        "platform": platform.platform(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if cuda else _processor(),
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit(file: str | Path = __file__) -> dict[str, Any] | None:
    """Return ``{"commit": hash, "dirty": bool}`` of the checkout that tracks ``file``; None when none does (an installed wheel)."""

    def git(*arguments: str) -> str:
        run = ("git", "-C", str(Path(file).parent), *arguments)
        return subprocess.run(run, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(file).name)  # a venv inside somebody else's checkout is not our commit
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory(device: str = "cpu") -> dict[str, int | None]:
    """Return the peak resident memory of this process and, on a GPU, the peak allocated there, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        resident = None
    else:
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    on_device = None
    if device.startswith("cuda"):
        import torch

        on_device = torch.cuda.max_memory_allocated(device)
    return {"resident_bytes": resident, "device_bytes": on_device}


def write_record(
    out: Path,
    *,
    paper: str,
    knobs: Mapping[str, Any],
    seed: int,
    device: str,
    stages: Stages,
    started: datetime,
    command: str,
    outputs: Sequence[str],
) -> dict[str, Any]:
    """Write ``out/record.json`` atomically and return it.

    Args:
        paper, knobs, seed, device: what was run.
        stages: the callback that timed the run.
        started: when it began, with a time zone.
        command: the command line that repeats it.
        outputs: names of the files in ``out`` to hash; those that do not exist are left out.
    """
    finished = datetime.now(UTC)
    record = {
        "paper": paper,
        "knobs": dict(knobs),
        "seed": seed,
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": {"total": round((finished - started).total_seconds(), 3), "stages": stages.seconds()},
        "memory": peak_memory(device),
        "environment": environment(device),
        "source": commit(),
        "outputs": {
            name: {"bytes": (out / name).stat().st_size, "sha256": file_digest(out / name)} for name in outputs if (out / name).is_file()
        },
    }
    save_json(out / "record.json", record)
    return record


def verify_record(folder: str | Path) -> dict[str, Any]:
    """Return the record in ``folder`` after checking that every result file is byte for byte the one the run wrote.

    Raises:
        InputError: there is no record, or a file it lists is missing or was changed since.
    """
    folder = Path(folder)
    record = load_json(folder / "record.json")
    if not isinstance(record, dict) or not isinstance(record.get("outputs"), dict):
        raise InputError(f"{folder / 'record.json'} is not a run record: it lists no outputs")
    for name, entry in record["outputs"].items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing, but the record lists it; repeat the run: {record.get('command')}")
        if file_digest(folder / name) != entry["sha256"]:
            raise InputError(f"{folder / name} was changed after the run wrote it (its SHA-256 differs); repeat: {record.get('command')}")
    return record
