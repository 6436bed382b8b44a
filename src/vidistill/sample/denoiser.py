"""What the sampler sees of a model: prompts in, a prediction of the clean video out, and the times between noise and video.

    x_t = alpha_t x_0 + sigma_t eps

A :class:`Denoiser` wraps stock diffusers and transformers components. Three families: :class:`Epsilon` (ModelScope, ZeroScope:
``UNet3DConditionModel``), :class:`Motion` (AnimateDiff: ``UNetMotionModel``), both DDIM, and :class:`Flow` (Wan:
``WanTransformer3DModel``, rectified flow, Euler). Every operation is done in the order in which the stock pipelines do it, so that the same
noise gives the same latents, bit for bit.

A few-step student is a flow with times of its own, t_1 = 1 > ... > t_m > 0: what it was trained at, and all that it knows. A scheduler
set to m steps has others (lab-dit's, set to 5: 1, .900, .751, .503, .009), so they are kept with the model, and any other number of steps
is refused.

Shapes: B clips, C channels, T frames, H = W latent cells; prompts ``[B, L, D]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vidistill.codec import Codec
from vidistill.errors import InputError, choose
from vidistill.schedule import Time

RENOISE = ("ode", "sde")
"""What a few-step model puts back after a step: the noise that its prediction implies (Euler, DDIM), or all of it anew."""

FIRST = 0.99
"""The lowest first time of a few-step model: the sampler begins with pure noise."""


class Denoiser(ABC):
    """A text-to-video model as the sampler sees it.

    Attributes:
        id: folder name or hub id.
        fingerprint: digest of everything that was loaded.
        parts: the networks by name.
        codec: latents <-> video.
        frames, size: of the clips it was trained on; the size of a rectangle is (height, width).
        steps, guidance: its defaults.
        times: of a few-step student, from noise on and without the final 0; empty for a model of any number of steps.
        renoise: whether all noise is put back anew after each step when nothing else is asked for.
    """

    family: str
    network: str
    """Name of the denoising network's folder."""

    times: tuple[float, ...] = ()
    renoise: bool = False

    def __init__(
        self,
        parts: dict[str, Any],
        tokenizer: Any,
        scheduler: Any,
        codec: Codec,
        *,
        id: str,
        settings: dict[str, Any],
        fingerprint: str,
        device: str | torch.device = "cpu",
    ) -> None:
        self.id, self.parts, self.tokenizer, self.scheduler, self.codec = id, parts, tokenizer, scheduler, codec
        self.fingerprint = fingerprint
        self.frames, self.size = settings["frames"], settings["size"]
        self.steps, self.guidance = settings["steps"], settings["guidance"]
        self.renoise = choose(f"renoise of {id}", settings.get("renoise", RENOISE[0]), RENOISE) == "sde"
        self.times = few_times(id, self.family, settings.get("times", ()))
        self.check_steps(self.steps)
        net = parts[self.network]
        self.device, self.dtype = torch.device(device), net.dtype
        if net.config.in_channels != codec.channels:
            raise InputError(
                f"{id}: the network takes {net.config.in_channels} latent channels, its autoencoder {codec.id} has {codec.channels}"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(C, T, H, W)`` of a latent."""
        return self.codec.latent_shape(self.frames, self.size)

    def check_steps(self, steps: int) -> None:
        """Refuse a number of steps that a few-step student was not trained for.

        Raises:
            InputError: the line says which it was.
        """
        if self.times and steps != len(self.times):
            told = ", ".join(f"{t:.4g}" for t in self.times)
            raise InputError(f"{self.id} was trained for {len(self.times)} steps, at the times {told}: it has no grid of steps={steps}")

    def tokens(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and mask, int64 ``[B, L]``, padded to the tokenizer's length."""
        length = self.tokenizer.model_max_length
        batch = self.tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return batch.input_ids.to(self.device), batch.attention_mask.to(self.device)

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return prompt embeddings ``[B, L, D]``."""

    @abstractmethod
    def grid(self, steps: int) -> list[tuple[Time, Time]]:
        """Return for each step where it begins and where it ends, from noise to video."""

    @abstractmethod
    def at(self, t: Tensor) -> Time:
        """Return the point of a training timestep, a 0-d tensor as ``Time.t``."""

    @abstractmethod
    def like(self, time: Time) -> Time:
        """Return the point with the signal-to-noise ratio of another model's, or the nearest that this one was trained on."""

    @abstractmethod
    def below(self, time: Time, points: int) -> list[Time]:
        """Return ``points`` - 1 points from ``time`` down, evenly spaced in the model's own time; the next one would be the video.

        A few-step student has its own times alone: those from the nearest to ``time`` on, at most ``points`` - 1 of them.
        """

    @abstractmethod
    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """Return the network's outputs at ``x`` for ``negative`` (None where it is not given) and for ``text``."""

    @abstractmethod
    def clean(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        """Return the clean video that an output means, ``x_0``."""

    @abstractmethod
    def noise(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        """Return the noise that an output means, ``eps``."""

    @abstractmethod
    def shifted(self, output: Tensor, change: Tensor, time: Time) -> Tensor:
        """Return the output that means the clean video ``x_0 + change``; an increment, so that no change is none to the last bit."""

    @abstractmethod
    def advance(
        self, x: Tensor, x0: Tensor, outputs: tuple[Tensor, Tensor], now: Time, after: Time, eta: float, z: Tensor | None
    ) -> Tensor:
        """Return the latents one step later.

        Args:
            x, x0: latents before the step, and the clean video they are believed to be.
            outputs: the output that is believed, and the one whose noise is put back; one and the same but for CFG++.
            now, after: where the step begins and ends.
            eta: share of DDPM's noise that a step adds, 0 to 1.
            z: that noise, where ``eta`` > 0.
        """


def few_times(id: str, family: str, times: Any) -> tuple[float, ...]:
    """Return a few-step student's times, as its ``sampling.json`` has them; without any, none.

    Raises:
        InputError: they are no numbers that fall from 1 to above 0, or the model is no flow.
    """
    if not times and isinstance(times, list | tuple):
        return ()
    numbers = isinstance(times, list | tuple) and all(isinstance(t, int | float) and not isinstance(t, bool) for t in times)
    falling = numbers and all(later < earlier for earlier, later in pairwise(times))
    if not falling or not (times[-1] > 0 and FIRST <= times[0] <= 1):
        raise InputError(f"{id}: times must be numbers that fall from 1 (noise) to above 0, the final 0 left out; got {times}")
    if family != "flow":
        raise InputError(f"{id}: times of its own are a few-step flow's, and it is of the {family} family: leave them out")
    return tuple(map(float, times))


class Epsilon(Denoiser):
    """The ModelScope family: DDIM steps; parts ``text_encoder`` (CLIP) and ``unet``. Predicts noise, or v or the clean video."""

    family, network = "epsilon", "unet"

    def encode(self, prompts: Sequence[str]) -> Tensor:
        return self.parts["text_encoder"](self.tokens(prompts)[0])[0].to(self.dtype)

    def grid(self, steps: int) -> list[tuple[Time, Time]]:
        scheduler = copy(self.scheduler)  # two runs at a time, in two threads, may want other steps
        scheduler.set_timesteps(steps)
        stride = scheduler.config.num_train_timesteps // steps  # where DDIM's step ends; the next one may begin a little off

        return [(self.at(t), self.at(t - stride)) for t in scheduler.timesteps]

    def at(self, t: Tensor) -> Time:
        abar = self._abar(t)
        return Time(t, abar**0.5, (1 - abar) ** 0.5)

    def like(self, time: Time) -> Time:
        abar = self.scheduler.alphas_cumprod.double()
        angles = torch.atan2((1 - abar).sqrt(), abar.sqrt())  # of (alpha, sigma): finite where alpha is 0
        return self.at((angles - torch.atan2(time.sigma.double(), time.alpha.double())).abs().argmin())

    def below(self, time: Time, points: int) -> list[Time]:
        t = torch.linspace(0, float(time.t), points, dtype=torch.float64).round().long()
        return [self.at(one) for one in t[1:].flip(0)]

    def _abar(self, t: Tensor) -> Tensor:
        return self.scheduler.alphas_cumprod[t] if t >= 0 else self.scheduler.final_alpha_cumprod

    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None) -> tuple[Tensor | None, Tensor]:
        if negative is None:
            return None, self._network(x, time.t, text)
        u, c = self._network(torch.cat([x, x]), time.t, torch.cat([negative, text])).chunk(2)
        return u, c

    def _network(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return self.parts["unet"](x.to(self.dtype), t, text).sample

    def clean(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return (x - time.sigma * output) / time.alpha
        return output if kind == "sample" else time.alpha * x - time.sigma * output

    def noise(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return output
        return (x - time.alpha * output) / time.sigma if kind == "sample" else time.alpha * output + time.sigma * x

    def shifted(self, output: Tensor, change: Tensor, time: Time) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return output - (time.alpha / time.sigma) * change
        return output + change if kind == "sample" else output - change / time.sigma

    def advance(
        self, x: Tensor, x0: Tensor, outputs: tuple[Tensor, Tensor], now: Time, after: Time, eta: float, z: Tensor | None
    ) -> Tensor:
        abar, abar_next = self._abar(now.t), self._abar(after.t)
        deviation = eta * ((1 - abar_next) / (1 - abar) * (1 - abar / abar_next)) ** 0.5
        kept = (1 - abar_next - deviation**2) ** 0.5
        x = after.alpha * x0 + kept * self.noise(x, outputs[1], now)
        return x if z is None else x + deviation * z


class Motion(Epsilon):
    """The AnimateDiff family: an image UNet with motion modules, which wants the prompt once for each frame."""

    family = "motion"

    def _network(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return self.parts["unet"](x.to(self.dtype), t, text.repeat_interleave(x.shape[2], dim=0)).sample


class Flow(Denoiser):
    """The Wan family: velocity on straight paths, Euler steps without noise; parts ``text_encoder`` (UMT5) and ``transformer``."""

    family, network = "flow", "transformer"

    def encode(self, prompts: Sequence[str]) -> Tensor:
        ids, mask = self.tokens(prompts)
        return (self.parts["text_encoder"](ids, mask).last_hidden_state * mask[..., None]).to(self.dtype)

    def grid(self, steps: int) -> list[tuple[Time, Time]]:
        if self.times:
            self.check_steps(steps)
            return list(pairwise([*self._own, self._level(torch.tensor(0.0))]))
        scheduler = copy(self.scheduler)  # two runs at a time, in two threads, may want other steps
        scheduler.set_timesteps(steps)
        times = [Time(t, 1 - s, s) for t, s in zip([*scheduler.timesteps, torch.tensor(0.0)], scheduler.sigmas, strict=True)]
        return list(pairwise(times))

    def at(self, t: Tensor) -> Time:
        return self._level(t / self.scheduler.config.num_train_timesteps)

    def like(self, time: Time) -> Time:
        level = self._level(time.sigma / (time.alpha + time.sigma))
        return self._from(level)[0] if self.times else level

    def below(self, time: Time, points: int) -> list[Time]:
        if self.times:
            return self._from(time)[: points - 1]
        shift = self.scheduler.shift  # sigma = shift u / (1 + (shift - 1) u); the scheduler spaces u evenly
        u = time.sigma / (shift - (shift - 1) * time.sigma)
        levels = [u * k / (points - 1) for k in range(points - 2, 0, -1)]
        return [time, *(self._level(shift * v / (1 + (shift - 1) * v)) for v in levels)]

    @property
    def _own(self) -> list[Time]:
        """Its own times, of a few-step student."""
        return [self._level(torch.tensor(t)) for t in self.times]

    def _from(self, time: Time) -> list[Time]:
        """Return its own times from the one nearest to ``time`` on."""
        first = min(range(len(self.times)), key=lambda k: abs(self.times[k] - float(time.sigma)))
        return self._own[first:]

    def _level(self, sigma: Tensor) -> Time:
        return Time(sigma * self.scheduler.config.num_train_timesteps, 1 - sigma, sigma)

    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None) -> tuple[Tensor | None, Tensor]:
        run = lambda words: self.parts["transformer"](x.to(self.dtype), time.t.to(x.device).expand(len(x)), words).sample  # noqa: E731
        c = run(text)
        return None if negative is None else run(negative), c

    def clean(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        return x - time.sigma * output

    def noise(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        return x + time.alpha * output

    def shifted(self, output: Tensor, change: Tensor, time: Time) -> Tensor:
        return output - change / time.sigma

    def advance(
        self, x: Tensor, x0: Tensor, outputs: tuple[Tensor, Tensor], now: Time, after: Time, eta: float, z: Tensor | None
    ) -> Tensor:
        believed, back = outputs
        if back is believed:
            return x + (after.sigma - now.sigma) * believed
        return after.alpha * x0 + after.sigma * self.noise(x, back, now)
