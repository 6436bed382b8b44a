"""lab-probe: which motion, shape, colour and background a clip of Motion World shows; the features of clips and frames.

A frame is seen by two strided convolutions (64 -> 16 -> 8), each with a residual one behind it. K learned maps p_k over the 16 x 16 grid
say where things are, and what is there:

    p_k = softmax over cells of a_k;    where_k = (E x, E y, sd x, sd y, ln mean exp a_k);    what_k = E features;    E, sd under p_k

what_k and the mean over the frame make the frame's feature f_t; heads on f_t name shape, colour and background in each frame alone. In
training the first map learns where the object is and how large, the second where its ink spot is. Motion is read from where_k, its change
from frame to frame and f_t by convolutions over time. The clip's feature is made of what those find and of sum_t w_t f_t with
w = softmax_t(s(f_t)), where frames whose object is hidden weigh little. Heads on it name all four factors.

It stands in the lab where VideoMAE, CLIP and DINO stand elsewhere, and is a diffusers folder: ``config.json`` says what the logits mean.

Shapes: B clips, T frames, S x S pixels, K maps, D = ``width`` features; ``video`` is uint8 RGB ``[B, 3, T, S, S]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidistill.data.world import FACTORS
from vidistill.errors import InputError
from vidistill.files import load_json
from vidistill.weights import read_network

HEADS = ("motion", "shape", "colour", "background")
"""The factors that a clip is asked for."""

PER_FRAME = ("shape", "colour", "background")
"""Those that each frame is asked for too."""

CLASS = "ProbeNet"
CHUNK = {"cpu": 1, "cuda": 64}
"""Clips at a time; one by one the same clip gives the same bits in any company, for a quarter more of a CPU's time."""


class Block(nn.Module):
    """``x + conv(silu(norm(x)))`` over space (``dims=2``) or time (``dims=1``)."""

    def __init__(self, channels: int, dims: int, kernel: int) -> None:
        super().__init__()
        conv: Any = nn.Conv2d if dims == 2 else nn.Conv1d
        self.norm = nn.GroupNorm(8, channels)
        self.conv = conv(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.silu(self.norm(x)))


class Eye(nn.Module):
    """A frame ``[N, 3, S, S]`` in [-1, 1] -> where things are ``[N, 5 K]`` and what the frame shows ``[N, D]``."""

    def __init__(self, channels: tuple[int, int], maps: int, width: int) -> None:
        super().__init__()
        fine, deep = channels
        self.stem = nn.Conv2d(3, fine, 6, stride=4, padding=1)
        self.refine = Block(fine, 2, 3)
        self.norm = nn.GroupNorm(8, fine)
        self.down = nn.Conv2d(fine, deep, 3, stride=2, padding=1)
        self.deep = Block(deep, 2, 3)
        self.deep_norm = nn.GroupNorm(8, deep)
        self.fine_maps, self.deep_maps = nn.Conv2d(fine, maps, 1), nn.Conv2d(deep, maps, 1, bias=False)
        self.what = nn.Linear((maps + 1) * deep + maps * fine, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = F.silu(self.norm(self.refine(self.stem(x))))
        deep = F.silu(self.deep_norm(self.deep(self.down(fine))))
        a = self.fine_maps(fine) + F.interpolate(self.deep_maps(deep), scale_factor=2)
        side = a.shape[-1]
        p = a.flatten(2).softmax(-1)
        at = (torch.arange(side, device=x.device, dtype=p.dtype) + 0.5) * (2 / side) - 1
        grid = p.unflatten(2, (side, side))
        across, down = grid.sum(2), grid.sum(3)  # the marginals along x and y
        x1, y1, x2, y2 = across @ at, down @ at, across @ at.square(), down @ at.square()
        spread = [(second - first.square()).clamp(min=1e-4).sqrt() for first, second in ((x1, x2), (y1, y2))]
        strength = a.flatten(2).logsumexp(-1) - 2 * math.log(side)
        where = torch.cat([x1, y1, *spread, strength / 4], 1)
        coarse = F.avg_pool2d(grid, 2).mul(4).flatten(2)
        what_deep = coarse @ deep.flatten(2).transpose(1, 2)
        what_fine = p @ fine.flatten(2).transpose(1, 2)
        what = torch.cat([what_deep.flatten(1), what_fine.flatten(1), deep.mean((2, 3))], 1)
        return where, F.silu(self.what(what))


class Clock(nn.Module):
    """What frame after frame says ``[B, T, inputs]`` -> what happens in the clip ``[B, 2 D]``: convolutions over time, mean and maximum."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.inlet = nn.Conv1d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, 1, 5) for _ in range(blocks))
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inlet(x.transpose(1, 2))
        for block in self.blocks:
            h = block(h)
        h = F.silu(self.norm(h))
        return torch.cat([h.mean(2), h.amax(2)], 1)


@cache
def network_class() -> Any:
    """Return the network's class; it is made here so that diffusers is imported only by those who use it."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class ProbeNet(ModelMixin, ConfigMixin):
        """See this module.

        Args:
            factors: name -> classes in the order of the logits; ``shape``, ``colour`` and ``background`` are asked of each frame too.
            channels: of the 16 x 16 and of the 8 x 8 grid, multiples of 8.
            maps: K.
            width: D, a multiple of 8.
            blocks: residual blocks over time.
        """

        @register_to_config
        def __init__(
            self,
            factors: dict[str, list[str]],
            channels: tuple[int, int] = (32, 96),
            maps: int = 8,
            width: int = 128,
            blocks: int = 4,
        ) -> None:
            super().__init__()
            self.eye = Eye((channels[0], channels[1]), maps, width)
            self.clock = Clock(10 * maps + width, width, blocks)
            self.weight = nn.Linear(width, 1)
            self.clip = nn.Linear(3 * width, width)
            self.heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in factors.items()})
            self.frame_heads = nn.ModuleDict({name: nn.Linear(width, len(factors[name])) for name in PER_FRAME if name in factors})

        def forward(self, video: Tensor) -> Any:
            """Return ``logits`` and ``frame_logits`` by factor, features ``clip [B, D]``, ``frame [B, T, D]``, and ``where [B, T, 5, K]``.

            Args:
                video: uint8 ``[B, 3, T, S, S]``.
            """
            B, T = len(video), video.shape[2]
            x = video.transpose(1, 2).flatten(0, 1).to(self.weight.weight.dtype) / 127.5 - 1
            where, frame = (part.unflatten(0, (B, T)) for part in self.eye(x.contiguous(memory_format=torch.channels_last)))
            change = F.pad(where[:, 1:] - where[:, :-1], (0, 0, 1, 0))
            happens = self.clock(torch.cat([where, 4 * change, frame], 2))
            shown = (self.weight(frame).softmax(1) * frame).sum(1)
            clip = F.silu(self.clip(torch.cat([happens, shown], 1)))
            return SimpleNamespace(
                logits={name: head(clip) for name, head in self.heads.items()},
                frame_logits={name: head(frame) for name, head in self.frame_heads.items()},
                clip=clip,
                frame=frame,
                where=where.unflatten(2, (5, -1)),
            )

    return ProbeNet


