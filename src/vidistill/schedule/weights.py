"""How a pull on the predicted clean video is spread over time: ``x0' = x0 + lambda s_t w_f (m - x0)``.

One formula holds all published forms; they differ in s_t alone:

    score   sigma_t^2 / alpha_t      ours: an increment of sigma_t lambda g on the predicted noise, as classifier guidance has it;
                                     its pull hardly depends on the number of steps
    mgd3    sigma_ddpm / c_t         MGD3 (arXiv 2505.18963): lambda sigma_ddpm g on the next sample; c_t = d x_{t-1} / d x0
    blend   1                        ManifoldGD's DDIM port: the clean video itself is mixed with the centre
    coda    sigma_t / alpha_t        CoDA: an increment of lambda g on the predicted noise

What GVD itself uses is not public. Levels are those of a variance preserving schedule; a straight path's are turned into it (same ratio of
signal to noise). Where a path begins at pure noise alpha is 0: it is held to ``ALPHA_MIN``, the least that ModelScope's schedule has.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.schedule.noise import Time, alpha_of, ddim_sigma

WEIGHTS = ("score", "mgd3", "blend", "coda")

ALPHA_MIN = 0.068265
"""sqrt(abar) at the last training step of the scaled-linear schedule from .00085 to .012 in 1000 steps."""


def pull_weight(kind: str, now: Time, after: Time, eta: float = 0.0) -> float:
    """Return ``s_t`` for the step from ``now`` to ``after``.

    Args:
        kind: one of ``WEIGHTS``.
        now, after: where the step begins and ends.
        eta: of the sampler, DDIM's; ``mgd3`` depends on it.

    Raises:
        InputError: no such weight.
    """
    choose("time weight", kind, WEIGHTS)
    if kind == "blend":
        return 1.0
    alpha = max(alpha_of(now), ALPHA_MIN)
    sigma = (1 - alpha**2) ** 0.5
    if kind == "score":
        return sigma**2 / alpha
    if kind == "coda":
        return sigma / alpha
    a, s, a_next, s_next = (float(v.double()) for v in (now.alpha, now.sigma, after.alpha, after.sigma))
    added = ddim_sigma(now, after, eta)
    c = a_next - a * max(0.0, s_next**2 - added**2) ** 0.5 / s
    return ddim_sigma(now, after) / c


@dataclass(frozen=True)
class Interval:
    """The training timesteps at which an operator works: those with ``low < t <= high``.

    Attributes:
        high, low: training timesteps, 0 to 1000; a straight path's are 1000 sigma.

    Raises:
        InputError: ``low`` >= ``high``, or out of range.
    """

    high: float = 1000.0
    low: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1000:
            raise InputError(
                f"guide interval {self.high:g} to {self.low:g} is empty or out of range: it needs 1000 >= high > low >= 0, in timesteps"
            )

    def holds(self, t: float | Tensor) -> bool:
        """Return whether a timestep is inside."""
        return self.low < float(t) <= self.high

    def count(self, times: list[tuple[Time, Time]]) -> int:
        """Return how many steps of a grid begin inside."""
        return sum(self.holds(now.t) for now, _ in times)

    def told(self, times: list[tuple[Time, Time]]) -> str:
        """Say how many steps of a grid are guided."""
        guided = self.count(times)
        return f"{guided} of {len(times)} steps are guided" + ("" if guided else f": none lies in {self.high:g} >= t > {self.low:g}")


@dataclass(frozen=True)
class First:
    """The first I steps of a run, whatever their timesteps (VideoGuide, arXiv 2410.04364).

    Attributes:
        steps: I >= 0; 0 is none.

    Raises:
        InputError: I < 0.
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InputError(f"cannot guide the first {self.steps} steps: I must be 0 (none) or more")

    def check(self, steps: int) -> None:
        """Raise an :class:`InputError` where a run of N ``steps`` has fewer than I."""
        if self.steps > steps:
            raise InputError(f"cannot guide the first I={self.steps} steps: the sampler makes N={steps}, and I must not exceed N")

    def told(self, times: list[tuple[Time, Time]]) -> str:
        """Say how many steps of a grid are guided."""
        return f"the first {self.steps} of {len(times)} steps are guided"
