"""The knobs of the pull, of the low-pass filter and of how outputs are combined, declared once."""

from __future__ import annotations

from vidistill.guide.cfg import KINDS
from vidistill.guide.lowpass import FILTERS
from vidistill.knobs import Knob
from vidistill.schedule import DECAYS, WEIGHTS

KNOBS = (
    Knob("strength", 0.5, "pull towards a centre; each weight has its own scale", low=0, high=5, step=0.05, symbol="lambda",
         equation=r"\hat x_0 \leftarrow \hat x_0 + \lambda s_t w_f (m_k - \hat x_0)", source="MGD3: 0.1 with its weight", group="pull"),
    Knob("weight", "score", "how the pull is spread over time", choices=WEIGHTS, symbol="s_t", source="GVD's is not public", group="pull"),
    Knob("decay", "linear", "how the pull falls along the frames", choices=DECAYS, symbol="w_f", source="GVD: 1 - f/F",
         equation=r"\text{linear}: w_f = 1 - f / F", group="pull"),
    Knob("t_high", 1000.0, "first training timestep that is guided", low=1, high=1000, step=10, source="t_stop, GVD 1000", group="pull"),
    Knob("t_low", 0.0, "timestep from which on nothing is guided", low=0, high=990, step=10, source="MGD3: 500", group="pull"),
)  # fmt: skip

WAYS = tuple(KINDS)
"""Ways to combine the output for no prompt and for the prompt."""

WAY_KNOBS = (
    Knob("lam", 0.8, "scale of CFG++", low=0, open_low=True, high=2, step=0.05, symbol="lam", source="CFG++, VideoGuide", group="cfg"),
    Knob("inside", "cfg++", "how outputs are combined on the guided steps", choices=WAYS, source="VideoGuide D.2", group="cfg"),
    Knob("outside", "cfg", "and on the rest", choices=WAYS, source="paper cfg, official code cfg++", group="cfg"),
)
"""The knobs of :mod:`vidistill.guide.cfg`."""

LOW_PASS_KNOBS = (
    Knob("space", 0.25, "spatial cut-off of the low-pass, 0 is no filter", low=0, high=1, step=0.025, symbol="d_s",
         equation=r"x \leftarrow F^{-1}(M F(x) + (1 - M) F(n))", source="paper 0.25, official code 0.125", group="low-pass"),
    Knob("time", 0.25, "cut-off along frames", low=0, open_low=True, high=1, step=0.025, symbol="d_t", source="as d_s", group="low-pass"),
    Knob("filter", "butterworth", "its mask", choices=FILTERS, symbol="M", source="FreeInit", group="low-pass"),
    Knob("order", 4, "order of Butterworth's mask", low=1, high=16, symbol="n", source="FreeInit", group="low-pass"),
)  # fmt: skip
"""The knobs of :class:`vidistill.guide.lowpass.LowPass`."""
