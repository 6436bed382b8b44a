"""Adapters on one base: teacher, student and critic of a run are one transformer, of whose weights there is one copy (LoRA, 2106.09685).

    W x                     teacher: no adapter, the base bit for bit
    W x + B_s A_s x         student          A [r, in], B [out, r], B = 0 at the start: both begin as the teacher
    W x + B_c A_c x         critic

W is frozen and may be bf16; A and B are float32. The scale alpha / r is 1, so that a file of A and B alone says everything: the tools that
read it assume just that. peft puts A and B beside every linear layer of attention and feed-forward; which of them work is set for each call
here, and again where gradient checkpointing runs a block anew in the backward pass, when others may have been asked last.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vidistill.distill.methods import Nets
from vidistill.distill.nets import FlowNet, Heads
from vidistill.distill.parallel import fill, gathered
from vidistill.errors import InputError
from vidistill.rng import stream_seed

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""The layers of a Wan block that are adapted: attention's (self and cross) and the feed-forward's."""

ROLES = ("student", "critic")
"""Who has an adapter."""

FILE = "pytorch_lora_weights.safetensors"
"""Where diffusers looks for an adapter."""

PREFIX = "transformer."
"""What diffusers calls the network that an adapter's layers belong to."""


class Base:
    """A transformer with adapters for some roles; a copy of it shares the frozen weights.

    Args:
        transformer: a ``WanTransformer3DModel``; adapters are put into it, its own weights are frozen.
        rank: r.
        roles: who gets an adapter.
        seed: of A.

    Raises:
        InputError: ``rank`` < 1, peft is not installed, or the network has none of the layers.
    """

    def __init__(self, transformer: Any, rank: int, *, roles: Sequence[str] = ROLES, seed: int = 0) -> None:
        check_rank(rank)
        inject, config = _peft()
        options = config(r=rank, lora_alpha=rank, target_modules=list(TARGETS), lora_dropout=0.0)
        transformer.requires_grad_(False)
        for role in roles:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # the other role's
                torch.manual_seed(stream_seed(seed, "distill", "lora", role))
                try:
                    inject(options, transformer, adapter_name=role)
                except ValueError as error:
                    raise InputError(f"{type(transformer).__name__} cannot be adapted: {error}") from None
        self.flow, self.rank, self.roles, self.active = FlowNet(transformer), rank, tuple(roles), "all"
        self.layers: dict[str, Any] = {name: part for name, part in transformer.named_modules() if hasattr(part, "lora_A")}
        for layer in self.layers.values():
            for role in roles:
                for part in (layer.lora_A[role], layer.lora_B[role]):
                    part.float().requires_grad_(True)
        self._ask("")

    def __deepcopy__(self, memo: dict[int, Any]) -> Base:
        memo |= {id(w): w for w in self.flow.parameters() if not w.requires_grad}
        memo[id(self)] = twin = Base.__new__(Base)
        twin.__dict__ |= {name: copy.deepcopy(value, memo) for name, value in vars(self).items()}
        return twin

    @property
    def transformer(self) -> Any:
        """The network with all its adapters."""
        return self.flow.transformer

    def matrices(self, role: str) -> dict[str, nn.Parameter]:
        """Return A and B of a role by diffusers' names, without the prefix."""
        return {f"{name}.lora_{ab}.weight": getattr(layer, f"lora_{ab}")[role].weight for name, layer in self.layers.items() for ab in "AB"}

    @contextmanager
    def asked(self, role: str) -> Iterator[None]:
        """Let a role's adapter work, and no other; ``""`` is the teacher: none."""
        before = self.active
        self._ask(role)
        try:
            yield
        finally:
            self._ask(before)

    def _ask(self, role: str) -> None:
        if role == self.active:
            return
        for layer in self.layers.values():  # peft's own switches freeze the adapters that do not work, which still have to learn
            layer._disable_adapters = not role
            if role:
                layer._active_adapter = role
        self.active = role

    def checkpoint(self) -> None:
        """Keep of each block only its input for the backward pass (gradient checkpointing), with the adapter that it was asked with."""
        self.transformer.enable_gradient_checkpointing(self._checkpointed)

    def _checkpointed(self, block: nn.Module, *given: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(self._block, self.active, block, *given, use_reentrant=False)

    def _block(self, role: str, block: nn.Module, *given: Any) -> Any:
        with self.asked(role):
            return block(*given)

    # --------------------------------------------------------------------------------------------------------------------- in and out

    def adapter(self, role: str = "student") -> dict[str, Tensor]:
        """Return a role's adapter as ``WanPipeline.load_lora_weights`` takes it."""
        return {PREFIX + name: w.detach() for name, w in self.matrices(role).items()}

    def load(self, tensors: Mapping[str, Tensor], role: str, what: str) -> None:
        """Put an adapter in.

        Raises:
            InputError: it is of another rank or another architecture.
        """
        own = {PREFIX + name: w for name, w in self.matrices(role).items()}
        odd = [name for name in {**own, **tensors} if name not in own or name not in tensors or own[name].shape != tensors[name].shape]
        if odd:
            mine, theirs = (tuple(some[odd[0]].shape) if odd[0] in some else "nothing" for some in (own, tensors))
            raise InputError(
                f"the adapter of {what} does not fit {self.flow.label} with rank {self.rank}: {len(odd)} of its weights differ, "
                f"e.g. {odd[0]} is {mine} here and {theirs} there"
            )
        for name, w in own.items():
            fill(w.data, tensors[name])

    @torch.no_grad()
    def merged(self, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a plain transformer's weights with an adapter in them, ``W + B A``, rounded once to the type of W; whole."""
        found = {}
        for name, w in self.transformer.state_dict().items():
            if ".lora_" not in name:
                found[name.replace(".base_layer.", ".")] = gathered(w)
        for name in self.layers:
            w, a, b = found[f"{name}.weight"], *(adapter[f"{PREFIX}{name}.lora_{ab}.weight"] for ab in "AB")
            found[f"{name}.weight"] = (w.float() + b.to(w.device) @ a.to(w.device)).to(w.dtype)
        return found


class Adapted(nn.Module):
    """A role on a :class:`Base` as ``net(x, t, c)``; its parameters are its adapter's alone: only they are stepped and saved.

    Args:
        base: shared with the other roles.
        role: of ``base.roles``; ``""`` is the teacher.
    """

    def __init__(self, base: Base, role: str = "") -> None:
        super().__init__()
        self.base, self.role = base, role
        for name, w in (base.matrices(role) if role else {}).items():
            self.register_parameter(name.removesuffix(".weight").replace(".", "/"), w)

    @staticmethod
    def exported(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state of a role by diffusers' names, see :meth:`Base.adapter`."""
        return {f"{PREFIX}{name.replace('/', '.')}.weight": w for name, w in weights.items()}

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Return the velocity ``[B, C, T, H, W]``, see :class:`vidistill.distill.FlowNet`."""
        with self.base.asked(self.role):
            return self.base.flow(x, t, c)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.base.flow.depth

    @property
    def label(self) -> str:
        """Class, shape and rank, in words."""
        return f"{self.base.flow.label}, LoRA of rank {self.base.rank}" if self.role else self.base.flow.label

    def features(self, x: Tensor, t: Tensor, c: Tensor, block: int) -> Tensor:
        """Return the output of a block as cells, see :meth:`vidistill.distill.FlowNet.features`."""
        with self.base.asked(self.role):
            return self.base.flow.features(x, t, c, block)


def adapted(base: Base, *, heads: Heads | None = None, empty: Any = None) -> Nets:
    """Return the networks of a run on one base: teacher, student and, where the base has one, critic."""
    critic = Adapted(base, "critic") if "critic" in base.roles else None
    return Nets(Adapted(base, "student"), Adapted(base), critic, heads, empty)


def check_rank(rank: int) -> int:
    """Return a LoRA rank.

    Raises:
        InputError: it is below 1.
    """
    if rank < 1:
        raise InputError(f"LoRA rank {rank} is out of range: it must be 1 or more; all weights are learned without LoRA")
    return rank


def _peft() -> tuple[Any, Any]:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("LoRA needs peft: pip install 'vidistill[lora]'") from None
    return inject_adapter_in_model, LoraConfig
