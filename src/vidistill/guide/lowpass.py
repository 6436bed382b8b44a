"""FreeInit's filter as VideoGuide uses it (arXiv 2410.04364): low frequencies of the latents stay, high ones are drawn anew.

    x <- IFFT(M FFT(x) + (1 - M) FFT(n)),   n ~ N(0, 1)
    d^2 = ((d_s / d_t) f_T)^2 + f_H^2 + f_W^2,   f = 2 fftfreq in [-1, 1)

    butterworth   M = 1 / (1 + (d^2 / d_s^2)^n)
    gaussian      M = exp(-d^2 / (2 d_s^2)), each mode then divided by sqrt(M^2 + (1 - M)^2)
    ideal         M = [d^2 <= d_s^2]

Frequencies are replaced, not dropped. Of the variance of noisy latents Butterworth's mix keeps 0.992 at a cut-off of 0.25, the ideal one
all; a Gaussian's would lose 4 % there and 26 % at 0.5, so that it is rescaled. ``fftfreq`` passes the mean for odd numbers of frames too,
where the grid of the official code is half a bin off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.guide.operators import Moment
from vidistill.rng import normal
from vidistill.schedule import First, Interval

AXES = (-3, -2, -1)

FILTERS = ("butterworth", "gaussian", "ideal")
"""Kinds of masks; an order has Butterworth's alone."""


def check_cutoffs(filter: str, space: float, time: float, order: int) -> None:
    """Check the numbers of a low-pass filter.

    Raises:
        InputError: no such filter, a cut-off outside (0, 1], or an order below 1.
    """
    choose("low-pass filter", filter, FILTERS)
    if not (0 < space <= 1 and 0 < time <= 1 and order >= 1):
        raise InputError(f"a low-pass filter needs cut-offs in (0, 1] and an order of at least 1, got {space:g}, {time:g}, {order}")


@lru_cache(maxsize=8)
def low_pass_mask(filter: str, shape: tuple[int, int, int], space: float, time: float, order: int = 4) -> Tensor:
    """Return M, float32 ``[T, H, W]`` in [0, 1], in the order of ``torch.fft.fftn``; equal calls share one tensor.

    Args:
        filter: one of ``FILTERS``.
        shape: ``(T, H, W)``.
        space, time: cut-offs d_s, d_t in (0, 1], shares of the highest frequency.
        order: n >= 1.

    Raises:
        InputError: out of range.
    """
    check_cutoffs(filter, space, time, order)
    f_t, f_h, f_w = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    d2 = ((space / time) * f_t).square()[:, None, None] + f_h.square()[:, None] + f_w.square()
    if filter == "butterworth":
        return (1 / (1 + (d2 / space**2) ** order)).float()
    return (-d2 / (2 * space**2)).exp().float() if filter == "gaussian" else (d2 <= space**2).float()


def mix(low: Tensor, high: Tensor, mask: Tensor, *, rescale: bool = False) -> Tensor:
    """Return latents with the low frequencies of one and the high ones of the other: ``IFFT(M FFT(low) + (1 - M) FFT(high))``.

    Args:
        low, high: ``[B, C, T, H, W]``; arithmetic is float32, or float64 for float64.
        mask: M, ``[T, H, W]``, see :func:`low_pass_mask`.
        rescale: divide each mode by sqrt(M^2 + (1 - M)^2), so that two white noises mix to white noise.
    """
    mask, kind = mask.to(low.device), torch.promote_types(low.dtype, torch.float32)
    spectrum = mask * torch.fft.fftn(low.to(kind), dim=AXES) + (1 - mask) * torch.fft.fftn(high.to(kind), dim=AXES)
    if rescale:
        spectrum = spectrum / (mask.square() + (1 - mask).square()).sqrt()
    return torch.fft.ifftn(spectrum, dim=AXES).real.to(low.dtype)


@dataclass(frozen=True)
class LowPass:
    """After a step, keep the low frequencies of the latents and draw the high ones anew, from the stream ``"low-pass/<step>"``.

    Attributes:
        space, time, order, filter: see :func:`low_pass_mask`. VideoGuide's paper has cut-offs of 0.25, its official code 0.125.
        interval: the timesteps, or the first steps, at which it works; ``First(I)`` in VideoGuide.

    Raises:
        InputError: no such filter, a cut-off outside (0, 1], or an order below 1.
    """

    space: float = 0.25
    time: float = 0.25
    order: int = 4
    interval: Interval | First = field(default_factory=Interval)
    name: str = "low-pass"
    filter: str = "butterworth"
    evaluations = 0
    keeps_noise = False

    def __post_init__(self) -> None:
        check_cutoffs(self.filter, self.space, self.time, self.order)

    def on_x0(self, x0: Tensor, at: Moment) -> Tensor | None:
        return None

    def on_next(self, x: Tensor, at: Moment) -> Tensor | None:
        if not at.within(self.interval):
            return None
        noise = normal(at.seeds, f"low-pass/{at.index}", tuple(x.shape[1:])).to(x)
        mask = low_pass_mask(self.filter, (x.shape[2], x.shape[3], x.shape[4]), self.space, self.time, self.order)
        return mix(x, noise, mask, rescale=self.filter == "gaussian")
