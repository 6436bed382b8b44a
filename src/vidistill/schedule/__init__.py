"""Numbers of time: noise levels, the weights of a pull over time and over frames, windows of steps. Pure functions."""

from vidistill.schedule.decay import DECAYS, frame_weights
from vidistill.schedule.noise import Time, alpha_of, ddim_sigma, guidance_scale, snr
from vidistill.schedule.weights import ALPHA_MIN, WEIGHTS, First, Interval, pull_weight

__all__ = [
    "ALPHA_MIN",
    "DECAYS",
    "WEIGHTS",
    "First",
    "Interval",
    "Time",
    "alpha_of",
    "ddim_sigma",
    "frame_weights",
    "guidance_scale",
    "pull_weight",
    "snr",
]
