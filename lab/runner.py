"""Run a notebook headless through papermill, and fail closed.

papermill alone exits 0 on an unknown parameter, on a missing ``parameters`` tag and on a notebook that wrote no result; here each is an
error. The kernel is always this interpreter, whatever kernels the machine has installed.
"""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vidistill.lab
from vidistill.errors import InputError, nearest
from vidistill.files import ensure_folder, load_json, save_json, write_atomic
from vidistill.knobs import Knobs
from vidistill.types import Progress, silent

KERNEL = "python3"
SIDECAR = "out_json"
"""The parameter through which a notebook learns where to write its result as JSON."""

TYPES: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (float, int), "str": (str,)}


class RunFailed(RuntimeError):
    """A notebook did not run to a result. ``str(error)`` is one line: which cell, and what happened there."""


def notebooks_dir() -> Path:
    """Return the folder of the notebooks that come with the package (they sit beside ``lab`` in a checkout and in a wheel)."""
    return Path(vidistill.lab.__file__).parent.parent / "notebooks"


def _read(path: Path) -> Any:
    """Return the notebook at ``path``, checked: it exists, is a python3 notebook, and has a readable ``parameters`` cell."""
    try:
        import ipykernel  # noqa: F401
        import nbformat
        import papermill  # noqa: F401
    except ImportError as error:
        raise InputError(f"running notebooks needs {error.name}: pip install 'vidistill[bench]'") from None

    if not path.is_file():
        raise InputError(f"there is no notebook {path}: {nearest(path.name, (p.name for p in path.parent.glob('*.ipynb')))}")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises a different type for each way a file can be broken
        raise InputError(f"{path} is not a notebook: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None

    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != KERNEL:
        raise InputError(f"{path} asks for the kernel {kernel!r}: only {KERNEL!r} is run; set metadata.kernelspec.name")
    notebook.metadata.kernelspec.language = "python"  # papermill refuses a notebook that does not say so
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    if not cells:
        raise InputError(f"{path} has no cell tagged 'parameters': values would be overwritten by its own; tag the cell that sets them")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(cells[0].source).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise InputError(f"{path}: the parameters cell is not valid Python: {error}") from None
    for token in tokens:
        if token.type == tokenize.COMMENT and "=" in token.string:
            raise InputError(
                f"{path}: line {token.start[0]} of the parameters cell has '=' in its comment, which hides the parameter "
                f"from papermill: {token.line.strip()}"
            )
    return notebook


def _inspect(notebook: Any) -> dict[str, dict[str, str]]:
    import papermill

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "notebook.ipynb")  # papermill formats braces in a path, so it never sees the user's path
        _write(notebook, copy)
        return papermill.inspect_notebook(str(copy))


def _write(notebook: Any, path: Path) -> None:
    import nbformat

    nbformat.write(notebook, path)


def parameters_of(path: str | Path) -> dict[str, dict[str, str]]:
    """Return ``{name: {"inferred_type_name", "default", "help", ...}}`` as the notebook's ``parameters`` cell declares them.

    Raises:
        InputError: the notebook is missing, broken, for another kernel, or without a readable ``parameters`` cell.
    """
    return _inspect(_read(Path(path)))


def parse_parameters(path: str | Path, settings: Mapping[str, str], knobs: Knobs | None = None) -> dict[str, Any]:
    """Read ``{"name": "text"}`` from a command line: knobs by their declaration, other parameters by their type in the notebook.

    Raises:
        InputError: the notebook has no such parameter, or the text is not of its type.
    """
    declared = parameters_of(path)
    values: dict[str, Any] = {}
    for name, text in settings.items():
        _known(Path(path), name, declared)
        kind = _kind(declared[name])
        if knobs is not None and name in knobs:
            values[name] = knobs[name].parse(text)
        elif kind in ("int", "float", "bool"):
            try:
                value = ast.literal_eval(text.strip().capitalize() if kind == "bool" else text.strip())
            except (ValueError, SyntaxError):
                value = text
            values[name] = _typed(name, value, kind)
        else:
            values[name] = text
    return values


def _kind(parameter: Mapping[str, str]) -> str:
    """Return the parameter's type name: its annotation, else the type of its default."""
    if parameter["inferred_type_name"] in TYPES:
        return parameter["inferred_type_name"]
    try:
        return type(ast.literal_eval(parameter["default"])).__name__
    except (ValueError, SyntaxError):
        return ""


