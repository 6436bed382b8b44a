"""Teacher trajectories, of which only the key points are kept: what AccVideo's student learns from (arXiv 2503.19462).

    l_{j-1} = l_j + (t_{j-1} - t_j) v(l_j, t_j, c)        Eq. 5: the teacher's Euler steps, t_n = 1 > ... > t_0 = 0
    t_j     = sh_s(j / n),   sh_s(u) = s u / (1 + (s - 1) u)                the n-step table of a shift s
    t'_m = 1 > ... > t'_0 = 0                             key times: m + 1 of the n + 1, so no state is ever interpolated

    symbol   here
    n, m     steps of the teacher, steps of the student
    t'_k     ``times[m - k]``: in the order of sampling, from noise to data
    l_{t'_k} ``states[:, m - k]``

A record is its prompt, its seed and the m states below noise; ``l_{t'_m}`` is noise, made again from the seed. Shards are written
atomically, each as soon as its last record is made: an interrupted recording goes on with the first shard that is missing.

For HunyuanVideo (s = 7, n = 50, m = 5) the key times are {1, 28/29, 21/23, 14/17, 7/11, 0}. A diffusers scheduler spaces its table a little
otherwise (it ends at ``sigma_min`` and then jumps to 0, and a table of 5 steps is not every tenth time of one of 50): the key times are
those of the teacher's own table, and a student has to be sampled at exactly these.

Shapes: B records, ``states`` ``[B, m + 1, *shape]``, shape ``(C, T, H, W)`` for latents, ``(2,)`` in the plane.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vidistill.codec import DTYPES
from vidistill.distill.losses import euler
from vidistill.distill.methods import Batch, Data
from vidistill.errors import InputError, choose
from vidistill.files import digest, ensure_folder, load_json, load_tensors, save_json, save_tensors
from vidistill.guide import Switch, Way
from vidistill.rng import normal
from vidistill.sample import Denoiser, fits, sample
from vidistill.sample.sampler import combiner
from vidistill.sample.tape import facts_of
from vidistill.types import Progress, silent

FORMAT = "vidistill-trajectories-1"

SHARD = 64
"""Records in a file: what an interruption can cost."""

RESIDENT = 256 * 2**20
"""Stores up to this many bytes are kept in memory after the first read."""

Prompt: TypeAlias = str | int
"""What a record was made for: a text, or the number of a class."""

Owners: TypeAlias = tuple[tuple[Prompt, ...], tuple[int, ...]]
"""Prompts and seeds of a shard's records."""

