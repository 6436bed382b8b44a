"""Recipes of the few-step students: lab-dit in 4 or 5 steps without guidance, by :mod:`vidistill.distill`.

    name                method      learns from                                          is sampled with
    lab-dit-kd4         KD          stored trajectories of lab-dit, guided               fresh noise after each step
    lab-dit-accvideo5   AccVideo    the same, and a discriminator for each key time      Euler
    lab-dit-dmd4        DMD         the teacher's guided score, the critic's, clips      fresh noise
    lab-dit-dfd4        DFD         the same, real clips at the teacher in half of it    fresh noise
    lab-dit-sft4        DMD, SFT    the same, real clips regressed to in half of it      fresh noise
    lab-dit-trajectory5 AccVideo    as lab-dit-accvideo5, without a discriminator        Euler
    lab-dit-dfd4-cfg1   DFD         as lab-dit-dfd4, the teacher unguided at real clips  fresh noise

Times: every n / m-th of the teacher's own table of n steps, for all of them. What an update computes and its rates are told by
``distill/recipes/NAME.toml``; the loop, its state and the log are :class:`vidistill.distill.Trainer`'s. Here is what it is given: teacher,
prompts, clips, the store of trajectories in the cache (one for all students: it holds the key times of each), what is looked at on the
way, and the folder in the zoo's format.

Shapes: B clips, latents ``[B, 4, 16, 8, 8]``, text ``[B, L, D]``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.data.parse import parse
from vidistill.data.world import Factors, factors, rarefied, render
from vidistill.distill import METHODS, FlowNet, Heads, Nets, Recipe, Trainer, cast, load_recipe, losses
from vidistill.distill.methods import Batch, Data, velocity
from vidistill.distill.trajectory import Source, Trajectories, key_indices, model_source, record_trajectories, stored
from vidistill.errors import Cancelled, InputError, choose
from vidistill.files import cache_home, digest, ensure_folder, load_tensors, save_json
from vidistill.lab.train import export
from vidistill.lab.train.captions import caption
from vidistill.lab.train.latents import FRAMES, SIZE, Bank, train_factors
from vidistill.lab.train.loop import pick
from vidistill.measure import generated as measure
from vidistill.rng import stream
from vidistill.sample import Denoiser, Flow, generate, load_denoiser
from vidistill.types import Progress, silent

KEYS = {"lab-dit-kd4": 4, "lab-dit-accvideo5": 5, "lab-dit-dmd4": 4, "lab-dit-dfd4": 4}
"""Student -> m, its steps."""

CONTROLS = {"lab-dit-trajectory5": 5, "lab-dit-sft4": 4, "lab-dit-dfd4-cfg1": 4}
"""The same for students that are trained to be compared with, and do not ship."""

STUDENTS = KEYS | CONTROLS

TABLE = 20
"""n, steps of the teacher; every m divides it."""

SIZES = {"cpu": {"batch": 8, "records": 512, "clips": 16_384}, "cuda": {"batch": 64, "records": 16_384, "clips": 131_072}}
"""Samples of a loss, trajectories, real clips."""

NOISE_SEED = 10_000_000
"""Seeds of trajectories begin here: the cards' clips have others."""

WATCH_SEED, WATCHED, EVERY = 9, 8, 50
"""World and number of the clips that are looked at on the way, and student updates between two looks."""

BAND = (0.5, 1.5)
"""Where the critic's loss should stay, in units of the teacher's on real clips: far below it the student makes one and the same clip."""

PRIORS = ("uniform", "rare")

HELD = 16_384
"""Prompts whose embeddings are kept."""


class Enough(Cancelled):
    """The time that was asked for is over."""


# -------------------------------------------------------------------------------------------------------------------- data


def rows_of(seed: int, records: Sequence[Factors], prior: str) -> list[int]:
    """Return the places of the clips that a world of this prior has: all of them, or those that leave rare modes."""
    return rarefied(seed, records) if choose("prior", prior, PRIORS) == "rare" else [*range(len(records))]


def prompts_of(seed: int, count: int, prior: str = "uniform") -> list[str]:
    """Return captions of the first training clips, words left out as in training; a student has no use for the empty ones."""
    records = train_factors(seed, 2 * count if prior == "rare" else count)  # at least 3 in 4 are left
    return [caption(records[i], seed, 0, i) or records[i].caption() for i in rows_of(seed, records, prior)[:count]]


