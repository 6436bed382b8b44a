"""The one loop that trains every method: it steps where a method yields a loss, keeps the state, and stops before a bad step.

    for who, name, loss in method(turn):    g = grad loss,   |g| <= clip,   AdamW step of ``who``
    ema <- d ema + (1 - d) W                after a student update, where d > 0

All randomness comes from ``stream(seed, "distill", name, iteration)`` and the state (weights, AdamW's moments, average, iteration) is saved
as it is, so a resumed run equals the uninterrupted one bit for bit on a CPU. A loss or gradient that is not finite ends the run before the
step is taken: the networks keep their last good weights.

Models that do not fit one GPU: ``prepare`` is given each network before the optimisers are made (:func:`vidistill.distill.parallel.shard`,
``accelerator.prepare_model``), ``backward`` runs the gradient (``accelerator.backward``), ``ranks`` says which process of several this is.
A state holds whole tensors by name, gathered and written by the first process: sharded runs resume like any other.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidistill.distill.methods import METHODS, Data, Nets, Turn
from vidistill.distill.parallel import Ranks, fill, gathered, is_sharded, refuse_flat
from vidistill.distill.recipe import Recipe, turns
from vidistill.errors import Cancelled, InputError, choose
from vidistill.files import ensure_folder, load_json, load_tensors, save_json, save_tensors
from vidistill.types import Progress, silent

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""


class NotFinite(InputError):
    """A loss or a gradient that is not a number; the step it belongs to was not taken."""


@dataclass(frozen=True)
class Update:
    """What one iteration did.

    Attributes:
        iteration: from 1 on.
        updates: student updates so far; methods are compared by these.
        losses: mean of each loss that was stepped on, by name.
        norms: gradient norm of each network before clipping, the last one of the iteration.
        seconds: of the clock.
        seen: what a monitor said.
    """

    iteration: int
    updates: int
    losses: dict[str, float]
    norms: dict[str, float]
    seconds: float
    seen: dict[str, float] = field(default_factory=dict)


Watch = Callable[["Trainer"], Mapping[str, float]]
"""A monitor: looks at the student (coverage, saturation, ...) and says numbers; it must draw from streams of its own."""


class Trainer:
    """A run of a recipe: iterate over :meth:`steps`, or let :meth:`run` do so with checkpoints.

    Args:
        recipe: what to do.
        nets: the networks; a critic that is missing is made as a copy of the teacher. They are changed in place.
        data: see :class:`vidistill.distill.methods.Data`.
        seed: names the streams.
        device: where to.
        about: what else a resumed run must have in common (the teacher's fingerprint, the data's digest), JSON-ready.
        prepare, backward, ranks: see above. With sharded weights everything that looks at the state is called in all processes.

    Raises:
        InputError: unknown method, a network that it needs is missing, or it is sharded by FSDP 1.
    """

    def __init__(
        self,
        recipe: Recipe,
        nets: Nets,
        data: Data,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        about: dict[str, Any] | None = None,
        prepare: Callable[[nn.Module], nn.Module] = lambda net: net,
        backward: Callable[[Tensor], object] = Tensor.backward,
        ranks: Ranks = Ranks(),  # noqa: B008, frozen
    ) -> None:
        method = METHODS[choose("method", recipe.method, METHODS)]
        if nets.teacher is None and recipe.method != "flow":
            raise InputError(f"method {recipe.method!r} needs a teacher")
        if method.critic and nets.critic is None:
            if not isinstance(nets.teacher, nn.Module):
                raise InputError(f"method {recipe.method!r} needs a critic: the teacher is no network that could be copied")
            nets.critic = copy.deepcopy(nets.teacher).requires_grad_(True)
        if method.heads(recipe) and nets.heads is None:
            raise InputError(f"method {recipe.method!r} needs discriminator heads (Nets.heads), or its weight (gan, adversarial) at 0")
        self.recipe, self.nets, self.data, self.seed, self.method = recipe, nets, data, seed, method
        self.device, self.backward, self.about, self.ranks = torch.device(device), backward, about or {}, ranks
        if isinstance(nets.teacher, nn.Module):
            nets.teacher = prepare(nets.teacher.to(self.device).eval().requires_grad_(False))
        learning = nets.learning() if method.critic or method.heads(recipe) else {"student": nets.student}
        self.learning = {who: prepare(net.to(self.device).train()) for who, net in learning.items()}
        for who, net in self.learning.items():
            setattr(nets, who, net)
        refuse_flat(self.learning.values())
        rates = {"student": recipe.lr, "critic": recipe.critic_lr, "heads": recipe.heads_lr}
        self.optimisers = {who: _adamw(who, net, rates[who], recipe) for who, net in self.learning.items()}
        self.average = {name: w.detach().clone() for name, w in _learning(nets.student).items()} if recipe.ema else {}
        self.iteration, self.updates, self.log = 0, 0, list[Update]()

    @property
    def iterations(self) -> int:
        """How many there are in the whole run."""
        return self.recipe.updates * (self.recipe.student_update_freq if self.method.critic else 1)

    def student(self) -> nn.Module:
        """Return the student to sample with, without gradient: with averaged weights where there is an average, else a plain copy.

        Of several processes it is the student that learns, which may be sharded; :meth:`weights` has the average, whole.
        """
        if self.ranks.world > 1 or any(is_sharded(w) for w in self.nets.student.parameters()):
            return self.nets.student
        net = copy.deepcopy(self.nets.student).eval().requires_grad_(False)
        if self.average:
            own = dict(net.named_parameters())
            with torch.no_grad():
                for name, tensor in self.average.items():
                    own[name].copy_(tensor)
        return net

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of :meth:`student` by name, whole."""
        return {name: gathered(self.average.get(name, w)) for name, w in self.nets.student.state_dict().items()}

    # ------------------------------------------------------------------------------------------------------------------------- the loop

    def steps(self) -> Iterator[Update]:
        """Yield a record after each iteration until the run is complete; the state may be saved and the student looked at between two.

        Raises:
            InputError: a loss or gradient is not finite; the line says which, and at which iteration and student update.
        """
        while self.iteration < self.iterations:
            begin, r = time.perf_counter(), self.recipe
            student, critic = turns(self.iteration + 1, r.student_update_freq, r.counting) if self.method.critic else (True, True)
            turn = Turn(r, self.nets, self.data, self.seed, self.iteration + 1, student, critic, self.device, self.ranks)
            losses: dict[str, list[float]] = {}
            norms: dict[str, float] = {}
            moves = self.method.moves(turn)
            while (move := self._next(moves)) is not None:
                who, name, loss = move
                value, norms[who] = self._step(who, name, loss)
                losses.setdefault(name, []).append(value)
            self.iteration += 1
            means = {name: sum(values) / len(values) for name, values in losses.items()}
            self.log.append(Update(self.iteration, self.updates, means, norms, time.perf_counter() - begin))
            yield self.log[-1]

    def _next(self, moves: Any) -> tuple[str, str, Tensor] | None:
        """Let the method go on to its next loss.

        Casts of weights are not cached: older torch uses those made without gradient again where one is needed (pytorch#158232).
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16", cache_enabled=False):
            return next(moves, None)

    def _step(self, who: str, name: str, loss: Tensor) -> tuple[float, float]:
        """Step a network on a loss; return loss and gradient norm."""
        where = f"at iteration {self.iteration + 1} (student update {self.updates + (who == 'student')})"
        value = self.ranks.mean(float(loss.detach()))
        if not math.isfinite(value):
            raise NotFinite(f"the {name} loss is not finite {where}: lower {who}'s learning rate, or clip below {self.recipe.clip:g}")
        optimiser = self.optimisers[who]
        # A loss may run through other networks: what it leaves there counts for nothing. Asked of the optimisers: after a forward pass
        # without gradient the parameters of a sharded network are not its shards.
        for other in self.optimisers.values():
            other.zero_grad(set_to_none=True)
        self.backward(loss)
        weights = optimiser.param_groups[0]["params"]
        self.ranks.average(weights)
        norm = float(gathered(nn.utils.clip_grad_norm_(weights, self.recipe.clip or math.inf)))
        if not math.isfinite(norm):
            raise NotFinite(f"the gradient of the {name} loss is not finite {where}: lower {who}'s learning rate")
        optimiser.param_groups[0]["lr"] = optimiser.defaults["lr"] * self._rate()
        optimiser.step()
        if who == "student":
            self.updates += 1
            if self.average:
                with torch.no_grad():
                    torch._foreach_lerp_(list(self.average.values()), list(_learning(self.nets.student).values()), 1 - self.recipe.ema)
        return value, norm

    def _rate(self) -> float:
        """Return the factor on the learning rates."""
        return 1.0 if self.recipe.decay == "constant" else 0.5 * (1 + math.cos(math.pi * self.iteration / self.iterations))

    def run(
        self,
        out: str | Path | None = None,
        *,
        progress: Progress = silent,
        watch: Watch | None = None,
        every: int = 50,
        checkpoint_minutes: float = 5.0,
    ) -> nn.Module:
        """Run to the end and return :meth:`student`; with ``out`` the same call resumes an interrupted run.

        Args:
            out: folder; gets ``state.safetensors`` (all that resuming needs), ``log.json`` and at the end ``student.safetensors``.
            progress: called after each iteration with ``(method, done, total)``.
            watch: asked at the beginning, after each ``every`` student updates, and at the end; its answers are ``seen`` in the log.
            every: see ``watch``.
            checkpoint_minutes: time between checkpoints.

        Raises:
            InputError: ``out`` holds another run, or the run diverged: the line says at which step, and where the last good weights are.
            Cancelled: from ``progress``; the state is saved first.
        """
        folder = None if out is None else ensure_folder(out)
        if folder is not None and (folder / "state.safetensors").exists():
            self.load(folder)
        elif watch is not None and not self.iteration:
            self.log.append(Update(0, 0, {}, {}, 0.0, dict(watch(self))))
        saved, seen = time.monotonic(), self.updates // every
        try:
            for update in self.steps():
                if watch is not None and (self.updates // every > seen or self.iteration == self.iterations):
                    seen = self.updates // every
                    self.log[-1] = Update(**{**vars(update), "seen": dict(watch(self))})
                if folder is not None and self.ranks.any(time.monotonic() - saved > 60 * checkpoint_minutes):
                    self.save(folder)
                    saved = time.monotonic()
                stop: Cancelled | None = None
                try:
                    progress(self.recipe.method, self.iteration, self.iterations)
                except Cancelled as asked:
                    stop = asked
                if self.ranks.any(stop is not None):  # all processes stop after the same iteration
                    raise stop or Cancelled
        except Cancelled:
            if folder is not None:
                self.save(folder)
            raise
        except NotFinite as error:
            left = "the networks keep the weights of before that step"
            if folder is not None:
                self.write_student(folder / "student.safetensors")
                left = f"{folder / 'student.safetensors'} holds the student's weights of before that step"
                left += ", state.safetensors the last checkpoint" if (folder / "state.safetensors").exists() else ""
            raise InputError(f"{error}; {left}") from None
        if folder is not None:
            self.save(folder)
            self.write_student(folder / "student.safetensors")
        return self.student()

    # ------------------------------------------------------------------------------------------------------------------------ the state

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name: learning weights and buffers, AdamW's moments, the average."""
        found: dict[str, Tensor] = {f"average/{name}": tensor for name, tensor in self.average.items()}
        for who, net in self.learning.items():
            found |= {f"{who}/{name}": tensor.detach() for name, tensor in _kept(net).items()}
            names = {w: name for name, w in net.named_parameters()}
            for w in self.optimisers[who].param_groups[0]["params"]:
                found |= {f"adam/{who}/{key}/{names[w]}": self.optimisers[who].state[w][key] for key in MOMENTS}
        return found

    def facts(self) -> dict[str, Any]:
        """Return what a run must have in common with the one it resumes."""
        return {"recipe": self.recipe.as_dict(), "seed": self.seed, "about": self.about}

    def save(self, folder: str | Path) -> None:
        """Write the state, atomically; when it returns, in any process, the state is there.

        Raises:
            InputError: a weight is not finite (the older state stays), or the folder cannot be written.
        """
        tensors = {name: gathered(tensor) for name, tensor in self.tensors().items()}
        if bad := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
            raise InputError(f"{bad[0]} is not finite after iteration {self.iteration}: not saved, an older state stays as it is")
        if not self.ranks.rank:
            record = {**self.facts(), "iteration": self.iteration, "updates": self.updates}
            save_json(Path(folder) / "log.json", [asdict(update) for update in self.log])
            save_tensors(Path(folder) / "state.safetensors", tensors, {"record": json.dumps(record)})
        self.ranks.wait()  # who resumed from an older state than the others would be out of step with them for ever

    def load(self, folder: str | Path) -> None:
        """Continue from a saved state.

        Raises:
            InputError: it is damaged, of other networks, or of a run with another recipe, seed or data; the line names what differs.
        """
        path = Path(folder) / "state.safetensors"
        tensors, metadata = load_tensors(path)
        record, own = json.loads(metadata.get("record", "{}")), self.tensors()
        mine = json.loads(json.dumps(self.facts()))
        theirs = {key: record.get(key) for key in mine}
        if theirs != mine:
            names = [key for key in mine["recipe"] if (theirs["recipe"] or {}).get(key) != mine["recipe"][key]]
            names += [key for key in ("seed", "about") if theirs[key] != mine[key]]
            raise InputError(f"{path} is the state of another run ({', '.join(names)} differ): use another folder, or what it began with")
        if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in tensors.items()}:
            raise InputError(f"{path} is the state of other networks than these: use another folder")
        for name, tensor in own.items():
            fill(tensor, tensors[name])
        self.iteration, self.updates = record["iteration"], record["updates"]
        log = load_json(Path(folder) / "log.json")
        self.log = [Update(**line) for line in log if line["iteration"] <= self.iteration]

    def write_student(self, path: str | Path) -> None:
        """Write the weights of :meth:`student` with the recipe that made them."""
        record, weights = {**self.facts(), "iteration": self.iteration, "updates": self.updates}, self.weights()
        if not self.ranks.rank:
            save_tensors(path, weights, {"record": json.dumps(record)})


def _adamw(who: str, net: nn.Module, lr: float, recipe: Recipe) -> torch.optim.AdamW:
    """Return an optimiser whose moments exist from the beginning, so that every state has the same tensors."""
    weights = list(_learning(net).values())
    if not weights:
        raise InputError(f"the {who} has no weights to learn: all of them are frozen")
    fused = not any(is_sharded(w) for w in weights)
    optimiser = torch.optim.AdamW(weights, lr=lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=fused)
    for w in weights:
        step = torch.zeros((), device=w.device if fused else "cpu")
        optimiser.state[w] = {"step": step, "exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}
    return optimiser


def _learning(net: nn.Module) -> dict[str, Tensor]:
    return {name: w for name, w in net.named_parameters() if w.requires_grad}


def _kept(net: nn.Module) -> dict[str, Tensor]:
    """Return what a state keeps of a network: weights that learn, and buffers; frozen weights are the caller's."""
    return {
        name: tensor
        for name, tensor in net.state_dict(keep_vars=True).items()
        if not isinstance(tensor, nn.Parameter) or tensor.requires_grad
    }
