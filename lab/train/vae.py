"""Recipe of lab-vae, the small image autoencoder of the zoo (a diffusers ``AutoencoderKL``: f8, 4 latent channels).

    L = mean_b ln(MSE(x_b, D(z_b)) + 1e-5) + BETA * mean KL(q(z | x) || N(0, 1)),    z ~ q(z | x) = N(E_mu(x), E_sigma(x)^2)

The first term is the PSNR of each frame up to a constant, so easy and hard frames weigh alike and the loss is the number on the card.
BETA only keeps the latents near unit size and a little tolerant of noise (quantised cores). At each export the deviation of the posterior
mean over training frames is measured and ``scaling_factor = 1 / std`` is written into the configuration, as Stable Diffusion does.

Frames: half Motion World, half real clips where a data folder is given; batch k depends on (seed, k) only. With ``steps`` a run is
reproducible; with ``minutes`` the schedule of the learning rate follows the clock, so the number of steps depends on the machine (the
card says how many).

Command: ``python -m vidistill.lab.train.vae --minutes 55 --out runs/lab-vae --data DIR``; the same command resumes.
Shapes: B C H W; frames are uint8 RGB, models see [-1, 1].
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.errors import Cancelled, InputError
from vidistill.files import ensure_folder, file_digest, load_tensors, save_json, save_tensors, write_atomic
from vidistill.rng import stream, stream_seed
from vidistill.student.training import orthogonal
from vidistill.types import Progress, Protocol, silent

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
SIZE, BATCH, WARMUP, EMA, BETA = 64, 8, 50, 0.999, 1e-2
MUON = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.01}  # hidden convolutions; AdamW alone needed three times the steps in a trial
ADAM: dict[str, Any] = {"lr": 1.5e-3, "betas": (0.9, 0.99), "weight_decay": 0.0}  # everything else
EDGES = ("conv_in", "conv_out", "quant_conv", "post_quant_conv")  # convolutions to and from pixels and latents: AdamW
WORLD_TRAIN_SEED, WORLD_TEST_SEED = 20_000, 7  # Motion World is deterministic per (seed, index): no test clip is ever trained on
WORLD_TEST_CLIPS = 64
REAL_FRAMES = 8  # frames kept of each real training clip
BANK = 256  # Motion World clips rendered at a time


def new_model(seed: int) -> Any:
    """Return lab-vae with seeded random weights; the global generator is left as it was."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "lab-vae", "init"))
        model: Any = AutoencoderKL(**CONFIG)
    with torch.no_grad():
        model.quant_conv.bias[CONFIG["latent_channels"] :] = -6.0  # start with a sharp posterior, or the first steps drown in noise
    return model.to(memory_format=torch.channels_last)


def world_frames(seed: int, start: int, clips: int, frames: int = 4) -> Tensor:
    """Return frames of Motion World training clips ``start .. start + clips``: uint8 ``[clips * frames, 3, SIZE, SIZE]``."""
    from vidistill.data.world import World

    video, _ = World(seed=WORLD_TRAIN_SEED + seed).clips(range(start, start + clips), frames=frames, size=SIZE)
    return video.transpose(1, 2).flatten(0, 1)


def real_clips(data: Path, split: str, frames: int) -> Tensor:
    """Return the clips of jhmdb-21 under ``data``, split 1: uint8 ``[B, 3, frames, 112, 112]``, unreadable ones left out.

    Raises:
        InputError: ``data`` does not hold jhmdb-21.
    """
    from vidistill.data.clips import pick_backend
    from vidistill.data.layouts import open_videos
    from vidistill.data.store import decode_clips

    folder = Path(data) / "jhmdb-21"
    if not folder.is_dir():
        raise InputError(
            f"no folder jhmdb-21 in {data}; pass the folder that contains it, or leave the data out to train on Motion World only"
        )
    items = getattr(open_videos(folder, layout="ucf101"), split)
    clips = decode_clips(items, Protocol(frames, 4, 112, "squash"), "test", backend=pick_backend("auto"))
    return torch.stack([clip for clip in clips if isinstance(clip, Tensor)])


