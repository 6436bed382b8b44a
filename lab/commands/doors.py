"""``vidistill lab, serve, doctor``: the notebooks in JupyterLab, a page as an app, and what is missing for either."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

import vidistill.lab
from vidistill.errors import InputError, nearest
from vidistill.files import ensure_folder
from vidistill.lab.offline import free_port, panel_root
from vidistill.lab.runner import notebooks_dir
from vidistill.lab.terminal import console

START = "00_start_here.ipynb"


def _needs(package: str, extra: str) -> None:
    from vidistill.lab.record import installed

    if installed(package) is None:
        raise InputError(f"this needs {package}: pip install 'vidistill[{extra}]'")


def _workspace() -> tuple[Path, Path]:
    """Return ``(root, notebooks)`` to open: the checkout itself, or a copy of the installed notebooks in the current folder."""
    source = notebooks_dir()
    if (source.parent / "pyproject.toml").is_file():
        return source.parent, source
    copy = Path("vidistill-notebooks").resolve()
    for path in source.rglob("*.ipynb"):  # an installed package is not a place to work in; what the user changed is kept
        target = copy / path.relative_to(source)
        if not target.exists():
            ensure_folder(target.parent)
            shutil.copyfile(path, target)
    return copy, copy


def _start(command: list[str], changes: dict[str, str], print_command: bool) -> None:
    if print_command:
        typer.echo(shlex.join([*(f"{name}={value}" for name, value in changes.items()), *command]))
        return
    environment = {**os.environ, **changes}
    if os.name == "posix":  # the server takes this process over, with its Ctrl-C
        os.execve(command[0], command, environment)
    raise typer.Exit(subprocess.run(command, env=environment).returncode)


def lab(
    port: Annotated[int, typer.Option(min=1, max=65535, help="first port to try")] = 8888,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="do not open a browser")] = False,
    print_command: Annotated[bool, typer.Option("--print-command", help="only print what would be started")] = False,
) -> None:
    """Open JupyterLab on the start notebook; works without a network, reachable from this machine only."""
    root, notebooks = _workspace()
    jupyter(root, (notebooks / START).relative_to(root).as_posix(), port, no_browser, print_command)


def jupyter(root: Path, start: str, port: int, no_browser: bool, print_command: bool) -> None:
    """Start JupyterLab in ``root`` on the notebook ``start``, with the project's own settings: loopback only, nothing fetched."""
    _needs("jupyterlab", "glass")
    port = free_port(port)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        *(["--no-browser"] if no_browser else []),
    ]
    command += [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{quote(start)}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; the server listens on loopback only
        command.append("--allow-root")
    own = str(Path(vidistill.lab.__file__).with_name("jupyter"))
    paths = os.pathsep.join([own, *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])])
    # Panel's scripts and style sheets come from the disk, not from a CDN, so widgets show without a network.
    _start(command, {"JUPYTER_CONFIG_PATH": paths, "PANEL_INLINE": "true", "PANEL_CDN_ROOT": panel_root(port)}, print_command)


def serve(
    page: Annotated[str, typer.Argument(help="a page of notebooks/explore, or a notebook")] = "latent_vdd",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5006,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="do not open a browser")] = False,
    print_command: Annotated[bool, typer.Option("--print-command", help="only print what would be started")] = False,
) -> None:
    """Show a page as an app, without its code; reachable from this machine only."""
    from vidistill.lab.explore import PAGES, notebook_of

    _needs("panel", "glass")
    notebook = notebook_of(page) if page in PAGES else Path(page)
    if not notebook.is_file():
        raise InputError(f"there is no notebook {notebook}: give the path of one, or a page; {nearest(page, PAGES)}")
    command = [sys.executable, "-m", "panel", "serve", str(notebook), "--address", "127.0.0.1", "--port", str(port)]
    command += ["--allow-websocket-origin", f"127.0.0.1:{port}", "--allow-websocket-origin", f"localhost:{port}"]
    _start([*command, *([] if no_browser else ["--show"])], {}, print_command)


def doctor() -> None:
    """Say what is installed, which device there is and what is missing, with the one line that mends it."""
    from rich.table import Table
    from rich.text import Text

    from vidistill.lab.doctor import checks

    found = checks()
    table = Table("", "what", "found", "mend", title="vidistill doctor", title_justify="left")
    for check in found:
        state = "ok" if check.ok else "BROKEN" if check.core else "missing"
        table.add_row(state, check.what, Text(check.found), Text(check.mend))
    console().print(table)
    broken = [check.what for check in found if check.core and not check.ok]
    typer.echo(f"core: {'broken (' + ', '.join(broken) + ')' if broken else 'fine'}")
    raise typer.Exit(1 if broken else 0)
