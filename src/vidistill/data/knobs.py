"""The knobs of reading videos, declared once for every paper that reads some, and the protocol they spell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidistill.knobs import Knob
from vidistill.types import Protocol

KNOBS = (
    Knob("split", 1, "official train and test split", low=1, high=3, source="UCF101 and HMDB51 have three", group="data"),
    Knob("subset", "all", "classes to read", choices=("all", "miniucf"), source="VDSD: MiniUCF is 50 of UCF101's classes", group="data"),
    Knob("frames", 16, "frames per clip", low=2, high=128, symbol="T", source="LVDD 4.1", group="data"),
    Knob("gap", 4, "distance between sampled frames", low=1, high=64, unit="frames", source="official code", group="data"),
    Knob("size", 112, "height and width of a clip", low=16, high=512, step=8, unit="px", source="LVDD 4.1", group="data"),
    Knob("crop", "resize-crop", "how frames become square", choices=("resize-crop", "squash", "center"), source="official", group="data"),
    Knob("test_policy", "centre", "where a test clip starts", choices=("centre", "random"), source="official: random", group="data"),
)


def protocol_of(values: Mapping[str, Any]) -> Protocol:
    """Return the clip protocol that these knob values spell."""
    return Protocol(values["frames"], values["gap"], values["size"], values["crop"], values["test_policy"])
