"""The zoo without a screen: a prompt in Motion World's words, a model, a seed; out come a clip and what the exact parser reads in it.

Shapes: B = 1 clip, T frames, H = W pixels; pixels uint8 ``[3, T, H, W]``, latents float32 ``[1, C, T, h, w]``.
"""

from __future__ import annotations

import difflib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidistill import shipped, zoo
from vidistill.data.parse import HIDDEN, parse
from vidistill.data.world import FACTORS, MOTIONS, phrase
from vidistill.errors import InputError, choose
from vidistill.files import load_json
from vidistill.knobs import Knob, Knobs
from vidistill.lab.cores import spare_one
from vidistill.lab.footprint import weights
from vidistill.lab.previews import Pace, preview
from vidistill.lab.steps import Step
from vidistill.sample.load import FAMILIES
from vidistill.sample.words import strange, vocabulary

if TYPE_CHECKING:
    from vidistill.sample import Denoiser

MODELS = ("lab-dit", "lab-unet", "lab-base")
"""The zoo's text-to-video models, the best first."""

PROMPT = "a purple star orbiting over a forest background, camera pan-left"

KNOBS = Knobs(
    "zoo",
    Knob(
        "steps", 20, "steps from noise to clip", low=1, high=50, step=1, symbol="N",
        source="50 is the default of diffusers' ModelScope and Wan pipelines", group="sampler",
    ),
    Knob(
        "guidance", 2.0, "pull towards the prompt, 1 is none", low=1, high=12, step=0.5, symbol="g",
        source="classifier-free guidance, Ho and Salimans 2022; those pipelines' defaults are 9 and 5, lab-dit's is 2",
        equation=r"\hat\epsilon = \epsilon_\theta(x_t, \emptyset) + g\,(\epsilon_\theta(x_t, c) - \epsilon_\theta(x_t, \emptyset))",
        group="sampler",
    ),
    Knob("seed", 0, "seed of the first noise, the same for every model", low=0, source="ours", group="sampler"),
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------------------- words


def compose(said: Mapping[str, str]) -> str:
    """Return the caption that says these factors, in the words the models were trained with; a shape that is not said is called a shape.

    Raises:
        InputError: an unknown factor or value.
    """
    for factor, value in said.items():
        choose(factor, value, FACTORS[choose("factor", factor, FACTORS)])
    return phrase(said)


def asked(prompt: str) -> dict[str, str]:
    """Return the factors that a prompt names, the first word of each kind; the rest is missing."""
    spoken = {word: factor_value for factor, names in FACTORS.items() for word, factor_value in _spoken(factor, names)}
    found: dict[str, str] = {}
    for word in re.findall(r"[a-z]+(?:-[a-z]+)*", tidy(prompt)):
        if word in spoken:
            factor, value = spoken[word]
            found.setdefault(factor, value)
    return {factor: found[factor] for factor in FACTORS if factor in found}


def _spoken(factor: str, names: Sequence[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for name in names:
        yield name, (factor, name)
        if factor == "motion":
            yield MOTIONS[name], (factor, name)


def tidy(prompt: str) -> str:
    """Return a prompt in lower case with single spaces: what the tokenizers were built for."""
    return " ".join(prompt.lower().split())


def check_words(prompt: str, tokenizer: Any, model: str) -> str:
    """Return the prompt tidied.

    Raises:
        InputError: it has words that the tokenizer does not know, each named with the nearest known one, or is too long.
    """
    text, known = tidy(prompt), sorted(vocabulary(tokenizer))
    if unknown := strange(tokenizer, [text]):
        near = [f"{word!r} (nearest known word: {difflib.get_close_matches(word, known, 1, 0)[0]!r})" for word in unknown]
        raise InputError(f"{model} does not know {', '.join(near)}; change the prompt")
    length, most = len(tokenizer(text).input_ids), tokenizer.model_max_length
    if length > most:
        raise InputError(f"the prompt is too long for {model}: {length} tokens, it reads {most}; leave something out")
    return text


# ------------------------------------------------------------------------------------------------------------------ results


@dataclass(frozen=True)
class Reading:
    """One factor of a clip.

    Attributes:
        factor: its name.
        asked: the value in the prompt, "" when the prompt does not say.
        seen: the value that the parser reads, ``"hidden"`` where nothing can be seen.
        frames: frames that show ``seen`` on their own, and frames in which the factor can be read; None for what takes a clip to see.
    """

    factor: str
    asked: str
    seen: str
    frames: tuple[int, int] | None

    @property
    def right(self) -> bool | None:
        """Whether the clip shows what was asked; None when nothing was."""
        return self.seen == self.asked if self.asked else None


@dataclass(frozen=True)
class Take:
    """A clip, how it was made and what is in it.

    Attributes:
        model, prompt, seed, steps, guidance: how it was made.
        clip: uint8 ``[3, T, H, W]``.
        readings: one a factor, in the order of ``FACTORS``.
        seconds: sampling and decoding, without loading and previews.
        evaluations: of the network.
        preview_seconds: spent on previews.
    """

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    clip: Tensor
    readings: tuple[Reading, ...]
    seconds: float
    evaluations: int
    preview_seconds: float

    @property
    def score(self) -> tuple[int, int]:
        """Factors as asked, and factors asked."""
        marks = [reading.right for reading in self.readings if reading.right is not None]
        return sum(marks), len(marks)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, JSON-ready."""
        plain = {name: value for name, value in vars(self).items() if name not in ("clip", "readings")}
        rows = [vars(reading) | {"right": reading.right} for reading in self.readings]
        return plain | {"readings": rows}


def read(clip: Tensor, prompt: str) -> tuple[Reading, ...]:
    """Read the factors of a clip, uint8 ``[3, T, S, S]``, beside those that the prompt names."""
    parsed, wanted = parse(clip[None]), asked(prompt)
    (seen,) = parsed.records()
    readings = []
    for factor in FACTORS:
        each = getattr(parsed, f"frame_{factor}", None)
        counts = None
        if each is not None:
            counts = int((each == getattr(parsed, factor)[:, None])[each != HIDDEN].sum()), int((each != HIDDEN).sum())
        readings.append(Reading(factor, wanted.get(factor, ""), seen[factor], counts))
    return tuple(readings)


# ------------------------------------------------------------------------------------------------------------------ session


def named(text: str) -> dict[str, str]:
    """Read models from one line, ``"lab-dit, mine=runs/mine/model"``: names of the zoo or folders, with a name of one's own or without.

    Raises:
        InputError: two models have one name.
    """
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        own, _, place = item.rpartition("=")
        name = own.strip() or Path(place).name
        if name in found:
            raise InputError(f"two models are called {name!r}; give one a name of its own: name=folder")
        found[name] = place.strip()
    return found


class ZooSession:
    """Text-to-video models that are loaded once, when first needed, and kept.

    Args:
        models: name -> zoo name or folder; empty for the zoo's own.
        device: where they run.
    """

    def __init__(self, models: Mapping[str, str | Path] | None = None, *, device: str = "cpu") -> None:
        spare_one()
        self._places = dict(models or {name: name for name in MODELS})
        self._device = device
        self._loaded: dict[str, Denoiser] = {}
        self._lock = threading.Lock()  # pages of several browsers share one session
        self._costs: dict[str, float] = {}  # seconds of the cheapest preview of each model

    @property
    def names(self) -> list[str]:
        """The models' names."""
        return list(self._places)

    def folder(self, name: str) -> Path:
        """Return a model's folder.

        Raises:
            InputError: no such model.
        """
        return shipped.locate(self._places[choose("model", name, self._places)])

    def load(self, name: str) -> Denoiser:
        """Return a model.

        Raises:
            InputError: no such model, a damaged folder, or a model that makes no clips from text.
        """
        from vidistill.sample import Denoiser

        place = self._places[choose("model", name, self._places)]
        with self._lock:
            if name not in self._loaded:
                model = zoo.load(place, device=self._device)
                if not isinstance(model, Denoiser):
                    raise InputError(f"{name} is no text-to-video model but a {type(model).__name__}; pick one of {', '.join(MODELS)}")
                model.codec.decode(torch.zeros(1, *model.shape)[:, :, :1], 1)  # the first call for a shape is slow: not in a preview
                self._loaded[name] = model
            return self._loaded[name]

    def forecast(self, *names: str) -> int:
        """Return the bytes that a run of these models takes for weights which are not loaded yet; what its steps need comes on top."""
        wide = 4 if self._device == "cpu" else 2  # fp32, bf16
        return wide * sum(weights(self.folder(name)) for name in dict.fromkeys(names) if name not in self._loaded)

    def check(self, name: str, prompt: str) -> str:
        """Return the prompt as the model reads it; see :func:`check_words`."""
        return check_words(prompt, self.load(name).tokenizer, name)

    def own(self, name: str) -> dict[str, Any]:
        """Return the model's own steps and guidance, held to the knobs' limits, without loading it."""
        file = self.folder(name) / "sampling.json"
        settings = load_json(file) if file.is_file() else {}
        values = KNOBS.resolve()
        for knob in (KNOBS["steps"], KNOBS["guidance"]):
            if isinstance(value := settings.get(knob.name), int | float) and knob.low is not None and knob.high is not None:
                values[knob.name] = knob.check(min(max(value, knob.low), knob.high))
        return {"steps": values["steps"], "guidance": values["guidance"]}

    def adds_noise(self, name: str) -> bool:
        """Return whether ``eta`` can be more than 0: not where a model's own settings say that it samples a flow."""
        file = self.folder(name) / "model_index.json"
        kind = load_json(file).get("_class_name") if file.is_file() else None
        return kind not in FAMILIES or FAMILIES[kind].family != "flow"

    def card(self, name: str) -> str:
        """Return the model's card, Markdown as it was generated, "" where there is none."""
        file = self.folder(name) / "README.md"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def takes(self, prompt: str, models: Sequence[str], values: Mapping[str, Any]) -> list[Take]:
        """Return the clips of :meth:`steps`."""
        return [step.result for step in self.steps(prompt, models, values, previews=False) if isinstance(step.result, Take)]

    def steps(self, prompt: str, models: Sequence[str], values: Mapping[str, Any], *, previews: bool = True) -> Iterator[Step]:
        """Make one clip with each model from the same noise, step by step.

        Results are :class:`Preview` and, at a model's end, :class:`Take`. Every model is loaded, and the prompt checked,
        before the first is sampled.

        Args:
            prompt: what is to be seen.
            models: names, in turn.
            values: the knobs.
            previews: decode frames on the way.

        Raises:
            InputError: a model cannot be loaded, does not know a word, or a knob is outside its limits.
        """
        k = KNOBS.resolve(values)
        for name in models:
            yield Step(f"load {name}", 0, 1)
            self.check(name, prompt)
        for name in models:
            yield from self._sample(name, tidy(prompt), k, previews)

    def _sample(self, name: str, prompt: str, k: Mapping[str, Any], previews: bool) -> Iterator[Step]:
        from vidistill.sample import sample

        model = self.load(name)
        run = sample(model, [prompt], seeds=[k["seed"]], steps=k["steps"], guidance=k["guidance"])
        stage, pace = f"{name}, step", Pace(self._costs, name)
        for at in run:
            done = at.index + 1
            if not (previews and pace.due(done, at.steps, at.seconds)):
                yield Step(stage, done, at.steps)
                continue
            with pace.paid(done, at.steps):
                yield Step(stage, done, at.steps, preview(model, at.x0, name, done, at.steps))
        began = time.perf_counter()
        clip = model.codec.decode(at.latents, model.frames)[0].cpu()
        seconds = at.seconds + time.perf_counter() - began
        take = Take(name, prompt, k["seed"], k["steps"], k["guidance"], clip, read(clip, prompt), seconds, at.evaluations, pace.spent)
        yield Step(stage, at.steps, at.steps, take)
