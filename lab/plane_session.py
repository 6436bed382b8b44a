"""Worlds of points that learn while one looks: a teacher in the plane, students of few steps, and what their points are worth.

    teacher -> run 1 -> run 2 ...        a run goes on from the teacher, or from a finished run: student and critic

Each run is an arm of the papers (``papers/dfd.py``, ``papers/accvideo.py``): the same recipes, data, noise and times. A teacher is trained
once a world and seed and kept in the cache; it is smaller than the papers' and has to pass the same gate. The untrained teacher in as few
steps stands beside every run.

Shapes: N points ``[N, 2]``, classes int64 ``[N]``. Shares are in percent.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vidistill.data.plane import WORLDS, Plane
from vidistill.distill import Nets, Recipe, Trainer, cast, changed
from vidistill.distill.mlp import VelocityMLP
from vidistill.distill.nets import Heads, Mlp
from vidistill.distill.trajectory import time_table
from vidistill.errors import Cancelled, InputError, choose
from vidistill.files import cache_home
from vidistill.knobs import Knob, Knobs
from vidistill.lab.few_step_session import RULE, TRAINED
from vidistill.lab.memory import Memory
from vidistill.lab.steps import Step, stream
from vidistill.papers.accvideo import KNOBS as ACCVIDEO
from vidistill.papers.accvideo import arm_of as accvideo_arm
from vidistill.papers.dfd import KNOBS as DFD
from vidistill.papers.dfd import arm_of as dfd_arm
from vidistill.papers.plane import Arm, Ground
from vidistill.rng import stream as noise_stream
from vidistill.rng import stream_seed
from vidistill.types import Progress

PATHS = ("kd", "trajectory", "accvideo")
CHECKPOINTS = ("dmd", "dmd2", "dp-dmd")
BRANCHES = ("dfd", "dfd-unpaired", "dfd-score", "dfd-cfg1", "dmd-cfg1", "dmd-sft")
METHODS = (*PATHS, *CHECKPOINTS, *BRANCHES)
"""The papers' arms: of stored paths, of a critic, and those that go on from a student of a critic."""

GUIDED = ("dfd-cfg1", "dmd-cfg1")
"""Arms that differ from others where the teacher is guided alone."""

KNOBS = Knobs(
    "few_step_plane",
    replace(DFD["world"], default="quadrants", doc="world of points", choices=("quadrants", "ring-8", "grid-25")),
    Knob("method", "dmd", "how the student learns", choices=METHODS, source="the arms of both papers", group="training"),
    Knob(
        "updates", 0, "student updates; 0 is the arm's own: 1500 of paths, 450 of DMD, 150 of a branch, 600 of one without a start",
        low=0, high=2000, step=10, source="papers/dfd.py, papers/accvideo.py", group="training",
    ),
    replace(DFD["p"], step=0.05, doc="share of steps that real data force, or regress to", group="training"),
    replace(DFD["guidance"], name="cfg", doc="guidance of the teacher, in worlds with classes; 1 is off", step=0.5),
    replace(RULE, name="rule"),
    replace(DFD["gan"], step=0.05, doc="weight of the discriminator in DMD2", group="training"),
    replace(DFD["anchor"], step=0.05, doc="weight of DP-DMD's anchor", group="training"),
    Knob(
        "teaching", 0, "steps of the teacher's training; 0 is what this world needs", low=0, high=20_000, step=500,
        source="ours: enough for the gate", group="teacher",
    ),
)  # fmt: skip
TAUGHT = {"quadrants": (6000, 256), "ring-8": (4000, 256), "grid-25": (8000, 512)}
"""Steps of a teacher's training, and points in a batch, that pass the gate."""

TEACHING = 4e-3
"""Its learning rate: twice the papers', for a training of a third of the points."""

GATE = 100 * float(DFD["gate"].default)
"""Percent of a teacher's points that have to lie on a mode."""

POINTS = 1200
"""Points that are judged and drawn."""

