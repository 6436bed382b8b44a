"""What an operator is: something that sees the clean video a step predicts and says by how much it should be another one.

A list of operators is applied in its order; each sees what those before it have made of the prediction. Its force is the root mean square
of its own change in each frame, so that a table of (step, frame) says who pushed what.

Shapes: B clips, C channels, T frames, H, W latent cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vidistill.schedule import First, Interval, Time


@dataclass(frozen=True)
class Moment:
    """Where the sampler is.

    Attributes:
        index, steps: this step, from 0, and how many there are.
        now, after: where the step begins and ends.
        eta: of the sampler.
        x: the latents before the step, ``[B, C, T, H, W]``.
        seeds: one a clip; an operator's own noise is a stream of them.
    """

    index: int
    steps: int
    now: Time
    after: Time
    eta: float
    x: Tensor
    seeds: tuple[int, ...]

    def within(self, interval: Interval | First) -> bool:
        """Return whether this step is one of an interval's, in timesteps or counted from the first."""
        return self.index < interval.steps if isinstance(interval, First) else interval.holds(self.now.t)


class Operator(Protocol):
    """A change of the predicted clean video, or of the latents that come next.

    One of the methods does the work; both return None where there is nothing to do.
    """

    @property
    def name(self) -> str:
        """What it is called in records."""

    @property
    def interval(self) -> Interval | First:
        """The steps at which it works."""

    @property
    def evaluations(self) -> int:
        """How often a network is evaluated, per clip, for a change of the clean video."""

    @property
    def keeps_noise(self) -> bool:
        """Whether the noise that is put back stays the network's, x' = alpha' (x0 + change) + sigma' eps.

        Without it, it becomes the one that the changed video means, (x - alpha (x0 + change)) / sigma. With CFG++ it always stays.
        """

    def on_x0(self, x0: Tensor, at: Moment) -> Tensor | None:
        """Return the change of the clean video, ``[B, C, T, H, W]``."""

    def on_next(self, x: Tensor, at: Moment) -> Tensor | None:
        """Return the latents after the step, changed."""


def force(change: Tensor) -> Tensor:
    """Return the root mean square of a change in each frame of each clip, float32 ``[B, T]``."""
    return change.float().square().mean((1, 3, 4)).sqrt()
