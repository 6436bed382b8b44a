"""A small Wan transformer trained by one process or by several, started by ``test_parallel.py``: python two.py OUT, or torchrun's.

Each way to hold the weights is run through, and again with a stop after two iterations: OUT/<way>/whole, OUT/<way>/parts.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from vidistill.distill import FlowNet, Heads, Recipe, Trainer, cast, in_memory
from vidistill.distill import trainer as trainer_module
from vidistill.distill.lora import Base, adapted
from vidistill.distill.nets import halved
from vidistill.distill.parallel import Ranks, shard, start, stop
from vidistill.errors import Cancelled
from vidistill.files import save_tensors
from vidistill.rng import stream

CPU = torch.device("cpu")
WAYS = ("full", "full-shards", "lora-shards")
RECIPE = Recipe(
    "dfd",
    times=(1.0, 0.5, 0.0),
    updates=2,
    student_update_freq=2,
    gan=0.1,
    lr=1e-3,
    critic_lr=1e-3,
    heads_lr=1e-3,
    scale=2.0,
    ema=0.5,
    clip=0.5,
)
SHAPE = {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4}


def trainer(way: str, ranks: Ranks) -> Trainer:
    torch.manual_seed(0)
    net = WanTransformer3DModel(**SHAPE, text_dim=8, freq_dim=16, ffn_dim=16, num_layers=2, rope_max_seq_len=16)
    draws, heads = stream(0, "clips"), Heads(24, 1, width=8)
    path, text = torch.randn(6, 3, 4, 2, 4, 4, generator=draws), torch.randn(6, 5, 8, generator=draws)
    data, sharded = in_memory(4, path=path, c=text), way.endswith("shards") and ranks.world > 1
    if way.startswith("lora"):
        base = Base(halved(net), 2)
        base.checkpoint()
        if sharded:
            shard(base.flow, CPU, whole=[w for role in base.roles for w in base.matrices(role).values()])
        return Trainer(RECIPE, adapted(base, heads=heads, empty=torch.zeros_like), data, ranks=ranks)
    options = {"prepare": lambda net: shard(net, CPU)} if sharded else {}
    return Trainer(RECIPE, cast(FlowNet(net), heads=heads, empty=torch.zeros_like), data, ranks=ranks, **options)


def cut(stage: str, done: int, total: int) -> None:
    if done == 2:
        raise Cancelled


@contextmanager
def slow_disk() -> Iterator[None]:
    """Let the process that writes be later than one that would read what the run before left."""

    def late(*arguments) -> None:
        time.sleep(0.5)
        save_tensors(*arguments)

    trainer_module.save_tensors = late
    try:
        yield
    finally:
        trainer_module.save_tensors = save_tensors


def main(out: Path) -> None:
    torch.set_num_threads(1)
    ranks = start(CPU)
    for way in WAYS:
        trainer(way, ranks).run(out / way / "whole")
        try:
            with slow_disk():  # the last process is the one that is asked to stop
                trainer(way, ranks).run(out / way / "parts", progress=cut if ranks.rank == ranks.world - 1 else lambda *_: None)
        except Cancelled:
            trainer(way, ranks).run(out / way / "parts")
    stop(ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
