"""Guidance as pure functions: of what the network predicts, of the clean video it means, of the latents that come next."""

from vidistill.guide.cfg import KINDS, Cfg, CfgPlus, Switch, Way, way
from vidistill.guide.knobs import KNOBS, LOW_PASS_KNOBS, WAY_KNOBS, WAYS
from vidistill.guide.lowpass import FILTERS, LowPass, low_pass_mask, mix
from vidistill.guide.operators import Moment, Operator, force
from vidistill.guide.peers import PEERS, Apg, CfgZero, Guider, Tcfg
from vidistill.guide.pull import Pull

__all__ = [
    "FILTERS",
    "KINDS",
    "KNOBS",
    "LOW_PASS_KNOBS",
    "PEERS",
    "WAYS",
    "WAY_KNOBS",
    "Apg",
    "Cfg",
    "CfgPlus",
    "CfgZero",
    "Guider",
    "LowPass",
    "Moment",
    "Operator",
    "Pull",
    "Switch",
    "Tcfg",
    "Way",
    "force",
    "low_pass_mask",
    "mix",
    "way",
]
