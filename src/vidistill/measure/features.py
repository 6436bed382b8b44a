"""Features of frames by a network: lab-probe, DINO (subject consistency) or CLIP (background consistency), from a folder or a hub id.

VBench's own input (package 0.1.5): DINO sees the shorter side brought to 224 pixels, bilinearly, and answers with its class token; CLIP
sees it brought to 224 bicubically, the middle square, and answers with the image embedding; both without antialiasing.

Shapes: B clips, T frames, H x W pixels, D features; ``video`` is uint8 RGB ``[B, 3, T, H, W]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill import shipped
from vidistill.errors import InputError
from vidistill.files import load_json
from vidistill.hub import is_hub_id, snapshot
from vidistill.measure.consistency import FrameFeatures, check_clips
from vidistill.measure.probe import CLASS, load_probe
from vidistill.weights import read_network

CHUNK = {"cpu": 4, "cuda": 256}
"""Frames at a time."""


@dataclass(frozen=True)
class Kind:
    """How a family of networks sees a frame.

    Attributes:
        network: its class in transformers. options: for ``from_pretrained``.
        mode: how the shorter side is brought to the network's size. square: whether only the middle square is seen.
        mean, std: of red, green, blue in [0, 1], which are taken off.
        see: network and prepared frames -> features ``[N, D]``.
    """

    network: str
    options: dict[str, Any]
    mode: str
    square: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    see: Callable[[Any, Tensor], Tensor]


def _dino(net: Any, x: Tensor) -> Tensor:
    return net(pixel_values=x, interpolate_pos_encoding=x.shape[-1] != x.shape[-2]).last_hidden_state[:, 0]


def _clip(net: Any, x: Tensor) -> Tensor:
    return net(pixel_values=x).image_embeds


DINO = Kind("ViTModel", {"add_pooling_layer": False}, "bilinear", False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), _dino)
CLIP = Kind(
    "CLIPVisionModelWithProjection",
    {},
    "bicubic",
    True,
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
    _clip,
)
KINDS = {"vit": DINO, "clip": CLIP, "clip_vision_model": CLIP}
"""``model_type`` in a folder's ``config.json`` -> how it sees."""


def load_features(name: str | Path, *, device: str | torch.device = "cpu") -> FrameFeatures:
    """Load a network as a source of frame features; only safetensors weights are read, and every weight must be there.

    Args:
        name: ``"lab-probe"`` or a folder of its kind; a folder written by ``save_pretrained``, or a hub id, of a ViT such as
            ``facebook/dino-vitb16`` or of a CLIP such as ``openai/clip-vit-base-patch32``, VBench's two, where they hold safetensors.
        device: where it works.

    Returns:
        a function: uint8 ``[B, 3, T, H, W]`` -> float32 ``[B, T, D]`` on the CPU; it raises InputError for anything else.

    Raises:
        InputError: nothing of that name, a damaged folder, or another kind of model.
    """
    folder = shipped.locate(name)
    if not folder.is_dir() and is_hub_id(str(name)):
        patterns = ["*.json", "*.safetensors"]
        folder = snapshot(str(name), patterns, "*.safetensors", "frame features", "lab-probe or a folder written by save_pretrained")
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} holds no network: there is no config.json in it; pass lab-probe, a folder or a hub id of a DINO or CLIP")
    config = load_json(folder / "config.json")
    config = config if isinstance(config, dict) else {}
    if config.get("_class_name") == CLASS:
        probe = load_probe(folder, device=device)
        return lambda video: probe.features(video)[1]
    model = config.get("model_type") or config.get("_class_name")
    if model not in KINDS:
        raise InputError(f"{name} holds {model or 'no model'}, which gives no frame features here: pass lab-probe, a ViT (DINO) or a CLIP")
    return _transformer(str(name), folder, KINDS[model], torch.device(device))


def _transformer(name: str, folder: Path, kind: Kind, device: torch.device) -> FrameFeatures:
    import transformers

    net = read_network(getattr(transformers, kind.network), folder, f"frame features {name}", **kind.options)
    net = net.float().eval().requires_grad_(False).to(device)
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (kind.mean, kind.std))
    side = int(net.config.image_size)
    step = CHUNK.get(device.type, CHUNK["cpu"])

    def see(frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        shorter = min(height, width)
        size = (int(side * height / shorter), int(side * width / shorter))
        x = F.interpolate(frames.to(device).float(), size, mode=kind.mode)
        if kind.square:
            top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
            x = x[..., top : top + side, left : left + side]
        return kind.see(net, (x / 255 - mean) / std).float().cpu()

    @torch.inference_mode()
    def features(video: Tensor) -> Tensor:
        check_clips(video)
        frames = video.transpose(1, 2).flatten(0, 1)
        return torch.cat([see(part) for part in frames.split(step)]).view(len(video), video.shape[2], -1)

    return features