def embedder(model: Denoiser) -> Callable[[Sequence[Any]], Tensor]:
    """Return ``prompts -> text``; each prompt is encoded by itself, so that its numbers do not depend on its neighbours."""

    @lru_cache(maxsize=HELD)
    @torch.no_grad()
    def one(prompt: str) -> Tensor:
        return model.encode([prompt])[0]

    return lambda prompts: torch.stack([one(str(prompt)) for prompt in prompts])


def places_of_all(steps: int = TABLE) -> tuple[int, ...]:
    """Return the places in the teacher's table that some student needs."""
    return tuple(sorted({place for m in KEYS.values() for place in key_indices(steps, m)}))


def recorded(
    source: Source, seed: int, records: int, *, prior: str = "uniform", batch: int = 8, progress: Progress = silent
) -> Trajectories:
    """Return the teacher's trajectories for the prompts of a seed, recorded in the cache; what is there is not made again."""
    places = places_of_all(source.steps)
    key = digest({"teacher": source.facts, "table": source.times, "places": places, "prompts": seed} | _told(prior))
    seeds = [NOISE_SEED * (1 + seed) + i for i in range(records)]
    folder = cache_home() / "trajectories" / key
    return record_trajectories(
        source, prompts_of(seed, records, prior), seeds, folder, places=places, dtype="fp16", batch=batch, progress=progress
    )


def paths(store: Trajectories, keys: int, batch: int, conditions: Callable[[Sequence[Any]], Tensor]) -> Data:
    """Return a source of stored paths with the states of one student's key times."""
    draw, keep = stored(store, batch, conditions), [store.places.index(place) for place in key_indices(len(store.table) - 1, keys)]

    def kept(generator: torch.Generator) -> Batch:
        found = draw(generator)
        return Batch(found.x0, found.c, found.path[:, keep])  # type: ignore[index]

    return kept


def _told(prior: str) -> dict[str, str]:
    """Return what a run says of its prior; the uniform one is not said."""
    return {} if prior == "uniform" else {"prior": prior}


def clips(bank: Bank, batch: int, conditions: Callable[[Sequence[Any]], Tensor], prior: str = "uniform") -> Data:
    """Return a source of real clips with captions; words are left out anew each time."""
    places = rows_of(bank.seed, bank.records, prior)

    def draw(generator: torch.Generator) -> Batch:
        rows = [places[i] for i in torch.randint(len(places), (batch,), generator=generator).tolist()]
        turn = int(torch.randint(2**31, (), generator=generator))
        texts = [caption(bank.records[i], bank.seed, turn, i) or bank.records[i].caption() for i in rows]
        return Batch(bank.latents[rows].float().cpu(), conditions(texts))

    return draw


# ----------------------------------------------------------------------------------------------------------------- looking


class Monitor:
    """What is looked at while a student learns: a few clips of its own, and its critic's loss.

    Args:
        model: the teacher; says how clips are encoded and decoded.
        count: clips.
    """

    def __init__(self, name: str, model: Denoiser, count: int = WATCHED) -> None:
        self.name, self.model = name, model
        self.wanted = [factors(WATCH_SEED, i) for i in range(count)]
        self.reference: float | None = None

    @cached_property
    def real(self) -> Tensor:
        """The clips that the prompts belong to, through the autoencoder."""
        codec = self.model.codec
        return codec.decode(codec.encode(render(self.wanted, FRAMES, SIZE)), FRAMES)

    def __call__(self, trainer: Trainer) -> Mapping[str, float]:
        """Return fidelity by factor and of all, drift, contrast and saturation over the real clips', and the critic's loss in its band."""
        net = student_of(trainer, self.model, self.name)
        latents = generate(net, [clip.caption() for clip in self.wanted], seeds=range(len(self.wanted)))
        seen = look(net.codec.decode(latents, FRAMES), self.wanted, self.real)
        critic = [update.losses["critic"] for update in trainer.log[-EVERY:] if "critic" in update.losses]
        if critic:
            if self.reference is None:
                self.reference = critic_reference(trainer)
            ratio = sum(critic) / len(critic) / self.reference
            seen |= {"critic": ratio, "critic in its band": float(BAND[0] <= ratio <= BAND[1])}
        return {name: value for name, value in seen.items() if math.isfinite(value)}


