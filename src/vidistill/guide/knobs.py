"""The knobs of the pull, declared once."""

from __future__ import annotations

from vidistill.knobs import Knob
from vidistill.schedule import DECAYS, WEIGHTS

KNOBS = (
    Knob("strength", 0.5, "pull towards a centre; each weight has its own scale", low=0, high=5, step=0.05, symbol="lambda",
         equation=r"\hat x_0 \leftarrow \hat x_0 + \lambda s_t w_f (m_k - \hat x_0)", source="MGD3: 0.1 with its weight", group="pull"),
    Knob("weight", "score", "how the pull is spread over time", choices=WEIGHTS, symbol="s_t", source="GVD's is not public", group="pull"),
    Knob("decay", "linear", "how the pull falls along the frames", choices=DECAYS, symbol="w_f", source="GVD: 1 - f/F", group="pull"),
    Knob("t_high", 1000.0, "first training timestep that is guided", low=1, high=1000, step=10, source="t_stop, GVD 1000", group="pull"),
    Knob("t_low", 0.0, "timestep from which on nothing is guided", low=0, high=990, step=10, source="MGD3: 500", group="pull"),
)  # fmt: skip
