"""Guidance as pure functions: of what the network predicts, of the clean video it means, of the latents that come next."""

from vidistill.guide.cfg import Cfg, CfgPlus
from vidistill.guide.knobs import KNOBS
from vidistill.guide.lowpass import LowPass, butterworth, mix
from vidistill.guide.operators import Moment, Operator, force
from vidistill.guide.pull import Pull

__all__ = ["KNOBS", "Cfg", "CfgPlus", "LowPass", "Moment", "Operator", "Pull", "butterworth", "force", "mix"]
