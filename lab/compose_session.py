"""All operators in one sampler, without a screen: GVD's pull and VideoGuide's teacher and low-pass on one clip, and each of them alone.

    x0 <- x0 + lambda s_t w_f (m - x0)             the pull to a centre of the class, then the teacher, or the other way round:
    x0 <- beta x0 + (1 - beta) x0_G                each sees what the one before has made of the prediction
    x  <- F^-1(M F(x) + (1 - M) F(n))              the low-pass, on the latents that come next

The model is one of many steps or a few-step student. The clips are the model alone, each operator alone where there are two or more, and
all together: one noise, one way of combining outputs, so that clips differ by operators and by nothing else. A clip is kept under
everything that it depends on, and nothing else, and is not sampled twice. All run in step, each as one clip alone.

Shapes: N steps, T frames; clips uint8 ``[3, T, H, W]``, latents float32 ``[1, C, T, h, w]``. Distances are root mean squares of latents.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vidistill.errors import choose
from vidistill.guide import Pull
from vidistill.knobs import Knob, Knobs
from vidistill.lab import gvd_session, videoguide_session
from vidistill.lab.additive import Additive, additive, share, size
from vidistill.lab.few_step_session import few_step_models
from vidistill.lab.gvd_session import GvdSession
from vidistill.lab.memory import Memory
from vidistill.lab.previews import PREVIEWS, Pace, Preview
from vidistill.lab.steps import Step
from vidistill.lab.videoguide_session import MORE_DRIFT, SELF, SLIGHT, SLOWED, Track
from vidistill.lab.zoo_session import MODELS, Take
from vidistill.measure.guided import way
from vidistill.papers.videoguide import steering
from vidistill.schedule import First, Interval
from vidistill.select.centres import Centres

if TYPE_CHECKING:
    from vidistill.sample import Denoiser
    from vidistill.sample import Step as Sampled

PULL, TEACHER, LOW_PASS = "pull", "teacher", "low-pass"
SWITCHES = {PULL: "pull", TEACHER: "teach", LOW_PASS: "low_pass"}
"""Operator -> the knob that puts it in."""

ORDERS = ("pull then teach", "teach then pull")
USED = {
    PULL: (*gvd_session.PULL, "centres", "pick"),
    TEACHER: (*videoguide_session.TEACHING, "points", "t_map", "scale", "inside"),
    LOW_PASS: ("guided", *videoguide_session.FILTERING, "filter", "order"),
}
"""Operator -> the knobs that it depends on."""

KNOBS = Knobs(
    "compose",
    Knob("pull", True, "pull the clip to a centre of its class", source="GVD", group="operators"),
    Knob("teach", True, "mix in what a teacher makes of the clip", source="VideoGuide", group="operators"),
    Knob("low_pass", False, "draw high frequencies anew", source="VideoGuide; lab latents have no room for it", group="operators"),
    Knob("chain", ORDERS[0], "which of them sees what the other one did", choices=ORDERS, source="no paper has both", group="operators"),
    *(gvd_session.KNOBS[name] for name in USED[PULL]),
    *(videoguide_session.KNOBS[name] for name in (*videoguide_session.TEACHING, *videoguide_session.FILTERING, *videoguide_session.MORE)),
)
"""The switches, and the knobs of both papers that show in one clip."""

ALONE, ALL = "model alone", "all together"
"""The clips that are always there; ``only`` names the others."""

UNDONE = 0.5
"""Share of what the pull does alone, below which the others are said to undo it."""


def only(operator: str) -> str:
    """Return what the clip of one operator alone is called."""
    return f"{operator} only"


def presets() -> dict[str, dict[str, Any]]:
    """Return what both papers say, and what we would do, on the model's own steps and guidance; a preset sets the switches too."""
    found = {}
    for own, name in (("papers", "paper"), ("ours", "ours")):  # no paper has both
        gvd, guide = gvd_session.presets()[name], videoguide_session.presets()[name]
        values = {knob: gvd[knob] for knob in USED[PULL] if knob in gvd} | {knob: guide[knob] for knob in guide if knob in KNOBS}
        plain = {"sampling_steps": 0, "guidance": 0.0, "eta": 0.0, "t_map": "snr_matched"}
        switch = {"low_pass": bool(guide["space"]), "space": guide["space"] or KNOBS["space"].default}  # there is a switch to leave it out
        found[own] = {"about": f"GVD: {gvd['about']}; VideoGuide: {guide['about']}"} | values | plain | switch
    return found


