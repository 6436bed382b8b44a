"""Students: the networks that a distilled set is judged by, and the protocols that train them."""

from vidistill.student.knobs import KNOBS, SOFT_KNOBS
from vidistill.student.networks import NETWORKS, build
from vidistill.student.soft import Soft
from vidistill.student.training import PROTOCOLS, predict, train_student

__all__ = ["KNOBS", "NETWORKS", "PROTOCOLS", "SOFT_KNOBS", "Soft", "build", "predict", "train_student"]
