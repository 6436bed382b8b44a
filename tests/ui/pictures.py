"""Take the README's pictures from the real pages in a real browser, so that they show nothing that is not there.

python tests/ui/pictures.py [FOLDER]

Writes one PNG of each explore notebook, and an animated one of a knob that is turned, each under 1 MB. The folder is notebooks/pictures
unless another one is named. Exits 1 when a picture is larger, or a page shows an error.
"""

import io
import sys
import tempfile
from pathlib import Path

import servers
from PIL import Image

from vidistill.files import write_atomic
from vidistill.lab.apng import apng
from vidistill.lab.runner import notebooks_dir

PAGES = ("latent_vdd", "gvd", "videoguide", "few_step", "compose", "zoo")
SIZE = {"width": 1440, "height": 900}
WIDTH, FILM_WIDTH = 1200, 800
LIMIT = 2**20
PATIENCE = 300_000  # ms
FPS = 4


def shot(page, width):
    """Return what the page shows, as wide as asked."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)


def still(picture):
    """Return a picture as PNG with a palette of its own."""
    buffer = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def settled(page):
    """Wait until the page shows a film, and every picture and plot is drawn."""
    page.locator("video").first.wait_for(timeout=PATIENCE)
    page.wait_for_timeout(4000)
    alarms = page.get_by_role("alert").filter(visible=True)
    assert alarms.count() == 0, alarms.first.inner_text()


def turning(page):
    """Turn lambda from nothing to its end and back, and return what is seen: the handle moves, clips form, numbers follow."""
    handle = servers.handle(page, "strength")
    seen = []
    for keys in (["Home"], *(["ArrowRight"] * 5,) * 4, ["Home"]):
        for key in keys:
            handle.press(key)
            page.wait_for_timeout(60)
        for _ in range(4):
            seen.append(shot(page, FILM_WIDTH))
            page.wait_for_timeout(250)
        page.get_by_text("done in").first.wait_for(timeout=PATIENCE)
        seen += [shot(page, FILM_WIDTH)] * 2
    return seen


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else notebooks_dir() / "pictures"
    path = servers.chromium()
    if path is None:
        print("error: this needs a browser: install chromium, or name one in VIDISTILL_CHROMIUM", file=sys.stderr)
        return 2
    over = []
    with servers.Servers(cache=tempfile.mkdtemp(prefix="vidistill-pictures-")) as started, servers.browsing(path) as browser:
        for name in PAGES:
            page = browser.new_page(viewport=SIZE)
            url, server = started.serve(notebooks_dir() / "explore" / f"{name}.ipynb")
            page.goto(url, timeout=PATIENCE)
            settled(page)
            made = {name: still(shot(page, WIDTH))}
            if name == "gvd":
                made["turning"] = apng(turning(page), FPS)
            for what, picture in made.items():
                write_atomic(folder / f"{what}.png", lambda place, picture=picture: place.write_bytes(picture))
                print(f"{folder / what}.png  {len(picture):,} bytes", flush=True)
                over += [what] * (len(picture) > LIMIT)
            page.close()
            server.process.terminate()
    print(f"over {LIMIT:,} bytes: {', '.join(over)}" if over else "all under a mebibyte")
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
