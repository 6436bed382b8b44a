"""The training loop of the zoo's recipes: Muon and AdamW, an averaged copy, checkpoints that resume bit for bit, several GPUs.

    hidden matrices:   m <- mu m + (1 - mu) g;  U S V^T = the Nesterov momentum;  W <- (1 - lr wd) W - lr sqrt(max(1, rows / columns)) U V^T
    everything else:   AdamW
    average:           A <- d A + (1 - d) W,     d = min(EMA, (1 + step) / (10 + step))

Muon (Jordan et al. 2024) needs a third of AdamW's steps on these models, and a CPU affords few. The learning rate warms up, stays for a
while, and falls to zero over the rest of the run; with ``minutes`` that schedule follows the clock, with ``steps`` a run is reproducible. A
finished run goes on when it is given more of either, from the rate that the schedule then has.

Batch k is a function of (seed, k) alone. On several GPUs (``accelerate launch``) each process takes its share of the rows, the first one
keeps the time and writes. A loss that is not finite ends the run: on a CPU before the step is taken, on a GPU at the end of the window (a
look at it waits for the GPU); what is not finite is never saved.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from vidistill.errors import Cancelled, InputError
from vidistill.files import ensure_folder, load_tensors, save_json, save_tensors
from vidistill.student.training import orthogonal
from vidistill.types import Progress, silent

WARMUP, DECAY, EMA = 50, 0.8, 0.999
"""Steps of warm-up, the last share of the run, over which the learning rate falls, the longest memory of the average."""

MUON = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.01}
ADAM: dict[str, Any] = {"lr": 1.5e-3, "betas": (0.9, 0.99), "weight_decay": 0.0}
WINDOW = 50
"""Steps that one point of the loss curve is the mean of."""

AHEAD = 3
"""Batches drawn ahead on a GPU, each by a thread of its own: words and noise take a CPU longer than the step takes a GPU."""

SHEETS = 3
"""Checkpoints from one sheet to the next; sampling it takes longer than the checkpoint."""

Batch = dict[str, Tensor]


@dataclass
class Task:
    """What a recipe hands to the loop.

    Attributes:
        name: of the model.
        model: everything that is trained, one module; its ``forward`` takes a batch and returns ``(loss, named figures)``. A figure may be
            missing or not finite in some steps; its mean is over the others.
        batch: ``k -> tensors``, rows first, on the CPU or where the model is; on a GPU several threads ask for batches at a time.
        hidden: which parameters are hidden matrices, by name and value; convolutions count as matrices with a row per output channel.
        export: write the (averaged) model into a folder, in diffusers format.
        sheet: write a picture of what the averaged model makes; called after ``export``, with a file beside the folder ``model``.
        settings: what a run must have in common with the one it resumes; ``seed``, and ``start`` where it began from other weights.
        about: what else ``training.json`` should say; ``data`` is what the model learns from, in words.
        peak: share of the learning rates that the run rises to; a run that begins from trained weights needs less.
    """

    name: str
    model: nn.Module
    batch: Callable[[int], Batch]
    hidden: Callable[[str, Tensor], bool]
    export: Callable[[Any, Path], None]
    sheet: Callable[[Any, Path], None]
    settings: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=lambda: {"data": "Motion World"})
    peak: float = 1.0


class Muon:
    """Orthogonalised momentum for a set of matrices; equal shapes are orthogonalised together."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.momentum = {name: torch.zeros_like(w) for name, w in weights.items()}
        self.groups: dict[tuple[int, int], list[str]] = {}
        for name, w in weights.items():
            self.groups.setdefault((w.shape[0], w[0].numel()), []).append(name)
        self.weights = weights

    @torch.no_grad()
    def step(self, factor: float) -> None:
        lr, mu = factor * MUON["lr"], MUON["momentum"]
        for (rows, columns), names in self.groups.items():
            some, gradients = [self.weights[name] for name in names], [cast(Tensor, self.weights[name].grad) for name in names]
            momenta = [self.momentum[name] for name in names]
            torch._foreach_lerp_(momenta, gradients, 1 - mu)
            nesterov = torch.stack([g.lerp(m, mu).flatten(1) for g, m in zip(gradients, momenta, strict=True)])
            steps = orthogonal(nesterov).unbind()
            torch._foreach_mul_(some, 1 - lr * MUON["weight_decay"])
            torch._foreach_add_(some, [s.view_as(w) for s, w in zip(steps, some, strict=True)], alpha=-lr * max(1, rows / columns) ** 0.5)


