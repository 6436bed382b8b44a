"""FreeInit's filter as VideoGuide uses it (arXiv 2410.04364): low frequencies of the latents stay, high ones are drawn anew.

    M = 1 / (1 + (d^2 / d_s^2)^n),   d^2 = ((d_s / d_t) f_T)^2 + f_H^2 + f_W^2,   f = 2 fftfreq in [-1, 1)
    x <- IFFT(M FFT(x) + (1 - M) FFT(n)),   n ~ N(0, 1)

Frequencies are replaced, not dropped: noisy latents keep their variance (0.992 of it at a cut-off of 0.25). ``fftfreq`` passes the mean for
odd numbers of frames too, where the grid of the official code is half a bin off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.guide.operators import Moment
from vidistill.rng import normal
from vidistill.schedule import Interval

AXES = (-3, -2, -1)


@lru_cache(maxsize=8)
def butterworth(shape: tuple[int, int, int], space: float, time: float, order: int) -> Tensor:
    """Return M, float32 ``[T, H, W]``, in the order of ``torch.fft.fftn``.

    Args:
        shape: ``(T, H, W)``.
        space, time: cut-offs d_s, d_t in (0, 1], shares of the highest frequency.
        order: n >= 1.

    Raises:
        InputError: out of range.
    """
    if not (0 < space <= 1 and 0 < time <= 1 and order >= 1):
        raise InputError(f"a low-pass filter needs cut-offs in (0, 1] and an order of at least 1, got {space:g}, {time:g}, {order}")
    f_t, f_h, f_w = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    d2 = ((space / time) * f_t).square()[:, None, None] + f_h.square()[:, None] + f_w.square()
    return (1 / (1 + (d2 / space**2) ** order)).float()


def mix(low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
    """Return latents with the low frequencies of one and the high ones of the other: ``IFFT(M FFT(low) + (1 - M) FFT(high))``."""
    mask = mask.to(low.device)
    spectrum = mask * torch.fft.fftn(low.float(), dim=AXES) + (1 - mask) * torch.fft.fftn(high.float(), dim=AXES)
    return torch.fft.ifftn(spectrum, dim=AXES).real.to(low.dtype)


@dataclass(frozen=True)
class LowPass:
    """After a step, keep the low frequencies of the latents and draw the high ones anew.

    Attributes:
        space, time, order: see :func:`butterworth`.
        interval: the timesteps at which it works.
    """

    space: float = 0.25
    time: float = 0.25
    order: int = 4
    interval: Interval = field(default_factory=Interval)
    name: str = "low-pass"

    def on_x0(self, x0: Tensor, at: Moment) -> Tensor | None:
        return None

    def on_next(self, x: Tensor, at: Moment) -> Tensor | None:
        if not self.interval.holds(at.now.t):
            return None
        noise = normal(at.seeds, f"low-pass/{at.index}", tuple(x.shape[1:])).to(x)
        return mix(x, noise, butterworth((x.shape[2], x.shape[3], x.shape[4]), self.space, self.time, self.order))