PATHS_STORED = 8192
"""Stored paths: 20000 take longer than one wants to wait."""

LOOKS = 16
"""Looks at a student while it learns, besides those at its first few updates."""

FIRST = (1, 2, 4, 8, 16)
"""Those."""

PULSE = 0.1
"""Seconds between two reports of a run that has nothing to show."""

FAR = 110.0
"""Radius, percent of the truth's, above which points are called saturated."""

LEAKED = 5.0
"""Percent of the points of another class than the one they were asked for, above which this is an alarm."""

TRUTH, LONG, STUDENT = "truth", "teacher, 50 steps", "student"
SDE, ODE = "teacher, 4 steps re-noised, untrained", "teacher, 4 Euler steps, untrained"
"""Clouds of points."""

NUMBERS = ("coverage", "precision", "radius", "diversity", "kl")
"""What is followed while a student learns."""

Table = dict[str, Any]


@dataclass(frozen=True)
class Start:
    """What a run may go on from: networks that have learned, and what they learned from."""

    nets: Nets
    stages: int
    ground: tuple[Any, ...]
    seconds: float
    updates: int


@dataclass(frozen=True)
class Look:
    """A world of points, and what a student makes of it so far.

    Attributes:
        name: of the run; "" before the first.
        world: see :class:`vidistill.data.plane.Plane`.
        values, seed: knobs, as used (``updates``, ``teaching`` and ``cfg`` as they came to be).
        labels: class that each point is asked for; None in worlds without.
        sharp: percent of the teacher's points on a mode, in 50 steps and without guidance, which is what the gate asks; None while there
            is no teacher.
        clouds: ``TRUTH``, ``LONG``, ``SDE``, ``ODE``, ``STUDENT`` -> points ``[N, 2]``; those that are known.
        tables: the same -> what they are worth, see :func:`vidistill.measure.modes.mode_table`; shares and ratios in percent.
        updates, total: student updates so far, and in the whole run.
        curve: student updates -> ``NUMBERS``.
        trained, used: the rule that the student learned, and the one it is sampled by here.
        source: name of the run that it goes on from, "" for the teacher.
        seconds: of training, without looking; those of its start included.
        alarms: failure -> what is seen, and what may help.
        start: what another run may go on from; None while it learns.
    """

    name: str
    world: Plane
    values: dict[str, Any]
    seed: int
    labels: Tensor | None
    clouds: dict[str, Tensor]
    tables: dict[str, Table]
    sharp: float | None = None
    updates: int = 0
    total: int = 0
    curve: dict[int, dict[str, float | None]] = field(default_factory=dict)
    trained: str = ""
    used: str = ""
    source: str = ""
    seconds: float = 0.0
    alarms: dict[str, str] = field(default_factory=dict)
    start: Start | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything but points and networks, JSON-ready."""
        plain = {name: value for name, value in vars(self).items() if name not in ("labels", "clouds", "start")}
        return plain | {"world": self.world.name}


def arm_for(k: Mapping[str, Any], guidance: float) -> Arm:
    """Return the paper's arm with one stage: ``k["method"]`` for ``k["updates"]`` student updates."""
    n, name = k["updates"], k["method"]
    if name == "accvideo":
        arm = accvideo_arm(name, ACCVIDEO.resolve(), guidance)
        last = changed(arm.stages[-1], updates=max(1, n // (2 * (len(arm.times) - 1))))  # a pass is two updates at each key time
    else:
        told = DFD.resolve({"updates": n, "branch": n, "path_updates": max(4, n), **{knob: k[knob] for knob in ("p", "gan", "anchor")}})
        arm = dfd_arm(name, told, guidance)
        last = arm.stages[-1]
    return replace(arm, stages=(last,))


def own_updates(method: str, branch: bool) -> int:
    """Return how many student updates the papers' arms have; ``branch``: it goes on from another student."""
    if method in PATHS:
        return int(DFD["path_updates"].default)
    dmd, more = int(DFD["updates"].default), int(DFD["branch"].default)
    return dmd if method in CHECKPOINTS else more if branch else dmd + more


class PlaneSession:
    """Worlds of points whose teachers are trained once and kept in the cache, and students that are trained while one looks.

    Args:
        folder: keeps teachers and paths; default in the cache.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else cache_home() / "plane"
        self._memory = Memory()

    def settle(self, values: Mapping[str, Any], start: Look | None = None) -> dict[str, Any]:
        """Return the knobs as a run uses them: no zeros left, and no guidance where there are no classes.

        Raises:
            InputError: a knob is outside its limits, or the method has nothing of its own in a world without classes.
        """
        k = KNOBS.resolve(values)
        classes = WORLDS[k["world"]]().classes > 1
        if k["method"] in GUIDED and not (classes and k["cfg"] > 1):
            raise InputError(f"{k['method']} leaves guidance out, and nothing is guided here: take world quadrants, and cfg above 1")
        branch = start is not None and start.start is not None
        more = {"updates": k["updates"] or own_updates(k["method"], branch), "teaching": k["teaching"] or TAUGHT[k["world"]][0]}
        return k | more | {"cfg": k["cfg"] if classes else 1.0}

    def opening(self, values: Mapping[str, Any], *, seed: int = 0) -> Look:
        """Return the world with its teacher, where that was trained before; trains nothing."""
        k = self.settle(KNOBS.resolve(values) | {"method": "dmd"}) | {"method": KNOBS.resolve(values)["method"]}
        ground = self._ground(k, seed)
        ground.progress = _refuse
        try:
            ground.teacher  # noqa: B018  read from the cache, or refused
        except Cancelled:
            truth, labels = ground.world.draw(POINTS, noise_stream(seed, "truth"))
            return Look("", ground.world, k, seed, labels if ground.world.classes > 1 else None, {TRUTH: truth}, {})
        return self._known(k, seed, ground)

    def last(self, values: Mapping[str, Any], *, seed: int = 0, start: Look | None = None, name: str = "run 1") -> Look:
        """Return the last look of :meth:`steps`."""
        *_, last = self.steps(values, seed=seed, start=start, name=name)
        return last.result

    def steps(self, values: Mapping[str, Any], *, seed: int = 0, start: Look | None = None, name: str = "run 1") -> Iterator[Step]:
        """Train a student; results are :class:`Look`, at its first updates and every so often, the last one with a ``start``.

        Args:
            values: the knobs.
            seed: of the teacher, its data, and all noise.
            start: a finished run to go on from, its student and critic; default the teacher.
            name: of the run.

        Raises:
            InputError: see :meth:`settle`; ``start`` is not finished or has another teacher; or the training diverged.
        """
        k = self.settle(values, start)
        key = _key(k, seed)
        if start is not None and (start.start is None or start.start.ground != key):
            raise InputError(
                f"{start.name} cannot be gone on from: it has another world, teacher, guidance or seed; start from the teacher"
            )
        began = start.start if start else None
        ground = yield from self._taught(k, seed)
        arm = arm_for(k, ground.guidance)
        yield Step("teacher in 50 steps and in 4", 0, 1)
        look = self._known(k, seed, ground)
        recipe = arm.stages[0]
        look = replace(
            look,
            name=name,
            total=recipe.updates * (2 * (len(arm.times) - 1) if recipe.method == "accvideo" else 1),
            trained=arm.renoise,
            used=arm.renoise if k["rule"] == TRAINED else k["rule"],
            source=start.name if start else "",
        )
        if k["method"] in PATHS:
            yield Step("paths of the teacher, once", 0, 1)
        trainer = self._trainer(ground, arm, began)
        marks, shown = _marks(trainer), time.monotonic()
        before = began.seconds if began else 0.0
        yield Step(k["method"], 0, trainer.iterations, look := self._seen(look, ground, trainer, arm, before))
        for update in trainer.steps():
            done = Step(k["method"], update.iteration, trainer.iterations)
            if update.iteration in marks:
                yield replace(done, result=(look := self._seen(look, ground, trainer, arm, before)))
            elif time.monotonic() - shown > PULSE:
                yield done
            else:
                continue
            shown = time.monotonic()
        whole = Start(
            trainer.nets, (began.stages if began else 0) + 1, key, look.seconds, (began.updates if began else 0) + trainer.updates
        )
        yield Step(k["method"], trainer.iterations, trainer.iterations, replace(look, start=whole))

    def again(self, look: Look, rule: str) -> Iterator[Step]:
        """Sample a finished student by another rule, without training; the result is a :class:`Look`.

        Raises:
            InputError: it is not finished.
        """
        if look.start is None:
            raise InputError("only a finished student can be sampled by another rule: train one first")
        ground = yield from self._taught(look.values, look.seed)
        used = look.trained if choose("rule", rule, RULE.choices) == TRAINED else rule
        student = copy.deepcopy(look.start.nets.student).eval().requires_grad_(False)
        arm = arm_for(look.values, ground.guidance)
        x = ground.sampled(student, arm.times, used)
        found = replace(look, used=used, clouds=look.clouds | {STUDENT: x}, tables=look.tables | {STUDENT: ground.table(x)})
        yield Step(f"sampled by {used}", 1, 1, replace(found, alarms=point_alarms(found)))

    def _ground(self, k: Mapping[str, Any], seed: int) -> Ground:
        paper = {"teacher_steps": k["teaching"], "teacher_lr": TEACHING, "teacher_batch": TAUGHT[k["world"]][1]}
        paper |= {"gate": 0.0, "records": PATHS_STORED}
        return Ground(DFD.resolve({"world": k["world"], "points": POINTS} | paper), seed, self.folder, k["cfg"])

    def _taught(self, k: Mapping[str, Any], seed: int) -> Generator[Step, None, Ground]:
        """Return the ground of a seed with its teacher, trained where it is not in the cache."""
        key = ("ground", *_key(k, seed))
        if (known := self._memory.known(key)) is not None:
            return known
        ground, shown = self._ground(k, seed), 0.0

        def work(progress: Progress) -> VelocityMLP:
            ground.progress = progress
            return ground.teacher

        for step in stream(work):
            if step.result is None and time.monotonic() - shown > PULSE:
                shown = time.monotonic()
                yield Step(f"the teacher of {k['world']}, trained once and kept", step.done, step.total)
        return self._memory.get(key, lambda: ground)

    def _known(self, k: dict[str, Any], seed: int, ground: Ground) -> Look:
        """Return what is known before any training: the truth, the teacher in 50 steps, and untrained in 4."""

        def made() -> tuple[dict[str, Tensor], dict[str, Table], float]:
            few = arm_for(k | {"method": "dmd"}, ground.guidance).times  # as the papers' control
            clouds = {TRUTH: ground.world.draw(POINTS, noise_stream(seed, "truth"), ground.c)[0]}
            for name, times, rule in ((LONG, time_table(50), "ode"), (SDE, few, "sde"), (ODE, few, "ode")):
                clouds[name] = ground.sampled(ground.guided, times, rule)
            tables = {name: ground.table(x) for name, x in clouds.items() if name != TRUTH}
            plain = tables[LONG] if ground.guidance == 1 else ground.table(ground.sampled(ground.teacher, time_table(50), "ode"))
            return clouds, tables, plain["precision"]

        clouds, tables, sharp = self._memory.get(("known", *_key(k, seed)), made)
        look = Look("", ground.world, dict(k), seed, ground.c, dict(clouds), dict(tables), sharp)
        return replace(look, alarms=point_alarms(look))

    def _trainer(self, ground: Ground, arm: Arm, began: Start | None) -> Trainer:
        recipe, teacher = arm.stages[0], ground.teacher
        heads: nn.Module | None = None
        if recipe.method == "accvideo":
            heads = Heads(teacher.width, arm.heads, kind="point")
        elif recipe.gan:
            heads = Mlp(2, 0 if ground.c is None else ground.world.classes)
        if began is None:
            nets = cast(teacher, heads=heads, empty=teacher.empty)
        else:
            own = copy.deepcopy(began.nets)
            nets = cast(teacher, own.student, critic=own.critic, heads=heads, empty=teacher.empty, fresh=True)
        seed = stream_seed(ground.seed, "stage", began.stages if began else 0) % 2**31
        return Trainer(recipe, nets, ground.data(recipe), seed=seed)

    def _seen(self, look: Look, ground: Ground, trainer: Trainer, arm: Arm, before: float) -> Look:
        """Return the look with the student's points as they are now."""
        x = ground.sampled(trainer.student(), arm.times, look.used)
        table = ground.table(x)
        found = replace(
            look,
            clouds=look.clouds | {STUDENT: x},
            tables=look.tables | {STUDENT: table},
            updates=trainer.updates,
            curve=look.curve | {trainer.updates: {name: table[name] for name in NUMBERS}},
            seconds=before + sum(update.seconds for update in trainer.log),
        )
        return replace(found, alarms=point_alarms(found))


def point_alarms(look: Look) -> dict[str, str]:
    """Name the failures that a cloud of points shows: what is seen, and what may help."""
    found: dict[str, str] = {}
    if look.sharp is not None and look.sharp < GATE:
        found["weak teacher"] = (
            f"{look.sharp:.0f} % of the teacher's own points lie on a mode, and the papers' runs ask for {GATE:.0f} %: its students would "
            "be blamed for what it misses. Train it longer, under more knobs."
        )
    table = look.tables.get(STUDENT)
    if table is None:
        return found
    if look.used != look.trained:
        how = {"sde": "puts all noise back anew", "ode": "takes Euler's steps"}
        found["sampled against its training"] = f"It learned for a sampler that {how[look.trained]}, and this one {how[look.used]}."
    held, of = round(table["coverage"] / 100 * len(look.world.means)), len(look.world.means)
    if table["misleads"]:
        found["diversity misleads"] = (
            f"Points are {table['diversity']:.0f} % as far apart as the truth's, and {of - held} of {of} modes are missing. "
            "Pairwise diversity, the papers' measure, calls this more diverse than the truth."
        )
    elif held < of:
        found["modes missing"] = f"{of - held} of {of} modes have less than a fifth of their share."
    if (radius := table["radius"]) is not None and radius > FAR:  # of a guided teacher's student, too
        long = f"; the teacher's {look.tables[LONG]['radius']:.0f} %" if LONG in look.tables else ""
        found["saturated"] = f"Points lie {radius:.0f} % as far out as the truth's{long}. In a clip: colours and contrast too strong."
    if (leaked := table["leakage"]) is not None and leaked > LEAKED:
        found["another class"] = f"{leaked:.0f} % of the points are nearest to a mode of another class than the one asked for."
    control = look.tables[SDE if look.used == "sde" else ODE]
    if look.updates and table["precision"] <= control["precision"] and table["coverage"] <= control["coverage"]:
        found["no better than untrained"] = (
            f"The teacher in as few steps has {control['precision']:.0f} % of its points on a mode and {control['coverage']:.0f} % of the "
            "modes without any training; this student has no more of either."
        )
    return found


def _key(k: Mapping[str, Any], seed: int) -> tuple[Any, ...]:
    """Return what teacher, data and judgement of a run depend on."""
    return k["world"], k["teaching"], k["cfg"], seed


def _marks(trainer: Trainer) -> set[int]:
    """Return the iterations after which a student is looked at: its first updates, and ``LOOKS`` spread over the run."""
    recipe: Recipe = trainer.recipe
    each = trainer.iterations // recipe.updates
    spread = {each * max(1, round(recipe.updates * i / LOOKS)) for i in range(1, LOOKS + 1)}
    return spread | {each * n for n in FIRST if n <= recipe.updates}


def _refuse(stage: str, done: int, total: int) -> None:
    raise Cancelled
