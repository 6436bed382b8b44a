"""What every paper that distils a data set needs beside its method: real clips, a teacher, a student's verdict, the set kept as latents.

Not a paper. Legend: N clips, K classes, T frames of S x S pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vidistill.codec import Codec, pack, unpack
from vidistill.compress import load_distilled, save_within
from vidistill.data import ClipStore, VideoSet, prepare_clips, protocol_of, resized
from vidistill.errors import InputError
from vidistill.knobs import Knobs
from vidistill.measure import accuracy
from vidistill.measure.guided import entropy
from vidistill.measure.teacher import load_teacher
from vidistill.student import Soft, predict, train_student
from vidistill.types import Latents, Progress, Score, silent

TRAIN = ("student", "width", "protocol", "steps", "batch")
"""The knobs that say how a student is trained."""

SHOWN = ("top5", "mean_class", "agreement", "entropy", "pace", "diversity", "gap", "hits")
"""What is told of an arm beside its accuracy, each with its interval over seeds."""

WHOLE = ("all", "latents")
LATENTS = {"decomposition": "st-hosvd", "rank_ratio": 1.0, "core_dtype": "int8"}


def judged(classes: Sequence[str]) -> Score:
    """Return how the arms are judged: the accuracy of students on clips that were kept from them, beside the arm ``random``."""
    about = "Top-1 on held-out clips; the dashed line is chance. Clips B: cores and factors. Error: relative, of the latents read back."
    return Score("Held-out accuracy", "top-1 %", "random", about, chance=100 / max(1, len(classes)))


def decides(arm: Mapping[str, Any], knobs: Knobs) -> dict[str, Any]:
    """Return the knobs that decide an arm's result: real clips know of no sampler, and without a pull its shape does not matter."""
    idle = {"arms", "seeds", "sampling_batch"}
    if arm["source"]:
        idle |= {name for name, knob in knobs.items() if knob.group in ("sampler", "pull")} | {"videos", "policy", "labelled"}
    elif not arm["strength"]:
        idle |= {name for name, knob in knobs.items() if knob.group == "pull"} - {"centre"}  # which the hits are counted by
    return {name: value for name, value in arm.items() if name not in idle}


def real_clips(k: Mapping[str, Any], videos: VideoSet, side: str, seed: int, progress: Progress = silent) -> ClipStore:
    """Decode the clips of a ``side``, ``"train"`` or ``"test"``, once, cached; a bad file is skipped and named in the report."""
    return prepare_clips(getattr(videos, side), videos.classes, protocol_of(k), side, seed=seed, progress=progress)


def judge(
    k: Mapping[str, Any],
    video: Any,
    labels: Tensor,
    test: ClipStore,
    told: Tensor | None = None,
    *,
    seed: int,
    device: str,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a student on a set and test it on real clips.

    Args:
        k: the knobs of the paper.
        video, labels: see :func:`vidistill.student.train_student`.
        test: real clips.
        told: a teacher's logits ``[N, K]``, for soft labels.

    Returns:
        accuracies in percent, and with a teacher how often it sees the class that was asked for and how unsure it is.
    """
    soft = None if told is None else Soft(told, k["soft"], k["temperature"], k["t_squared"])
    how = {name: k[name] for name in TRAIN}
    net = train_student(video, labels, classes=len(test.classes), seed=seed, device=device, soft=soft, progress=progress, **how)
    found: dict[str, Any] = {"agreement": None, "entropy": None}
    if told is not None:
        right = told.argmax(1) == labels.to(told.device)
        found = {"agreement": 100 * float(right.double().mean()), "entropy": float(entropy(told).mean())}
    return found | accuracy(predict(net, test, protocol=k["protocol"], device=device), test.labels)


def with_teacher(k: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the knobs with the teacher ``"auto"`` decided: lab-probe where it knows the classes, else a student trained on all clips."""
    if k["teacher"] != "auto":
        return k
    try:
        load_teacher("lab-probe", classes)
    except InputError:
        return k | {"teacher": "student"}
    return k | {"teacher": "lab-probe"}


def teacher_of(
    k: Mapping[str, Any], train: ClipStore, *, seed: int, device: str, progress: Progress = silent
) -> Callable[[Tensor], Tensor]:
    """Return the teacher, uint8 ``[N, 3, T, S, S]`` -> logits ``[N, K]``; ``"student"`` is one trained on every real clip.

    Raises:
        InputError: there is no such teacher, or it does not know the classes.
    """
    if k["teacher"] != "student":
        return load_teacher(k["teacher"], train.classes, device=device).logits
    how = {name: k[name] for name in TRAIN}
    net = train_student(train, train.labels, classes=len(train.classes), seed=seed, device=device, progress=progress, **how)
    return lambda video: predict(net, video, protocol=k["protocol"], device=device)


def whole(source: str, path: Path, train: ClipStore, z: Latents, codec: Codec, limit: int) -> dict[str, Any]:
    """Keep every real clip: ``"all"`` as it is, ``"latents"`` as LVDD does, int8 and with their decoder in at most ``limit`` bytes.

    Returns:
        ``bytes``, ``clips``, and what students learn from: ``video``, ``labels``, ``soft``.

    Raises:
        InputError: not even the smallest ranks fit.
    """
    made: dict[str, Any] = dict.fromkeys(SHOWN) | {"bytes": None, "clips": len(train), "video": train, "labels": train.labels, "soft": None}
    if source == "all":
        return made
    packed, record = pack(codec, "decoder", "int8")
    facts = {"labels": z.labels, "classes": z.classes, "names": (), "frames": z.frames, "protocol": {}, "meta": {}}
    _, size = save_within(path, z.z, limit, LATENTS, codec_record=record, codec_tensors=packed, **facts)
    native = unpack(packed, record, device=codec.device).decode(load_distilled(path).z, z.frames)
    return made | {"bytes": size, "clips": len(z), "video": resized(native, train.protocol.size), "labels": z.labels}
