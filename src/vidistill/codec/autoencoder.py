"""One encode and decode for every diffusers autoencoder, of images or of videos.

    z = (E(2 x / 255 - 1) - mean - shift) * scaling / std,    x = 127.5 (D(z std / scaling + shift + mean) + 1)

``mean, std`` are the configuration's ``latents_mean, latents_std`` (Wan, Cosmos, LTX), ``scaling, shift`` its ``scaling_factor,
shift_factor`` (Stable Diffusion, CogVideoX, Hunyuan); what a configuration lacks is 0 or 1. The official LVDD code applies none of them
and draws the latent from the posterior; here latents have about unit size and are the posterior mean unless asked otherwise.

An image autoencoder sees all frames of all clips as one batch. A temporal one wants ``k f_time + 1`` frames: the last frame is repeated
as needed and the surplus is dropped after decoding (LVDD: 16 -> 17 frames, 5 latents, exactly 16 back; its own code decodes 13 and
repeats the last one three times).

Shapes: B clips, C channels, T frames, H, W; pixels uint8 RGB ``[B, 3, T, H, W]``, latents float32 ``[B, C, t, h, w]``.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidistill import shipped
from vidistill.errors import InputError, choose, nearest
from vidistill.files import load_json
from vidistill.hub import is_hub_id, snapshot
from vidistill.rng import normal
from vidistill.weights import plain_config, read_network

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Arithmetic of a codec: name -> torch dtype."""

PIXELS = {"cpu": 2**16, "cuda": 2**21}
"""Pixels per call of the network: 16 frames of 64 x 64 stay in a CPU's cache, 167 of 112 x 112 fill a GPU with SD-VAE under 6 GiB."""


