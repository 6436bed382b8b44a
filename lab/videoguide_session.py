"""VideoGuide without a screen: the base model alone, the teacher alone, and the base steered by the teacher, three clips from one noise.

    x0' = beta x0 + (1 - beta) x0_G                on the first I steps, tau evaluations of the teacher at each
    x <- F^-1(M F(x) + (1 - M) F(n))               after each of them: high frequencies are drawn anew

The clips of the base and of the teacher depend on none of this: they are sampled once and kept, and a turn of a guidance knob samples the
guided clip alone, from the first step on that no earlier one has in common with it. All three run in step, each as one clip alone, so what
is remembered is what would be sampled again, bit for bit.

The knobs of the guided clip may change on the way, see :mod:`vidistill.lab.until`; base and teacher alone have those of now.

Shapes: N steps, T frames; clips uint8 ``[3, T, H, W]``, latents float32 ``[1, C, T, h, w]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidistill.data.parse import parse
from vidistill.errors import choose
from vidistill.guide import low_pass_mask
from vidistill.knobs import Knobs
from vidistill.lab.branches import Branches, onward
from vidistill.lab.memory import Memory
from vidistill.lab.presets import load_presets
from vidistill.lab.previews import PREVIEWS, Pace, Preview, preview
from vidistill.lab.steps import Step
from vidistill.lab.until import Span, segments, spans, told
from vidistill.lab.zoo_session import Reading, Take, ZooSession, read
from vidistill.measure.generated import drift
from vidistill.measure.truth import motion_seen, video_table
from vidistill.papers.videoguide import KNOBS as PAPER
from vidistill.papers.videoguide import steering
from vidistill.schedule import First, guidance_scale

if TYPE_CHECKING:
    from vidistill.sample import Denoiser
    from vidistill.sample import Step as Sampled

TEACHING = ("beta", "guided", "tau")
FILTERING = ("space", "time")
MORE = ("sampling_steps", "guidance", "eta", "inside", "outside", "lam", "points", "t_map", "scale", "filter", "order")

TEACHES, FILTERS = ("beta", "tau", "points", "t_map", "scale"), ("space", "time", "filter", "order")
"""What a step that the teacher, or the low-pass, works on depends on."""

KNOBS = Knobs("videoguide", *(PAPER[name] for name in (*TEACHING, *FILTERING, *MORE)))
"""The paper's knobs that show in one clip."""

BASE, TEACHER, GUIDED = "base alone", "teacher alone", "guided"
PRESETS = ("paper", "repo", "lavie", "self", "ours")

SELF = "self"
"""Instead of a teacher's name: the base is its own."""

SUBJECT = "probe_subject_consistency"
SHOWN = (SUBJECT, "probe_background_consistency", "probe_motion_smoothness", "probe_flow_magnitude")
"""What of :func:`vidistill.measure.truth.video_table` is kept: offline probes, not VBench's networks."""

SEEN = ("motion", SUBJECT, "drift_any")
"""The numbers that alarms look at."""

SLIGHT = 0.01
"""Change of the base's clip, as a share of its size, below which guidance is called without effect."""

SLOWED = 0.7
"""Share of the motion of base and teacher alone below which a clip has lost it; the paper's is 0.57 to 0.63 of the base's."""

MORE_DRIFT = 0.1
"""Share of the frames by which drift must grow to be an alarm: about two of sixteen."""

WEAK = 0.5
"""Share of the scale of ordinary guidance below which CFG++'s equivalent is called weak."""


def presets() -> dict[str, dict[str, Any]]:
    """Return the paper's presets as far as one clip shows them, and ``teacher``: ``SELF`` where it is the base, else ""."""
    found = {}
    for name, written in load_presets("videoguide").items():
        if name in PRESETS:
            whole = PAPER.resolve({knob: value for knob, value in written.items() if knob != "about"})
            teacher = SELF if whole["guide"] == SELF else ""
            found[name] = {"about": written["about"], "teacher": teacher} | {knob: whole[knob] for knob in KNOBS}
    return found


