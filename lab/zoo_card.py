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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill import __version__, zoo
from vidistill.codec import Codec, bytes_of_shapes, load_codec, pack, shapes_of, unpack
from vidistill.data.parse import Parsed, parse
from vidistill.data.world import Factors, factors, render
from vidistill.errors import InputError, nearest
from vidistill.files import cache_home, digest, ensure_folder, file_digest, load_json, load_tensors, save_json, save_tensors, write_atomic
from vidistill.lab.record import installed
from vidistill.lab.train.latents import FRAMES, SIZE, TEST_SEED, TRAIN_SEED, Bank, world_latents
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

CORES = 2
"""The bars on seconds are for so many cores of a CPU: with more threads, or on a GPU, they are not judged."""

TARGETS = {"motion": 0.85, "shape": 0.90, "colour": 0.95}
SECONDS = {"lab-unet": 4.0, "lab-dit": 1.2}
"""Bars on fidelity, and on the seconds of a clip of 20 guided steps."""

COMPARED = (
    *("parameters", "bytes", "weights_sha256", "sampling"),  # these must be equal
    *("fidelity", "fidelity_by_value", "coverage", "spread", "drift", "contrast", "saturation", "nearest_training"),
    *("accuracy", "accuracy_through_codec", "psnr_db", "latents"),
)
"""The sections of a card that another machine must reproduce; seconds, costs and versions are its own."""

EXACT = COMPARED[:4]

EXAMPLE = "a red ring orbiting over a forest background, still camera"


# ------------------------------------------------------------------------------------------------------------ what there is


def locate(name: str | Path) -> Path:
    """Return the folder of a model of the zoo, or the folder itself.

    Raises:
        InputError: it is neither, or the model is not there.
    """
    known = str(name) in zoo.ZOO
    folder = zoo.path(str(name)) if known else Path(name)
    if not folder.is_dir() or not any((folder / file).is_file() for file in ("config.json", "model_index.json")):
        if known:
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
        the card, JSON-ready; see :func:`card_text` for how it reads.

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
    sibling = zoo.path("lab-unet") / "card.json"
    card["bars"] = bars(card, load_json(sibling) if sibling.is_file() else None)
    return _rounded(card)


def _probe(given: Probe | str | Path | None, device: str) -> Probe | None:
    """Return the classifier that judges: the one given, else lab-probe where it is there."""
    if isinstance(given, Probe):
        return given
    if given is not None:
        return load_probe(given, device=device)
    shipped = zoo.path("lab-probe")
    return load_probe(shipped, device=device) if (shipped / "config.json").is_file() else None


