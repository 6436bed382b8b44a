"""The knobs of sampling clips from a model and of a teacher beside it, declared once for every paper that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidistill.knobs import Knob
from vidistill.sample.teacher import T_MAPS

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


TEACHER_KNOBS = (
    Knob("guide", "lab-unet", "teacher: a zoo name, a folder, a hub id; self is the model, empty none", source="VC2", group="teacher"),
    Knob("beta", 0.5, "weight kept from the model; 1 is no teacher", low=0, high=1, step=0.05, symbol="beta",
         equation=r"\hat x_0 \leftarrow \beta \hat x_0 + (1 - \beta) \hat x_0^G", source="paper 0.5, official code 0.8", group="teacher"),
    Knob("guided", 5, "first steps that are guided", low=0, high=1000, symbol="I", source="AnimateDiff 5, LaVie 3", group="teacher"),
    Knob("tau", 10, "evaluations of the teacher at each", low=1, high=1000, symbol="tau", source="paper, official code", group="teacher"),
    Knob("points", 25, "points of the teacher's own grid", low=2, high=1001, source="paper: 25 steps, code: 24", group="teacher"),
    Knob("t_map", "snr_matched", "where on its path the teacher begins", choices=T_MAPS, source="paper: same_index", group="teacher"),
    Knob("scale", 1.0, "what the teacher saw clean latents multiplied by", low=0, open_low=True, high=2, step=0.05, symbol="k",
         source="VideoCrafter2: 0.7 from t 400 on", group="teacher"),
)  # fmt: skip
"""The knobs of :class:`vidistill.sample.teacher.Teacher`."""


def sampling_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of :func:`vidistill.sample.load_denoiser` that these knob values spell; what is 0 is the model's own."""
    return {"frames": values["frames"], "steps": values["sampling_steps"] or None, "guidance": values["guidance"] or None}
