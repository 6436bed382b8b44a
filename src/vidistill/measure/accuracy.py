"""Accuracy of a classifier, in percent. Legend: M clips, K classes."""

from __future__ import annotations

import torch
from torch import Tensor

from vidistill.errors import InputError


def accuracy(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return top-1, top-5 and mean-class accuracy.

    ``top-k = 100 / M * #{i : label_i is among the k largest logits of clip i}``; with fewer than five classes top-5 is top-K. Mean-class
    accuracy is the mean over classes of the top-1 accuracy within the class; a class without test clips is left out.

    Args:
        logits: float ``[M, K]``, larger is more likely; may be on any device.
        labels: int64 ``[M]`` in ``[0, K)``.

    Returns:
        ``{"top1", "top5", "mean_class"}`` in percent.

    Raises:
        InputError: no clips, shapes that do not match, a label outside ``[0, K)``, or logits that are not finite.
    """
    logits, labels = logits.detach().float().cpu(), torch.as_tensor(labels).cpu().long()
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels) or not len(labels):
        raise InputError(f"accuracy needs logits [M, K] and M labels, M >= 1; got {tuple(logits.shape)} and {tuple(labels.shape)}")
    classes = logits.shape[1]
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"labels must lie in 0..{classes - 1} for {classes} logits a clip; got {int(labels.min())}..{int(labels.max())}")
    if not bool(logits.isfinite().all()):
        raise InputError("the logits are not finite: the student diverged; train it with a smaller lr")
    hits = logits.topk(min(5, classes), dim=1).indices == labels[:, None]  # [M, 5], best first
    right = hits[:, 0].double()
    counts = torch.bincount(labels, minlength=classes).double()
    per_class = torch.bincount(labels, weights=right, minlength=classes) / counts  # 0 / 0 where a class is absent
    return {
        "top1": 100 * float(right.mean()),
        "top5": 100 * float(hits.any(dim=1).double().mean()),
        "mean_class": 100 * float(per_class[counts > 0].mean()),
    }