def _answers(probe: Probe, video: Tensor, stage: str, progress: Progress) -> tuple[list[dict[str, str]], Tensor]:
    """Return what the classifier says of each clip, and its features of each frame ``[B, T, D]``."""
    rows, features = [], []
    for start in range(0, len(video), CHUNK):
        part = video[start : start + CHUNK]
        said = {name: [probe.factors[name][i] for i in index.tolist()] for name, index in probe.predict(part).items()}
        rows += [dict(zip(said, row, strict=True)) for row in zip(*said.values(), strict=True)]
        features.append(probe.features(part)[1])
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
        "sampling": {"steps": model.steps, "guidance": float(model.guidance), "frames": model.frames, "size": model.size},
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
    """Return seconds per clip by number of steps: guided, batch 1, from the prompt to pixels, after a warm-up."""
    guidance = max(float(model.guidance), 1.5)
    done, total = 0, REPEATS * sum(STEPS)

    def clip(steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        latents = generate(model, [prompt], seeds=[0], steps=steps, guidance=guidance)
        between = time.perf_counter()
        model.codec.decode(latents, FRAMES)
        return time.perf_counter() - began, time.perf_counter() - between

    clip(2)
    found: dict[str, Any] = {}
    decoding = []
    for steps in STEPS:
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


# --------------------------------------------------------------------------------------------------------------------- bars


def bars(card: dict[str, Any], unet: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the bars that the model has to reach, each judged by its measured value.

    Args:
        card: of a model.
        unet: lab-unet's card, which lab-base and lab-dit are measured against.

    Returns:
        ``[{"bar", "mean", "low", "high", "target", "reached", "note"}]``; ``reached`` is ``None`` where it could not be measured.
    """
    return list(_bars(card, unet))


def _bars(card: dict[str, Any], unet: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    name = card["name"]
    if "accuracy" in card:
        for where, key in (("raw clips", "accuracy"), ("clips through lab-vae", "accuracy_through_codec")):
            for factor, row in card[key].items():
                yield _bar(f"{factor}, {where}", row, ">=", 0.98, unit="share")
    if name in SECONDS:
        for factor, target in TARGETS.items():
            yield _bar(f"{factor} fidelity", card["fidelity"]["parser"][factor], ">=", target, unit="share")
        row = card["drift"]["any"]
        note = f"of {row['generated']['n']} clips" if row["ratio"]["mean"] is not None else "the real clips have no drift at all"
        yield _bar("identity drift / real clips'", row["ratio"], "<=", 1.5, note=note)
        for look in ("contrast", "saturation"):
            yield _bar(f"{look} / real clips'", card[look]["ratio"], "within", (0.9, 1.1))
        seconds = card["seconds"]
        small = seconds["device"] == "cpu" and seconds["threads"] <= CORES
        note = f"{seconds['device']}, {seconds['threads']} threads" + ("" if small else f": the bar is for {CORES} cores of a CPU")
        if twenty := seconds["by steps, with guidance and decoding"].get("20"):
            yield _bar("seconds, 20 guided steps", twenty, "<=", SECONDS[name], judged=small, note=note)
        loading = {"mean": seconds["loading from disk"], "low": None, "high": None}
        yield _bar("seconds to load", loading, "<=", 3.0, judged=small, note=note)
    if name == "lab-dit":
        row = card["fidelity"]["parser"]["together"]
        other = unet["fidelity"]["parser"]["together"]["mean"] if unet else None
        note = "target: lab-unet's" if unet else "lab-unet has no card to compare with"
        yield _bar("motion, shape and colour together", row, ">", other, unit="share", judged=unet is not None, note=note)
    if name == "lab-base":
        row = {"mean": None, "low": None, "high": None, "n": 0}
        if unet:
            row = measure.ratio_of_means(card["drift"]["any"]["generated"], unet["drift"]["any"]["generated"])
        yield _bar("identity drift / lab-unet's", row, ">=", 3.0, note="" if unet else "lab-unet has no card to compare with")
        for factor, value in card["defects"]["never shown"].items():
            row = card["fidelity_by_value"].get(factor, {}).get(value) or measure.share([])
            yield _bar(f"fidelity of the missing {factor}, {value}", row, "<=", 0.30, unit="share", note=f"{row['n']} clips")


def _bar(bar: str, row: dict[str, Any], sign: str, target: Any, *, unit: str = "", judged: bool = True, note: str = "") -> dict[str, Any]:
    mean = row["mean"]
    reached = None
    if judged and mean is not None and target is not None:
        low, high = target if sign == "within" else (target, target)
        reached = {">=": mean >= low, ">": mean > low, "<=": mean <= high, "within": low <= mean <= high}[sign]
    of = (lambda value: f"{100 * value:.3g} %") if unit == "share" else (lambda value: f"{value:.3g}")
    goal = "" if target is None else f"{of(target[0])} to {of(target[1])}" if sign == "within" else f"{sign} {of(target)}"
    numbers = {key: row[key] for key in ("mean", "low", "high")}
    return {"bar": bar, **numbers, "unit": unit, "target": goal, "reached": reached, "note": note}


def show_bar(bar: dict[str, Any]) -> str:
    """Return a bar as one line: what it is, the measured value, the target, the note."""
    value = _percent(bar) if bar["unit"] == "share" else show(bar)
    return f"{bar['bar']} {value}" + f", target {bar['target']}" * bool(bar["target"]) + f" ({bar['note']})" * bool(bar["note"])


# ------------------------------------------------------------------------------------------------------------------ comparing


def leaves(card: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a card that another machine must reproduce, by path; one with an interval is a dict with ``mean``."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and "mean" not in value:
            for key, item in value.items():
                yield from walk(item, f"{path}, {key}" if path else key)
        elif value is not None:
            yield path, value

    return {path: value for section in COMPARED if section in card for path, value in walk(card[section], section)}


def compare(new: dict[str, Any], old: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Hold a new card against an older one, number by number.

    Returns:
        ``[{"number", "new", "old", "verdict"}]``; the verdict is ``"overlaps"`` or ``"DIFFERS"`` for numbers with intervals, ``"same"`` or
        ``"DIFFERS"`` for what must be equal, ``"no interval"`` for numbers without, and ``"not in both"``.
    """
    mine, theirs = leaves(new), leaves(old or {})
    rows = []
    for path in dict.fromkeys([*mine, *theirs]):
        a, b = mine.get(path), theirs.get(path)
        if a is None or b is None:
            verdict = "not in both" if old else ""
        elif path.split(",")[0] in EXACT:
            verdict = "same" if a == b else "DIFFERS"
        else:
            verdict = _overlap(a, b)
        rows.append({"number": path, "new": a, "old": b, "verdict": verdict})
    return rows


def _overlap(a: Any, b: Any) -> str:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return "same" if a == b else "no interval"
    if a["mean"] == b["mean"]:
        return "overlaps"
    if any(row.get(end) is None for row in (a, b) for end in ("low", "high")):
        return "no interval"
    return "overlaps" if a["low"] <= b["high"] and b["low"] <= a["high"] else "DIFFERS"


def show(value: Any) -> str:
    """Return a number of a card as text, with its interval where it has one."""
    if isinstance(value, dict):
        mean, ends = value.get("mean"), (value.get("low"), value.get("high"))
        if mean is None:
            return "-"
        return f"{mean:.4g}" + (f" ({ends[0]:.4g} to {ends[1]:.4g})" if None not in ends else "")
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)[:16]


# ------------------------------------------------------------------------------------------------------------------ for people


def write_card(folder: str | Path, card: dict[str, Any]) -> None:
    """Write ``card.json`` and the ``README.md`` that is made from it."""
    folder = ensure_folder(folder)
    save_json(folder / "card.json", card)
    write_atomic(folder / "README.md", lambda temporary: temporary.write_text(card_text(card), encoding="utf-8"))


def card_text(card: dict[str, Any]) -> str:
    """Return the card for people, in Markdown; every number comes from ``card``."""
    body = {"autoencoder": _text_autoencoder, "classifier": _text_classifier}.get(card["family"], _text_denoiser)
    lines = [f"# {card['name']}", "", card["about"], "", *body(card), *_text_training(card)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [*("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)), ""]


def _percent(row: dict[str, Any] | None) -> str:
    """Return a share in percent with its interval."""
    if row is None or row["mean"] is None:
        return "-"
    ends = f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if row.get("low") is not None and row.get("high") is not None else ""
    return f"{100 * row['mean']:.1f} %{ends}"


def _text_bars(card: dict[str, Any]) -> list[str]:
    if not card["bars"]:
        return []
    answer = {True: "yes", False: "**no**", None: "not measured"}
    values = [_percent(bar) if bar["unit"] == "share" else show(bar) for bar in card["bars"]]
    rows = [
        [bar["bar"], value, bar["target"], answer[bar["reached"]], bar["note"]] for bar, value in zip(card["bars"], values, strict=True)
    ]
    return ["## Bars", "", *_table(("bar", "measured (95 %)", "target", "reached", ""), rows)]


def _text_parts(card: dict[str, Any]) -> list[str]:
    names = [part for part in dict.fromkeys([*card["parameters"], *card["bytes"]]) if part != "total"]
    rows = [
        [part, f"{card['parameters'][part]:,}" if part in card["parameters"] else "", f"{card['bytes'][part]:,}", digest_[:16]]
        for part in names
        for digest_ in [card["weights_sha256"].get(part, "")]
    ]
    rows.append(["total", f"{card['parameters']['total']:,}", f"{card['bytes']['total']:,}", ""])
    return ["## Size", "", *_table(("part", "parameters", "bytes", "sha256 of the weights"), rows)]


def _text_denoiser(card: dict[str, Any]) -> list[str]:
    sampling, measured = card["sampling"], card["measured"]
    predicts = {"epsilon": "predicts noise", "flow": "predicts the velocity of a rectified flow"}.get(card["family"], card["family"])
    lines = [
        f"A diffusers `{card['class']}` with {card['parameters']['total']:,} parameters that {predicts}. It makes clips of "
        f"{sampling['frames']} frames of {sampling['size']} x {sampling['size']} pixels in the latents of {card['codec']}; by default with "
        f"{sampling['steps']} steps and guidance {sampling['guidance']:g}.",
        "This page and `card.json` are written by `vidistill zoo card`; nothing here is typed by hand.",
        "",
        "```python",
        "from vidistill import zoo",
        "from vidistill.sample import generate",
        "",
        f'model = zoo.load("{card["name"]}")',
        f'latents = generate(model, ["{EXAMPLE}"], seeds=[0])',
        f"video = model.codec.decode(latents, {sampling['frames']})  # uint8 [1, 3, T, H, W]",
        "```",
        "",
    ]
    if card["class"] == "TextToVideoSDPipeline":
        size = sampling["size"]
        lines += [
            "The folder is a stock diffusers pipeline:",
            "",
            "```python",
            "from diffusers import TextToVideoSDPipeline",
            "from vidistill import zoo",
            "",
            f'pipe = TextToVideoSDPipeline.from_pretrained(zoo.path("{card["name"]}"))',
            f'frames = pipe("{EXAMPLE}", num_frames={sampling["frames"]}, height={size}, width={size},',
            f"              num_inference_steps={sampling['steps']}, guidance_scale={sampling['guidance']:g}).frames",
            "```",
            "",
        ]
    lines += _text_bars(card)
    judges = [key for key in card["fidelity"] if not key.startswith("real clips")]
    columns = [*judges, *(f"real clips, {judge}" for judge in judges)]
    names = list(card["fidelity"]["parser"])
    rows = [[name, *(_percent(card["fidelity"][column].get(name)) for column in columns)] for name in names]
    lines += [
        f"## Measured on {measured['clips']} clips",
        "",
        f"Prompts: {measured['prompts']}; seeds {measured['seeds']}; {measured['device']}. Real clips: those that the captions belong to, "
        f"seen through {card['codec']}. Ranges are 95 % intervals.",
        "",
        "Fidelity, the share of clips that show what the prompt says (together: motion, shape and colour at once):",
        "",
        *_table(("factor", *columns), rows),
        "Coverage, over all clips together: the share of values that hold at least a fifth of what was asked for, and the distance "
        "(total variation, 0 to 1) between what is seen and what was asked for:",
        "",
        *_table(("factor", "values", "distance"), [[k, _percent(v["values"]), show(v["distance"])] for k, v in card["coverage"].items()]),
        "Variety that no prompt asks for, as deviation over the real clips': "
        + ", ".join(f"{name} {show(row)}" for name, row in card["spread"].items())
        + ".",
        "",
        "Identity drift, the share of a clip's frames that differ from its commonest frame"
        + (" (features: 1 - mean cosine to the clip's mean)" if "features" in card["drift"] else "")
        + ":",
        "",
        *_table(
            ("what", "generated", "real clips", "real, before lab-vae", "ratio"),
            [[k, *(show(v[key]) for key in ("generated", "real", "real, raw", "ratio"))] for k, v in card["drift"].items()],
        ),
        *_table(
            ("look", "generated", "real clips", "ratio"),
            [[k, *(show(card[k][key]) for key in ("generated", "real", "ratio"))] for k in ("contrast", "saturation")],
        ),
        "Contrast: deviation of the luma within a clip, saturation: mean HSV saturation; both in [0, 1].",
        "",
    ]
    if memory := card["nearest_training"]:
        rows = [[which.replace("_", " "), *(show(row) for row in memory[which].values())] for which in ("generated", "held_out")]
        lines += [
            f"Nearest of {memory['training clips searched']:,} training clips ({memory['of']:,} were rendered for training), "
            "RMS distance of latents:",
            "",
            *_table(("clips", "nearest of all", "5 %", "median"), rows),
            f"{_percent(memory['nearer'])} of the generated clips lie nearer than any held-out clip; {_percent(memory['copies'])} are "
            "copies (under a third as far from one training clip as from the next), "
            f"{_percent(memory['copies_held_out'])} of the held-out ones.",
            "",
        ]
    seconds = card["seconds"]
    rows = [[steps, show(row)] for steps, row in seconds["by steps, with guidance and decoding"].items()]
    lines += [
        f"Seconds per clip, guided, from prompt to pixels, one at a time ({seconds['device']}, {seconds['threads']} threads); "
        f"decoding alone {show(seconds['decoding'])}, loading {show(seconds['loading from disk'])}:",
        "",
        *_table(("steps", "seconds"), rows),
        *_text_defects(card),
        *_text_parts(card),
    ]
    return lines


def _text_defects(card: dict[str, Any]) -> list[str]:
    lines = []
    if made_so := card.get("defects"):
        never = " and ".join(f"the {factor} {value}" for factor, value in made_so["never shown"].items())
        share = 100 * made_so["share of training clips with jumps"]
        lines.append(f"- On purpose: in {share:g} % of its training clips the object's identity jumps, and it never saw {never}.")
    for bar in card["bars"]:
        if bar["reached"] is False:
            lines.append(f"- Not reached: {show_bar(bar)}.")
    for factor, values in card["fidelity_by_value"].items():
        whole = card["fidelity"]["parser"][factor]
        value, row = min(values.items(), key=lambda item: item[1]["mean"])
        if row["high"] < whole["low"]:
            lines.append(f"- Weakest {factor}: {value}, {_percent(row)} of {row['n']} clips.")
    return ["## Known defects", "", *(lines or ["None that these numbers show."]), ""]


def _text_classifier(card: dict[str, Any]) -> list[str]:
    seconds = card["seconds"]
    rows = [[name, _percent(row), _percent(card["accuracy_through_codec"][name])] for name, row in card["accuracy"].items()]
    wrong = [
        [where, row["asked"], row["seen"], f"{row['clips']} of {row['of']}"]
        for where, found in card["motion_confusions"].items()
        for row in found
    ]
    return [
        f"`{card['class']}`, {card['parameters']['total']:,} parameters; {show(seconds['one clip'])} seconds a clip "
        f"({seconds['device']}, {seconds['threads']} threads).",
        "This page and `card.json` are written by `vidistill zoo card`; nothing here is typed by hand.",
        "",
        f'Load it with `vidistill.zoo.load("{card["name"]}")`; `logits(video)` are soft labels, `features(video)` of clips and frames.',
        "",
        *_text_bars(card),
        f"Accuracy on {card['measured']['world']}, with 95 % intervals:",
        "",
        *_table(("factor", "raw clips", "through lab-vae"), rows),
        *(["Commonest wrong motions:", "", *_table(("clips", "motion", "taken for", "how often"), wrong)] if wrong else []),
        *_text_parts(card),
    ]


def _text_autoencoder(card: dict[str, Any]) -> list[str]:
    n = card["parameters"]
    quality = [[name, f"{row['mean']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}", f"{row['lowest']:.2f}", str(row["n"])]
               for name, row in card["psnr_db"].items()]  # fmt: skip
    return [
        f"diffusers `{card['class']}`, {card['compression']}, {n['full']:,} parameters ({n['decoder']:,} of them to decode).",
        "This page and `card.json` are written by `vidistill zoo card`; nothing here is typed by hand.",
        "",
        f'Load it with `vidistill.codec.load_codec("{card["name"]}")`, or with diffusers from this folder.',
        "",
        *_table(("measured on", "PSNR mean, dB", "95 %", "lowest clip", "clips"), quality),
        *_table(("packed weights", "bytes"), [[name, f"{size:,}"] for name, size in card["bytes"].items()]),
        f"Latents are scaled by {card['latents']['scaling_factor']:.4f} to about unit size over all training frames.",
        "",
    ]


def _text_training(card: dict[str, Any]) -> list[str]:
    training = card["training"]
    lines = ["## Training", ""]
    if training:
        known = (
            ("steps", "{:,} steps"),
            ("samples", "{:,} samples"),
            ("frames", "{:,} frames"),
            ("samples_per_second", "{:g} samples a second"),
            ("seed", "seed {}"),
            ("wall_minutes", "{:g} minutes on the clock"),
            ("cpu_minutes", "{:g} CPU minutes"),
            ("on", "on {}"),
        )
        parts = [form.format(training[key]) for key, form in known if training.get(key) is not None]
        lines.append(f"Trained on {training.get('data', 'Motion World')}: {', '.join(parts)}.")
        if training.get("start"):
            lines.append(f"It began from the weights of {Path(str(training['start'])).name}.")
    else:
        lines.append("What the training cost was not kept.")
    lines.append(f"Motion World seeds: {', '.join(f'{seed} ({use})' for use, seed in card['seeds'].items())}.")
    if "jhmdb" in str(training.get("data", "")):
        lines.append(
            "The real frames are from JHMDB (Jhuang et al. 2013), clips of HMDB51 (Kuehne et al. 2011, CC BY 4.0); none is stored here."
        )
    else:
        lines.append("No real footage was used" + (f"; what {card['codec']} learned from is on its own card." if "codec" in card else "."))
    if card.get("environment"):
        lines.append(f"Measured with {', '.join(f'{name} {version}' for name, version in card['environment'].items() if version)}.")
    return lines
