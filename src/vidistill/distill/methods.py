"""The methods: each is one generator that yields losses and whose they are; the trainer steps after each, and the method goes on.

    def dmd(turn):
        yield "critic", "critic", loss          who learns, the loss's name in the log, the loss
        yield "student", "dmd", loss

A method sees a :class:`Turn` and draws all its randomness from it by name, so that an iteration is a function of seed and number alone:
arms with the same seed share data, noise and times, and a resumed run repeats itself. A new method is one function here (or anywhere: put
it into ``METHODS``) and one TOML.

| method | student's loss | needs |
| --- | --- | --- |
| ``flow`` | flow matching from scratch, a teacher's own training | data |
| ``kd`` | clean end of a stored path from one of its points (FastGen) | paths |
| ``trajectory`` | AccVideo Eq. 6, one key interval a sample | paths |
| ``accvideo`` | AccVideo Algorithm 1: Eq. 6, and a discriminator for each key time on the student's own roll-out | paths, heads |
| ``dmd`` | DMD; with ``gan`` > 0 DMD2 | a critic (heads, data) |
| ``dfd`` | DMD whose teacher is fed real data in a share p of the steps | a critic, data |
| ``sft`` | DMD, in a share p of the steps plain denoising: DFD's control | a critic, data |
| ``dpdmd`` | DMD on the last step of a roll-out whose first step is anchored to the teacher | a critic |

Shapes: B samples, m = len(times) - 1 steps; paths ``[B, m + 1, ...]``, state j at ``times[j]``: noise first, clean sample last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vidistill.distill import losses
from vidistill.distill.losses import Denoise, full
from vidistill.distill.parallel import Ranks
from vidistill.distill.recipe import Recipe
from vidistill.errors import InputError
from vidistill.rng import stream

Net = Callable[[Tensor, Tensor, Any], Tensor]
"""``net(x, t, c) -> v``: states ``[B, ...]``, times float32 ``[B]`` in [0, 1], conditions (None, int64 ``[B]``, text ``[B, L, D]`` ...)."""

Heads = Callable[..., Tensor]
"""``heads(teacher, x, t, c, k) -> logits``: k is the number of the key time, 0 at t = 0; any shape whose first length is B."""


@dataclass(frozen=True)
class Batch:
    """What data a turn is given; the method decides which parts it needs.

    Attributes:
        x0: real clean samples ``[B, ...]``.
        c: their conditions; None where there are none.
        path: stored teacher states ``[B, m + 1, ...]``, at the recipe's times.
        other: independent real samples of the same conditions ``[B, ...]``, for unpaired data forcing.
    """

    x0: Tensor | None = None
    c: Any = None
    path: Tensor | None = None
    other: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return it on a device; conditions may be tensors, or sequences and mappings of tensors."""
        return self._each(lambda x: x.to(device))

    def share(self, ranks: Ranks) -> Batch:
        """Return the rows of a process."""
        return self if ranks.world == 1 else self._each(lambda x: x[ranks.rows(len(x))])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        move = lambda x: change(x) if isinstance(x, Tensor) else x  # noqa: E731
        c = {k: move(v) for k, v in self.c.items()} if isinstance(self.c, dict) else move(self.c)
        c = type(c)(move(v) for v in c) if isinstance(c, (list, tuple)) else c
        return Batch(move(self.x0), c, move(self.path), move(self.other))


Data = Callable[[torch.Generator], Batch]
"""A source of batches: a function of the generator it is given alone."""


@dataclass
class Nets:
    """The networks of a run.

    Attributes:
        student: learns.
        teacher: frozen; None only in ``flow``.
        critic: the fake score; learns the student's distribution.
        heads: the discriminator; learns.
        empty: conditions -> those of no prompt, for guidance.
    """

    student: nn.Module
    teacher: Any = None
    critic: nn.Module | None = None
    heads: nn.Module | None = None
    empty: Callable[[Any], Any] | None = None

    def learning(self) -> dict[str, nn.Module]:
        """Return the networks that learn, by name."""
        return {name: net for name in ("student", "critic", "heads") if (net := getattr(self, name)) is not None}


Moves = Iterator[tuple[str, str, Tensor]]