def _typed(name: str, value: Any, kind: str) -> Any:
    allowed = TYPES.get(kind)
    if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and kind != "bool")):
        raise InputError(f"parameter {name}={value!r} is not allowed: the notebook declares it as {kind}")
    return value


def _known(path: Path, name: str, declared: Mapping[str, Any]) -> None:
    if name == SIDECAR:
        raise InputError(f"parameter {SIDECAR} is set by the runner: the result is written beside the output notebook")
    if name not in declared:
        raise InputError(f"unknown parameter {name!r} for {path.name}: {nearest(name, declared.keys() - {SIDECAR})}")


def check_run(path: str | Path, parameters: Mapping[str, Any], knobs: Knobs | None = None) -> None:
    """Check a notebook and the parameters of a run as :func:`run_notebook` does, and run nothing.

    Raises:
        InputError: the notebook or a parameter is not fit to run.
    """
    path = Path(path)
    _checked(path, _inspect(_read(path)), parameters, knobs)


def _checked(path: Path, declared: Mapping[str, Any], parameters: Mapping[str, Any], knobs: Knobs | None) -> dict[str, Any]:
    if SIDECAR not in declared:
        raise InputError(f"{path} declares no parameter {SIDECAR}: without it there is no result to read")
    values = dict(parameters)
    for name, value in values.items():
        _known(path, name, declared)
        known_knob = knobs is not None and name in knobs
        values[name] = knobs[name].check(value) if known_knob else _typed(name, value, _kind(declared[name]))  # type: ignore[index]
    return values


