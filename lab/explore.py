"""Explore pages without a screen: from what a page shows to the command and the cell that make it again, and the record that proves it.

    settings --command--> vidistill explore PAGE -p NAME=VALUE ... --its notebook--> clips --record--> hash

The hash is of what was asked for and of every pixel that came of it, so a page and a run without one have the same hash or did not show
the same. It holds on one machine: another processor, device or version of a package may change a pixel.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidistill import __version__
from vidistill.errors import InputError, choose, nearest
from vidistill.files import digest
from vidistill.knobs import Knobs
from vidistill.lab.runner import SIDECAR, TYPES, notebooks_dir, parameters_of

if TYPE_CHECKING:
    from torch import Tensor

PAGES: dict[str, tuple[str, ...]] = {
    "compose": ("vidistill.lab.compose_session",),
    "few_step": ("vidistill.lab.few_step_session", "vidistill.lab.plane_session"),
    "gvd": ("vidistill.lab.gvd_session",),
    "latent_vdd": ("vidistill.papers.latent_vdd",),
    "videoguide": ("vidistill.lab.videoguide_session",),
    "zoo": ("vidistill.lab.zoo_session",),
}
"""Page, the stem of its notebook in ``notebooks/explore`` -> the modules whose ``KNOBS`` it has; its clips depend on the first one's."""

RUN = ("live", "out", SIDECAR)
"""Parameters of a notebook that belong to a run of it and not to what is shown."""

PLACES = ("models", "folder", "device")
"""Parameters that say where, not what: a record leaves them out."""

NAMED = ("students", "teacher", "codec")
"""Parameters that may hold folders: of these a record keeps the names."""

ASIDE = ("plane_seed",)
"""Parameters that no clip depends on, besides the knobs of a page's further modules."""

DIGITS = 9
"""Decimals of a number: a slider counts steps of 0.05 to 0.30000000000000004."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: the name of its type, its default, and what its comment says."""

    kind: str
    default: Any
    words: str


def notebook_of(page: str) -> Path:
    """Return the notebook of a page.

    Raises:
        InputError: there is no such page; the line names the nearest one.
    """
    return notebooks_dir() / "explore" / f"{choose('page', page, PAGES)}.ipynb"


def knobs_of(page: str) -> Knobs:
    """Return all knobs of a page."""
    modules = PAGES[choose("page", page, PAGES)]
    return Knobs(page, *(knob for module in modules for knob in import_module(module).KNOBS.values()))


@cache
def declared(page: str) -> dict[str, Parameter]:
    """Return what a page's notebook declares in its ``parameters`` cell, by name and in order; read once.

    Raises:
        InputError: see :func:`vidistill.lab.runner.parameters_of`.
    """
    found = parameters_of(notebook_of(page))
    return {name: Parameter(one["inferred_type_name"], ast.literal_eval(one["default"]), one["help"]) for name, one in found.items()}


def settled(page: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter of what a page shows, in the notebook's order: its own default where ``settings`` leaves it out or None.

    Knobs that the notebook does not declare are passed over: the page's clips do not depend on them.

    Raises:
        InputError: a name that the page does not have, or a value that it does not allow.
    """
    known, knobs = declared(page), knobs_of(page)
    values = {name: parameter.default for name, parameter in known.items() if name not in RUN}
    for name, value in settings.items():
        if name in values and value is not None:
            value = knobs[name].check(value) if name in knobs else _typed(name, value, known[name].kind)
            values[name] = round(value, DIGITS) if isinstance(value, float) else value
        elif name not in values and name not in knobs:
            raise InputError(f"unknown parameter {name!r} for {page}: {nearest(name, values)}")
    return values


def command(page: str, settings: Mapping[str, Any]) -> str:
    """Return the command that makes again what a page shows, quoted for a shell: each parameter that is not at its default."""
    known = declared(page)
    turned = [f"{name}={value}" for name, value in settled(page, settings).items() if value != known[name].default]
    return shlex.join(["vidistill", "explore", page, *(part for pair in turned for part in ("-p", pair))])


def cell(page: str, settings: Mapping[str, Any]) -> str:
    """Return the ``parameters`` cell of a page's notebook that makes again what the page shows; its comments are kept."""
    values = settled(page, settings)
    rows = [f"{name}: {one.kind} = {_literal(values.get(name, one.default))}  # {one.words}" for name, one in declared(page).items()]
    return "\n".join(rows)


def record(page: str, settings: Mapping[str, Any], clips: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what was asked for and what came of it, JSON-ready.

    Args:
        page: its name.
        settings: of the page, under the names of its notebook's parameters; see :func:`settled`.
        clips: name -> uint8 ``[3, T, H, W]``.

    Returns:
        ``page``, ``settings`` without places, ``clips``: name -> ``shape`` and ``sha256`` of the pixels in that order, ``version``, and
        ``hash``: the SHA-256 of the first three in hex.

    Raises:
        InputError: see :func:`settled`.
    """
    from vidistill.lab.zoo_session import named, tidy

    apart = {*PLACES, *ASIDE, *(name for module in PAGES[choose("page", page, PAGES)][1:] for name in import_module(module).KNOBS)}
    values = {name: value for name, value in settled(page, settings).items() if name not in apart}
    values |= {name: ", ".join(named(values[name])) for name in NAMED if name in values}
    values |= {name: tidy(values[name]) for name in ("prompt",) if name in values}
    told = {"page": page, "settings": values, "clips": {name: _pixels(clip) for name, clip in clips.items()}}
    return {**told, "version": __version__, "hash": digest(told, 64)}


def clip_files(names: Iterable[str]) -> dict[str, str]:
    """Return where clips of these names lie in the folder of a run: ``"unguided twin"`` -> ``"clips/unguided-twin.mp4"``."""
    return {name: f"clips/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.mp4" for name in names}


def keep(out: str | Path, clips: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write clips, uint8 ``[3, T, H, W]``, into ``out/clips``, the record ``told`` beside and in each."""
    from vidistill.data.world import write_clip

    for name, file in clip_files(clips).items():
        write_clip(Path(out, file), clips[name], {**told, "clip": name})


def _typed(name: str, value: Any, kind: str) -> Any:
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise InputError(f"parameter {name}={value!r} is not allowed: the notebook declares it as {kind}")
    return value


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _pixels(clip: Tensor) -> dict[str, Any]:
    return {"shape": list(clip.shape), "sha256": hashlib.sha256(clip.numpy().tobytes()).hexdigest()}