class Frames:
    """Batch k of training frames, a function of (seed, k) alone: uint8 ``[BATCH, 3, SIZE, SIZE]``."""

    def __init__(self, seed: int, data: Path | None) -> None:
        self.seed, self.bank = seed, (-1, torch.empty(0))
        self.real = None if data is None else real_clips(data, "train", REAL_FRAMES).transpose(1, 2).flatten(0, 1)
        self.world_share = BATCH if data is None else BATCH // 2

    def __call__(self, k: int) -> Tensor:
        batch = self._world(k)
        return batch if self.real is None else torch.cat([batch, self._real(k, BATCH - self.world_share)])

    def _world(self, k: int) -> Tensor:
        per_bank = BANK * 4 // self.world_share  # every rendered frame is used once
        number, slot = divmod(k, per_bank)
        if self.bank[0] != number:
            frames = world_frames(self.seed, number * BANK, BANK)
            self.bank = number, frames[torch.randperm(len(frames), generator=stream(self.seed, "lab-vae", "world", number))]
        return self.bank[1][slot * self.world_share : (slot + 1) * self.world_share]

    def _real(self, k: int, count: int) -> Tensor:
        assert self.real is not None
        draw = stream(self.seed, "lab-vae", "real", k)
        x = self.real[torch.randint(len(self.real), (count,), generator=draw)].float()
        scaled = int(torch.randint(SIZE, x.shape[-1] + 1, (), generator=draw))
        x = F.interpolate(x, size=(scaled, scaled), mode="bilinear", antialias=True)
        top, left = torch.randint(scaled - SIZE + 1, (2,), generator=draw).tolist()
        x = x[..., top : top + SIZE, left : left + SIZE]
        flip = torch.rand(count, generator=draw) < 0.5
        return torch.where(flip[:, None, None, None], x.flip(-1), x).round().clamp(0, 255).byte()