class Run:
    """The whole state of a run; ``save`` writes it as one safetensors file, ``load`` continues from it."""

    def __init__(self, name: str, model: nn.Module, hidden: Callable[[str, Tensor], bool]) -> None:
        self.name = name
        self.live: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.live.items()}
        self.muon = Muon({name: p for name, p in self.live.items() if hidden(name, p)})
        self.rest = {name: p for name, p in self.live.items() if name not in self.muon.weights}
        self.adam = torch.optim.AdamW(self.rest.values(), **ADAM)
        for p in self.rest.values():  # what AdamW itself sets up in its first step
            self.adam.state[p] = {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        self.step, self.wall, self.cpu, self.samples = 0, 0.0, 0.0, 0
        self.curve: list[dict[str, float]] = []

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name; they can be copied into."""
        groups: dict[str, dict[str, Tensor]] = {"model": self.live, "average": self.average, "momentum": self.muon.momentum}
        for key in ("exp_avg", "exp_avg_sq"):
            groups[key] = {name: self.adam.state[p][key] for name, p in self.rest.items()}
        return {f"{key}/{name}": tensor.detach() for key, group in groups.items() for name, tensor in group.items()}

    def finite(self) -> bool:
        """Return whether no tensor of the state holds a NaN or an infinity."""
        return bool(torch.stack(torch._foreach_norm(list(self.tensors().values()))).isfinite().all())

    def record(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("step", "wall", "cpu", "samples", "curve")}

    def save(self, path: Path, settings: dict[str, Any], place: str) -> None:
        record = {"name": self.name, "settings": settings, "place": place, **self.record()}
        save_tensors(path, self.tensors(), {"record": json.dumps(record)})

    def load(self, path: Path, settings: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            InputError: the file is damaged, of another model, or of a run with other settings.
        """
        tensors, metadata = load_tensors(path)
        own, record = self.tensors(), json.loads(metadata.get("record", "{}"))
        name = record.get("name", self.name)  # a state of before names were kept has none
        if name != self.name or {key: t.shape for key, t in own.items()} != {key: t.shape for key, t in tensors.items()}:
            raise InputError(f"{path} is not the state of a run of this {self.name} (it says {name}); use another --out")
        if record.get("settings") != settings:
            raise InputError(
                f"{path} belongs to a run with {record.get('settings')}, not {settings}; use another --out, or the settings it began with"
            )
        for key in self.record():
            setattr(self, key, record[key])
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
        for p in self.rest.values():
            self.adam.state[p]["step"] = torch.tensor(float(self.step))

    def update(self, factor: float) -> None:
        """Apply the gradients that the parameters hold; ``factor`` scales the learning rates."""
        self.muon.step(factor)
        self.adam.param_groups[0]["lr"] = factor * ADAM["lr"]
        self.adam.step()
        decay = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.live.values()), 1 - decay)
        self.step += 1


def rate(step: int, done: float) -> float:
    """Return the factor on the learning rate: linear warm-up over ``WARMUP`` steps, 1, linear to zero over the last ``DECAY``."""
    return min(1.0, (step + 1) / WARMUP, max(0.0, (1 - done) / DECAY))


