"""The knobs of training and scoring students, and of soft labels, declared once for every paper that judges a distilled set by them."""

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

SOFT_KNOBS = (
    Knob(
        "teacher",
        "auto",
        "lab-probe, student (trained on all clips), a VideoMAE; auto: the first that knows",
        source="GVD: VideoMAE",
        group="labels",
    ),
    Knob("soft", 0.8, "share of the teacher in the loss", low=0, high=1, step=0.05, symbol="a", source="GVD: alpha 0.2", group="labels"),
    Knob("temperature", 3.0, "softness of its labels", low=0.1, high=50, step=0.1, symbol="tau", source="GVD: 3.0", group="labels"),
    Knob("t_squared", True, "weigh its term with the temperature squared", source="Hinton et al. 2015", group="labels"),
)
"""A paper without a teacher leaves them out."""