def new_network(**config: Any) -> Any:
    """Return a network with random weights for Motion World's factors; ``config`` as in its class."""
    network = network_class()(factors={name: list(FACTORS[name]) for name in HEADS}, **config)
    return network.to(memory_format=torch.channels_last)


class Probe:
    """A clip classifier.

    Args:
        network: made by :func:`new_network` or read by :func:`load_probe`; it is put in evaluation mode.
        device: where it runs; results come back to where the clips lie.

    Attributes:
        factors: name -> classes in the order of the logits.
    """

    def __init__(self, network: Any, *, device: str | torch.device | None = None) -> None:
        self.network = network.eval() if device is None else network.eval().to(device)
        self.factors: dict[str, tuple[str, ...]] = {name: tuple(values) for name, values in network.config["factors"].items()}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def logits(self, video: Tensor) -> dict[str, Tensor]:
        """Return the logits of each factor, float32 ``[B, K]``.

        Args:
            video: uint8 ``[B, 3, T, S, S]``; T >= 1, S a multiple of 8 and at least 16 (64 is what it was trained on).

        Raises:
            InputError: ``video`` is something else.
        """
        return self._run(video, lambda out: out.logits)

    def classify(self, video: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the most likely class of each factor, int64 ``[B]``, and the frames' features ``[B, T, D]``, float32, in one pass."""
        found = self._run(video, lambda out: out.logits | {"": out.frame})
        frame = found.pop("")
        return {name: logits.argmax(1) for name, logits in found.items()}, frame

    def frame_logits(self, video: Tensor) -> dict[str, Tensor]:
        """Return the logits of shape, colour and background in each frame, float32 ``[B, T, K]``: nearly equal where nothing is seen."""
        return self._run(video, lambda out: out.frame_logits)

    def features(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the clips ``[B, D]`` and of their frames ``[B, T, D]``, float32."""
        found = self._run(video, lambda out: {"clip": out.clip, "frame": out.frame})
        return found["clip"], found["frame"]

    def predict(self, video: Tensor) -> dict[str, Tensor]:
        """Return the most likely class of each factor, int64 ``[B]``."""
        return self.classify(video)[0]

    @torch.inference_mode()
    def _run(self, video: Tensor, pick: Any) -> dict[str, Tensor]:
        parts = [pick(self.network(part)) for part in self._chunks(video)]
        return {name: torch.cat([part[name] for part in parts]).float().to(video.device) for name in parts[0]}

    def _chunks(self, video: Tensor) -> Iterator[Tensor]:
        shape = tuple(video.shape)
        fits = len(shape) == 5 and all(shape) and shape[1] == 3 and shape[3] == shape[4] and shape[3] >= 16 and shape[3] % 8 == 0
        if video.dtype != torch.uint8 or not fits:
            raise InputError(
                f"the probe expects uint8 clips [B, 3, T, S, S] with S a multiple of 8 and at least 16, got {video.dtype} {shape}"
            )
        for part in video.split(CHUNK.get(self.device.type, CHUNK["cpu"])):
            yield part.to(self.device)


def load_probe(folder: str | Path, *, device: str | torch.device = "cpu") -> Probe:
    """Read a probe from its folder; only safetensors weights are read, and every weight must be there.

    Args:
        folder: as :func:`vidistill.weights.write_network` writes it.
        device: where it shall run.

    Raises:
        InputError: the folder is missing, incomplete, damaged, or holds another kind of model.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no probe: there is no config.json in it; train one with: vidistill train lab-probe")
    config = load_json(folder / "config.json")
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != CLASS:
        raise InputError(f"{folder} holds {kind or 'no model'}, where a probe ({CLASS}) is needed")
    network = read_network(network_class(), folder, f"probe {folder}", exact=True, low_cpu_mem_usage=False, local_files_only=True)
    return Probe(network.float().to(memory_format=torch.channels_last), device=device)