def to_model(frames: Tensor, device: torch.device) -> Tensor:
    """Map uint8 ``[B, 3, H, W]`` to float ``[-1, 1]``, channels last."""
    return (frames.to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def loss_terms(model: Any, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(mean_b ln(MSE_b + 1e-5), mean KL)`` for frames ``x`` in [-1, 1] and standard normal ``noise`` of the latents' shape."""
    posterior = model.encode(x).latent_dist
    y = model.decode(posterior.mean + posterior.std * noise).sample
    mse = ((y - x) / 2).square().mean(dim=(1, 2, 3))  # on the [0, 1] scale
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return (mse + 1e-5).log().mean(), kl


def rate(step: int, done: float) -> float:
    """Return the factor on the learning rate: linear warm-up over ``WARMUP`` steps, cosine to zero as ``done`` goes 0 -> 1."""
    return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def orthogonalise(g: Tensor) -> Tensor:
    """Return nearly ``U V^T`` of a convolution's gradient ``g = U S V^T``, read as a matrix with a row per output channel."""
    return orthogonal(g.flatten(1)).reshape(g.shape)


@torch.no_grad()
def muon_step(w: Tensor, momentum: Tensor, factor: float) -> None:
    """Update a convolution's weights ``w`` by its orthogonalised Nesterov momentum; ``factor`` scales the learning rate."""
    assert w.grad is not None
    lr, mu = factor * MUON["lr"], MUON["momentum"]
    momentum.lerp_(w.grad, 1 - mu)
    step = orthogonalise(w.grad.lerp(momentum, mu))
    w.mul_(1 - lr * MUON["weight_decay"]).sub_(step, alpha=lr * max(1, w.shape[0] / w[0].numel()) ** 0.5)


class Run:
    """The whole state of a training run; ``save`` writes it as one safetensors file, ``load`` continues from it bit for bit."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.model = new_model(seed).to(device)
        live = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in live.items()}
        self.hidden = {name: p for name, p in live.items() if p.ndim == 4 and name.split(".")[-2] not in EDGES}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.hidden.items()}
        self.rest = {name: p for name, p in live.items() if name not in self.hidden}
        self.adam = torch.optim.AdamW(self.rest.values(), **ADAM)
        self.step, self.wall, self.cpu = 0, 0.0, 0.0
        self.curve: list[dict[str, float]] = []

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name; they can be copied into."""
        groups = {"model": dict(self.model.named_parameters()), "average": self.average, "momentum": self.momentum}
        for key in ("exp_avg", "exp_avg_sq"):
            groups[key] = {name: self.adam.state[p].setdefault(key, torch.zeros_like(p)) for name, p in self.rest.items()}
        return {f"{key}/{name}": tensor.detach() for key, group in groups.items() for name, tensor in group.items()}

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        place = f"{next(self.model.parameters()).device.type}, {torch.get_num_threads()} threads"
        record = {"settings": settings, "step": self.step, "wall": self.wall, "cpu": self.cpu, "place": place, "curve": self.curve}
        save_tensors(path, self.tensors(), {"record": json.dumps(record)})

    def load(self, path: Path, settings: dict[str, Any]) -> None:
        tensors, metadata = load_tensors(path)
        record = json.loads(metadata["record"])
        if record["settings"] != settings:
            raise InputError(
                f"{path} belongs to a run with {record['settings']}, not {settings}; use another --out, or the settings it began with"
            )
        self.step, self.wall, self.cpu, self.curve = record["step"], record["wall"], record["cpu"], record["curve"]
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        for p in self.rest.values():
            self.adam.state[p]["step"] = torch.tensor(float(self.step))

    def update(self, frames: Tensor, seed: int, done: float) -> dict[str, float]:
        x = to_model(frames, next(self.model.parameters()).device)
        shape = (len(x), CONFIG["latent_channels"], x.shape[2] // 8, x.shape[3] // 8)
        noise = torch.randn(shape, generator=stream(seed, "lab-vae", "noise", self.step)).to(x.device)
        log_mse, kl = loss_terms(self.model, x, noise)
        self.model.zero_grad(set_to_none=True)
        (log_mse + BETA * kl).backward()
        factor = rate(self.step, done)
        for name, w in self.hidden.items():
            muon_step(w, self.momentum[name], factor)
        self.adam.param_groups[0]["lr"] = factor * ADAM["lr"]
        self.adam.step()
        decay = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            names, live = zip(*self.model.named_parameters(), strict=True)
            torch._foreach_lerp_([self.average[name] for name in names], list(live), 1 - decay)
        self.step += 1
        return {"step": self.step, "psnr": -10 / math.log(10) * log_mse.item(), "kl": kl.item()}

    @torch.inference_mode()
    def export(self, folder: Path, frames: Tensor) -> Any:
        """Write the averaged weights as a diffusers model folder in fp16; ``frames`` (training frames) set the scaling factor."""
        from diffusers import AutoencoderKL

        model = AutoencoderKL.from_config(self.model.config)
        model.load_state_dict(self.average)
        model = model.to(next(self.model.parameters()).device, memory_format=torch.channels_last).eval()
        std = torch.cat([model.encode(to_model(part, model.device)).latent_dist.mode() for part in frames.split(64)]).std().item()
        model.register_to_config(scaling_factor=1 / std)
        config = {key: value for key, value in model.config.items() if not key.startswith("_")}
        save_json(folder / "config.json", {"_class_name": "AutoencoderKL", **config})
        weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
        save_tensors(folder / "diffusion_pytorch_model.safetensors", weights, {"format": "pt"})
        return model


@torch.inference_mode()
def write_grid(path: Path, model: Any, frames: Tensor) -> None:
    """Write a PNG: the frames in odd rows, their reconstructions below them, 8 a row."""
    from PIL import Image

    y = model.decode(model.encode(to_model(frames, model.device)).latent_dist.mode()).sample
    y = ((y.cpu() + 1) * 127.5).round().clamp(0, 255).byte()
    rows = [torch.cat(list(part), dim=-1) for pair in zip(frames.split(8), y.split(8), strict=True) for part in pair]
    image = Image.fromarray(torch.cat(rows, dim=-2).permute(1, 2, 0).contiguous().numpy())
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))


def train(
    out: str | Path,
    *,
    minutes: float = 55.0,
    steps: int | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    checkpoint_minutes: float = 3.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train lab-vae in ``out``; calling it again with the same arguments resumes, also after ``kill -9`` (from the last checkpoint).

    Args:
        out: folder; gets ``state.safetensors`` (all that resuming needs), ``curve.json``, ``grid.png`` and ``model/`` (diffusers, fp16).
        minutes: length of the run on the clock, summed over resumes; ignored when ``steps`` is given.
        steps: number of optimizer steps; makes the run reproducible on one machine.
        data: folder that holds ``jhmdb-21``; half of each batch is then real training frames (split 1).
        seed: names every stream of random numbers.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        checkpoint_minutes: time between checkpoints, in minutes.
        progress: called after each step.

    Returns:
        The card of the model (see :func:`write_card`), also written to ``model/``.

    Raises:
        InputError: ``out`` holds a run with other settings, or ``data`` has no jhmdb-21.
        Cancelled: from ``progress``; the state is saved first.
    """
    out, place = ensure_folder(out), torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    settings = {"seed": seed, "real": data is not None, "steps": steps, "minutes": None if steps else minutes}
    run, batches = Run(seed, place), Frames(seed, Path(data) if data else None)
    if (out / "state.safetensors").exists():
        run.load(out / "state.safetensors", settings)
    probe = torch.cat([batches(k) for k in range(32)])  # training frames: they set the scaling factor and fill the grid
    shown = torch.cat([probe[: BATCH * 2 : 2], probe[1 : BATCH * 2 : 2]])

    def save() -> None:
        run.save(out / "state.safetensors", settings)
        save_json(out / "curve.json", run.curve)
        write_grid(out / "grid.png", run.export(out / "model", probe), shown)

    def fraction() -> float:
        return run.step / steps if steps else run.wall / (60 * minutes)

    wall, cpu, saved, window = time.monotonic(), time.process_time(), time.monotonic(), []
    try:
        while fraction() < 1:
            window.append(run.update(batches(run.step), seed, fraction()))
            now, used = time.monotonic(), time.process_time()
            run.wall, run.cpu, wall, cpu = run.wall + now - wall, run.cpu + used - cpu, now, used
            if len(window) == 50 or fraction() >= 1:
                run.curve.append({key: sum(point[key] for point in window) / len(window) for key in ("psnr", "kl")} | {"step": run.step})
                window = []
            if now - saved > 60 * checkpoint_minutes:
                save()
                saved = time.monotonic()
            progress("train lab-vae", int(1000 * fraction()), 1000)
    except Cancelled:
        save()
        raise
    save()
    return write_card(out, data=data, progress=progress)


def write_card(out: str | Path, *, data: str | Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Measure the exported model of a run, ``out/model``, on clips it never saw; write ``card.json`` and ``README.md`` beside it.

    Args:
        out: the folder of :func:`train`, at any checkpoint.
        data: folder that holds ``jhmdb-21``: test clips of split 1 at 112 px are then measured too.
        progress: called after each measurement.

    Returns:
        The card: parameters, bytes, PSNR in dB (mean, lowest and number of clips), latent statistics, training cost, seeds.
    """
    from vidistill.codec import bytes_of_shapes, load_codec, pack, shapes_of, unpack
    from vidistill.data.world import World
    from vidistill.measure.reconstruction import psnr

    folder = Path(out) / "model"
    codec = load_codec(folder)
    world, _ = World(seed=WORLD_TEST_SEED).clips(range(WORLD_TEST_CLIPS), frames=16, size=SIZE)
    z = codec.encode(world)

    def row(original: Tensor, decoded: Tensor) -> dict[str, float]:
        values = psnr(original, decoded)
        return {"mean": round(values.mean().item(), 2), "lowest": round(values.min().item(), 2), "clips": len(values)}

    quality = {"motion-world 64 px": row(world, codec.decode(z, 16))}
    progress("measure lab-vae", 1, 3)
    quality["motion-world 64 px, int8 decoder"] = row(world, unpack(*pack(codec, "decoder", "int8")).decode(z, 16))
    progress("measure lab-vae", 2, 3)
    if data is not None:
        real = real_clips(Path(data), "test", 4)
        quality["jhmdb-21 test split 1, 112 px"] = row(real, codec.decode(codec.encode(real), 4))
    progress("measure lab-vae", 3, 3)

    record = json.loads(load_tensors(Path(out) / "state.safetensors")[1]["record"])
    shapes = {part: shapes_of(codec.kind, codec.config, part) for part in ("full", "decoder")}
    card = {
        "name": "lab-vae",
        "class": codec.kind,
        "compression": f"{codec.f_space}x in space, {codec.channels} channels",
        "parameters": {part: bytes_of_shapes(shape, "fp16")["parameters"] for part, shape in shapes.items()},
        "bytes": {
            f"{part}, {dtype}": bytes_of_shapes(shape, dtype)["total"] for part, shape in shapes.items() for dtype in ("fp16", "int8")
        },
        "weights_sha256": file_digest(folder / "diffusion_pytorch_model.safetensors"),
        "psnr_db": quality,
        "latents": {"scaling_factor": codec.config["scaling_factor"], "std on motion-world test clips": round(z.std().item(), 3)},
        "training": {
            "data": "Motion World and jhmdb-21 training split 1, half each" if record["settings"]["real"] else "Motion World",
            "seed": record["settings"]["seed"],
            "steps": record["step"],
            "frames": record["step"] * BATCH,
            "wall_minutes": round(record["wall"] / 60, 1),
            "cpu_minutes": round(record["cpu"] / 60, 1),
            "on": record.get("place", "cpu"),
        },
        "seeds": {"motion-world training": WORLD_TRAIN_SEED + record["settings"]["seed"], "motion-world test": WORLD_TEST_SEED},
    }
    save_json(folder / "card.json", card)
    write_atomic(folder / "README.md", lambda temporary: temporary.write_text(card_text(card), encoding="utf-8"))
    return card


def card_text(card: dict[str, Any]) -> str:
    """Return the card for people, in Markdown; every number comes from ``card``."""
    training, count = card["training"], card["parameters"]
    quality = [f"| {name} | {row['mean']:.2f} | {row['lowest']:.2f} | {row['clips']} |" for name, row in card["psnr_db"].items()]
    sizes = [f"| {name} | {size:,} |" for name, size in card["bytes"].items()]
    origin = (
        "The real frames are from JHMDB (Jhuang et al. 2013), clips of HMDB51 (Kuehne et al. 2011, CC BY 4.0); none is stored here."
        if "jhmdb" in training["data"]
        else "No real footage was used."
    )
    return "\n".join(
        [
            f"# {card['name']}",
            "",
            f"A small image autoencoder: diffusers `{card['class']}`, {card['compression']},",
            f"{count['full']:,} parameters ({count['decoder']:,} of them to decode).",
            "This page and `card.json` are written by `vidistill.lab.train.vae`; nothing here is typed by hand.",
            "",
            "| measured on | PSNR mean, dB | lowest clip | clips |",
            "| --- | --- | --- | --- |",
            *quality,
            "",
            "| packed weights | bytes |",
            "| --- | --- |",
            *sizes,
            "",
            f"Trained on: {training['data']}; {training['steps']:,} steps, {training['frames']:,} frames, seed {training['seed']},",
            f"{training['wall_minutes']} minutes on the clock, {training['cpu_minutes']} CPU minutes ({training['on']}).",
            f"Motion World seeds: {', '.join(f'{seed} ({use})' for use, seed in card['seeds'].items())}.",
            f"Latents are scaled by {card['latents']['scaling_factor']:.4f} to about unit size over all training frames.",
            origin,
            "",
            'Load it with `vidistill.codec.load_codec("lab-vae")`, or with diffusers from this folder.',
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description="Train lab-vae; the same command resumes.")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, default=55.0, help="length of the run on the clock")
    parser.add_argument("--steps", type=int, help="number of steps instead of minutes (reproducible)")
    parser.add_argument("--data", default=os.environ.get("VIDISTILL_DATA"), help="folder that holds jhmdb-21 (default: $VIDISTILL_DATA)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = vars(parser.parse_args(arguments))

    def show(stage: str, done: int, total: int) -> None:
        print(f"\r{stage}: {100 * done / total:5.1f} %", end="", file=sys.stderr, flush=True)

    try:
        card = train(options.pop("out"), **options, progress=show)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"\n{json.dumps(card['psnr_db'], indent=2)}")


if __name__ == "__main__":
    main()
