"""What a full-size distillation is asked for: checked and planned before anything is loaded."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidistill.data import Item, captions_of, list_clips, read_captions, world_captions
from vidistill.distill import METHODS, Recipe, changed, load_recipe, recipes
from vidistill.distill.lora import check_rank
from vidistill.distill.parallel import Ranks
from vidistill.errors import InputError
from vidistill.files import load_json
from vidistill.lab.distill_plan import needs_paths, numbers, shapes, size_of
from vidistill.sample.load import SETTINGS, find, index_of
from vidistill.types import Protocol

JSON_FILES = ("*.json", "*/*.json")
"""What a plan needs of a hub id."""


@dataclass(frozen=True)
class Order:
    """A distillation that was asked for, checked; nothing is loaded yet. Made by :func:`order`.

    Attributes:
        teacher: as it was named.
        folder: its configurations.
        name, recipe: what is done; key times are the teacher's own once it is loaded.
        items, captions: the clips and what is said of each.
        protocol: how a clip is cut.
        lora: rank, 0 for full weights.
        batch: samples of a loss, over all processes.
        steps, records: of a trajectory, and how many.
        start: a run or model whose student to begin with.
        checkpointing, sharded: how memory is saved.
        device, seed, world: where, which, by how many processes.
        shape, plan: see :mod:`vidistill.lab.distill_plan`.
    """

    teacher: str
    folder: Path
    name: str
    recipe: Recipe
    items: tuple[Item, ...]
    captions: tuple[str, ...]
    protocol: Protocol
    lora: int
    batch: int
    steps: int
    records: int
    start: Path | None
    checkpointing: bool
    sharded: bool
    device: str
    seed: int
    world: int
    shape: dict[str, Any]
    plan: dict[str, float]


def order(
    teacher: str,
    recipe: str,
    data: str | Path,
    captions: str | Path | None = None,
    *,
    lora: int = 64,
    full: bool = False,
    batch: int = 1,
    size: int | Sequence[int] | None = None,
    frames: int | None = None,
    steps: int | None = None,
    records: int | None = None,
    start: str | Path | None = None,
    checkpointing: bool = True,
    sharded: bool = False,
    device: str = "cpu",
    seed: int = 0,
    **changes: Any,
) -> Order:
    """Check what is asked for, and plan it; no weight is read.

    Args:
        teacher: a Wan pipeline's folder or hub id.
        recipe: one that ships, or a TOML file; ``changes`` are made to it, where they are not None.
        data: folder of clips.
        captions: see :func:`vidistill.data.read_captions`; None for a Motion World, which knows them.
        size: height and width in pixels, or one side; default the teacher's, as ``frames`` and ``steps``.
        records: default one for each clip.
        full: all weights learn, without LoRA.
        lora, batch, start, checkpointing, sharded, device, seed: see :class:`Order`.

    Raises:
        InputError: anything that cannot be done.
    """
    lora = 0 if full else check_rank(lora)
    for what, value, low in (("batch", batch, 1), ("steps", steps, 1), ("records", records, 1), ("frames", frames, 2)):
        if value is not None and value < low:
            raise InputError(f"{what}={value} is out of range: it must be {low} or more")
    if recipe.startswith("plane-"):
        fit = ", ".join(name for name in recipes() if not name.startswith(("plane-", "lab-")))
        raise InputError(f"recipe {recipe} is a setting for points in the plane, not for a video model: take {fit}, or a TOML file")
    wanted = load_recipe(recipe, **{name: value for name, value in changes.items() if value is not None})
    if wanted.method == "flow":
        raise InputError(f"recipe {recipe}: method 'flow' makes a teacher from nothing and has no use for one; take dfd, dmd, accvideo ...")
    if not device.startswith("cuda"):  # bf16 is slower than float32 on a CPU
        wanted = changed(wanted, precision="fp32")
    world = int(os.environ.get("WORLD_SIZE", 1))
    Ranks(0, world).rows(batch)
    folder = find(teacher, JSON_FILES, "model_index.json")
    index = index_of(teacher, folder)
    if index["_class_name"] != "WanPipeline":
        raise InputError(f"{teacher} holds a {index['_class_name']}, which is no flow: few steps are learned from a WanPipeline")
    own = SETTINGS["WanPipeline"] | (load_json(folder / "sampling.json") if (folder / "sampling.json").is_file() else {})
    if own.get("times"):
        raise InputError(f"{teacher} is a few-step student itself: pass the model that it learned from, and it as --start")
    side = own["size"] if size is None else size
    height, width = (side, side) if isinstance(side, int) else side
    protocol = Protocol(frames or own["frames"], 1, height, "center", width=None if width == height else width)
    items = list_clips(data)
    if captions is not None:
        said = captions_of(items, Path(data), read_captions(captions), captions)
    elif (Path(data) / "factors.json").is_file():
        said = world_captions(items, Path(data))
    else:
        raise InputError(f"no captions for {items[0].name} and the other {len(items) - 1} clips of {data}: pass --captions FILE")
    shape, paths = shapes(folder, protocol.frames, protocol.height_width), needs_paths(wanted)
    steps = steps or int(own["steps"])
    count = (len(items) if records is None else records) if paths else 0
    sharded = sharded or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    frozen = "bf16" if wanted.precision == "bf16" else "fp32"
    plan = numbers(
        shape,
        wanted,
        lora=lora,
        batch=batch,
        clips=len(items),
        captions=len(set(said)),
        protocol=(protocol.frames, height, width),
        records=count,
        steps=steps,
        frozen=frozen,
        checkpointing=checkpointing,
        world=world,
    )
    return Order(
        teacher=teacher,
        folder=folder,
        name=recipe,
        recipe=wanted,
        items=items,
        captions=tuple(said),
        protocol=protocol,
        lora=lora,
        batch=batch,
        steps=steps,
        records=count,
        start=None if start is None else Path(start),
        checkpointing=checkpointing,
        sharded=sharded and world > 1,
        device=device,
        seed=seed,
        world=world,
        shape=shape,
        plan=plan,
    )


def side_lengths(text: str | None) -> int | tuple[int, int] | None:
    """Return a size that was written as ``480x832`` or ``64``: (height, width), or one side.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdigit() for side in sides):
        raise InputError(f"size {text!r} is not of the form HEIGHTxWIDTH, e.g. 480x832, nor one number")
    height, *width = map(int, sides)
    return (height, *width) if width and width[0] != height else height  # type: ignore[return-value]


