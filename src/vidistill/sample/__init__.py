"""Clips from models: what the sampler sees of a model, and the sampler, a generator of step records."""

from vidistill.sample.denoiser import Denoiser, Epsilon, Flow, Time, load_denoiser
from vidistill.sample.sampler import Step, generate, sample

__all__ = ["Denoiser", "Epsilon", "Flow", "Step", "Time", "generate", "load_denoiser", "sample"]
