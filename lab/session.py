"""The bench without a screen: a small data set's latents and its codec in memory, and quick answers to "what do these knobs do?".

Pixels are uint8 ``[B, 3, T, H, W]``, latents float32 ``[B, C, T, H, W]``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidistill.codec import encode_store, load_codec, pack, unpack
from vidistill.compress import compress, save_distilled, spectrum
from vidistill.data import open_videos, prepare_clips
from vidistill.data.world import factors, render
from vidistill.files import digest
from vidistill.lab.cores import spare_one
from vidistill.lab.memory import Memory
from vidistill.lab.steps import Step
from vidistill.measure import psnr
from vidistill.select import Selection, select
from vidistill.types import Latents, Progress, Protocol, silent

if TYPE_CHECKING:
    from vidistill.codec import Codec

MOTIONS = ("slide", "bounce", "orbit", "spin", "pulse", "zigzag")
SWEEP = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Rank ratios of the trade-off curve: the paper's sweep."""
CURVES = {"HOSVD int8": ("st-hosvd", "int8"), "HOSVD fp32": ("st-hosvd", "fp32"), "SVD int8": ("svd", "int8")}


@dataclass(frozen=True)
class Look:
    """What one setting of the knobs gives.

    Attributes:
        values: the knobs, as used.
        chosen: int64 ``[K]``, the selected clips.
        clip: the clip that is shown, one of ``chosen``.
        clips: name -> uint8 ``[3, T, H, W]``: the clip as filmed, through the codec alone, and out of the distilled file.
        psnr: dB of the two decoded clips against the filmed one.
        error: ``||z - z_hat|| / ||z||`` over all selected clips.
        bytes: exact bytes of the file by part, ``total`` among them.
        pixels: bytes of the selected clips as raw pixels.
        energy: mode (T, H, W) -> share of the energy per component of the selected latents.
        ranks: mode -> components kept; empty for a decomposition without modes.
        kernel: the kernel's ``identity``, ``effective_rank``, ``largest_off_diagonal``, ``note``, mean ``clips`` of a class, ``classes``
            and how many of them it is ``blind`` in (the identity there); empty when the selector uses no kernel.
        curves: name -> list of (bytes of cores and factors, error), the trade-off over the rank ratio; empty until it is known.
    """

    values: dict[str, Any]
    chosen: Tensor
    clip: int
    clips: dict[str, Tensor]
    psnr: dict[str, float]
    error: float
    bytes: dict[str, int]
    pixels: int
    energy: dict[str, list[float]]
    ranks: dict[str, int]
    kernel: dict[str, Any]
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def stored(self) -> tuple[int, float]:
        """Bytes of cores and factors, and the error: where this setting stands on the trade-off."""
        return self.bytes["core"] + self.bytes["factors"], self.error

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready (no pixels)."""
        plain = {name: value for name, value in vars(self).items() if name != "clips"}
        return plain | {"chosen": self.chosen.tolist()}


class WorldClips:
    """Motion World in memory, with the face of a :class:`vidistill.data.ClipStore`.

    As in UCF101, several clips come from one source video: ``alike`` of them share the object, the background and the camera.

    Args:
        seed: the world's seed.
        per_class: clips per motion.
        motions: the classes.
        alike: clips per source video.
        frames, size: T and H = W.
    """

    backend, skipped = "rendered", ()

    def __init__(
        self, seed: int, per_class: int, motions: Sequence[str] = MOTIONS, alike: int = 3, frames: int = 16, size: int = 64
    ) -> None:
        self.classes = tuple(motions)
        self.protocol = Protocol(frames, 1, size, "center")
        self.key = digest(["world", seed, per_class, motions, alike, frames, size])
        found = []
        for index in range(per_class * len(motions)):
            label, k = divmod(index, per_class)
            video = factors(seed, label * per_class + k // alike)
            shared = {name: getattr(video, name) for name in ("shape", "colour", "background", "camera", "texture", "pace", "size")}
            found.append(factors(seed, index, motion=motions[label], **shared))
        self.video = render(found, frames=frames, size=size)
        self.labels = torch.arange(len(motions)).repeat_interleave(per_class)
        self.names = tuple(f"{motions[index // per_class]}-{index % per_class:02d}" for index in range(len(found)))
        self.captions = tuple(clip.caption() for clip in found)
        self.groups = tuple(f"g{index // per_class:02d}-{index % per_class // alike:02d}" for index in range(len(found)))

    def __len__(self) -> int:
        return len(self.video)

    def batch(self, index: Tensor | list[int]) -> Tensor:
        """Return clips by number, uint8 ``[b, 3, T, H, W]``."""
        return self.video[index]

    def batches(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(start, clips)`` in order."""
        for start in range(0, len(self), size):
            yield start, self.video[start : start + size]


