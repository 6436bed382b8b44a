"""One run in several processes: each takes its rows of the same global batch, gradients are averaged, weights may be sharded.

    loss = mean over B rows = mean over the processes of the mean over B / P rows

Every process draws the noise, times and rows of the *whole* batch (they are cheap and owned by streams) and keeps its own: what a run
computes does not depend on how many processes share it, but for the order of float additions. Batches therefore count globally.

Two ways to hold the weights: a copy in each process, whose gradients :meth:`Ranks.average` averages; or shards (FSDP2,
:func:`shard`), where torch does so. What is saved is the same: whole tensors by name, written by the first process, so a sharded run can be
resumed by another number of processes, or by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vidistill.errors import InputError

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which encodes clips for all of them."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run; by default the only one.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    def rows(self, count: int) -> slice:
        """Return which of ``count`` rows of the whole batch are this process's.

        Raises:
            InputError: they cannot be shared evenly.
        """
        if count % self.world:
            raise InputError(f"a batch of {count} cannot be shared by {self.world} processes: make it a multiple of {self.world}")
        own = count // self.world
        return slice(self.rank * own, (self.rank + 1) * own)

    def mean(self, value: float) -> float:
        """Return the mean of a number over the processes."""
        return value if self.world == 1 else self._summed(value) / self.world

    def any(self, flag: bool) -> bool:
        """Return whether some process has raised its flag."""
        return flag if self.world == 1 else self._summed(float(flag)) > 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            self._summed(0.0)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let the first process do a piece of work alone; the others do it after it and find it done."""
        if self.rank:
            self.wait()
        yield
        if not self.rank:
            self.wait()

    def average(self, weights: Iterable[Tensor]) -> None:
        """Average the gradients of weights that each process has a copy of; those of shards are averaged already."""
        if self.world == 1:
            return
        for w in weights:
            if w.grad is None:  # every process takes part in every sum
                w.grad = torch.zeros_like(w)
            if not is_sharded(w):
                dist.all_reduce(w.grad)
                w.grad /= self.world

    @staticmethod
    def _summed(value: float) -> float:
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)  # on the CPU: waiting costs the GPU nothing
        return float(total)


def start(device: torch.device) -> Ranks:
    """Return this process among those that ``accelerate launch`` or ``torchrun`` started, connected; the only one where neither did."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size())


def stop(ranks: Ranks) -> None:
    """Let the processes part after a run."""
    if ranks.world > 1:
        ranks.wait()
        dist.destroy_process_group()


def shard(net: nn.Module, device: torch.device, whole: Iterable[nn.Parameter] = ()) -> nn.Module:
    """Spread a network's weights over the processes (FSDP2): a transformer's blocks one by one, then the rest; in place.

    Args:
        net: a network, e.g. a :class:`vidistill.distill.FlowNet`.
        device: of this process.
        whole: weights that every process keeps a copy of, such as adapters.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not any(True for _ in net.parameters()):
        return net  # a role: its weights are the base's
    options: dict[str, Any] = {"mesh": init_device_mesh(device.type, (dist.get_world_size(),)), "ignored_params": set(whole)}
    for block in getattr(getattr(net, "transformer", net), "blocks", ()):
        fully_shard(block, **options)
    fully_shard(net, **options)
    return net


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is spread over processes."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def gathered(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor, gathered from all processes where it is spread; all of them have to ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def refuse_flat(nets: Iterable[nn.Module]) -> None:
    """Refuse FSDP 1: its flat weights have no names and shapes of their own, so that what is saved could not be read by another run.

    Raises:
        InputError: a network, or a part of it, is wrapped by it.
    """
    from torch.distributed.fsdp import FullyShardedDataParallel

    if any(isinstance(part, FullyShardedDataParallel) for net in nets for part in net.modules()):
        raise InputError("the weights are sharded by FSDP 1, whose flat weights cannot be saved by name: use FSDP 2 (fully_shard)")


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor) -> None:
    """Put a whole tensor into one that may be spread over processes; each takes its part, nothing is sent."""
    if is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        own: Any = tensor
        value = distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    tensor.copy_(value)
