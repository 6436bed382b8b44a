"""Folders of diffusers and transformers models: read strictly, from safetensors and JSON alone, and written in half precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vidistill.errors import InputError
from vidistill.files import ensure_folder, save_json, save_tensors

T = TypeVar("T")


def read(what: str, load: Callable[[], T]) -> T:
    """Call a library's loader; whatever it raises becomes one line about ``what``.

    Raises:
        InputError: the loader fails.
    """
    try:
        return load()
    except Exception as error:  # diffusers and transformers raise many kinds for missing, truncated or mismatched files
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load {what}: {line}; it needs configuration and safetensors weights as save_pretrained writes them"
        ) from None


def read_network(kind: Any, folder: str | Path, what: str, *, exact: bool = False, **options: Any) -> Any:
    """Read one network: the libraries themselves would fill missing weights with random numbers.

    Args:
        kind: its class, of diffusers or transformers.
        folder: where it lies.
        what: how to call it in a message, e.g. ``"codec lab-vae"``.
        exact: refuse weights that the class does not know, too; a hub's model may have some.
        options: for ``from_pretrained``.

    Raises:
        InputError: a file is missing, truncated or of another kind, or weights are missing or misshapen.
    """
    module, report = read(what, lambda: kind.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True, **options))
    lost = [*report["missing_keys"], *(str(item) for item in report["mismatched_keys"])]
    if lost:
        raise InputError(f"{what} is incomplete: {len(lost)} weights are missing or misshapen, e.g. {lost[0]}")
    if exact and report["unexpected_keys"]:
        spare = sorted(report["unexpected_keys"])
        raise InputError(f"{what} holds {len(spare)} weights too many for its configuration, e.g. {spare[0]}")
    return module


def plain_config(module: Any) -> dict[str, Any]:
    """Return a diffusers module's configuration as it would be read back from JSON, without private entries."""
    config = {key: value for key, value in dict(module.config).items() if not key.startswith("_")}
    return json.loads(json.dumps(config, sort_keys=True))


def write_network(module: Any, folder: str | Path, **changes: Any) -> None:
    """Write a diffusers module as a folder: ``config.json``, with ``changes``, and fp16 safetensors.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = ensure_folder(folder)
    save_json(folder / "config.json", {"_class_name": type(module).__name__, **plain_config(module), **changes})
    weights = {name: tensor.half() for name, tensor in module.state_dict().items()}
    save_tensors(folder / "diffusion_pytorch_model.safetensors", weights, {"format": "pt"})
