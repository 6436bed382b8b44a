"""Worlds of points on the line and in the plane: mixtures of Gaussians, so that modes are counted and the velocity field is exact.

    x_0 ~ sum_k w_k N(mu_k, d^2),   x_t = (1 - t) x_0 + t eps,   u = (1 - t)^2 d^2 + t^2
    r_k = softmax_k(ln w_k - |x_t - (1 - t) mu_k|^2 / 2 u)             how likely x_t comes from Gaussian k
    v = E[eps - x_0 | x_t] = sum_k r_k ((t - (1 - t) d^2) / u (x_t - (1 - t) mu_k) - mu_k)
    x0_hat = x_t - t v,   score = ((1 - t) x0_hat - x_t) / t^2

| world | modes | source |
| --- | --- | --- |
| :func:`two_points` | {-3, 3}, both moved by M / 2 | AccVideo, arXiv 2503.19462, Fig. 2 |
| :func:`ring` | 8 on a circle of radius 2, d = 0.1 | ours |
| :func:`grid` | 5 x 5, spacing 1.2, d = 0.08 | ours |
| :func:`quadrants` | 4 classes of 4: two at radius 1.0, two at 2.2, d = 0.08; guidance loses the inner ones | ours |

Shapes: K modes, D dimensions; points float32 ``[B, D]``, classes and modes int64 ``[B]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidistill.errors import InputError


@dataclass(frozen=True)
class Plane:
    """A mixture of Gaussians with one deviation.

    Attributes:
        name: of the world.
        means: mu, float64 ``[K, D]``.
        deviation: d >= 0.
        labels: class of each mode, int64 ``[K]``.
        weights: w > 0, float64 ``[K]``, sum 1.

    Raises:
        InputError: shapes, weights or deviation do not fit.
    """

    name: str
    means: Tensor
    deviation: float
    labels: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        k = len(self.means)
        if self.means.ndim != 2 or self.labels.shape != (k,) or self.weights.shape != (k,) or self.deviation < 0:
            raise InputError(
                f"a world needs means [K, D], K labels, K weights and a deviation >= 0; got {tuple(self.means.shape)}, "
                f"{tuple(self.labels.shape)}, {tuple(self.weights.shape)}, {self.deviation:g}"
            )
        if not bool((self.weights > 0).all()):
            raise InputError(f"the weights of world {self.name} must be above 0; leave a mode out instead")

    @property
    def dim(self) -> int:
        """D."""
        return self.means.shape[1]

    @property
    def classes(self) -> int:
        """How many classes there are; 1: no condition is needed."""
        return int(self.labels.max()) + 1

    def weighted(self, weights: Sequence[float]) -> Plane:
        """Return the world with other shares of its modes, up to a constant: rare modes."""
        w = torch.tensor(list(weights), dtype=torch.float64)
        return replace(self, weights=w / w.sum())

    def draw(self, count: int, generator: torch.Generator, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return points float32 ``[count, D]`` and their classes int64 ``[count]``; with ``c`` given, points of these classes."""
        modes = self.modes(count, generator, c)
        x = self.means[modes] + self.deviation * torch.randn(count, self.dim, generator=generator, dtype=torch.float64)
        return x.float(), self.labels[modes]

    def modes(self, count: int, generator: torch.Generator, c: Tensor | None = None) -> Tensor:
        """Return modes drawn by their weights, int64 ``[count]``, of the given classes where there are any: ``min {k : u < P_k}``."""
        below = (self.weights if c is None else self._shares(c)).cumsum(-1)  # P_k
        u = torch.rand(count, generator=generator, dtype=torch.float64)
        if c is None:
            return torch.searchsorted(below, u * below[-1], right=True).clamp(max=len(below) - 1)
        return torch.searchsorted(below, (u * below[:, -1])[:, None], right=True)[:, 0].clamp(max=below.shape[1] - 1)

    def velocity(self, x: Tensor, t: Tensor | float, c: Tensor | None = None) -> Tensor:
        """Return the exact velocity ``E[eps - x_0 | x_t]``, float64 ``[B, D]``.

        Args:
            x: ``[B, D]``.
            t: in [0, 1], ``[B]`` or one for all; a deviation of 0 needs t > 0.
            c: classes ``[B]``; None, or the number after the last class, is all of them.
        """
        x, times = x.double(), torch.as_tensor(t, dtype=torch.float64).expand(len(x))[:, None]
        gap = x[:, None] - (1 - times[..., None]) * self.means  # [B, K, D]
        u = ((1 - times) ** 2 * self.deviation**2 + times**2).clamp_min(1e-12)
        shares = self.weights.log() if c is None else self._shares(c).log()
        r = (shares - gap.square().sum(2) / (2 * u)).softmax(1)
        slope = (times - (1 - times) * self.deviation**2) / u
        return (r[..., None] * (slope[..., None] * gap - self.means)).sum(1)

    def x0_hat(self, x: Tensor, t: Tensor | float, c: Tensor | None = None) -> Tensor:
        """Return ``E[x_0 | x_t]``, float64 ``[B, D]``; see :meth:`velocity`."""
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))[:, None]
        return x.double() - times * self.velocity(x, t, c)

    def score(self, x: Tensor, t: Tensor | float, c: Tensor | None = None) -> Tensor:
        """Return ``grad log p_t(x)``, float64 ``[B, D]``, t > 0; see :meth:`velocity`."""
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))[:, None]
        return ((1 - times) * self.x0_hat(x, t, c) - x.double()) / times**2

    def _shares(self, c: Tensor) -> Tensor:
        """Return the weights of the modes that each condition allows, ``[B, K]``."""
        return self.weights * ((self.labels == c[:, None]) | (c[:, None] >= self.classes))


