"""A pipeline's folder, or its hub id, as a :class:`~vidistill.sample.denoiser.Denoiser`; only safetensors and JSON weights are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vidistill import shipped
from vidistill.codec import DTYPES, Codec, load_codec
from vidistill.errors import InputError, choose, nearest
from vidistill.files import digest, load_json
from vidistill.hub import is_hub_id, snapshot
from vidistill.sample.denoiser import Denoiser, Epsilon, Flow, Motion
from vidistill.weights import read, read_network

FAMILIES: dict[str, type[Denoiser]] = {"TextToVideoSDPipeline": Epsilon, "AnimateDiffPipeline": Motion, "WanPipeline": Flow}
"""Pipeline class of ``model_index.json`` -> family."""

SETTINGS: dict[str, dict[str, Any]] = {
    "TextToVideoSDPipeline": {"steps": 50, "guidance": 9.0, "frames": 16},
    "AnimateDiffPipeline": {"steps": 50, "guidance": 7.5, "frames": 16},
    "WanPipeline": {"steps": 50, "guidance": 5.0, "frames": 81, "size": 480},
}
"""What a folder without ``sampling.json`` gets: the stock pipelines' own defaults; a UNet's size is the one in its configuration."""

MEMORY = ("slicing", "tiling", "offload")
"""Ways to need less memory: decode frame by frame, decode in tiles, keep each network on the GPU only while it works."""

WHOLE, PIECES, PIECE = 2**26, 64, 2**16
"""Files up to 64 MiB are digested whole, of larger ones 64 pieces of 64 KiB: gigabytes would take longer to read than to sample from."""

FILES = ["model_index.json", "sampling.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
"""What is fetched of a hub id: configuration, weights, words of the tokenizer."""


def load_denoiser(
    name: str | Path, *, device: str | torch.device = "cpu", dtype: str = "auto", memory: Sequence[str] = (), **sampling: Any
) -> Denoiser:
    """Load a pipeline; only safetensors and JSON weights are read, and every weight must be there.

    A scheduler of another kind than the family's (DDIM, Euler on a flow) is replaced by that one, with the same noise levels.

    Args:
        name: a model of the zoo; a folder as ``save_pretrained`` of a pipeline of ``FAMILIES`` writes it, with the autoencoder in ``vae/``;
            or its hub id.
        device, dtype: of the networks; ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``, bf16 on a GPU and else fp32.
        memory: some of ``MEMORY``.
        sampling: ``steps``, ``guidance``, ``frames``, ``size`` (one side, or height and width) instead of the folder's own, where not None.

    A folder's own are those of its ``sampling.json``; a few-step student's says also ``times`` (they fall from 1, the final 0 is left out)
    and ``renoise`` (``"ode"`` or ``"sde"``), and its steps are as many as its times.

    Raises:
        InputError: a part is missing, damaged or of another kind, ``memory`` asks for what the device does not have, or a few-step student
            is asked for other steps than its own.
    """
    import diffusers
    import transformers

    if dtype == "auto":
        dtype = "bf16" if torch.device(device).type == "cuda" else "fp32"
    torch_dtype = DTYPES[choose("dtype", dtype, DTYPES)]
    for way in memory:
        choose("memory option", way, MEMORY)
    folder = find(name)
    index = index_of(name, folder)
    kind = index["_class_name"]
    family = FAMILIES[kind]
    parts, loaded = {}, {}
    for part in ("text_encoder", family.network, "tokenizer", "scheduler"):
        library, class_name = index.get(part) or (None, None)
        found = getattr({"diffusers": diffusers, "transformers": transformers}.get(str(library)), str(class_name), None)
        if not (folder / part).is_dir():
            raise InputError(f"{folder} has no folder {part}; it is not a complete pipeline as save_pretrained writes it")
        if found is None:
            raise InputError(f"{folder}: model_index.json names {library}.{class_name} as {part}, which is no part that can be loaded")
        if part in ("tokenizer", "scheduler"):
            loaded[part] = read(str(folder / part), partial(found.from_pretrained, str(folder / part)))
        else:
            parts[part] = _network(found, folder / part, torch_dtype)
    codec = load_codec(folder / "vae", device=device, dtype=dtype)
    own = load_json(folder / "sampling.json") if (folder / "sampling.json").is_file() else {}
    native = parts[family.network].config.get("sample_size") or 64  # cells; AnimateDiff's motion UNet says nothing
    settings = {"size": codec.f_space * (native if isinstance(native, int) else native[0])}
    few = {key: own[key] for key in ("times", "renoise") if key in own}
    settings |= SETTINGS[kind] | ({"steps": len(few["times"])} if isinstance(few.get("times"), list) and few["times"] else {})
    settings |= own | {key: value for key, value in sampling.items() if value is not None}
    called = str(name) if is_hub_id(str(name)) and not Path(name).is_dir() else folder.name
    _save_memory(parts, codec, torch.device(device), memory)
    return family(
        parts,
        loaded["tokenizer"],
        _scheduler(family, loaded["scheduler"]),
        codec,
        id=called,
        settings=settings,
        fingerprint=digest([fingerprint(folder), few]) if few else fingerprint(folder),
        device=device,
    )


def find(name: str | Path, files: Sequence[str] = FILES, needs: str = "diffusion_pytorch_model*.safetensors") -> Path:
    """Return the folder of a pipeline: a model of the zoo, a folder, or what is fetched of a hub id.

    Args:
        name: see :func:`load_denoiser`.
        files: patterns of what is fetched.
        needs: pattern of a file without which what is in the download cache is not enough.

    Raises:
        InputError: there is none.
    """
    folder = shipped.locate(name)
    if not folder.is_dir() and is_hub_id(str(name)):
        folder = snapshot(str(name), files, needs, "model", "a folder written by save_pretrained, or a model of the zoo")
    if not folder.is_dir():
        raise InputError(f"no model {str(name)!r}: neither a folder, nor a hub id, nor in the zoo ({nearest(str(name), shipped.NAMES)})")
    return folder


def index_of(name: str | Path, folder: Path) -> dict[str, Any]:
    """Return a pipeline's ``model_index.json``.

    Raises:
        InputError: it is none of ``FAMILIES``, or of two networks.
    """
    index = load_json(folder / "model_index.json")
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind not in FAMILIES:
        raise InputError(f"{name} holds a {kind}, which cannot be sampled here: {nearest(str(kind), FAMILIES)}")
    if index.get("transformer_2", [None])[0]:
        raise InputError(f"{name} has two transformers for two ranges of noise (Wan 2.2), which cannot be sampled here; pass a Wan 2.1")
    return index


def fingerprint(folder: Path) -> str:
    """Return a digest of a pipeline's files: all bytes of those up to ``WHOLE``, of larger ones length and pieces spread over them.

    The autoencoder's are left out: it decides no latent.
    """
    total = hashlib.sha256()
    own = [file for file in (*folder.glob("*/*.json"), *folder.glob("*/*.safetensors")) if file.parent.name != "vae"]
    for file in sorted([*own, folder / "model_index.json"]):
        size = file.stat().st_size
        total.update(f"{file.relative_to(folder)} {size}".encode())
        with open(file, "rb") as handle:
            places = [0] if size <= WHOLE else [size * i // PIECES for i in range(PIECES)]
            for place in places:
                handle.seek(place)
                total.update(handle.read(size if size <= WHOLE else PIECE))
    return total.hexdigest()[:16]


def _scheduler(family: type[Denoiser], found: Any) -> Any:
    """Return the family's own scheduler with the noise levels of the one that was found."""
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    if issubclass(family, Epsilon):
        return found if isinstance(found, DDIMScheduler) else DDIMScheduler.from_config(found.config, clip_sample=False)
    if isinstance(found, FlowMatchEulerDiscreteScheduler):
        return found
    return FlowMatchEulerDiscreteScheduler(shift=found.config.get("flow_shift", 1.0))


def _save_memory(parts: dict[str, Any], codec: Codec, device: torch.device, memory: Sequence[str]) -> None:
    """Put the networks where they belong, with what saves memory switched on."""
    for way, call in (("slicing", "enable_slicing"), ("tiling", "enable_tiling")):
        if way in memory:
            if not hasattr(codec.module, call):
                raise InputError(f"{codec.kind} has no {way}; leave it out of the memory options")
            getattr(codec.module, call)()
    if "offload" not in memory:
        for part in parts.values():
            part.to(device)
        return
    if device.type != "cuda":
        raise InputError(f"offload moves networks between CPU and GPU, and the device is {device}; leave it out of the memory options")
    from accelerate import cpu_offload_with_hook

    hook = None
    for part in parts.values():  # in the order in which they work: each one's turn sends the one before it away
        _, hook = cpu_offload_with_hook(part, device, prev_module_hook=hook)


def _network(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one network, ready to sample."""
    with _no_bars():
        module = read_network(kind, folder, str(folder), torch_dtype=dtype)
    for p in module.parameters():  # memory-mapped weights are not aligned, and unaligned ones give other last bits
        p.data = p.data.clone()
    return module.eval().requires_grad_(False)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing a progress bar for a few megabytes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
