"""VideoGuide once more, step by step in float64 NumPy and with nothing of the library but its noise, against the sampler's operators.

The networks are formulas that NumPy and torch both evaluate; schedules, prompts' embeddings and noise are data to both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vidistill.guide import Cfg, CfgPlus, LowPass, Switch
from vidistill.rng import normal
from vidistill.sample import Denoiser, Teacher, load_denoiser, sample
from vidistill.schedule import First

PROMPTS, SEEDS, STEPS, GUIDED, TAU, LAM = ["a red star orbiting over a navy background", "a blue ring falling"], [3, 4], 50, 5, 10, 0.8
PRESETS = {"paper": (0.5, 0.25, 7.5), "repo": (0.8, 0.125, None)}
"""beta, cut-off, ordinary guidance after the guided steps."""


def network(kind: str, x: Any, t: float, e: Any) -> Any:
    """What a network makes of latents, a timestep and one number a prompt; NumPy or torch."""
    a, b = {"unet": (0.8, 0.3), "motion": (0.9, 0.2), "dit": (-0.6, -0.5)}[kind]
    return a * x / (1 + x * x) ** 0.5 + b * x.mean(axis=2, keepdims=True) + 0.1 * t / 1000 + e.reshape(-1, 1, 1, 1, 1)


def words(text: Any) -> Any:
    return 0.3 * text.mean(2).mean(1)


def exact(folder, kind: str) -> Denoiser:
    """Return a model with that formula as its network, in float64."""
    model = load_denoiser(folder)
    model.dtype = torch.float64
    if kind != "dit":
        model.scheduler.alphas_cumprod = model.scheduler.alphas_cumprod.double()
        model.scheduler.final_alpha_cumprod = torch.as_tensor(model.scheduler.final_alpha_cumprod).double()

    def call(x, t, text):
        text = text[:: len(text) // len(x)]  # AnimateDiff's are repeated for each frame
        return SimpleNamespace(sample=network(kind, x, float(t.flatten()[0]), words(text)))

    model.parts = dict(model.parts) | {model.network: call}
    return model


@dataclass
class Numpy:
    """A model in NumPy: t is a timestep of DDIM, or 1000 sigma of a flow."""

    kind: str
    scheduler: Any
    c: np.ndarray
    u: np.ndarray

    @property
    def flow(self) -> bool:
        return self.kind == "dit"

    def grid(self) -> list[tuple[float, float]]:
        if self.flow:
            t = [*(1000 * self.scheduler.sigmas.double().numpy())]
            return list(pairwise(t))
        return [(int(t), int(t) - 1000 // STEPS) for t in self.scheduler.timesteps]

    def levels(self, t: float) -> tuple[float, float]:
        if self.flow:
            return 1 - t / 1000, t / 1000
        abar = float(self.scheduler.alphas_cumprod[int(t)] if t >= 0 else self.scheduler.final_alpha_cumprod)
        return abar**0.5, (1 - abar) ** 0.5

    def both(self, z: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        return network(self.kind, z, t, self.u), network(self.kind, z, t, self.c)

    def clean(self, z: np.ndarray, out: np.ndarray, t: float) -> np.ndarray:
        a, s = self.levels(t)
        return z - s * out if self.flow else (z - s * out) / a

    def noise(self, z: np.ndarray, out: np.ndarray, t: float) -> np.ndarray:
        return z + (1 - t / 1000) * out if self.flow else out

    def mapped(self, a: float, s: float) -> float:
        """The timestep with the same ratio of signal to noise."""
        if self.flow:
            return 1000 * s / (a + s)
        table = [np.arctan2(*self.levels(t)) for t in range(1000)]
        return int(np.abs(np.array(table) - np.arctan2(a, s)).argmin())

    def inner(self, t: float) -> list[float]:
        if not self.flow:
            return [int(v) for v in np.round(np.linspace(0, t, 25))[1:][::-1]]
        shift, s = self.scheduler.shift, t / 1000
        u = np.linspace(0, s / (shift - (shift - 1) * s), 25)[1:][::-1]
        return [*(1000 * shift * u / (1 + (shift - 1) * u))]


def low_pass(z: np.ndarray, n: np.ndarray, cut: float) -> np.ndarray:
    """The official grid, 2 k / n - 1, on shifted spectra: right for even sizes."""
    f_t, f_h, f_w = np.meshgrid(*(2 * np.arange(k) / k - 1 for k in z.shape[2:]), indexing="ij")
    m = 1 / (1 + ((f_t**2 + f_h**2 + f_w**2) / cut**2) ** 4)
    axes = (2, 3, 4)
    spectrum = m * np.fft.fftshift(np.fft.fftn(z, axes=axes), axes) + (1 - m) * np.fft.fftshift(np.fft.fftn(n, axes=axes), axes)
    return np.fft.ifftn(np.fft.ifftshift(spectrum, axes), axes=axes).real


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return normal(SEEDS, name, shape).double().numpy()


def reference(base: Numpy, teacher: Numpy, shape: tuple[int, ...], preset: str, matched: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the clean video and the next latents of every step."""
    beta, cut, g = PRESETS[preset]
    z, done = drawn("init", shape), []
    for i, (t, s) in enumerate(base.grid()):
        guided = i < GUIDED
        u, c = base.both(z, t)
        plus = guided or g is None
        out = u + (LAM if plus else g) * (c - u)
        eps = base.noise(z, u if plus else out, t)
        x0 = base.clean(z, out, t)
        if guided:
            inner = teacher.inner(teacher.mapped(*base.levels(t)) if matched else t)
            a, b = teacher.levels(inner[0])
            z_g = a * x0 + b * drawn(f"teacher/{i}", shape)
            for k in range(TAU):
                u_g, c_g = teacher.both(z_g, inner[k])
                x0_g = teacher.clean(z_g, u_g + LAM * (c_g - u_g), inner[k])
                a, b = teacher.levels(inner[k + 1])
                z_g = a * x0_g + b * teacher.noise(z_g, u_g, inner[k])
            x0 = beta * x0 + (1 - beta) * x0_g
        a, b = base.levels(s)
        z = a * x0 + b * eps
        if guided:
            z = low_pass(z, drawn(f"low-pass/{i}", shape), cut)
        done.append((x0, z))
    return done


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("base", "teacher", "t_map"),
    [
        ("motion", "unet", "same_index"),
        ("motion", "motion", "same_index"),
        ("motion", "unet", "snr_matched"),
        ("dit", "dit", "same_index"),
        ("unet", "dit", "snr_matched"),
        ("dit", "unet", "snr_matched"),
    ],
)
def test_the_sampler_is_the_reference(base, teacher, t_map, preset, request) -> None:
    models = {kind: exact(request.getfixturevalue(f"tiny_{kind}"), kind) for kind in {base, teacher}}
    own, other = models[base], models[teacher]
    beta, cut, g = PRESETS[preset]
    guidance = CfgPlus(LAM) if g is None else Switch(CfgPlus(LAM), Cfg(g), First(GUIDED))
    guide = Teacher(other, own, PROMPTS, beta=beta, tau=TAU, t_map=t_map, interval=First(GUIDED))
    operators = [guide, LowPass(cut, cut, interval=First(GUIDED))]
    began = normal(SEEDS, "init", own.shape).double()
    records = list(sample(own, PROMPTS, seeds=SEEDS, steps=STEPS, guidance=guidance, operators=operators, latents=began))
    for model in models.values():
        model.scheduler.set_timesteps(STEPS)
    twins = {
        kind: Numpy(kind, model.scheduler, *(words(model.encode(text)).numpy() for text in (PROMPTS, ["", ""])))
        for kind, model in models.items()
    }
    expected = reference(twins[base], twins[teacher], own.shape, preset, t_map == "snr_matched")
    assert records[-1].evaluations == 2 * (STEPS + GUIDED * TAU)
    for record, (x0, z) in zip(records, expected, strict=True):
        for got, want in ((record.x0, x0), (record.latents, z)):
            assert got.dtype == torch.float64
            assert np.abs(got.numpy() - want).max() <= 1e-6 * max(1, np.abs(want).max())
    plain = list(sample(own, PROMPTS, seeds=SEEDS, steps=STEPS, guidance=guidance, latents=began))[-1]
    assert (plain.latents - records[-1].latents).abs().mean() > 0.05
