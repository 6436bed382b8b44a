"""The networks of a distillation as the trainer calls them, ``net(x, t, c) -> v`` and ``heads(teacher, x, t, c, k) -> logits``.

    FlowNet     any Wan transformer: t in [0, 1] becomes its timestep 1000 t
    FrameHead   a 2-D CNN on the teacher's features, frame by frame                   AccVideo: D(l, t'_k) = H_k(v_theta(l, t'_k))
    Heads       one head for each key time, or one for all; which block's features they read depends on the time
    Mlp         a discriminator of its own on (x_t, t, c), without features: GAN in the plane

Shapes: B samples, C channels, T frames, H = W latent cells, L words of D numbers; features ``[B, F, T', H', W']`` or ``[B, F]``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vidistill.distill.methods import Nets
from vidistill.errors import InputError, choose
from vidistill.rng import stream_seed


class FlowNet(nn.Module):
    """A diffusers ``WanTransformer3DModel`` (or its LoRA) as ``net(x, t, c)``.

    Args:
        transformer: predicts ``eps - x_0`` from ``(x, 1000 t, text)``.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Return the velocity ``[B, C, T, H, W]`` at times ``[B]`` for text embeddings ``[B, L, D]``."""
        kind = self.transformer.dtype
        return self.transformer(hidden_states=x.to(kind), timestep=1000 * t, encoder_hidden_states=c.to(kind)).sample

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.transformer.blocks)

    @property
    def label(self) -> str:
        """Class and shape, in words."""
        config = self.transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        return f"{type(self.transformer).__name__}, {config.num_layers} layers of width {width}, {config.in_channels} channels"

    def features(self, x: Tensor, t: Tensor, c: Tensor, block: int) -> Tensor:
        """Return the output of a block as cells, ``[B, F, T', H', W']``; gradients pass to ``x``."""
        found: list[Tensor] = []
        handle = self.transformer.blocks[block].register_forward_hook(lambda module, given, out: found.append(out))
        try:
            self(x, t, c)
        finally:
            handle.remove()
        cells = [length // patch for length, patch in zip(x.shape[2:], self.transformer.config.patch_size, strict=True)]
        return found[0].transpose(1, 2).unflatten(2, cells)


def halved(transformer: Any) -> Any:
    """Return a transformer in bf16, but for what diffusers itself keeps in float32 (norms, time embedding, modulation); in place."""
    for name, w in transformer.named_parameters():
        if not kept_whole(transformer, name):
            w.data = w.data.bfloat16()
    return transformer


def kept_whole(transformer: Any, name: str) -> bool:
    """Return whether diffusers keeps a weight of this name in float32."""
    return any(part in name.split(".") for part in getattr(transformer, "_keep_in_fp32_modules", None) or ())


class FrameHead(nn.Module):
    """A 2-D CNN per latent frame: norm, two convolutions (the second halves the size), mean over cells, one logit a frame."""

    def __init__(self, features: int, width: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.GroupNorm(1, features),
            nn.Conv2d(features, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``[B, T']`` of features ``[B, F, T', H', W']``."""
        frames = features.transpose(1, 2).flatten(0, 1).contiguous()  # torch 2.13 on CPU crashes in backward on the strides of tiny ones
        return self.net(frames).view(len(features), -1)


class PointHead(nn.Module):
    """The same for points: norm and two layers, on features ``[B, F]``."""

    def __init__(self, features: int, width: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``[B, 1]``."""
        return self.net(features)


KINDS: dict[str, type[FrameHead] | type[PointHead]] = {"frame": FrameHead, "point": PointHead}


def feature_block(depth: int, t: float) -> int:
    """Return the block whose output the discriminator reads: the last one at t > 0, the one at two thirds at t = 0.

    AccVideo: blocks 60 and 40 of HunyuanVideo's 60, counted from 1; here from 0.
    """
    return depth - 1 if t > 0 else max(0, round(depth * 2 / 3) - 1)


class Heads(nn.Module):
    """AccVideo's discriminator: a frozen teacher's features and a head for each key time below 1 ("time-aware").

    Args:
        features: F, the width of the teacher's blocks.
        times: m, how many key times there are below 1; 1 makes a single head that serves all of them, the control.
        kind: ``"frame"`` or ``"point"``.
        width: of a head's own layers.
        seed: of its weights.

    Raises:
        InputError: unknown kind, or no head.
    """

    def __init__(self, features: int, times: int, *, kind: str = "frame", width: int = 64, seed: int = 0) -> None:
        super().__init__()
        if times < 1:
            raise InputError(f"a discriminator needs at least one head; got {times}")
        head = KINDS[choose("kind of head", kind, KINDS)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "distill", "heads"))
            self.heads = nn.ModuleList([head(features, width) for _ in range(times)])

    def forward(self, teacher: Any, x: Tensor, t: Tensor, c: Any, k: int = 0) -> Tensor:
        """Return the logits of head k on the teacher's features; gradients pass through the teacher to ``x``, its weights are frozen.

        Args:
            teacher: has ``depth`` and ``features(x, t, c, block)``.
            x: states ``[B, ...]``, all at one kind of time.
            t: ``[B]``.
            c: conditions.
            k: number of the key time, ``t'_0 = 0``.
        """
        block = feature_block(teacher.depth, float(t.max()))
        return self.heads[k if len(self.heads) > 1 else 0](teacher.features(x, t, c, block).float())


class Mlp(nn.Module):
    """A small discriminator on ``(x_t, t)`` and the class, if any; it reads no features of the teacher.

    Args:
        dim: of a point.
        classes: number of classes, 0 is none.
        width: of its two hidden layers.
        seed: of its weights.
    """

    def __init__(self, dim: int = 2, classes: int = 0, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "distill", "discriminator"))
            self.classes = nn.Embedding(classes, 8) if classes else None
            wide = dim + 2 + (8 if classes else 0)
            self.net = nn.Sequential(nn.Linear(wide, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, teacher: Any, x: Tensor, t: Tensor, c: Any, k: int = 0) -> Tensor:
        """Return logits ``[B, 1]``."""
        parts = [x, t[:, None], (t[:, None] * torch.pi / 2).cos()]
        return self.net(torch.cat([*parts, self.classes(c)] if self.classes is not None else parts, 1))


def cast(
    teacher: nn.Module,
    student: nn.Module | None = None,
    *,
    critic: nn.Module | None = None,
    heads: nn.Module | None = None,
    empty: Callable[[Any], Any] | None = None,
    fresh: bool = False,
) -> Nets:
    """Return the networks of a run, the student with the teacher's weights.

    Args:
        teacher: is not changed.
        student: default a copy of the teacher.
        critic: default a copy of the teacher, made by the trainer; a branch goes on with its checkpoint's.
        heads, empty: see :class:`vidistill.distill.methods.Nets`.
        fresh: leave the student's weights as they are: an architecture of its own, LoRA, or a checkpoint to go on from.

    Raises:
        InputError: the architectures differ (both are named) and ``fresh`` is not set.
    """
    if student is None:
        student = copy.deepcopy(teacher).requires_grad_(True)
    elif not fresh:
        initialise(student, teacher)
    return Nets(student, teacher, critic, heads, empty)


def initialise(student: nn.Module, teacher: nn.Module) -> None:
    """Copy the teacher's weights into a student of the same architecture.

    Raises:
        InputError: the architectures differ: both are named, and the first weight that does not fit.
    """
    ours, theirs = student.state_dict(), teacher.state_dict()
    odd = [name for name in {**theirs, **ours} if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape]
    if odd:
        shapes = [tuple(weights[odd[0]].shape) if odd[0] in weights else "nothing" for weights in (ours, theirs)]
        raise InputError(
            f"the student ({describe(student)}) cannot begin from the teacher ({describe(teacher)}): {len(odd)} weights differ, e.g. "
            f"{odd[0]} is {shapes[0]} here and {shapes[1]} there; use a student of the teacher's architecture, or fresh=True"
        )
    student.load_state_dict(theirs)


def describe(net: nn.Module) -> str:
    """Return what a network is, in words: its ``label`` where it has one, else its class; and its number of weights."""
    return f"{getattr(net, 'label', type(net).__name__)}, {sum(w.numel() for w in net.parameters()):,} weights"
