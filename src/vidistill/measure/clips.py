"""What a set of generated clips is worth, in one row: how steady, how lively, how good looking, and, where the truth is known, how true.

Means over the clips. Shares are in percent, consistencies and qualities in [0, 1] as VBench has them, ``flow`` in pixels a frame,
``motion`` in half widths of the frame. ``fidelity`` is the mean over the factors, ``together`` the share of
clips in which all are right. A number that nothing is known of is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vidistill.data.parse import parse
from vidistill.data.world import FACTORS, Factors
from vidistill.measure.consistency import FrameFeatures
from vidistill.measure.diversity import camera_track, clip_diversity, track_diversity
from vidistill.measure.features import load_features
from vidistill.measure.generated import contrast, coverage, drift, fidelity, saturation
from vidistill.measure.truth import PROBES, truth_table, video_table
from vidistill.measure.vbench import run_vbench

SEEN = {
    "subject": "subject_consistency",
    "background": "background_consistency",
    "smoothness": "probe_motion_smoothness",
    "flicker": "temporal_flickering",
    "quality": "probe_imaging_quality",
    "moving": "probe_dynamic_degree",
    "flow": "probe_flow_magnitude",
}
"""What pixels alone tell: name here -> column of :func:`vidistill.measure.truth.video_table`."""

VBENCH = {
    "subject": "subject_consistency",
    "background": "background_consistency",
    "smoothness": "motion_smoothness",
    "flicker": "temporal_flickering",
    "quality": "imaging_quality",
    "moving": "dynamic_degree",
}
"""The same from the real VBench: name here -> its dimension. It has no mean flow."""

TRUE = {
    "drift": "drift_any",
    "drift_shape": "drift_shape",
    "drift_colour": "drift_colour",
    "motion": "motion",
    "motion_error": "motion_error",
    "together": "fidelity_together",
}
"""What the exact parser tells of Motion World's clips: name here -> column of :func:`vidistill.measure.truth.truth_table`."""

PERCENT = ("moving", "drift", "drift_shape", "drift_colour", "together", *(f"fidelity_{name}" for name in FACTORS))

NUMBERS = (*SEEN, *TRUE, *(f"fidelity_{name}" for name in FACTORS), "fidelity", "rare")
"""Names of all numbers, in the order of a table."""

HELD = ("fidelity", "coverage", "drift", "saturation", "contrast", "diversity", "camera")
"""Names of the numbers of :func:`mode_numbers`."""


def frame_features(name: str, device: str = "cpu") -> FrameFeatures:
    """Return a source of frame features: one of ``PROBES`` by name, or what :func:`vidistill.measure.features.load_features` loads.

    Raises:
        InputError: there is no such source.
    """
    return PROBES.get(name) or load_features(name, device=device)


def clip_numbers(
    video: Tensor,
    wanted: Sequence[Factors] | None = None,
    *,
    rare: str = "",
    subject: FrameFeatures = PROBES["probe_subject"],
    background: FrameFeatures = PROBES["probe_background"],
    vbench: str = "",
) -> dict[str, float | None]:
    """Return ``NUMBERS`` of clips.

    Args:
        video: uint8 ``[B, 3, T, H, W]`` at 8 frames a second, T >= 4.
        wanted: the factors asked for, clip by clip; None where there is no truth.
        rare: values of factors, comma between, ``"star, purple"``; the number ``rare`` is how often one that was asked for is there.
        subject, background: what the two consistencies are of.
        vbench: the real VBench's program, which then measures what it can; empty for the offline probes.

    Raises:
        InputError: ``video`` is something else, or VBench fails.
    """
    table = video_table(video, features={"subject": subject, "background": background})
    found = {name: table[column] for name, column in SEEN.items()}
    if vbench:
        real = run_vbench(video, vbench)
        found |= {name: real[dimension] for name, dimension in VBENCH.items()}
    if wanted is not None:
        truth = truth_table(video, wanted)
        found |= {name: truth[column] for name, column in TRUE.items()}
        found |= {f"fidelity_{name}": truth[f"fidelity_{name}"] for name in FACTORS}
    numbers: dict[str, float | None] = dict.fromkeys(NUMBERS)
    for name, values in found.items():
        known = values[~values.isnan()]
        numbers[name] = float(known.mean()) * (100 if name in PERCENT else 1) if len(known) else None
    if wanted is not None:
        words = {word.strip() for word in rare.split(",")}
        asked = [(row, name) for row, factors in enumerate(wanted) for name in FACTORS if getattr(factors, name) in words]
        right = [float(found[f"fidelity_{name}"][row]) for row, name in asked]
        numbers["fidelity"] = 100 * float(sum(found[f"fidelity_{name}"].mean() for name in FACTORS)) / len(FACTORS)
        numbers["rare"] = 100 * sum(right) / len(right) if right else None
    return numbers


def look(video: Tensor, prompts: Sequence[str], features: FrameFeatures) -> dict[str, float]:
    """Return the mean ``saturation`` and ``contrast`` of clips, and their pairwise ``diversity``; arguments as :func:`mode_numbers`."""
    found = {"saturation": float(saturation(video).mean()), "contrast": float(contrast(video).mean())}
    return found | {"diversity": clip_diversity(video, prompts, features)["mean"]["mean"]}


def mode_numbers(
    video: Tensor,
    wanted: Sequence[Factors],
    prompts: Sequence[str],
    said: Sequence[str],
    real: Mapping[str, float],
    features: FrameFeatures,
    *,
    rare: str = "",
) -> dict[str, float | None]:
    """Return how much of what was asked for, and of what was left open, a set of clips holds: ``HELD`` and ``rare``.

    ``fidelity`` is the mean over the factors that the prompts say, ``coverage`` the share of all values asked for that hold a fifth of
    their share, over all factors; both and ``drift`` in percent. ``saturation``, ``contrast`` and pairwise ``diversity`` (DFD Eq. 26) are
    percent of the real clips'. ``camera`` is how far apart the cameras of a prompt's clips end, in half widths.

    Args:
        video: uint8 ``[B, 3, T, H, W]``, generated.
        wanted: the factors that were asked for.
        real: :func:`look` of real clips of these factors.
        prompts: one a clip, each at least twice.
        said: the factors that the prompts say.
        features: of frames, for the diversity.
        rare: a value of a factor; the number ``rare`` is the share of the clips that show it, in percent, None without one.
    """
    parsed = parse(video)
    answers = parsed.records()
    right, held = fidelity(answers, wanted), coverage(answers, wanted)
    shown = [rare in row.values() for row in answers]
    return {
        "fidelity": 100 * sum(right[factor]["mean"] for factor in said) / len(said),
        "coverage": 100 * sum(held[factor]["values"]["mean"] for factor in FACTORS) / len(FACTORS),
        "drift": 100 * float(drift(parsed)["any"].nanmean()),
        **{name: 100 * value / real[name] for name, value in look(video, prompts, features).items()},
        "camera": track_diversity(camera_track(parsed, video.shape[2]), prompts)["endpoint"]["mean"],
        "rare": 100 * sum(shown) / len(shown) if rare else None,
    }