def look(video: Tensor, wanted: Sequence[Any], real: Tensor) -> dict[str, float]:
    """Return what clips, uint8 ``[B, 3, T, H, W]``, are worth; NaN where nothing can be seen."""
    parsed = parse(video)
    seen = {factor: row["mean"] for factor, row in measure.fidelity(parsed.records(), wanted).items()}
    seen["drift"] = float(measure.drift(parsed)["any"].nanmean())
    for name, of in (("contrast", measure.contrast), ("saturation", measure.saturation)):
        seen[name] = float(of(video).mean() / of(real).mean())
    return seen


@torch.no_grad()
def critic_reference(trainer: Trainer) -> float:
    """Return the loss that the teacher would have as a critic of real clips, or of what the run has for them."""
    recipe, draw = trainer.recipe, stream(trainer.seed, "watch", "critic")
    batch = trainer.data(draw).to(trainer.device)
    x0 = batch.x0
    if x0 is None:
        raise InputError("the critic's band needs clean samples, but the data has none")
    u = recipe.score_low + (recipe.score_high - recipe.score_low) * torch.rand(len(x0), generator=draw)
    t, eps = losses.shift(u, recipe.score_shift).to(x0), torch.randn(x0.shape, generator=draw).to(x0)
    x_t = losses.noised(x0, eps, t)
    return float(losses.critic_loss(velocity(trainer.nets.teacher, x_t, t, batch.c), x_t, x0, eps, t, recipe.critic_form))


# ----------------------------------------------------------------------------------------------------------------- student


def student_of(trainer: Trainer, model: Denoiser, name: str) -> Flow:
    """Return the student so far as the sampler sees it; its text encoder and autoencoder are the teacher's."""
    times = trainer.recipe.times[:-1]
    settings = {"frames": model.frames, "size": model.size, "steps": len(times), "guidance": 1.0}
    settings |= {"times": times, "renoise": trainer.recipe.renoise}
    parts = model.parts | {"transformer": trainer.student().transformer}
    return Flow(parts, model.tokenizer, model.scheduler, model.codec, id=name, settings=settings, fingerprint="", device=model.device)


def write(trainer: Trainer, model: Denoiser, name: str, folder: Path) -> None:
    """Write the student as a folder in the zoo's format."""
    net = student_of(trainer, model, name)
    export.pipeline(
        folder,
        "WanPipeline",
        net.parts,
        net.tokenizer,
        net.scheduler,
        steps=net.steps,
        guidance=net.guidance,
        times=net.times,
        renoise=trainer.recipe.renoise,
    )


def networks(recipe: Recipe, model: Denoiser, start: str | Path | None, seed: int) -> tuple[Nets, str | None]:
    """Return the networks of a run, and whose weights the student begins with where they are not the teacher's.

    Args:
        recipe: decides what is needed beside student and teacher.
        model: the teacher.
        start: folder of a student's run, which also gives the critic, or of its model.
        seed: of the discriminator's weights.

    Raises:
        InputError: ``start`` is no such folder, or of another architecture.
    """
    teacher, none = FlowNet(model.parts["transformer"]), model.encode([""])
    config = teacher.transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    heads = Heads(width, len(recipe.times) - 1, seed=seed) if METHODS[recipe.method].heads(recipe) else None
    nets = cast(teacher, heads=heads, empty=lambda c: none.to(c).expand_as(c))
    if start is None:
        return nets, None
    run = Path(start)
    own: Any = nets.student
    origin = export.restore(run / "model" if (run / "model").is_dir() else run, {"transformer": own.transformer})
    if METHODS[recipe.method].critic and (run / "state.safetensors").is_file():
        state, _ = load_tensors(run / "state.safetensors")
        if weights := {key.removeprefix("critic/"): w for key, w in state.items() if key.startswith("critic/")}:
            nets.critic = cast(teacher).student
            nets.critic.load_state_dict(weights)
    return nets, origin


# --------------------------------------------------------------------------------------------------------------------- run