Velocity: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``v(x, t, c)``: states ``[B, *shape]``, time ``[B]`` in [0, 1], class int64 ``[B]`` -> velocity ``eps - x_0``, as ``x``."""


# ------------------------------------------------------------------------------------------------------------------- times


def time_table(steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """Return the n + 1 times of an Euler sampler of n steps, ``sh_s(j / n)`` for j = n .. 0, each rounded once.

    Raises:
        InputError: ``steps`` < 1 or ``shift`` <= 0.
    """
    if steps < 1 or not shift > 0:
        raise InputError(f"no time table of {steps} steps with shift {shift:g}: it needs at least one step and a shift above 0")
    return tuple(shift * j / (steps + (shift - 1) * j) for j in range(steps, -1, -1))


def key_indices(steps: int, keys: int) -> tuple[int, ...]:
    """Return the places of m + 1 evenly spread key times in a table of n steps, ``(0, n / m, ..., n)``.

    Args:
        steps: n, of the teacher.
        keys: m, of the student.

    Raises:
        InputError: m does not divide n: the student's times would not be the teacher's.
    """
    if keys < 1 or steps < 1 or steps % keys:
        fit = [m for m in range(1, min(steps, 64) + 1) if steps % m == 0]
        raise InputError(f"{keys} key intervals do not divide a table of {steps} steps: choose one of {', '.join(map(str, fit))}")
    return tuple(range(0, steps + 1, steps // keys))


def check_keys(indices: Sequence[int], steps: int) -> tuple[int, ...]:
    """Return key indices that rise from 0 (noise) to n (data).

    Raises:
        InputError: they do not.
    """
    places = tuple(int(place) for place in indices)
    told = ", ".join(map(str, places))
    if len(places) < 2 or any(later <= earlier for earlier, later in pairwise(places)):
        raise InputError(f"key times not increasing: places {told} of a table of {steps} steps; each must be larger than the one before")
    if places[0] != 0 or places[-1] != steps:
        raise InputError(f"key times {told} must begin at 0 (noise) and end at {steps} (data), the ends of a table of {steps} steps")
    return places


def places_of(times: Sequence[float], table: Sequence[float]) -> tuple[int, ...]:
    """Return where key times lie in a table, so that no state has to be interpolated.

    Args:
        times: ``t'_m .. t'_0``, from noise to data.
        table: the teacher's n + 1 times.

    Raises:
        InputError: they do not fall, or one is not in the table; the line names the nearest.
    """
    if any(later >= earlier for earlier, later in pairwise(times)):
        raise InputError(f"key times not increasing in sampling order: {_told(times)}; they must fall from 1 (noise) to 0 (data)")
    places = [min(range(len(table)), key=lambda place: abs(table[place] - t)) for t in times]
    for t, place in zip(times, places, strict=True):
        if not math.isclose(table[place], t, rel_tol=1e-6, abs_tol=1e-9):
            raise InputError(f"key time {t:g} is not in the teacher's table of {len(table) - 1} steps: the nearest is {table[place]:.6g}")
    return check_keys(places, len(table) - 1)


def _told(times: Sequence[float]) -> str:
    return ", ".join(f"{t:.6g}" for t in times)


# ------------------------------------------------------------------------------------------------------------------ source


def euler_states(velocity: Velocity, x: Tensor, times: Sequence[float], c: Tensor) -> Iterator[Tensor]:
    """Yield the state after each Euler step (Eq. 5; a student's are the same on its key times); deterministic, and gradients pass.

    Args:
        velocity: see ``Velocity``.
        x: state at ``times[0]``, ``[B, *shape]``.
        times: from noise to data.
        c: class of each, int64 ``[B]``.
    """
    for now, after in pairwise(times):
        x = euler(x, velocity(x, torch.full((len(x),), now, dtype=x.dtype, device=x.device), c), now, after)
        yield x


@dataclass(frozen=True)
class Source:
    """Where trajectories come from.

    Attributes:
        id: its name.
        times: the n + 1 times of its table, from noise to data.
        shape: of a state.
        facts: everything else that its states depend on, JSON-ready.
        run: prompts and seeds -> the states after steps 1 .. n, ``[B, *shape]`` each.
        guard: of a batch of so many records: what turns a full GPU into one line.
    """

    id: str
    times: tuple[float, ...]
    shape: tuple[int, ...]
    facts: dict[str, Any]
    run: Callable[[Sequence[Any], Sequence[int]], Iterator[Tensor]]
    guard: Callable[[int], Any] = lambda batch: nullcontext()

    @property
    def steps(self) -> int:
        """n."""
        return len(self.times) - 1


def model_source(model: Denoiser, *, steps: int | None = None, guidance: float | Way | Switch | None = None, negative: str = "") -> Source:
    """Return a model of the flow family as a teacher, sampled by :func:`vidistill.sample.sample`.

    Args:
        model: see :func:`vidistill.sample.load_denoiser`.
        steps: n; default the model's.
        guidance, negative: as the sampler's.

    Raises:
        InputError: the model is no flow: a DDIM sampler's states do not lie on straight Euler steps.
    """
    if model.family != "flow":
        raise InputError(f"{model.id} is of the {model.family} family: trajectories need a flow (a folder or hub id of a WanPipeline)")
    steps, way = model.steps if steps is None else steps, combiner(model, guidance)
    if steps < 1:
        raise InputError(f"cannot record trajectories of {steps} steps: steps must be 1 or more")
    grid = model.grid(steps)
    times = (*(float(now.sigma) for now, _ in grid), float(grid[-1][1].sigma))

    def run(prompts: Sequence[str], seeds: Sequence[int]) -> Iterator[Tensor]:
        for step in sample(model, prompts, seeds=seeds, steps=steps, guidance=way, negative=negative):
            yield step.latents

    facts = {"model": model.fingerprint, "guidance": facts_of(way), "negative": negative, "dtype": str(model.dtype)}
    return Source(model.id, times, tuple(model.shape), facts, run, lambda batch: fits(model, batch))


def field_source(velocity: Velocity, times: Sequence[float], shape: Sequence[int], *, id: str, facts: dict[str, Any]) -> Source:
    """Return a velocity field as a teacher, sampled by :func:`euler_states`; prompts are numbers of classes.

    Args:
        velocity: see ``Velocity``.
        times: its table, see :func:`time_table`.
        shape: of a state, e.g. ``(2,)``.
        id: its name.
        facts: what the field is made of (world, seed, training steps), JSON-ready: other facts are another store.
    """

    @torch.no_grad()
    def run(prompts: Sequence[int], seeds: Sequence[int]) -> Iterator[Tensor]:
        yield from euler_states(velocity, normal(seeds, "init", tuple(shape)), times, torch.tensor(list(prompts), dtype=torch.int64))

    return Source(id, tuple(map(float, times)), tuple(shape), facts, run)


# ------------------------------------------------------------------------------------------------------------------- store


@dataclass(frozen=True)
class Points:
    """Records of a store.

    Attributes:
        states: float32 ``[b, m + 1, *shape]``, from noise to data: ``states[:, j]`` lies at ``times[j]``.
        prompts, seeds: of each record.
    """

    states: Tensor
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]


class Trajectories:
    """A finished store on disk; made by :func:`record_trajectories`, found again by :func:`open_trajectories`.

    Attributes:
        folder: where the shards lie.
        times: the m + 1 key times, from noise to data.
        places: theirs in the teacher's table.
        table: that table, n + 1 times.
        shape: of a state.
        dtype: what states are kept in.
        key: digest of everything that they depend on, prompts and seeds excepted.
        teacher: its name.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], records: int) -> None:
        self.folder, self.recipe, self._records = folder, recipe, records
        self.table, self.places = tuple(recipe["table"]), tuple(recipe["places"])
        self.times = tuple(self.table[place] for place in self.places)
        self.shape, self.dtype, self.teacher = tuple(recipe["shape"]), recipe["dtype"], recipe["teacher"]
        self.key = digest(recipe)

    def __len__(self) -> int:
        return self._records

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """Of all records, in order."""
        return tuple(prompt for prompts, _ in self._owners for prompt in prompts)[: len(self)]

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Of all records, in order."""
        return tuple(seed for _, seeds in self._owners for seed in seeds)[: len(self)]

    def batch(self, index: Tensor | Sequence[int]) -> Points:
        """Return the records at ``index`` (int64 ``[b]``, any order, repeats allowed); their noise is made again from their seeds."""
        rows = [int(i) for i in index]
        if bad := [i for i in rows if not -len(self) <= i < len(self)]:
            raise IndexError(f"record {bad[0]} of {len(self)}")
        rows = [i % len(self) for i in rows]
        seeds = tuple(self.seeds[row] for row in rows)
        if len(self) * sizes(self.shape, len(self.times) - 1, dtype=self.dtype)["kept"] <= RESIDENT:
            index = torch.tensor(rows, dtype=torch.int64)
            noise, kept = self._noise[index], self._kept[index].float()
        else:
            noise, kept = self._drawn(seeds), self._read(rows)
        return Points(torch.cat([noise, kept], 1), tuple(self.prompts[row] for row in rows), seeds)

    def batches(self, size: int) -> Iterator[Points]:
        """Yield all records in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))

    @property
    def bytes(self) -> int:
        """What the shards take on disk."""
        return sum(_shard(self.folder, number).stat().st_size for number in range(_parts(len(self), self.recipe["shard"])))

    @cached_property
    def _owners(self) -> list[Owners]:
        found = [_owners(self.folder, number, self.key) for number in range(_parts(len(self), self.recipe["shard"]))]
        if None in found:
            raise InputError(f"shard {found.index(None)} of the trajectories in {self.folder} is gone or damaged: record them again")
        return [owners for owners in found if owners is not None]

    def _drawn(self, seeds: Sequence[int]) -> Tensor:
        return normal(seeds, "init", self.shape)[:, None] if seeds else torch.empty((0, 1, *self.shape))

    def _read(self, rows: Sequence[int]) -> Tensor:
        kept = torch.empty((len(rows), len(self.times) - 1, *self.shape))
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row // self.recipe["shard"], []).append(place)
        for number, here in places.items():
            with _open(self.folder, number) as file:  # mapped only while its records are copied
                states = file.get_slice("states")
                for place in here:
                    row = rows[place] % self.recipe["shard"]
                    kept[place] = states[row : row + 1][0].float()
        return kept

    @cached_property
    def _noise(self) -> Tensor:
        return self._drawn(self.seeds)

    @cached_property
    def _kept(self) -> Tensor:
        parts = [load_tensors(_shard(self.folder, number))[0]["states"] for number in range(_parts(len(self), self.recipe["shard"]))]
        return torch.cat(parts)[: len(self)]


