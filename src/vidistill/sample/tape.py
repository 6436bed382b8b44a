"""A tape: everything a run of the sampler made, kept so that it can be saved, looked at, and gone on from at any step.

``fork(model, tape, k, operators=...)`` runs steps k, k + 1, ... again with something changed; what came before is not computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.files import load_tensors, save_tensors
from vidistill.guide import KINDS, Switch, Way
from vidistill.rng import normal
from vidistill.sample.denoiser import Denoiser
from vidistill.sample.sampler import Step, combiner, sample
from vidistill.schedule import First, Interval

FORMAT = "vidistill-tape-1"


@dataclass(frozen=True)
class Tape:
    """What a run made.

    Attributes:
        settings: of the run: ``model, prompts, seeds, steps, guidance, negative, eta, renoise``, JSON-ready; ``times`` of a few-step one.
        latents: ``[N + 1, B, C, T, H, W]``, float32 on the CPU: entry k is what step k begins with, the last one the clip.
        x0: ``[N, B, C, T, H, W]``, the clean videos predicted.
        forces: operator -> ``[N, B, T]``; 0 where it did nothing.
    """

    settings: dict[str, Any]
    latents: Tensor
    x0: Tensor
    forces: dict[str, Tensor]

    def save(self, path: str | Path) -> int:
        """Write the tape as one safetensors file and return its length in bytes."""
        tensors = {"latents": self.latents, "x0": self.x0} | {f"force/{name}": force for name, force in self.forces.items()}
        return save_tensors(path, tensors, {"record": json.dumps({"format": FORMAT, "settings": self.settings})})


def load_tape(path: str | Path) -> Tape:
    """Read a tape.

    Raises:
        InputError: the file is missing, damaged or no tape.
    """
    tensors, metadata = load_tensors(path)
    about = json.loads(metadata.get("record", "{}"))
    if about.get("format") != FORMAT:
        raise InputError(f"{path} is no tape ({about.get('format', 'no format')}); a tape is written by Tape.save")
    forces = {name.removeprefix("force/"): tensor for name, tensor in tensors.items() if name.startswith("force/")}
    return Tape(about["settings"], tensors["latents"], tensors["x0"], forces)


def facts_of(guidance: Way | Switch) -> dict[str, Any]:
    """Return a way to combine outputs as a tape keeps it, JSON-ready."""
    if isinstance(guidance, Switch):
        ways = {"inside": facts_of(guidance.inside), "outside": facts_of(guidance.outside)}
        return {"kind": "switch", **ways, "interval": asdict(guidance.interval)}
    return {"kind": next(name for name, one in KINDS.items() if isinstance(guidance, one)), **asdict(guidance)}


def guidance_of(facts: dict[str, Any]) -> Way | Switch:
    """Return the way to combine outputs that :func:`facts_of` described."""
    if facts["kind"] != "switch":
        return _way_of(facts)
    interval = First(**facts["interval"]) if "steps" in facts["interval"] else Interval(**facts["interval"])
    return Switch(_way_of(facts["inside"]), _way_of(facts["outside"]), interval)


def _way_of(facts: dict[str, Any]) -> Way:
    numbers = {name: value for name, value in facts.items() if name != "kind"}
    return KINDS[choose("way to combine outputs", facts["kind"], KINDS)](**numbers)


def record(model: Denoiser, prompts: Sequence[str], *, seeds: Sequence[int], **options: Any) -> Tape:
    """Run the sampler to its end and return the tape; arguments as :func:`vidistill.sample.sample`'s.

    Raises:
        InputError: as the sampler.
    """
    guidance = combiner(model, options.get("guidance"))
    steps = list(sample(model, prompts, seeds=seeds, **options))
    settings = {
        "model": model.id,
        "prompts": list(prompts),
        "seeds": list(seeds),
        "steps": steps[0].steps,
        "guidance": facts_of(guidance),
        "negative": options.get("negative", ""),
        "eta": options.get("eta", 0.0),
        "renoise": model.renoise if options.get("renoise") is None else options["renoise"],
    }
    settings |= {"times": list(model.times)} if model.times else {}
    first = options.get("latents")
    first = normal(seeds, "init", model.shape) if first is None else first
    latents = torch.stack([first, *(step.latents for step in steps)]).float().cpu()
    nothing = torch.zeros(len(prompts), model.shape[1])
    names = dict.fromkeys(name for step in steps for name in step.forces)
    forces = {name: torch.stack([step.forces.get(name, nothing).cpu() for step in steps]) for name in names}
    return Tape(settings, latents, torch.stack([step.x0 for step in steps]).float().cpu(), forces)


def fork(model: Denoiser, tape: Tape, start: int, **changes: Any) -> Iterator[Step]:
    """Run steps ``start``, ``start + 1``, ... of a tape again, with ``changes`` to the run: operators, guidance, negative, eta ...

    Args:
        model: the one that the tape was made with.
        tape: see :func:`record`.
        start: from 0.
        changes: arguments of :func:`vidistill.sample.sample`; operators are not kept on a tape.

    Raises:
        InputError: another model, ``start`` is beyond the tape, or as the sampler.
    """
    s = tape.settings
    if model.id != s["model"]:
        raise InputError(f"the tape was made with {s['model']}, not with {model.id}")
    if (times := tuple(s.get("times", ()))) != model.times:
        raise InputError(f"the tape was made with {model.id} at the times {list(times) or 'of its scheduler'}, which it no longer has")
    if not 0 <= start < s["steps"]:
        raise InputError(f"the tape has steps 0 to {s['steps'] - 1}, there is none {start}")
    kept = {"steps": s["steps"], "guidance": guidance_of(s["guidance"])}
    kept |= {name: s[name] for name in ("negative", "eta", "renoise")}
    return sample(model, s["prompts"], seeds=s["seeds"], start=start, latents=tape.latents[start], **(kept | changes))
