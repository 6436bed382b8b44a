"""What a result is worth: accuracy, intervals, paired differences, reconstruction error, generated clips, consistency, resumable trials."""

from vidistill.measure.accuracy import accuracy
from vidistill.measure.consistency import dynamic_degree, frame_consistency, imaging_quality, motion_smoothness, temporal_flickering
from vidistill.measure.generated import coverage, drift, fidelity, nearest, spread
from vidistill.measure.intervals import exact, interval, paired
from vidistill.measure.ranking import lrs
from vidistill.measure.reconstruction import mean_psnr, psnr, relative_error
from vidistill.measure.trials import pick_arms, run_trials, summarise
from vidistill.measure.truth import consistency_table, truth_table, video_table

__all__ = [
    "accuracy",
    "consistency_table",
    "coverage",
    "drift",
    "dynamic_degree",
    "exact",
    "fidelity",
    "frame_consistency",
    "imaging_quality",
    "interval",
    "lrs",
    "mean_psnr",
    "motion_smoothness",
    "nearest",
    "paired",
    "pick_arms",
    "psnr",
    "relative_error",
    "run_trials",
    "spread",
    "summarise",
    "temporal_flickering",
    "truth_table",
    "video_table",
]
