"""What generated clips are worth against what was asked for, against real clips of the same factors, and against the training set.

    fidelity       share of clips whose answer (exact parser, or lab-probe) is the prompted value
    coverage       share of values with p_v >= q_v / 5;     distance  1/2 sum_v |p_v - q_v|      p answered, q asked for
    spread         std_i(a_i - mean of a over the clips of i's motion), a in {x, y, radius}, over that of the reference
    drift          mean_i #{t visible : answer_it differs from the clip's commonest} / #{t visible}
    feature drift  mean_i (1 - mean_t cos(f_it, mean_t f_it)),  f a classifier's features of one frame, t visible
    contrast       std of the luma 0.299 R + 0.587 G + 0.114 B over the pixels and frames of a clip, in [0, 1]
    saturation     mean of HSV's (max - min) / max over the pixels and frames of a clip, in [0, 1]
    nearest        min_j sqrt(mean((z_i - z_j)^2)) over the training latents z_j

Shares have Wilson intervals (1927), means Student's, quantiles those of order statistics, all else the bootstrap over clips (Efron 1979),
which draws a clip together with its reference. A number without enough clips for an interval has ``None`` there.

Shapes: B clips, T frames, N training clips, R rounds of the bootstrap, K values of a factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.data.parse import HIDDEN, Parsed
from vidistill.data.world import FACTORS, MOTIONS, Factors
from vidistill.errors import InputError, choose
from vidistill.measure.intervals import interval
from vidistill.rng import stream

IDENTITY = ("shape", "colour", "background")
"""What must not change within a clip."""

TOGETHER = ("motion", "shape", "colour")
"""The factors that make one number, ``together``: the share of clips in which all of them are right."""

COVERED = 0.2
"""A value is covered when the answers hold at least this share of what was asked for."""

ROUNDS = 1000
"""Rounds of the bootstrap."""

COPY = 1 / 3
"""A clip is a copy when its nearest training clip is nearer than this share of the second nearest (Yoon et al. 2023)."""

SLICE = 32
"""Clips in floating point at once."""

BANK_SLICE = 2048
"""Training latents in floating point at once."""

Z = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""

Answers = Sequence[Mapping[str, str]]
"""One dict a clip: factor -> the value seen, as :meth:`vidistill.data.parse.Parsed.records` gives them."""


# -------------------------------------------------------------------------------------------------------------- intervals


def share(hits: Sequence[bool] | Tensor) -> dict[str, Any]:
    """Return a share with its Wilson interval, ``(p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)``.

    Args:
        hits: one truth value a clip; without any, mean and interval are ``None``.

    Returns:
        ``{"mean", "low", "high", "n"}``, in [0, 1].
    """
    values = [bool(hit) for hit in (hits.tolist() if isinstance(hits, Tensor) else hits)]
    n = len(values)
    if not n:
        return {"mean": None, "low": None, "high": None, "n": 0}
    p = sum(values) / n
    middle, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)
    return {"mean": p, "low": min(max(low, 0.0), p), "high": max(min(high, 1.0), p), "n": n}


def average(values: Tensor) -> dict[str, Any]:
    """Return the mean over clips with Student's interval; clips without a value (NaN) are left out, and without any all is ``None``.

    The interval of values that cannot be negative ends at 0.
    """
    kept = values[~values.isnan()].double().tolist()
    if not kept:
        return {"mean": None, "low": None, "high": None, "std": None, "n": 0}
    found = interval(kept)
    del found["values"]
    if found["low"] is not None and min(kept) >= 0:
        found["low"] = max(found["low"], 0.0)
    return found


def quantile(values: Tensor, q: float) -> dict[str, Any]:
    """Return a quantile with the interval of order statistics, ranks ``nq -+ z sqrt(nq (1 - q))``; the smallest value (q = 0) has none."""
    order = values.double().sort().values
    n, mean = len(order), float(torch.quantile(order, q))
    half = Z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(n * q - half), math.ceil(n * q + half)
    if q in (0, 1) or low < 0 or high >= n:
        return {"mean": mean, "low": None, "high": None, "n": n}
    return {"mean": mean, "low": min(float(order[low]), mean), "high": max(float(order[high]), mean), "n": n}


def bootstrap(statistic: Callable[[Tensor], Tensor], clips: int, *, name: str = "clips", seed: int = 0) -> dict[str, Any]:
    """Return a statistic of all clips with its percentile interval over clips drawn with replacement.

    Args:
        statistic: maps rows of clip indices, int64 ``[R, B]``, to one number a row, ``[R]``; infinity means without bound, NaN undefined.
        clips: B.
        name, seed: of the stream that draws.

    Returns:
        ``{"mean", "low", "high", "n"}``; what is infinite or undefined is ``None``. The interval always holds the number itself.
    """
    if not clips:
        return {"mean": None, "low": None, "high": None, "n": 0}
    draws = torch.randint(clips, (ROUNDS, clips), generator=stream(seed, "bootstrap", name))
    whole = float(statistic(torch.arange(clips)[None])[0])
    rounds = statistic(draws).double()
    rounds = rounds[~rounds.isnan()].sort().values
    if math.isnan(whole) or not len(rounds):
        return {"mean": None, "low": None, "high": None, "n": clips}
    low, high = float(rounds[int(0.025 * (len(rounds) - 1))]), float(rounds[math.ceil(0.975 * (len(rounds) - 1))])
    found = {"mean": whole, "low": min(low, whole), "high": max(high, whole)}
    return {key: value if math.isfinite(value) else None for key, value in found.items()} | {"n": clips}


def ratio(values: Tensor, reference: Tensor) -> dict[str, Any]:
    """Return ``mean(values) / mean(reference)``, bootstrapped over clips; 0 / 0 is 1, and a / 0 has no number.

    Args:
        values, reference: one number a clip, ``[B]``, clip b's reference in row b; pairs with a NaN are left out.

    Raises:
        InputError: the two differ in length.
    """
    if values.shape != reference.shape or values.ndim != 1:
        raise InputError(f"a ratio needs one reference a clip; got {tuple(values.shape)} and {tuple(reference.shape)}")
    both = ~(values.isnan() | reference.isnan())
    a, b = values[both].double(), reference[both].double()

    def of(index: Tensor) -> Tensor:
        above, below = a[index].mean(1), b[index].mean(1)
        return torch.where((above == 0) & (below == 0), torch.ones_like(above), above / below)

    return bootstrap(of, len(a))


def ratio_of_means(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ratio of two means of :func:`average` that were taken apart, ``exp(ln r +- z sqrt(s_a^2 / n_a a^2 + s_b^2 / n_b b^2))``.

    Returns:
        ``{"mean", "low", "high", "n"}``, n of the smaller sample; what a mean of 0 or a single clip leaves undefined is ``None``.
    """
    n = min(a["n"], b["n"])
    if not b["mean"] or a["mean"] is None:
        return {"mean": None, "low": None, "high": None, "n": n}
    r = a["mean"] / b["mean"]
    if not r or n < 2:
        return {"mean": r, "low": None, "high": None, "n": n}
    half = Z * math.sqrt(sum(x["std"] ** 2 / (x["n"] * x["mean"] ** 2) for x in (a, b)))
    return {"mean": r, "low": r * math.exp(-half), "high": r * math.exp(half), "n": n}


