"""Few-step distillation at full size: a Wan pipeline, a folder of clips and their captions become a student's folder and its LoRA.

    1  clips -> latents, captions -> embeddings (cached); autoencoder and text encoder are let go
    2  where the method learns from trajectories: the teacher's key states, recorded in ``OUT/trajectories``
    3  the trainer of the lab-size students, on adapters of one base (LoRA) or on full weights
    4  ``OUT/model``: a pipeline with merged weights and the student's times; ``pytorch_lora_weights.safetensors`` is the LoRA by itself

Every stage goes on where it stopped. Several processes (``accelerate launch``) share the batch, with ``--use_fsdp`` also the weights.
"""

from __future__ import annotations

import copy
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.distill import METHODS, FlowNet, Heads, Nets, Recipe, Trainer, changed, initialise
from vidistill.distill.lora import FILE, Adapted, Base, adapted
from vidistill.distill.methods import Data
from vidistill.distill.nets import halved, kept_whole
from vidistill.distill.parallel import Ranks, shard, start, stop
from vidistill.distill.trajectory import Trajectories, check_keys, model_source, record_trajectories, stored
from vidistill.errors import InputError
from vidistill.files import digest, ensure_folder, load_tensors, save_json, save_tensors
from vidistill.lab.distill_data import Released, encode_clips, encode_words, real, released
from vidistill.lab.distill_order import Order
from vidistill.lab.distill_plan import head_count, needs_paths
from vidistill.lab.train.export import write_config
from vidistill.sample import load_denoiser
from vidistill.types import Progress, silent
from vidistill.weights import read_network

SEEDS = 20_000_000
"""Seeds of trajectories begin here."""

SHARD = 8
"""Trajectories in a file: what an interruption can cost, and what a process takes of the work at once."""

LINKED, COPIED = ("text_encoder", "vae"), ("tokenizer", "scheduler")
"""Parts of the teacher that its student's folder points to, and those that are copied: gigabytes, and kilobytes."""


def distill(wanted: Order, out: str | Path, *, progress: Progress = silent) -> dict[str, Any]:
    """Do what was ordered; the same call resumes.

    Args:
        wanted: see :func:`vidistill.lab.distill_order.order`.
        out: gets ``state.safetensors`` and ``log.json`` (the trainer's), ``trajectories/`` and ``model/``.
        progress: called in every stage.

    Returns:
        what ``model/training.json`` says: recipe, updates, samples a second, peak memory, clips that were left out.

    Raises:
        InputError: ``out`` holds another run, the run diverged, or the GPU is too small.
        Cancelled: from ``progress``; the state is saved first.
    """
    place, out = torch.device(wanted.device), ensure_folder(out)
    ranks = start(place)
    frozen = "bf16" if wanted.recipe.precision == "bf16" and wanted.lora else "fp32"
    size = wanted.protocol.height_width if wanted.protocol.width else wanted.protocol.size
    try:
        model: Any = load_denoiser(wanted.teacher, device=place, dtype=frozen, frames=wanted.protocol.frames, size=size)
        recipe = own_times(wanted.recipe, model, wanted.steps) if needs_paths(wanted.recipe) else wanted.recipe
        data, slim, about = prepared(wanted, recipe, model, out, ranks, progress)
        nets, base = networks(wanted, recipe, slim, place)
        options: dict[str, Any] = {"prepare": lambda net: shard(net, place)} if wanted.sharded and base is None else {}
        trainer = Trainer(recipe, nets, data, seed=wanted.seed, device=place, about=about, ranks=ranks, **options)
        trainer.run(out, progress=progress)
    except torch.cuda.OutOfMemoryError:
        raise InputError(
            f"{wanted.teacher} needs more GPU memory than there is: vidistill distill --plan says how much; try --lora, a smaller --batch "
            "or --size, gradient checkpointing, or several GPUs with accelerate launch --use_fsdp"
        ) from None
    record = write(wanted, trainer, base, slim, out, about)
    stop(ranks)
    return record


