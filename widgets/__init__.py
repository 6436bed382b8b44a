"""The glass: Panel views over the bench. No mathematics happens here; each widget shows what :mod:`vidistill.lab` computed."""

from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import Player
from vidistill.widgets.run_bar import RunBar

__all__ = ["KnobPanel", "Player", "RunBar"]