def _world(name: str, means: Tensor, deviation: float, labels: Tensor | None = None) -> Plane:
    k = len(means)
    labels = torch.zeros(k, dtype=torch.int64) if labels is None else labels
    return Plane(name, means.double(), deviation, labels, torch.full((k,), 1 / k, dtype=torch.float64))


def two_points(mismatch: float = 0.0, *, outward: bool = False, deviation: float = 0.0) -> Plane:
    """Return {-3, 3} on the line, both moved by ``mismatch / 2`` towards 0: AccVideo's Eq. 4 sums over the points."""
    place = 3 + (mismatch if outward else -mismatch) / 2
    return _world("two-points", torch.tensor([[-place], [place]]), deviation)


def ring(modes: int = 8, radius: float = 2.0, deviation: float = 0.1) -> Plane:
    """Return modes on a circle, the first at angle 0."""
    return _world(f"ring-{modes}", _circle(modes, radius, 0.0), deviation)


def grid(side: int = 5, spacing: float = 1.2, deviation: float = 0.08) -> Plane:
    """Return ``side`` x ``side`` modes around 0, row by row."""
    line = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
    return _world(f"grid-{side * side}", torch.cartesian_prod(line, line), deviation)


def quadrants(inner: float = 1.0, outer: float = 2.2, deviation: float = 0.08) -> Plane:
    """Return 4 classes of 4 modes: eight angles on either circle, each class the two angles of its quadrant on both."""
    means = torch.cat([_circle(8, inner, 0.5), _circle(8, outer, 0.5)])
    return _world("quadrants", means, deviation, (torch.arange(8) // 2).repeat(2))


def _circle(count: int, radius: float, first: float) -> Tensor:
    angle = (torch.arange(count, dtype=torch.float64) + first) * (2 * math.pi / count)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


WORLDS: dict[str, Callable[..., Plane]] = {"two-points": two_points, "ring-8": ring, "grid-25": grid, "quadrants": quadrants}
"""Worlds by name, called without arguments for the settings above."""
