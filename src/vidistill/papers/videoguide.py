r"""VideoGuide (arXiv 2410.04364), whole and from top to bottom: a teacher steers the first steps of a weaker video model.

    u, c = model(z_t);  x0 = clean(z_t, u + lam (c - u))                      CFG++ on the first I steps of N
    z_G = a_t x0 + s_t n;  tau steps of the teacher from there  ->  x0_G      its own noise levels, its own grid
    x0' = beta x0 + (1 - beta) x0_G                                           beta is the weight of the model that is guided
    z' = a' x0' + s' u;  z' <- F^-1(M F(z') + (1 - M) F(n))                   high frequencies drawn anew, n fresh

Consistency alone can be had from a still picture: it stands beside motion, and beside what the same evaluations buy without a teacher.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from vidistill import __version__
from vidistill.data import KNOBS as CLIP_KNOBS
from vidistill.data import VideoSet, clip_record, describe_prompts, prompts_of, read_prompts
from vidistill.data.world import write_clip
from vidistill.files import ensure_folder
from vidistill.guide import LOW_PASS_KNOBS, WAY_KNOBS, LowPass, Operator, Switch, Way, way
from vidistill.knobs import Knob, Knobs
from vidistill.measure import pick_arms, run_trials, summarise
from vidistill.measure.clips import NUMBERS, clip_numbers, frame_features
from vidistill.rng import stream_seed
from vidistill.sample import KNOBS as SAMPLER_KNOBS
from vidistill.sample import TEACHER_KNOBS, Denoiser, Teacher, freeinit, load_denoiser, sample, sampling_of, told_words
from vidistill.sample.collect import Job, collect, collected, costs
from vidistill.schedule import First
from vidistill.types import Progress, Report, Score, silent

PLAIN = {"guided": 0, "outside": "cfg"}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (role, what it changes in the method's knobs)
    "method": ("method", {}),
    "base": ("control", PLAIN),
    "self": ("control", {"guide": "self"}),
    "freeinit": ("control", PLAIN | {"sampler": "freeinit"}),
    "more-steps": ("control", PLAIN),  # as many evaluations as the method has, spent on steps
    "no-teacher": ("control", {"guide": ""}),
    "low-pass": ("control", {"space": 0.25, "time": 0.25}),  # the paper's, whatever the method has
    "no-low-pass": ("control", {"space": 0.0}),
    "cfg": ("control", {"inside": "cfg"}),
    "base-cfg++": ("control", PLAIN | {"outside": "cfg++"}),
    "cfg-zero": ("control", PLAIN | {"outside": "cfg-zero"}),
    "apg": ("control", PLAIN | {"outside": "apg"}),
    "teacher": ("reference", PLAIN),  # the teacher alone
}

KNOBS = Knobs(
    "videoguide",
    *(knob for knob in CLIP_KNOBS if knob.name in ("split", "subset", "frames")),
    Knob("prompts", 64, "prompts: captions of the data, else names of its classes", low=1, high=10000, source="paper: 800", group="data"),
    Knob("prompt_file", "", "text file with a prompt a line instead", source="ours", group="data"),
    *(replace(knob, default="lab-base") if knob.name == "model" else knob for knob in SAMPLER_KNOBS),
    *TEACHER_KNOBS,
    *WAY_KNOBS,
    *LOW_PASS_KNOBS,
    Knob("iterations", 5, "runs of FreeInit, the peer", low=1, high=100, source="paper: 5", group="controls"),
    Knob("subject", "probe_subject", "features of subject consistency: a probe, lab-probe, a ViT", source="VBench: DINO", group="measure"),
    Knob("background", "probe_background", "and of background consistency: a CLIP", source="VBench: CLIP", group="measure"),
    Knob("vbench", "", "program of the real VBench, empty for the offline probes", source="VBench 0.1.5", group="measure"),
    Knob("rare", "star, purple", "words that the model never saw and the teacher did", source="lab-base's card", group="measure"),
    Knob("seeds", 5, "repetitions with fresh noise", low=1, high=100, source="ours", group="controls"),
    Knob("arms", "all", "all, or a comma list of: " + " ".join(ARMS), source="controls come with the method", group="controls"),
)
ABOUT = "Read it against flow, motion and moving: a still picture has consistency 1. Probes are no VBench, and compare arms only."
SCORE = Score("Subject consistency", "subject consistency", "base", ABOUT, digits=4)
OF_GUIDED = (*(knob.name for knob in (*TEACHER_KNOBS, *LOW_PASS_KNOBS)), "inside", "lam")


def decides(arm: dict[str, Any]) -> dict[str, Any]:
    """Return the knobs that decide an arm's result: without a guided step there is no teacher, and FreeInit has its own filter."""
    idle = {"arms", "seeds", "sampling_batch", "prompts", "prompt_file", "split", "subset", "iterations"}
    idle |= {name for name in OF_GUIDED if not arm["guided"] and (name, arm["outside"]) != ("lam", "cfg++")}
    return {name: value for name, value in arm.items() if name not in idle or (name, arm["sampler"]) == ("iterations", "freeinit")}


