"""What may change without a golden: how clips are batched, how operators are wrapped, where a run is cut, in which order one multiplies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import golden_sampling
import goldens
import pytest
import torch
from golden_worlds import PROMPTS, SEEDS
from torch import Tensor

from vidistill.guide import Moment, Operator, Pull
from vidistill.sample import Denoiser, Step, sample
from vidistill.schedule import frame_weights, pull_weight

Run = Callable[[Denoiser, golden_sampling.Operators, dict[str, Any]], list[Step]]


def one_by_one(model: Denoiser, operators: golden_sampling.Operators, options: dict[str, Any]) -> list[Step]:
    """Sample each clip alone."""
    runs = [list(sample(model, [PROMPTS[i]], seeds=[SEEDS[i]], operators=operators([i]), **options)) for i in range(len(SEEDS))]
    return [joined(records) for records in zip(*runs, strict=True)]


def joined(records: Sequence[Step]) -> Step:
    """Return the records of one step of several clips as one."""
    forces = {name: torch.cat([record.forces[name] for record in records]) for name in records[0].forces}
    x0, latents = (torch.cat([getattr(record, part) for record in records]) for part in ("x0", "latents"))
    return replace(records[0], x0=x0, latents=latents, forces=forces)


def in_two_parts(model: Denoiser, operators: golden_sampling.Operators, options: dict[str, Any]) -> list[Step]:
    """Stop after the first step and begin again from its latents."""
    run = lambda **more: sample(model, PROMPTS, seeds=SEEDS, operators=operators(range(len(SEEDS))), **options, **more)  # noqa: E731
    first = next(run())
    return [first, *(run(start=1, latents=first.latents) if first.steps > 1 else [])]


class Wrapped:
    """An operator that hands everything on to another, and gives its change in two halves put together."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)

    def on_x0(self, x0: Tensor, at: Moment) -> Tensor | None:
        change = self._operator.on_x0(x0, at)
        return None if change is None else 0.25 * change + 0.75 * change


def wrapped(model: Denoiser, operators: golden_sampling.Operators, options: dict[str, Any]) -> list[Step]:
    """Wrap every operator."""
    own = [Wrapped(operator) for operator in operators(range(len(SEEDS)))]
    return list(sample(model, PROMPTS, seeds=SEEDS, operators=own, **options))


def unchanged(names: Sequence[str]) -> None:
    """Hold cases against their goldens; no draft is made."""
    held = goldens.load(goldens.goldens_of("cpu"))
    found = [change for name in names for change in goldens.changes(name, held.get(name), goldens.made(name, "cpu"))]
    assert not found, goldens.told(found)


@pytest.mark.parametrize("run", [one_by_one, in_two_parts, wrapped])
def test_another_way_to_run_the_sampler_changes_no_golden(run: Run, monkeypatch) -> None:
    ran = []
    monkeypatch.setattr(golden_sampling, "steps_of", lambda *arguments: ran.append(1) or run(*arguments))
    unchanged(list(golden_sampling.CASES))
    assert len(ran) >= len(golden_sampling.CASES) - 3, "the cases did not go through it"


def test_another_order_of_arithmetic_changes_no_golden(monkeypatch) -> None:
    """The pull as a mean of the clean video and the centre, ``(1 - s w) x0 + s w m``, in float64."""

    def mixed(self: Pull, x0: Tensor, at: Moment) -> Tensor | None:
        if self.strength == 0 or not at.within(self.interval):
            return None
        s = self.strength * pull_weight(self.weight, at.now, at.after, at.eta)
        share = s * frame_weights(self.decay, x0.shape[2]).to(x0.device).double()[:, None, None]
        return ((1 - share) * x0.double() + share * self.centres.double() - x0.double()).to(x0)

    monkeypatch.setattr(Pull, "on_x0", mixed)
    unchanged([name for name in goldens.CASES if name.startswith("pull-")])


def test_threads_change_no_golden() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        unchanged(list(goldens.CASES))
    finally:
        torch.set_num_threads(before)
