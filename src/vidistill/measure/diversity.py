"""How different the clips of one prompt are from seed to seed: their features, and the paths of camera and object.

    pairwise     1 - 2 / (L (L - 1)) sum_{i<j} cos(f_i, f_j)                   DFD Eq. 26; 0 for equal clips, 1 for orthogonal ones
                 mean: f the mean over frames;   frame: the mean over frames of the number of each frame
    path         mean_i sum_t |p_{t+1} - p_t|                                  p^i_t the place in frame t of clip i
    reach        mean_i max_t |p_t - p_0|
    spread       |std_i e_i|                                                   e_i = p^i_{T-1}; the deviation over all L clips
    endpoint     2 / (L (L - 1)) sum_{i<j} |e_i - e_j|
    trajectory   2 / (L (L - 1)) sum_{i<j} mean_t |p^i_t - p^j_t|
    gap closed   (a - base) / (teacher - base)                                 of what base has lost, the part that a wins back

Data-Forcing Distillation, arXiv 2606.18478: L = 8 seeds a prompt. There the camera is ViPE's; here camera and object are what the exact
parser of Motion World sees. Which of its two endpoint measures stands in its Table 1 is not known: both are here.

Diversity is to be read beside fidelity and coverage: it rises with anything that is off the truth (:mod:`vidistill.measure.modes`).

Shapes: P prompts, L clips of one prompt, B clips, T frames, D features or coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidistill.data.parse import HIDDEN, Parsed
from vidistill.errors import InputError
from vidistill.measure.consistency import FrameFeatures
from vidistill.measure.generated import bootstrap

SEEDS = 8
"""DFD's L."""

VARIANTS = ("mean", "frame")


def pairwise_diversity(features: Tensor) -> Tensor:
    """Return ``1 - 2 / (L (L - 1)) sum_{i<j} cos(f_i, f_j)`` (DFD Eq. 26), in [0, 2].

    Args:
        features: floating point ``[..., L, D]``, L >= 2.

    Returns:
        float64 ``[...]``.

    Raises:
        InputError: L < 2, or a feature is zero or not finite and so has no direction.
    """
    if features.ndim < 2 or features.shape[-2] < 2:
        raise InputError(f"diversity needs two clips of a prompt or more: features [..., L, D] with L >= 2, got {tuple(features.shape)}")
    length = features.double().norm(dim=-1, keepdim=True)
    if not bool((length.isfinite() & (length > 0)).all()):
        raise InputError("a feature is zero or not finite: it has no direction to be compared")
    f = features.double() / length
    clips = f.shape[-2]
    both = f.sum(-2).square().sum(-1) - f.square().sum((-2, -1))  # sum over i != j
    return 1 - both / (clips * (clips - 1))


def feature_diversity(features: Tensor) -> dict[str, Tensor]:
    """Return Eq. 26 of the clips of each prompt, in both of the paper's variants.

    Args:
        features: of frames, floating point ``[..., L, T, D]``.

    Returns:
        ``mean`` (frames are pooled, then compared) and ``frame`` (each frame is compared, then the mean), float64 ``[...]``.
    """
    return {"mean": pairwise_diversity(features.double().mean(-2)), "frame": pairwise_diversity(features.transpose(-3, -2)).mean(-1)}


def rows_by_prompt(prompts: Sequence[str]) -> dict[str, list[int]]:
    """Return for each prompt the rows of its clips, in order of appearance.

    Raises:
        InputError: there are no clips, or a prompt has one only.
    """
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    alone = [prompt for prompt, mine in rows.items() if len(mine) < 2]
    if not rows or alone:
        why = f"{alone[0]!r} has one" if alone else "there are none"
        raise InputError(f"diversity needs two clips of each prompt or more, from other seeds; {why}")
    return rows


def clip_diversity(video: Tensor, prompts: Sequence[str], features: FrameFeatures) -> dict[str, Any]:
    """Return Eq. 26 over the prompts of a set of clips, with intervals bootstrapped over prompts.

    Args:
        video: uint8 ``[B, 3, T, H, W]``.
        prompts: one a clip; each needs two clips or more (the paper has 8 of each of 140 prompts, all intervals want 64 prompts or more).
        features: of frames: lab-probe, DINO, CLIP, see :func:`vidistill.measure.features.load_features`, or a probe without weights.

    Returns:
        ``{"mean", "frame"}``, each ``{"mean", "low", "high", "n", "prompts"}``, ``prompts`` being the value of each.
    """
    if len(video) != len(prompts):
        raise InputError(f"one prompt a clip is needed: {len(video)} clips, {len(prompts)} prompts")
    seen, rows = features(video), rows_by_prompt(prompts)
    return {name: _over({prompt: feature_diversity(seen[mine])[name] for prompt, mine in rows.items()}) for name in VARIANTS}


# ------------------------------------------------------------------------------------------------------------------- paths


