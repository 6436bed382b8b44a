"""Few steps without a screen: a video teacher beside its few-step students, from one noise and one prompt, on one clock.

    teacher                 its own steps, guided                                  last: nobody waits for it to see a student
    students                the steps they were trained for, without guidance      sampled as they were trained, or by the other rule
    untrained               the teacher in as few steps: by Euler's steps, and with all noise put back anew after each

The untrained teacher is what every student has to beat, so it is always there. A clip is sampled once and remembered with its seconds.

Shapes: T frames; clips uint8 ``[3, T, H, W]``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vidistill import shipped
from vidistill.data.parse import parse
from vidistill.errors import InputError, choose
from vidistill.files import load_json
from vidistill.knobs import Knob, Knobs
from vidistill.lab.memory import Memory
from vidistill.lab.previews import Pace, preview
from vidistill.lab.steps import Step
from vidistill.lab.zoo_session import KNOBS as ZOO
from vidistill.lab.zoo_session import Take, ZooSession, named, read
from vidistill.measure.generated import contrast, drift, saturation
from vidistill.measure.truth import motion_seen

TRAINED = "trained"
"""The rule by which a student was trained, whichever that is."""

RULE = Knob(
    "renoise", TRAINED, "what a student's step puts back: noise anew (sde), its own (ode), or as it was trained",
    choices=(TRAINED, "sde", "ode"), source="a sampler has to match the training: FastGen's students sde, AccVideo's ode", group="sampler",
)  # fmt: skip

KNOBS = Knobs(
    "few_step",
    ZOO["steps"],
    ZOO["guidance"],
    Knob(
        "few", 0, "steps of the untrained teacher, 0 is as many as its students have", low=0, high=10, step=1, symbol="m",
        source="the number that every student has to beat", group="sampler",
    ),
    RULE,
)  # fmt: skip
TEACHER, EULER, ANEW = "teacher", "untrained, Euler", "untrained, re-noised"
"""The clips that are no student's."""

FEW = 4
"""Steps of the untrained teacher where there is no student."""

LONGEST = 10.0
"""Seconds that the slowest clip is waited for on the one clock; one that takes longer makes the clock faster."""

WASHED, GARISH = 0.9, 1.1
"""Contrast or saturation over the teacher's, below and above which a clip is called washed out or saturated."""

MORE_DRIFT = 0.1
"""Share of the frames by which drift must exceed the teacher's to be an alarm."""


