"""Few steps on Motion World: students of a video model beside their teacher, judged by the exact parser. What both papers need of it.

    a prompt says some factors of a clip          the clips of a prompt: the same said factors, all others drawn anew
    clip of an arm ~ sampler(model, prompt, noise of the clip's seed)            the same noise for every arm
    judged beside real clips of the same prompts, through the same autoencoder

Not a paper. Nothing is trained here: the arms are models, the zoo's or folders that ``vidistill train`` wrote. A shorter caption leaves
more open, and what it leaves open is where a student can lose modes.

Legend: N clips; percentages are of all clips, of all values, or of what the real clips have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vidistill import __version__, shipped
from vidistill.data.world import FACTORS, SAID, Factors, asked, phrase, render
from vidistill.errors import InputError, nearest
from vidistill.files import ensure_folder
from vidistill.knobs import Knob
from vidistill.measure import run_trials, summarise
from vidistill.measure.clips import HELD, look, mode_numbers
from vidistill.measure.features import load_features
from vidistill.rng import stream_seed
from vidistill.sample import load_denoiser
from vidistill.sample.collect import Job, collect, collected, costs
from vidistill.types import Progress, Report, Score, silent

WORLD = "motion-world"
KNOBS = (
    Knob("net", "lab-dit", "teacher in motion-world", source="the zoo's students are of lab-dit", group="motion-world"),
    Knob("students", "", "more students: arm, colon, folder; commas between", source="as vidistill train writes", group="motion-world"),
    Knob("clips", 64, "clips of an arm", low=2, high=10**5, step=2, source="ours", group="motion-world"),
    Knob("rare", "", "a value that every prompt asks for, such as white", source="spec: rare modes", group="motion-world"),
    Knob("caption", "long", "how much a prompt says", choices=tuple(SAID), source="spec: three lengths", group="motion-world"),
)
NUMBERS = (*HELD, "rare", "sampling")
"""What is told of an arm, each with its interval over seeds; ``sampling``: seconds of a clip, those of a batch shared."""
FEW = "teacher-few"  # what every student has to beat, in every table


@dataclass(frozen=True)
class Film:
    """How an arm's clips come about: a model in so many steps, none for its own number; ``renoise`` None is as the model was made for."""

    role: str
    model: str = ""  # a student's name in the zoo, "" for the teacher
    steps: int = 0
    renoise: bool | None = None


def students_of(told: str, films: Mapping[str, Film]) -> dict[str, str]:
    """Return ``{arm: folder}`` of ``"arm:folder, arm:folder"``; raises InputError where there is no such arm."""
    found = {}
    for part in filter(None, (part.strip() for part in told.split(","))):
        arm, colon, place = part.partition(":")
        if not colon or not place or arm not in films:
            raise InputError(f"knob students={told!r}: {part!r} must be arm:folder, with an arm that clips have: {nearest(arm, films)}")
        found[arm] = place
    return found


def motion_world(
    paper: str,
    k: dict[str, Any],
    films: Mapping[str, Film],
    chosen: list[str],
    score: Score,
    metric: str,
    out: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> Report:
    """Sample and judge the arms that there are models for.

    Args:
        paper, k: whose run, and its knobs' values; ``k["students"]`` stands before the zoo's.
        films: every arm of the paper that video has.
        chosen: the arms that are asked for.
        score, metric: what the arms are judged by; where the control of ``score`` has no model, it is the teacher in as few steps.
        out: folder; ``videos/`` keeps each clip's latents, ``parts/`` each finished trial, so that an interrupted run resumes.

    Raises InputError where a folder is no few-step model or has another autoencoder than the teacher; see :func:`students_of`.
    """
    own, notes, rare = students_of(k["students"], films), [], {name: k["rare"] for name, values in FACTORS.items() if k["rare"] in values}
    if k["rare"] and not rare:
        raise InputError(f"knob rare={k['rare']!r}: {nearest(k['rare'], [value for values in FACTORS.values() for value in values])}")
    net = cache(lambda place: load_denoiser(place, device=device))
    teacher, places, zoo = net(k["net"]), dict[str, str](), shipped.STUDENTS if k["net"] == "lab-dit" else ()
    for name in dict.fromkeys([*chosen, FEW]):
        film, place = films.get(name), own.get(name, "")
        place = place or ((film.model or k["net"]) if film else "")
        if film is None or place not in (own.get(name), k["net"], *zoo):
            notes.append(f"{name}: left out, no student of {k['net']} is there; train one and say students={name}:FOLDER")
            continue
        model = net(place)
        if (film.model or name in own) and not model.times:
            raise InputError(f"arm {name}: {place} is no few-step model: its sampling.json has no times")
        if model.codec.fingerprint != teacher.codec.fingerprint:
            raise InputError(f"arm {name}: {place} has another autoencoder than {k['net']}: their clips cannot be compared")
        places[name] = place
    if int(os.environ.get("RANK", 0)):
        return Report(paper, k, {}, [], [])
    features = load_features("lab-probe", device=device)

    @cache
    def real(seed: int) -> tuple[list[Factors], list[str], dict[str, float]]:
        wanted = asked(stream_seed(seed, "motion-world") % 2**31, k["clips"], k["caption"], **rare)
        prompts = [phrase({name: getattr(one, name) for name in SAID[k["caption"]]}) for one in wanted]
        video = teacher.codec.decode(teacher.codec.encode(render(wanted, teacher.frames, teacher.size)), teacher.frames)
        return wanted, prompts, look(video, prompts, features)

    def judged(name: str, seed: int, alive: Progress) -> dict[str, Any]:
        film, model = films[name], net(places[name])
        wanted, prompts, truth = real(seed)
        jobs = [Job(prompt, stream_seed(seed, "clip", row) % 2**31) for row, prompt in enumerate(prompts)]
        options: dict[str, Any] = {"steps": film.steps or model.steps}
        options |= {} if film.renoise is None else {"renoise": film.renoise}
        paths = collect(model, jobs, out / "videos", progress=progress, **options)
        video = model.codec.decode(collected(paths), model.frames, size=model.size)
        took = costs(paths)
        found = {"clips": len(paths), "evaluations": took["evaluations"], "sampling": took["seconds"]}
        return mode_numbers(video, wanted, prompts, SAID[k["caption"]], truth, features, rare=k["rare"]) | found

    common = [k["clips"], k["caption"], k["rare"], teacher.fingerprint, device, __version__]
    keys = {name: [net(place).fingerprint, vars(films[name]), *common] for name, place in places.items()}
    table, _ = run_trials(judged, keys, range(seed, seed + k["seeds"]), ensure_folder(out / "parts"), progress)
    if (control := score.control if score.control in places else FEW) != score.control:
        notes.append(f"{score.control} is not there: the arms are compared with {control}")
    facts, also = {name: {"role": films[name].role, "bytes": None} for name in table}, [name for name in NUMBERS if name != metric]
    rows = summarise(table, control, metric, also=also, first=("clips", "evaluations"), facts=facts)
    notes.append(f"captions say {', '.join(SAID[k['caption']])}; one training of each student, intervals over prompts and noise")
    world = {"world": WORLD, "classes": [], "train": 0, "test": 0, "skipped": [], "root": "", "layout": WORLD}
    return Report(paper, k, world | {"clips": k["clips"], "teacher": k["net"]}, rows, notes, {}, replace(score, control=control))