class Session:
    """One data set, encoded once, and the answers to every setting of the knobs that follow.

    Args:
        clips: the clips (a ``ClipStore`` or anything with its face).
        latents: their latents.
        codec: the codec that made them.
        title: what the data set is called.
    """

    def __init__(self, clips: Any, latents: Latents, codec: Codec, title: str) -> None:
        spare_one()
        self.clips, self.codec, self.title = clips, codec, title
        self.latents = Latents(latents.z.float(), latents.labels, latents.names, latents.classes, latents.groups, latents.frames)
        protocol = clips.protocol.as_dict()
        self.fixed = {"codec": codec.id, "latent": "mode"} | {name: protocol[name] for name in ("frames", "gap", "size", "crop")}
        self.captions = getattr(clips, "captions", latents.names)
        self._memory = Memory()

    @classmethod
    def world(
        cls, *, codec: str = "lab-vae", per_class: int = 12, motions: Sequence[str] = MOTIONS, seed: int = 0, device: str = "cpu",
        progress: Progress = silent,
    ) -> Session:  # fmt: skip
        """Open Motion World, rendered in memory."""
        progress("render clips", 0, 1)
        return cls._encode(WorldClips(seed, per_class, motions), codec, device, "Motion World", progress)

    @classmethod
    def folder(
        cls, root: str | Path, layout: str = "ucf101", *, codec: str = "lab-vae", protocol: Protocol | None = None, classes: int = 8,
        per_class: int = 12, seed: int = 0, device: str = "cpu", progress: Progress = silent,
    ) -> Session:  # fmt: skip
        """Open a folder of videos: the first ``per_class`` training clips of its first ``classes`` classes.

        Raises:
            InputError: the folder, the layout or the codec is not usable.
        """
        protocol = protocol or Protocol(16, 2, 64, "center")
        videos = open_videos(root, layout)
        names = videos.classes[:classes]
        items = [item for label in range(len(names)) for item in [i for i in videos.train if i.label == label][:per_class]]
        clips = prepare_clips(items, names, protocol, "train", seed=seed, progress=progress)
        return cls._encode(clips, codec, device, f"{Path(root).name} ({layout})", progress)

    @classmethod
    def _encode(cls, clips: Any, codec: str, device: str, title: str, progress: Progress) -> Session:
        loaded = load_codec(codec, device=device)
        return cls(clips, encode_store(loaded, clips, progress=progress), loaded, title)

    @property
    def most(self) -> int:
        """The largest number of instances that every class can give."""
        return int(self.latents.labels.bincount(minlength=len(self.latents.classes)).min())

    @cached_property
    def thumbnails(self) -> Tensor:
        """The middle frame of every clip, uint8 ``[B, 3, 32, 32]``."""
        small = []
        for _, video in self.clips.batches(64):
            small.append(interpolate(video[:, :, video.shape[2] // 2].float(), (32, 32), mode="area").round().byte())
        return torch.cat(small)

    def look(self, values: Mapping[str, Any], *, clip: int | None = None, seed: int = 0) -> Look:
        """Return the last of :meth:`steps`."""
        *_, last = self.steps(values, clip=clip, seed=seed)
        return last.result

    def steps(self, values: Mapping[str, Any], *, clip: int | None = None, seed: int = 0) -> Iterator[Step]:
        """Select, compress, store, decode one clip.

        A :class:`Look` comes as soon as there is a picture, and again with the trade-off curves.

        Args:
            values: the paper's knobs; those about clips and latents were decided when the session was opened, and are replaced.
            clip: the clip to show; the nearest selected clip of the same class if it was not selected, None for the first.
            seed: seed of the selection.

        Raises:
            InputError: a knob's value does not fit this data set.
        """
        k = {**values, **self.fixed}
        yield Step("select", 0, 4)
        selected = self._selected(k, seed)
        chosen = selected.index
        shown = self._nearest(chosen, clip)
        yield Step("compress", 1, 4)
        packed = self._compressed(k, chosen)
        yield Step("store", 2, 4)
        size = self._stored(k, chosen, seed)
        yield Step("decode", 3, 4)
        place = int((chosen == shown).nonzero()[0])
        z = self.latents.z[chosen]
        filmed = self.clips.batch([shown])
        alone = self._memory.get(("alone", shown), lambda: self.codec.decode(self.latents.z[[shown]], self.latents.frames).cpu())
        back = self._decoder(k).decode(packed.reconstruct()[[place]], self.latents.frames).cpu()
        look = Look(
            values=k,
            chosen=chosen,
            clip=shown,
            clips={"original": filmed[0], "codec alone": alone[0], "distilled": back[0]},
            psnr={"codec alone": float(psnr(alone, filmed).mean()), "distilled": float(psnr(back, filmed).mean())},
            error=float(packed.error(z)),
            bytes=size,
            pixels=len(chosen) * filmed[0].numel(),
            energy=self._memory.get(("energy", tuple(chosen.tolist())), lambda: spectrum(z)),
            ranks=_ranks(packed.ranks, k["decomposition"]),
            kernel=_means(selected.diagnostics),
        )
        yield Step("decode", 4, 4, look)
        curves = yield from self._curves(chosen)
        yield Step("trade-off", 1, 1, Look(**{**vars(look), "curves": curves}))

    def save(self, path: str | Path, values: Mapping[str, Any], seed: int = 0) -> dict[str, int]:
        """Write the distilled set that ``values`` describe; return its exact bytes by part."""
        return self._write(Path(path), {**values, **self.fixed}, self._selected(values, seed).index, seed)

    def _selected(self, k: Mapping[str, Any], seed: int) -> Selection:
        arguments = {name: k[name] for name in ("selector", "kernel", "bandwidth")} | {"k": k["instances"], "seed": seed}
        return self._memory.get(("select", *arguments.values()), lambda: select(self.latents, **arguments))

    def _compressed(self, k: Mapping[str, Any], chosen: Tensor) -> Any:
        arguments = {name: k[name] for name in ("decomposition", "rank_ratio", "basis", "core_dtype")}
        arguments |= {"reading": k["reading"], "budget": k["budget_kib"] * 1024 or None}
        labels = self.latents.labels[chosen]
        key = ("compress", tuple(chosen.tolist()), *arguments.values())
        return self._memory.get(key, lambda: compress(self.latents.z[chosen], labels, **arguments))

    def _packed(self, k: Mapping[str, Any]) -> Any:
        part, dtype = k["codec_part"], k["codec_dtype"]
        return self._memory.get(("pack", part, dtype), lambda: pack(self.codec, part, dtype))

    def _decoder(self, k: Mapping[str, Any]) -> Codec:
        tensors, record = self._packed(k)
        return self._memory.get(("decoder", k["codec_part"], k["codec_dtype"]), lambda: unpack(tensors, record, device=self.codec.device))

    def _stored(self, k: Mapping[str, Any], chosen: Tensor, seed: int) -> dict[str, int]:
        """Exact bytes: the file is written, and measured."""

        def measure() -> dict[str, int]:
            with tempfile.TemporaryDirectory() as folder:
                return self._write(Path(folder) / "distilled.safetensors", k, chosen, seed)

        return self._memory.get(("store", seed, tuple(chosen.tolist()), *(k[name] for name in sorted(k))), measure)

    def _write(self, path: Path, k: Mapping[str, Any], chosen: Tensor, seed: int) -> dict[str, int]:
        tensors, record = self._packed(k)
        kept = self.latents.take(chosen)
        return save_distilled(
            path,
            self._compressed(k, chosen),
            labels=kept.labels,
            classes=kept.classes,
            names=kept.names,
            frames=self.latents.frames,
            codec_record=record,
            codec_tensors=tensors,
            protocol=self.clips.protocol.as_dict(),
            meta={"paper": "latent_vdd", "selector": k["selector"], "kernel": k["kernel"], "seed": seed},
        )

    def _nearest(self, chosen: Tensor, clip: int | None) -> int:
        if clip is None:
            return int(chosen[0])
        same = chosen[self.latents.labels[chosen] == self.latents.labels[clip]]
        among = same if len(same) else chosen
        return int(among[(among - clip).abs().argmin()])

    def _curves(self, chosen: Tensor) -> Generator[Step, None, dict[str, list[tuple[int, float]]]]:
        """Yield a step per point, return the curves."""
        key, z, labels = ("curves", tuple(chosen.tolist())), self.latents.z[chosen], self.latents.labels[chosen]
        if (known := self._memory.known(key)) is not None:
            return known
        curves: dict[str, list[tuple[int, float]]] = {}
        total = len(CURVES) * len(SWEEP)
        for name, (decomposition, dtype) in CURVES.items():
            curves[name] = []
            for r in SWEEP:
                yield Step("trade-off", sum(map(len, curves.values())), total)
                point = compress(z, labels, decomposition=decomposition, rank_ratio=r, core_dtype=dtype)
                curves[name].append((sum(point.bytes.values()), float(point.error(z))))
        return self._memory.get(key, lambda: curves)


def _means(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keep the kernel's summary over classes, with the mean clips of a class and the number of classes in which it is blind."""
    if found is None:
        return {}
    classes = found["per_class"]
    summary = {name: found[name] for name in ("identity", "effective_rank", "largest_off_diagonal", "note")}
    clips = sum(row["clips"] for row in classes) / len(classes)
    return summary | {"clips": clips, "classes": len(classes), "blind": sum(row["identity"] for row in classes)}


def _ranks(ranks: Sequence[int], decomposition: str) -> dict[str, int]:
    """Name the ranks (rT, rC, rH, rW) of a Tucker decomposition; SVD has none per mode."""
    if decomposition == "svd" or len(ranks) != 4:
        return {}
    return dict(zip("TCHW", map(int, ranks), strict=True))