def own_times(recipe: Recipe, model: Any, steps: int) -> Recipe:
    """Return a recipe whose key times are those of the teacher's table nearest to its own: no state is ever interpolated.

    Raises:
        InputError: the table has too few steps to tell them apart.
    """
    table = model_source(model, steps=steps).times
    inner = [min(range(len(table)), key=lambda place: abs(table[place] - t)) for t in recipe.times[1:-1]]
    try:
        places = check_keys([0, *inner, steps], steps)
    except InputError as error:
        raise InputError(f"{error}; {len(recipe.times) - 1} steps cannot be told apart in so short a table, take more --steps") from None
    return changed(recipe, times=tuple(table[place] for place in places))


def prepared(
    wanted: Order, recipe: Recipe, model: Any, out: Path, ranks: Ranks, progress: Progress
) -> tuple[Data, Released, dict[str, Any]]:
    """Return what is learned from, the model without what only that needed, and what a resumed run must have in common."""
    said = {item.name: text for item, text in zip(wanted.items, wanted.captions, strict=True)}
    about: dict[str, Any] = {"teacher": model.fingerprint, "lora": wanted.lora, "batch": wanted.batch, "start": str(wanted.start or "")}
    with ranks.first():
        words = encode_words(model, wanted.captions, progress=progress)
        bank = None
        if not needs_paths(recipe):
            bank = encode_clips(model.codec, wanted.items, wanted.protocol, seed=wanted.seed, progress=progress)
    slim = released(model, words)
    if bank is not None:
        captions = [said[name] for name in bank.names]
        about |= {"clips": bank.key, "captions": digest(captions), "skipped": bank.skipped}
        return real(bank, captions, wanted.batch, words), slim, about
    store = recorded(wanted, recipe, slim, out / "trajectories", ranks, progress)
    about |= {"trajectories": store.key, "captions": digest(store.prompts), "skipped": []}
    return stored(store, wanted.batch, words), slim, about


def recorded(wanted: Order, recipe: Recipe, model: Released, folder: Path, ranks: Ranks, progress: Progress) -> Trajectories:
    """Return the teacher's key states for the captions in turn; what is there is not made again, processes share the rest."""
    source = model_source(model, steps=wanted.steps)
    places = [source.times.index(t) for t in recipe.times]
    prompts = [wanted.captions[i % len(wanted.captions)] for i in range(wanted.records)]
    seeds = [SEEDS * (1 + wanted.seed) + i for i in range(wanted.records)]
    options: dict[str, Any] = {"places": places, "batch": min(SHARD, wanted.batch), "shard": SHARD, "progress": progress}
    record_trajectories(source, prompts, seeds, folder, **options)
    ranks.wait()
    return record_trajectories(source, prompts, seeds, folder, **options)  # finds the whole


def networks(wanted: Order, recipe: Recipe, model: Released, place: torch.device) -> tuple[Nets, Base | None]:
    """Return the networks of the run, and the base that they share where they are adapters.

    Raises:
        InputError: ``start`` is of another architecture, or no student.
    """
    method, transformer = METHODS[recipe.method], model.parts["transformer"]
    none = model.encode([""]).cpu()
    empty: Callable[[Tensor], Tensor] = lambda c: none.to(c).expand_as(c)  # noqa: E731
    heads = Heads(wanted.shape["width"], head_count(recipe), seed=wanted.seed) if method.heads(recipe) else None
    if wanted.lora:
        base = Base(transformer, wanted.lora, roles=("student", "critic") if method.critic else ("student",), seed=wanted.seed)
        transformer.to(place)  # adapters are made on the CPU
        if wanted.start:
            tensors, _ = load_tensors(_inside(wanted.start, FILE))
            base.load(tensors, "student", str(wanted.start))
        if wanted.checkpointing:
            base.checkpoint()
        if wanted.sharded:
            shard(base.flow, place, whole=[w for role in base.roles for w in base.matrices(role).values()])
        return adapted(base, heads=heads, empty=empty), base
    student = FlowNet(copy.deepcopy(transformer).requires_grad_(True))
    critic = FlowNet(copy.deepcopy(transformer).requires_grad_(True)) if method.critic else None
    if wanted.start:
        other = read_network(type(transformer), _inside(wanted.start, "transformer"), str(wanted.start), torch_dtype=torch.float32)
        initialise(student, FlowNet(other))
    for net in (student, critic):
        if net is not None and wanted.checkpointing:
            net.transformer.enable_gradient_checkpointing()
    teacher = FlowNet(halved(transformer) if recipe.precision == "bf16" else transformer)
    return Nets(student, teacher, critic, heads, empty), None


