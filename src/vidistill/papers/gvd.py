r"""Guiding Video Diffusion for dataset distillation (GVD, arXiv 2507.22360), whole and from top to bottom.

    clips --E--> latents --k-means--> centres m_k      class name --prompt--> sampler --pulled to m_k--> U x IPC videos of a class
    videos --MVIC--> IPC instances of U x T/U frames --teacher--> soft labels --> student, judged on real clips

    x0' = x0 + lambda s_t w_f (m_k - x0)        pull on the predicted clean video; w_f = 1 - f/F; s_t is not public, see schedule/weights.py
    K = min(U IPC, n_c)                         centres of a class of n_c clips; its video j is pulled to centre j mod K
    L = (1 - a) CE + a tau^2 KL                 a = 0.8, tau = 3

Every number stands beside its controls: random real clips with the same teacher's labels first of all, for labels alone may carry a result.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill import __version__
from vidistill.codec import encode_store
from vidistill.compress import save_clips
from vidistill.data import KNOBS as CLIP_KNOBS
from vidistill.data import VideoSet, describe, resized, share_of_frames, spoken
from vidistill.files import ensure_folder
from vidistill.guide import KNOBS as PULL_KNOBS
from vidistill.guide import Pull
from vidistill.knobs import Knob, Knobs
from vidistill.measure import pick_arms, run_trials, summarise
from vidistill.measure.guided import signs
from vidistill.papers.sets import SHOWN, WHOLE, decides, judge, judged, real_clips, teacher_of, whole, with_teacher
from vidistill.rng import stream_seed
from vidistill.sample import KNOBS as SAMPLER_KNOBS
from vidistill.sample import Job, collect, collected, load_denoiser, sampling_of, told_words
from vidistill.schedule import Interval
from vidistill.select import check_k, select
from vidistill.select.centres import class_centres
from vidistill.select.knobs import KNOBS as CENTRE_KNOBS
from vidistill.select.mvic import check_videos, compose, members
from vidistill.student import KNOBS as STUDENT_KNOBS
from vidistill.student import SOFT_KNOBS
from vidistill.types import Progress, Report, silent

ARMS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (role, what it changes in the method's knobs)
    "method": ("method", {}),
    "random": ("control", {"source": "random"}),  # real clips, as many, with the same teacher's labels
    "medoid": ("control", {"source": "k-means"}),
    "unguided": ("control", {"strength": 0.0}),
    "no-mvic": ("control", {"videos": 1}),
    "hard-labels": ("control", {"soft": 0.0}),
    "random-hard": ("control", {"source": "random", "soft": 0.0}),
    "latents": ("control", {"source": "latents", "soft": 0.0}),  # every real clip, as LVDD keeps them, in the bytes of the method's file
    "full-data": ("reference", {"source": "all", "soft": 0.0}),
}
PULL = ("strength", "weight", "decay", "t_high", "t_low", "centre")

KNOBS = Knobs(
    "gvd",
    *CLIP_KNOBS,
    *SAMPLER_KNOBS,
    Knob("prompt", "{class}", "prompt of a class, its name split into words", source="MGD3: the bare class name", group="sampler"),
    *PULL_KNOBS,
    *CENTRE_KNOBS,
    *SOFT_KNOBS,
    *STUDENT_KNOBS,
    Knob("arms", "all", "all, or a comma list of: " + " ".join(ARMS), source="controls come with the method", group="controls"),
)


def run(values: dict[str, Any], videos: VideoSet, out: Path, *, device: str = "cpu", seed: int = 0, progress: Progress = silent) -> Report:
    """Distil ``videos`` into ``out/distilled.safetensors`` and score it beside every control.

    Args:
        out: folder; ``videos/`` in it keeps each generated clip and ``parts/`` each finished trial, so that an interrupted run resumes.
        seed: repetition s generates and trains with ``seed + s``; the centres belong to ``seed``.
        progress: ``progress(stage, done, total)``; raise ``Cancelled`` in it to stop.

    Raises:
        InputError: a knob is out of range, U does not divide T, a class is too small, the teacher knows others, ``out`` cannot be written.
    """
    k = with_teacher(KNOBS.resolve(values), videos.classes)
    names, interval = pick_arms(k["arms"], ARMS, always=("method", "random")), Interval(k["t_high"], k["t_low"])
    check_videos(k["videos"], k["frames"])
    check_k(k["instances"], [sum(item.label == c for item in videos.train) for c in range(len(videos.classes))], videos.classes)
    prompts = [k["prompt"].replace("{class}", spoken(name)) for name in videos.classes]
    now, classes = ensure_folder(out / "parts") / "now.safetensors", list(videos.classes)  # the file of the trial that runs
    model = load_denoiser(k["model"], device=device, **sampling_of(k))  # 1. the model; real clips as students and as it sees them
    train, test = (real_clips(k, videos, side, seed, progress) for side in ("train", "test"))
    native = real_clips(k | {"size": model.size}, videos, "train", seed, progress)
    z = encode_store(model.codec, native, progress=progress)
    centres = cache(lambda count: class_centres(z, k=count, kind=k["centre"], seed=seed))  # 2. m_k: k-means, class by class
    teacher = cache(lambda: teacher_of(k, train, seed=seed, device=device, progress=progress))
    origin = {"clips": [native.key, model.codec.fingerprint], "seed": seed}

    def generate(arm: dict[str, Any], seed: int) -> tuple[Tensor, Tensor]:
        # 3. U IPC videos of each class, the j-th pulled to centre j mod K; batches run over classes, every clip is kept in a file.
        count = arm["videos"] * k["instances"]
        rows = [(c, j, centres(count).of(c, j)) for c in range(len(classes)) for j in range(count)]
        m, own = centres(count).z, torch.tensor([i for _, _, i in rows])
        pulled = origin | {"centres": count} | {name: arm[name] for name in PULL} if arm["strength"] else {}
        jobs = [Job(prompts[c], stream_seed(seed, "video", c, j) % 2**31, pulled and pulled | {"centre": i}) for c, j, i in rows]
        pull = lambda at: [Pull(m[own[at]], arm["strength"], arm["weight"], arm["decay"], interval)]  # noqa: E731
        files = collect(model, jobs, out / "videos", operators=pull, batch=k["sampling_batch"], eta=k["eta"], progress=progress)
        return collected(files), own

    def make(arm: dict[str, Any], seed: int, path: Path) -> dict[str, Any]:
        clips, told, where = (list[Tensor]() for _ in range(3))
        if arm["source"]:
            picked = select(z, selector=arm["source"], k=k["instances"], seed=seed).index
            clips, labels, signed = [train.batch(picked)], z.labels[picked], signs(z.z[picked], z.labels[picked], z.z, z.labels)
        else:
            (x, own), m = generate(arm, seed), centres(arm["videos"] * k["instances"])
            for part in x.chunk(len(classes)):  # 4. MVIC: T/U frames of each of U videos make an instance
                seen = resized(model.codec.decode(part, k["frames"], size=model.size), k["size"])
                instances, source = compose(seen, k["instances"], k["policy"], seed)
                clips, where = [*clips, instances], [*where, source]
                if arm["soft"] and k["labelled"] == "videos":
                    told.append(teacher()(seen)[members(k["instances"], arm["videos"])].mean(1))
            labels, signed = torch.arange(len(classes)).repeat_interleave(k["instances"]), signs(x, m.labels[own], z.z, z.labels, own, m)
        video = torch.cat(clips)
        soft = torch.cat(told) if told else teacher()(video) if arm["soft"] else None  # 5. soft labels: the teacher's logits
        meta = {name: arm[name] for name in (*PULL, "model", "prompt")}
        size = save_clips(path, video, labels, classes, soft=soft, source=torch.cat(where) if where else None, meta=meta)
        return {"bytes": size, "clips": len(labels), "video": video, "labels": labels, "soft": soft} | signed

    knobs = {name: {"source": ""} | k | ARMS[name][1] for name in names}
    if int(os.environ.get("RANK", 0)):  # one GPU of several makes its share of the clips; the first process judges them
        [generate(arm, seed + s) for arm in knobs.values() if not arm["source"] for s in range(k["seeds"])]
        return Report("gvd", k, {}, [], [])
    limit = make(knobs["method"], seed, out / "distilled.safetensors")["bytes"]["total"]
    entire = lru_cache(maxsize=1)(lambda source: whole(source, now, train, z, model.codec, limit))  # the same whatever the seed

    def score(name: str, seed: int, alive: Progress) -> dict[str, Any]:
        arm = knobs[name]
        made = dict(entire(arm["source"])) if arm["source"] in WHOLE else make(arm, seed, now)
        # 6. Students learn from the set, with the teacher's share in the loss, and are tested on real clips.
        return made | judge(arm, made.pop("video"), made.pop("labels"), test, made.pop("soft"), seed=seed, device=device, progress=alive)

    inputs = [train.key, native.key, test.key, model.fingerprint, model.codec.fingerprint, device, __version__]
    keys = {name: [inputs, decides(arm, KNOBS), limit * (arm["source"] == "latents")] for name, arm in knobs.items()}
    table, notes = run_trials(score, keys, range(seed, seed + k["seeds"]), now.parent, progress, optional=("latents",))
    now.unlink(missing_ok=True)
    arms = summarise(table, "random", "top1", also=SHOWN, first=("bytes", "clips"), facts={n: {"role": ARMS[n][0]} for n in table})
    found = centres(k["videos"] * k["instances"])
    notes = [interval.told(model.grid(model.steps)), found.told(), *told_words(model, prompts), *notes]
    extra = {"centres": found.table(classes), "frames": share_of_frames(videos, train, len(classes) * k["instances"])}
    return Report("gvd", k, describe(videos, train, test), arms, notes, extra, judged(classes))
