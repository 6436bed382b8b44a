"""Soft labels: what a teacher says of the training clips instead of one class each. Legend: N clips, K classes, z logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from vidistill.errors import InputError


@dataclass(frozen=True)
class Soft:
    """What a teacher says of the training clips, and how much it counts.

        L = (1 - a) CE(z, y) + a c KL(softmax(z_T / tau) || softmax(z / tau)),    c = tau^2 or 1

    (Hinton et al. 2015.) GVD (arXiv 2507.22360) states "KL loss, alpha 0.2, temperature 3.0"; which term alpha weighs is not public: the
    usual reading is a = 1 - alpha = 0.8, the other a = 0.2.

    Attributes:
        logits: z_T, float ``[N, K]``, one row a clip.
        weight: a, [0, 1]; 0 is hard labels.
        temperature: tau > 0.
        squared: whether c is tau^2.

    Raises:
        InputError: a number is out of range, or logits are not finite.
    """

    logits: Tensor
    weight: float = 0.8
    temperature: float = 3.0
    squared: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or self.temperature <= 0:
            raise InputError(
                f"soft labels with weight={self.weight:g} temperature={self.temperature:g}: the weight must be in [0, 1], "
                "the temperature positive"
            )
        if self.logits.ndim != 2 or not bool(self.logits.isfinite().all()):
            raise InputError(f"soft labels need finite logits [N, K], got {tuple(self.logits.shape)}")

    def loss(self, z: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        """Return L for the logits ``z`` of the clips at ``index``."""
        tau = self.temperature
        told = (self.logits[index].to(z) / tau).log_softmax(1)
        kl = F.kl_div((z / tau).log_softmax(1), told, reduction="batchmean", log_target=True)
        return (1 - self.weight) * F.cross_entropy(z, labels) + self.weight * (tau**2 if self.squared else 1) * kl
