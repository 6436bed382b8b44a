"""Pictures of a clip while it forms, paced so that making and drawing them costs a small share of the sampling.

A linear map from latents to colours would cost less than decoding, but on lab-vae's latents it takes red for orange: frames are decoded, as
often as they are paid for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from vidistill.sample import Denoiser

BUDGET = 0.05
"""Share of the sampling time that previews may take, their drawing included; the first of a run is given on credit."""

PREVIEWS = 8
"""Previews of a clip at most."""


@dataclass(frozen=True)
class Preview:
    """One frame of the clean clip as the model predicts it after a step.

    Attributes:
        name: of the clip. step, steps: after which of how many steps. frame: which frame, from 0.
        picture: uint8 ``[3, H, W]``.
    """

    name: str
    step: int
    steps: int
    frame: int
    picture: Tensor


def preview(model: Denoiser, x0: Tensor, name: str, step: int, steps: int) -> Preview:
    """Decode the middle frame of a predicted clip, ``[1, C, T, H, W]``."""
    frame = model.shape[1] // 2
    picture = model.codec.decode(x0[:, :, frame : frame + 1], 1)[0, :, 0].cpu()
    return Preview(name, step, steps, frame * model.frames // model.shape[1], picture)


class Pace:
    """Says when a run's next preview is paid for.

    Args:
        costs: key -> seconds of the cheapest preview so far, shared by all runs.
        key: what the cost depends on, the model's name.
    """

    def __init__(self, costs: MutableMapping[str, float], key: str) -> None:
        self.spent = 0.0
        self._costs, self._key, self._next = costs, key, 1

    def due(self, done: int, steps: int, seconds: float) -> bool:
        """Return whether ``seconds`` of sampling, ``done`` of ``steps`` steps, have earned another preview; the last step is no preview.

        The first one is given on credit where it costs no more than a step: whoever turned a knob waits for it.
        """
        cost = self._costs.get(self._key, 0.0)
        credit = not self.spent and cost * done <= seconds
        return self._next <= done < steps and (credit or self.spent + cost <= BUDGET * seconds)

    @contextmanager
    def paid(self, done: int, steps: int) -> Iterator[None]:
        """Take note of what is done inside: the making of a preview, and its drawing where a generator yields it."""
        began = time.perf_counter()
        yield
        cost = time.perf_counter() - began
        self.spent += cost
        self._costs[self._key] = min(self._costs.get(self._key, cost), cost)
        self._next = done + max(1, steps // PREVIEWS)
