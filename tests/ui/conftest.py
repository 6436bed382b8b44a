"""A notebook served as an app, and a real browser in front of it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

OFF = ("gpu", "quic", "background-networking", "component-update", "sync")
ARGUMENTS = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in OFF)]


@pytest.fixture(scope="session")
def chromium():
    path = os.environ.get("VIDISTILL_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser: install chromium, or name one in VIDISTILL_CHROMIUM")
    return path


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """Return ``serve(notebook) -> url``; the servers end with the session."""
    servers = []

    def start(notebook: Path) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tmp_path_factory.mktemp("serve")
        command = [sys.executable, "-m", "panel", "serve", str(notebook), "--address", "127.0.0.1", "--port", str(port)]
        environment = {**os.environ, "VIDISTILL_CACHE": str(folder / "cache")}
        log = open(folder / "log.txt", "w")  # noqa: SIM115
        server = subprocess.Popen([*command, "--allow-websocket-origin", f"127.0.0.1:{port}"], stdout=log, stderr=log, env=environment)
        servers.append((server, log))
        url = f"http://127.0.0.1:{port}/{notebook.stem}"
        for _ in range(300):
            assert server.poll() is None, (folder / "log.txt").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/static/js/bokeh.min.js", timeout=5).close()
                return url
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"panel serve did not answer: {(folder / 'log.txt').read_text()}")

    yield start
    for server, log in servers:
        server.terminate()
        server.wait(10)
        log.close()


@pytest.fixture
def page(chromium):
    """A browser page that fails the test if its console reports an error."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert not errors, errors