def record_trajectories(
    source: Source,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    folder: str | Path,
    *,
    places: Sequence[int] | int = 5,
    dtype: str = "bf16",
    batch: int = 8,
    shard: int = SHARD,
    progress: Progress = silent,
) -> Trajectories:
    """Run the teacher from each seed's noise and keep the key states; shards that are there already are not made again.

    A longer list that begins with the recorded one goes on where that ended. Of several processes (``RANK``, ``WORLD_SIZE``) each makes its
    share and the last one finds the whole; :func:`open_trajectories` says what is missing until then.

    Args:
        source: see :func:`model_source`, :func:`field_source`.
        prompts, seeds: one of each a record.
        folder: gets ``manifest.json`` and ``shard-00000.safetensors``, ...
        places: of the key times in the teacher's table, or m for evenly spread ones.
        dtype: ``"bf16"``, ``"fp16"`` or ``"fp32"``, of the states on disk.
        batch: records at once.
        shard: records a file.
        progress: called after each step, in steps of all records; its first call says what was there.

    Raises:
        InputError: a number is out of range, the folder holds other trajectories, or a state is not finite in ``dtype``.
    """
    choose("dtype", dtype, DTYPES)
    if not prompts or len(prompts) != len(seeds):
        raise InputError(f"one prompt and one seed a record are needed: {len(prompts)} prompts, {len(seeds)} seeds")
    if batch < 1 or shard < 1:
        raise InputError(f"cannot record with batch={batch}, shard={shard}: both must be 1 or more")
    keys = key_indices(source.steps, places) if isinstance(places, int) else check_keys(places, source.steps)
    recipe = {
        "teacher": source.id,
        "facts": source.facts,
        "table": list(source.times),
        "places": list(keys),
        "shape": list(source.shape),
        "dtype": dtype,
        "shard": shard,
    }
    folder, key = ensure_folder(folder), digest(recipe)
    owners: list[Owners] = [(tuple(prompts[i : i + shard]), tuple(map(int, seeds[i : i + shard]))) for i in range(0, len(prompts), shard)]
    there = _check_same(folder, recipe, owners)
    save_json(folder / "manifest.json", {"format": FORMAT, "recipe": recipe, "records": max(len(prompts), there)})

    missing = [number for number, own in enumerate(owners) if not _holds(folder, number, own, key)]
    stage, n, total = f"trajectories of {source.id}", source.steps, len(prompts) * source.steps
    done = total - sum(len(owners[number][1]) for number in missing) * n
    progress(stage, done, total)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for number in sorted(set(missing) & set(range(rank, len(owners), world))):
        own, whole = owners[number], []
        for start in range(0, len(own[1]), batch):
            some, theirs = own[0][start : start + batch], own[1][start : start + batch]
            kept = []
            with source.guard(len(theirs)):
                for step, x in enumerate(source.run(some, theirs), 1):
                    if step in keys:
                        kept.append(x.detach().to("cpu", DTYPES[dtype]))
                    progress(stage, done + len(theirs) * step, total)
            whole.append(torch.stack(kept, 1))
            done += len(theirs) * n
        states = torch.cat(whole)
        if not bool(states.isfinite().all()):
            seed = own[1][int((~states.isfinite()).flatten(1).any(1).int().argmax())]
            raise InputError(f"{source.id}: the trajectory of seed {seed} has states that are not finite in {dtype}; try bf16 or fp32")
        about = {"recipe": key, "prompts": own[0], "seeds": own[1]}
        save_tensors(_shard(folder, number), {"states": states}, {"record": json.dumps(about)})  # one entry: equal stores, equal bytes
    if world > 1 and not all(_holds(folder, number, own, key) for number, own in enumerate(owners)):
        return Trajectories(folder, recipe, len(prompts))  # the others are still at work
    return open_trajectories(folder, len(prompts))


