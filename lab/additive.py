"""Whether effects add up: what each operator does to a clip alone, their sum, and what they do together.

    d_k = x_k - x,  S = sum_k d_k,  D = x_all - x         x the model alone, all from one noise
    share = |D| / |S|,  cosine = <D, S> / (|D| |S|)       both are 1 where effects add up

Effects that are large hardly can: of K operators that each made another clip altogether, as would all together, the share would be
sqrt(2 / (K + K^2)), the cosine sqrt(K / (2 + 2 K)) and that of two effects 1/2, for all have the model's clip in common. These are the
numbers to read others against.

Sizes are root mean squares of latents ``[1, C, T, h, w]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

LEAST, MOST = 0.9, 1.1
"""Shares between which effects are said to add up, where the cosine too is at least ``LEAST``."""

TURNED = 0.5
"""Cosine below which the whole is said to go another way than the sum."""


@dataclass(frozen=True)
class Additive:
    """How the effects of two operators or more add up.

    Attributes:
        effects: operator -> size of what it does alone.
        summed, whole: size of the sum of these, and of what they do together.
        share, cosine: of the whole and the sum; None where one of them is nothing.
        pairs: two operators -> cosine of what they do alone: 1 is the same, 0 unrelated, -1 the opposite.
        like: operator -> cosine of what it does alone and the whole.
        shares, cosines: of the clean clip that is predicted after each step.
    """

    effects: dict[str, float]
    summed: float
    whole: float
    share: float | None
    cosine: float | None
    pairs: dict[str, float | None]
    like: dict[str, float | None]
    shares: list[float | None]
    cosines: list[float | None]

    @property
    def unrelated(self) -> tuple[float, float]:
        """Share and cosine of clips that have nothing in common."""
        count = len(self.effects)
        return (2 / (count + count**2)) ** 0.5, (count / (2 + 2 * count)) ** 0.5

    def told(self) -> str:
        """Say whether they add up, and which one the whole is most like."""
        if self.share is None or self.cosine is None:
            return "Nothing adds up: the effects cancel, or there are none."
        near = {name: value for name, value in self.like.items() if value is not None}
        nearest = max(near, key=near.__getitem__)
        if self.cosine < TURNED:
            verdict = "They do not add up: together they go another way"
        elif self.share < LEAST:
            verdict = "Together they do less than their sum"
        elif self.share > MOST:
            verdict = "Together they do more than their sum"
        else:
            verdict = "They add up" if self.cosine >= LEAST else "Together they do as much as their sum, but not the same"
        pairs = ", ".join(f"{pair} {value:.2f}" for pair, value in self.pairs.items() if value is not None)
        size, turn = self.unrelated
        return (
            f"{verdict}: {self.share:.0%} of the size of the sum of what each does alone, cosine {self.cosine:.2f}; clips that had nothing "
            f"in common would have {size:.0%} and {turn:.2f}. The whole is most like the {nearest} alone, cosine {near[nearest]:.2f}. "
            f"Cosine of what two do alone, 0.50 were they unrelated: {pairs}."
        )


def additive(alone: Sequence[Tensor], single: Mapping[str, Sequence[Tensor]], whole: Sequence[Tensor]) -> Additive:
    """Return how effects add up.

    Args:
        alone: the model's predicted clean clip after each step, the last being its clip.
        single: operator -> the same with it alone, two or more.
        whole: the same with all of them.
    """
    effects = {name: [x - base for x, base in zip(xs, alone, strict=True)] for name, xs in single.items()}
    sums = [sum(parts[1:], parts[0]) for parts in zip(*effects.values(), strict=True)]
    together = [x - base for x, base in zip(whole, alone, strict=True)]
    last = {name: parts[-1] for name, parts in effects.items()}
    return Additive(
        effects={name: size(part) for name, part in last.items()},
        summed=size(sums[-1]),
        whole=size(together[-1]),
        share=share(together[-1], sums[-1]),
        cosine=cosine(together[-1], sums[-1]),
        pairs={f"{a} and {b}": cosine(last[a], last[b]) for a, b in combinations(last, 2)},
        like={name: cosine(together[-1], part) for name, part in last.items()},
        shares=[share(one, other) for one, other in zip(together, sums, strict=True)],
        cosines=[cosine(one, other) for one, other in zip(together, sums, strict=True)],
    )


def size(z: Tensor) -> float:
    """Return the root mean square of latents."""
    return float(z.square().mean().sqrt())


def share(one: Tensor, other: Tensor) -> float | None:
    """Return the size of one over that of another, None where that is 0."""
    return size(one) / size(other) if size(other) else None


def cosine(one: Tensor, other: Tensor) -> float | None:
    """Return the cosine of two latents, None where one of them is 0."""
    sizes = size(one) * size(other)
    return float((one * other).mean()) / sizes if sizes else None
