"""Where the models lie that ship with the package; what is in them is the business of the rooms that load them."""

from __future__ import annotations

from pathlib import Path

from vidistill.errors import choose

STUDENTS = ("lab-dit-kd4", "lab-dit-accvideo5", "lab-dit-dmd4", "lab-dit-dfd4")
NAMES = ("lab-vae", "lab-unet", "lab-base", "lab-dit", *STUDENTS, "lab-probe")
"""Names of the models; the students of lab-dit have few steps."""


def folder(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        InputError: there is no model of that name.
    """
    return Path(__file__).parent / "zoo" / choose("zoo model", name, NAMES)


def locate(place: str | Path) -> Path:
    """Return the folder of a model by its name, or the folder that ``place`` is."""
    return folder(str(place)) if str(place) in NAMES else Path(place)