def open_trajectories(folder: str | Path, records: int | None = None) -> Trajectories:
    """Open a finished store.

    Args:
        folder: of :func:`record_trajectories`.
        records: how many of its first ones; default all.

    Raises:
        InputError: it is no store, is of another version, or was cut short: the line says how many records remain.
    """
    folder = Path(folder)
    about = _manifest(folder)
    recipe, total = about["recipe"], about["records"] if records is None else records
    if not 0 < total <= about["records"]:
        raise InputError(f"{folder} holds {about['records']} trajectories; cannot open the first {total}")
    size = recipe["shard"]
    rows = [min(size, total - start) for start in range(0, total, size)]
    have = [min(len(own[1]), row) if (own := _owners(folder, number, digest(recipe))) else 0 for number, row in enumerate(rows)]
    if remain := total - sum(have):
        first = next(number for number, (got, row) in enumerate(zip(have, rows, strict=True)) if got < row)
        raise InputError(
            f"the trajectories in {folder} were cut short: {remain} of {total} records remain, from {_shard(folder, first).name} on; "
            "record them again with the same arguments, only these are made"
        )
    return Trajectories(folder, recipe, total)


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{folder} holds no trajectories: there is no manifest.json in it; record_trajectories writes one")
    about = load_json(folder / "manifest.json")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{folder} holds no trajectories of this version ({FORMAT}); choose another folder")
    return about


