"""What a distillation is told: one frozen record, read from TOML, with every name and range checked; and how its updates are counted.

The recipes that ship (``recipes/*.toml``) are the papers' settings and those of the worlds in the plane; a file says where each comes from.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidistill.distill.losses import FORMS, PREDICTIONS, RENOISE
from vidistill.errors import InputError, choose, nearest

INPUTS = ("data_latent", "simulate")
COUNTINGS = ("dmd2", "fastgen")
DECAYS = ("constant", "cosine")
PRECISIONS = ("fp32", "bf16")
RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes, except its networks, its data and its seed.

    Attributes:
        method: a name of :data:`vidistill.distill.methods.METHODS`.
        times: the student's times, falling from noise to 0; its steps are one fewer.
        updates: student updates; for ``accvideo`` passes over the key times, each with one or two student updates a key time.
        lr, critic_lr, heads_lr: AdamW's rates of student, critic (fake score) and discriminator heads.
        betas, weight_decay: AdamW's.
        decay: of all rates, ``"constant"`` or ``"cosine"`` (to 0 at the end of the run).
        clip: largest gradient norm of a network, 0 is no limit.
        ema: of the student's weights; 0 is off.
        precision: ``"fp32"``, or ``"bf16"`` for autocast; weights and losses stay float32.
        student_update_freq: iterations from one student update to the next, in methods with a critic.
        counting: ``"dmd2"``: the critic learns in every iteration, the student too in every ``student_update_freq``-th (5 critic updates
            a student update); ``"fastgen"``: either the one or the other (4 a student update).
        student_input: ``"data_latent"``: noised real samples, a time each (FastGen); ``"simulate"``: the student's own roll-out, without
            gradient, up to a step drawn once for the batch (DMD2's backward simulation).
        renoise: how that roll-out goes on from a clean prediction, ``"sde"`` or ``"ode"``.
        score_low, score_high, score_shift: score times are ``sh_s(u)``, u uniform between the two.
        critic_form: the critic's loss, of ``"v"`` or ``"x0"``.
        normalise: divide the gradient by the distance to the teacher's prediction.
        scale: guidance of the teacher, in the standard convention; 1 is off.
        p: share of the steps that real data force (``dfd``) or regress (``sft``).
        paired: the real sample is the one that the student's input was made of; else an independent one of the same condition.
        real_scale: guidance where the teacher is fed a real sample; None is ``scale``, as released. Nothing else is affected.
        form: ``"x0"``, or ``"score"``: DFD's Eq. 8 to the letter.
        gan: weight of a discriminator on noised samples; 0 is none.
        adversarial: AccVideo's lambda_adv; 0 leaves its trajectory loss alone.
        saturating: the generator's loss as AccVideo's Eq. 8 prints it.
        anchor: DP-DMD's lambda.
        anchor_steps, teacher_steps, teacher_shift: DP-DMD's K of n teacher steps, on a table of that shift.
        drop: share of conditions that ``flow`` replaces by the empty one, so that the model can be guided.

    Raises:
        InputError: a value is out of range; the line names it.
    """

    method: str
    times: tuple[float, ...] = (0.999, 0.937, 0.833, 0.624, 0.0)
    updates: int = 450
    lr: float = 1e-5
    critic_lr: float = 1e-5
    heads_lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    decay: str = "constant"
    clip: float = 10.0
    ema: float = 0.0
    precision: str = "fp32"
    student_update_freq: int = 5
    counting: str = "dmd2"
    student_input: str = "data_latent"
    renoise: str = "sde"
    score_low: float = 0.02
    score_high: float = 0.98
    score_shift: float = 1.0
    critic_form: str = "v"
    normalise: bool = True
    scale: float = 1.0
    p: float = 0.5
    paired: bool = True
    real_scale: float | None = None
    form: str = "x0"
    gan: float = 0.0
    adversarial: float = 0.1
    saturating: bool = False
    anchor: float = 0.05
    anchor_steps: int = 5
    teacher_steps: int = 30
    teacher_shift: float = 1.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(float(t) for t in self.times))
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        check_times(self.times)
        named = {
            "decay": DECAYS,
            "precision": PRECISIONS,
            "counting": COUNTINGS,
            "student_input": INPUTS,
            "renoise": RENOISE,
            "critic_form": PREDICTIONS,
            "form": FORMS,
        }
        for name, options in named.items():
            choose(name, getattr(self, name), options)
        ranges: dict[str, tuple[float, float]] = {
            "updates": (1, math.inf),
            "student_update_freq": (1, math.inf),
            "teacher_steps": (1, math.inf),
            "anchor_steps": (1, self.teacher_steps),
            "p": (0, 1),
            "drop": (0, 1),
            "ema": (0, 0.999999),
            "scale": (1, math.inf),
            "score_low": (1e-6, self.score_high),
            "score_high": (self.score_low, 1 - 1e-6),
        }
        ranges |= dict.fromkeys(("clip", "gan", "adversarial", "anchor", "weight_decay", "lr", "critic_lr", "heads_lr"), (0, math.inf))
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"recipe {self.method}: {name}={getattr(self, name)} is out of range, allowed is {low:g} to {high:g}")
        if self.real_scale is not None and not self.real_scale >= 1:
            raise InputError(f"recipe {self.method}: real_scale={self.real_scale} is out of range, allowed is 1 (off) or more")
        if not (self.score_shift > 0 and self.teacher_shift > 0):
            raise InputError(
                f"recipe {self.method}: score_shift={self.score_shift}, teacher_shift={self.teacher_shift}: both must be above 0"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return every field, JSON-ready."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def check_times(times: tuple[float, ...]) -> None:
    """Check a student's times.

    Raises:
        InputError: fewer than two, outside [0, 1], not falling, or not ending at 0.
    """
    told = ", ".join(f"{t:g}" for t in times)
    if len(times) < 2 or not all(0 <= t <= 1 for t in times) or times[-1] != 0:
        raise InputError(f"student times {told}: needed are at least two times in [0, 1], the last one 0")
    if any(later >= earlier for earlier, later in pairwise(times)):
        raise InputError(f"student times {told} must fall from noise (1) to data (0): each must be smaller than the one before")


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """Return a recipe from plain values, e.g. a TOML table.

    Raises:
        InputError: an unknown name (the nearest is named), no method, or a value out of range.
    """
    known = [field.name for field in fields(Recipe)]
    for name in values:
        if name not in known:
            raise InputError(f"a recipe has no {name!r}: {nearest(name, known)}")
    if "method" not in values:
        raise InputError("a recipe needs a method, e.g. method = 'dmd'")
    try:
        return Recipe(**values)
    except TypeError as error:
        raise InputError(f"recipe {values['method']}: a value has the wrong type ({error})") from None


def load_recipe(name: str | Path, **changes: Any) -> Recipe:
    """Read a recipe that ships (by its name) or a TOML file, with some values changed.

    Raises:
        InputError: no such recipe, no TOML, or see :func:`recipe_of`.
    """
    path = RECIPES / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise InputError(f"no recipe {str(name)!r}: neither a TOML file nor one that ships ({nearest(str(name), recipes())})")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    return recipe_of(values | changes)


def recipes() -> tuple[str, ...]:
    """Return the names of the recipes that ship."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


# ---------------------------------------------------------------------------------------------------------------------------- counting


def turns(iteration: int, freq: int, counting: str) -> tuple[bool, bool]:
    """Return who learns in an iteration, counted from 1: (the student, the critic).

    Both rules give the student its turn in every ``freq``-th iteration; FastGen's critic rests then, DMD2's does not.
    """
    student = iteration % freq == 0
    return student, choose("counting", counting, COUNTINGS) == "dmd2" or not student


def student_updates(iterations: int, freq: int) -> int:
    """Return how many of so many "iterations" of FastGen are student updates: DFD's 100 and 300 at freq 5 are 20 and 60."""
    return iterations // freq


def critic_updates(updates: int, freq: int, counting: str) -> int:
    """Return the critic's updates in a run with so many student updates: ``freq`` each (DMD2), or ``freq - 1`` (FastGen)."""
    return updates * (freq if choose("counting", counting, COUNTINGS) == "dmd2" else freq - 1)


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with some values changed: a branch from the same checkpoint.

    Raises:
        InputError: see :func:`recipe_of`.
    """
    known = [field.name for field in fields(Recipe)]
    for name in changes:
        if name not in known:
            raise InputError(f"a recipe has no {name!r}: {nearest(name, known)}")
    return replace(recipe, **changes)
