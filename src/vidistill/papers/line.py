r"""AccVideo's own toy (arXiv 2503.19462, Fig. 2): two points on a line, a teacher, and a distillation set whose points were moved.

    M = sum over the set's points of their distance to the teacher's                                                    (Eq. 4)
    useless (panel e): x_t = (1 - t) x_d + t eps of a moved x_d is far from every teacher path at t, or is taken to where no datum is
    PeRFlow (panel f): in its window a noised point goes straight to where the teacher takes it; the student has a step a window

Not a paper. The paper does not define "useless", nor its threshold, nor the windows: these are readings, and two fields are asked: the
exact one and one that was learned. With the exact field every point ends on a datum.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill import __version__
from vidistill.data.plane import two_points
from vidistill.distill import METHODS, Batch, Method, Recipe, Trainer, Turn, cast, roll_out
from vidistill.distill.losses import noised, trajectory_loss
from vidistill.distill.methods import Moves, Net, velocity
from vidistill.distill.mlp import VelocityMLP, exact, teacher
from vidistill.distill.trajectory import time_table
from vidistill.files import digest, load_tensors, save_tensors
from vidistill.knobs import Knob
from vidistill.rng import stream
from vidistill.types import Progress

KNOBS = (
    Knob("mismatches", "0, 0.75, 1.5, 2.25, 3", "M, how far both points are moved together; empty: no line", source="Fig. 2", group="line"),
    Knob("outward", False, "away from 0 instead of towards it", source="the paper does not say", group="line"),
    Knob("far", 0.2, "distance to every path that makes a point useless", low=0, high=3, source="ours: fits Fig. 2 e", group="line"),
    Knob("off", 0.1, "distance to both data that makes an end a miss", low=0, high=3, source="ours", group="line"),
    Knob("draws", 20000, "noised points, and pairs that a student learns from", low=100, high=10**6, source="ours", group="line"),
    Knob("line_steps", 10000, "steps of the line's teacher", low=1, high=10**6, source="paper", group="line"),
    Knob("line_lr", 1e-4, "its learning rate", low=0, high=1, open_low=True, source="paper", group="line"),
    Knob("line_batch", 2048, "points in its batch", low=1, high=10**6, source="paper", group="line"),
    Knob("windows", 4, "windows of the line's student", low=1, high=100, source="ours: not printed", group="line"),
    Knob("window_updates", 1500, "its updates", low=1, high=10**6, source="ours", group="line"),
)
PATHS, FINE, NEAR = 256, time_table(100), 0.2
"""Teacher paths, their times, and what is near to a datum."""


def decides(k: Mapping[str, Any]) -> list[Any]:
    """Return what a trial on the line depends on besides M and seed."""
    return [__version__, *(k[knob.name] for knob in KNOBS[1:])]


@torch.no_grad()
def useless(net: Net, m: float, k: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Return what becomes of noised points of a set moved by M, in percent of them.

    Returns:
        ``far`` from ``PATHS`` of the net's own paths at their time; ``missed``: taken to where no datum is; ``crossed``: to the other one.
    """
    world, n = two_points(m, outward=k["outward"]), len(FINE) - 1
    x0, at = world.draw(k["draws"], stream(seed, "line", "x0"))[0], torch.randint(n, (k["draws"],), generator=stream(seed, "line", "t"))
    x = noised(x0, torch.randn(x0.shape, generator=stream(seed, "line", "eps")), torch.tensor(FINE)[at])
    path, far = torch.randn(PATHS, 1, generator=stream(seed, "line", "paths")), torch.zeros(len(x), dtype=torch.bool)
    for j in range(n):  # points join where their time has come
        here, on, now = at == j, at <= j, FINE[j : j + 2]
        far[here] = (x[here] - path.T).abs().amin(1) > k["far"]
        path = roll_out(net, path, now, None, renoise="ode").float()
        x[on] = roll_out(net, x[on], now, None, renoise="ode").float()
    rate = lambda found: 100 * float(found.double().mean())  # noqa: E731
    return {"far": rate(far), "missed": rate((x.abs() - 3).abs() > k["off"]), "crossed": rate(x.sign() != x0.sign())}


