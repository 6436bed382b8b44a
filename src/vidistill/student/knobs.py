"""The knobs of training and scoring students, declared once for every paper that judges a distilled set by them."""

from __future__ import annotations

from vidistill.knobs import Knob

KNOBS = (
    Knob("student", "conv3d", "network trained on the set", choices=("conv3d", "cnn-gru", "cnn-lstm"), source="LVDD 4.1", group="student"),
    Knob("width", 128, "channels of the student", low=4, high=512, step=4, source="official code", group="student"),
    Knob("protocol", "fast", "how students are trained", choices=("fast", "lvdd"), source="lvdd: the official evaluation", group="student"),
    Knob("steps", 0, "optimiser steps, 0 takes the protocol's own", low=0, high=1000000, source="official: 501 epochs", group="student"),
    Knob("batch", 0, "clips per step, 0 takes the protocol's own", low=0, high=4096, source="official: 256", group="student"),
    Knob("seeds", 5, "repetitions with fresh selections and networks", low=1, high=100, source="official: 5 networks", group="student"),
)
