"""What both papers of few steps need in the plane beside their methods: a teacher that passes, students that resume, points, a table.

    teacher -> stage -> stage -> student -> points       a stage goes on from the networks of the one before: student and critic

Not a paper. A seed is one teacher, and from it come all arms: the same data, noise and times in training, the same noise when judged.

Legend: N points, D dimensions; percentages are of all points, of all modes, or of what the truth has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill import __version__
from vidistill.data.plane import WORLDS, Plane
from vidistill.distill import Recipe, Trainer, cast, generate, in_memory
from vidistill.distill.methods import Data, Net, guided_velocity
from vidistill.distill.mlp import VelocityMLP, points, teacher
from vidistill.distill.nets import Heads, Mlp
from vidistill.distill.trajectory import field_source, places_of, record_trajectories, time_table
from vidistill.errors import InputError
from vidistill.files import digest, load_tensors, save_tensors
from vidistill.knobs import Knob
from vidistill.measure.modes import misleads, mode_table
from vidistill.rng import stream, stream_seed
from vidistill.types import Progress, silent

SPACES = ("grid-25", "ring-8", "quadrants", "motion-world")  # the last one has clips, not points: see ``motion.py``
KNOBS = (
    Knob("world", "grid-25", "what is learned", choices=SPACES, source="specs: rungs B1, B2, C1", group="data"),
    Knob("teacher_steps", 8000, "steps of a teacher's training", low=1, high=10**6, source="ours", group="teacher"),
    Knob("teacher_lr", 2e-3, "its learning rate, a cosine", low=0, high=1, open_low=True, source="ours", group="teacher"),
    Knob("teacher_batch", 1024, "points in its batch", low=1, high=10**5, source="ours", group="teacher"),
    Knob("gate", 0.93, "precision that a teacher must have", low=0, high=1, step=0.01, source="ours: .95 is usual", group="teacher"),
    Knob("records", 20000, "stored trajectories", low=1, high=10**6, source="ours", group="training"),
    Knob("path_steps", 48, "their Euler steps, a multiple of the student's 4", low=4, high=1000, step=4, source="ours", group="training"),
    Knob("path_updates", 1500, "updates of students of stored paths", low=4, high=10**6, step=4, source="ours", group="training"),
    Knob("batch", 512, "points in a student's batch", low=1, high=10**5, source="ours", group="training"),
    Knob("points", 8000, "points that an arm is judged by", low=10, high=10**6, source="ours: 320 a mode of 25", group="measure"),
    Knob("seeds", 5, "teachers, each with all arms", low=1, high=100, source="ours: effects need 3 to 8", group="controls"),
)
PERCENT = ("coverage", "precision", "radius", "within", "diversity", "leakage")
NUMBERS = (*PERCENT[1:], "kl", "sliced_w2", "training", "sampling")
"""What is told of an arm beside its coverage, each with its interval over seeds; ``updates`` and ``evaluations`` are counts."""


@dataclass(frozen=True)
class Arm:
    """How an arm's points come about: its trainings, none for the teacher itself, then a sampler; ``heads`` are AccVideo's."""

    stages: tuple[Recipe, ...]
    times: tuple[float, ...]
    renoise: str = "sde"
    heads: int = 1


def ground_of(k: Mapping[str, Any], guidance: float) -> list[Any]:
    """Return what a seed's teacher, data and judgement depend on, the teacher's share first, JSON-ready."""
    names = ("world", "teacher_steps", "teacher_lr", "teacher_batch", "records", "path_steps", "batch", "points", "gate")
    return [__version__, *(k[name] for name in names), guidance]


@dataclass
class Ground:
    """One seed: its world, its teacher, and what all its arms share; ``folder`` keeps all that was trained, so that a run resumes."""

    k: Mapping[str, Any]
    seed: int
    folder: Path
    guidance: float = 1.0  # of the teacher where it is sampled or its paths are stored, standard scale
    progress: Progress = silent  # of what is training now

    @cached_property
    def world(self) -> Plane:
        return WORLDS[self.k["world"]]()

    @cached_property
    def c(self) -> Tensor | None:
        """Classes that points are asked for, each equally often; None where there is one."""
        return torch.arange(self.k["points"]) % self.world.classes if self.world.classes > 1 else None

    @cached_property
    def teacher(self) -> VelocityMLP:
        """The seed's teacher, let through the gate by its 50 Euler steps without guidance; raises InputError where it does not pass."""
        k, path = self.k, self.folder / "teachers" / f"{digest([ground_of(self.k, 1)[:5], self.seed])}.safetensors"
        if not path.exists():
            how = {name: k[f"teacher_{name}"] for name in ("steps", "lr", "batch")}
            save_tensors(path, teacher(self.world, seed=self.seed, progress=self.progress, **how).state_dict())
        net = VelocityMLP(self.world.dim, 0 if self.c is None else self.world.classes).eval().requires_grad_(False)
        net.load_state_dict(load_tensors(path)[0])
        found = self.table(self.sampled(net, time_table(50), "ode"))["precision"] / 100
        if found < k["gate"]:
            raise InputError(
                f"the teacher of seed {self.seed} has a precision of {found:.3f} on {k['world']}, below gate={k['gate']:g}: its students "
                f"would be blamed for what it misses; train it longer (teacher_steps={k['teacher_steps']})"
            )
        return net

    def sampled(self, net: Net, times: tuple[float, ...], renoise: str) -> Tensor:
        """Return the points ``[N, D]`` of a sampler; all arms begin with the same noise and put the same noise back."""
        noise = torch.randn(self.k["points"], self.world.dim, generator=stream(self.seed, "points"))
        return generate(net, noise, times, self.c, renoise=renoise, seed=self.seed)

    def table(self, x: Tensor) -> dict[str, Any]:
        """Return what points are worth, see :mod:`vidistill.measure.modes`; shares and ratios in percent."""
        truth, labels = self.world.draw(self.k["points"], stream(self.seed, "truth"))
        found = mode_table(x, truth, self.world, self.c, None if self.c is None else labels)
        shown = {key: value * 100 if key in PERCENT and value is not None else value for key, value in found.items()}
        return {"leakage": None} | shown | {"misleads": misleads(found), "clips": len(x)}

    def guided(self, x: Tensor, t: Tensor, c: Tensor | None) -> Tensor:
        """Return the teacher's velocity under guidance."""
        return guided_velocity(self.teacher, x, t, c, self.teacher.empty, self.guidance)

    def data(self, recipe: Recipe) -> Data:
        """Return what a method learns from: fresh points of the world, or the teacher's stored paths."""
        k, n = self.k, self.k["records"]
        if recipe.method not in ("kd", "trajectory", "accvideo"):
            return points(self.world, k["batch"], pairs=not recipe.paired)
        table, classes = time_table(k["path_steps"]), [i % self.world.classes for i in range(n)]
        seeds, facts = [stream_seed(self.seed, "path", i) % 2**31 for i in range(n)], [ground_of(k, self.guidance), self.seed]
        source = field_source(self.guided, table, (self.world.dim,), id=k["world"], facts={"ground": facts})
        folder, places = self.folder / "paths" / digest(facts), places_of(recipe.times, table)
        store = record_trajectories(source, classes, seeds, folder, places=places, dtype="fp32", batch=4096, shard=4096)
        return in_memory(k["batch"], path=store.batch(range(n)).states, c=None if self.c is None else torch.tensor(classes))

    def judged(self, arm: Arm, progress: Progress) -> dict[str, Any]:
        """Train an arm's student stage by stage, sample it, and return its table with what it took; a finished stage is read."""
        self.progress = progress
        nets, updates, seconds, many = cast(self.teacher, empty=self.teacher.empty), 0, 0.0, 0 if self.c is None else self.world.classes
        for number, recipe in enumerate(arm.stages):
            done, heads = [stage.as_dict() for stage in arm.stages[:number]], arm.heads if recipe.method == "accvideo" else 0
            about: dict[str, Any] = {"ground": ground_of(self.k, self.guidance), "before": done, "heads": heads}
            judge = Heads(self.teacher.width, arm.heads, kind="point") if heads else Mlp(2, many) if recipe.gan else None
            nets = cast(self.teacher, nets.student, critic=nets.critic, heads=judge, empty=nets.empty, fresh=True)
            trainer = Trainer(recipe, nets, self.data(recipe), seed=stream_seed(self.seed, "stage", number) % 2**31, about=about)
            trainer.run(self.folder / "students" / digest([recipe.as_dict(), self.seed, about]), progress=progress)
            updates, seconds = updates + trainer.updates, seconds + sum(update.seconds for update in trainer.log)
        begin, asked = time.perf_counter(), (len(arm.times) - 1) * (1 if arm.stages or self.guidance == 1 else 2)
        x = self.sampled(nets.student if arm.stages else self.guided, arm.times, arm.renoise)
        took = {"sampling": time.perf_counter() - begin, "training": seconds}
        return self.table(x) | took | {"updates": updates, "evaluations": asked}