@dataclass(frozen=True)
class Look:
    """A clip under all operators, the model alone, and each operator alone where there are two or more.

    Attributes:
        label, prompt, model, teacher, seed: of what; ``teacher`` is ``SELF`` where it is the model.
        values: the knobs, as used.
        acts: the operators that change something.
        told: operator that is switched on -> on which steps it works, or why it does nothing.
        order: whether the order of pull and teacher matters, in words.
        takes: ``ALONE``, ``only`` each operator, ``ALL`` -> the clip, what the exact parser reads in it, its seconds and evaluations.
        numbers: measure -> clip -> value, None where there is none: ``distance`` to the centre; ``pull``, by which share that is less than
            the model alone's; ``way`` gone from the model alone's clip; and those of :func:`vidistill.lab.videoguide_session.measured`.
        forces: operator that acts -> ``[N][T]``, root mean square of its change with all together: of the clean clip, of the filter's the
            latents.
        times: timestep of each step.
        paths: clip -> distance of the predicted clean clip to the centre after each step; the last is the clip's own.
        adds: how the effects add up; None where fewer than two operators act.
        changed: root mean square of what all together change in the model's clip, as a share of that clip's.
        centre: the clip of the centre. sizes: clips of each centre's cluster.
        centres: what the centres move like, in words.
        remembered: the clips that were known.
        alarms: failure -> what is seen, and what may help.
        formed: clip -> previews on the way; empty until they are made.
    """

    label: str
    prompt: str
    model: str
    teacher: str
    seed: int
    values: dict[str, Any]
    acts: tuple[str, ...]
    told: dict[str, str]
    order: str
    takes: dict[str, Take]
    numbers: dict[str, dict[str, float | None]]
    forces: dict[str, list[list[float]]]
    times: list[float]
    paths: dict[str, list[float]]
    adds: Additive | None
    changed: float
    centre: Tensor
    sizes: list[int]
    centres: str
    remembered: tuple[str, ...]
    alarms: dict[str, str] = field(default_factory=dict)
    formed: dict[str, list[Preview]] = field(default_factory=dict)

    @property
    def clips(self) -> dict[str, Tensor]:
        """The clips by name."""
        return {name: take.clip for name, take in self.takes.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, JSON-ready."""
        plain = {name: value for name, value in vars(self).items() if name not in ("takes", "centre", "formed")}
        adds = None if self.adds is None else vars(self.adds) | {"told": self.adds.told()}
        return plain | {"adds": adds, "takes": {name: take.as_dict() for name, take in self.takes.items()}}


@dataclass(frozen=True)
class Recipe:
    """What is asked for, and for every choice of its operators a sampler and what its clip depends on.

    Attributes:
        label, prompt, model, teacher, seed: of what.
        values: the knobs as used.
        net: the model. other: the teacher, where one is switched on.
        found: the centres of the class.
    """

    label: str
    prompt: str
    model: str
    teacher: str
    seed: int
    values: dict[str, Any]
    net: Denoiser
    other: Denoiser | None
    found: Centres

    @property
    def centre(self) -> Tensor:
        """``m``, the latents that pull."""
        return self.found.z[[self.values["pick"] - 1]]

    @cached_property
    def window(self) -> Interval:
        """When the pull works."""
        return Interval(self.values["t_high"], self.values["t_low"])

    @cached_property
    def idle(self) -> dict[str, str]:
        """Operators that are switched on and do nothing -> why."""
        k = self.values
        why = {
            PULL: "lambda is 0" if not k["strength"] else "" if self.pulled else self.window.told(self.grid),
            TEACHER: "I is 0" if not k["guided"] else "beta is 1" if k["beta"] == 1 else "",
            LOW_PASS: "I is 0" if not k["guided"] else "" if k["space"] else "its cut-off in space is 0",
        }
        return {name: said for name, said in why.items() if said and k[SWITCHES[name]]}

    @cached_property
    def acts(self) -> tuple[str, ...]:
        """The operators that change something."""
        return tuple(name for name, knob in SWITCHES.items() if self.values[knob] and name not in self.idle)

    @cached_property
    def clips(self) -> dict[str, tuple[str, ...]]:
        """Clip -> its operators."""
        single = {only(name): (name,) for name in self.acts} if len(self.acts) > 1 else {}
        return {ALONE: (), **single, ALL: self.acts}

    @property
    def grid(self) -> list[Any]:
        """Where each step begins and ends."""
        return self.net.grid(self.values["sampling_steps"])

    @cached_property
    def pulled(self) -> frozenset[int]:
        """The steps within the pull's window."""
        return frozenset(index for index, (now, _) in enumerate(self.grid) if self.window.holds(now.t))

    @cached_property
    def both(self) -> int:
        """How many steps have pull and teacher."""
        return len(self.pulled & set(range(self.values["guided"]))) if {PULL, TEACHER} <= {*self.acts} else 0

    @cached_property
    def told(self) -> dict[str, str]:
        """Operator that is switched on -> when it works, or why it does nothing."""
        first = First(self.values["guided"]).told(self.grid)
        said = {PULL: self.window.told(self.grid), TEACHER: first, LOW_PASS: first}
        return {name: self.idle.get(name, said[name]) for name, knob in SWITCHES.items() if self.values[knob]}

    def key(self, acts: tuple[str, ...], chain: str = "") -> Hashable:
        """Return everything that the clip of some operators depends on.

        Args:
            acts: the operators. chain: their order, default the one asked for.
        """
        k = self.values
        split = k["guided"] > 0 and k["inside"] != k["outside"]
        names = {*gvd_session.SAMPLER, "outside", *(name for one in acts for name in USED[one]), *(("inside", "guided") if split else ())}
        if "cfg++" in {k[name] for name in names & {"inside", "outside"}}:
            names |= {"lam"}
        order = (chain or k["chain"]) if self.both and {PULL, TEACHER} <= {*acts} else ""
        who = self.label if PULL in acts else "", self.teacher if TEACHER in acts else ""
        return self.prompt, self.model, self.seed, *who, acts, order, *((name, k[name]) for name in sorted(names))

    def sampler(self, acts: tuple[str, ...]) -> Iterator[Sampled]:
        """Return a sampler under some operators; what cannot be sampled is an error here.

        Raises:
            InputError: a knob's value is not possible with the models.
        """
        from vidistill.sample import sample

        k = self.values
        needed = k["inside"] != k["outside"] or TEACHER in acts or LOW_PASS in acts
        mine = k | {"guided": k["guided"] if needed else 0, "space": k["space"] if LOW_PASS in acts else 0.0}
        operators, guidance = steering(mine, self.net, self.other if TEACHER in acts else None, [self.prompt])
        if PULL in acts:
            pull = Pull(self.centre, k["strength"], k["weight"], k["decay"], self.window)
            operators = [pull, *operators] if k["chain"] == ORDERS[0] else [*operators, pull]
        options = {"seeds": [self.seed], "steps": k["sampling_steps"], "guidance": guidance, "eta": k["eta"]}
        return sample(self.net, [self.prompt], operators=operators, **options)


class ComposeSession:
    """Models of the zoo or of folders, centres of Motion World's real clips, and the answers to every setting of the knobs that follow.

    Args:
        models: name -> zoo name or folder; empty for the zoo's own, of many steps and of few.
        per_class: real clips of each class.
        seed: of the real clips and of the centres.
        device: where the models run.
    """

    classes = GvdSession.classes

    def __init__(self, models: Mapping[str, str | Path] | None = None, *, per_class: int = 24, seed: int = 0, device: str = "cpu") -> None:
        places = models or {name: name for name in MODELS} | few_step_models()
        self._real = GvdSession(places, per_class=per_class, seed=seed, device=device)
        self.zoo = self._real.zoo
        self.per_class = per_class
        self._memory = Memory()
        self._costs: dict[str, float] = {}

    @property
    def teachers(self) -> list[str]:
        """Who can be the teacher."""
        return [SELF, *self.zoo.names]

    def prompt(self, label: str) -> str:
        """Return the prompt of a class: its name in words."""
        return self._real.prompt(label)

    def check(self, model: str, teacher: str, prompt: str) -> str:
        """Return the prompt as both models read it; see :func:`vidistill.lab.zoo_session.check_words`."""
        text = self.zoo.check(model, prompt)
        return text if choose("teacher", teacher, self.teachers) == SELF else self.zoo.check(teacher, prompt)

    def look(self, label: str, prompt: str, model: str, teacher: str, values: Mapping[str, Any], *, seed: int = 0) -> Look:
        """Return the last of :meth:`steps`."""
        *_, last = self.steps(label, prompt, model, teacher, values, seed=seed, previews=False)
        return last.result

    def steps(
        self, label: str, prompt: str, model: str, teacher: str, values: Mapping[str, Any], *, seed: int = 0, previews: bool = True
    ) -> Iterator[Step]:
        """Sample every clip that is not known; results are previews and a :class:`Look`, which comes as soon as the clips are there, and
        again with a preview of every few steps.

        Args:
            label: the class, whose real clips have the centres.
            prompt: what the models are told.
            model, teacher: their names; the teacher may be ``SELF``, and is not loaded where it is switched off.
            values: the knobs.
            seed: of all noise.
            previews: decode frames on the way.

        Raises:
            InputError: a model cannot be loaded or does not know a word, the teacher cannot guide the model, or a knob's value is not
                possible with them.
        """
        choose("class", label, self.classes)
        k = KNOBS.resolve(values)
        choose("model", model, self.zoo.names)
        if choose("teacher", teacher, self.teachers) == model:
            teacher = SELF
        asked = teacher if k["teach"] else SELF
        for name in (model, *([] if asked == SELF else [asked])):
            yield Step(f"load {name}", 0, 1)
            self.zoo.load(name)
        text, net = self.check(model, asked, prompt), self.zoo.load(model)
        yield Step(f"real clips of {label}", 0, 1)
        found = self._real.centres(net, label, k)
        k |= {"centres": len(found.z), "pick": min(k["pick"], len(found.z))}
        k |= {"sampling_steps": k["sampling_steps"] or net.steps, "guidance": k["guidance"] or net.guidance}
        other = None if not k["teach"] else net if teacher == SELF else self.zoo.load(teacher)
        recipe = Recipe(label, text, model, teacher, seed, k, net, other, found)
        tracks, samplers = self._begin(recipe)
        yield from self._sample(recipe, tracks, samplers, previews)
        for name, acts in recipe.clips.items():
            self._memory.get(recipe.key(acts), lambda name=name: tracks[name])
        yield Step("decode", 0, 1)
        look = self._look(recipe, tracks, tuple(name for name, track in tracks.items() if track.name not in samplers))
        yield Step("decode", 1, 1, look)
        total = k["sampling_steps"]
        wanted = range(1, total, -(-total // PREVIEWS))
        formed: dict[str, list[Preview]] = {name: [] for name in tracks}
        for number, done in enumerate(wanted):
            yield Step("previews", number, len(wanted))
            for name, track in tracks.items():
                formed[name].append(_preview(name, track, done))
        yield Step("previews", len(wanted), len(wanted), replace(look, formed=formed))

    def _begin(self, recipe: Recipe) -> tuple[dict[str, Track], dict[str, Iterator[Sampled]]]:
        """Return the clips and, by what they are called in their track, a sampler for each that is not known; nothing is sampled yet."""
        tracks: dict[tuple[str, ...], Track] = {}
        samplers: dict[str, Iterator[Sampled]] = {}
        for acts in dict.fromkeys(recipe.clips.values()):
            if (track := self._memory.known(recipe.key(acts))) is None:
                track = Track(" + ".join(acts) or ALONE, recipe.net, recipe.prompt)
                samplers[track.name] = recipe.sampler(acts)
            tracks[acts] = track
        return {name: tracks[acts] for name, acts in recipe.clips.items()}, samplers

    def _sample(
        self, recipe: Recipe, tracks: Mapping[str, Track], samplers: Mapping[str, Iterator[Sampled]], previews: bool
    ) -> Iterator[Step]:
        """Run the samplers in step; previews of all clips where they are paid for."""
        total, pace = recipe.values["sampling_steps"], Pace(self._costs, f"{recipe.model} {len(samplers)}")
        new = {track.name: track for track in tracks.values() if track.name in samplers}
        for done in range(1, total + 1):
            for name, track in new.items():
                track.steps.append(next(samplers[name]))
            step = Step("step", done, total)
            yield step
            if previews and pace.due(done, total, sum(track.steps[-1].seconds for track in new.values())):
                with pace.paid(done, total):
                    for name, track in tracks.items():
                        yield replace(step, result=_preview(name, track, done))

    def _look(self, recipe: Recipe, tracks: Mapping[str, Track], remembered: tuple[str, ...]) -> Look:
        k, net, m = recipe.values, recipe.net, recipe.centre
        ends = {name: track.steps[-1].latents.float().cpu() for name, track in tracks.items()}
        paths = {name: [*(at.x0.float().cpu() for at in track.steps[:-1]), ends[name]] for name, track in tracks.items()}
        single = {name: paths[only(name)] for name in recipe.acts if only(name) in paths}
        place = (net.codec.fingerprint, net.frames, net.size, recipe.label, k["centres"], k["centre"], k["pick"])
        numbers: dict[str, dict[str, float | None]] = {
            "distance": {name: size(x - m) for name, x in ends.items()},
            "pull": {name: 1 - size(x - m) / max(size(ends[ALONE] - m), 1e-12) for name, x in ends.items()},
            "way": {name: float(way(x, ends[ALONE], m)) for name, x in ends.items()},
        }
        numbers |= {what: {name: track.numbers[what] for name, track in tracks.items()} for what in tracks[ALL].numbers}
        look = Look(
            label=recipe.label,
            prompt=recipe.prompt,
            model=recipe.model,
            teacher=recipe.teacher,
            seed=recipe.seed,
            values=k,
            acts=recipe.acts,
            told=recipe.told,
            order=self._order(recipe, ends[ALL]),
            takes={name: _take(recipe, track) for name, track in tracks.items()},
            numbers=numbers,
            forces={name: [_frames(at.forces.get(name), net.shape[1]) for at in tracks[ALL].steps] for name in recipe.acts},
            times=[float(now.t) for now, _ in recipe.grid],
            paths={name: [size(x0 - m) for x0 in path] for name, path in paths.items()},
            adds=additive(paths[ALONE], single, paths[ALL]) if single else None,
            changed=share(ends[ALL] - ends[ALONE], ends[ALONE]) or 0.0,
            centre=self._memory.get(("centre", *place), lambda: net.codec.decode(m, net.frames)[0].cpu()),
            sizes=recipe.found.sizes.tolist(),
            centres=recipe.found.told(),
            remembered=remembered,
        )
        return replace(look, alarms=alarms(look, recipe.idle))

    def _order(self, recipe: Recipe, x: Tensor) -> str:
        """Say whether the order of pull and teacher matters and, where the clip of the other one is known, how much."""
        if not {PULL, TEACHER} <= {*recipe.acts}:
            return "The order says nothing: pull and teacher do not both act."
        if not recipe.both:
            return "The order changes nothing: no step has both pull and teacher."
        first, second = (PULL, TEACHER) if recipe.values["chain"] == ORDERS[0] else (TEACHER, PULL)
        (turned,) = (chain for chain in ORDERS if chain != recipe.values["chain"])
        known = self._memory.known(recipe.key(recipe.acts, turned))
        told = f"{recipe.both} of {len(recipe.grid)} steps have both, and the {second} sees what the {first} did"
        if known is None:
            return f"{told}; turn the order to see what the other one gives."
        apart = share(known.steps[-1].latents.float().cpu() - x, x) or 0.0
        return f"{told}; in the other order the clip is another one by {apart:.0%} of its size."


def alarms(look: Look, idle: Mapping[str, str]) -> dict[str, str]:
    """Name the failures that a look shows: what is seen, against the model alone and each operator alone, and what may help.

    Args:
        look: the clips. idle: operators that are switched on and do nothing -> why.
    """
    found: dict[str, str] = {}
    if idle:
        found["idle"] = f"Switched on, without effect: {', '.join(f'{name} ({why})' for name, why in idle.items())}."
    if not look.acts:
        return found | {"nothing acts": "No operator acts. All together is the model alone."}
    if look.changed < SLIGHT:
        found["no effect"] = f"All together changed the model's clip by {look.changed:.1%} of its size. More lambda, or less beta."
    motion, drifts = look.numbers["motion"], look.numbers["drift_any"]
    here, before = motion[ALL], motion[ALONE]
    if here is not None and before is not None and here < SLOWED * before:
        found["less motion"] = f"The clip moves {here / before:.0%} as much as the model alone. Pull less, or another centre."
    drift, plain = drifts[ALL], drifts[ALONE]
    if plain is not None and drift is None:
        found["no object"] = "No frame of the clip shows an object. More evaluations of the teacher, fewer guided steps, or more beta."
    elif plain is not None and drift is not None and drift > plain + MORE_DRIFT:
        found["more drift"] = f"{drift:.0%} of its frames show another object or scene, {plain:.0%} of the model's alone."
    right = {name: {one.factor for one in take.readings if one.right} for name, take in look.takes.items()}
    where = {one.factor: [name for name in right if one.factor in right[name] - right[ALL]] for one in look.takes[ALL].readings}
    if lost := [f"{factor} ({', '.join(names)})" for factor, names in where.items() if names]:
        found["words lost"] = f"Not as asked with all together, but elsewhere: {'; '.join(lost)}. Less of what is missing there."
    nearer, pulled = (look.numbers["pull"].get(name) or 0.0 for name in (ALL, only(PULL)))
    if pulled > SLIGHT and nearer < UNDONE * pulled:
        found["undone"] = f"The pull alone comes {pulled:.0%} nearer to the centre, with the others {nearer:.0%}. Less of these."
    if (gone := look.numbers["way"][ALL] or 0.0) > 1:
        found["overshoot"] = f"The clip went {gone:.0%} of the way to the centre: beyond it. Pull less."
    return found


def _preview(name: str, track: Track, done: int) -> Preview:
    return replace(track.preview(done), name=name)


def _take(recipe: Recipe, track: Track) -> Take:
    k, last = recipe.values, track.steps[-1]
    steps, guidance = k["sampling_steps"], k["guidance"]
    return Take(recipe.model, recipe.prompt, recipe.seed, steps, guidance, track.clip, track.readings, last.seconds, last.evaluations, 0.0)


def _frames(force: Tensor | None, frames: int) -> list[float]:
    return [0.0] * frames if force is None else [float(one) for one in force[0]]