def train(
    name: str,
    out: str | Path,
    *,
    minutes: float = 60.0,
    updates: int | None = None,
    seed: int = 0,
    device: str = "auto",
    teacher: str | Path = "lab-dit",
    start: str | Path | None = None,
    prior: str = "uniform",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a student in ``out``; the same call resumes, and goes on with a finished run that is given more time.

    Args:
        name: of the student, a key of ``STUDENTS``; its recipe is the TOML of that name.
        out: folder; gets ``state.safetensors`` and ``log.json`` (losses, and what :class:`Monitor` saw) from the trainer, ``sheet.png`` and
            ``model/``, with ``training.json``, what is returned.
        minutes: length of the training on the clock, summed over resumes; what is recorded before it does not count. Ignored when
            ``updates`` is given.
        updates: student updates in the whole run; makes it reproducible on one machine.
        seed: names every stream.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        teacher: a flow of the zoo, or its folder.
        start: see :func:`networks`.
        prior: of the clips, or of the prompts of the trajectories: ``"uniform"``, or ``"rare"``, see :func:`vidistill.data.world.rarefied`.
        progress: called while trajectories are recorded or clips encoded, then after each iteration, in tenths of a percent.

    Raises:
        InputError: no such student, several processes, ``out`` holds another run, or the run diverged.
        Cancelled: from ``progress``; the state is saved first, and the model so far is written.
    """
    choose("few-step student", name, STUDENTS)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError(f"{name} is trained by one process: start vidistill train without accelerate launch")
    place, out = pick(device), ensure_folder(out)
    size, model = SIZES[place.type], load_denoiser(teacher, device=place, dtype="fp32")
    source = model_source(model, steps=TABLE)
    times = tuple(source.times[k] for k in key_indices(TABLE, STUDENTS[name]))
    told = {"times": times, "scale": float(model.guidance), "precision": "bf16" if place.type == "cuda" else "fp32"}
    recipe, batch, text = load_recipe(name, **told), size["batch"], embedder(model)
    settings: dict[str, Any] = {"seed": seed, "batch": batch} | _told(choose("prior", prior, PRIORS))
    if METHODS[recipe.method].critic:
        settings |= {"clips": size["clips"]}
        data, said = clips(Bank(seed, size["clips"], device=place, progress=progress), batch, text, prior), "Motion World"
    else:
        settings |= {"records": size["records"]}
        store = recorded(source, seed, size["records"], prior=prior, batch=batch, progress=progress)
        data, said = paths(store, STUDENTS[name], batch, text), f"{len(store):,} trajectories of {model.id}"
    nets, origin = networks(recipe, model, start, seed)
    about = {"teacher": model.fingerprint, "data": settings, "start": origin}
    trainer, monitor = Trainer(recipe, nets, data, seed=seed, device=place, about=about), Monitor(name, model)
    if (out / "state.safetensors").is_file():
        trainer.load(out)
    spent = sum(update.seconds for update in trainer.log)

    def share() -> float:
        return trainer.updates / updates if updates else spent / (60 * minutes) if minutes else 1.0

    def clock(stage: str, done: int, total: int) -> None:
        nonlocal spent
        spent += trainer.log[-1].seconds
        progress(f"train {name}", min(1000, int(1000 * share())), 1000)
        if share() >= 1:
            raise Enough

    def finish(seen: Mapping[str, float]) -> dict[str, Any]:
        write(trainer, model, name, out / "model")
        kind = torch.cuda.get_device_name() if place.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        samples = trainer.updates * batch  # that the student learned from
        record = {
            "name": name,
            "method": recipe.method,
            "teacher": model.id,
            "steps": trainer.updates,
            "iterations": trainer.iteration,
            "samples": samples,
            "samples_per_second": round(samples / max(spent, 1e-9), 1),
            "wall_minutes": round(spent / 60, 1),
            "on": kind,
            "data": said,
            "seed": seed,
            "start": origin,
            "settings": settings,
            "seen": dict(seen),
        }
        save_json(out / "model" / "training.json", record)
        return record

    if share() < 1:
        try:
            trainer.run(out, progress=clock, watch=monitor, every=EVERY)
        except Enough:
            pass
        except Cancelled:
            finish({})
            raise
    record = finish(monitor(trainer))
    export.sheet(nets.student, out / "sheet.png")
    progress(f"train {name}", 1000, 1000)
    return record


kd4, accvideo5, dmd4, dfd4, trajectory5, sft4, dfd4_cfg1 = (partial(train, name) for name in STUDENTS)
"""The recipe of each student, for the command line."""
