"""How soon the glass answers, measured in a real browser on the real pages with the models of the zoo.

PYTHONPATH=tests/ui python tests/bench/bench_glass.py [--repeats 5] [--start]

Each knob is moved by a key, as often as ``--repeats`` says, each time to another value, and the clock runs from the key's release until the
browser shows what came of it: the first preview of the clip that forms, or the decoded clip. The median is held against the budget of the
architecture: .3 s for a preview of a few-step student, 1 s for one of a 20-step model, .5 s for the HOSVD rank. Beside each stands its peer
of the same run: the whole clip. ``--start`` measures, too, from the command ``vidistill lab`` to the first moving picture of the start
notebook: 60 s. Prints one JSON line each; exits 1 when a median is over its budget. One quiet machine, please: two cores are enough.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import servers

from vidistill.lab.runner import notebooks_dir

PATIENCE = 300_000  # ms
LOOK = 0.02  # seconds between two looks at the page: looking costs, too
DEEP = """wanted => {
  const find = root => {
    const own = root.querySelector(wanted);
    if (own) return own;
    for (const one of root.querySelectorAll("*")) { const found = one.shadowRoot && find(one.shadowRoot); if (found) return found; }
    return null;
  };
  const found = find(document);
  return found && found.src;
}"""
PREVIEW = 'img[alt^="guided, frame"][alt*="as predicted after step"]'
WHOLE = 'img[alt^="all together, frame"]'
KNOBS = {  # what: page, slider, presses of the key, parameters of its notebook, what is waited for, seconds
    "lambda, few-step student": ("compose", "strength", 1, {"model": "lab-dit-dfd4", "teach": False}, WHOLE, 0.3),
    "lambda, 20 steps": ("gvd", "strength", 1, {}, PREVIEW, 1.0),
    "beta, base and teacher": ("videoguide", "interpolation beta", 1, {}, PREVIEW, 1.0),
    "HOSVD rank": ("latent_vdd", "rank ratio", 2, {}, "video", 0.5),  # one step of .05 may leave all ranks, and so the clip, as they were
}


def source(page, wanted: str) -> str | None:
    """Return the first such picture or film, None while there is none."""
    return page.evaluate(DEEP, wanted)


def seconds(page, slider: str, presses: int, wanted: str) -> tuple[float, float]:
    """Return the seconds from a key's last release to what is wanted, and to the end of the run; the value is one that was not there
    before."""
    servers.handle(page, slider).focus()
    before = source(page, wanted)
    for _ in range(presses):
        page.keyboard.press("ArrowRight")
    began = time.perf_counter()
    while (now := source(page, wanted)) is None or now == before:
        assert time.perf_counter() - began < 60, f"no other {wanted} came"
        time.sleep(LOOK)
    answered = time.perf_counter() - began
    page.get_by_text("done in").first.wait_for(timeout=PATIENCE)
    return answered, time.perf_counter() - began


def start() -> float:
    """Return the seconds from ``vidistill lab`` to a moving picture in JupyterLab."""
    folder = Path(tempfile.mkdtemp(prefix="vidistill-start-"))
    shutil.copytree(notebooks_dir(), folder / "notebooks", ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"))
    with servers.Servers() as started, servers.browsing(servers.chromium()) as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.perf_counter()
        url = started.lab(folder)
        servers.run_all(page, url("notebooks/00_start_here.ipynb"), PATIENCE)
        page.locator(".jp-OutputArea img").first.wait_for(timeout=PATIENCE)
        return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--start", action="store_true")
    asked = parser.parse_args()
    late = False
    folder = Path(tempfile.mkdtemp(prefix="vidistill-glass-"))
    with servers.Servers(cache=folder / "cache") as started, servers.browsing(servers.chromium()) as browser:
        for what, (name, slider, presses, values, wanted, budget) in KNOBS.items():
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            url, server = started.serve(servers.with_parameters(name, folder, values))
            page.goto(url, timeout=PATIENCE)
            page.locator("video").first.wait_for(timeout=PATIENCE)
            page.wait_for_timeout(5000)
            servers.handle(page, slider).press("Home")
            page.wait_for_timeout(5000)
            runs = [seconds(page, slider, presses, wanted) for _ in range(asked.repeats + 1)][1:]  # the first one warms up
            answered, whole = (statistics.median(column) for column in zip(*runs, strict=True))
            told = {"what": what, "page": name, "answer_s": round(answered, 3), "clip_s": round(whole, 3), "budget_s": budget}
            print(json.dumps(told | {"worst_s": round(max(one for one, _ in runs), 3), "repeats": len(runs)}), flush=True)
            late |= answered > budget
            page.close()
            server.process.terminate()
    if asked.start:
        took = start()
        print(json.dumps({"what": "vidistill lab to a moving picture", "answer_s": round(took, 1), "budget_s": 60}), flush=True)
        late |= took > 60
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