@dataclass(frozen=True)
class Turn:
    """One iteration as a method sees it.

    Attributes:
        recipe, nets, data, seed: of the run.
        iteration: from 1 on.
        student, critic: who learns (see :func:`vidistill.distill.recipe.turns`).
        device: where to compute.
        ranks: this process among those of the run. What is drawn by row is drawn for the whole batch; each keeps its rows.
    """

    recipe: Recipe
    nets: Nets
    data: Data
    seed: int
    iteration: int
    student: bool = True
    critic: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: Ranks = Ranks()  # noqa: RUF009, frozen

    def draw(self, *name: str | int) -> torch.Generator:
        """Return the generator of this name in this iteration."""
        return stream(self.seed, "distill", *name, self.iteration)

    def batch(self, *name: str | int) -> Batch:
        """Return a fresh batch."""
        return self.data(self.draw("data", *name)).share(self.ranks).to(self.device)

    def noise(self, like: Tensor, *name: str | int) -> Tensor:
        """Return standard normal noise in the shape of ``like``, float32, drawn on the CPU."""
        whole = torch.randn((len(like) * self.ranks.world, *like.shape[1:]), generator=self.draw("noise", *name))
        return whole[self.ranks.rows(len(whole))].to(self.device)

    def uniform(self, count: int, *name: str | int) -> Tensor:
        """Return float32 ``[count]`` in [0, 1)."""
        whole = torch.rand(count * self.ranks.world, generator=self.draw("uniform", *name))
        return whole[self.ranks.rows(len(whole))].to(self.device)

    def steps(self, count: int, *name: str | int) -> Tensor:
        """Return a step of the student for each row, int64 ``[count]`` on the CPU, uniform."""
        whole = torch.randint(len(self.recipe.times) - 1, (count * self.ranks.world,), generator=self.draw("step", *name))
        return whole[self.ranks.rows(len(whole))]

    def score_times(self, count: int, *name: str | int) -> Tensor:
        """Return ``sh_s(u)``, u uniform in [score_low, score_high], float32 ``[count]``."""
        low, high = self.recipe.score_low, self.recipe.score_high
        return losses.shift(low + (high - low) * self.uniform(count, *name), self.recipe.score_shift)

    def real(self, batch: Batch) -> Tensor:
        """Return the batch's clean samples.

        Raises:
            InputError: it has none.
        """
        if batch.x0 is None:
            raise InputError(f"method {self.recipe.method!r} needs real samples here, but the data has none (Batch.x0)")
        return batch.x0

    def path(self, batch: Batch) -> Tensor:
        """Return the batch's stored states.

        Raises:
            InputError: it has none, or not one a time.
        """
        states = len(self.recipe.times)
        if batch.path is None:
            raise InputError(f"method {self.recipe.method!r} learns from stored paths, but the data has none (Batch.path)")
        if batch.path.shape[1] != states:
            raise InputError(f"stored paths must have a state for each of the {states} student times; these have {batch.path.shape[1]}")
        return batch.path


# ---------------------------------------------------------------------------------------------------------------- networks as functions


def velocity(net: Net, x: Tensor, t: Tensor | float, c: Any) -> Tensor:
    """Return what a network predicts, in float32 or float64; a float time holds for all samples."""
    times = t if isinstance(t, Tensor) else torch.full((len(x),), t, dtype=torch.float32, device=x.device)
    return full(net(x, times, c))


def x0_hat(net: Net, x: Tensor, t: Tensor | float, c: Any) -> Tensor:
    """Return the clean sample that a network's velocity means."""
    return losses.velocity_to_x0(x, velocity(net, x, t, c), t)


def guided_velocity(net: Net, x: Tensor, t: Tensor | float, c: Any, empty: Callable[[Any], Any] | None, scale: float) -> Tensor:
    """Return the velocity under guidance of a standard scale; at 1 the network is asked once.

    Raises:
        InputError: guidance is wanted, but it is not known what the empty condition is.
    """
    v = velocity(net, x, t, c)
    if scale == 1:
        return v
    if empty is None:
        raise InputError(f"guidance scale {scale:g} needs the empty condition (Nets.empty); scale = 1 does without")
    return losses.guided(v, velocity(net, x, t, empty(c)), scale)


