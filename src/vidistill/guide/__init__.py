"""Guidance as pure functions: of what the network predicts, of the clean video it means, of the latents that come next."""

from vidistill.guide.cfg import Cfg, CfgPlus, Switch
from vidistill.guide.knobs import KNOBS, LOW_PASS_KNOBS, WAY_KNOBS, WAYS
from vidistill.guide.lowpass import FILTERS, LowPass, low_pass_mask, mix
from vidistill.guide.operators import Moment, Operator, force
from vidistill.guide.pull import Pull

__all__ = [
    "FILTERS",
    "KNOBS",
    "LOW_PASS_KNOBS",
    "WAYS",
    "WAY_KNOBS",
    "Cfg",
    "CfgPlus",
    "LowPass",
    "Moment",
    "Operator",
    "Pull",
    "Switch",
    "force",
    "low_pass_mask",
    "mix",
]
