"""Files that are either whole or absent: atomic JSON and safetensors, and the digests that key every cache.

A write goes to a temporary neighbour, is flushed to disk and renamed; ``kill -9`` at any point leaves the old file or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidistill.errors import InputError

if TYPE_CHECKING:
    import torch


def cache_home() -> Path:
    """Return the folder for decoded clips and latents: ``$VIDISTILL_CACHE``, else ``vidistill`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("VIDISTILL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidistill"


def ensure_folder(path: str | Path) -> Path:
    """Create ``path`` (and parents) and check that it can be written.

    Raises:
        InputError: it is a file, cannot be created, or cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor, probe = tempfile.mkstemp(dir=path, prefix=".probe-")
        try:
            os.write(descriptor, bytes(4096))  # a full disk still creates empty files
        finally:
            os.close(descriptor)
            os.unlink(probe)
    except OSError as error:
        raise InputError(f"cannot write to folder {path}: {error.strerror or error}; choose a writable folder") from None
    return path


def write_atomic(path: str | Path, fill: Callable[[Path], object]) -> int:
    """Let ``fill(temporary_path)`` write a file, then move it to ``path`` in one step; return its length in bytes.

    Raises:
        InputError: the folder is read-only or the disk is full; nothing is left behind and an older ``path`` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(temporary)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        size = temporary.stat().st_size
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from None
    finally:
        with contextlib.suppress(OSError):  # gone already, or never there
            temporary.unlink()
    return size


def save_json(path: str | Path, value: Any) -> int:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None


def save_tensors(path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> int:
    """Write a safetensors file atomically and return its exact length in bytes. Tensors are made contiguous and moved to the CPU."""
    from safetensors.torch import save

    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    payload = save(plain, metadata=dict(metadata or {}))
    return write_atomic(path, lambda temporary: temporary.write_bytes(payload))


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a safetensors file: ``(tensors, metadata)``.

    Raises:
        InputError: the file is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118, not a dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {path} as safetensors: {error}") from None


def digest(value: Any, length: int = 16) -> str:
    """Return the first ``length`` hex digits of the SHA-256 of ``value`` written as canonical JSON (the key of every cache)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
