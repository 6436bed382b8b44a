"""Lab-size models that ship with the package, each a diffusers folder with the card of what was measured on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidistill import shipped
from vidistill.errors import InputError, nearest
from vidistill.files import load_json

if TYPE_CHECKING:
    import torch

    from vidistill.codec import Codec
    from vidistill.measure.probe import Probe
    from vidistill.sample import Denoiser

ZOO = shipped.NAMES
"""Names of the models."""

path = shipped.folder


def load(name: str | Path, *, device: str | torch.device = "cpu", dtype: str = "fp32") -> Codec | Denoiser | Probe:
    """Load a model of the zoo, or any folder in the zoo's format; what it is decides what is returned.

    Args:
        name: a name from ``ZOO``, or a folder.
        device: where to.
        dtype: ``"fp32"``, ``"bf16"`` or ``"fp16"``.

    Returns:
        a :class:`~vidistill.codec.Codec` for an autoencoder, a :class:`~vidistill.measure.probe.Probe` for a classifier, a
        :class:`~vidistill.sample.Denoiser` for a pipeline.

    Raises:
        InputError: no such model, or the folder is damaged, incomplete or none of these.
    """
    folder = shipped.locate(name)
    if not folder.is_dir():
        raise InputError(f"no model {str(name)!r}: neither a folder nor in the zoo ({nearest(str(name), ZOO)})")
    if (folder / "model_index.json").is_file():
        from vidistill.sample import load_denoiser

        return load_denoiser(folder, device=device, dtype=dtype)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} holds no model: it has neither model_index.json nor config.json; pass a name of the zoo or a diffusers folder"
        )
    if load_json(folder / "config.json").get("_class_name") == "ProbeNet":
        from vidistill.measure.probe import load_probe

        return load_probe(folder, device=device)
    from vidistill.codec import load_codec

    return load_codec(folder if folder != path("lab-vae") else "lab-vae", device=device, dtype=dtype)