@dataclass(frozen=True)
class Clips:
    """Clips of one noise and one prompt, those that are ready so far.

    Attributes:
        prompt, teacher, seed: of what.
        values: the knobs.
        takes: ``TEACHER``, students by name, ``EULER``, ``ANEW`` -> the clip, what is read in it, its seconds of sampling and evaluations.
        rules: clip -> ``"ode"`` or ``"sde"``, how it was sampled.
        numbers: measure -> clip -> value, None where there is none: ``drift`` share of the visible frames that show another object or
            scene; ``motion`` path of the object in half widths; ``saturation``, ``contrast`` over the teacher's, and ``faster``, the
            teacher's seconds over the clip's, once that is there.
        remembered: the clips that were known, with the seconds they took.
        alarms: failure -> what is seen, and what may help.
        whole: whether all clips are there.
    """

    prompt: str
    teacher: str
    seed: int
    values: dict[str, Any]
    takes: dict[str, Take]
    rules: dict[str, str]
    numbers: dict[str, dict[str, float | None]]
    remembered: tuple[str, ...]
    alarms: dict[str, str]
    whole: bool

    @property
    def students(self) -> list[str]:
        """The students among the clips."""
        return [name for name in self.takes if name not in (TEACHER, EULER, ANEW)]

    @property
    def clips(self) -> dict[str, Tensor]:
        """The clips by name."""
        return {name: take.clip for name, take in self.takes.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, JSON-ready."""
        return vars(self) | {"takes": {name: take.as_dict() for name, take in self.takes.items()}}


@dataclass(frozen=True)
class Job:
    """One clip to be made: whose model, in how many steps, under which guidance, by which rule."""

    name: str
    model: str
    steps: int
    guidance: float
    renoise: bool


def few_step_models() -> dict[str, str]:
    """Return the models of the zoo that have times of their own: its few-step students."""
    return {name: name for name in shipped.NAMES if times_of(name)}


def times_of(place: str | Path) -> tuple[float, ...]:
    """Return a few-step student's own times from noise on, of a zoo name or a folder; () where a model has none."""
    file = shipped.locate(place) / "sampling.json"
    return tuple((load_json(file) if file.is_file() else {}).get("times") or ())


def clock(seconds: Mapping[str, float], frames: int, fps: int) -> tuple[dict[str, list[int]], float]:
    """Return which frame of each clip is shown in each frame of one film that begins with the sampling, -1 while a clip is not ready.

    All clips loop in step, so that two which are ready show the same frame, and the film ends with one loop of all of them.

    Args:
        seconds: clip -> when it is ready.
        frames: of a clip.
        fps: frames a second.

    Returns:
        clip -> frame numbers; and how many seconds of sampling pass in one of the film: 1, more where one takes longer than ``LONGEST``.
    """
    pace = max(1.0, max(seconds.values()) / LONGEST)
    ready = {name: math.ceil(value / pace * fps) for name, value in seconds.items()}
    total = -(-max(ready.values()) // frames) * frames + frames
    return {name: [j % frames if j >= first else -1 for j in range(total)] for name, first in ready.items()}, pace


class FewStepSession:
    """A teacher of the zoo and its few-step students, and clips of them that are not sampled twice.

    Args:
        models: name -> zoo name or folder of a few-step student; empty for those of the zoo, which may be none.
        teacher: a model of the zoo, or ``name=folder``.
        device: where they run.

    Raises:
        InputError: a student has no times of its own, or a name is used twice.
    """

    def __init__(self, models: Mapping[str, str | Path] | None = None, *, teacher: str = "lab-dit", device: str = "cpu") -> None:
        found = dict(models or few_step_models())
        ((self.teacher, place),) = named(teacher).items()
        for name, folder in found.items():
            if not times_of(folder):
                raise InputError(f"{name} is no few-step model: its sampling.json has no times; give folders of few-step students")
            if name in (self.teacher, TEACHER, EULER, ANEW):
                raise InputError(f"no student can be called {name!r} here; give it a name of its own: name=folder")
        self.students = list(found)
        self.zoo = ZooSession({self.teacher: place, **found}, device=device)
        self._memory = Memory()
        self._costs: dict[str, float] = {}
        self._warm: set[str] = set()

    def check(self, prompt: str, students: Sequence[str] | None = None) -> str:
        """Return the prompt as every model reads it; see :func:`vidistill.lab.zoo_session.check_words`."""
        text = self.zoo.check(self.teacher, prompt)
        for name in self.students if students is None else students:
            self.zoo.check(name, prompt)
        return text

    def look(self, prompt: str, values: Mapping[str, Any], *, seed: int = 0, students: Sequence[str] | None = None) -> Clips:
        """Return the last of :meth:`steps`."""
        *_, last = self.steps(prompt, values, seed=seed, students=students, previews=False)
        return last.result

    def steps(
        self, prompt: str, values: Mapping[str, Any], *, seed: int = 0, students: Sequence[str] | None = None, previews: bool = True
    ) -> Iterator[Step]:
        """Make the clips, the students' first; results are previews and, after each clip, all :class:`Clips` so far.

        Args:
            prompt: what is to be seen.
            values: the knobs.
            seed: of all noise, the same for every clip.
            students: whose clips, by name; default all.
            previews: decode frames of the teacher's clip on the way; the others are there before one could look.

        Raises:
            InputError: a model cannot be loaded or does not know a word, or a knob is outside its limits.
        """
        k = KNOBS.resolve(values)
        chosen = self.students if students is None else [choose("student", name, self.students) for name in students]
        for name in (self.teacher, *chosen):
            yield Step(f"load {name}", 0, 1)
            self._warmed(name)
        text = self.check(prompt, chosen)
        jobs = self._jobs(k, chosen)
        takes: dict[str, Take] = {}
        remembered: list[str] = []
        for job in [*jobs[1:], jobs[0]]:  # the teacher last: nobody waits for it to see a student
            key = (text, seed, job)
            if (take := self._memory.known(key)) is None:
                take = yield from self._sample(job, text, seed, previews and job.name == TEACHER)
                self._memory.get(key, lambda take=take: take)
            else:
                remembered.append(job.name)
            takes[job.name] = take
            ready = [job for job in jobs if job.name in takes]
            found = self._clips(text, seed, k, ready, takes, tuple(remembered), len(ready) == len(jobs))
            yield Step(f"{job.name}, clip", 1, 1, found)

    def _jobs(self, k: Mapping[str, Any], students: Sequence[str]) -> list[Job]:
        """Return the clips in the order in which they are shown: teacher, students, the teacher untrained."""
        nets = {name: self.zoo.load(name) for name in students}
        own = {name: net.renoise if k["renoise"] == TRAINED else k["renoise"] == "sde" for name, net in nets.items()}
        few = k["few"] or max((len(net.times) for net in nets.values()), default=FEW)
        return [
            Job(TEACHER, self.teacher, k["steps"], k["guidance"], False),
            *(Job(name, name, len(net.times), net.guidance, own[name]) for name, net in nets.items()),
            Job(EULER, self.teacher, few, k["guidance"], False),
            Job(ANEW, self.teacher, few, k["guidance"], True),
        ]

    def _warmed(self, name: str) -> None:
        """Load a model and take one step of it: the first one of a process is slow, and no clip's fault."""
        from vidistill.sample import sample

        model = self.zoo.load(name)
        if name not in self._warm:
            next(sample(model, [""], seeds=[0]))
            self._warm.add(name)

    def _sample(self, job: Job, prompt: str, seed: int, previews: bool) -> Generator[Step, None, Take]:
        from vidistill.sample import sample

        model, pace = self.zoo.load(job.model), Pace(self._costs, job.model)
        run = sample(model, [prompt], seeds=[seed], steps=job.steps, guidance=job.guidance, renoise=job.renoise)
        for at in run:
            done = at.index + 1
            if not (previews and pace.due(done, at.steps, at.seconds)):
                yield Step(f"{job.name}, step", done, at.steps)
                continue
            with pace.paid(done, at.steps):
                yield Step(f"{job.name}, step", done, at.steps, preview(model, at.x0, job.name, done, at.steps))
        began = time.perf_counter()
        clip = model.codec.decode(at.latents, model.frames)[0].cpu()
        seconds = at.seconds + time.perf_counter() - began
        return Take(job.name, prompt, seed, job.steps, job.guidance, clip, read(clip, prompt), seconds, at.evaluations, pace.spent)

    def _clips(
        self,
        prompt: str,
        seed: int,
        k: dict[str, Any],
        jobs: Sequence[Job],
        takes: Mapping[str, Take],
        remembered: tuple[str, ...],
        whole: bool,
    ) -> Clips:
        shown = {job.name: takes[job.name] for job in jobs}
        each = {job.name: self._memory.get(("measured", prompt, seed, job), lambda job=job: measured(shown[job.name].clip)) for job in jobs}
        base = each.get(TEACHER)
        numbers: dict[str, dict[str, float | None]] = {
            what: {name: one[what] for name, one in each.items()} for what in ("drift", "motion")
        }
        for what in ("saturation", "contrast"):
            numbers[what] = {name: _over(one[what], base and base[what]) for name, one in each.items()}
        numbers["faster"] = {name: _over(shown[TEACHER].seconds if base else None, take.seconds) for name, take in shown.items()}
        rules = {job.name: "sde" if job.renoise else "ode" for job in jobs}
        found = Clips(prompt, self.teacher, seed, dict(k), shown, rules, numbers, remembered, {}, whole)
        own = {name: "sde" if self.zoo.load(name).renoise else "ode" for name in found.students}
        return replace(found, alarms=clip_alarms(found, own))


def measured(clip: Tensor) -> dict[str, float | None]:
    """Return drift, motion, saturation and contrast of a clip, uint8 ``[3, T, S, S]``; None where there is no number."""
    parsed = parse(clip[None])
    found = {
        "drift": drift(parsed)["any"],
        "motion": motion_seen(parsed),
        "saturation": saturation(clip[None]),
        "contrast": contrast(clip[None]),
    }
    return {name: None if math.isnan(value := float(tensor)) else value for name, tensor in found.items()}


def clip_alarms(found: Clips, own: Mapping[str, str]) -> dict[str, str]:
    """Name the failures that clips show, student by student: what is seen, and what may help.

    Args:
        found: the clips so far; what is said against the teacher waits for its clip.
        own: student -> the rule that it was trained with.
    """
    alarms: dict[str, str] = {}
    if wrong := [f"{name} ({own[name]})" for name in found.students if found.rules[name] != own[name]]:
        used = "noise put back anew (sde)" if found.values["renoise"] == "sde" else "Euler's steps (ode)"
        alarms["sampled against its training"] = (
            f"{', '.join(wrong)} learned another rule than {used}: what a step sees is not what it was trained on. Take back: as trained."
        )
    if TEACHER not in found.takes:
        return alarms
    untrained = max(found.takes[name].score[0] for name in (EULER, ANEW))
    if weak := [name for name in found.students if found.takes[name].score[0] <= untrained < found.takes[TEACHER].score[0]]:
        alarms["no better than untrained"] = (
            f"{', '.join(weak)}: no more words right than the teacher has in as few steps without any training. One clip; roll the dice."
        )
    for what, name, high in (("contrast", "washed out", False), ("saturation", "saturated", True)):
        ratios = {clip: found.numbers[what][clip] for clip in found.students}
        odd = [f"{clip} {x:.0%}" for clip, x in ratios.items() if x is not None and (x > GARISH if high else x < WASHED)]
        if odd:
            alarms[name] = f"{what} over the teacher's: {', '.join(odd)}."
    base = found.numbers["drift"][TEACHER]
    seen = {name: found.numbers["drift"][name] for name in found.students}
    if lost := [name for name, value in seen.items() if value is None and base is not None]:
        alarms["no object"] = f"No frame of {', '.join(lost)} shows an object."
    if base is not None and (more := [f"{name} {x:.0%}" for name, x in seen.items() if x is not None and x > base + MORE_DRIFT]):
        alarms["more drift"] = f"Frames that show another object or scene: {', '.join(more)}; the teacher {base:.0%}."
    return alarms


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
