"""What a result is worth: accuracy, intervals over seeds, paired differences, reconstruction error, generated clips, trials that resume."""

from vidistill.measure.accuracy import accuracy
from vidistill.measure.generated import coverage, drift, fidelity, nearest, spread
from vidistill.measure.intervals import interval, paired
from vidistill.measure.ranking import lrs
from vidistill.measure.reconstruction import mean_psnr, psnr, relative_error
from vidistill.measure.trials import pick_arms, run_trials, summarise

__all__ = [
    "accuracy",
    "coverage",
    "drift",
    "fidelity",
    "interval",
    "lrs",
    "mean_psnr",
    "nearest",
    "paired",
    "pick_arms",
    "psnr",
    "relative_error",
    "run_trials",
    "spread",
    "summarise",
]