def perflow(turn: Turn) -> Moves:
    """PeRFlow: ``|| v(x_t, t) - (x_begin - x_end) / (t_begin - t_end) ||^2`` on the straight line; c is the window, other the end."""
    batch, times = turn.batch("student"), torch.tensor(turn.recipe.times)
    begin, now, after = turn.real(batch), times[batch.c], times[batch.c + 1]
    share = turn.uniform(len(begin), "time")
    x = torch.lerp(batch.other, begin, share[:, None])  # type: ignore[arg-type]
    v = velocity(turn.nets.student, x, after + (now - after) * share, None)
    yield "student", "perflow", trajectory_loss(v, begin, batch.other, now, after)  # type: ignore[arg-type]


METHODS["perflow"] = Method(perflow)


@torch.no_grad()
def pairs(net: Net, m: float, k: Mapping[str, Any], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return noised points of a set moved by M where a window begins, where the teacher takes them in it, and the window."""
    times, share, found = time_table(k["windows"]), k["draws"] // k["windows"], []
    for w in range(k["windows"]):
        x0 = two_points(m, outward=k["outward"]).draw(share, stream(seed, "window", w))[0]
        begin = noised(x0, torch.randn(x0.shape, generator=stream(seed, "window", w, "eps")), times[w])
        fine = tuple(float(t) for t in torch.linspace(times[w], times[w + 1], 26))
        found.append((begin, roll_out(net, begin, fine, None, renoise="ode"), torch.full((share,), w)))
    begins, ends, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return begins, ends, numbers


def line_teacher(k: Mapping[str, Any], seed: int, folder: Path, progress: Progress) -> VelocityMLP:
    """Return the network that learned {-3, 3}, kept in ``folder``."""
    how = {name: k[f"line_{name}"] for name in ("steps", "lr", "batch")}
    path = folder / "teachers" / f"line-{digest([how, seed, __version__])}.safetensors"
    if not path.exists():
        save_tensors(path, teacher(two_points(), seed=seed, progress=progress, **how).state_dict())
    net = VelocityMLP(1).eval().requires_grad_(False)
    net.load_state_dict(load_tensors(path)[0])
    return net


def on_the_line(k: Mapping[str, Any], m: float, seed: int, folder: Path, progress: Progress) -> dict[str, float]:
    """Return panels (e) and (f) of one M and seed, in percent: of noised points, by either field; and of samples near a datum."""
    net = line_teacher(k, seed, folder, progress)
    fields: dict[str, Net] = {"exact": exact(two_points()), "learned": net}
    found = {f"{key} {name}": value for name, field in fields.items() for key, value in useless(field, m, k, seed).items()}
    begin, end, window = pairs(net, m, k, seed)

    def draw(generator: torch.Generator) -> Batch:
        rows = torch.randint(len(begin), (512,), generator=generator)
        return Batch(begin[rows], window[rows], None, end[rows])

    recipe = Recipe("perflow", time_table(k["windows"]), k["window_updates"], lr=1e-3, decay="cosine", weight_decay=0.0, renoise="ode")
    trainer = Trainer(recipe, cast(net), draw, seed=seed)
    student, noise = trainer.run(progress=progress), torch.randn(k["draws"], 1, generator=stream(seed, "line", "points"))
    near = lambda x: 100 * float(((x.abs() - 3).abs() <= NEAR).double().mean())  # noqa: E731
    with torch.no_grad():
        found["student near"] = near(roll_out(student, noise, recipe.times, None, renoise="ode"))
        found["teacher near"] = near(roll_out(net, noise, FINE, None, renoise="ode"))
        found["untrained near"] = near(roll_out(net, noise, recipe.times, None, renoise="ode"))  # the teacher in as few steps
    return found
