"""Recipe of lab-vae, the small image autoencoder of the zoo (a diffusers ``AutoencoderKL``: f8, 4 latent channels).

    L = mean_b ln(MSE(x_b, D(z_b)) + 1e-5) + BETA * mean KL(q(z | x) || N(0, 1)),    z ~ q(z | x) = N(E_mu(x), E_sigma(x)^2)

The first term is the PSNR of each frame up to a constant, so easy and hard frames weigh alike and the loss is the number on the card.
BETA only keeps the latents near unit size and a little tolerant of noise (quantised cores). At each export the deviation of the posterior
mean over training frames is measured and ``scaling_factor = 1 / std`` is written into the configuration, as Stable Diffusion does.

Frames: half Motion World, half real clips where a data folder is given; batch k depends on (seed, k) only.
Shapes: B C H W; frames are uint8 RGB, models see [-1, 1].
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidistill.errors import InputError
from vidistill.files import write_atomic
from vidistill.lab.train.loop import Batch, Task, fit, pick
from vidistill.rng import stream, stream_seed
from vidistill.types import Progress, Protocol, silent
from vidistill.weights import write_network

NAME = "lab-vae"
CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    # Few channels at full resolution: on a CPU the 64x64 convolutions are nearly all of the time, on the 8x8 grid width is nearly free.
    "block_out_channels": (16, 32, 64, 128),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
}
SIZE, BETA = 64, 1e-2
BATCH = {"cpu": 8, "cuda": 128}
EDGES = ("conv_in", "conv_out", "quant_conv", "post_quant_conv")  # convolutions to and from pixels and latents: AdamW
WORLD_TRAIN_SEED = 20_000  # Motion World is deterministic per (seed, index): no test clip is ever trained on
REAL_FRAMES = 8  # frames kept of each real training clip
BANK = 256  # Motion World clips rendered at a time
MEASURED = 256  # training frames that set the scaling factor


class Autoencoder(nn.Module):
    """lab-vae with seeded random weights; ``forward`` is the loss."""

    def __init__(self, seed: int) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, NAME, "init"))
            self.vae = cast(Any, AutoencoderKL(**CONFIG))
        with torch.no_grad():
            self.vae.quant_conv.bias[CONFIG["latent_channels"] :] = -6.0  # start with a sharp posterior, or the first steps drown in noise
        self.vae.to(memory_format=torch.channels_last)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x = to_model(batch["frames"])
        posterior = self.vae.encode(x).latent_dist
        y = self.vae.decode(posterior.mean + posterior.std * batch["noise"]).sample.float()
        mse = ((y - x) / 2).square().mean(dim=(1, 2, 3))  # on the [0, 1] scale
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        log_mse = (mse + 1e-5).log().mean()
        return log_mse + BETA * kl, {"psnr": -10 / math.log(10) * log_mse.detach(), "kl": kl.detach()}

    @torch.inference_mode()
    def latents(self, frames: Tensor) -> Tensor:
        """Return the posterior means of uint8 frames, unscaled."""
        device = next(self.parameters()).device
        return torch.cat([self.vae.encode(to_model(part.to(device))).latent_dist.mode() for part in frames.split(64)])


def to_model(frames: Tensor) -> Tensor:
    """Map uint8 ``[B, 3, H, W]`` to float ``[-1, 1]``, channels last."""
    return (frames.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def hidden(name: str, p: Tensor) -> bool:
    """Return whether a parameter is the kernel of a hidden convolution."""
    return p.ndim == 4 and name.split(".")[-2] not in EDGES


def world_frames(seed: int, start: int, clips: int, frames: int = 4) -> Tensor:
    """Return frames of Motion World training clips ``start .. start + clips``: uint8 ``[clips * frames, 3, SIZE, SIZE]``."""
    from vidistill.data.world import World

    video, _ = World(seed=WORLD_TRAIN_SEED + seed).clips(range(start, start + clips), frames=frames, size=SIZE)
    return video.transpose(1, 2).flatten(0, 1)


def real_clips(data: Path, split: str, frames: int) -> tuple[Tensor, list[dict[str, str]]]:
    """Return the clips of jhmdb-21 under ``data``, split 1, uint8 ``[B, 3, frames, 112, 112]``, and the videos that gave none.

    Raises:
        InputError: ``data`` does not hold jhmdb-21, or none of it can be read.
    """
    from vidistill.data.clips import BadClip, pick_backend
    from vidistill.data.layouts import open_videos
    from vidistill.data.store import decode_clips

    folder = Path(data) / "jhmdb-21"
    if not folder.is_dir():
        raise InputError(
            f"no folder jhmdb-21 in {data}; pass the folder that contains it, or leave the data out to train on Motion World only"
        )
    items = getattr(open_videos(folder, layout="ucf101"), split)
    clips: list[Tensor] = []
    left_out: list[dict[str, str]] = []
    for item, clip in zip(
        items, decode_clips(items, Protocol(frames, 4, 112, "squash"), "test", backend=pick_backend("auto")), strict=True
    ):
        if isinstance(clip, BadClip):
            left_out.append({"name": item.name, "reason": clip.reason})
        else:
            clips.append(clip)
    if not clips:
        raise InputError(
            f"no video of {folder} can be read: {len(left_out)} are bad, the first is {left_out[0]['name']}: {left_out[0]['reason']}"
        )
    return torch.stack(clips), left_out


class Frames:
    """Batch k of training frames, uint8 ``[B, 3, SIZE, SIZE]``, and of the posterior's noise; a function of (seed, k) alone.

    Args:
        seed: of the run.
        batch: B, at most 4 times ``BANK``.
        data: folder that holds ``jhmdb-21``; half of the frames are then real ones.

    Attributes:
        left_out: the real videos that gave no clip, ``{"name", "reason"}``.
    """

    def __init__(self, seed: int, batch: int, data: Path | None) -> None:
        self.seed, self.batch = seed, batch
        self.real: Tensor | None = None
        self.left_out: list[dict[str, str]] = []
        if data is not None:
            clips, self.left_out = real_clips(data, "train", REAL_FRAMES)
            self.real = clips.transpose(1, 2).flatten(0, 1)
        self.world_share = batch if data is None else batch // 2

    def __call__(self, k: int) -> Batch:
        noise = torch.randn((self.batch, CONFIG["latent_channels"], SIZE // 8, SIZE // 8), generator=stream(self.seed, NAME, "noise", k))
        return {"frames": self.frames(k), "noise": noise}

    def frames(self, k: int) -> Tensor:
        world = self._world(k)
        return world if self.real is None else torch.cat([world, self._real(k, self.batch - self.world_share)])

    def _world(self, k: int) -> Tensor:
        per_bank = BANK * 4 // self.world_share  # every rendered frame is used once
        number, slot = divmod(k, per_bank)
        return self._bank(number)[slot * self.world_share : (slot + 1) * self.world_share]

    @lru_cache(maxsize=2)  # noqa: B019
    def _bank(self, number: int) -> Tensor:
        frames = world_frames(self.seed, number * BANK, BANK)
        return frames[torch.randperm(len(frames), generator=stream(self.seed, NAME, "world", number))]

    def _real(self, k: int, count: int) -> Tensor:
        assert self.real is not None
        draw = stream(self.seed, NAME, "real", k)
        x = self.real[torch.randint(len(self.real), (count,), generator=draw)].float()
        scaled = int(torch.randint(SIZE, x.shape[-1] + 1, (), generator=draw))
        x = F.interpolate(x, size=(scaled, scaled), mode="bilinear", antialias=True)
        top, left = torch.randint(scaled - SIZE + 1, (2,), generator=draw).tolist()
        x = x[..., top : top + SIZE, left : left + SIZE]
        flip = torch.rand(count, generator=draw) < 0.5
        return torch.where(flip[:, None, None, None], x.flip(-1), x).round().clamp(0, 255).byte()


def write(model: Autoencoder, folder: Path, frames: Tensor) -> None:
    """Write the model as a diffusers folder in fp16; ``frames`` (training frames) set the scaling factor."""
    write_network(model.vae, folder, scaling_factor=1 / model.latents(frames).std().item())


@torch.inference_mode()
def grid(model: Autoencoder, path: Path, frames: Tensor) -> None:
    """Write a PNG: the frames in odd rows, their reconstructions below them, 8 a row."""
    from PIL import Image

    y = model.vae.decode(model.latents(frames)).sample
    y = ((y.float().cpu() + 1) * 127.5).round().clamp(0, 255).byte()
    rows = [torch.cat(list(part), dim=-1) for pair in zip(frames.split(8), y.split(8), strict=True) for part in pair]
    image = Image.fromarray(torch.cat(rows, dim=-2).permute(1, 2, 0).contiguous().numpy())
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))


def train(
    out: str | Path,
    *,
    minutes: float = 60.0,
    steps: int | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train lab-vae in ``out``; see :func:`vidistill.lab.train.loop.fit`.

    Args:
        data: folder that holds ``jhmdb-21``; half of each batch is then real training frames (split 1).

    Returns:
        What the training cost, and under ``left_out`` the real videos that could not be read, each with the reason.

    Raises:
        InputError: as ``fit``, or ``data`` has no jhmdb-21.
    """
    batch = BATCH[pick(device).type]
    batches = Frames(seed, batch, Path(data) if data else None)
    measured = torch.cat([batches.frames(k) for k in range(max(2, MEASURED // batch))])
    shown = torch.cat([measured[:16:2], measured[1:16:2]])  # world and real ones by turns, where there are both
    task = Task(
        NAME,
        Autoencoder(seed),
        batches,
        hidden,
        lambda model, folder: write(model, folder, measured),
        lambda model, path: grid(model, path, shown),
        {"seed": seed, "real": data is not None, "batch": batch},
        {"data": "Motion World and jhmdb-21 training split 1, half each" if data else "Motion World", "left_out": batches.left_out},
    )
    return fit(out, task, minutes=minutes, steps=steps, device=device, progress=progress)
