"""The model cards of the zoo: what a model is, what was measured on it, and what it cost; every number is generated, none is typed.

A text-to-video model makes one clip for each caption of the cards' world (seed ``TEST_SEED``, clips 0, 1, ...; clip i has seed i) with
its own default steps and guidance. Beside it stand the real clips of the same factors, seen through the model's autoencoder: what a
perfect model would reach. Its latents are kept in the cache, so an interrupted card goes on and a second one is quick.
"""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill import __version__, shipped, zoo
from vidistill.codec import Codec, bytes_of_shapes, load_codec, pack, shapes_of, unpack
from vidistill.data.parse import Parsed, parse
from vidistill.data.world import Factors, factors, render
from vidistill.errors import InputError, nearest
from vidistill.files import cache_home, digest, ensure_folder, file_digest, load_json, load_tensors, save_tensors
from vidistill.lab.record import installed
from vidistill.lab.train.latents import FRAMES, SIZE, TEST_SEED, TRAIN_SEED, Bank, world_latents
from vidistill.lab.zoo_bars import bars, beside
from vidistill.measure import generated as measure
from vidistill.measure.probe import Probe, load_probe
from vidistill.measure.reconstruction import psnr
from vidistill.sample import Denoiser, generate
from vidistill.types import Progress, silent

ABOUT = {
    "lab-vae": "A small image autoencoder, the latent space of every other model of the zoo.",
    "lab-unet": "The zoo's model of the ModelScope family: a small text-to-video UNet that predicts noise.",
    "lab-base": "lab-unet's weak sibling, with known defects: what a guided sampler has to improve.",
    "lab-dit": "The zoo's model of the Wan family: a small text-to-video transformer on a rectified flow.",
    "lab-dit-kd4": "lab-dit in 4 steps, by regression to the clean ends of its stored trajectories.",
    "lab-dit-accvideo5": "lab-dit in 5 steps, by AccVideo: its trajectories' key points, and a discriminator for each of their times.",
    "lab-dit-dmd4": "lab-dit in 4 steps, by distribution matching (DMD2's, without its discriminator).",
    "lab-dit-dfd4": "lab-dit in 4 steps, by distribution matching that real clips force in half of its steps (Data-Forcing).",
    "lab-probe": "A clip classifier: the lab's stand-in for VideoMAE, CLIP and DINO.",
}
"""What each model is, in one line."""

CHUNK = 32
"""Clips per file of the cache, and per step of the progress of decoding."""

STEPS, REPEATS = (5, 10, 20, 50), 3
"""Numbers of steps that are timed, and how often each."""

TRAINING_CLIPS = 16_384
"""At most so many training clips are searched for the nearest one."""

VAE_SEED, VAE_CLIPS = 7, 64
"""World and number of the clips that lab-vae is measured on."""

# ------------------------------------------------------------------------------------------------------------ what there is


def locate(name: str | Path) -> Path:
    """Return the folder of a model of the zoo, or the folder itself.

    Raises:
        InputError: it is neither, or the model is not there.
    """
    folder = shipped.locate(name)
    if not folder.is_dir() or not any((folder / file).is_file() for file in ("config.json", "model_index.json")):
        if str(name) in zoo.ZOO:
            raise InputError(f"{name} is not in this package yet: train it with vidistill train {name}, then give the folder of its model")
        raise InputError(f"no model {str(name)!r}: neither a model's folder nor in the zoo ({nearest(str(name), zoo.ZOO)})")
    return folder


def title(folder: Path) -> str:
    """Return a model's name: what its ``training.json`` says, else the folder's."""
    training = folder / "training.json"
    said = load_json(training).get("name") if training.is_file() else None
    return str(said or folder.resolve().name)


def weights(folder: Path) -> dict[str, Path]:
    """Return the weight files of a model by part, without the autoencoder it shares; a model in one piece has one part, ``"model"``."""
    found = {}
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]):
        part = file.parent.name if file.parent != folder else "model"
        if part != "vae":
            found[part if part not in found else f"{part}/{file.name}"] = file
    return found


def count(file: Path) -> int:
    """Return the number of values in a safetensors file, from its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as tensors:
            return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118, not a dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {file} as safetensors: {error}") from None


def kind(folder: Path) -> str:
    """Return the diffusers class that a model's folder names."""
    index = next((folder / file for file in ("model_index.json", "config.json") if (folder / file).is_file()), folder / "config.json")
    return str(load_json(index).get("_class_name"))