def value_of(name: str, text: str) -> Any:
    """Return a value of a recipe as TOML has it; a bare word is text.

    Raises:
        InputError: it is no value.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        if not text.replace("_", "").replace("-", "").isalnum():
            raise InputError(f"{name}={text} is no value of a recipe: write a number, true, false, a word or [a, list]") from None
        return text


def rows_of(wanted: Order) -> list[tuple[str, str, str]]:
    """Return the plan as rows: what, how much, how it is counted."""
    p, s, r, m = wanted.plan, wanted.shape, wanted.recipe, len(wanted.recipe.times) - 1
    critic = METHODS[r.method].critic
    height, width = wanted.protocol.height_width
    who = "student and critic" if critic else "student"
    learns = f"LoRA of rank {wanted.lora}, {who}" if wanted.lora else f"full weights, {who}"
    each = f"{wanted.lora} x {s['linear']:,} (in + out of the adapted layers) each" if wanted.lora else f"{s['weights']:,} each"
    held = "2 bytes" if r.precision == "bf16" else "4 bytes"
    total = p["base"] + p["trained"] + p["active"]
    c, t, h, w = s["latent"]
    kind = "checkpointed: l B N d + one block" if wanted.checkpointing else "no checkpointing: l blocks"
    shared = ("; processes share the first" + ("" if wanted.lora else " two")) if wanted.sharded else ", in each process"
    rows = [
        ("teacher", f"{s['weights']:,} weights", f"{wanted.teacher}: {s['layers']} layers of width {s['width']}"),
        ("learns", f"{p['learning']:,.0f} weights", f"{learns}: {each}" + (f"; heads {p['heads']:,.0f}" if p["heads"] else "")),
        ("a clip", f"{s['tokens']:,} tokens", f"{wanted.protocol.frames} x {height} x {width} pixels, {c} x {t} x {h} x {w} latent"),
        ("frozen weights", size_of(p["base"]), f"{held} a weight" + (", one copy for teacher, student and critic" if wanted.lora else "")),
        ("weights that learn", size_of(p["trained"]), "16 bytes a weight: itself, gradient, two moments"),
        ("activations", size_of(p["active"]), f"estimate for {max(1, wanted.batch // wanted.world)} samples a process, {kind}"),
        ("memory", size_of(total), f"sum of the three{shared}"),
    ]
    if p["latents"]:
        counted = f"{len(wanted.items):,} clips x {c * t * h * w:,} values x 2 bytes, cached and in memory"
        rows.append(("latents", size_of(p["latents"]), counted))
        rows.append(("decoded clips", size_of(p["decoded"]), "cached; may be deleted once the latents are there"))
    texts = len(set(wanted.captions))
    rows.append(("captions", f"<= {size_of(p['captions'])}", f"{texts:,} and the empty one; cached without their padding"))
    if p["kept"]:
        counted = f"{wanted.records:,} trajectories x {m} states x {c * t * h * w:,} values x 2 bytes (noise is its seed)"
        rows.append(("trajectories", size_of(p["kept"]), f"{counted}; all {wanted.steps + 1} states would be {size_of(p['whole'])}"))
        counted = f"{wanted.records:,} trajectories x {wanted.steps} steps, two evaluations each where guided"
        rows.append(("teacher's steps", f"{wanted.records * wanted.steps:,}", counted))
    told = f"{p['iterations']:,.0f} iterations" + (f", {p['critic']:,.0f} critic updates ({r.counting} counting)" if critic else "")
    told = f"{told}, each a pass over {m} key times" if r.method == "accvideo" else told
    times = "times " + ", ".join(f"{t:.4g}" for t in r.times)
    return [
        *rows,
        ("student updates", f"{r.updates:,}", f"recipe {wanted.name}, method {r.method}: {told}"),
        ("samples", f"{p['samples']:,.0f}", f"that the student learns from; batches of {wanted.batch}, processes: {wanted.world}"),
        ("student", f"{m} steps", times + (": of the teacher's own the nearest" if p["kept"] else "")),
    ]
