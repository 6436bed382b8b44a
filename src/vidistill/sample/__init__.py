"""Clips from models: what the sampler sees of a model, the sampler, a generator of step records, and its tapes."""

from vidistill.sample.collect import Job, collect, collected, costs
from vidistill.sample.denoiser import Denoiser, Epsilon, Flow, Motion
from vidistill.sample.freeinit import freeinit
from vidistill.sample.knobs import KNOBS, TEACHER_KNOBS, sampling_of
from vidistill.sample.load import load_denoiser
from vidistill.sample.sampler import Step, fits, generate, sample
from vidistill.sample.tape import Tape, fork, load_tape, record
from vidistill.sample.teacher import T_MAPS, Teacher
from vidistill.sample.words import told_words

__all__ = [
    "KNOBS",
    "TEACHER_KNOBS",
    "T_MAPS",
    "Denoiser",
    "Epsilon",
    "Flow",
    "Job",
    "Motion",
    "Step",
    "Tape",
    "Teacher",
    "collect",
    "collected",
    "costs",
    "fits",
    "fork",
    "freeinit",
    "generate",
    "load_denoiser",
    "load_tape",
    "record",
    "sample",
    "sampling_of",
    "told_words",
]
