"""The weights of a codec as few bytes as wanted, in one plain safetensors dict, and back.

    int8:  s_o = max_i |w_oi| / 127,   q_oi = round(w_oi / s_o),   w'_oi = q_oi s_o,   so that |w - w'| <= s_o / 2

per output channel o, symmetric, weight-only: arithmetic stays floating point. LVDD's SD-VAE path does the same through optimum-quanto; its
CV-VAE path (int8 on linear layers, fp16 elsewhere) is ``"int8-linear"``, here with keys that load back strictly.

| packing | matrices and convolutions | linear layers | norms, biases |
| --- | --- | --- | --- |
| fp32, fp16 | as named | as named | as named |
| int8 | int8 + fp32 scale per output channel | the same | fp16 |
| int8-linear | fp16 | int8 + fp32 scale per output channel | fp16 |

A quantised tensor ``name`` is stored as int8 ``name`` and fp32 ``name.scale``. ``part="decoder"`` leaves out encoder and quant_conv: a
distilled set needs only the way back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidistill.codec.autoencoder import DTYPES, Codec, autoencoder_class
from vidistill.errors import InputError, choose
from vidistill.files import load_tensors, save_tensors

PACKINGS = ("fp32", "fp16", "int8", "int8-linear")
PARTS = ("decoder", "full")
ENCODER = ("encoder.", "quant_conv.")  # the parts that only encoding needs


def storage(shape: tuple[int, ...], dtype: str) -> torch.dtype:
    """Return the dtype in which a floating-point weight of this shape is stored under packing ``dtype``."""
    if dtype in ("fp32", "fp16"):
        return DTYPES[dtype]
    # One value per output channel (a norm's gain stored as [C, 1, 1]) is no matrix: its scale would cost more than it saves.
    matrix = len(shape) >= 2 and math.prod(shape[1:]) > 1
    return torch.int8 if matrix and (dtype == "int8" or len(shape) == 2) else torch.float16


def quantise(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(q int8, s float32 [O])`` with ``|w - q s| <= s / 2`` per output channel (the first axis of ``w``)."""
    w = w.float()
    s = w.abs().flatten(1).amax(1) / 127
    s = torch.where(s > 0, s, torch.ones_like(s))  # an all-zero channel stays zero
    return (w / s.view(-1, *[1] * (w.ndim - 1))).round().clamp(-127, 127).to(torch.int8), s


def dequantise(q: Tensor, s: Tensor) -> Tensor:
    """Return ``q s``, float32."""
    return q.float() * s.view(-1, *[1] * (q.ndim - 1))


