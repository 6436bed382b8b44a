"""The distilled set as one safetensors file: latents, labels, codec, and everything needed to decode them elsewhere.

| tensor | part of the byte count |
| --- | --- |
| ``core`` | core |
| ``core.scale``, ``core.top``, ``factor.*`` | factors |
| ``labels`` (the smallest integer type that holds them) | labels |
| ``codec.*`` (packed codec weights, may be absent) | codec |
| the file's own header: names, shapes, and one JSON record | header |

The parts sum to the length of the file. A SHA-256 over record and tensors is checked on loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.compress.compressed import Compressed, compress
from vidistill.errors import InputError
from vidistill.files import load_tensors, save_tensors
from vidistill.types import DistilledSet

FORMAT = "vidistill.distilled"
VERSION = 1
CODEC = "codec."


def save_distilled(
    path: str | Path,
    compressed: Compressed,
    *,
    labels: Tensor,
    classes: Sequence[str],
    names: Sequence[str],
    frames: int,
    codec_record: Mapping[str, Any],
    codec_tensors: Mapping[str, Tensor],
    protocol: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> dict[str, int]:
    """Write a distilled set atomically and return its exact bytes by part.

    Args:
        path: the file, usually ``distilled.safetensors``.
        compressed: what :func:`vidistill.compress.compress` gave for N clips.
        labels: int64 ``[N]``, indices into ``classes``.
        classes, names: class names, clip names; no names is allowed and saves their bytes.
        frames: pixel frames that each clip decodes to.
        codec_record, codec_tensors: what ``vidistill.codec.pack`` gave; the tensors may be empty when the codec travels separately.
        protocol: the clip protocol as a dict.
        meta: further JSON-able facts (selector, seed, ...).

    Returns:
        ``{"core", "factors", "codec", "labels", "header", "total"}``; total is the length of the file and the sum of the others.

    Raises:
        InputError: labels, names and clips do not match, or the file cannot be written.
    """
    labels = torch.as_tensor(labels, dtype=torch.int64).cpu()
    n = compressed.shape[0]
    if len(labels) != n or len(names) not in (0, n):
        raise InputError(f"a distilled set of {n} clips needs {n} labels and names; got {len(labels)} labels and {len(names)} names")
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise InputError(f"labels span {int(labels.min())}..{int(labels.max())} but there are {len(classes)} class names")
    tensors = {
        **compressed.tensors(),
        "labels": labels.to(smallest_int(len(classes))),
        **{CODEC + name: tensor for name, tensor in codec_tensors.items()},
    }
    record = {
        "compression": compressed.record(),
        "classes": list(classes),
        "names": list(names),
        "frames": int(frames),
        "codec": dict(codec_record),
        "protocol": dict(protocol),
        "meta": dict(meta),
    }
    # one metadata entry: safetensors writes several in random order, and the same input must give the same file
    document = {"version": VERSION, "sha256": seal(tensors, record), "record": record}
    return split_bytes(tensors, save_tensors(path, tensors, {FORMAT: as_text(document)}))


def save_within(path: str | Path, z: Tensor, limit: int, how: Mapping[str, Any], **facts: Any) -> tuple[Compressed, dict[str, int]]:
    """Compress latents so that their file, decoder and labels included, has at most ``limit`` bytes; return what is stored and its bytes.

    Args:
        z: float ``[N, C, T, H, W]``.
        limit: bytes of the whole file.
        how: options of :func:`vidistill.compress.compress` besides the budget.
        facts: arguments of :func:`save_distilled`.

    Raises:
        InputError: not even the smallest ranks fit, or the file cannot be written.
    """
    size = save_distilled(path, compress(z, facts["labels"], **how), **facts)
    rest = 64 + size["total"] - size["core"] - size["factors"]  # 64 bytes are spared for the header's digits
    packed = compress(z, facts["labels"], budget=limit - rest, **how)
    return packed, save_distilled(path, packed, **facts)


def load_distilled(path: str | Path) -> DistilledSet:
    """Read a distilled set; no original data, no network and no codec is needed for its latents, labels and names.

    Raises:
        InputError: the file is missing, truncated, not a distilled set, of an unknown version, or was changed after it was written.
    """
    path = Path(path)
    tensors, metadata = load_tensors(path)
    if FORMAT not in metadata:
        raise InputError(f"{path} is not a distilled set: its header holds no {FORMAT!r} record")
    try:
        document = json.loads(metadata[FORMAT])
        version, record = document["version"], document["record"]
        sealed = seal(tensors, record)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{path} is not a valid distilled set: its {FORMAT!r} record cannot be read") from None
    if version != VERSION:
        raise InputError(f"{path} has format version {version!r}, this vidistill reads {VERSION!r}; install the matching vidistill")
    if document.get("sha256") != sealed:
        raise InputError(f"{path} was changed after it was written (its SHA-256 differs); make it again or fetch an intact copy")
    try:
        labels = tensors["labels"].long()
        codec = {name.removeprefix(CODEC): tensor for name, tensor in tensors.items() if name.startswith(CODEC)}
        stored = {name: tensor for name, tensor in tensors.items() if name != "labels" and not name.startswith(CODEC)}
        z = Compressed.from_tensors(stored, record["compression"], labels).reconstruct()
        if tuple(z.shape) != tuple(record["compression"]["shape"]) or len(labels) != len(z) or len(record["names"]) not in (0, len(z)):
            raise ValueError(f"it says {record['compression']['shape']} but holds {tuple(z.shape)}")
        return DistilledSet(
            z=z,
            labels=labels,
            classes=tuple(record["classes"]),
            names=tuple(record["names"]),
            frames=record["frames"],
            codec=record["codec"],
            protocol=record["protocol"],
            bytes=split_bytes(tensors, path.stat().st_size),
            meta={**record["meta"], "compression": record["compression"]},
            codec_tensors=codec,
        )
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is not a valid distilled set: {type(error).__name__}: {error}") from None


def split_bytes(tensors: Mapping[str, Tensor], total: int) -> dict[str, int]:
    """Split a file's length into its parts; what is no tensor is header."""
    parts = dict.fromkeys(("core", "factors", "codec", "labels"), 0)
    for name, tensor in tensors.items():
        part = "codec" if name.startswith(CODEC) else name if name in ("core", "labels") else "factors"
        parts[part] += tensor.nbytes
    return {**parts, "header": total - sum(parts.values()), "total": total}


def smallest_int(count: int) -> torch.dtype:
    """Return the smallest integer dtype that holds 0..count-1."""
    return torch.uint8 if count <= 256 else torch.int16 if count <= 32768 else torch.int32


def as_text(value: Any) -> str:
    """Return ``value`` as compact JSON; NaN and infinity are refused."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def seal(tensors: Mapping[str, Tensor], record: Any) -> str:
    """Return the SHA-256 over the record and, by name, every tensor's dtype, shape and bytes."""
    sha = hashlib.sha256(f"{FORMAT} {VERSION} {as_text(record)}".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