@dataclass(frozen=True)
class Look:
    """Three clips from one noise, two where the base is its own teacher.

    Attributes:
        prompt, base, teacher, seed: of what; ``teacher`` is ``SELF`` where it is the base.
        values: the knobs, as used, after the last change on the way.
        until: the knobs that were others before, see :mod:`vidistill.lab.until`; "" where none were. What is told of a step is by the knobs
            that it had.
        takes: ``BASE``, ``TEACHER``, ``GUIDED`` -> the clip, what the exact parser reads in it, its seconds of sampling and evaluations,
            of all its steps.
        numbers: measure -> clip -> value, None where there is none. ``drift_<factor>`` and ``drift_any``: share of the visible frames that
            show another shape, colour, background than the clip does; ``motion``: path of the object in half widths of the frame;
            ``probe_*``: VBench's aggregators over offline probes.
        times: timestep of each step.
        ways: how outputs are combined in each step.
        scales: scale of ordinary guidance that makes the same step.
        forces: operator -> root mean square of its change in each step, 0 where it did nothing.
        apart: root mean square of ``x0_G - x0`` in each guided step, without those where beta is 1.
        mask: ``M`` where f_W = 0, ``[T][H]`` from the lowest frequency to the highest, negative ones first; empty without a filter.
        axes: the frequencies of its rows and columns, shares of the highest.
        kept, modes: modes with ``M`` > 1/2, all without a filter; and how many there are.
        changed: root mean square of what guidance changed in the base's clip, as a share of that clip's.
        guided: how many steps are guided, in words.
        remembered: the clips of one model alone that were known.
        paths: clip -> ``"step"``, ``"drift"``, ``"motion"`` of the clean clip that is predicted after some steps, the last being the clip
            itself, which alone is there at first.
        alarms: failure -> what is seen, and what may help.
        formed: clip -> previews on the way; empty until they are made.
    """

    prompt: str
    base: str
    teacher: str
    seed: int
    values: dict[str, Any]
    until: str
    takes: dict[str, Take]
    numbers: dict[str, dict[str, float | None]]
    times: list[float]
    ways: list[str]
    scales: list[float]
    forces: dict[str, list[float]]
    apart: list[float]
    mask: list[list[float]]
    axes: tuple[list[float], list[float]]
    kept: int
    modes: int
    changed: float
    guided: str
    remembered: tuple[str, ...]
    paths: dict[str, dict[str, list[Any]]]
    alarms: dict[str, str] = field(default_factory=dict)
    formed: dict[str, list[Preview]] = field(default_factory=dict)

    @property
    def clips(self) -> dict[str, Tensor]:
        """The clips by name."""
        return {name: take.clip for name, take in self.takes.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, JSON-ready."""
        plain = {name: value for name, value in vars(self).items() if name not in ("takes", "formed")}
        return plain | {"takes": {name: take.as_dict() for name, take in self.takes.items()}}


class Track:
    """One clip: the sampler's steps, what was looked at on the way, and the clip itself.

    Args:
        name: one of ``BASE``, ``TEACHER``, ``GUIDED``. net: its model. prompt: what it was told.
    """

    def __init__(self, name: str, net: Denoiser, prompt: str) -> None:
        self.name, self.net, self.prompt = name, net, prompt
        self.steps: list[Sampled] = []
        self._previews: dict[int, Preview] = {}
        self._seen: dict[int, tuple[float | None, float | None]] = {}

    @cached_property
    def clip(self) -> Tensor:
        """The clip, uint8 ``[3, T, H, W]``."""
        return self._decoded(self.steps[-1].latents)

    @cached_property
    def numbers(self) -> dict[str, float | None]:
        """What is measured of the clip."""
        return measured(self.clip)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """What the exact parser reads in the clip, beside what the prompt asks."""
        return read(self.clip, self.prompt)

    def preview(self, done: int) -> Preview:
        """Return a frame of the clean clip that is predicted after a step."""
        if done not in self._previews:
            at = self.steps[done - 1]
            self._previews[done] = preview(self.net, at.x0, self.name, done, at.steps)
        return self._previews[done]

    def seen(self, done: int) -> tuple[float | None, float | None]:
        """Return drift and motion of the clean clip that is predicted after a step; after the last one, of the clip itself."""
        if done == len(self.steps):
            return self.numbers["drift_any"], self.numbers["motion"]
        if done not in self._seen:
            parsed = parse(self._decoded(self.steps[done - 1].x0)[None])
            self._seen[done] = _number(drift(parsed)["any"]), _number(motion_seen(parsed))
        return self._seen[done]

    def _decoded(self, z: Tensor) -> Tensor:
        return self.net.codec.decode(z, self.net.frames)[0].cpu()


@dataclass(frozen=True)
class Run:
    """Three clips while they are sampled, step by step.

    Attributes:
        prompt, base, teacher, seed: of what.
        until: the knobs that were others, as a line.
        spans: steps and knobs of the guided clip, as used.
        causes: what each of its steps depends on, beside the steps before it.
        known: seconds of its steps that were known.
        tracks: the clips.
        samplers: the steps of each that is not known, those of the guided clip in any case.
    """

    prompt: str
    base: str
    teacher: str
    seed: int
    until: str
    spans: tuple[Span, ...]
    causes: tuple[Any, ...]
    known: float
    tracks: tuple[Track, ...]
    samplers: Mapping[str, Iterator[Sampled]]

    @property
    def values(self) -> dict[str, Any]:
        """The knobs after the last change."""
        return self.spans[-1].values

    @property
    def each(self) -> list[dict[str, Any]]:
        """The knobs of each step."""
        return [span.values for span in self.spans for _ in range(span.first, span.last + 1)]

    @property
    def remembered(self) -> tuple[str, ...]:
        """The clips of one model alone that were known."""
        return tuple(track.name for track in self.tracks if track.name not in self.samplers)

    @property
    def seconds(self) -> float:
        """What was spent on sampling so far."""
        known = {track.name: self.known if track.name == GUIDED else 0.0 for track in self.tracks if track.name in self.samplers}
        return sum(max(0.0, track.steps[-1].seconds - known[track.name]) for track in self.tracks if track.name in known)

    def advance(self) -> None:
        """Sample one more step of every clip that is not known."""
        for track in self.tracks:
            if track.name in self.samplers:
                track.steps.append(next(self.samplers[track.name]))


class VideoGuideSession:
    """Models of the zoo or of folders, and the answers to every setting of the knobs that follow.

    Args:
        models: name -> zoo name or folder; empty for the zoo's own.
        device: where the models run.
    """

    def __init__(self, models: Mapping[str, str | Path] | None = None, *, device: str = "cpu") -> None:
        self.zoo = ZooSession(models, device=device)
        self._memory = Memory()
        self._branches = Branches()
        self._costs: dict[str, float] = {}

    @property
    def teachers(self) -> list[str]:
        """Who can be the teacher."""
        return [SELF, *self.zoo.names]

    def check(self, base: str, teacher: str, prompt: str) -> str:
        """Return the prompt as both models read it; see :func:`vidistill.lab.zoo_session.check_words`."""
        text = self.zoo.check(base, prompt)
        return text if choose("teacher", teacher, self.teachers) == SELF else self.zoo.check(teacher, prompt)

    def look(self, prompt: str, base: str, teacher: str, values: Mapping[str, Any], *, seed: int = 0, until: str = "") -> Look:
        """Return the last of :meth:`steps`."""
        *_, last = self.steps(prompt, base, teacher, values, seed=seed, until=until, previews=False)
        return last.result

    def steps(
        self, prompt: str, base: str, teacher: str, values: Mapping[str, Any], *, seed: int = 0, until: str = "", previews: bool = True
    ) -> Iterator[Step]:
        """Sample the guided clip and, unless they are known, the base's and the teacher's; results are previews and a :class:`Look`, which
        comes as soon as the clips are there, and again with a preview of every few steps and what drift and motion were at each.

        Args:
            prompt: what the models are told.
            base, teacher: their names; the teacher may be ``SELF``.
            values: the knobs.
            seed: of all noise.
            until: knobs of the guided clip that were others up to some step, see :mod:`vidistill.lab.until`.
            previews: decode frames on the way.

        Raises:
            InputError: a model cannot be loaded or does not know a word, the teacher cannot guide the base, a knob's value is not possible
                with them, or ``until`` is no such line or is not of this many steps.
        """
        k = KNOBS.resolve(values)
        choose("base model", base, self.zoo.names)
        if choose("teacher", teacher, self.teachers) == base:
            teacher = SELF
        for name in (base, *([] if teacher == SELF else [teacher])):
            yield Step(f"load {name}", 0, 1)
            self.zoo.load(name)
        run = self._begin(self.check(base, teacher, prompt), base, teacher, k, seed, until)
        yield from self._sample(run, previews)
        for track in run.tracks[:-1]:
            self._memory.get(self._key(run, track.name), lambda track=track: track)
        self._branches.keep(run.causes, run.tracks[-1].steps)
        yield Step("decode", 0, 1)
        look = self._look(run)
        yield Step("decode", 1, 1, look)
        total = run.values["sampling_steps"]
        wanted = list(range(1, total, -(-total // PREVIEWS)))
        for number, done in enumerate(wanted):
            yield Step("drift and motion on the way", number, len(wanted))
            for track in run.tracks:
                track.preview(done), track.seen(done)
        formed = {track.name: [track.preview(done) for done in wanted] for track in run.tracks}
        yield Step("drift and motion on the way", len(wanted), len(wanted), replace(look, formed=formed, paths=_paths(run, wanted)))

    def _begin(self, text: str, base: str, teacher: str, k: dict[str, Any], seed: int, until: str) -> Run:
        """Set up the clips and, before anything is sampled, check the knobs against the models."""
        from vidistill.sample import sample

        net = self.zoo.load(base)
        other = net if teacher == SELF else self.zoo.load(teacher)
        k = k | {"sampling_steps": k["sampling_steps"] or net.steps}
        parts = tuple(spans(until, KNOBS, k, k["sampling_steps"]))
        for part in parts:
            part.values["guidance"] = part.values["guidance"] or net.guidance
            First(part.values["guided"]).check(k["sampling_steps"])
        k, options = parts[-1].values, {"seeds": [seed], "steps": k["sampling_steps"]}
        steered = [steering(part.values, net, other, [text]) for part in parts]

        def pulled(number: int, start: int, latents: Tensor | None) -> Iterator[Sampled]:
            operators, guidance = steered[number]
            how = {"operators": operators, "guidance": guidance, "eta": parts[number].values["eta"]}
            return sample(net, [text], start=start, latents=latents, **options, **how)

        place = base, teacher, text, seed, k["sampling_steps"]
        causes = tuple((*place, *_causes(part.values, index)) for part in parts for index in range(part.first - 1, part.last))
        known = self._branches.known(causes)
        samplers: dict[str, Iterator[Sampled]] = {GUIDED: chain(known, onward(known, [part.last for part in parts], pulled))}
        run = Run(text, base, teacher, seed, told(segments(until, KNOBS)), parts, causes, known[-1].seconds if known else 0.0, (), {})
        tracks = []
        own = {"guidance": k["guidance"], "eta": k["eta"]}
        for name, model, how in ((BASE, net, own), *([] if other is net else [(TEACHER, other, {})])):
            if (track := self._memory.known(self._key(run, name))) is None:
                track, samplers[name] = Track(name, model, text), sample(model, [text], **options, **how)
            tracks.append(track)
        return replace(run, tracks=(*tracks, Track(GUIDED, net, text)), samplers=samplers)

    def _key(self, run: Run, name: str) -> tuple[Any, ...]:
        """What the clip of one model alone depends on."""
        k, who = run.values, run.base if name == BASE else run.teacher
        return name, who, run.prompt, run.seed, k["sampling_steps"], *((k["guidance"], k["eta"]) if name == BASE else ())

    def _sample(self, run: Run, previews: bool) -> Iterator[Step]:
        """Run the samplers in step; previews of all clips where they are paid for."""
        total, each = run.values["sampling_steps"], run.each
        pace = Pace(self._costs, f"{run.base} {len(run.samplers)}")
        for done in range(1, total + 1):
            run.advance()
            first = each[done - 1]["guided"]
            step = Step("guided step", done, first) if done <= first else Step("step", done, total)
            yield step
            if previews and pace.due(done, total, run.seconds):
                with pace.paid(done, total):
                    for track in run.tracks:
                        yield replace(step, result=track.preview(done))

    def _look(self, run: Run) -> Look:
        k, net, steered = run.values, run.tracks[-1].net, run.tracks[-1]
        grid, first, each = net.grid(k["sampling_steps"]), k["guided"], run.each
        ways = [_way(own, index) for index, own in enumerate(each)]
        forces = {name: [_rms(at.forces.get(name)) for at in steered.steps] for name in ("teacher", "low-pass")}
        mask, shape = torch.ones(net.shape[1:]), net.shape[1:]
        if k["space"] and first:
            mask = low_pass_mask(k["filter"], shape, k["space"], k["time"], k["order"])
        slice_ = torch.fft.fftshift(mask[:, :, 0])
        plain, pulled = (track.steps[-1].latents.float().cpu() for track in (run.tracks[0], steered))
        look = Look(
            prompt=run.prompt,
            base=run.base,
            teacher=run.teacher,
            seed=run.seed,
            values=k,
            until=run.until,
            takes={track.name: self._take(run, track) for track in run.tracks},
            numbers={name: {track.name: track.numbers[name] for track in run.tracks} for name in steered.numbers},
            times=[float(now.t) for now, _ in grid],
            ways=ways,
            scales=[
                guidance_scale(own["lam"], *at) if way == "cfg++" else own["guidance"]
                for way, own, at in zip(ways, each, grid, strict=True)
            ],
            forces=forces,
            apart=[
                force / (1 - own["beta"])
                for index, (force, own) in enumerate(zip(forces["teacher"], each, strict=True))
                if index < own["guided"] and own["beta"] < 1
            ],
            mask=slice_.tolist() if k["space"] and first else [],
            axes=(_frequencies(shape[0]), _frequencies(shape[1])),
            kept=int((mask > 0.5).sum()),
            modes=mask.numel(),
            changed=float((pulled - plain).square().mean().sqrt() / plain.square().mean().sqrt()),
            guided=_guided(each) if run.until else First(first).told(grid),
            remembered=run.remembered,
            paths=_paths(run, []),
        )
        return replace(look, alarms=alarms(look))

    def _take(self, run: Run, track: Track) -> Take:
        k, last = run.values, track.steps[-1]
        guidance = track.net.guidance if track.name == TEACHER else k["guidance"]
        model, steps = run.teacher if track.name == TEACHER else run.base, k["sampling_steps"]
        return Take(model, run.prompt, run.seed, steps, guidance, track.clip, track.readings, last.seconds, last.evaluations, 0.0)


def measured(clip: Tensor) -> dict[str, float | None]:
    """Return drift, motion and the offline probes of a clip, uint8 ``[3, T, S, S]``; None where there is no number."""
    parsed = parse(clip[None])
    table = video_table(clip[None])
    found = {f"drift_{name}": value for name, value in drift(parsed).items()} | {"motion": motion_seen(parsed)}
    return {name: _number(value) for name, value in (found | {name: table[name] for name in SHOWN}).items()}


def alarms(look: Look) -> dict[str, str]:
    """Name the failures that a look shows: what is seen, against the models alone, and what may help."""
    k = look.values
    if not any(map(any, look.forces.values())):
        late = f"the first {k['guided']} steps had other knobs"
        why = "I is 0" if not k["guided"] else "beta is 1 and there is no low-pass" if k["beta"] == 1 and not k["space"] else late
        rest = "Clips differ only in how outputs are combined." if look.changed else "The guided clip is the base's."
        return {"no teacher": f"Nothing steers: {why}. {rest}"}
    found: dict[str, str] = {}
    if look.changed < SLIGHT:
        found["no effect"] = f"Guidance changed the base's clip by {look.changed:.1%} of its size. Less beta, or more guided steps."
    motion, steady, drifts = ({name: value for name, value in look.numbers[what].items() if value is not None} for what in SEEN)
    if GUIDED not in drifts and BASE in drifts:
        found["no object"] = "No frame of the clip shows an object. More evaluations of the teacher, fewer guided steps, or more beta."
    alone = {name: value for name, value in motion.items() if name != GUIDED}
    if GUIDED in motion and alone and motion[GUIDED] < SLOWED * min(alone.values()):
        shares = " and ".join(f"{motion[GUIDED] / max(value, 1e-12):.0%} as much as the {name}" for name, value in alone.items())
        rose = f" Its subject's consistency rose from {steady[BASE]:.2f} to {steady[GUIDED]:.2f}: a still picture has the best there is."
        found["less motion"] = f"The clip moves {shares}.{rose if steady[GUIDED] > steady[BASE] else ''} Fewer guided steps, or more beta."
    if GUIDED in drifts and BASE in drifts and drifts[GUIDED] > drifts[BASE] + MORE_DRIFT:
        found["more drift"] = (
            f"{drifts[GUIDED]:.0%} of its frames show another object or scene, {drifts[BASE]:.0%} of the base's. "
            "More beta, fewer guided steps, or a higher cut-off."
        )
    pairs = zip(look.takes[BASE].readings, look.takes[GUIDED].readings, strict=True)
    if lost := [one.factor for one, now in pairs if one.right and not now.right]:
        found["words lost"] = f"As asked in the base's clip and not in the guided one: {', '.join(lost)}. More beta, or another teacher."
    plus = [scale for way, scale in zip(look.ways, look.scales, strict=True) if way == "cfg++"]
    weak = [scale for scale in plus if scale < WEAK * k["guidance"]]
    if 2 * len(weak) > len(plus):  # a last step or two are always
        found["weak guidance"] = (
            f"{len(weak)} of {len(plus)} steps of CFG++ equal ordinary guidance of at most {max(weak):.1f}, where {look.base} has "
            f"{k['guidance']:g}. More lam, or cfg."
        )
    return found


def _paths(run: Run, wanted: Sequence[int]) -> dict[str, dict[str, list[Any]]]:
    steps = [*wanted, run.values["sampling_steps"]]
    seen = {track.name: [track.seen(done) for done in steps] for track in run.tracks}
    return {name: {"step": steps, "drift": [one for one, _ in rows], "motion": [two for _, two in rows]} for name, rows in seen.items()}


def _way(k: Mapping[str, Any], index: int) -> str:
    """Return how outputs are combined in a step."""
    return k["inside"] if index < k["guided"] else k["outside"]


def _causes(k: Mapping[str, Any], index: int) -> tuple[Any, ...]:
    """Return the knobs that a step of the guided clip depends on."""
    way, steers = _way(k, index), index < k["guided"]
    teaching = TEACHES if steers and k["beta"] < 1 else ()
    filtering = FILTERS if steers and k["space"] else ()
    return k["eta"], way, k["lam" if way == "cfg++" else "guidance"], *((name, k[name]) for name in (*teaching, *filtering))


def _guided(each: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(index < k['guided'] for index, k in enumerate(each))} of {len(each)} steps are guided"


def _frequencies(n: int) -> list[float]:
    return torch.fft.fftshift(2 * torch.fft.fftfreq(n)).tolist()


def _number(value: Tensor) -> float | None:
    return None if math.isnan(number := float(value)) else number


def _rms(force: Tensor | None) -> float:
    return 0.0 if force is None else float(force.square().mean().sqrt())
