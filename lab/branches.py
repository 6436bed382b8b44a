"""Steps of the sampler that were made before: a run that begins as an earlier one did has its steps, and goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from vidistill.sample import Step as Sampled

BYTES = 256 * 2**20
"""Of steps that are kept: a few hundred clips of the lab's models; of a model whose clip takes more, the newest one alone."""


class Branches:
    """The steps of the newest runs, as many runs as fit into ``most`` bytes; the newest one is kept whatever its size.

    A step is two latents and its forces. One that several runs share is kept once, and counted once.

    Args:
        most: bytes, on whichever device the models run.
    """

    def __init__(self, most: int = BYTES) -> None:
        self._most = most
        self._runs: dict[tuple[Hashable, ...], tuple[Sampled, ...]] = {}

    @property
    def bytes(self) -> int:
        """What is kept."""
        steps = {id(step): step for run in list(self._runs.values()) for step in run}
        return sum(tensor.nbytes for step in steps.values() for tensor in (step.x0, step.latents, *step.forces.values()))

    def known(self, causes: Sequence[Hashable]) -> tuple[Sampled, ...]:
        """Return the first steps of a run as far as they were made before.

        Args:
            causes: what each step depends on, beside the steps before it.
        """
        longest: tuple[Sampled, ...] = ()
        for key, steps in list(self._runs.items()):
            same = next((k for k, (one, other) in enumerate(zip(key, causes, strict=False)) if one != other), min(len(key), len(causes)))
            longest = steps[:same] if same > len(longest) else longest
        return longest

    def keep(self, causes: Sequence[Hashable], steps: Sequence[Sampled]) -> None:
        """Remember a finished run as the newest."""
        self._runs.pop(tuple(causes), None)
        self._runs[tuple(causes)] = tuple(steps)
        while len(self._runs) > 1 and self.bytes > self._most:
            self._runs.pop(next(iter(self._runs)), None)


def onward(
    known: Sequence[Sampled], ends: Sequence[int], sampler: Callable[[int, int, Tensor | None], Iterator[Sampled]]
) -> Iterator[Sampled]:
    """Go on after steps that are known, each segment of a run with a sampler of its own.

    All segments to come are set up at once, so that what one of them cannot have is refused before anything is sampled.

    Args:
        known: the first steps.
        ends: the last step of each segment, from 1; the last one is N.
        sampler: number of a segment, index of the step to begin with, latents before it -> that step and those after it.

    Returns:
        the steps after ``known``; their seconds and evaluations are those of all steps from the first one on.
    """
    latents = known[-1].latents if known else None
    begun = {number: sampler(number, len(known), latents) for number, end in enumerate(ends) if end > len(known)}
    return _onward(known[-1] if known else None, begun, ends, sampler)


def _onward(
    last: Sampled | None,
    begun: dict[int, Iterator[Sampled]],
    ends: Sequence[int],
    sampler: Callable[[int, int, Tensor | None], Iterator[Sampled]],
) -> Iterator[Sampled]:
    first = min(begun, default=0)
    for number, ready in begun.items():
        start, seconds, evaluations = (last.index + 1, last.seconds, last.evaluations) if last else (0, 0.0, 0)
        steps = ready if number == first else sampler(number, start, last.latents if last else None)
        for step in islice(steps, ends[number] - start):
            last = replace(step, seconds=seconds + step.seconds, evaluations=evaluations + step.evaluations)
            yield last