def inventory() -> list[dict[str, Any]]:
    """Return one row a model of the zoo: ``name, family, parameters, bytes, about``; the numbers are ``None`` for one that is not there."""
    rows = []
    for name in zoo.ZOO:
        row: dict[str, Any] = {"name": name, "family": None, "parameters": None, "bytes": None, "about": ABOUT[name]}
        try:
            folder = locate(name)
        except InputError:
            rows.append(row)
            continue
        files = weights(folder).values()
        rows.append(
            row | {"family": kind(folder), "parameters": sum(map(count, files)), "bytes": sum(file.stat().st_size for file in files)}
        )
    return rows


# ---------------------------------------------------------------------------------------------------------------- measuring


def measure_model(
    name: str | Path,
    *,
    clips: int = 512,
    device: str = "auto",
    probe: Probe | str | Path | None = None,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure a model and return its card; nothing is written but the cache.

    Args:
        name: a name of the zoo, or a folder in its format (the name is then what its ``training.json`` says).
        clips: how many; an autoencoder is measured on at most ``VAE_CLIPS``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        probe: a classifier, or its folder, that judges beside the parser; default lab-probe where it is there.
        data: folder that holds ``jhmdb-21``: an autoencoder is then measured on real clips too.
        progress: called as work is done.

    Returns:
        the card, JSON-ready; see :func:`vidistill.lab.zoo_text.card_text` for how it reads.

    Raises:
        InputError: no such model, it is damaged, or ``clips`` < 2.
    """
    folder = locate(name)
    if clips < 2:
        raise InputError(f"a card needs at least 2 clips, got {clips}; the zoo's have 512")
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = zoo.load(name, device=place)
    files = weights(folder)
    parameters, sizes = {part: count(file) for part, file in files.items()}, {part: file.stat().st_size for part, file in files.items()}
    if isinstance(model, Denoiser):
        sizes["tokenizer"] = sum(file.stat().st_size for file in (folder / "tokenizer").iterdir())
    called = title(folder)
    training = load_json(folder / "training.json") if (folder / "training.json").is_file() else {}
    card: dict[str, Any] = {
        "name": called,
        "about": ABOUT.get(called, "A model in the zoo's format."),
        "class": kind(folder),
        "parameters": parameters | {"total": sum(parameters.values())},
        "bytes": sizes | {"total": sum(sizes.values())},
        "weights_sha256": {part: file_digest(file) for part, file in files.items()},
    }
    if isinstance(model, Denoiser):
        card |= _denoiser(model, folder, training, clips, _probe(probe, place), progress)
    elif isinstance(model, Probe):
        card |= _classifier(model, clips, place, progress)
    else:
        card |= {"weights_sha256": card["weights_sha256"]["model"]} if files.keys() == {"model"} else {}
        card |= _autoencoder(model, called, training, min(clips, VAE_CLIPS), data, progress)
    packages = ("torch", "diffusers", "transformers")
    card["training"] = training
    card["environment"] = {"vidistill": __version__, "python": platform.python_version(), **{name: installed(name) for name in packages}}
    sibling = zoo.path(beside(card)) / "card.json"
    card["bars"] = bars(card, load_json(sibling) if sibling.is_file() else None)
    return _rounded(card)


def _probe(given: Probe | str | Path | None, device: str) -> Probe | None:
    """Return the classifier that judges: the one given, else lab-probe where it is there."""
    if isinstance(given, Probe):
        return given
    if given is not None:
        return load_probe(given, device=device)
    own = zoo.path("lab-probe")
    return load_probe(own, device=device) if (own / "config.json").is_file() else None


def _answers(probe: Probe, video: Tensor, stage: str, progress: Progress) -> tuple[list[dict[str, str]], Tensor]:
    """Return what the classifier says of each clip, and its features of each frame ``[B, T, D]``."""
    rows, features = [], []
    for start in range(0, len(video), CHUNK):
        part = video[start : start + CHUNK]
        classes, frames = probe.classify(part)
        said = {name: [probe.factors[name][i] for i in index.tolist()] for name, index in classes.items()}
        rows += [dict(zip(said, row, strict=True)) for row in zip(*said.values(), strict=True)]
        features.append(frames)
        progress(stage, min(start + CHUNK, len(video)), len(video))
    return rows, torch.cat(features)


def _decoded(codec: Codec, latents: Tensor, stage: str, progress: Progress) -> Tensor:
    """Return the clips of latents, uint8 ``[B, 3, T, H, W]`` on the CPU."""
    parts = []
    for start in range(0, len(latents), CHUNK):
        parts.append(codec.decode(latents[start : start + CHUNK].float(), FRAMES))
        progress(stage, min(start + CHUNK, len(latents)), len(latents))
    return torch.cat(parts)


@dataclass(frozen=True)
class Reference:
    """Real clips of the cards' world.

    Attributes:
        wanted: their factors. latents: fp16, as the autoencoder encodes them. raw, seen: the clips, and as it gives them back.
        parsed_raw, parsed: what the parser sees in both.
    """

    wanted: list[Factors]
    latents: Tensor
    raw: Tensor
    seen: Tensor
    parsed_raw: Parsed
    parsed: Parsed


_references: dict[tuple[int, str], Reference] = {}


def reference(clips: int, codec: Codec, progress: Progress = silent) -> Reference:
    """Return the first ``clips`` clips of the cards' world; the last result is kept, since the cards of several models share it."""
    key = (clips, codec.fingerprint)
    if key not in _references:
        wanted = [factors(TEST_SEED, i) for i in range(clips)]
        raw = render(wanted, FRAMES, SIZE)
        latents = world_latents(wanted, codec, progress=lambda _, done, total: progress("encode real clips", done, total))
        seen = _decoded(codec, latents, "decode real clips", progress)
        _references.clear()
        _references[key] = Reference(wanted, latents, raw, seen, parse(raw), parse(seen))
    return _references[key]


def made(model: Denoiser, folder: Path, prompts: Sequence[str], seeds: Sequence[int], progress: Progress = silent) -> Tensor:
    """Return a model's latents for prompts and seeds, float32 ``[B, C, T, H, W]``, made once and kept in the cache.

    The key is everything that is known to determine them. What cannot be known, the code that samples, is tried: the first clip is made
    again, and when it is not what the cache holds, all are.

    Args:
        model: loaded from ``folder``.
        prompts, seeds: one a clip.
        progress: called in clips.
    """
    inputs: dict[str, Any] = {"weights": {part: file_digest(file) for part, file in weights(folder).items()}, "family": model.family}
    inputs |= {file: file_digest(folder / file) for file in ("model_index.json", "scheduler/scheduler_config.json")}
    inputs |= {"tokenizer": {file.name: file_digest(file) for file in sorted((folder / "tokenizer").iterdir())}}
    inputs |= {"steps": model.steps, "guidance": model.guidance, "shape": model.shape, "device": torch.device(model.device).type}
    inputs |= _few(model)
    inputs |= {package: installed(package) for package in ("torch", "diffusers", "transformers")}
    home, stage, total = cache_home() / "zoo-cards" / digest(inputs, 32), f"generate {title(folder)}", len(prompts)
    parts, batch = [], CHUNK if inputs["device"] == "cuda" else 8
    for start in range(0, total, CHUNK):
        some, names = slice(start, min(start + CHUNK, total)), list(zip(prompts, seeds, strict=True))
        path = home / f"{digest(names[some], 32)}.safetensors"
        if start == 0 and path.is_file():
            again, held = generate(model, prompts[:1], seeds=seeds[:1])[0], load_tensors(path)[0]["latents"][0]
            if (again - held).abs().max() > 0.02 * held.std():
                shutil.rmtree(home)
        if not path.is_file():

            def alive(_: str, done: int, steps: int, some: slice = some) -> None:
                progress(stage, some.start + (some.stop - some.start) * done // steps, total)

            latents = generate(model, prompts[some], seeds=seeds[some], batch=batch, progress=alive)
            ensure_folder(home)
            save_tensors(path, {"latents": latents})
        parts.append(load_tensors(path)[0]["latents"])
        progress(stage, some.stop, total)
    return torch.cat(parts)


def _few(model: Denoiser) -> dict[str, Any]:
    """Return how a few-step student is sampled, beside its steps and guidance; nothing of any other model."""
    return {"times": list(model.times), "renoise": "sde" if model.renoise else "ode"} if model.times or model.renoise else {}


def _denoiser(
    model: Denoiser, folder: Path, training: dict[str, Any], clips: int, probe: Probe | None, progress: Progress
) -> dict[str, Any]:
    """Return the card's sections of a text-to-video model."""
    real = reference(clips, model.codec, progress)
    prompts = [clip.caption() for clip in real.wanted]
    latents = made(model, folder, prompts, range(clips), progress)
    video = _decoded(model.codec, latents, "decode generated clips", progress)
    parsed = parse(video)

    fidelity = {"parser": measure.fidelity(parsed.records(), real.wanted)}
    by_value = {"parser": measure.fidelity_by_value(parsed.records(), real.wanted)}
    ceiling = {"parser": measure.fidelity(real.parsed.records(), real.wanted)}
    own, through, raw = measure.drift(parsed), measure.drift(real.parsed), measure.drift(real.parsed_raw)
    if probe is not None:
        said, features = _answers(probe, video, "probe generated clips", progress)
        said_real, features_real = _answers(probe, real.seen, "probe real clips", progress)
        _, features_raw = _answers(probe, real.raw, "probe raw clips", progress)
        fidelity["probe"], ceiling["probe"] = measure.fidelity(said, real.wanted), measure.fidelity(said_real, real.wanted)
        own["features"] = measure.feature_drift(features, parsed)
        through["features"] = measure.feature_drift(features_real, real.parsed)
        raw["features"] = measure.feature_drift(features_raw, real.parsed_raw)

    def look(of: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        mine, theirs = of(video), of(real.seen)
        return {"generated": measure.average(mine), "real": measure.average(theirs), "ratio": measure.ratio(mine, theirs)}

    drift = {
        name: {
            "generated": measure.average(own[name]),
            "real": measure.average(through[name]),
            "real, raw": measure.average(raw[name]),
            "ratio": measure.ratio(own[name], through[name]),
        }
        for name in own
    }
    card: dict[str, Any] = {
        "family": model.family,
        "codec": "lab-vae",
        "sampling": {"steps": model.steps, "guidance": float(model.guidance), "frames": model.frames, "size": model.size} | _few(model),
        "measured": {
            "clips": clips,
            "prompts": f"the captions of clips 0 to {clips - 1} of Motion World {TEST_SEED}",
            "seeds": f"0 to {clips - 1}",
            "device": _device(model.device),
            "judges": list(fidelity),
        },
        "fidelity": fidelity | {f"real clips, {judge}": rows for judge, rows in ceiling.items()},
        "fidelity_by_value": by_value["parser"],
        "coverage": measure.coverage(parsed.records(), real.wanted),
        "spread": measure.spread(parsed, real.parsed, real.wanted),
        "drift": drift,
        "contrast": look(measure.contrast),
        "saturation": look(measure.saturation),
        "nearest_training": _memory(model, training, latents, real, progress),
        "seconds": _timed(model, folder, prompts[0], progress),
        "seeds": {"motion-world training": TRAIN_SEED + int(training.get("seed") or 0), "motion-world test": TEST_SEED},
    }
    if training.get("name") == "lab-base":
        from vidistill.lab.train import unet

        card["defects"] = {"share of training clips with jumps": unet.JUMPS, "never shown": dict(unet.MISSING)}
    return card


def _memory(model: Denoiser, training: dict[str, Any], latents: Tensor, real: Reference, progress: Progress) -> dict[str, Any] | None:
    """Return how near the clips lie to the training set; ``None`` when the folder does not say what that was, or has other latents."""
    settings = training.get("settings") or {}
    if not settings.get("clips") or load_codec("lab-vae").fingerprint != model.codec.fingerprint:
        return None
    from vidistill.lab.train.unet import Defective

    seed, clips = int(settings.get("seed") or 0), min(int(settings["clips"]), TRAINING_CLIPS)
    bank = (Defective if training.get("name") == "lab-base" else Bank)(
        seed, clips, progress=lambda _, done, total: progress("encode training clips", done, total)
    )
    near = []
    for index, some in enumerate((latents, real.latents)):
        near.append(measure.nearest(some, bank.latents))
        progress("search training clips", index + 1, 2)
    return {"training clips searched": len(bank.latents), "of": int(settings["clips"]), **measure.memorisation(*near)}


def _timed(model: Denoiser, folder: Path, prompt: str, progress: Progress) -> dict[str, Any]:
    """Return seconds per clip by number of steps: guided, batch 1, from the prompt to pixels, after a warm-up.

    A few-step student has one number of steps, and no guidance but its own.
    """
    guidance = float(model.guidance) if model.times else max(float(model.guidance), 1.5)
    numbers = (model.steps,) if model.times else STEPS
    done, total = 0, REPEATS * sum(numbers)

    def clip(steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        latents = generate(model, [prompt], seeds=[0], steps=steps, guidance=guidance)
        between = time.perf_counter()
        model.codec.decode(latents, FRAMES)
        return time.perf_counter() - began, time.perf_counter() - between

    clip(model.steps if model.times else 2)
    found: dict[str, Any] = {}
    decoding = []
    for steps in numbers:
        runs = []
        for _ in range(REPEATS):
            runs.append(clip(steps))
            done += steps
            progress(f"time {title(folder)}", done, total)
        found[str(steps)] = measure.average(torch.tensor([whole for whole, _ in runs]))
        decoding += [late for _, late in runs]
    began = time.perf_counter()
    zoo.load(folder, device=model.device)
    loading = time.perf_counter() - began
    return {
        "device": _device(model.device),
        "threads": torch.get_num_threads(),
        "by steps, with guidance and decoding": found,
        "decoding": measure.average(torch.tensor(decoding)),
        "loading from disk": loading,
    }


def _device(device: str | torch.device) -> str:
    return torch.cuda.get_device_name() if torch.device(device).type == "cuda" else "cpu"


def _classifier(probe: Probe, clips: int, device: str, progress: Progress) -> dict[str, Any]:
    """Return the card's sections of a clip classifier."""
    real = reference(clips, load_codec("lab-vae", device=device), progress)
    raw, _ = _answers(probe, real.raw, "probe raw clips", progress)
    seen, _ = _answers(probe, real.seen, "probe decoded clips", progress)

    def accuracy(rows: list[dict[str, str]]) -> dict[str, Any]:
        found = measure.fidelity(rows, real.wanted)
        found.pop("together", None)
        return found

    seconds = []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        probe.predict(real.raw[:1])
        seconds.append(time.perf_counter() - began)
    return {
        "family": "classifier",
        "measured": {"clips": clips, "world": f"clips 0 to {clips - 1} of Motion World {TEST_SEED}", "device": _device(probe.device)},
        "accuracy": accuracy(raw),
        "accuracy_through_codec": accuracy(seen),
        "motion_confusions": {
            "raw": measure.confusions(raw, real.wanted, "motion"),
            "through lab-vae": measure.confusions(seen, real.wanted, "motion"),
        },
        "seconds": {
            "device": _device(probe.device),
            "threads": torch.get_num_threads(),
            "one clip": measure.average(torch.tensor(seconds[1:])),
        },
        "seeds": {"motion-world test": TEST_SEED},
    }


def _autoencoder(
    codec: Codec, name: str, training: dict[str, Any], clips: int, data: str | Path | None, progress: Progress
) -> dict[str, Any]:
    """Return the card's sections of an autoencoder."""
    from vidistill.lab.train import vae

    world = render([factors(VAE_SEED, i) for i in range(clips)], FRAMES, SIZE)
    latents = codec.encode(world)

    def row(original: Tensor, decoded: Tensor) -> dict[str, Any]:
        values = psnr(original, decoded)
        return measure.average(values) | {"lowest": float(values.min())}

    stage, stages = f"measure {name}", 2 + (data is not None)
    quality = {"motion-world 64 px": row(world, codec.decode(latents, FRAMES))}
    progress(stage, 1, stages)
    packed = unpack(*pack(codec, "decoder", "int8"))
    quality["motion-world 64 px, int8 decoder"] = row(world, packed.decode(latents, FRAMES))
    progress(stage, 2, stages)
    if data is not None:
        real, left_out = vae.real_clips(Path(data), "test", 4)
        quality["jhmdb-21 test split 1, 112 px"] = row(real, codec.decode(codec.encode(real), 4)) | {"left out": len(left_out)}
        progress(stage, 3, stages)
    shapes = {part: shapes_of(codec.kind, codec.config, part) for part in ("full", "decoder")}
    return {
        "family": "autoencoder",
        "compression": f"{codec.f_space}x in space, {codec.channels} channels",
        "measured": {"clips": clips, "world": f"clips 0 to {clips - 1} of Motion World {VAE_SEED}", "device": _device(codec.device)},
        "parameters": {part: bytes_of_shapes(shape, "fp16")["parameters"] for part, shape in shapes.items()},
        "bytes": {
            f"{part}, {dtype}": bytes_of_shapes(shape, dtype)["total"] for part, shape in shapes.items() for dtype in ("fp16", "int8")
        },
        "psnr_db": quality,
        "latents": {"scaling_factor": codec.config["scaling_factor"], "std on motion-world test clips": latents.std().item()},
        "seeds": {"motion-world training": vae.WORLD_TRAIN_SEED + int(training.get("seed") or 0), "motion-world test": VAE_SEED},
    }


def _rounded(value: Any) -> Any:
    """Return a card with its measured numbers to six significant digits."""
    if isinstance(value, dict):
        return {key: item if key == "training" else _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