def _check_same(folder: Path, recipe: dict[str, Any], owners: Sequence[Owners]) -> int:
    """Refuse a folder with trajectories of another recipe, prompts or seeds; return how many records it was to hold."""
    if not (folder / "manifest.json").is_file():
        return 0
    about = _manifest(folder)
    if other := [name for name, value in recipe.items() if digest(about["recipe"].get(name)) != digest(value)]:
        raise InputError(f"{folder} holds other trajectories ({', '.join(other)} differ): choose another folder, or delete it")
    for number, own in enumerate(owners):
        if (found := _owners(folder, number, digest(recipe))) is None:
            continue
        both = min(len(own[1]), len(found[1]))
        if any(old[:both] != new[:both] for old, new in zip(found, own, strict=True)):
            raise InputError(
                f"{folder} holds trajectories of other prompts or seeds in shard {number}: choose another folder, or delete it"
            )
    return int(about["records"])


def _holds(folder: Path, number: int, own: Owners, key: str) -> bool:
    found = _owners(folder, number, key)
    return found is not None and len(found[1]) >= len(own[1])


def _owners(folder: Path, number: int, key: str) -> Owners | None:
    """Return prompts and seeds of a shard of this recipe that is whole, else None."""
    from safetensors import SafetensorError

    try:
        with _open(folder, number) as file:
            about = json.loads(file.metadata()["record"])
            return (tuple(about["prompts"]), tuple(about["seeds"])) if about["recipe"] == key else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _open(folder: Path, number: int) -> Any:
    from safetensors import safe_open

    return safe_open(str(_shard(folder, number)), framework="pt")


def _parts(records: int, shard: int) -> int:
    return -(-records // shard)


def stored(store: Trajectories, batch: int, conditions: Callable[[Sequence[Prompt]], Any] | None = None) -> Data:
    """Return a source of a run that draws records of a store, with replacement; ``x0`` are the clean states.

    Args:
        store: its ``times`` are the recipe's.
        batch: B.
        conditions: prompts -> what the networks take, such as a model's ``encode``; default: they are numbers of classes, int64 ``[B]``.

    Raises:
        InputError: ``batch`` < 1, or prompts are texts and nothing says what they mean.
    """
    if batch < 1:
        raise InputError(f"a source of stored trajectories needs batch >= 1, got {batch}")
    if conditions is None and any(isinstance(prompt, str) for prompt in store.prompts):
        raise InputError(f"the trajectories in {store.folder} have texts for prompts: pass conditions, such as the model's encode")
    known = (lambda prompts: torch.tensor(list(prompts), dtype=torch.int64)) if conditions is None else conditions

    def draw(generator: torch.Generator) -> Batch:
        found = store.batch(torch.randint(len(store), (batch,), generator=generator))
        return Batch(found.states[:, -1], known(found.prompts), found.states)

    return draw


# ------------------------------------------------------------------------------------------------------------------- sizes


def sizes(shape: Sequence[int], keys: int, *, steps: int = 50, dtype: str = "bf16") -> dict[str, int]:
    """Return what a record takes, in bytes; times the number of records it is the store's size, but for prompts and seeds.

    Args:
        shape: of a state.
        keys: m.
        steps: n.
        dtype: of the states.

    Returns:
        ``values`` of a state (a count); bytes of one ``state``, of the ``whole`` trajectory (n + 1 states), of its ``keys`` (m + 1), and
        of what is ``kept`` here: m states.
    """
    values = math.prod(shape)
    state = values * DTYPES[choose("dtype", dtype, DTYPES)].itemsize
    return {"values": values, "state": state, "whole": (steps + 1) * state, "keys": (keys + 1) * state, "kept": keys * state}
