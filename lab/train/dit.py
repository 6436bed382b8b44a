"""Recipe of lab-dit, the Wan-family model of the zoo: a ``WanTransformer3DModel`` and a ``UMT5EncoderModel``, trained together.

    x_t = (1 - t) x_0 + t eps,    L = E || v(x_t, 1000 t, c) - (eps - x_0) ||^2,    t = sh_s(u) = s u / (1 + (s - 1) u),  u ~ U(0, 1)

Rectified flow (Liu et al. 2022) with the time shift of Stable Diffusion 3 (Esser et al. 2024); u is stratified over the batch.
Latents: lab-vae's, C = 4, T = 16, H = W = 8; tokens of 1 x 2 x 2 cells, 256 of them. Prompts: padded with zeros after the encoder, as Wan
does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidistill.lab.train import captions, export
from vidistill.lab.train.latents import Bank
from vidistill.lab.train.loop import Batch, Task, fit, pick
from vidistill.rng import stream, stream_seed
from vidistill.types import Progress, silent

NAME = "lab-dit"
TEXT: dict[str, Any] = {"d_model": 96, "d_kv": 24, "d_ff": 192, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8}
TRANSFORMER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": TEXT["d_model"],
    "freq_dim": 64,
    "ffn_dim": 640,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}
SHIFT = 3.0
STEPS, GUIDANCE = 20, 2.0
"""What the model is sampled with when nothing else is asked for."""

SIZES = {"cpu": {"batch": 16, "clips": 16_384}, "cuda": {"batch": 512, "clips": 131_072}}


class Flow(nn.Module):
    """Text encoder and transformer as one trained module; ``forward`` is the loss."""

    def __init__(self, seed: int) -> None:
        from diffusers import WanTransformer3DModel
        from transformers import UMT5Config, UMT5EncoderModel

        super().__init__()
        self.tokenizer = captions.t5_tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, NAME, "init"))
            self.text_encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(self.tokenizer), dropout_rate=0.0, **TEXT))
            self.transformer = cast(Any, WanTransformer3DModel(**TRANSFORMER))

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return prompt embeddings ``[B, L, D]``, zero where ``mask`` is."""
        return self.text_encoder(ids, attention_mask=mask).last_hidden_state * mask[..., None]

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x0, noise, t = batch["x0"].float(), batch["noise"], batch["t"]
        x = torch.lerp(x0, noise, t.view(-1, 1, 1, 1, 1))
        text = self.encode(batch["ids"], batch["mask"])
        v = self.transformer(hidden_states=x, timestep=1000 * t, encoder_hidden_states=text).sample.float()
        error = (v - (noise - x0)).square().mean((1, 2, 3, 4))
        late = (t < 0.5).float()  # no branch: asking whether there are any would wait for the GPU
        return error.mean(), {"late": (error.detach() * late).sum() / late.sum()}


def hidden(name: str, p: Tensor) -> bool:
    """Return whether a parameter is a hidden matrix: those of the transformer's blocks."""
    return p.ndim == 2 and name.startswith("transformer.blocks.")


def shift(u: Tensor, s: float = SHIFT) -> Tensor:
    """Return ``sh_s(u) = s u / (1 + (s - 1) u)``."""
    return s * u / (1 + (s - 1) * u)


def batches(bank: Bank, model: Flow, seed: int, batch: int) -> Any:
    """Return ``k -> batch``."""

    def at(k: int) -> Batch:
        x0, texts = bank.draw(k, batch)
        draw = stream(seed, NAME, "batch", k)
        u = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
        tokens = captions.tokens(model.tokenizer, texts)
        noise = torch.randn(x0.shape, generator=draw)
        return {"x0": x0, "noise": noise, "t": shift(u), "ids": tokens.input_ids, "mask": tokens.attention_mask}

    return at


def write(model: Flow, folder: Path) -> None:
    """Write the model as a diffusers folder: a ``WanPipeline`` without its own autoencoder; the latents are lab-vae's."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    parts = {"text_encoder": model.text_encoder, "transformer": model.transformer}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    export.pipeline(folder, "WanPipeline", parts, model.tokenizer, scheduler, steps=STEPS, guidance=GUIDANCE)


def train(
    out: str | Path,
    *,
    minutes: float = 60.0,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train lab-dit in ``out``; see :func:`vidistill.lab.train.loop.fit`."""
    place = pick(device)
    size, model = SIZES[place.type], Flow(seed)
    bank = Bank(seed, size["clips"], device=place, progress=progress)
    task = Task(NAME, model, batches(bank, model, seed, size["batch"]), hidden, write, export.sheet, {"seed": seed, **size})
    return fit(out, task, minutes=minutes, steps=steps, device=device, progress=progress)