def run_notebook(
    path: str | Path,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    knobs: Knobs | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Execute a notebook with ``parameters`` and return the result it wrote.

    Both files appear whole or not at all: the executed notebook at ``output``, its result beside it as ``.json``. Those of an earlier run
    are removed first, so a failed run never leaves an old result in place; what it did execute is kept as ``.failed.ipynb``.

    Args:
        path: the notebook; it must be for kernel ``python3``, have a cell tagged ``parameters``, and declare ``out_json`` there.
        output: where the executed notebook goes (``.ipynb``).
        parameters: values by name, each declared in the notebook.
        knobs: the paper's declarations; a parameter with a knob's name is checked against them before anything runs.
        timeout: seconds for the whole notebook; None waits for ever.
        threads: that the kernel may compute with, so that several share a machine and a number does not depend on its cores; None: its own.
        progress: called several times a second with (``"notebook"``, cells done, cells); raise in it to stop the kernel.

    Returns:
        ``{"notebook", "output", "sidecar", "parameters", "seconds", "peak_bytes", "result"}``: among them the most memory
        that the kernel was seen to hold, and the JSON that the notebook wrote.

    Raises:
        InputError: the notebook or a parameter is not fit to run; nothing was executed.
        RunFailed: a cell failed, the kernel died, time ran out, or no result was written.
    """
    path, output = Path(path), Path(output)
    notebook = _read(path)
    declared = _inspect(notebook)
    values = _checked(path, declared, parameters or {}, knobs)
    if output.suffix != ".ipynb":
        raise InputError(f"the output notebook must end in .ipynb, got {output}")

    ensure_folder(output.parent)
    sidecar, failed = output.with_suffix(".json"), output.with_suffix(".failed.ipynb")
    for old in (output, sidecar, failed):
        old.unlink(missing_ok=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vidistill-run-") as folder:
        executed, written = Path(folder, "output.ipynb"), Path(folder, "result.json")
        try:
            peak = _execute(notebook, executed, {**values, SIDECAR: str(written)}, Path(folder), timeout, threads, progress)
            if not written.is_file():
                raise RunFailed(f"{path.name} ran to its end but wrote no result to {SIDECAR}")
            try:
                result = load_json(written)
                save_json(written, result)
            except ValueError as error:  # not JSON, or NaN, which is not JSON either
                raise RunFailed(f"{path.name} wrote a result that is not JSON: {error}") from None
        except RunFailed as error:
            if executed.is_file():
                write_atomic(failed, lambda temporary: shutil.copyfile(executed, temporary))
                raise RunFailed(f"{error}; what ran is in {failed}") from None
            raise
        write_atomic(output, lambda temporary: shutil.copyfile(executed, temporary))
        write_atomic(sidecar, lambda temporary: shutil.copyfile(written, temporary))
    seconds = round(time.perf_counter() - start, 3)
    paths = {"notebook": str(path), "output": str(output), "sidecar": str(sidecar)}
    return {**paths, "parameters": values, "seconds": seconds, "peak_bytes": peak, "result": result}


def _execute(
    notebook: Any,
    executed: Path,
    values: dict[str, Any],
    folder: Path,
    timeout: float | None,
    threads: int | None,
    progress: Progress,
) -> int:
    """Run papermill in a thread and watch it from here: Ctrl-C, a cancelling ``progress`` and the time limit all end the kernel.

    Returns:
        the most resident memory of the kernel that was seen, bytes.
    """
    import papermill
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # a kernel that is stopped is no error
    profile = folder / "ipython" / "profile_default"
    profile.mkdir(parents=True)  # an empty profile: the user's start-up files and settings do not reach the run
    quiet = logging.CRITICAL  # a shutdown begins with an interrupt, which a busy kernel calls an error; a cell's own are messages
    (profile / "ipython_kernel_config.py").write_text(f"c = get_config()\nc.IPKernelApp.log_level = {quiet}\n")

    managers: list[AsyncKernelManager] = []

    class OwnKernel(AsyncKernelManager):
        """The kernel of this interpreter: installed kernelspecs are not searched, so none can shadow ``python3``."""

        def __init__(self, *arguments: Any, **traits: Any) -> None:
            super().__init__(*arguments, kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **traits)
            managers.append(self)

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            own = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
            await super().start_kernel(**options, env={**os.environ, **own})

    at: dict[str, Any] = {"index": 0, "cell": None}
    trouble: list[BaseException] = []

    def cell_starts(cell: Any, cell_index: int) -> None:
        at.update(index=cell_index, cell=cell)

    def work() -> None:
        try:
            papermill.execute_notebook(
                notebook,
                str(executed),
                values,
                kernel_name=KERNEL,
                language="python",
                progress_bar=False,
                kernel_manager_class=OwnKernel,
                extra_arguments=[f"--ipython-dir={folder / 'ipython'}"],
                on_cell_start=cell_starts,
            )
        except BaseException as error:
            trouble.append(error)

    total = len(notebook.cells) + 1  # papermill adds the cell with the values
    start = time.monotonic()
    thread = threading.Thread(target=work, name="papermill", daemon=True)
    thread.start()
    timed_out, peak = False, 0
    try:
        while thread.is_alive() and not timed_out:
            thread.join(0.1)
            peak = max([peak, *map(_resident, managers)])
            progress("notebook", min(at["index"], total - 1), total)
            timed_out = timeout is not None and time.monotonic() - start > timeout
        timed_out = timed_out and thread.is_alive()
    finally:
        give_up = time.monotonic() + 30
        while thread.is_alive() and time.monotonic() < give_up:  # the kernel may only just be starting
            for manager in managers:
                _kill(manager)
            thread.join(0.2)
    if timed_out:
        raise RunFailed(f"{_where(at)} was still running when the time limit of {timeout:g} s was over")
    if trouble:
        raise _explain(trouble[0], at) from None
    progress("notebook", total, total)
    return peak


def _resident(manager: Any) -> int:
    """Return the memory that a kernel holds now, bytes; 0 before it runs and after."""
    import psutil

    process = getattr(manager.provisioner, "process", None)
    try:
        return psutil.Process(process.pid).memory_info().rss if process else 0
    except psutil.Error:
        return 0


def _kill(manager: Any) -> None:
    """End a kernel and the processes it started, at once."""
    provisioner = manager.provisioner
    process = getattr(provisioner, "process", None)
    if process is None or process.poll() is not None:
        return
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and provisioner.pgid:
            os.killpg(provisioner.pgid, signal.SIGKILL)
        else:
            process.kill()


def _where(at: Mapping[str, Any]) -> str:
    cell = at["cell"]
    lines = [line.strip() for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")] if cell else []
    return f"cell {at['index'] + 1}" + (f" ({lines[0][:60]})" if lines else "")


def _explain(error: BaseException, at: Mapping[str, Any]) -> RunFailed:
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        what = f"{error.ename}: {error.evalue}".strip()
    elif isinstance(error, DeadKernelError):
        what = "the kernel died (out of memory, or a crash in native code)"
    elif isinstance(error, NoSuchKernel):
        what = "there is no python3 kernel: pip install ipykernel"
    else:
        what = f"{type(error).__name__}: {error}"
    return RunFailed(f"{_where(at)}: {' '.join(what.split())[:400]}")