def pick(device: str) -> torch.device:
    """Return where to train: ``"auto"``, ``"cpu"`` or ``"cuda"``; of several GPUs the one of this process."""
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def means(points: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the mean of each figure over the points that have it and in which it is finite."""
    keys = dict.fromkeys(key for point in points for key in point)
    columns = {key: torch.stack([point[key].detach().float() for point in points if key in point]) for key in keys}
    kept = {key: column[column.isfinite()] for key, column in columns.items()}
    return {key: float(column.mean()) for key, column in kept.items() if len(column)}


def in_order(
    fetch: Callable[[int], Batch], first: int, ahead: int, begin: Callable[[], object] | None = None
) -> Generator[Batch, None, None]:
    """Yield batches ``first``, ``first + 1``, ...; ``ahead`` threads, which call ``begin`` first, draw as many in the meantime."""
    if not ahead:
        yield from map(fetch, count(first))
    with ThreadPoolExecutor(ahead, initializer=begin) as pool:
        coming = deque(pool.submit(fetch, first + i) for i in range(ahead))
        for k in count(first + ahead):
            batch = coming.popleft().result()
            coming.append(pool.submit(fetch, k))
            yield batch


def fit(
    out: str | Path,
    task: Task,
    *,
    minutes: float,
    steps: int | None = None,
    device: str = "auto",
    checkpoint_minutes: float = 5.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a model in ``out``; the same call resumes, also after ``kill -9`` (from the last checkpoint).

    Args:
        out: folder; gets ``state.safetensors`` (all that resuming needs), ``curve.json``, ``sheet.png`` and ``model/`` (diffusers, fp16,
            with ``training.json``, what is returned).
        task: the recipe's model, data, loss and export.
        minutes: length of the run on the clock, summed over resumes; ignored when ``steps`` is given.
        steps: number of optimizer steps; makes the run reproducible on one machine.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        checkpoint_minutes: time between checkpoints, in minutes.
        progress: called after each step, in tenths of a percent.

    Returns:
        What the training cost (steps, samples, samples per second, minutes on the clock and of CPU, device), and what it was: name, data,
        seed, start, settings.

    Raises:
        InputError: ``out`` holds another run, or the loss is not finite (the last checkpoint stays).
        Cancelled: from ``progress``; the state is saved first.
    """
    from accelerate import Accelerator
    from accelerate.utils import broadcast

    cuda = pick(device).type == "cuda"
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no")
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if cuda:
        torch.set_float32_matmul_precision("high")
    out, model = ensure_folder(out), task.model.to(accelerator.device)
    run, average = Run(task.name, model, task.hidden), copy.deepcopy(model).requires_grad_(False)
    if (out / "state.safetensors").exists():
        run.load(out / "state.safetensors", task.settings)
    parallel = accelerator.prepare_model(model)
    place = (torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads") + f" x {ranks}" * (ranks > 1)
    window: list[dict[str, Tensor]] = []
    kept = run.step if run.step else None

    def told(value: float) -> float:
        """Return the first process's value in every process."""
        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=accelerator.device))) if ranks > 1 else value

    def check(first: int, points: list[dict[str, Tensor]]) -> None:
        """Refuse losses that are not finite; ``first`` is the step of the first point."""
        good = torch.stack([point["loss"] for point in points]).isfinite().tolist() if points else []
        if not all(good):
            fail(f"the loss of {task.name} is not finite at step {first + good.index(False)}")

    def fail(what: str) -> NoReturn:
        left = "nothing was saved yet" if kept is None else f"{out} still holds the state of step {kept}, which is good"
        raise InputError(f"{what}; {left}: another --seed with another --out, or lower learning rates in lab/train/loop.py")

    def close() -> None:
        """Make the window a point of the curve and begin the next."""
        check(run.step - len(window), window)
        if window:
            run.curve.append({"step": run.step, "minutes": round(run.wall / 60, 3), **means(window)})
            window.clear()

    def cost() -> dict[str, Any]:
        spent = {
            "steps": run.step,
            "samples": run.samples,
            "samples_per_second": round(run.samples / max(run.wall, 1e-9), 1),
            "wall_minutes": round(run.wall / 60, 1),
            "cpu_minutes": round(run.cpu / 60, 1),
            "on": place,
        }
        origin = {key: task.settings.get(key) for key in ("seed", "start")}
        return {"name": task.name, **spent, **task.about, **origin, "settings": task.settings}

    def save(sheet: bool) -> None:
        nonlocal kept
        check(run.step - len(window), window)
        if not run.finite():
            fail(f"the weights of {task.name} are not finite after step {run.step - 1}")
        if not accelerator.is_main_process:
            return
        run.save(out / "state.safetensors", task.settings, place)
        kept = run.step
        save_json(out / "curve.json", run.curve)
        average.load_state_dict(run.average, strict=False)
        task.export(average, out / "model")
        save_json(out / "model" / "training.json", cost())
        if sheet:
            task.sheet(average, out / "sheet.png")

    def fraction() -> float:
        return run.step / steps if steps else run.wall / (60 * minutes) if minutes else 1.0

    def fetch(k: int) -> Batch:
        batch = {key: value[rank::ranks] for key, value in task.batch(k).items()}
        if cuda:
            batch = {key: value.pin_memory() if value.is_cpu else value for key, value in batch.items()}
        return {key: value.to(accelerator.device, non_blocking=True) for key, value in batch.items()}

    def leave() -> None:
        """Part from the other processes; one that ends without it may be aborted while its threads still hold the connection."""
        accelerator.wait_for_everyone()
        accelerator.end_training()

    def begin() -> None:
        torch.cuda.set_device(accelerator.device)  # a thread starts on the first GPU

    wall, cpu, saved, saves = time.monotonic(), time.process_time(), time.monotonic(), 0
    with closing(in_order(fetch, run.step, AHEAD if cuda else 0, begin)) as batches:
        try:
            while (done := told(fraction())) < 1:
                batch = next(batches)
                loss, figures = parallel(batch)
                model.zero_grad(set_to_none=True)
                accelerator.backward(loss)
                window.append({"loss": accelerator.reduce(loss.detach(), "mean") if ranks > 1 else loss.detach(), **figures})
                if not cuda:
                    check(run.step, window[-1:])
                run.update(task.peak * rate(run.step, done))
                run.samples += ranks * len(next(iter(batch.values())))
                now, used = time.monotonic(), time.process_time()
                run.wall, run.cpu, wall, cpu = run.wall + now - wall, run.cpu + used - cpu, now, used
                if run.step % WINDOW == 0:
                    close()
                if now - saved > 60 * checkpoint_minutes:
                    saves += 1
                    save(sheet=saves % SHEETS == 0)
                    saved = time.monotonic()
                if accelerator.is_main_process:
                    progress(f"train {task.name}", int(1000 * done), 1000)
            if done == math.inf:
                raise Cancelled
        except Cancelled:
            close()
            save(sheet=False)
            if accelerator.is_main_process:
                told(math.inf)  # the other processes wait for the time
            leave()
            raise
    close()
    save(sheet=True)
    leave()
    if accelerator.is_main_process:
        progress(f"train {task.name}", 1000, 1000)
    return cost()
