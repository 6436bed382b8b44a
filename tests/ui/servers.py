"""Notebooks served as apps and opened in JupyterLab, and the browser in front of them: for the tests, the pictures and the benchmark."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from vidistill.errors import InputError
from vidistill.lab.camera import ARGUMENTS, find_browser
from vidistill.lab.runner import notebooks_dir

HERE = "127.0.0.1"
TOKEN = "token-of-the-tests"


def chromium():
    """Return the browser's path, or None."""
    try:
        return find_browser()
    except InputError:
        return None


@contextmanager
def browsing(path):
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Server:
    """A server, its log and its port."""

    process: subprocess.Popen
    log: Path
    port: int

    def wait(self, path):
        """Return when it answers at ``path``."""
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"http://{HERE}:{self.port}/{path}", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"no answer: {self.log.read_text()}")

    @property
    def resident(self):
        """Bytes of memory it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Servers:
    """Servers that end together, each with a cache of its own unless ``cache`` is given."""

    def __init__(self, cache=None):
        self._cache = cache
        self._started = []
        self._folder = tempfile.TemporaryDirectory(prefix="vidistill-servers-", ignore_cleanup_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self._started:
            process.terminate()
        until = time.monotonic() + 5
        for process in self._started:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        self._folder.cleanup()

    def start(self, command, environment=None, cwd=None):
        """Start the command of a free port."""
        with socket.socket() as probe:
            probe.bind((HERE, 0))
            port = probe.getsockname()[1]
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        environment = {**os.environ, "VIDISTILL_CACHE": str(self._cache or folder / "cache"), **(environment or {})}
        with open(folder / "log.txt", "w") as log:
            process = subprocess.Popen(command(port), stdout=log, stderr=log, env=environment, cwd=cwd)
        self._started.append(process)
        return Server(process, folder / "log.txt", port)

    def serve(self, notebook):
        """Serve a notebook as an app; return its address and the server."""
        own = lambda port: ["--address", HERE, "--port", str(port), "--allow-websocket-origin", f"{HERE}:{port}"]  # noqa: E731
        server = self.start(lambda port: [sys.executable, "-m", "panel", "serve", str(notebook), *own(port)])
        server.wait("static/js/bokeh.min.js")
        return f"http://{HERE}:{server.port}/{notebook.stem}", server

    def lab(self, folder):
        """Start ``vidistill lab`` as it starts, but for its folder and token; return what gives the address of a notebook in the folder."""

        def command(port):
            line = [sys.executable, "-m", "vidistill.lab.cli", "lab", "--no-browser", "--print-command", "--port", str(port)]
            words = shlex.split(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
            settings = [word for word in words if "=" in word and not word.startswith("-")]
            told = [word for word in words if word not in settings and "root_dir" not in word and "default_url" not in word]
            return ["env", *settings, *told, f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}"]

        own = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_CONFIG_DIR": str(folder / ".jupyter")}
        server = self.start(command, own, folder)
        server.wait(f"api/status?token={TOKEN}")
        return lambda path: f"http://{HERE}:{server.port}/lab/tree/{path}?reset&token={TOKEN}"


def with_parameters(name, folder, values):
    """Write a copy of an explore notebook with other parameters into a folder and return its path."""
    whole = load_notebook_node(str(notebooks_dir() / "explore" / f"{name}.ipynb"))
    nbformat.write(parameterize_notebook(whole, values) if values else whole, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def handle(page, name):
    """Return the handle of a slider, by a part of its title."""
    return page.locator(f'.bk-input-group:has(.bk-slider-title:has-text("{name}")) .noUi-handle')


def run_all(page, url, patience):
    """Open a notebook in JupyterLab and run all its cells."""
    page.goto(url, timeout=patience)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=patience)
    place, _, rest = url.partition("/lab/tree/")
    for _ in range(patience // 200):  # a kernel that is asked too early makes the page ask for one
        found = page.request.get(f"{place}/api/sessions?{rest.partition('&')[2]}").json()
        if any(one["path"] == rest.partition("?")[0] and one["kernel"]["execution_state"] == "idle" for one in found):
            break
        page.wait_for_timeout(200)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
