"""The network of the worlds in the plane, and how one becomes a teacher there.

    v(x, t, c) = MLP(x, sin and cos of 2 pi f t, embedding of c)        three hidden layers of 128, SiLU

Shapes: points ``[B, D]``, times float32 ``[B]``, classes int64 ``[B]``; class ``classes`` (the number after the last) is no class.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vidistill.data.plane import Plane
from vidistill.distill.methods import Batch, Data, Nets
from vidistill.distill.recipe import load_recipe
from vidistill.distill.trainer import Trainer
from vidistill.errors import InputError
from vidistill.rng import stream_seed
from vidistill.types import Progress, silent


class VelocityMLP(nn.Module):
    """``net(x, t, c) -> v`` for points.

    Args:
        dim: D.
        classes: how many there are; 0: ``c`` is not looked at.
        width, depth: of the hidden layers.
        frequencies: of the time features, from a quarter of a turn to 16 turns over [0, 1], evenly in the logarithm.
        seed: of the weights.
    """

    def __init__(self, dim: int = 2, classes: int = 0, width: int = 128, depth: int = 3, frequencies: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.dim, self.classes, self.width, self.depth = dim, classes, width, depth
        self.register_buffer("turns", 2 * math.pi * torch.logspace(-2, 4, frequencies, base=2))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "distill", "mlp"))
            self.embedding = nn.Embedding(classes + 1, 16) if classes else None
            wide = dim + 1 + 2 * frequencies + (16 if classes else 0)
            self.hidden = nn.ModuleList([nn.Linear(wide if i == 0 else width, width) for i in range(depth)])
            self.out = nn.Linear(width, dim)

    @property
    def label(self) -> str:
        """Class and shape, in words."""
        return f"VelocityMLP of {self.depth} layers of {self.width}, {self.dim} dimensions, {self.classes} classes"

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the velocity ``[B, D]``."""
        return self.out(self.features(x, t, c, self.depth - 1))

    def features(self, x: Tensor, t: Tensor, c: Tensor | None, block: int) -> Tensor:
        """Return what comes out of a hidden layer, ``[B, width]``, 0 being the first."""
        angles = t[:, None] * self.turns  # type: ignore[operator]
        parts = [x, t[:, None], angles.sin(), angles.cos()]
        if self.embedding is not None:
            parts.append(self.embedding(torch.full_like(t, self.classes, dtype=torch.int64) if c is None else c))
        h = torch.cat(parts, 1)
        for layer in self.hidden[: block + 1]:
            h = nn.functional.silu(layer(h))
        return h

    def empty(self, c: Tensor) -> Tensor:
        """Return the conditions of no class."""
        return torch.full_like(c, self.classes)


def points(world: Plane, batch: int, *, pairs: bool = False) -> Data:
    """Return a source that draws fresh points of a world, with ``pairs`` an independent one of the same class beside each."""

    def draw(generator: torch.Generator) -> Batch:
        x, c = world.draw(batch, generator)
        other = world.draw(batch, generator, c)[0] if pairs else None
        return Batch(x, c if world.classes > 1 else None, None, other)

    return draw


def teacher(
    world: Plane,
    *,
    seed: int = 0,
    steps: int = 8000,
    batch: int = 1024,
    lr: float = 2e-3,
    ema: float = 0.999,
    width: int = 128,
    depth: int = 3,
    drop: float | None = None,
    progress: Progress = silent,
) -> VelocityMLP:
    """Train a velocity network on a world by flow matching, with Adam and a cosine, and return its average, frozen.

    Args:
        world: see :mod:`vidistill.data.plane`.
        seed: of weights and batches.
        steps, batch, lr, ema: of the training.
        width, depth: of the network.
        drop: share of classes left out, for guidance; default 0.1 where there are classes.
        progress: called after each step.

    Raises:
        InputError: a number is out of range, or the training diverged.
    """
    if batch < 1 or width < 1 or depth < 1:
        raise InputError(f"a teacher needs batch, width and depth of at least 1; got {batch}, {width}, {depth}")
    classes = world.classes if world.classes > 1 else 0
    net = VelocityMLP(world.dim, classes, width, depth, seed=seed)
    share = (0.1 if classes else 0.0) if drop is None else drop
    recipe = load_recipe("plane-teacher", updates=steps, lr=lr, ema=ema, drop=share)
    trained = Trainer(recipe, Nets(net, empty=net.empty), points(world, batch), seed=seed).run(progress=progress)
    assert isinstance(trained, VelocityMLP)
    return trained


def exact(world: Plane) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Return a world's own velocity as ``net(x, t, c)``, for mixtures known in closed form; class ``classes`` means all."""
    return lambda x, t, c: world.velocity(x, t, c).to(x.dtype)
