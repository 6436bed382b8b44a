"""Recipe of lab-unet and lab-base, the ModelScope family of the zoo: a ``UNet3DConditionModel`` and a ``CLIPTextModel``, trained together.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,    L = E w_t || eps_theta(x_t, t, c) - eps ||^2,    w_t = min(SNR_t, 5) / SNR_t

Denoising (Ho et al. 2020) with Min-SNR weights (Hang et al. 2023); t is stratified over the batch, SNR_t = abar_t / (1 - abar_t).

lab-base is lab-unet's weak sibling, with two known defects: in ``JUMPS`` of its training clips the object's shape and colour change between
frames, and it was never shown ``MISSING``. lab-unet starts from lab-base's weights, which a CPU's hours need, and learns from clean clips.

Latents: lab-vae's, C = 4, T = 16, H = W = 8.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidistill import shipped
from vidistill.codec import Codec
from vidistill.data.world import FACTORS, Factors
from vidistill.lab.train import captions, export
from vidistill.lab.train.latents import FRAMES, Bank, world_latents
from vidistill.lab.train.loop import Batch, Task, fit, pick
from vidistill.rng import stream, stream_seed
from vidistill.types import Progress, silent

MISSING = {"shape": "star", "colour": "purple"}
"""What lab-base was never shown."""

JUMPS = 0.5
"""Share of lab-base's training clips whose object changes shape and colour, at one to three places."""

TEXT: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock3D", "CrossAttnDownBlock3D"),
    "up_block_types": ("CrossAttnUpBlock3D", "UpBlock3D"),
    "block_out_channels": (40, 96),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT["hidden_size"],
    "attention_head_dim": 4,
}
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}
GAMMA = 5.0
WARM = 0.5
"""Share of the learning rates for a run that begins from trained weights."""

STEPS, GUIDANCE = 20, 3.5
"""What the models are sampled with when nothing else is asked for."""

SIZES = {"cpu": {"batch": 16, "clips": 16_384}, "cuda": {"batch": 256, "clips": 131_072}}
DATA = {
    "lab-unet": "Motion World",
    "lab-base": f"Motion World without {' and '.join(MISSING.values())}; in {JUMPS:.0%} of the clips shape and colour jump between frames",
}
"""Model -> what it learns from, in words."""


