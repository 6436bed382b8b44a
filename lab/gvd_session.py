"""GVD without a screen: one clip of a class pulled to a centre of its real clips, beside its unguided twin from the same noise.

    x0' = x0 + lambda s_t w_f (m - x0)

The twin depends on neither lambda nor the rest of the pull: it is sampled once and kept, and a guided clip is sampled from the first step
that is pulled, or that no earlier clip has in common with it. Both run in step, each as one clip alone, so what is remembered is what would
be sampled again, bit for bit.

The knobs of the guided clip may change on the way, see :mod:`vidistill.lab.until`; its twin has those of now.

Shapes: N steps, T frames; clips uint8 ``[3, T, H, W]``, latents float32 ``[1, C, T, h, w]``. Distances are root mean squares of latents.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidistill.codec import encode_store
from vidistill.data import spoken
from vidistill.data.world import MOTIONS
from vidistill.errors import choose
from vidistill.guide import Pull
from vidistill.knobs import Knob, Knobs
from vidistill.lab.branches import Branches, onward
from vidistill.lab.memory import Memory
from vidistill.lab.presets import load_presets
from vidistill.lab.previews import PREVIEWS, Pace, Preview, preview
from vidistill.lab.session import WorldClips
from vidistill.lab.steps import Step
from vidistill.lab.until import Span, segments, spans, told
from vidistill.lab.zoo_session import Reading, ZooSession, read
from vidistill.measure.generated import nearest
from vidistill.measure.guided import way
from vidistill.papers.gvd import KNOBS as PAPER
from vidistill.schedule import Interval, Time, frame_weights, pull_weight
from vidistill.select.centres import STILL, Centres, class_centres, motion
from vidistill.types import Latents

if TYPE_CHECKING:
    from vidistill.sample import Denoiser
    from vidistill.sample import Step as Sampled

PULL = ("strength", "weight", "decay", "t_high", "t_low", "centre")
PULLED = ("strength", "weight", "decay", "centre", "centres", "pick")
"""What a step that is pulled depends on."""

SAMPLER = ("sampling_steps", "guidance", "eta")

KNOBS = Knobs(
    "gvd",
    *(PAPER[name] for name in PULL),
    Knob("centres", 8, "centres of the class", low=1, high=100, symbol="K", source="GVD: min(U IPC, clips of the class)", group="pull"),
    Knob("pick", 1, "the centre that pulls", low=1, high=100, symbol="k", source="GVD: the videos of a class take turns", group="pull"),
    *(PAPER[name] for name in SAMPLER),
)
"""The paper's knobs that show in one clip, and two for what its rule ``K = min(U IPC, n_c)``, ``k = j mod K`` gives."""

PRESETS = ("paper", "mgd3", "ours")
TWIN, GUIDED, CENTRE = "unguided twin", "guided", "centre"

SLIGHT = 0.05
"""Pull below which guidance is called without effect."""

FARTHER, FAINT, LOUD = 1.25, 0.8, 1.25
"""Off the data: so much farther from every real clip than the twin, or a norm below or above these shares of the twin's and of the
centre's clips'."""


def presets() -> dict[str, dict[str, Any]]:
    """Return the paper's presets as far as one clip shows them; their ``centres`` are U IPC of that preset, before a class caps them."""
    found = {}
    for name, written in load_presets("gvd").items():
        if name in PRESETS:
            whole = PAPER.resolve({knob: value for knob, value in written.items() if knob != "about"})
            count = min(whole["videos"] * whole["instances"], int(KNOBS["centres"].high or 0))
            found[name] = {"about": written["about"], "centres": count} | {knob: whole[knob] for knob in (*PULL, *SAMPLER)}
    return found


