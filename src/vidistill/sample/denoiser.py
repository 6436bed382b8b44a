"""What the sampler sees of a model: prompts in, a prediction of the clean video out, and the times between noise and video.

    x_t = alpha_t x_0 + sigma_t eps

A :class:`Denoiser` wraps stock diffusers and transformers components. Two families: :class:`Epsilon` (ModelScope: ``UNet3DConditionModel``,
DDIM) and :class:`Flow` (Wan: ``WanTransformer3DModel``, rectified flow). Every operation is done in the order in which the stock pipelines
do it, so that the same noise gives the same latents, bit for bit.

Shapes: B clips, C channels, T frames, H = W latent cells; prompts ``[B, L, D]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.codec import DTYPES, Codec, load_codec
from vidistill.errors import InputError, choose, nearest
from vidistill.files import load_json
from vidistill.weights import read, read_network


@dataclass(frozen=True)
class Time:
    """One point of a time grid.

    Attributes:
        t: what the network is told, a 0-d tensor: training timestep (int64), or 1000 sigma (float32).
        alpha, sigma: 0-d float32 tensors, ``x_t = alpha x_0 + sigma eps``.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor


class Denoiser(ABC):
    """A text-to-video model as the sampler sees it.

    Attributes:
        id: folder name or zoo name.
        parts: the networks by name.
        codec: latents <-> video.
        frames, size: of the clips it was trained on.
        steps, guidance: its defaults.
    """

    family: str
    network: str
    """Name of the denoising network's folder."""

    def __init__(self, parts: dict[str, Any], tokenizer: Any, scheduler: Any, codec: Codec, *, id: str, settings: dict[str, Any]) -> None:
        self.id, self.parts, self.tokenizer, self.scheduler, self.codec = id, parts, tokenizer, scheduler, codec
        self.frames, self.size = settings["frames"], settings["size"]
        self.steps, self.guidance = settings["steps"], settings["guidance"]
        net = parts[self.network]
        self.device, self.dtype = net.device, net.dtype
        if net.config.in_channels != codec.channels:
            raise InputError(
                f"{id}: the network takes {net.config.in_channels} latent channels, its autoencoder {codec.id} has {codec.channels}"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(C, T, H, W)`` of a latent."""
        return self.codec.latent_shape(self.frames, self.size)

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
    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None, guidance: float) -> Tensor:
        """Return the network's output at ``x``, guided ``u + guidance (c - u)`` where ``negative`` is given."""

    @abstractmethod
    def clean(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        """Return the clean video that an output means, ``x_0``."""

    @abstractmethod
    def advance(self, x: Tensor, x0: Tensor, output: Tensor, time: Time, after: Time) -> Tensor:
        """Return the latents one deterministic step later."""


class Epsilon(Denoiser):
    """The ModelScope family: noise prediction, DDIM steps; parts ``text_encoder`` (CLIP) and ``unet``."""

    family, network = "epsilon", "unet"

    def encode(self, prompts: Sequence[str]) -> Tensor:
        return self.parts["text_encoder"](self.tokens(prompts)[0])[0].to(self.dtype)

    def grid(self, steps: int) -> list[tuple[Time, Time]]:
        abar, last = self.scheduler.alphas_cumprod, self.scheduler.final_alpha_cumprod
        self.scheduler.set_timesteps(steps)
        stride = self.scheduler.config.num_train_timesteps // steps  # where DDIM's step ends; the next one may begin a little off
        at = lambda t: Time(t, (a := abar[t] if t >= 0 else last) ** 0.5, (1 - a) ** 0.5)  # noqa: E731
        return [(at(t), at(t - stride)) for t in self.scheduler.timesteps]

    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None, guidance: float) -> Tensor:
        unet = self.parts["unet"]
        if negative is None:
            return unet(x, time.t, text).sample
        u, c = unet(torch.cat([x, x]), time.t, torch.cat([negative, text])).sample.chunk(2)
        return u + guidance * (c - u)

    def clean(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        return (x - time.sigma * output) / time.alpha

    def advance(self, x: Tensor, x0: Tensor, output: Tensor, time: Time, after: Time) -> Tensor:
        return after.alpha * x0 + after.sigma * output


class Flow(Denoiser):
    """The Wan family: velocity prediction on straight paths, Euler steps; parts ``text_encoder`` (UMT5) and ``transformer``."""

    family, network = "flow", "transformer"

    def encode(self, prompts: Sequence[str]) -> Tensor:
        ids, mask = self.tokens(prompts)
        return (self.parts["text_encoder"](ids, mask).last_hidden_state * mask[..., None]).to(self.dtype)

    def grid(self, steps: int) -> list[tuple[Time, Time]]:
        self.scheduler.set_timesteps(steps)
        times = [Time(t, 1 - s, s) for t, s in zip([*self.scheduler.timesteps, torch.tensor(0.0)], self.scheduler.sigmas, strict=True)]
        return list(pairwise(times))

    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None, guidance: float) -> Tensor:
        run = lambda words: self.parts["transformer"](x.to(self.dtype), time.t.to(x.device).expand(len(x)), words).sample  # noqa: E731
        c = run(text)
        if negative is None:
            return c
        u = run(negative)
        return u + guidance * (c - u)

    def clean(self, x: Tensor, output: Tensor, time: Time) -> Tensor:
        return x - time.sigma * output

    def advance(self, x: Tensor, x0: Tensor, output: Tensor, time: Time, after: Time) -> Tensor:
        return x + (after.sigma - time.sigma) * output


FAMILIES: dict[str, type[Denoiser]] = {"TextToVideoSDPipeline": Epsilon, "WanPipeline": Flow}
"""Pipeline class of ``model_index.json`` -> family."""

SETTINGS: dict[str, Any] = {"steps": 50, "guidance": 5.0, "frames": 16, "size": 64}
"""What a folder without ``sampling.json`` gets."""


def load_denoiser(folder: str | Path, *, device: str | torch.device = "cpu", dtype: str = "fp32") -> Denoiser:
    """Load a pipeline folder; only safetensors and JSON are read, and every weight must be there.

    Args:
        folder: as ``save_pretrained`` of a ``TextToVideoSDPipeline`` or ``WanPipeline`` writes it. The autoencoder is in ``vae/``.
        device, dtype: of the networks.

    Raises:
        InputError: a part is missing, damaged or of another kind.
    """
    import diffusers
    import transformers

    folder, torch_dtype = Path(folder), DTYPES[choose("dtype", dtype, DTYPES)]
    index = load_json(folder / "model_index.json")
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind not in FAMILIES:
        raise InputError(f"{folder} holds a {kind}, which cannot be sampled here: {nearest(str(kind), FAMILIES)}")
    family = FAMILIES[kind]
    parts, loaded = {}, {}
    for name in ("text_encoder", family.network, "tokenizer", "scheduler"):
        library, class_name = index.get(name) or (None, None)
        found = getattr({"diffusers": diffusers, "transformers": transformers}.get(str(library)), str(class_name), None)
        if not (folder / name).is_dir():
            raise InputError(f"{folder} has no folder {name}; it is not a complete pipeline as save_pretrained writes it")
        if found is None:
            raise InputError(f"{folder}: model_index.json names {library}.{class_name} as {name}, which is no part that can be loaded")
        if name in ("tokenizer", "scheduler"):
            loaded[name] = read(str(folder / name), partial(found.from_pretrained, str(folder / name)))
        else:
            parts[name] = _network(found, folder / name, torch_dtype).to(device)
    codec = load_codec(folder / "vae", device=device, dtype=dtype)
    settings = SETTINGS | (load_json(folder / "sampling.json") if (folder / "sampling.json").is_file() else {})
    return family(parts, loaded["tokenizer"], loaded["scheduler"], codec, id=folder.name, settings=settings)


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
