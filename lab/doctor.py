"""What is installed, which device there is, what is missing, and the one line that mends it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from vidistill import __version__
from vidistill.errors import InputError
from vidistill.files import cache_home, ensure_folder
from vidistill.lab.record import installed

CORE = ("numpy", "safetensors", "diffusers", "transformers", "tensorly", "scikit-learn", "scipy", "plotly", "rich")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table.

    Attributes:
        what: the thing looked at.
        ok: it is there and works.
        found: version, name or place; the trouble in words when not ``ok``.
        mend: the one line that mends it; "" when there is nothing to mend.
        core: without it no run works, so the doctor exits with 1.
    """

    what: str
    ok: bool
    found: str
    mend: str = ""
    core: bool = False


def checks() -> list[Check]:
    """Look at everything, core first. No network is used."""
    return [
        _python(),
        Check("vidistill", True, __version__, core=True),
        _torch(),
        *(_package(name, f"pip install {name}", core=True) for name in CORE),
        *_decoders(),
        _cache(),
        _device(),
        _search(),
        _package("papermill", "pip install 'vidistill[bench]'"),
        _package("ipykernel", "pip install 'vidistill[bench]'"),
        _package("jupyterlab", "pip install 'vidistill[glass]'"),
        _package("panel", "pip install 'vidistill[glass]'"),
        _package("peft", "pip install 'vidistill[lora]'"),
        _browser(),
        _data(),
    ]


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, platform.python_version(), "" if ok else "install Python 3.11 or newer", core=True)


def _package(name: str, mend: str, core: bool = False) -> Check:
    found = installed(name)
    return Check(name, found is not None, found or "not installed", "" if found else mend, core)


def _imports(module: str) -> str | None:
    """Return None when ``module`` imports, else why not: a binary wheel can be installed and still not load."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken wheel raises ImportError, OSError, AttributeError ...
        return " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return None


def _torch() -> Check:
    if installed("torch") is None:
        return Check("torch", False, "not installed", "pip install torch", core=True)
    trouble = _imports("torch")
    mend = "pip install --force-reinstall torch" if trouble else ""
    return Check("torch", trouble is None, trouble or str(installed("torch")), mend, core=True)


def _decoders() -> list[Check]:
    trouble = _imports("av") if installed("av") else "not installed"
    mend = "pip install --force-reinstall av" if trouble else ""
    av = Check("av (decoder, encoder)", trouble is None, trouble or str(installed("av")), mend, core=True)
    arm = platform.machine() in ("aarch64", "arm64")
    return [av, _one_of("decord (decoder)", "decord", ("decord2", "decord") if arm else ("decord", "decord2"), "av decodes instead")]


def _one_of(what: str, module: str, wheels: tuple[str, str], otherwise: str) -> Check:
    """Look at a module that two wheels provide: exactly one of them, and loading, is right; the first is the one to have."""
    held = [wheel for wheel in wheels if installed(wheel)]
    if not held:
        return Check(what, False, f"not installed; {otherwise}", f"pip install {wheels[0]}")
    if len(held) == 2:
        mend = f"pip uninstall -y {wheels[1]} && pip install --force-reinstall --no-deps {wheels[0]}"
        return Check(what, False, f"{wheels[0]} and {wheels[1]} are both installed and overwrite each other", mend)
    if trouble := _imports(module):
        return Check(what, False, trouble, f"pip install --force-reinstall {held[0]}")
    return Check(what, True, f"{held[0]} {installed(held[0])}")


def _search() -> Check:
    wheels = ("faiss-gpu", "faiss-cpu") if _cuda() else ("faiss-cpu", "faiss-gpu")
    check = _one_of("faiss", "faiss", wheels, "only the selector k-means needs it")
    if not check.ok:
        return check
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    return replace(check, found=f"{check.found}, {f'{gpus} GPUs' if gpus else 'on the CPU'}")


def _cuda() -> bool:
    if _imports("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _device() -> Check:
    if _imports("torch"):
        return Check("device", False, "unknown without torch", "pip install torch")
    import torch

    if _cuda():
        free, total = torch.cuda.mem_get_info()
        return Check("device", True, f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    threads = f"cpu, {torch.get_num_threads()} threads"
    if shutil.which("nvidia-smi"):
        trouble = f"{threads}; there is a GPU driver, but this torch cannot use it"
        return Check("device", False, trouble, "pip install --force-reinstall torch")
    return Check("device", True, threads)


def _cache() -> Check:
    home = cache_home()
    try:
        ensure_folder(home)
    except InputError as error:
        return Check("cache folder", False, str(error), "export VIDISTILL_CACHE=/a/folder/you/can/write", core=True)
    return Check("cache folder", True, f"{home}, {shutil.disk_usage(home).free / 2**30:.1f} GiB free", core=True)


def _browser() -> Check:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        return Check("chromium", False, "not found; only the browser test needs it", "apt install chromium")
    return Check("chromium", True, found)


def _data() -> Check:
    mend = "export VIDISTILL_DATA=/folder/of/data/sets"
    folder = os.environ.get("VIDISTILL_DATA")
    if not folder:
        return Check("real clips", False, "VIDISTILL_DATA is not set; the embedded Motion World is used", mend)
    sets = sorted(entry.name for entry in Path(folder).iterdir() if entry.is_dir()) if Path(folder).is_dir() else []
    return Check("real clips", bool(sets), f"{folder}: {', '.join(sets[:6]) or 'no data set in it'}", "" if sets else mend)