class Codec:
    """A diffusers autoencoder as a pair of functions between uint8 clips and latents of about unit size.

    Args:
        module: the autoencoder; it is cast and moved in place.
        id: what to call it in records: zoo name, folder name or hub id.
        device: ``"cpu"``, ``"cuda"``, ...
        dtype: arithmetic, one of ``DTYPES``.

    Attributes:
        kind: diffusers class name. config: its configuration as a JSON-able dict. fingerprint: digest of kind, configuration and weights.
        channels: C of the latents. f_space, f_time: compression along H, W and along T (1 for an image autoencoder).
        temporal: whether the encoder mixes frames. decodes_only: whether the encoder is missing (see :func:`vidistill.codec.unpack`).

    Raises:
        InputError: the module is no RGB autoencoder, or its configuration contradicts itself.
    """

    def __init__(self, module: Any, *, id: str, device: str | torch.device = "cpu", dtype: str = "fp32") -> None:
        self.id, self.kind, self.dtype = id, type(module).__name__, DTYPES[choose("codec dtype", dtype, DTYPES)]
        self.config = plain_config(module)
        self.channels, self.f_space, self.f_time = geometry(self.kind, self.config, module)
        self.decodes_only = not any(name.startswith("encoder.") for name, _ in module.named_parameters())
        # Video encoders hold 5-D convolution weights; Stable Video Diffusion's encoder does not, only its decoder mixes frames.
        self.temporal = self.f_time > 1 or any(p.ndim == 5 for name, p in module.named_parameters() if name.startswith("encoder."))
        self._whole_clips = "num_frames" in inspect.signature(module.decode).parameters
        self.device = torch.device(device)
        self.module: Any = nn.Module.to(module.eval().requires_grad_(False), dtype=self.dtype)  # diffusers' own cast warns at every call
        self.fingerprint = fingerprint(self.kind, self.config, self.module)
        self.module.to(self.device)
        if not self.temporal and not self._whole_clips:
            self.module.to(memory_format=torch.channels_last)
        self._shift, self._scale = (t.to(self.device) for t in normalisation(self.id, self.config, self.module, self.channels))

    def __repr__(self) -> str:
        return f"Codec({self.id}: {self.kind}, {self.channels} channels, /{self.f_space} in space, /{self.f_time} in time)"

    def latent_shape(self, frames: int, size: int | Sequence[int]) -> tuple[int, int, int, int]:
        """Return ``(C, t, h, w)`` of the latent of a clip of ``frames`` frames of ``size`` x ``size`` pixels, or of (height, width)."""
        height, width = (size, size) if isinstance(size, int) else size
        return self.channels, math.ceil((frames - 1) / self.f_time) + 1, math.ceil(height / self.f_space), math.ceil(width / self.f_space)

    def encode(self, video: Tensor, *, latent: str = "mode", seeds: Sequence[int] | None = None, batch_frames: int | None = None) -> Tensor:
        """Return the latents of clips; sizes that ``f_space`` does not divide are padded by repeating the border.

        Args:
            video: uint8 ``[B, 3, T, H, W]``.
            latent: ``"mode"`` is the posterior mean, ``"sample"`` a draw from the posterior.
            seeds: for ``"sample"``, one seed per clip; clip b's draw depends on ``seeds[b]`` alone.
            batch_frames: at most so many frames per call of the network (at least one clip of a temporal one).

        Returns:
            float32 ``[B, C, t, h, w]`` where ``video`` lies.

        Raises:
            InputError: wrong shape or dtype, missing seeds, no encoder, or no posterior to draw from.
        """
        choose("latent", latent, ("mode", "sample"))
        if self.decodes_only:
            raise InputError(f"codec {self.id} holds the decoder only and cannot encode; load the full codec")
        if video.ndim != 5 or video.shape[1] != 3 or video.dtype != torch.uint8:
            raise InputError(f"encode expects uint8 clips [B, 3, T, H, W], got {video.dtype} {tuple(video.shape)}")
        if latent == "sample" and (seeds is None or len(seeds) != len(video)):
            raise InputError(f"latent='sample' needs one seed per clip: {len(video)} clips, {0 if seeds is None else len(seeds)} seeds")
        B, _, T, H, W = video.shape
        t = math.ceil((T - 1) / self.f_time) + 1
        right, below = -W % self.f_space, -H % self.f_space
        h, w = (H + below) // self.f_space, (W + right) // self.f_space
        items = video if self.temporal else video.transpose(1, 2).flatten(0, 1)
        noise = normal(seeds, "codec", (self.channels, t, h, w)) if latent == "sample" and seeds is not None else None
        if noise is not None and not self.temporal:
            noise = noise.transpose(1, 2).flatten(0, 1)
        out = torch.empty(len(items), self.channels, *((t, h, w) if self.temporal else (h, w)), device=video.device)
        for rows in self._chunks(len(items), T if self.temporal else 1, H * W, batch_frames):
            z = self._analyse(items[rows], (t - 1) * self.f_time + 1 - T, right, below, None if noise is None else noise[rows])
            if z.shape[1:] != out.shape[1:]:
                got, promised = tuple(z.shape[1:]), tuple(out.shape[1:])
                raise InputError(f"codec {self.id} ({self.kind}) gave a latent of {got} where its configuration promises {promised}")
            out[rows] = z.to(out.device)
        return out if self.temporal else out.unflatten(0, (B, t)).transpose(1, 2).contiguous()

    def decode(self, z: Tensor, frames: int, *, size: int | Sequence[int] | None = None, batch_frames: int | None = None) -> Tensor:
        """Return the clips of latents.

        Args:
            z: floating point ``[B, C, t, h, w]`` as :meth:`encode` gives it.
            frames: T of the clips; a temporal codec's surplus frames are dropped.
            size: crop to ``size`` x ``size`` pixels, or to (height, width); only needed where ``f_space`` does not divide the size. Without
                it nothing is cropped.
            batch_frames: at most so many frames per call of the network (at least one clip of a temporal one).

        Returns:
            uint8 ``[B, 3, T, H, W]`` where ``z`` lies.

        Raises:
            InputError: ``z`` does not fit the codec or ``frames``.
        """
        t = math.ceil((frames - 1) / self.f_time) + 1
        if z.ndim != 5 or z.shape[1] != self.channels or z.shape[2] != t:
            raise InputError(f"codec {self.id} decodes {frames} frames from latents [B, {self.channels}, {t}, h, w], got {tuple(z.shape)}")
        by_clip = self.temporal or self._whole_clips
        B, H, W = len(z), z.shape[3] * self.f_space, z.shape[4] * self.f_space
        wanted = (H, W) if size is None else (size, size) if isinstance(size, int) else size
        height, width = min(wanted[0], H), min(wanted[1], W)
        items = z if by_clip else z.transpose(1, 2).flatten(0, 1)
        out = torch.empty(B, 3, frames if by_clip else t, height, width, dtype=torch.uint8, device=z.device)
        for rows in self._chunks(len(items), frames if by_clip else 1, H * W, batch_frames):
            part = self._synthesise(items[rows], frames, t)[..., :height, :width].to(out.device)
            if by_clip:
                out[rows] = part
            else:  # straight to its place: a large set is never held twice
                frame = torch.arange(rows.start, rows.stop, device=out.device)
                out[frame // t, :, frame % t] = part
        return out

    @torch.inference_mode()
    def _analyse(self, items: Tensor, late: int, right: int, below: int, noise: Tensor | None) -> Tensor:
        """Return the normalised latents, float32, of uint8 clips or frames, padded by ``late`` frames and ``right``, ``below`` pixels."""
        x = items.to(self.device).to(self.dtype) / 127.5 - 1
        if self.temporal:
            x = torch.cat([x, x[:, :, -1:].expand(-1, -1, late, -1, -1)], dim=2)
            x = F.pad(x, (0, right, 0, below, 0, 0), mode="replicate") if right or below else x
        else:
            x = F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x
            x = x.contiguous(memory_format=torch.channels_last)
        z = self._posterior(self.module.encode(x), noise)
        return (z - self._column(self._shift, z)) * self._column(self._scale, z)

    @torch.inference_mode()
    def _synthesise(self, items: Tensor, frames: int, t: int) -> Tensor:
        """Return the uint8 clips or frames of normalised latents."""
        latent = items.to(self.device).float()
        latent = (latent / self._column(self._scale, latent) + self._column(self._shift, latent)).to(self.dtype)
        if self.temporal:
            y = self.module.decode(latent).sample[:, :, :frames]
        elif self._whole_clips:  # Stable Video Diffusion: frames in the batch, mixed by the decoder
            y = self.module.decode(latent.transpose(1, 2).flatten(0, 1), num_frames=t).sample.unflatten(0, (-1, t)).transpose(1, 2)
        else:
            y = self.module.decode(latent.contiguous(memory_format=torch.channels_last)).sample
        return ((y.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)

    def _posterior(self, encoded: Any, noise: Tensor | None) -> Tensor:
        """Return the posterior's mean, or ``mean + std noise``, as float32; an autoencoder without a posterior gives its latent."""
        posterior = getattr(encoded, "latent_dist", None)
        if posterior is None:
            if noise is not None:
                raise InputError(f"codec {self.id} ({self.kind}) has no posterior to sample from; use latent='mode'")
            return next(iter(encoded.values())).float()
        mean = posterior.mode().float()
        return mean if noise is None else mean + posterior.std.float() * noise.to(mean)

    def _chunks(self, count: int, frames: int, pixels: int, batch_frames: int | None) -> list[slice]:
        limit = min(PIXELS.get(self.device.type, PIXELS["cpu"]) // pixels, batch_frames or count * frames) // frames
        step = max(1, limit)
        return [slice(start, min(start + step, count)) for start in range(0, count, step)]

    @staticmethod
    def _column(values: Tensor, like: Tensor) -> Tensor:
        return values.view(1, -1, *[1] * (like.ndim - 2))


def geometry(kind: str, config: dict[str, Any], module: nn.Module) -> tuple[int, int, int]:
    """Return ``(channels, f_space, f_time)`` from a configuration.

    Raises:
        InputError: it does not describe an RGB autoencoder with a latent grid.
    """
    channels = config.get("latent_channels") or config.get("z_dim")
    blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    colours = config.get("out_channels", config.get("in_channels", 3))
    if not channels or colours != 3 or config.get("timestep_conditioning"):
        raise InputError(f"{kind} with this configuration is not an RGB autoencoder that decodes in one step; choose another codec")
    known = {**config, **{key: value for key, value in vars(module).items() if isinstance(value, int)}}
    if "temperal_downsample" in config:  # the Wan family, spelt so in diffusers
        stages = config["temperal_downsample"]
        return channels, 2 ** len(stages) * (config.get("patch_size") or 1), 2 ** sum(stages)
    f_space = known.get("spatial_compression_ratio") or 2 ** (len(blocks or [1]) - 1)
    return channels, int(f_space), int(known.get("temporal_compression_ratio") or 1)


def normalisation(id: str, config: dict[str, Any], module: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """Return ``(mean + shift, scaling / std)``, float32 ``[channels]`` each.

    Raises:
        InputError: mean or std do not have one value per channel.
    """

    def of(name: str, default: float) -> Tensor:
        value = config.get(name)
        value = (
            getattr(module, name, None) if value is None and name in dict(module.named_buffers()) else value
        )  # LTX keeps them as buffers
        value = torch.as_tensor(default if value is None else value).detach().to("cpu", torch.float32).flatten()
        if len(value) not in (1, channels):
            raise InputError(f"codec {id}: {name} has {len(value)} values for {channels} latent channels; mend config.json")
        return value.expand(channels)

    return of("latents_mean", 0) + of("shift_factor", 0), of("scaling_factor", 1) / of("latents_std", 1)


def fingerprint(kind: str, config: dict[str, Any], module: nn.Module) -> str:
    """Return 16 hex digits of the SHA-256 over kind, configuration and every weight (names, dtypes, bytes)."""
    total = hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def autoencoder_class(kind: str, where: str) -> Any:
    """Return the diffusers class named ``kind``.

    Raises:
        InputError: there is no autoencoder of that name in the installed diffusers.
    """
    import diffusers

    names = [name for name in dir(diffusers) if "Autoencoder" in name or name == "VQModel"]
    if kind not in names:
        raise InputError(f"{where} holds {kind!r}, which is no autoencoder of diffusers {diffusers.__version__}: {nearest(kind, names)}")
    return getattr(diffusers, kind)


def load_codec(name: str | Path, *, device: str | torch.device = "cpu", dtype: str = "fp32") -> Codec:
    """Load an autoencoder by zoo name, folder or hub id; only safetensors weights are read, and every weight must be there.

    Args:
        name: ``"lab-vae"``; a folder written by ``save_pretrained`` (of the autoencoder, or of a pipeline with a ``vae`` subfolder);
            or a hub id such as ``"stabilityai/sd-vae-ft-mse"`` (the network, or diffusers' download cache).
        device, dtype: see :class:`Codec`.

    Raises:
        InputError: nothing of that name can be reached, or it is not a complete autoencoder.
    """
    choose("codec dtype", dtype, DTYPES)
    folder = shipped.folder(str(name)) if str(name) == "lab-vae" else Path(name)
    if not folder.is_dir():
        folder = _hub_folder(str(name))
    folder = next((place for place in (folder, folder / "vae") if (place / "config.json").is_file()), folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} holds no config.json, here or in vae/; pass codec=lab-vae or a folder written by save_pretrained")
    return Codec(_from_pretrained(folder), id=str(name), device=device, dtype=dtype)


def _hub_folder(name: str) -> Path:
    """Return the folder of a hub id; only an autoencoder's files are fetched.

    Raises:
        InputError: it is no hub id, or cannot be reached.
    """
    instead = "codec=lab-vae or a folder written by save_pretrained"
    if not is_hub_id(name):
        raise InputError(
            f"unknown codec {name!r}: neither a folder, nor a hub id, nor lab-vae ({nearest(name, ['lab-vae'])}); pass {instead}"
        )
    weights = "diffusion_pytorch_model"
    files = ["config.json", f"{weights}.safetensors", f"{weights}-*.safetensors", f"{weights}.safetensors.index.json"]
    return snapshot(name, [*files, *(f"vae/{file}" for file in files)], f"{weights}*.safetensors", "codec", instead)


def _from_pretrained(folder: Path) -> nn.Module:
    kind = autoencoder_class(str(load_json(folder / "config.json").get("_class_name")), str(folder))
    return read_network(kind, folder, f"codec {folder}", low_cpu_mem_usage=False)