def denoisers(nets: Nets, c: Any, scale: float) -> tuple[Denoise, Denoise]:
    """Return critic and teacher as ``(x_t, t) -> x0_hat``; guidance is the teacher's alone."""

    def real(x: Tensor, t: Any) -> Tensor:
        return losses.velocity_to_x0(x, guided_velocity(nets.teacher, x, t, c, nets.empty, scale), t)

    return lambda x, t: x0_hat(nets.critic, x, t, c), real  # type: ignore[arg-type]


def roll_out(
    net: Net,
    x: Tensor,
    times: tuple[float, ...],
    c: Any,
    *,
    renoise: str = "sde",
    fresh: Callable[[int], Tensor] | None = None,
    steps: int | None = None,
) -> Tensor:
    """Return where a few-step sampler gets to from noise: ``x0_hat``, noise put back, and again. Gradients pass; ``"ode"`` is Euler.

    Args:
        net: the student.
        x: state at ``times[0]``, noise ``[B, ...]``.
        times: falling, to 0.
        c: conditions.
        renoise: ``"sde"``: fresh noise; ``"ode"``: the implied one, deterministic.
        fresh: noise ``[B, ...]`` of step j, 0 .. m - 2; for ``"sde"``.
        steps: how many of the m steps to take; default all, which returns clean samples.
    """
    for j in range(len(times) - 1 if steps is None else steps):
        now, after = times[j], times[j + 1]
        if renoise == "ode":
            x = losses.euler(x, velocity(net, x, now, c), now, after)
        else:
            x = losses.renoised(x, x0_hat(net, x, now, c), now, after, renoise, fresh(j) if fresh and after > 0 else None)
    return x


@torch.no_grad()
def generate(net: Net, noise: Tensor, times: tuple[float, ...], c: Any = None, *, renoise: str = "sde", seed: int = 0) -> Tensor:
    """Return a few-step student's clean samples ``[B, ...]``; fresh noise comes from the streams ``few-step/j`` of ``seed``.

    Args:
        net: the student.
        noise: standard normal ``[B, ...]``.
        times, c, renoise: see :func:`roll_out`.
    """
    fresh = lambda j: torch.randn(noise.shape, generator=stream(seed, "few-step", j)).to(noise)  # noqa: E731
    return roll_out(net, noise, times, c, renoise=renoise, fresh=fresh)


def student_input(turn: Turn, batch: Batch, who: str) -> tuple[Tensor, Tensor | float]:
    """Return the state ``[B, ...]`` and the time that the student's step with gradient begins from.

    ``data_latent``: ``forward(x, eps, t_k)``, k uniform, one a sample. ``simulate``: k uniform, one for the batch; the current student has
    run from noise to ``t_k`` without gradient, and of the real samples only the shape is used.
    """
    times, real = turn.recipe.times, turn.real(batch)
    if turn.recipe.student_input == "data_latent":
        k = turn.steps(len(real), who)
        t = torch.tensor(times, dtype=torch.float32)[k].to(turn.device)
        return losses.noised(real, turn.noise(real, "input", who), t), t
    steps = int(torch.randint(len(times) - 1, (), generator=turn.draw("step", who)))
    with torch.no_grad():
        fresh = lambda j: turn.noise(real, "renoise", who, j)  # noqa: E731
        x = turn.noise(real, "input", who)
        x = roll_out(turn.nets.student, x, times, batch.c, renoise=turn.recipe.renoise, fresh=fresh, steps=steps)
    return x, times[steps]


# -------------------------------------------------------------------------------------------------------------------------------- methods


def flow(turn: Turn) -> Moves:
    """Flow matching: ``|| v(x_t, t, c) - (eps - x_0) ||^2``, t uniform; the condition is left out in a share ``drop``."""
    batch = turn.batch("student")
    x0, c = turn.real(batch), batch.c
    t, eps = turn.uniform(len(x0), "time"), turn.noise(x0, "eps")
    if turn.recipe.drop and c is not None:
        if turn.nets.empty is None:
            raise InputError("drop > 0 needs the empty condition (Nets.empty)")
        out = turn.uniform(len(x0), "drop") < turn.recipe.drop
        c = torch.where(out.view(-1, *[1] * (c.ndim - 1)), turn.nets.empty(c), c)
    v = velocity(turn.nets.student, losses.noised(x0, eps, t), t, c)
    yield "student", "flow", losses.critic_loss(v, x0, x0, eps, t)


