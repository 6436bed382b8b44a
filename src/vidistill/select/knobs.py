"""The knobs of class centres and of instances composed of several videos, declared once."""

from __future__ import annotations

from vidistill.knobs import Knob
from vidistill.select.centres import KINDS
from vidistill.select.mvic import POLICIES

KNOBS = (
    Knob("centre", "mean", "what a cluster pulls to", choices=KINDS, symbol="m_k", source="GVD: k-means centres", group="pull"),
    Knob("instances", 5, "instances per class", low=1, high=1000, symbol="IPC", source="paper: 1, 5, 10, 20", group="instances"),
    Knob("videos", 4, "videos that make one instance", low=1, high=16, symbol="U", source="GVD: 4", group="instances"),
    Knob("policy", "first", "frames that a video gives", choices=POLICIES, source="GVD's is not public", group="instances"),
    Knob("labelled", "instance", "what the teacher sees", choices=("instance", "videos"), source="GVD's is not public", group="labels"),
)