def pack(codec: Codec, part: str = "decoder", dtype: str = "fp32") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a codec's weights as stored, and the JSON-able record that :func:`unpack` rebuilds it from.

    Args:
        codec: any codec; ``part="full"`` needs one that can encode.
        part: ``"decoder"`` or ``"full"``.
        dtype: one of ``PACKINGS``.

    Returns:
        ``(tensors, record)``; record has ``id, kind, config, part, dtype, fingerprint`` (the fingerprint of ``codec``, before packing).

    Raises:
        InputError: unknown part or packing, or the encoder is asked of a codec without one.
    """
    choose("codec part", part, PARTS)
    choose("codec packing", dtype, PACKINGS)
    if part == "full" and codec.decodes_only:
        raise InputError(f"codec {codec.id} holds the decoder only; pack it with part='decoder'")
    tensors: dict[str, Tensor] = {}
    for name, tensor in codec.module.state_dict().items():
        if part == "decoder" and name.startswith(ENCODER):
            continue
        tensor = tensor.detach().cpu()
        kind = storage(tuple(tensor.shape), dtype) if tensor.is_floating_point() else tensor.dtype
        if kind == torch.int8:
            tensors[name], tensors[f"{name}.scale"] = quantise(tensor)
        else:
            tensors[name] = tensor.to(kind).contiguous()
    record = {"id": codec.id, "kind": codec.kind, "config": codec.config, "part": part, "dtype": dtype, "fingerprint": codec.fingerprint}
    return tensors, record


def unpack(tensors: Mapping[str, Tensor], record: Mapping[str, Any], device: str | torch.device = "cpu", dtype: str = "fp32") -> Codec:
    """Rebuild a codec from :func:`pack`; with ``part="decoder"`` it can only decode.

    Args:
        tensors, record: as :func:`pack` returned them.
        device, dtype: see :class:`Codec`.

    Raises:
        InputError: a weight is missing, superfluous or of the wrong shape, or the record names no autoencoder.
    """
    missing = [key for key in ("id", "kind", "config", "part") if key not in record]
    if missing:
        raise InputError(f"the codec record lacks {', '.join(missing)}; it was not written by vidistill.codec.pack")
    scales = {f"{name}.scale" for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    if lost := sorted(scales - set(tensors)):
        raise InputError(f"packed codec {record['id']}: {len(lost)} scales are missing, e.g. {lost[0]}")
    weights = {
        name: dequantise(tensor, tensors[f"{name}.scale"])
        if tensor.dtype == torch.int8
        else tensor.float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in tensors.items()
        if name not in scales
    }
    where = f"packed codec {record['id']}"
    for place in ("meta", "cpu"):  # allocate nothing twice, but a module may keep constants (wavelets) outside its weights
        module = blank(record["kind"], record["config"], record["part"], where, place)
        try:
            module.load_state_dict(weights, strict=True, assign=True)
        except RuntimeError as error:
            raise InputError(f"{where} does not fit its configuration: {' '.join(str(error).split())[:200]}") from None
        if not any(buffer.is_meta for buffer in module.buffers()):
            break
    return Codec(module, id=record["id"], device=device, dtype=dtype)


def blank(kind: str, config: Mapping[str, Any], part: str = "full", where: str = "the configuration", device: str = "meta") -> nn.Module:
    """Return the autoencoder with unset weights (on the meta device: without storage); for ``part="decoder"`` its encoder is empty."""
    with torch.device(device), torch.random.fork_rng(devices=[]):
        module = autoencoder_class(kind, where).from_config(dict(config))
    if part == "decoder":
        for name in ENCODER:
            if hasattr(module, name.rstrip(".")):
                setattr(module, name.rstrip("."), nn.Module())
    return module


def packed_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of the tensors' values (a file adds its header)."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def shapes_of(kind: str, config: Mapping[str, Any], part: str = "full") -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every weight of an autoencoder, from its configuration alone; nothing is allocated."""
    return {name: tuple(tensor.shape) for name, tensor in blank(kind, config, part).state_dict().items()}


def bytes_of_shapes(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> dict[str, int]:
    """Return ``{parameters, int8, scales, rest, total}``: what :func:`pack` stores, from shapes alone; all but ``parameters`` in bytes."""
    choose("codec packing", dtype, PACKINGS)
    whole = {name: math.prod(shape) for name, shape in shapes.items()}
    small = {name for name, shape in shapes.items() if storage(shape, dtype) == torch.int8}
    count = {
        "parameters": sum(whole.values()),
        "int8": sum(whole[name] for name in small),
        "scales": 4 * sum(shapes[name][0] for name in small),
        "rest": sum(n * storage(shapes[name], dtype).itemsize for name, n in whole.items() if name not in small),
    }
    return {**count, "total": count["int8"] + count["scales"] + count["rest"]}


def save_codec(path: str | Path, codec: Codec, part: str = "decoder", dtype: str = "fp32") -> int:
    """Write a packed codec as one safetensors file and return its exact length in bytes."""
    tensors, record = pack(codec, part, dtype)
    return save_tensors(path, tensors, {"codec": json.dumps(record, sort_keys=True)})


def load_packed(path: str | Path, device: str | torch.device = "cpu", dtype: str = "fp32") -> Codec:
    """Read a codec written by :func:`save_codec`.

    Raises:
        InputError: the file is unreadable or holds no packed codec.
    """
    tensors, metadata = load_tensors(path)
    if "codec" not in metadata:
        raise InputError(f"{path} holds no packed codec; write one with vidistill.codec.save_codec")
    return unpack(tensors, json.loads(metadata["codec"]), device, dtype)
