"""A browser, and notebooks in front of it."""

import os
from pathlib import Path

import pytest
import servers

OWN = ("http://127.0.0.1:", "data:", "blob:")
"""All that a page may ask for."""


def absent(why):
    """Skip on a machine that cannot drive a browser; fail where one is promised, as in CI."""
    (pytest.fail if os.environ.get("VIDISTILL_BROWSER") == "required" else pytest.skip)(why)


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """Servers that share a cache: the embedded world is written once, and its clips are encoded once."""
    with servers.Servers(cache=tmp_path_factory.mktemp("cache")) as found:
        yield found


@pytest.fixture(scope="session")
def serve(started):
    """Return ``serve(notebook) -> url``."""
    return lambda notebook: started.serve(notebook)[0]


@pytest.fixture
def tiny_notebook(tiny_dit, tiny_unet, tmp_path):
    """Return ``tiny_notebook(page, **parameters) -> path``: an explore notebook with two tiny models instead of the zoo's."""
    own = {
        "gvd": {"models": f"dit={tiny_dit}, unet={tiny_unet}, lab-dit", "model": "dit", "per_class": 6, "centres": 3},
        "videoguide": {"models": f"unet={tiny_unet}, dit={tiny_dit}", "base": "unet", "teacher": "dit", "beta": 0.5, "guided": 2, "tau": 2}
        | {"points": 5, "space": 0.25},
        "compose": {"models": f"dit={tiny_dit}, unet={tiny_unet}", "model": "dit", "teacher": "unet", "per_class": 6, "centres": 3}
        | {"guided": 2, "tau": 2, "points": 5},
        "latent_vdd": {},
    }

    def make(page, **parameters):
        return servers.with_parameters(page, tmp_path, own[page] | parameters)

    return make


@pytest.fixture
def browser():
    path = servers.chromium() or absent("needs a browser: install chromium, or name one in VIDISTILL_CHROMIUM")
    try:
        import playwright  # noqa: F401
    except ImportError:
        absent("needs playwright: pip install 'vidistill[dev]'")
    with servers.browsing(path) as found:
        yield found


@pytest.fixture
def page(browser, request):
    """A browser page that fails the test if its console reports an error or it asks the network; what it shows in the end is kept in the
    folder VIDISTILL_PICTURES."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(OWN) else errors.append(f"asked of the network: {request.url}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    if folder := os.environ.get("VIDISTILL_PICTURES"):
        page.screenshot(path=Path(folder) / f"{request.node.name}.png", full_page=True)
    page.close()
    assert not errors, errors
