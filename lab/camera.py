"""A browser without a screen that photographs plotly figures and pieces of HTML, for readers where no script runs."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vidistill.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

    from playwright.sync_api import Page

WIDTH, SCALE = 840, 1.25
"""Pixels of a page in width, and of the picture for each of them."""

COLOURS = 128

BROWSERS = ("chromium", "google-chrome")
OFF = ("gpu", "quic", "background-networking", "component-update", "sync")
ARGUMENTS = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in OFF)]

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><style>
body { margin: 0; background: #fff; color: #1f2937; font: 14px/1.45 system-ui, sans-serif; }
#shown { width: %dpx; padding: 4px; box-sizing: border-box; }
</style></head><body><div id="shown">%s</div></body></html>"""

DRAW = """async ({ data, layout }) => {
  document.getElementById("shown").style.width = "max-content";
  await Plotly.newPlot("shown", data, layout, { staticPlot: true });
}"""


def find_browser() -> str:
    """Return the path of a Chromium: ``$VIDISTILL_CHROMIUM``, else one that is installed.

    Raises:
        InputError: there is none, or playwright, which drives it, is missing.
    """
    try:
        import playwright  # noqa: F401
    except ImportError:
        raise InputError("photographing figures needs playwright: pip install 'vidistill[dev]'") from None
    for path in (os.environ.get("VIDISTILL_CHROMIUM"), *map(shutil.which, BROWSERS)):
        if path:
            return path
    raise InputError("photographing figures needs a browser: install chromium, or name one in VIDISTILL_CHROMIUM")


class Camera:
    """Photographs while it is open (``with Camera() as camera``). It has no network, and a photograph no more than ``COLOURS`` colours.

    Raises:
        InputError: there is no browser, see :func:`find_browser`.
    """

    def __enter__(self) -> Camera:
        path = find_browser()
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        self._pages = self._browser.new_context(
            viewport={"width": WIDTH, "height": 600}, device_scale_factor=SCALE, color_scheme="light", offline=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._browser.close()
        self._playwright.stop()

    def html(self, piece: str) -> bytes:
        """Return a piece of HTML as a PNG, ``WIDTH`` pixels of a page wide."""
        with self._pages.new_page() as page:
            page.set_content(PAGE % (WIDTH, piece))
            return _shot(page)

    def figure(self, figure: Mapping[str, Any]) -> bytes:
        """Return a plotly figure, the JSON of its ``data`` and ``layout``, as a PNG without its sliders and buttons."""
        from plotly.offline import get_plotlyjs

        layout = {name: value for name, value in figure.get("layout", {}).items() if name not in ("sliders", "updatemenus")}
        with self._pages.new_page() as page:
            page.set_content(PAGE % (WIDTH, ""))
            page.add_script_tag(content=get_plotlyjs())
            page.evaluate(DRAW, {"data": figure.get("data", []), "layout": {"width": WIDTH - 8} | layout | {"autosize": False}})
            return _shot(page)


def _shot(page: Page) -> bytes:
    from PIL import Image

    picture = Image.open(io.BytesIO(page.locator("#shown").screenshot(animations="disabled"))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
