"""Models known in closed form, as clips and as points, on any device: what the goldens are made with, no trained weight is among them.

Shapes: B clips ``[B, *CLIP]``, K Gaussians of 128 numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vidistill.data.plane import Plane
from vidistill.errors import choose
from vidistill.lab.toy import PLANE, Mixture
from vidistill.rng import normal, stream
from vidistill.sample import Flow
from vidistill.schedule import Time

CLIP = (2, 4, 4, 4)
"""C, T, H, W."""

CLASSES = ("slide", "spin")
DEVIATION = 0.3
SEEDS = (3, 4, 5)
PROMPTS = ("slide", "spin", "slide")


def means() -> Tensor:
    """Return six clips, the first three of the first class, float64 ``[6, 128]``."""
    return 0.5 * torch.randn(6, math.prod(CLIP), generator=stream(0, "goldens", "means"), dtype=torch.float64)


def labels() -> Tensor:
    """Return the class of each of the six."""
    return torch.tensor([0, 0, 0, 1, 1, 1])


def centres(device: torch.device) -> Tensor:
    """Return one centre for each of three clips, float32 ``[3, *CLIP]``."""
    return (0.5 * normal(SEEDS, "centre", CLIP)).to(device)


class Clips(Mixture):
    """The exact denoiser of noise for a mixture of Gaussians around six clips.

    Args:
        device: where it works.
        weights: of the six.
    """

    def __init__(self, device: torch.device, weights: Sequence[float] = (1, 1, 1, 1, 1, 1)) -> None:
        super().__init__(means(), DEVIATION, labels(), CLASSES, torch.tensor(weights))
        self.device = device
        self.means, self.labels, self.weights = (part.to(device) for part in (self.means, self.labels, self.weights))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return CLIP


class Straight(Flow):
    """The exact velocity for the same mixture: straight paths, Euler's steps, or those of a few-step model.

    Args:
        device: where it works.
        times: of a few-step model; without, any number of steps.
        renoise: whether it puts all noise back anew.
    """

    def __init__(self, device: torch.device, times: tuple[float, ...] = (), renoise: bool = False) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        world = Plane("clips", means(), DEVIATION, labels(), torch.full((6,), 1 / 6, dtype=torch.float64))
        self.world = on(world, device)
        self.id, self.steps, self.guidance, self.frames = "straight", len(times) or 50, 1.0, CLIP[1]
        self.device, self.dtype, self.codec, self.times, self.renoise = device, torch.float64, PLANE, times, renoise
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return CLIP

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return classes, int64 ``[B]``; the number after the last one is all of them."""
        numbers = [CLASSES.index(choose("class", name, CLASSES)) if name else len(CLASSES) for name in prompts]
        return torch.tensor(numbers, device=self.device)

    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None) -> tuple[Tensor | None, Tensor]:
        def velocity(classes: Tensor) -> Tensor:
            return self.world.velocity(x.flatten(1), time.sigma.to(x.device), classes).view(x.shape)

        return None if negative is None else velocity(negative), velocity(text)


def on(world: Plane, device: torch.device) -> Plane:
    """Return a world on a device."""
    return replace(world, means=world.means.to(device), labels=world.labels.to(device), weights=world.weights.to(device))
