"""Intervals over seeds: no number without one, and no comparison without its paired difference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from vidistill.errors import InputError


def interval(values: Sequence[float], level: float = 0.95) -> dict[str, Any]:
    """Return mean, standard deviation and the Student t interval of the mean.

    ``mean +- t_{(1 + level) / 2, n - 1} * s / sqrt(n)`` with the sample deviation ``s`` (n - 1). One value has no interval.

    Args:
        values: one number per seed, n >= 1, all finite.
        level: confidence, in (0, 1).

    Returns:
        ``{"mean", "low", "high", "std", "n", "values"}``; ``low``, ``high`` and ``std`` are ``None`` when n = 1.

    Raises:
        InputError: no values, a value that is not finite, or a level outside (0, 1).
    """
    values = [float(value) for value in values]
    if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"an interval needs at least one value and only finite ones; got {values}")
    if not 0 < level < 1:
        raise InputError(f"interval level={level} is out of range: it must lie in (0, 1), e.g. 0.95")
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "std": None, "n": 1, "values": values}
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * std / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "std": std, "n": n, "values": values}


def exact(value: float) -> dict[str, Any]:
    """Return a number that was computed and not sampled, in the form of an interval: a point, for which no seeds are needed.

    Args:
        value: finite, e.g. the bytes of a file.

    Returns:
        what :func:`interval` returns, with ``mean = low = high``, ``std`` 0 and n = 1, and ``"exact": True``.

    Raises:
        InputError: the value is not finite.
    """
    point = interval([value])
    return point | {"low": point["mean"], "high": point["mean"], "std": 0.0, "exact": True}


def paired(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> dict[str, Any]:
    """Return the interval of the differences ``a_i - b_i`` of two arms that share their seeds, and a verdict on ``a``.

    Pairing removes what a seed does to both arms (initial weights, clip order) from the comparison.

    Args:
        a, b: one number per seed, in the same order of seeds.
        level: confidence, in (0, 1).

    Returns:
        :func:`interval` of the differences and ``"verdict"``: ``"higher"`` when the interval lies above 0, ``"lower"`` when below,
        else ``"cannot tell"`` (always with one seed).

    Raises:
        InputError: the arms differ in length, or :func:`interval` refuses the values.
    """
    if len(a) != len(b):
        raise InputError(f"paired values need the same seeds in both arms; got {len(a)} and {len(b)} values")
    result = interval([x - y for x, y in zip(a, b, strict=True)], level)
    low, high = result["low"], result["high"]
    result["verdict"] = "cannot tell" if low is None or low <= 0 <= high else "higher" if low > 0 else "lower"
    return result
