"""A teacher: a clip classifier that says how likely each class of a data set is, whatever names and order its own classes have.

lab-probe and every folder of its kind, and ``VideoMAEForVideoClassification`` of transformers by folder or hub id. Classes are matched by
name, without case, blanks and punctuation; logits of classes that the data set does not have are left out before any softmax.

Shapes: B clips, T frames, S x S pixels, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill import shipped
from vidistill.errors import InputError, nearest
from vidistill.files import load_json
from vidistill.hub import is_hub_id, snapshot
from vidistill.measure.probe import CLASS, load_probe
from vidistill.types import Progress, silent
from vidistill.weights import read_network

VIDEOMAE = "VideoMAEForVideoClassification"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, where a folder's ``preprocessor_config.json`` says nothing else."""

CHUNK = {"cpu": 4, "cuda": 64}
"""Clips at a time."""


@dataclass(frozen=True)
class Teacher:
    """A classifier of clips.

    Attributes:
        name: what it was loaded by.
        own: uint8 ``[B, 3, T, S, S]`` -> logits of its own classes, float32.
        columns: its own class of each class of the data set.
        device: where it works.
    """

    name: str
    own: Callable[[Tensor], Tensor]
    columns: tuple[int, ...]
    device: torch.device

    @torch.inference_mode()
    def logits(self, video: Tensor, *, progress: Progress = silent) -> Tensor:
        """Return the logits of clips in the order of the data set's classes, float32 ``[B, K]`` on the CPU.

        Args:
            video: uint8 ``[B, 3, T, S, S]``.
            progress: called after each chunk.

        Raises:
            InputError: ``video`` is something else.
        """
        if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[1] != 3:
            raise InputError(f"a teacher expects uint8 clips [B, 3, T, S, S], got {video.dtype} {tuple(video.shape)}")
        parts, step = [], CHUNK.get(self.device.type, CHUNK["cpu"])
        for start in range(0, len(video), step):
            parts.append(self.own(video[start : start + step].to(self.device)).float().cpu()[:, list(self.columns)])
            progress(f"soft labels by {self.name}", min(start + step, len(video)), len(video))
        return torch.cat(parts)


def plain(name: str) -> str:
    """Return a class name without case, blanks and punctuation: ``"Push-Left"``, ``"push_left"`` -> ``"pushleft"``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def match(classes: Sequence[str], known: Sequence[str], who: str) -> tuple[int, ...]:
    """Return which of ``known`` each of ``classes`` is.

    Raises:
        InputError: one is missing; the line names it and the nearest.
    """
    places = {plain(name): i for i, name in enumerate(known)}
    missing = [name for name in classes if plain(name) not in places]
    if missing:
        raise InputError(
            f"teacher {who} does not know {len(missing)} of the {len(classes)} classes, e.g. {missing[0]!r} "
            f"({nearest(missing[0], known[:40])}); pass one that was trained on them"
        )
    return tuple(places[plain(name)] for name in classes)


def load_teacher(name: str | Path, classes: Sequence[str], *, device: str | torch.device = "cpu") -> Teacher:
    """Load a teacher for the classes of a data set; only safetensors weights are read, and every weight must be there.

    Args:
        name: ``"lab-probe"``, a folder of its kind or of a VideoMAE classifier, or the hub id of one.
        classes: names, in the order of the labels.
        device: where it works.

    Raises:
        InputError: nothing of that name, a damaged folder, another kind of model, or classes that it does not know.
    """
    folder = shipped.locate(name)
    if not folder.is_dir() and is_hub_id(str(name)):
        folder = snapshot(
            str(name), ["*.json", "*.safetensors"], "*.safetensors", "teacher", "lab-probe or a folder written by save_pretrained"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} holds no teacher: there is no config.json in it; pass lab-probe, a folder or a hub id of a VideoMAE")
    config = load_json(folder / "config.json")
    config = config if isinstance(config, dict) else {}
    if config.get("_class_name") == CLASS:
        return _probe(str(name), folder, classes, torch.device(device))
    if VIDEOMAE in (config.get("architectures") or ()):
        return _videomae(str(name), folder, config, classes, torch.device(device))
    kind = config.get("_class_name") or config.get("architectures")
    raise InputError(f"{name} holds {kind}, which is no teacher here: pass lab-probe or a {VIDEOMAE}")


def _probe(name: str, folder: Path, classes: Sequence[str], device: torch.device) -> Teacher:
    probe = load_probe(folder, device=device)
    heads = {head: {plain(value) for value in values} for head, values in probe.factors.items()}
    head = next((head for head, known in heads.items() if all(plain(c) in known for c in classes)), next(iter(heads)))
    return Teacher(name, lambda video: probe.logits(video)[head], match(classes, probe.factors[head], name), device)


def _videomae(name: str, folder: Path, config: Mapping[str, Any], classes: Sequence[str], device: torch.device) -> Teacher:
    from transformers import VideoMAEForVideoClassification

    net = read_network(VideoMAEForVideoClassification, folder, f"teacher {name}").eval().requires_grad_(False).to(device)
    known = [str(net.config.id2label[i]) for i in range(len(net.config.id2label))]
    file = folder / "preprocessor_config.json"
    said = load_json(file) if file.is_file() else {}
    mean, std = (
        torch.tensor(said.get(key, value), device=device).view(1, 1, 3, 1, 1) for key, value in (("image_mean", MEAN), ("image_std", STD))
    )
    frames, size = int(config.get("num_frames", 16)), int(config.get("image_size", 224))

    def own(video: Tensor) -> Tensor:
        at = torch.linspace(0, video.shape[2] - 1, frames, device=video.device).round().long()  # evenly over the clip
        x = video[:, :, at].transpose(1, 2).flatten(0, 1).float()
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False).unflatten(0, (-1, frames))
        return net(pixel_values=(x / 255 - mean) / std).logits

    return Teacher(name, own, match(classes, known, name), device)
