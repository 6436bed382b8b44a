"""How a recipe's model leaves and comes back: a diffusers folder in fp16 safetensors, and a sheet of clips that it makes."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidistill import shipped
from vidistill.errors import InputError
from vidistill.files import ensure_folder, load_json, load_tensors, save_json, save_tensors, write_atomic
from vidistill.lab.train.latents import FRAMES, SIZE

SHEET = {
    "a red circle bouncing over a navy background, still camera": 1,
    "a green square orbiting over a plum background, still camera": 2,
    "a white triangle growing over a forest background, still camera": 3,
    "a purple star sliding over a slate background, still camera": 4,
    "a blue ring zigzagging over a brown background, still camera": 5,
    "a yellow cross spinning over a teal background, still camera": 6,
    "an orange circle falling over a navy background, camera pan-left": 7,
    "a cyan star blinking over a brown background, camera zoom-in": 8,
}
"""Prompt -> seed of each row of the sheet."""

SHEET_STEPS, SHEET_FRAMES = 12, (0, 3, 6, 9, 12, 15)


def weights_file(part: nn.Module, folder: Path) -> Path:
    """Return where the stock classes look for a part's weights in its ``folder``."""
    transformers = type(part).__module__.startswith("transformers.")
    return folder / ("model.safetensors" if transformers else "diffusion_pytorch_model.safetensors")


def write_config(part: Any, folder: Path) -> None:
    """Write the configuration of a diffusers network, without the path that it was loaded from: that is this machine's."""
    told = json.loads(part.to_json_string())
    save_json(folder / "config.json", {key: value for key, value in told.items() if key != "_name_or_path"})


def pipeline(
    folder: Path,
    kind: str,
    parts: dict[str, nn.Module],
    tokenizer: Any,
    scheduler: Any,
    *,
    steps: int,
    guidance: float,
    times: Sequence[float] = (),
    renoise: str | None = None,
) -> None:
    """Write a pipeline: each part's configuration and fp16 weights, tokenizer, scheduler, ``model_index.json`` and ``sampling.json``.

    The autoencoder is a link to lab-vae. It is a part of the pipeline where ``kind`` takes a frame autoencoder; for the other, Wan's, it is
    null, and the stock class wants to be told so: ``WanPipeline.from_pretrained(folder, vae=None)``.

    Args:
        folder: of the model.
        kind: class name of the pipeline.
        parts: the networks by the pipeline's names.
        steps, guidance: what the model is sampled with when nothing else is asked for.
        times, renoise: of a few-step student, see :class:`vidistill.sample.Denoiser`; without times any number of steps is its own.
    """
    index: dict[str, Any] = {"_class_name": kind}
    for name, part in parts.items():
        library, where = type(part).__module__.split(".")[0], ensure_folder(folder / name)
        config: Any = part.config
        if library == "transformers":
            config = copy.deepcopy(config)
            config.dtype = torch.float32  # or it would come back in the fp16 of its file, beside a network in fp32
            config.save_pretrained(where)
        else:
            write_config(part, where)
        index[name] = [library, type(part).__name__]
        save_tensors(weights_file(part, where), {key: tensor.half() for key, tensor in part.state_dict().items()}, {"format": "pt"})
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler.save_config(folder / "scheduler")
    index |= {"tokenizer": ["transformers", type(tokenizer).__name__], "scheduler": ["diffusers", type(scheduler).__name__]}
    index["vae"] = ["diffusers", "AutoencoderKL"] if kind == "TextToVideoSDPipeline" else [None, None]
    link = folder / "vae"
    if not link.exists():
        link.unlink(missing_ok=True)  # a link that leads nowhere: the folder was moved
        link.symlink_to(os.path.relpath(shipped.folder("lab-vae"), folder.resolve()), target_is_directory=True)
    few: dict[str, Any] = {"times": list(times)} if times else {}
    few |= {"renoise": renoise} if renoise else {}
    save_json(folder / "sampling.json", {"steps": steps, "guidance": guidance, "frames": FRAMES, "size": SIZE} | few)
    save_json(folder / "model_index.json", index)


def restore(folder: Path, parts: dict[str, nn.Module]) -> str:
    """Put the weights of an exported pipeline into ``parts`` and return its name: what its ``training.json`` says, else the folder's.

    Raises:
        InputError: a part is missing, damaged, or of another architecture.
    """
    for name, part in parts.items():
        path, own = weights_file(part, folder / name), part.state_dict()
        tensors, _ = load_tensors(path)
        if {key: t.shape for key, t in tensors.items()} != {key: t.shape for key, t in own.items()}:
            other = [key for key in {**own, **tensors} if key not in own or key not in tensors or own[key].shape != tensors[key].shape]
            raise InputError(
                f"cannot start from {folder}: its {name} is another architecture, {len(other)} of its weights do not fit, e.g. {other[0]}"
            )
        part.load_state_dict(tensors)
    about = folder / "training.json"
    called = folder.resolve().parent if folder.name == "model" else folder  # a run's folder bears the name
    return str(load_json(about)["name"]) if about.is_file() else called.name


def sheet(model: nn.Module, path: Path) -> None:
    """Write a PNG: clips that the exported model beside ``path`` makes of the prompts of ``SHEET``, six frames of each, twice their size.

    Args:
        model: the model in training; says where to sample.
        path: of the picture; the model is ``model/`` in the same folder.
    """
    from vidistill.sample import generate, load_denoiser

    denoiser = load_denoiser(path.parent / "model", device=next(model.parameters()).device)
    z = generate(denoiser, list(SHEET), seeds=list(SHEET.values()), steps=None if denoiser.times else SHEET_STEPS)
    shown = z[:, :, list(SHEET_FRAMES)].to(denoiser.device)  # lab-vae decodes each frame by itself
    picture(denoiser.codec.decode(shown, len(SHEET_FRAMES)), list(SHEET), path)


def picture(video: Tensor, texts: list[str], path: Path) -> None:
    """Write clips, uint8 ``[B, 3, T, H, W]``, as a PNG: a row of frames at twice their size and a line of text below it for each."""
    from PIL import Image, ImageDraw, ImageFont

    B, _, T, H, W = video.shape
    line, font = 20, ImageFont.load_default(14)
    image = Image.new("RGB", (2 * W * T, B * (2 * H + line)), "white")
    for b, text in enumerate(texts):
        row = Image.fromarray(video[b].permute(2, 1, 3, 0).flatten(1, 2).contiguous().cpu().numpy())  # [H, T W, 3]
        image.paste(row.resize((2 * W * T, 2 * H), Image.Resampling.NEAREST), (0, b * (2 * H + line)))
        ImageDraw.Draw(image).text((4, (b + 1) * (2 * H + line) - line + 1), text, fill="black", font=font)
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))
