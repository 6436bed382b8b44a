"""The real VBench, package ``vbench`` 0.1.5, as a program of its own: it needs numpy < 2 and transformers 4.33.2, so it lives elsewhere.

Once, on a machine with a CUDA GPU (the package asks for one), with Python 3.10, wget, unzip and git::

    python3.10 -m venv vbench-env
    vbench-env/bin/pip install vbench==0.1.5 "setuptools<81"

then ``run_vbench(video, "vbench-env/bin/vbench")``. It fetches its networks (DINO, CLIP, AMT, RAFT, MUSIQ) at its first run into
``$VBENCH_CACHE_DIR``, else ``~/.cache/vbench``; without a network they must lie there. That program unpickles them, this one never does.

What runs is ``vbench evaluate --videos_path videos --output_path results --dimension "D1 D2 ..." --mode custom_input`` in a fresh folder
with the clips as mp4 files. The program hands its arguments to a shell without quotes, which splits the one string of dimensions into its
words and would split a path with blanks, so both paths are relative; it starts the first ``python`` on the PATH, so its own folder is put
first; and it exits with 0 when its work has failed, so only the file of results says that it is done.

Shapes: B clips, T frames, H x W pixels; ``video`` is uint8 RGB ``[B, 3, T, H, W]``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.data.world import write_clip
from vidistill.errors import InputError, choose
from vidistill.files import load_json
from vidistill.measure.consistency import FPS, check_clips

DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "temporal_flickering",
    "imaging_quality",
)
"""What it measures of any clip without a prompt."""

SETUP = "python3.10 -m venv vbench-env && vbench-env/bin/pip install vbench==0.1.5 'setuptools<81'"


def run_vbench(video: Tensor, executable: str | Path, *, dimensions: Sequence[str] = DIMENSIONS) -> dict[str, Tensor]:
    """Let the real VBench measure clips; it sees them as H.264 files (about 35 dB at 64 pixels) of 8 frames a second.

    Args:
        video: clips, T >= 3, H and W even.
        executable: its ``vbench``, a path or a name on the PATH.
        dimensions: of ``DIMENSIONS``.

    Returns:
        dimension -> float64 ``[B]``, as :func:`vbench_results` reads them.

    Raises:
        InputError: clips of another form, no such program or one in a folder with blanks, a run without a result (its last words are in the
            line), or a result that lacks a dimension or a clip.
    """
    check_clips(video, 3)
    if video.shape[-1] % 2 or video.shape[-2] % 2:
        raise InputError(f"VBench reads mp4 files of even height and width, got clips of {tuple(video.shape[-2:])} pixels")
    if isinstance(dimensions, str) or not dimensions:
        raise InputError(f"dimensions={dimensions!r} must be a list of at least one of {', '.join(DIMENSIONS)}")
    for name in dimensions:
        choose("VBench dimension", name, DIMENSIONS)
    found = shutil.which(str(executable))
    if found is None:
        raise InputError(f"cannot run VBench: no program {str(executable)!r}; set it up with  {SETUP}")
    program = Path(found).resolve()  # a link to it does not lie beside its python
    if len(str(program).split()) > 1:
        raise InputError(f"VBench cannot start itself from a folder with blanks in its name: {program}; set it up in another one")
    with tempfile.TemporaryDirectory(prefix="vidistill-vbench-") as place:
        folder, names = Path(place), [f"{i:06d}.mp4" for i in range(len(video))]
        for name, clip in zip(names, video.cpu(), strict=True):
            write_clip(folder / "videos" / name, clip, fps=FPS)
        said = _run(program, folder, dimensions)
        files = sorted((folder / "results").glob("*_eval_results.json"))
        if not files:
            raise InputError(f"VBench gave no result: {said}")
        return vbench_results(files[-1], names, dimensions)


def _run(program: Path, folder: Path, dimensions: Sequence[str]) -> str:
    """Run it; return the line it died with, or its last one."""
    command = [str(program), "evaluate", "--videos_path", "videos", "--output_path", "results"]
    command += ["--dimension", " ".join(dimensions), "--mode", "custom_input"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}  # ours are not its own
    environment["PATH"] = os.pathsep.join([str(program.parent), environment.get("PATH", os.defpath)])
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise InputError(f"cannot run VBench: {program}: {error.strerror or error}") from None
    lines = [line.strip() for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line.strip()]
    raised = [line for line in lines if re.match(r"(\[rank\d+\]: )?[\w.]*(Error|Exception)\b", line) and "ChildFailedError" not in line]
    said = (raised or lines or ["it said nothing"])[-1][:300]
    if done.returncode:
        raise InputError(f"VBench failed with exit code {done.returncode}: {said}")
    return said


def vbench_results(path: str | Path, names: Sequence[str], dimensions: Sequence[str] = DIMENSIONS) -> dict[str, Tensor]:
    """Read VBench's file of results, ``{dimension: [mean, [{"video_path", "video_results"}, ...]]}``, into numbers per clip.

    The file's imaging quality is in [0, 100] for a clip and in [0, 1] for the mean; here it is in [0, 1]. Its dynamic degree is true or
    false for a clip; here it is 1 or 0.

    Args:
        path: the file, ``results_<time>_eval_results.json``.
        names: the clips' file names; their order is the order of the numbers.
        dimensions: those wanted of it.

    Returns:
        dimension -> float64 ``[B]``.

    Raises:
        InputError: it cannot be read, has another form, or lacks a dimension or a clip.
    """
    data = load_json(path)
    found = {}
    for dimension in dimensions:
        if not isinstance(data, dict) or dimension not in data:
            raise InputError(f"VBench's result {Path(path).name} lacks the dimension {dimension}")
        values = _per_clip(data[dimension])
        missing = [name for name in names if name not in values]
        if missing:
            lacks = f"{len(missing)} of {len(names)} clips, e.g. {missing[0]}"
            raise InputError(f"VBench's result {Path(path).name} lacks numbers of {dimension} for {lacks}")
        scale = 100 if dimension == "imaging_quality" else 1
        found[dimension] = torch.tensor([values[name] for name in names], dtype=torch.float64) / scale
    return found


def _per_clip(result: Any) -> dict[str, float]:
    try:
        return {Path(row["video_path"]).name: float(row["video_results"]) for row in result[1]}
    except (TypeError, KeyError, IndexError, ValueError):
        return {}
