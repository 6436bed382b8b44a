"""The records that flow between the rooms.

Shape legend, used in the whole project: B clips, C channels, T frames, H height, W width. Pixels are uint8 RGB ``[B, C, T, H, W]``;
latents are floating point ``[B, C, T, H, W]`` (T, H, W counted on the latent grid).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vidistill.errors import InputError, choose

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``. A callback cancels the work by raising :class:`vidistill.errors.Cancelled`."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress callback that shows nothing."""


@dataclass(frozen=True)
class Protocol:
    """How a video file becomes a clip. LVDD uses 16x112x112, gap 4 (UCF101, HMDB51, SSv2) and 8x64x64 (Kinetics-400).

    Attributes:
        frames: T, frames per clip, >= 2.
        gap: distance between sampled frames, >= 1; shortened to ``n_frames // frames`` (at least 1) when the video is too short.
        size: H in pixels, >= 16; W, too, where ``width`` says nothing else.
        crop: ``"resize-crop"`` scales to 10/7 x 15/14 of ``size`` (160x120 for 112) and crops the centre (official LVDD);
            ``"squash"`` scales straight to ``size`` x ``size`` (Kinetics, SSv2); ``"center"`` crops the centre square, then scales.
        test_policy: ``"centre"`` (deterministic) or ``"random"`` (seeded random start and flip, as in the official code).
        width: W where it is not H; crop ``"center"`` then cuts the largest part of that form, and ``"resize-crop"`` is for squares alone.
    """

    frames: int = 16
    gap: int = 4
    size: int = 112
    crop: str = "resize-crop"
    test_policy: str = "centre"
    width: int | None = None

    def __post_init__(self) -> None:
        choose("crop", self.crop, ("resize-crop", "squash", "center"))
        choose("test_policy", self.test_policy, ("centre", "random"))
        for name, low in (("frames", 2), ("gap", 1), ("size", 16)):
            if getattr(self, name) < low:
                raise InputError(f"protocol {name}={getattr(self, name)} is out of range: it must be at least {low}")
        if self.width is not None and (self.width < 16 or self.crop == "resize-crop"):
            raise InputError(f"protocol width={self.width} with crop {self.crop!r}: it must be at least 16, and the crop center or squash")

    @property
    def height_width(self) -> tuple[int, int]:
        """H and W."""
        return self.size, self.size if self.width is None else self.width

    def as_dict(self) -> dict[str, Any]:
        """Return every field, JSON-ready; a square's say nothing of its width."""
        return {name: value for name, value in asdict(self).items() if name != "width" or value is not None}


@dataclass(frozen=True)
class Latents:
    """Latents of a labelled set of clips.

    Attributes:
        z: float tensor ``[B, C, T, H, W]``.
        labels: int64 ``[B]``, class index in ``classes``.
        names: clip names, in order.
        classes: class names; the index is the label.
        groups: for each clip the id of the source video it was cut from (UCF ``gXX``), or ``""``.
        frames: pixel frames of each clip (a temporal VAE has fewer latent frames).
    """

    z: torch.Tensor
    labels: torch.Tensor
    names: tuple[str, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...] = ()
    frames: int = 16

    def __post_init__(self) -> None:
        if self.z.ndim != 5 or len(self.labels) != len(self.z) or len(self.names) != len(self.z):
            raise InputError(
                f"latents need z [B, C, T, H, W] with B labels and B names; got z {tuple(self.z.shape)}, "
                f"{len(self.labels)} labels, {len(self.names)} names"
            )

    def __len__(self) -> int:
        return len(self.z)

    def take(self, index: torch.Tensor) -> Latents:
        """Return the clips at ``index`` (int64 ``[K]``), in that order."""
        rows = index.tolist()
        return replace(
            self,
            z=self.z[index],
            labels=self.labels[index],
            names=tuple(self.names[i] for i in rows),
            groups=tuple(self.groups[i] for i in rows) if self.groups else (),
        )


@dataclass(frozen=True)
class DistilledSet:
    """What a stored distilled set gives back: everything needed to train a student, without the original data.

    Attributes:
        z: reconstructed latents ``[B, C, T, H, W]``, float32.
        labels: int64 ``[B]``.
        classes: class names.
        names: clip names.
        frames: pixel frames to decode each clip to.
        codec: id and fingerprint of the codec, and the recipe to decode with.
        protocol: the clip protocol (see :class:`Protocol`) as a dict.
        bytes: exact bytes by part; the parts sum to the file's length.
        meta: everything else the store recorded (ranks, dtype, selector, seed ...).
        codec_tensors: the packed codec weights the file carries (empty when it carries none); ``vidistill.codec.unpack`` reads them.
    """

    z: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]
    frames: int
    codec: dict[str, Any]
    protocol: dict[str, Any]
    bytes: dict[str, int]
    meta: dict[str, Any] = field(default_factory=dict)
    codec_tensors: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """The number that the arms of a report are judged by; each arm has its interval over seeds and the paired difference to one control.

    Attributes:
        title: e.g. ``"Held-out accuracy"``.
        heading: of its column, with the unit, ``"top-1 %"``.
        control: the arm that the others are compared with.
        about: how the table is to be read, in a sentence or two.
        chance: what guessing reaches; None where there is no such thing.
        digits: after the point.
    """

    title: str
    heading: str
    control: str
    about: str
    chance: float | None = None
    digits: int = 1


@dataclass(frozen=True)
class Report:
    """The result of one paper's run: rows for people, numbers for machines. ``as_dict`` is what ``report.json`` holds.

    Attributes:
        paper: e.g. ``"latent_vdd"``.
        knobs: every knob with the value that was used.
        data: what was read (root, layout, classes, counts, backend, skipped clips with reasons).
        arms: one dict per arm: ``name, role (method | control | reference), score {mean, low, high, values, n}``, its paired
            ``difference`` to the control, bytes by part, reconstruction error ...
        notes: plain-language findings (e.g. that the kernel is numerically the identity).
        extra: further tables (sweeps, spectra), JSON-ready.
        score: what the arms are judged by; None where nothing was judged (a process that helped another one).
    """

    paper: str
    knobs: dict[str, Any]
    data: dict[str, Any]
    arms: list[dict[str, Any]]
    notes: list[str]
    extra: dict[str, Any] = field(default_factory=dict)
    score: Score | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