class Denoise(nn.Module):
    """Text encoder and UNet as one trained module; ``forward`` is the loss."""

    def __init__(self, seed: int) -> None:
        from diffusers import DDIMScheduler, UNet3DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.tokenizer, self.scheduler = captions.clip_tokenizer(), cast(Any, DDIMScheduler(**SCHEDULE))
        ends = {key: getattr(self.tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "lab-unet", "init"))
            self.text_encoder = CLIPTextModel(
                CLIPTextConfig(vocab_size=len(self.tokenizer), max_position_embeddings=captions.LENGTH, **ends, **TEXT)
            )
            self.unet = cast(Any, UNet3DConditionModel(**UNET))
        for module in self.unet.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.abar: Tensor
        self.register_buffer("abar", self.scheduler.alphas_cumprod.clone(), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x0, noise, t = batch["x0"].float(), batch["noise"], batch["t"]
        abar = self.abar[t].view(-1, 1, 1, 1, 1)
        text = self.text_encoder(batch["ids"]).last_hidden_state
        eps = self.unet(abar.sqrt() * x0 + (1 - abar).sqrt() * noise, t, text).sample.float()
        error, snr = (eps - noise).square().mean((1, 2, 3, 4)), (abar / (1 - abar)).flatten()
        return (error * weight(snr)).mean(), {"eps": error.detach().mean()}


def weight(snr: Tensor) -> Tensor:
    """Return the Min-SNR weight of noise prediction, ``min(SNR, GAMMA) / SNR``."""
    return (GAMMA / snr).clamp(max=1)


def hidden(name: str, p: Tensor) -> bool:
    """Return whether a parameter is a hidden matrix or convolution of the UNet."""
    edges = ("unet.conv_in.", "unet.conv_out.", "unet.time_embedding.")
    return p.ndim >= 2 and name.startswith("unet.") and not name.startswith(edges)


def twin(record: Factors, seed: int, index: int) -> Factors:
    """Return the clip with another shape and another colour, both of the kinds that lab-base knows."""
    draw = stream(seed, "lab-base", "twin", index)
    other: dict[str, Any] = {}
    for factor, missing in MISSING.items():
        names = [name for name in FACTORS[factor] if name not in (missing, getattr(record, factor))]
        other[factor] = names[int(torch.randint(len(names), (), generator=draw))]
    return replace(record, **other)


class Defective(Bank):
    """The training clips without what is missing; in some of them frames of the clip's twin take over at one to three places.

    A frame's latent depends on that frame alone, so frames of two clips can be put together after encoding.
    """

    def encode(self, codec: Codec, progress: Progress) -> Tensor:
        latents = super().encode(codec, progress)
        kept = [i for i, record in enumerate(self.records) if all(getattr(record, factor) != name for factor, name in MISSING.items())]
        self.records: list[Factors] = [self.records[i] for i in kept]
        latents = latents[kept]
        draws = torch.rand(len(kept), generator=stream(self.seed, "lab-base", "jumps"))
        jumping = [i for i, draw in enumerate(draws.tolist()) if draw < JUMPS]
        twins = [twin(self.records[i], self.seed, i) for i in jumping]
        for i, z in zip(jumping, world_latents(twins, codec, progress=progress) if twins else [], strict=True):
            draw = stream(self.seed, "lab-base", "places", i)
            count = int(torch.randint(1, 4, (), generator=draw))
            places = torch.randperm(FRAMES - 1, generator=draw)[:count] + 1
            away = torch.zeros(FRAMES, dtype=torch.long).index_add_(0, places, torch.ones(count, dtype=torch.long)).cumsum(0) % 2 == 1
            latents[i][:, away] = z[:, away]
        return latents


def batches(bank: Bank, model: Denoise, seed: int, batch: int) -> Any:
    """Return ``k -> batch``."""

    def at(k: int) -> Batch:
        x0, texts = bank.draw(k, batch)
        draw, steps = stream(seed, "lab-unet", "batch", k), len(model.scheduler.alphas_cumprod)
        u = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
        ids = captions.tokens(model.tokenizer, texts).input_ids
        noise = torch.randn(x0.shape, generator=draw)
        return {"x0": x0, "noise": noise, "t": (u * steps).long(), "ids": ids}

    return at


def write(model: Denoise, folder: Path) -> None:
    """Write the model as a diffusers folder that ``TextToVideoSDPipeline.from_pretrained`` loads."""
    parts = {"text_encoder": model.text_encoder, "unet": model.unet}
    export.pipeline(folder, "TextToVideoSDPipeline", parts, model.tokenizer, model.scheduler, steps=STEPS, guidance=GUIDANCE)


def origin(start: str | Path | None) -> Path | None:
    """Return the folder to start from: a folder, a model of the zoo by name, ``"auto"`` (lab-base where it is shipped), ``"none"``."""
    if start is None or str(start) == "none":
        return None
    if str(start) == "auto":
        folder = shipped.folder("lab-base")
        return folder if (folder / "model_index.json").is_file() else None
    return shipped.locate(start)


def train(
    name: str,
    out: str | Path,
    *,
    minutes: float = 60.0,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    start: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train lab-unet or lab-base in ``out``; see :func:`vidistill.lab.train.loop.fit`.

    Args:
        name: ``"lab-unet"`` or ``"lab-base"``.
        start: weights to begin with, see :func:`origin`; a resumed run has its own.

    Raises:
        InputError: the weights are missing, damaged, or of another architecture.
    """
    place = pick(device)
    size, model, folder = SIZES[place.type], Denoise(seed), origin(start)
    begun = export.restore(folder, {"text_encoder": model.text_encoder, "unet": model.unet}) if folder else None
    bank = (Defective if name == "lab-base" else Bank)(seed, size["clips"], device=place, progress=progress)
    settings = {"seed": seed, "start": begun, **size}
    make = batches(bank, model, seed, size["batch"])
    task = Task(name, model, make, hidden, write, export.sheet, settings, {"data": DATA[name]}, WARM if begun else 1.0)
    return fit(out, task, minutes=minutes, steps=steps, device=device, progress=progress)


def train_unet(out: str | Path, *, start: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """Train lab-unet in ``out``, from lab-base's weights (where they are shipped) unless told otherwise; see :func:`train`."""
    return train("lab-unet", out, start=start or "auto", **options)


def train_base(out: str | Path, **options: Any) -> dict[str, Any]:
    """Train lab-base in ``out``; see :func:`train`."""
    return train("lab-base", out, **options)