def kd(turn: Turn) -> Moves:
    """Knowledge distillation: the clean end of a stored path from one of its points; one point a sample, uniform."""
    batch = turn.batch("student")
    path, times = turn.path(batch), torch.tensor(turn.recipe.times)
    k = turn.steps(len(path), "student")
    x, t = path[torch.arange(len(path)), k], times[k].to(turn.device)
    yield "student", "kd", losses.kd_loss(x0_hat(turn.nets.student, x, t, batch.c), path[:, -1])


def trajectory(turn: Turn) -> Moves:
    """AccVideo's Eq. 6 as an expectation: one key interval a sample, uniform; no adversary."""
    batch = turn.batch("student")
    path, times = turn.path(batch), torch.tensor(turn.recipe.times)
    k, rows = turn.steps(len(path), "student"), torch.arange(len(path))
    begin, end, t, after = path[rows, k], path[rows, k + 1], times[k].to(turn.device), times[k + 1].to(turn.device)
    yield "student", "trajectory", losses.trajectory_loss(velocity(turn.nets.student, begin, t, batch.c), begin, end, t, after)


def accvideo(turn: Turn) -> Moves:
    """AccVideo's Algorithm 1: for k = m - 1 .. 0 the trajectory loss on a fresh record, then the discriminator of ``t'_k``.

    Its fakes come from the queues: pop a state from ``Q_{k+1}``, take one student step with gradient, push the detached result to ``Q_k``.
    In the order of Algorithm 1 what is popped is what was pushed one turn earlier, and ``Q_0`` is never popped: the queues are one
    variable, ``queued``, and end with the iteration. Real: the stored state of the record that entered with the noise. No real sample is
    ever noised.
    """
    r, nets, m = turn.recipe, turn.nets, len(turn.recipe.times) - 1
    record: Batch | None = None
    for k in range(m - 1, -1, -1):
        now, after = r.times[m - k - 1], r.times[m - k]  # t'_{k+1}, t'_k
        batch = turn.batch("key", k)
        path = turn.path(batch)
        begin, end = path[:, m - k - 1], path[:, m - k]
        yield "student", "trajectory", losses.trajectory_loss(velocity(nets.student, begin, now, batch.c), begin, end, now, after)
        if not r.adversarial:
            continue
        if record is None:
            record, queued = batch, turn.noise(begin, "queue")
        fake = losses.euler(queued, velocity(nets.student, queued, now, record.c), now, after)
        queued, real = fake.detach(), turn.path(record)[:, m - k]
        fooled = losses.generator_loss(judge(turn, fake, after, record.c, k), saturating=r.saturating)
        yield "student", "adversarial", r.adversarial * fooled
        logits = judge(turn, real, after, record.c, k), judge(turn, queued, after, record.c, k)
        yield "heads", "heads", r.adversarial * losses.discriminator_loss(*logits)


def dmd(turn: Turn) -> Moves:
    """DMD; with a ``gan`` weight DMD2. The teacher sees the student's own noised sample."""
    yield from _matching(turn, lambda batch: None)


def dfd(turn: Turn) -> Moves:
    """Data-Forcing: DMD whose ``source`` is a real sample in a share p of the steps; that argument is all that changes."""
    yield from _matching(turn, lambda batch: _real_source(turn, batch) if _forced(turn) else None)


def sft(turn: Turn) -> Moves:
    """DFD's control: DMD, and in a share p of the steps ``(g - x) / mean|g - x|`` instead: plain denoising."""
    yield from _matching(turn, lambda batch: _real_source(turn, batch) if _forced(turn) else None, regress=True)


