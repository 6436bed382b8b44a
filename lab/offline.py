"""JupyterLab without a network: Panel's style sheets, which it takes from a CDN, come from the installed package instead.

Panel asks its CDN by an absolute address, so the server's port is settled before it starts.
"""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidistill.errors import InputError

HOST = "127.0.0.1"
FILES = "/vidistill/panel/"
TRIES = 50


def free_port(first: int) -> int:
    """Return the first port of this machine that nobody listens on, from ``first`` upwards.

    Raises:
        InputError: none of ``TRIES``.
    """
    for port in range(first, min(first + TRIES, 65536)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
                return port
            except OSError:
                continue
    raise InputError(f"no free port from {first} to {first + TRIES - 1}: give another one with --port")


def panel_root(port: int) -> str:
    """Return what Panel is told its CDN is; it adds its version, ``dist`` and the file."""
    return f"http://{HOST}:{port}{FILES}"


def _load_jupyter_server_extension(server: Any) -> None:
    """Serve the files of Panel's ``dist``; the configuration of ``vidistill lab`` names this module as an extension."""
    from jupyter_server.utils import url_path_join
    from tornado.web import StaticFileHandler

    class PanelFiles(StaticFileHandler):
        """For pages that were opened as ``localhost``, too."""

        def set_extra_headers(self, path: str) -> None:
            self.set_header("Access-Control-Allow-Origin", "*")

    files = Path(find_spec("panel").origin).parent / "dist"  # type: ignore[union-attr, arg-type]
    place = url_path_join(server.web_app.settings["base_url"], FILES, "[^/]+/dist/(.*)")
    server.web_app.add_handlers(".*$", [(place, PanelFiles, {"path": str(files)})])


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "vidistill.lab.offline"}]