def path_diversity(tracks: Tensor) -> dict[str, float]:
    """Return the path measures of the clips of one prompt.

    Args:
        tracks: floating point ``[L, T, D]``, L >= 2, T >= 2, finite; one unit for all coordinates.

    Returns:
        ``path``, ``reach``, ``spread``, ``endpoint``, ``trajectory``, in the tracks' unit.

    Raises:
        InputError: another shape, or a place that is not finite.
    """
    if tracks.ndim != 3 or tracks.shape[0] < 2 or tracks.shape[1] < 2:
        raise InputError(f"paths need tracks [L, T, D] of two clips and two frames or more; got {tuple(tracks.shape)}")
    if not bool(tracks.isfinite().all()):
        raise InputError("a track has places that are not finite: leave out clips in which nothing is seen")
    p = tracks.double()
    i, j = torch.triu_indices(len(p), len(p), 1)
    apart = (p[i] - p[j]).norm(dim=-1)  # [pairs, T]
    return {
        "path": float(p.diff(dim=1).norm(dim=-1).sum(1).mean()),
        "reach": float((p - p[:, :1]).norm(dim=-1).amax(1).mean()),
        "spread": float(p[:, -1].std(0, correction=0).norm()),
        "endpoint": float(apart[:, -1].mean()),
        "trajectory": float(apart.mean()),
    }


def camera_track(parsed: Parsed, frames: int) -> Tensor:
    """Return the camera's path of each clip, ``travel t / (T - 1)``, float64 ``[B, T, 3]``: x, y in half widths, log zoom.

    The parser fits one uniform travel to a clip, as all of Motion World's cameras move: the path is straight by construction, so its
    ``path`` and ``reach`` are equal and its ``trajectory`` is half its ``endpoint`` distance.
    """
    return parsed.travel.double()[:, None] * torch.linspace(0, 1, frames, dtype=torch.float64)[:, None]


def object_track(parsed: Parsed) -> Tensor:
    """Return the object's place in each frame, float64 ``[B, T, 2]`` in half widths.

    Frames in which nothing is seen lie on the straight line between their neighbours, those before the first and after the last seen one
    where that is; a clip in which nothing is ever seen is NaN.
    """
    place = torch.stack([parsed.x, parsed.y], -1).double()
    seen = parsed.frame_shape != HIDDEN
    frame = torch.arange(place.shape[1]).expand(seen.shape)
    last = torch.where(seen, frame, -1).cummax(1).values
    following = torch.where(seen, frame, place.shape[1]).flip(1).cummin(1).values.flip(1)
    before = torch.where(last >= 0, last, following).clamp(max=place.shape[1] - 1)
    after = torch.where(following < place.shape[1], following, last).clamp(min=0)
    share = ((frame - before).double() / (after - before).clamp(min=1))[..., None]
    a, b = (place.gather(1, at[..., None].expand(place.shape)) for at in (before, after))
    return (a + share * (b - a)).masked_fill(~seen.any(1)[:, None, None], torch.nan)


def track_diversity(tracks: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
    """Return the path measures over the prompts of a set of clips, with intervals bootstrapped over prompts.

    Args:
        tracks: floating point ``[B, T, D]``, as :func:`camera_track` and :func:`object_track` return them; clips with NaN are left out.
        prompts: one a clip.

    Returns:
        as :func:`path_diversity`, each ``{"mean", "low", "high", "n", "prompts"}``, and ``left_out``, a count of clips.

    Raises:
        InputError: the two differ in number, or a prompt has fewer than two clips in which something is seen.
    """
    if len(tracks) != len(prompts):
        raise InputError(f"one prompt a clip is needed: {len(tracks)} tracks, {len(prompts)} prompts")
    kept = (~tracks.isnan().flatten(1).any(1)).nonzero()[:, 0].tolist()
    rows = rows_by_prompt([prompts[row] for row in kept])
    found = {prompt: path_diversity(tracks[[kept[row] for row in mine]]) for prompt, mine in rows.items()}
    names = next(iter(found.values()))
    table: dict[str, Any] = {name: _over({prompt: row[name] for prompt, row in found.items()}) for name in names}
    return table | {"left_out": len(tracks) - len(kept)}


def _over(values: Mapping[str, Tensor | float]) -> dict[str, Any]:
    """Return the mean over prompts with its bootstrap interval; one prompt has none."""
    each = {prompt: float(value) for prompt, value in values.items()}
    column = torch.tensor(list(each.values()), dtype=torch.float64)
    found = bootstrap(lambda index: column[index].mean(1), len(column), name="prompts")
    return (found if len(each) > 1 else found | {"low": None, "high": None}) | {"prompts": each}


# --------------------------------------------------------------------------------------------------------------------- gap


def gap_closed(base: float, value: float, teacher: float) -> float | None:
    """Return ``(value - base) / (teacher - base)``: 0 is no gain, 1 the teacher's; None where base has lost nothing."""
    return (value - base) / (teacher - base) if teacher != base else None


def gap_table(base: Mapping[str, float], method: Mapping[str, float], teacher: Mapping[str, float]) -> dict[str, float | None]:
    """Return :func:`gap_closed` of each column, in percent.

    Raises:
        InputError: the three have other columns.
    """
    if not base.keys() == method.keys() == teacher.keys():
        different = (base.keys() | method.keys() | teacher.keys()) - (base.keys() & method.keys() & teacher.keys())
        raise InputError(f"a gap needs the same columns of base, method and teacher; not in all three: {', '.join(sorted(different))}")
    return {name: None if (part := gap_closed(base[name], method[name], teacher[name])) is None else 100 * part for name in base}
