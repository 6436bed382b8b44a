"""Lab-size models that ship with the package, each a diffusers folder with the card of what was measured on it."""

from __future__ import annotations

from pathlib import Path

from vidistill.errors import choose

ZOO = ("lab-vae",)
"""Names of the models."""


def path(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        InputError: there is no model of that name.
    """
    return Path(__file__).parent / choose("zoo model", name, ZOO)