def dpdmd(turn: Turn) -> Moves:
    """DP-DMD: step 1 learns the velocity to the teacher's state after K of n steps; behind a stop-gradient, DMD on the rest."""
    r, nets = turn.recipe, turn.nets
    if turn.critic:
        batch = turn.batch("critic")
        real = turn.real(batch)
        with torch.no_grad():
            g = roll_out(nets.student, turn.noise(real, "input", "critic"), r.times, batch.c, renoise="ode")
        yield from _critic(turn, g, batch)
    if turn.student:
        batch = turn.batch("student")
        eps = turn.noise(turn.real(batch), "input", "student")
        z, t = anchor_state(turn, eps, batch.c)
        v = velocity(nets.student, eps, r.times[0], batch.c)
        first = losses.euler(eps, v, r.times[0], r.times[1])
        loss = r.anchor * losses.anchor_loss(v, eps, z, t)
        if len(r.times) > 2:
            g = roll_out(nets.student, first.detach(), r.times[1:], batch.c, renoise="ode")
            loss = loss + losses.surrogate(g, _gradient(turn, g, batch, g, r.scale))
            loss = loss + _fooling(turn, g, batch) if r.gan else loss
        yield "student", "dpdmd", loss


@dataclass(frozen=True)
class Method:
    """A method and what it needs.

    Attributes:
        moves: the generator.
        critic: whether it learns against a critic, and so alternates.
        heads: recipe -> whether it needs a discriminator.
    """

    moves: Callable[[Turn], Moves]
    critic: bool = False
    heads: Callable[[Recipe], bool] = lambda recipe: False


_gan = lambda recipe: recipe.gan > 0  # noqa: E731
METHODS: dict[str, Method] = {
    "flow": Method(flow),
    "kd": Method(kd),
    "trajectory": Method(trajectory),
    "accvideo": Method(accvideo, heads=lambda recipe: recipe.adversarial > 0),
    "dmd": Method(dmd, True, _gan),
    "dfd": Method(dfd, True, _gan),
    "sft": Method(sft, True, _gan),
    "dpdmd": Method(dpdmd, True, _gan),
}


# ---------------------------------------------------------------------------------------------------------------------------------- parts


def judge(turn: Turn, x: Tensor, t: Tensor | float, c: Any, k: int = 0) -> Tensor:
    """Return the discriminator's logits on states at t; k is the number of the key time."""
    times = t if isinstance(t, Tensor) else torch.full((len(x),), t, dtype=torch.float32, device=x.device)
    return turn.nets.heads(turn.nets.teacher, x, times, c, k)  # type: ignore[misc]


@torch.no_grad()
def anchor_state(turn: Turn, eps: Tensor, c: Any) -> tuple[Tensor, float]:
    """Return where the teacher is after K of its n Euler steps from ``eps``, and that time (DP-DMD)."""
    r = turn.recipe
    table = [losses.shift(1 - j / r.teacher_steps, r.teacher_shift) for j in range(r.anchor_steps + 1)]
    x = eps
    for j in range(r.anchor_steps):
        v = guided_velocity(turn.nets.teacher, x, table[j], c, turn.nets.empty, r.scale)
        x = losses.euler(x, v, table[j], table[j + 1])
    return x, table[-1]


def _forced(turn: Turn) -> bool:
    return losses.forced(turn.recipe.p, turn.draw("force"))


def _real_source(turn: Turn, batch: Batch) -> Tensor:
    """Return the real samples that force a step: the paired ones, or independent ones of the same condition."""
    if turn.recipe.paired:
        return turn.real(batch)
    if batch.other is not None:
        return batch.other
    if batch.c is not None:
        raise InputError("paired = false needs independent real samples of the same conditions (Batch.other), which the data has not")
    return turn.real(turn.batch("unpaired"))


def _gradient(turn: Turn, gen: Tensor, batch: Batch, source: Tensor, scale: float) -> Tensor:
    """Return :func:`losses.matching_gradient` at this turn's score time and noise."""
    own, gen = source is gen, gen.detach()
    t, eps = turn.score_times(len(gen), "score", "student"), turn.noise(gen, "score", "student")
    fake, real = denoisers(turn.nets, batch.c, scale)
    source = gen if own else source
    return losses.matching_gradient(gen, source, eps, t, fake, real, form=turn.recipe.form, normalise=turn.recipe.normalise)