# --------------------------------------------------------------------------------------------------- what was asked for


def fidelity(answers: Answers, wanted: Sequence[Factors]) -> dict[str, dict[str, Any]]:
    """Return for each factor that the answers have, and for ``together``, the share of clips whose answer is the value asked for.

    Args:
        answers: what was seen, one dict a clip.
        wanted: what was asked for, in the same order.

    Returns:
        ``{factor: share}``, see :func:`share`; ``together`` only when the answers have all of ``TOGETHER``.

    Raises:
        InputError: the two differ in number, or there are no clips.
    """
    _same_length(answers, wanted)
    right = {name: [row[name] == getattr(clip, name) for row, clip in zip(answers, wanted, strict=True)] for name in _factors(answers)}
    found = {name: share(hits) for name, hits in right.items()}
    if all(name in right for name in TOGETHER):
        found["together"] = share([all(hits) for hits in zip(*(right[name] for name in TOGETHER), strict=True)])
    return found


def fidelity_by_value(answers: Answers, wanted: Sequence[Factors]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{factor: {value: share}}``: fidelity among the clips that were asked for the value; values nobody asked for are left out."""
    _same_length(answers, wanted)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in _factors(answers):
        pairs = [(getattr(clip, name), row[name]) for row, clip in zip(answers, wanted, strict=True)]
        asked = {value for value, _ in pairs}
        found[name] = {value: share([seen == value for want, seen in pairs if want == value]) for value in FACTORS[name] if value in asked}
    return found


def confusions(answers: Answers, wanted: Sequence[Factors], factor: str, top: int = 5) -> list[dict[str, Any]]:
    """Return the commonest wrong answers: ``[{"asked", "seen", "clips", "of"}]``, most clips first; ``of`` counts the clips asked for."""
    _same_length(answers, wanted)
    choose("factor", factor, _factors(answers))
    pairs = [(getattr(clip, factor), row[factor]) for row, clip in zip(answers, wanted, strict=True)]
    asked = [want for want, _ in pairs]
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    order = sorted(set(wrong), key=lambda pair: (-wrong.count(pair), pair))[:top]
    return [{"asked": want, "seen": seen, "clips": wrong.count((want, seen)), "of": asked.count(want)} for want, seen in order]


def coverage(answers: Answers, wanted: Sequence[Factors]) -> dict[str, dict[str, Any]]:
    """Return for each factor how much of what was asked for is there at all, whichever clip it is in.

    Returns:
        ``{factor: {"values", "distance"}}``: the share of the values asked for that hold at least ``COVERED`` of their share among the
        answers, and the total variation distance between answers and what was asked for (a clip with nothing to see is a value of its own).
    """
    _same_length(answers, wanted)
    found = {}
    for name in _factors(answers):
        names = (*FACTORS[name], "hidden")
        seen = torch.tensor([names.index(row[name]) for row in answers])
        asked = torch.tensor([names.index(getattr(clip, name)) for clip in wanted])

        def both(index: Tensor, seen: Tensor = seen, asked: Tensor = asked, k: int = len(names)) -> tuple[Tensor, Tensor]:
            return _frequencies(seen[index], k), _frequencies(asked[index], k)

        def values(index: Tensor, both: Callable[..., tuple[Tensor, Tensor]] = both) -> Tensor:
            p, q = both(index)
            return ((p >= COVERED * q) & (q > 0)).sum(1) / (q > 0).sum(1)

        def distance(index: Tensor, both: Callable[..., tuple[Tensor, Tensor]] = both) -> Tensor:
            p, q = both(index)
            return (p - q).abs().sum(1) / 2

        found[name] = {"values": bootstrap(values, len(seen)), "distance": bootstrap(distance, len(seen))}
    return found


def spread(parsed: Parsed, reference: Parsed, wanted: Sequence[Factors]) -> dict[str, dict[str, Any]]:
    """Return how much of the data's variety beyond the prompt is there: ratios of deviations within the clips of one motion.

    Place and radius of a clip are means over its visible frames; clips where nothing is visible, here or in the reference, are left out.

    Args:
        parsed, reference: generated clips and real ones of the same factors.
        wanted: those factors.

    Returns:
        ``{"x", "y", "radius"}``, each the generated clips' deviation over the reference's.
    """
    _same_length(parsed, wanted)
    _same_length(reference, wanted)
    weights = [_visible(some).double() for some in (parsed, reference)]
    kept = (weights[0].sum(1) > 0) & (weights[1].sum(1) > 0)
    motions = list(MOTIONS)
    group = torch.tensor([motions.index(clip.motion) for clip in wanted])[kept]
    found = {}
    for name in ("x", "y", "radius"):
        means = [(getattr(some, name) * w).sum(1) / w.sum(1).clamp(min=1) for some, w in zip((parsed, reference), weights, strict=True)]
        a, b = means[0][kept], means[1][kept]

        def of(index: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            return _within(a[index], group[index]) / _within(b[index], group[index])

        found[name] = bootstrap(of, len(a))
    return found


def _within(values: Tensor, group: Tensor) -> Tensor:
    """Return the pooled deviation within groups of each row, ``[R, B] -> [R]``; NaN where no group has two clips."""
    zero = torch.zeros(len(values), len(MOTIONS), dtype=torch.float64)
    count = zero.scatter_add(1, group, torch.ones_like(values))
    mean = zero.scatter_add(1, group, values) / count.clamp(min=1)
    free = (count - 1).clamp(min=0).sum(1)
    return ((values - mean.gather(1, group)).square().sum(1) / free).sqrt()


def _frequencies(index: Tensor, k: int) -> Tensor:
    """Return the share of each of ``k`` values in each row, ``[R, B] -> [R, k]``."""
    counts = torch.zeros(len(index), k, dtype=torch.float64).scatter_add_(1, index, torch.ones(index.shape, dtype=torch.float64))
    return counts / index.shape[1]


def _factors(answers: Answers) -> list[str]:
    return [name for name in FACTORS if name in answers[0]]


def _same_length(rows: Any, wanted: Sequence[Factors]) -> None:
    if len(rows) != len(wanted) or not len(wanted):
        raise InputError(f"one answer a clip is needed, and at least one clip: {len(rows)} answers, {len(wanted)} clips")


# ----------------------------------------------------------------------------------------------------- within one clip


def _visible(parsed: Parsed) -> Tensor:
    """Return in which frames the object can be seen, bool ``[B, T]``."""
    return parsed.frame_shape != HIDDEN


def drift(parsed: Parsed) -> dict[str, Tensor]:
    """Return identity drift: the share of a clip's visible frames whose own answer differs from the clip's commonest one.

    A frame that shows the object but not its colour (it fades) has no answer about the colour, and differs in none.

    Returns:
        ``{"shape", "colour", "background", "any"}``, float64 ``[B]`` in [0, 1]; NaN where the object is never visible.
    """
    visible = _visible(parsed)
    frames = visible.sum(1).double()
    other = {}
    for name in IDENTITY:
        answer = getattr(parsed, f"frame_{name}")
        seen = visible & (answer != HIDDEN)
        votes = F.one_hot(answer.clamp(min=0), len(FACTORS[name])) * seen[..., None]
        other[name] = seen & (answer != votes.sum(1).argmax(1)[:, None])
    other["any"] = torch.stack(list(other.values())).any(0)
    return {name: changed.sum(1).double() / frames.masked_fill(frames == 0, math.nan) for name, changed in other.items()}


def feature_drift(features: Tensor, parsed: Parsed) -> Tensor:
    """Return ``1 - mean_t cos(f_t, mean_t f_t)`` over a clip's visible frames, float64 ``[B]``; NaN where the object is never visible.

    Args:
        features: of single frames, floating point ``[B, T, D]``.
        parsed: of the same clips.
    """
    visible = _visible(parsed)
    if features.ndim != 3 or features.shape[:2] != visible.shape:
        raise InputError(f"feature drift needs features [B, T, D] of the parsed clips {tuple(visible.shape)}; got {tuple(features.shape)}")
    f, w = features.double().cpu(), visible.double()
    count = w.sum(1)
    count = count.masked_fill(count == 0, math.nan)
    middle = (f * w[..., None]).sum(1, keepdim=True) / count[:, None, None]
    return ((1 - F.cosine_similarity(f, middle, dim=-1)) * w).sum(1) / count


# ---------------------------------------------------------------------------------------------------------------- look


@torch.inference_mode()
def contrast(video: Tensor) -> Tensor:
    """Return the standard deviation of the luma over all pixels and frames of each clip, float32 ``[B]`` in [0, 1]."""
    luma = torch.tensor([0.299, 0.587, 0.114])
    return torch.cat([torch.einsum("bcthw,c->bthw", part.float() / 255, luma).flatten(1).std(1) for part in _parts(video)])


@torch.inference_mode()
def saturation(video: Tensor) -> Tensor:
    """Return the mean HSV saturation ``(max - min) / max`` (0 for black) over all pixels and frames of each clip, float32 ``[B]``."""
    found = []
    for part in _parts(video):
        high, low = part.amax(1).float(), part.amin(1).float()
        found.append(((high - low) / high.clamp(min=1)).flatten(1).mean(1))
    return torch.cat(found)


def _parts(video: Tensor) -> tuple[Tensor, ...]:
    if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[1] != 3 or not len(video):
        raise InputError(f"needs uint8 RGB clips [B, 3, T, H, W], B >= 1; got {video.dtype} {tuple(video.shape)}")
    return video.cpu().split(SLICE)


# ---------------------------------------------------------------------------------------------------------- memorisation


@torch.inference_mode()
def nearest(latents: Tensor, training: Tensor) -> Tensor:
    """Return the RMS distances to the two nearest training latents, ``sqrt(mean((z_i - z_j)^2))``.

    The search expands the square, ``|a|^2 + |b|^2 - 2 a b``, a slice of the training set at a time; the two distances found are then
    computed from the differences, so a training clip is at 0 exactly.

    Args:
        latents: floating point ``[B, ...]``. training: ``[N, ...]`` of the same shape a clip, N >= 2, any floating dtype.

    Returns:
        float32 ``[B, 2]``, nearest first.

    Raises:
        InputError: shapes that differ, or fewer than two training clips.
    """
    if latents.shape[1:] != training.shape[1:] or len(training) < 2:
        raise InputError(
            f"nearest needs latents of one shape and two training clips; got {tuple(latents.shape)} and {tuple(training.shape)}"
        )
    a, bank = latents.flatten(1).float(), training.flatten(1)
    square, best, index = a.square().sum(1, True), torch.full((len(a), 2), math.inf), torch.zeros(len(a), 2, dtype=torch.long)
    for start in range(0, len(bank), BANK_SLICE):
        b = bank[start : start + BANK_SLICE].float()
        distance = torch.cat([best, square + b.square().sum(1) - 2 * a @ b.T], 1)
        rows = torch.cat([index, torch.arange(start, start + len(b)).expand(len(a), -1)], 1)
        best, where = distance.topk(2, 1, largest=False)
        index = rows.gather(1, where)
    exact = torch.stack([(a - bank[index[:, k]].float()).square().mean(1).sqrt() for k in (0, 1)], 1)
    return exact.sort(1).values


def memorisation(generated: Tensor, held_out: Tensor) -> dict[str, Any]:
    """Return how near generated clips lie to the training set, beside clips that were held out of it.

    Nearness alone is no copying (a blurred clip is near to everything), so a copy must also be much nearer to one clip than to any other.

    Args:
        generated, held_out: of :func:`nearest`, ``[B, 2]``.

    Returns:
        ``generated`` and ``held_out``: the smallest distance, its 5 % and 50 % quantiles; ``nearer``: the share of generated clips nearer
        than the nearest held-out one; ``copies`` and ``copies_held_out``: the share with ``d_1 < COPY d_2``.
    """
    rows = {"generated": generated, "held_out": held_out}
    found: dict[str, Any] = {key: {f"{q:.0%}": quantile(d[:, 0], q) for q in (0.0, 0.05, 0.5)} for key, d in rows.items()}
    found["nearer"] = share(generated[:, 0] < held_out[:, 0].min())
    return found | {key: share(d[:, 0] < COPY * d[:, 1]) for key, d in (("copies", generated), ("copies_held_out", held_out))}