@dataclass(frozen=True)
class Look:
    """A guided clip, its twin and its centre.

    Attributes:
        label, prompt, model, seed: of what.
        values: the knobs, as used, after the last change on the way.
        until: the knobs that were others before, see :mod:`vidistill.lab.until`; "" where none were.
        clips: ``TWIN``, ``GUIDED``, ``CENTRE`` -> the clip.
        pictures: uint8 ``[K, 3, H, W]``, the middle frame of each centre of the class.
        sizes: clips of each centre's cluster.
        motions, norms: of each centre, as shares of its clips'.
        centres: what the centres move like, in words.
        times: timestep of each step.
        rates: ``lambda s_t`` of each step, 0 where it is not guided. What is told of a step is by the knobs that it had.
        decay: ``w_f`` of each frame.
        gone: share of the way from the twin to the centre that each frame has gone in the end, along the straight line.
        force: ``[N][T]``, root mean square of the pull's change of the clean clip.
        paths: ``TWIN``, ``GUIDED`` -> distance of the predicted clean clip to the centre that pulls, after each step.
        numbers: ``distance`` to the centre, ``motion`` and ``norm`` as shares of the real clips', ``nearest``: distance to the nearest real
            clip, of each of ``clips``; and of ``real`` clips, where that is a number.
        readings: name -> the motion that the exact parser reads.
        pull: ``1 - |x - m| / |x0 - m|``, x0 the twin.
        way: share of the way to the centre, along the straight line; above 1 is beyond it.
        guided: how many steps are guided, in words.
        seconds: sampling and decoding, without what was known.
        evaluations: of the network, likewise.
        remembered: whether the twin was known.
        alarms: failure -> what is seen, and what may help.
        formed: ``TWIN``, ``GUIDED`` -> previews on the way; empty until they are made.
    """

    label: str
    prompt: str
    model: str
    seed: int
    values: dict[str, Any]
    until: str
    clips: dict[str, Tensor]
    pictures: Tensor
    sizes: list[int]
    motions: list[float]
    norms: list[float]
    centres: str
    times: list[float]
    rates: list[float]
    decay: list[float]
    gone: list[float]
    force: list[list[float]]
    paths: dict[str, list[float]]
    numbers: dict[str, dict[str, float]]
    readings: dict[str, str]
    pull: float
    way: float
    guided: str
    seconds: float
    evaluations: int
    remembered: bool
    alarms: dict[str, str] = field(default_factory=dict)
    formed: dict[str, list[Preview]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, JSON-ready."""
        return {name: value for name, value in vars(self).items() if name not in ("clips", "pictures", "formed")}


@dataclass(frozen=True)
class Real:
    """Real clips of one class.

    Attributes:
        z: their latents. motion: their mean energy of change. norm: the median of their norms. nearest: the median distance of one to the
            nearest other.
    """

    z: Latents
    motion: float
    norm: float
    nearest: float


class Twin:
    """A clip without pull: the sampler's steps, and the previews that were asked for."""

    def __init__(self) -> None:
        self.steps: list[Sampled] = []
        self.previews: dict[int, Preview] = {}


class Part:
    """Steps of a guided clip that have the same knobs.

    Args:
        span: the steps, and the knobs as used.
        label: the class. net: the model. found: the centres of the class.
    """

    def __init__(self, span: Span, label: str, net: Denoiser, found: Centres) -> None:
        k = self.k = span.values
        self.last, self.found, self.m = span.last, found, found.z[[k["pick"] - 1]]
        self.interval = Interval(k["t_high"], k["t_low"])
        self.pull = Pull(self.m, k["strength"], k["weight"], k["decay"], self.interval)
        self.rates = [self._rate(now, after) for now, after in net.grid(k["sampling_steps"])[span.first - 1 : span.last]]
        plain = k["guidance"], k["eta"]
        pulled = *plain, label, *(k[name] for name in PULLED)
        self.causes = [pulled if rate else plain for rate in self.rates]

    def _rate(self, now: Time, after: Time) -> float:
        return self.k["strength"] * pull_weight(self.k["weight"], now, after, self.k["eta"]) if self.interval.holds(now.t) else 0.0


class Run:
    """A guided clip while it is sampled, step by step with its twin.

    Args:
        label, prompt, model, seed, until: of what; the knobs that were others, as a line.
        net: the model.
        parts: the guided clip's, in turn.
        known: the twin, when it was sampled before.

    Attributes:
        causes: what each step of the guided clip depends on, beside the steps before it.
        shared: how many of its first steps are the twin's.
        own: how many of them are known or the twin's; those after them are sampled for it alone.
    """

    def __init__(
        self, label: str, prompt: str, model: str, seed: int, until: str, net: Denoiser, parts: list[Part], known: Twin | None
    ) -> None:
        self.label, self.prompt, self.model, self.seed, self.until, self.net, self.parts = label, prompt, model, seed, until, net, parts
        self.k, self.found = parts[-1].k, parts[-1].found
        self.twin, self.known = known or Twin(), known is not None
        self.grid = net.grid(self.k["sampling_steps"])
        self.rates = [rate for part in parts for rate in part.rates]
        place = model, prompt, seed, self.k["sampling_steps"]
        self.causes = [(*place, *cause) for part in parts for cause in part.causes]
        plain = *place, self.k["guidance"], self.k["eta"]
        self.shared = next((index for index, cause in enumerate(self.causes) if cause != plain), len(self.causes))
        self.guided: list[Sampled] = []
        self.own = len(self.causes)
        self._previews: dict[int, Preview] = {}

    @property
    def centres(self) -> list[Tensor]:
        """The centre that pulls, of each step."""
        return [part.m for part in self.parts for _ in part.rates]

    @property
    def spent(self) -> tuple[float, int]:
        """Seconds of sampling and evaluations of the network so far, without those of steps that were known."""
        steps = [] if self.known else self.twin.steps[-1:]
        paid, before = [*steps, *self.guided[self.own :][-1:]], self.guided[: self.own][-1:] if len(self.guided) > self.own else []
        seconds = sum(step.seconds for step in paid) - sum(step.seconds for step in before)
        return seconds, sum(step.evaluations for step in paid) - sum(step.evaluations for step in before)

    def told(self) -> str:
        """Say how many steps are guided."""
        count, last = sum(map(bool, self.rates)), self.parts[-1]
        if count and len(self.parts) > 1:
            return f"{count} of {len(self.rates)} steps are guided"
        return last.interval.told(self.grid) if self.k["strength"] else f"0 of {len(self.rates)} steps are guided: lambda is 0"

    def preview(self, done: int) -> tuple[Preview, Preview]:
        """Return a frame of the twin and of the guided clip after a step."""
        steps, plain, pulled = self.k["sampling_steps"], self.twin.steps[done - 1], self.guided[done - 1]
        if done not in self.twin.previews:
            self.twin.previews[done] = preview(self.net, plain.x0, TWIN, done, steps)
        if done not in self._previews:
            same = replace(self.twin.previews[done], name=GUIDED)
            self._previews[done] = same if pulled is plain else preview(self.net, pulled.x0, GUIDED, done, steps)
        return self.twin.previews[done], self._previews[done]


class GvdSession:
    """Models, real clips of Motion World and their centres, and the answers to every setting of the knobs that follow.

    Args:
        models: name -> zoo name or folder; empty for the zoo's own.
        per_class: real clips of each class.
        seed: of the real clips and of the centres.
        device: where the models run.
    """

    classes = tuple(MOTIONS)

    def __init__(self, models: Mapping[str, str | Path] | None = None, *, per_class: int = 24, seed: int = 0, device: str = "cpu") -> None:
        self.zoo = ZooSession(models, device=device)
        self.per_class = per_class
        self._seed = seed
        self._memory = Memory()
        self._branches = Branches()
        self._costs: dict[str, float] = {}

    def prompt(self, label: str) -> str:
        """Return the prompt of a class as the paper has it: its name in words."""
        return str(PAPER["prompt"].default).replace("{class}", spoken(choose("class", label, self.classes)))

    def look(self, label: str, prompt: str, model: str, values: Mapping[str, Any], *, seed: int = 0, until: str = "") -> Look:
        """Return the last of :meth:`steps`."""
        *_, last = self.steps(label, prompt, model, values, seed=seed, until=until, previews=False)
        return last.result

    def steps(
        self, label: str, prompt: str, model: str, values: Mapping[str, Any], *, seed: int = 0, until: str = "", previews: bool = True
    ) -> Iterator[Step]:
        """Sample the guided clip and its twin from the first step on that is not known; results are previews of both and a :class:`Look`,
        which comes as soon as the clips are there, and again with a preview of every few steps.

        Args:
            label: the class, whose real clips have the centres.
            prompt: what the model is told.
            model: its name.
            values: the knobs.
            seed: of the noise.
            until: knobs of the guided clip that were others up to some step, see :mod:`vidistill.lab.until`.
            previews: decode frames on the way.

        Raises:
            InputError: the model cannot be loaded or does not know a word, a knob's value is not possible with it, or ``until`` is no such
                line or is not of this many steps.
        """
        choose("class", label, self.classes)
        k = KNOBS.resolve(values)
        yield Step(f"load {model}", 0, 1)
        text = self.zoo.check(model, prompt)
        net = self.zoo.load(model)
        yield Step(f"real clips of {label}", 0, 1)
        k |= {"sampling_steps": k["sampling_steps"] or net.steps}
        parts = [self._part(net, label, span) for span in spans(until, KNOBS, k, k["sampling_steps"])]
        twin = ("twin", *_same(model, text, seed, parts[-1].k))
        run = Run(label, text, model, seed, told(segments(until, KNOBS)), net, parts, self._memory.known(twin))
        yield from self._sample(run, previews)
        self._memory.get(twin, lambda: run.twin)
        self._branches.keep(run.causes, run.guided)
        yield Step("decode", 0, 1)
        look = self._look(run)
        yield Step("decode", 1, 1, look)
        wanted = range(1, len(run.guided), -(-len(run.guided) // PREVIEWS))
        for number, done in enumerate(wanted):
            yield Step("previews", number, len(wanted))
            run.preview(done)
        shown = [run.preview(done) for done in wanted]
        formed = {name: [pair[at] for pair in shown] for at, name in enumerate((TWIN, GUIDED))}
        yield Step("previews", len(wanted), len(wanted), replace(look, formed=formed))

    def _part(self, net: Denoiser, label: str, span: Span) -> Part:
        """Set steps up: the knobs that name the model's own value, or more centres than there are, get a number."""
        k = span.values
        found = self.centres(net, label, k)
        k |= {"centres": len(found.z), "pick": min(k["pick"], len(found.z)), "guidance": k["guidance"] or net.guidance}
        return Part(span, label, net, found)

    def _sample(self, run: Run, previews: bool) -> Iterator[Step]:
        """Run the sampler; previews of both clips where they are paid for."""
        pace, total = Pace(self._costs, run.model), run.k["sampling_steps"]
        for done, (plain, pulled) in enumerate(self._pairs(run), 1):
            if not run.known:
                run.twin.steps.append(plain)
            run.guided.append(pulled)
            yield Step("sample", done, total)
            if previews and pace.due(done, total, run.spent[0]):
                with pace.paid(done, total):
                    for shown in run.preview(done):
                        yield Step("sample", done, total, shown)

    def _look(self, run: Run) -> Look:
        k, net, found, row, at = run.k, run.net, run.found, run.k["pick"] - 1, run.centres
        began = time.perf_counter()
        place = (*_place(net, run.label), k["centres"], k["centre"])
        m, plain, pulled = at[-1], run.twin.steps[-1], run.guided[-1]
        clips = {
            TWIN: self._memory.get(("clip", *_same(run.model, run.prompt, run.seed, k)), lambda: _decoded(net, plain.latents)),
            GUIDED: _decoded(net, pulled.latents),
            CENTRE: self._memory.get(("centre", *place, row), lambda: _decoded(net, m)),
        }
        spent, evaluations = run.spent
        seconds = spent + time.perf_counter() - began
        x0, x = plain.latents.float().cpu(), pulled.latents.float().cpu()
        numbers = _numbers({TWIN: x0, GUIDED: x, CENTRE: m}, m, self._real(net, run.label))
        nothing = torch.zeros(1, net.shape[1])
        look = Look(
            label=run.label,
            prompt=run.prompt,
            model=run.model,
            seed=run.seed,
            values=k,
            until=run.until,
            clips=clips,
            pictures=self._memory.get(("pictures", *place), lambda: _middles(net, found)),
            sizes=found.sizes.tolist(),
            motions=found.motion.tolist(),
            norms=found.norms.tolist(),
            centres=found.told(),
            times=[float(now.t) for now, _ in run.grid],
            rates=run.rates,
            decay=frame_weights(k["decay"], net.shape[1]).tolist(),
            gone=[float(way(*(z[:, :, f] for z in (x, x0, m)))) for f in range(net.shape[1])],
            force=[step.forces.get(Pull.name, nothing)[0].tolist() for step in run.guided],
            paths={TWIN: _paths(run.twin.steps, at), GUIDED: _paths(run.guided, at)},
            numbers=numbers,
            readings={name: _motion(clip) for name, clip in clips.items()},
            pull=1 - numbers["distance"][GUIDED] / max(numbers["distance"][TWIN], 1e-12),
            way=float(way(x, x0, m)),
            guided=run.told(),
            seconds=seconds,
            evaluations=evaluations,
            remembered=run.known,
        )
        return replace(look, alarms=alarms(look))

    def _pairs(self, run: Run) -> Iterator[tuple[Sampled, Sampled]]:
        """Yield the steps of the twin and of the guided clip in pairs; as long as they depend on the same they are one."""
        from vidistill.sample import sample

        def sampler(k: Mapping[str, Any], **more: Any) -> Iterator[Sampled]:
            return sample(run.net, [run.prompt], seeds=[run.seed], steps=k["sampling_steps"], guidance=k["guidance"], eta=k["eta"], **more)

        def pulled(number: int, start: int, latents: Tensor | None) -> Iterator[Sampled]:
            part = run.parts[number]
            return sampler(part.k, operators=(part.pull,), start=start, latents=latents)

        plains = run.twin.steps if run.known else sampler(run.k)
        for number in range(len(run.parts) - 1):
            pulled(number, 0, None)  # what these knobs cannot be with the model is refused before anything is sampled
        known = self._branches.known(run.causes)
        run.own = max(len(known), run.shared)
        rest: Iterator[Sampled] = iter(())
        for index, plain in enumerate(plains):
            if index == run.own:
                rest = onward(run.guided, [part.last for part in run.parts], pulled)
            yield plain, known[index] if index < len(known) else plain if index < run.own else next(rest)

    def _real(self, net: Denoiser, label: str) -> Real:
        """The same scenes for every class: only the motion differs."""

        def make() -> Real:
            z = encode_store(net.codec, WorldClips(self._seed, self.per_class, (label,), frames=net.frames, size=net.size))
            others = [float(nearest(z.z[[i]], torch.cat([z.z[:i], z.z[i + 1 :]]))[0, 0]) for i in range(len(z))]
            norms = z.z.flatten(1).square().mean(1).sqrt()
            return Real(z, float(motion(z.z).mean()), float(norms.median()), float(torch.tensor(others).median()))

        return self._memory.get(("real", *_place(net, label)), make)

    def centres(self, net: Denoiser, label: str, k: Mapping[str, Any]) -> Centres:
        """Return the centres of a class, ``k["centres"]`` of the kind ``k["centre"]``, made once."""
        return self._memory.get(
            ("centres", *_place(net, label), k["centres"], k["centre"]),
            lambda: class_centres(self._real(net, label).z, k=k["centres"], kind=k["centre"], seed=self._seed),
        )


def alarms(look: Look) -> dict[str, str]:
    """Name the failures that a look shows: what is seen, against the twin, and what may help."""
    if not any(look.rates):
        same = torch.equal(look.clips[GUIDED], look.clips[TWIN])
        rest = "The guided clip is its twin." if same else "The clips differ only in how the prompt pulls and noise is added."
        return {"no guidance": f"{look.guided[0].upper()}{look.guided[1:]}. {rest}"}
    found: dict[str, str] = {}
    row, moves, norm, near = look.values["pick"] - 1, look.numbers["motion"], look.numbers["norm"], look.numbers["nearest"]
    if look.pull < SLIGHT:
        found["no effect"] = f"The clip is {look.pull:.0%} nearer to the centre than its twin. More lambda, or more guided steps."
    own = max(look.motions[row], 1e-12)
    least = {"its twin": moves[TWIN], "its centre's clips": moves[CENTRE] / own, "real clips": 1.0}
    name = min(least, key=lambda what: least[what])
    if moves[GUIDED] < STILL * least[name]:
        why = f"Its centre moves {own:.0%} as much as its clips: take more centres, or a medoid." if own < STILL else "Pull less."
        found["still"] = f"The clip moves {moves[GUIDED] / least[name]:.0%} as much as {name}. {why}"
    typical = (norm[TWIN], norm[CENTRE] / max(look.norms[row], 1e-12))  # of the twin, and of the clips that the centre stands for
    if norm[GUIDED] < FAINT * min(typical):
        why = "a blur, or two clips in one. Guide the early steps only, or take the score weight."
        found["off the data"] = f"The clip has {norm[GUIDED] / min(typical):.0%} of the norm that it should have: {why}"
    elif norm[GUIDED] > LOUD * max(typical):
        found["off the data"] = f"The clip has {norm[GUIDED] / max(typical):.0%} of the norm that it should have: overdriven. Pull less."
    elif near[GUIDED] > FARTHER * near[TWIN]:
        found["off the data"] = f"The clip is {near[GUIDED] / near[TWIN]:.2f} times as far from real clips as its twin. Pull less."
    if look.way > 1:
        found["overshoot"] = f"The clip went {look.way:.0%} of the way to the centre: beyond it. Pull less, or stop earlier."
    if look.readings[TWIN] == look.label != look.readings[GUIDED]:
        seen = {"hidden": "nothing that it knows"}.get(look.readings[GUIDED], look.readings[GUIDED])
        found["another class"] = f"The parser reads {seen}, and {look.label} in the twin. Pull less, or take another centre."
    return found


def _same(model: str, text: str, seed: int, k: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a clip without pull depends on."""
    return model, text, seed, *(k[name] for name in SAMPLER)


def _place(net: Denoiser, label: str) -> tuple[Any, ...]:
    """What real clips and their latents depend on."""
    return net.codec.fingerprint, net.frames, net.size, label


def _decoded(net: Denoiser, z: Tensor) -> Tensor:
    return net.codec.decode(z, net.frames)[0].cpu()


def _rms(z: Tensor) -> float:
    return float(z.square().mean().sqrt())


def _paths(steps: Sequence[Sampled], centres: Sequence[Tensor]) -> list[float]:
    """Return the distance to a centre after each step."""
    return [_rms(step.x0.float().cpu() - m) for step, m in zip(steps, centres, strict=True)]


def _motion(clip: Tensor) -> str:
    rows: tuple[Reading, ...] = read(clip, "")
    return next(row.seen for row in rows if row.factor == "motion")


def _middles(net: Denoiser, found: Centres) -> Tensor:
    at = net.shape[1] // 2
    return torch.cat([net.codec.decode(m[None, :, at : at + 1], 1)[:, :, 0].cpu() for m in found.z])


def _numbers(clips: Mapping[str, Tensor], m: Tensor, real: Real) -> dict[str, dict[str, float]]:
    return {
        "distance": {name: _rms(z - m) for name, z in clips.items()},
        "motion": {name: float(motion(z)) / max(real.motion, 1e-12) for name, z in clips.items()} | {"real": 1.0},
        "nearest": {name: float(nearest(z, real.z.z)[0, 0]) for name, z in clips.items()} | {"real": real.nearest},
        "norm": {name: _rms(z) / max(real.norm, 1e-12) for name, z in clips.items()} | {"real": 1.0},
    }
