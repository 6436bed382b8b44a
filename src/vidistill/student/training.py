"""Train a student on clips and let it predict: the official protocol, and a fast one in which every arm gets the same number of steps.

Legend: N clips ``[N, 3, T, S, S]`` uint8, K classes. A clip becomes float as ``x = (v / 255 - mean_c) / std_c`` (ImageNet).

* ``"lvdd"`` (LVDD, official code): SGD 0.01, momentum 0.9, weight decay 5e-4, batches of 256, 501 epochs; from epoch 251 on a new optimiser
  (momentum starts over) with a tenth of the rate. Each batch, in testing (64 clips) too, is standardised by its own scalar mean and
  deviation, ``x <- (x - mean(x)) / std(x)``; so a prediction depends on its neighbours. No augmentation. The official code tests 5 times,
  3 passes each, and reports the last test; with deterministic clips the passes are identical, so one pass at the end gives the same number.
* ``"fast"`` (ours): a fixed number of steps, the same for every arm however many clips it has (equal compute); the rate rises linearly,
  then falls as a cosine. Convolution kernels are trained by :class:`Muon`, everything else by AdamW: without normalisation layers 60
  steps of AdamW alone stay near chance. No standardisation by neighbours, no augmentation (a mirror image may belong to another class:
  "pushing left"); bf16 on CUDA, float32 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidistill.errors import InputError, choose
from vidistill.rng import stream
from vidistill.student.networks import ConvNet3D, Dropout, build
from vidistill.student.soft import Soft
from vidistill.types import Progress, silent

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
EPOCHS, DROP = 501, 251
"""``"lvdd"`` runs the epochs 0..500; the rate drops before epoch 251."""
WARM_UP = 0.3
"""Share of the steps of ``"fast"`` in which the rate rises."""
TURN = 4.0
"""``"fast"`` lowers its rate to ``TURN / steps`` in runs of over 80 steps: a kernel's whole way stays the same, long runs stay stable."""
REST_CONV, REST_RECURRENT = 0.1, 0.02
"""AdamW's rate as a share of Muon's: ConvNet3D's classifier and biases take large steps, recurrent layers and their norms small ones."""


@dataclass(frozen=True)
class Recipe:
    """What a protocol uses where the caller gives 0: optimiser steps (0 is 501 epochs), clips a step, learning rate; and its test batch."""

    steps: int
    batch: int
    lr: float
    test_batch: int


PROTOCOLS = {"fast": Recipe(100, 32, 0.05, 64), "lvdd": Recipe(0, 256, 0.01, 64)}