def steering(k: Mapping[str, Any], base: Denoiser, teacher: Denoiser | None, prompts: Sequence[str]) -> tuple[list[Operator], Way | Switch]:
    """Return what acts on every step of ``base``, and how its outputs are combined, as knob values say it."""
    g, first, found = k["guidance"] or base.guidance, First(k["guided"]), list[Operator]()
    inside, outside = (way(k[when], g, k["lam"]) for when in ("inside", "outside"))  # 1. CFG++ on the first I steps, CFG after
    if not k["guided"]:
        return [], outside
    if teacher:  # 2. x0' = beta x0 + (1 - beta) x0_G
        own = way(k["inside"], g if teacher is base else teacher.guidance, k["lam"])
        settings = {name: k[name] for name in ("beta", "tau", "points", "t_map", "scale")}
        found.append(Teacher(teacher, base, prompts, guidance=own, interval=first, **settings))
    if k["space"]:  # 3. high frequencies of the next latents drawn anew
        found.append(LowPass(k["space"], k["time"], k["order"], first, filter=k["filter"]))
    return found, Switch(inside, outside, first)


def run(values: dict[str, Any], videos: VideoSet, out: Path, *, device: str = "cpu", seed: int = 0, progress: Progress = silent) -> Report:
    """Sample every prompt in every arm and measure the clips; those of the first seed are kept as ``out/clips/<arm>/<number>.mp4``.

    Args:
        videos: what the prompts come from; its clips are not read.
        out: folder; ``videos/`` in it keeps each clip's latents and ``parts/`` each finished trial, so that an interrupted run resumes.
        seed: repetition s draws its noise with ``seed + s``, the same for every arm.
        progress: ``progress(stage, done, total)``; raise ``Cancelled`` in it to stop.

    Raises:
        InputError: a knob is out of range, I > N, the teacher has other latents, a file cannot be read, ``out`` cannot be written.
    """
    k, begin = KNOBS.resolve(values), seed
    prompts, wanted = (read_prompts(k["prompt_file"], k["prompts"]), None) if k["prompt_file"] else prompts_of(videos, k["prompts"])
    model = load_denoiser(k["model"], device=device, **sampling_of(k))
    like = {"frames": model.frames, "size": model.size}
    net = cache(lambda name: model if name in ("", "self", k["model"]) else load_denoiser(name, device=device, **like))
    features = {part: frame_features(k[part], device) for part in ("subject", "background")}
    n, more = model.steps, k["guided"] * k["tau"] * bool(k["guide"])
    plain = k | {"sampler": "sample", "sampling_steps": n}
    own = {"more-steps": {"sampling_steps": n + more}, "teacher": {"model": k["guide"], "guidance": 0.0}}
    arms = {name: plain | ARMS[name][1] | own.get(name, {}) for name in pick_arms(k["arms"], ARMS, always=("method", "base"))}

    def generate(arm: dict[str, Any], seed: int) -> list[Path]:
        base, teacher = net(arm["model"]), net(arm["guide"]) if arm["guide"] else None
        facts = {name: arm[name] for name in OF_GUIDED} | {"teacher": teacher and teacher.fingerprint} if arm["guided"] else {}
        jobs = [Job(prompt, stream_seed(seed, "prompt", row) % 2**31, facts) for row, prompt in enumerate(prompts)]
        steer = lambda rows: steering(arm, base, teacher, [prompts[row] for row in rows])  # noqa: E731
        again = {"iterations": k["iterations"]} if arm["sampler"] == "freeinit" else {}
        options = {"steps": arm["sampling_steps"], "guidance": steer([])[1], "eta": k["eta"]} | again
        how = {"sampler": freeinit if again else sample, "batch": k["sampling_batch"], "progress": progress}
        return collect(base, jobs, out / "videos", operators=lambda rows: steer(rows)[0], **how, **options)

    def score(name: str, seed: int, alive: Progress) -> dict[str, Any]:
        paths, base = generate(arms[name], seed), net(arms[name]["model"])
        video = base.codec.decode(collected(paths), base.frames, size=base.size)
        for row, clip in enumerate(video if seed == begin else []):
            alive("write", row, len(video))
            write_clip(out / f"clips/{name}/{row:04}.mp4", clip, clip_record("videoguide", name, row, k, seed, prompts, nets[name], videos))
        return clip_numbers(video, wanted, rare=k["rare"], vbench=k["vbench"], **features) | costs(paths) | {"clips": len(paths)}

    if int(os.environ.get("RANK", 0)):  # one GPU of several makes its share of the clips; the first process judges them
        able = [arm for arm in arms.values() if (arm["sampler"], model.family) != ("freeinit", "flow")]
        [generate(arm, seed + s) for arm in able for s in range(k["seeds"])]
        return Report("videoguide", k, {}, [], [])
    nets = {name: [net(arm["model"]).fingerprint, arm["guided"] and net(arm["guide"]).fingerprint] for name, arm in arms.items()}
    keys = {name: [nets[name], decides(arm), prompts, wanted is None, device, __version__] for name, arm in arms.items()}
    table, notes = run_trials(score, keys, range(seed, seed + k["seeds"]), ensure_folder(out / "parts"), progress, optional=("freeinit",))
    facts = {name: {"role": ARMS[name][0], "bytes": None} for name in table}
    rows = summarise(table, "base", "subject", also=(*NUMBERS[1:], "seconds"), first=("clips", "evaluations"), facts=facts)
    notes = [f"{First(k['guided']).told(model.grid(n))}, {n + more} evaluations where the model alone has {n}", *notes]
    notes += [line for one in dict.fromkeys((model, net(k["guide"]))) for line in told_words(one, prompts)]
    notes += [] if wanted else ["nobody knows what these clips should show: there is no drift, no motion in half widths and no fidelity"]
    return Report("videoguide", k, describe_prompts(videos, prompts, k["prompt_file"]), rows, notes, {}, SCORE)
