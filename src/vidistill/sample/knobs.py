"""The knobs of sampling clips from a model, declared once for every paper that does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidistill.knobs import Knob

KNOBS = (
    Knob("model", "lab-dit", "text-to-video model: a zoo name, a folder or a hub id", source="GVD: ModelScope 1.7B", group="sampler"),
    Knob("sampling_steps", 0, "steps of the sampler, 0 takes the model's", low=0, high=1000, symbol="N", source="ours", group="sampler"),
    Knob(
        "guidance",
        0.0,
        "pull towards the prompt, 0 takes the model's",
        low=0,
        high=20,
        step=0.5,
        symbol="g",
        source="ours",
        group="sampler",
    ),
    Knob("eta", 0.0, "share of DDPM's noise in a step", low=0, high=1, step=0.1, source="GVD: DDIM; MGD3: 1", group="sampler"),
    Knob("sampling_batch", 8, "clips sampled at once", low=1, high=256, unit="clips", source="ours", group="sampler"),
)


def sampling_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of :func:`vidistill.sample.load_denoiser` that these knob values spell; what is 0 is the model's own."""
    return {"frames": values["frames"], "steps": values["sampling_steps"] or None, "guidance": values["guidance"] or None}