def _inside(folder: Path, name: str) -> Path:
    """Return a part of a model, or of the model of a run."""
    for place in (folder, folder / "model"):
        if (place / name).exists():
            return place / name
    raise InputError(f"{folder} has no {name}: a run starts from a student of its own kind, LoRA from LoRA, full weights from full weights")


# ------------------------------------------------------------------------------------------------------------------- out


def write(wanted: Order, trainer: Trainer, base: Base | None, model: Released, out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write the student: a pipeline that :func:`vidistill.sample.load_denoiser` and diffusers load, its LoRA, and what the run took."""
    weights, recipe, folder = trainer.weights(), trainer.recipe, out / "model"
    lora = Adapted.exported(weights) if base is not None else {}
    whole = base.merged(lora) if base is not None else {name.removeprefix("transformer."): w for name, w in weights.items()}
    seconds, share = sum(update.seconds for update in trainer.log), trainer.iteration / trainer.iterations
    record = {
        "name": folder.resolve().parent.name,
        "recipe": recipe.as_dict(),
        "teacher": wanted.teacher,
        "lora": wanted.lora,
        "updates": trainer.updates,
        "iterations": trainer.iteration,
        "samples": round(wanted.plan["samples"] * share),
        "samples_per_second": round(wanted.plan["samples"] * share / max(seconds, 1e-9), 3),
        "minutes": round(seconds / 60, 2),
        "peak_memory": peak_memory(trainer.device),
        "processes": wanted.world,
        "seed": wanted.seed,
        "about": {name: value for name, value in about.items() if name != "skipped"},
        "skipped": about["skipped"],
    }
    if trainer.ranks.rank:
        return record
    network, own = ensure_folder(folder / "transformer"), model.parts["transformer"]
    write_config(own, network)
    if recipe.precision == "bf16":
        whole = {name: w if kept_whole(own, name) else w.bfloat16() for name, w in whole.items()}
    save_tensors(network / "diffusion_pytorch_model.safetensors", whole, {"format": "pt"})
    if lora:
        save_tensors(folder / FILE, lora, {"format": "pt"})
    for part in LINKED:
        link = folder / part
        if not link.exists():
            link.unlink(missing_ok=True)  # a link that leads nowhere: the folder was moved
            link.symlink_to(os.path.relpath((wanted.folder / part).resolve(), folder.resolve()), target_is_directory=True)
    for part in COPIED:
        shutil.copytree(wanted.folder / part, folder / part, dirs_exist_ok=True)
    shutil.copyfile(wanted.folder / "model_index.json", folder / "model_index.json")
    height, width = wanted.protocol.height_width
    sampling = {"steps": len(recipe.times) - 1, "guidance": 1.0, "frames": wanted.protocol.frames}
    sampling |= {"size": height if height == width else [height, width], "times": list(recipe.times[:-1]), "renoise": recipe.renoise}
    save_json(folder / "sampling.json", sampling)
    save_json(folder / "training.json", record)
    return record


def peak_memory(device: torch.device) -> int:
    """Return the most memory that this process has had: of the GPU, or of the machine; bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