def _fooling(turn: Turn, gen: Tensor, batch: Batch) -> Tensor:
    """Return what the student pays to the discriminator on its noised samples, weighted (DMD2)."""
    t, eps = turn.score_times(len(gen), "gan"), turn.noise(gen, "gan")
    logits = judge(turn, losses.noised(gen, eps, t), t, batch.c)
    return turn.recipe.gan * losses.generator_loss(logits, saturating=turn.recipe.saturating)


def _critic(turn: Turn, g: Tensor, batch: Batch) -> Moves:
    """The critic's update on the student's samples ``g``, and the discriminator's where there is one."""
    r, t, eps = turn.recipe, turn.score_times(len(g), "score", "critic"), turn.noise(g, "score", "critic")
    x_t = losses.noised(g, eps, t)
    v = velocity(turn.nets.critic, x_t, t, batch.c)  # type: ignore[arg-type]
    yield "critic", "critic", losses.critic_loss(v, x_t, g, eps, t, r.critic_form)
    if r.gan:
        real = losses.noised(turn.real(batch), eps, t)  # the same t and eps for both
        yield "heads", "heads", losses.discriminator_loss(judge(turn, real, t, batch.c), judge(turn, x_t, t, batch.c))


def _matching(turn: Turn, source: Callable[[Batch], Tensor | None], regress: bool = False) -> Moves:
    """One iteration of the DMD family. ``source`` returns the real samples of a forced step, or None: the student's own."""
    r, nets = turn.recipe, turn.nets
    if turn.critic:
        batch = turn.batch("critic")
        x, t = student_input(turn, batch, "critic")
        with torch.no_grad():
            g = x0_hat(nets.student, x, t, batch.c)
        yield from _critic(turn, g, batch)
    if turn.student:
        batch = turn.batch("student")
        x, t = student_input(turn, batch, "student")
        g = x0_hat(nets.student, x, t, batch.c)
        forcing, name = source(batch), r.method
        if forcing is None:
            gradient, name = _gradient(turn, g, batch, g, r.scale), "dmd"
        elif regress:
            gradient = losses.denoising_gradient(g, forcing)
        else:
            gradient = _gradient(turn, g, batch, forcing, r.scale if r.real_scale is None else r.real_scale)
        loss = losses.surrogate(g, gradient)
        yield "student", name, loss + _fooling(turn, g, batch) if r.gan else loss


def in_memory(batch: int, *, x0: Tensor | None = None, c: Tensor | None = None, path: Tensor | None = None) -> Data:
    """Return a source that draws rows, with replacement, of tensors held in memory.

    Args:
        batch: B.
        x0: ``[N, ...]`` real samples; default the paths' ends.
        c: conditions ``[N, ...]``; for class numbers (int64 ``[N]``) independent samples of the same class are drawn, too.
        path: ``[N, m + 1, ...]``.

    Raises:
        InputError: neither samples nor paths, or lengths that differ.
    """
    x0 = path[:, -1] if x0 is None and path is not None else x0
    if x0 is None or batch < 1:
        raise InputError(f"data held in memory needs samples or paths, and batch >= 1; got batch={batch}")
    lengths = {len(part) for part in (x0, c, path) if part is not None}
    if len(lengths) > 1:
        raise InputError(f"samples, conditions and paths must be equally many; got {sorted(lengths)}")
    classes = c is not None and c.ndim == 1 and not c.is_floating_point()
    members = [torch.nonzero(c == k)[:, 0] for k in range(int(c.max()) + 1)] if classes and c is not None else []

    def draw(generator: torch.Generator) -> Batch:
        rows = torch.randint(len(x0), (batch,), generator=generator)
        own, other = None if c is None else c[rows], None
        if own is None:
            other = x0[torch.randint(len(x0), (batch,), generator=generator)]
        elif classes:
            u = torch.rand(batch, generator=generator, dtype=torch.float64)
            other = x0[torch.stack([members[k][int(v * len(members[k]))] for k, v in zip(own.tolist(), u.tolist(), strict=True)])]
        return Batch(x0[rows], own, None if path is None else path[rows], other)

    return draw
