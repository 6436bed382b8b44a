"""The papers and their presets: named sets of knob values, one TOML file per paper, read and checked here."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from vidistill.errors import InputError, choose
from vidistill.knobs import Knobs, Value

PAPERS = {name: f"vidistill.papers.{name}" for name in ("latent_vdd", "gvd", "videoguide", "accvideo", "dfd")}
"""Paper name -> the module that holds its ``KNOBS`` and its ``run``."""

PLANE = ("accvideo", "dfd")
"""Papers whose world is made of points: they read no videos."""

SHARED = ("gvd", "videoguide")
"""Papers whose clips several processes make together (accelerate launch, torchrun); of the others only the first process runs."""

TIERS = {"toy": "quick", "small": "ours", "full": "paper"}
"""Tier of a reproduction -> the preset it runs."""

FOLDER = Path(__file__).with_name("presets")


def paper_module(paper: str) -> ModuleType:
    """Import and return a paper's module.

    Raises:
        InputError: there is no such paper; the line names the nearest one.
    """
    return import_module(PAPERS[choose("paper", paper, PAPERS)])


def knobs_of(paper: str) -> Knobs:
    """Return the knob declarations of ``paper``."""
    return paper_module(paper).KNOBS


def load_presets(paper: str) -> dict[str, dict[str, Any]]:
    """Return ``{preset: {"about": one line, knob: value, ...}}`` as written in ``presets/<paper>.toml``; values are not checked yet.

    Raises:
        InputError: there is no such paper, the file is not TOML, or a preset does not say what it is ``about``.
    """
    path = FOLDER / f"{choose('paper', paper, PAPERS)}.toml"
    try:
        presets = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the presets of {paper} ({path}): {error}") from None
    for name, values in presets.items():
        if not isinstance(values, dict) or not isinstance(values.get("about"), str):
            raise InputError(f"preset {name!r} in {path} must be a table with a line 'about'")
    return presets


def preset(paper: str, name: str, knobs: Knobs) -> dict[str, Value]:
    """Return the knob values that preset ``name`` sets, each checked against its declaration; the other knobs keep their defaults.

    Raises:
        InputError: unknown preset (the nearest is named), or one of its values is not allowed.
    """
    values = load_presets(paper)
    chosen = {knob: value for knob, value in values[choose("preset", name, values)].items() if knob != "about"}
    return {knob: knobs[knob].check(value) for knob, value in chosen.items()}