def train_student(
    video: Any,
    labels: Tensor,
    *,
    classes: int,
    student: str = "conv3d",
    width: int = 128,
    protocol: str = "fast",
    steps: int = 0,
    batch: int = 0,
    lr: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
    soft: Soft | None = None,
    progress: Progress = silent,
) -> nn.Module:
    """Train a fresh student with cross-entropy, on hard labels unless ``soft`` ones are given, and return it, ready to predict.

    Weights, clip order, flips and dropout come from streams of ``seed``: on one machine's CPU the same call gives the same student.

    Args:
        video: uint8 ``[N, 3, T, S, S]``, moved to the device once; or anything with ``batch(index) -> uint8`` (a clip store), or such a
            function itself, read batch by batch in bounded memory.
        labels: int64 ``[N]``, each in ``[0, classes)``.
        classes: K.
        student, width: see :func:`vidistill.student.build`.
        protocol: ``"fast"`` or ``"lvdd"``.
        steps: optimiser steps; 0 is the protocol's own number (``"lvdd"``: 501 epochs, with its rate drop at the same share of the run).
        batch: clips a step; 0 is the protocol's own number.
        lr: learning rate; 0 is the protocol's own (``"fast"``: ``min(0.05, 4 / steps)``).
        seed: names the streams.
        device: where to train.
        soft: what a teacher says of the clips.
        progress: called after every step with ``("student", done, total)``; raising :class:`vidistill.errors.Cancelled` stops the training.

    Raises:
        InputError: no clips, labels that do not fit, an unknown name, or a rate so high that the training diverged.
    """
    recipe = PROTOCOLS[choose("protocol", protocol, PROTOCOLS)]
    batch = batch or recipe.batch
    if steps < 0 or batch < 1 or lr < 0:
        raise InputError(
            f"steps={steps}, batch={batch}, lr={lr:g} is not allowed: positive numbers are needed, or 0 for the protocol's own"
        )
    labels = _checked(labels, classes)
    if soft is not None and soft.logits.shape != (len(labels), classes):
        raise InputError(
            f"soft labels are {tuple(soft.logits.shape)}, needed are {(len(labels), classes)}: one row a clip, one number a class"
        )
    fetch = _reader(video, device)
    frames, size = _clip_shape(video, fetch, len(labels))
    steps = steps or recipe.steps or EPOCHS * -(-len(labels) // batch)
    lr = lr or (min(recipe.lr, TURN / steps) if protocol == "fast" else recipe.lr)
    net = build(student, classes, width, frames, size, seed).to(device).train()
    for module in net.modules():
        if isinstance(module, Dropout):
            module.generator = stream(seed, "student", "dropout")
    labels, drop = labels.to(device), round(steps * DROP / EPOCHS)
    optimisers = _optimisers(net, protocol, lr)
    for step, index in zip(range(steps), _order(len(labels), batch, protocol, stream(seed, "student", "order")), strict=False):
        if protocol == "lvdd" and step == drop:
            optimisers = _optimisers(net, protocol, lr / 10)
        share = 1.0 if protocol == "lvdd" else _one_cycle(step, steps)
        with _precision(protocol, device):
            logits = net(_float(fetch(index), protocol))
        net.zero_grad()
        hard = labels[index.to(device)]
        loss = F.cross_entropy(logits.float(), hard) if soft is None else soft.loss(logits.float(), hard, index)
        loss.backward()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * share
            optimiser.step()
        progress("student", step + 1, steps)
    if not all(bool(weight.isfinite().all()) for weight in net.parameters()):
        raise InputError(
            f"the student diverged at lr={lr:g} (its weights are not finite): choose a smaller lr; protocol {protocol} uses {recipe.lr:g}"
        )
    return net.eval()


@torch.inference_mode()
def predict(net: nn.Module, video: Any, *, protocol: str = "fast", device: str = "cpu", progress: Progress = silent) -> Tensor:
    """Return the logits of a trained student, one pass in order.

    Args:
        net: from :func:`train_student`.
        video: uint8 ``[M, 3, T, S, S]``, or anything with ``len`` and ``batch(index)`` (a clip store), read batch by batch.
        protocol: the one it was trained with; it decides how clips are normalised.
        device: where to compute.
        progress: called after every batch with ``("test", done, total)``.

    Returns:
        float32 ``[M, K]`` on the CPU.

    Raises:
        InputError: no clips, or an unknown protocol.
    """
    size = PROTOCOLS[choose("protocol", protocol, PROTOCOLS)].test_batch
    count = len(video)
    if not count:
        raise InputError("there are no clips to test the student on: the test set is empty")
    fetch = _reader(video, device)
    net = net.to(device).eval()
    logits = []
    for index in torch.arange(count).split(size):
        with _precision(protocol, device):
            logits.append(net(_float(fetch(index), protocol)).float())
        progress("test", int(index[-1]) + 1, count)
    return torch.cat(logits).cpu()


class Muon(torch.optim.Optimizer):
    """Momentum whose every step turns a kernel by the same share of its length, in all directions alike.

    ``M <- 0.9 M + g``, ``U = NS(0.9 M + g)``, ``W <- W - lr |W|_F U / |U|_F``; NS is five Newton-Schulz steps
    ``X <- 3.4445 X - 4.7750 (X X^T) X + 2.0315 (X X^T)^2 X``, which bring all singular values near 1 (K. Jordan et al. 2024, "Muon"; the
    scaling by ``|W|_F`` is ours: ``lr`` then means the same in every layer and at every width). A kernel is read as a matrix
    ``[out, rest]``.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.9) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step with each group's ``lr``; ``closure`` is not used."""
        for group in self.param_groups:
            for weight in group["params"]:
                speed = self.state[weight].setdefault("speed", torch.zeros_like(weight))
                speed.mul_(group["momentum"]).add_(weight.grad)
                turn = orthogonal(weight.grad.add(speed, alpha=group["momentum"]).flatten(1))
                scale = group["lr"] * weight.norm() / turn.norm().clamp_min(1e-12)
                weight.sub_(scale * turn.view(weight.shape))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return Newton-Schulz's ``U V^T`` of ``matrix = U S V^T`` ``[..., m, n]``; cheap: the short side, m or n, is what is squared."""
    x = matrix / matrix.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.mT if tall else x


def _checked(labels: Tensor, classes: int) -> Tensor:
    """Return the labels as int64 on the CPU, or say what is wrong with them."""
    labels = torch.as_tensor(labels).cpu()
    if labels.ndim != 1 or not len(labels):
        raise InputError(f"a student needs at least one training clip and one label a clip; got labels of shape {tuple(labels.shape)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes or labels.is_floating_point():
        raise InputError(
            f"labels must be whole numbers from 0 to {classes - 1} (classes={classes}); got {labels.dtype} from {low} to {high}"
        )
    return labels.long()


def _reader(video: Any, device: str) -> Callable[[Tensor], Tensor]:
    """Return ``index [b] -> uint8 [b, 3, T, S, S]`` on the device for a tensor, a clip store or a function."""
    if isinstance(video, Tensor):
        if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[1] != 3:
            raise InputError(f"clips must be uint8 [N, 3, T, S, S]; got {video.dtype} {tuple(video.shape)}")
        held = video.to(device, memory_format=torch.channels_last_3d)
        return lambda index: held.index_select(0, index.to(held.device))
    read = getattr(video, "batch", video)
    return lambda index: read(index).to(device)


def _clip_shape(video: Any, fetch: Callable[[Tensor], Tensor], count: int) -> tuple[int, int]:
    """Return (T, S) and check that there is a clip for every label."""
    held = len(video) if hasattr(video, "__len__") else count
    if held != count:
        raise InputError(f"there must be one label a clip; got {held} clips and {count} labels")
    shape = fetch(torch.zeros(1, dtype=torch.int64)).shape
    return shape[2], shape[-1]


def _order(count: int, batch: int, protocol: str, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield index batches for ever: ``"lvdd"`` ends an epoch with a short batch, ``"fast"`` runs on (``batch`` clips each)."""
    rest = torch.empty(0, dtype=torch.int64)
    while True:
        epoch = torch.cat([rest, torch.randperm(count, generator=generator)])
        whole = len(epoch) if protocol == "lvdd" else len(epoch) // batch * batch
        yield from epoch[:whole].split(batch) if whole else ()
        rest = epoch[whole:]


def _optimisers(net: nn.Module, protocol: str, lr: float) -> list[torch.optim.Optimizer]:
    """Return fresh optimisers for a student; each group's ``"peak"`` is its rate at the top of the schedule."""
    weights = list(net.parameters())
    if protocol == "lvdd":
        return [torch.optim.SGD([{"params": weights, "peak": lr}], lr=lr, momentum=0.9, weight_decay=5e-4, fused=True)]
    head = {id(weight) for weight in net.get_submodule("classifier").parameters()}
    kernels = [weight for weight in weights if weight.ndim > 3 and id(weight) not in head]
    chosen = {id(weight) for weight in kernels}
    rest = [weight for weight in weights if id(weight) not in chosen]
    rate = lr * (REST_CONV if isinstance(net, ConvNet3D) else REST_RECURRENT)
    return [
        Muon([{"params": kernels, "peak": lr}]),
        torch.optim.AdamW([{"params": rest, "peak": rate}], lr=rate, weight_decay=0.0, fused=True),
    ]


def _one_cycle(step: int, steps: int) -> float:
    """Return the share of the peak rate at ``step``: linear to 1 over the share ``WARM_UP``, then ``(1 + cos(pi p)) / 2`` towards 0."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / (steps + 1 - warm)))


def _float(clips: Tensor, protocol: str) -> Tensor:
    """Normalise uint8 clips; channels last, which is the faster layout for 3-D convolutions with few channels (bench_student.py)."""
    mean, std = (torch.tensor(v, device=clips.device).repeat(clips.shape[-1]) for v in (MEAN, STD))
    rows = clips.permute(0, 2, 3, 4, 1).flatten(3)  # [B, T, H, W 3]: whole rows at once, three channels alone do not fill a vector unit
    x = torch.addcmul(-mean / std, rows.float(), 1 / (255 * std)).unflatten(3, (-1, 3)).permute(0, 4, 1, 2, 3)
    return (x - x.mean()) / x.std() if protocol == "lvdd" else x


def _precision(protocol: str, device: str) -> Any:
    """Return bf16 autocast for ``"fast"`` on CUDA, nothing otherwise."""
    return torch.autocast("cuda", torch.bfloat16) if protocol == "fast" and str(device).startswith("cuda") else nullcontext()
