"""The students: small video classifiers trained from scratch on a distilled set and scored on real clips.

Legend: B clips, T frames, H = W = S pixels, K classes. Every network maps float pixels ``[B, 3, T, S, S]`` to logits ``[B, K]``.
Architectures: LVDD and VDSD, official code (``networks.py``). ``width`` scales every channel count; the papers use 128.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidistill.errors import InputError, choose
from vidistill.rng import stream

CROP = 64
"""The recurrent students see the central 64 x 64 pixels (official code: 112 -> 64)."""


class Dropout(nn.Module):
    """Dropout whose masks come from its own CPU generator: a student depends on its seed, not on global state or the device."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand(x.shape, generator=self.generator) >= self.p
        return x * keep.to(x.device) / (1 - self.p)


class ConvNet3D(nn.Module):
    """Three 3-D convolutions, dropout, a 1x1x1 classifier and the maximum over the time that remains ("C3D" in the paper).

    ``[3 -> w/2 -> w -> w]``, each ``Conv3d((3,7,7), stride (1,2,2), padding (1,3,3)) -> ReLU -> MaxPool`` with pools (1,2,2), (2,2,2),
    (2,2,2); then AvgPool (2,s,s) with stride 1, dropout 0.5, ``Conv3d(w, K, 1)``, max over time (LVDD, official code).

    The official average pool is (2,2,2) above 64 px and (2,1,1) otherwise: at its sizes (112 and 64) that is the mean over the space
    left, which is what ``s`` is here, so that other sizes work too. Max and ReLU commute; pooling first leaves the ReLU 1/4 of the work.

    Args:
        classes: K, >= 1.
        width: w, even; 128 in the papers (3,641,216 + 129 K parameters).
        frames: T, >= 4.
        size: S in pixels, >= 43.

    Raises:
        InputError: the width is odd, or a clip is too short or too small to survive the three poolings.
    """

    def __init__(self, classes: int, width: int = 128, frames: int = 16, size: int = 112) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise InputError(f"student width={width} is not allowed for conv3d: it must be an even number of at least 2 (128 in the paper)")
        time, space = frames // 4, size
        for _ in range(3):
            space = -(-space // 2) // 2  # the convolution halves and rounds up, the pool halves and rounds down
        if time < 1 or space < 1:
            raise InputError(f"clips of {frames}x{size}x{size} are too small for conv3d: it needs at least 4 frames of 43x43 pixels")
        channels = (3, width // 2, width, width)
        self.convs = nn.ModuleList(nn.Conv3d(a, b, (3, 7, 7), (1, 2, 2), (1, 3, 3)) for a, b in pairwise(channels))
        self.pools = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
        self.average = (min(2, time), space, space)
        self.dropout = Dropout(0.5)
        self.classifier = nn.Conv3d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv, pool in zip(self.convs, self.pools, strict=True):
            x = F.relu(F.max_pool3d(conv(x), pool))
        x = F.avg_pool3d(x, self.average, stride=1)
        return self.classifier(self.dropout(x)).amax(dim=(2, 3, 4))


class FrameRecurrent(nn.Module):
    """A small image CNN on each frame, a recurrent layer over time, the mean over time and a linear classifier.

    Per frame 3 x ``[Conv2d 3x3 -> instance norm (affine) -> ReLU -> AvgPool 2]``; 64 px and width 128 give 8192 features (official code).

    Args:
        cell: ``nn.GRU`` or ``nn.LSTM``.
        classes: K.
        width: channels of the CNN.
        hidden: units of the recurrent layer.
        size: S in pixels, >= 8; the central 64 are used when there are more.
    """

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM], classes: int, width: int, hidden: int, size: int) -> None:
        super().__init__()
        if width < 1 or size < 8:
            raise InputError(
                f"width={width}, size={size} is not allowed for the recurrent students: width >= 1 and size >= 8 px are needed"
            )
        side = min(size, CROP) // 8
        stages = [
            stage
            for a in (3, width, width)
            for stage in (nn.Conv2d(a, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2))
        ]
        self.cnn = nn.Sequential(*stages)
        self.recurrent = cell(width * side * side, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        edge = max(0, (x.shape[-1] - CROP) // 2)
        x = x[..., edge : edge + CROP, edge : edge + CROP].transpose(1, 2)  # [B, T, 3, S, S]
        features = self.cnn(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])
        return self.classifier(self.recurrent(features)[0].mean(dim=1))


class CNNGRU(FrameRecurrent):
    """CNN+GRU: 28.7 M parameters at width 128, hidden 1024 (8 x width), 50 classes."""

    def __init__(self, classes: int, width: int = 128, hidden: int = 1024, size: int = 112) -> None:
        super().__init__(nn.GRU, classes, width, hidden, size)


class CNNLSTM(FrameRecurrent):
    """CNN+LSTM: 537.6 M parameters at width 128, hidden 8192 (64 x width), 50 classes (sic)."""

    def __init__(self, classes: int, width: int = 128, hidden: int = 8192, size: int = 112) -> None:
        super().__init__(nn.LSTM, classes, width, hidden, size)


NETWORKS: dict[str, type[nn.Module]] = {"conv3d": ConvNet3D, "cnn-gru": CNNGRU, "cnn-lstm": CNNLSTM}


def build(name: str, classes: int, width: int = 128, frames: int = 16, size: int = 112, seed: int = 0) -> nn.Module:
    """Return an untrained student whose weights are drawn from the stream ``student/init`` of ``seed``.

    Every weight and bias is uniform in +-1/sqrt(fan_in) (recurrent layers: +-1/sqrt(hidden)), which is PyTorch's default distribution;
    norms start at 1 and 0. The recurrent students' hidden size follows the width: 8 w (GRU) and 64 w (LSTM).

    Raises:
        InputError: unknown name, or sizes that the network cannot take.
    """
    choose("student", name, NETWORKS)
    if classes < 1:
        raise InputError(f"a student needs at least one class, got classes={classes}")
    with torch.device("meta"):
        if name == "conv3d":
            net: nn.Module = ConvNet3D(classes, width, frames, size)
        elif name == "cnn-gru":
            net = CNNGRU(classes, width, 8 * width, size)
        else:
            net = CNNLSTM(classes, width, 64 * width, size)
    net.to_empty(device="cpu")
    generator = stream(seed, "student", "init")
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.GroupNorm):
                module.reset_parameters()
            elif weights := list(module.parameters(recurse=False)):
                fan_in = module.hidden_size if isinstance(module, nn.RNNBase) else weights[0][0].numel()
                for weight in weights:
                    weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
    return net
