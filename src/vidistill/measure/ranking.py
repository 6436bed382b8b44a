"""DD-Ranking's scores (arXiv 2505.13300): what a distilled set is worth once the teacher's labels and the training tricks are taken out.

    HLR = acc(real, hard) - acc(set, hard)            hard-label recovery: what the set lacks, less is better
    IOR = acc(set, any) - acc(random, any)            improvement over random clips, same recipe and teacher
    LRS = (e^a - e^-1) / (e - e^-1),   a = w IOR - (1 - w) HLR

Accuracies are fractions. At parity (HLR = IOR = 0) LRS is .2689; the published package takes percentages and leaves [0, 1].
"""

from __future__ import annotations

import math

from vidistill.errors import InputError


def lrs(hlr: float, ior: float, w: float = 0.5) -> float:
    """Return the label-robust score, [0, 1], more is better.

    Args:
        hlr, ior: differences of accuracies as fractions, [-1, 1].
        w: weight of IOR, [0, 1].

    Raises:
        InputError: a number is out of range, e.g. a percentage.
    """
    if not (-1 <= hlr <= 1 and -1 <= ior <= 1 and 0 <= w <= 1):
        raise InputError(f"LRS takes fractions: hlr={hlr:g} and ior={ior:g} must lie in [-1, 1], w={w:g} in [0, 1]")
    a = w * ior - (1 - w) * hlr
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))
