"""Networks small enough to train in a blink."""

import pytest
import torch

from vidistill.data.plane import grid
from vidistill.distill import Nets, cast, in_memory
from vidistill.distill.mlp import VelocityMLP
from vidistill.rng import stream

TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def teacher() -> VelocityMLP:
    return VelocityMLP(width=16, depth=3, seed=1).requires_grad_(False)


@pytest.fixture
def nets(teacher) -> Nets:
    return cast(teacher)


@pytest.fixture
def paths() -> torch.Tensor:
    return torch.randn(32, len(TIMES), 2, generator=stream(0, "paths"))


@pytest.fixture
def data(paths):
    return in_memory(8, x0=grid().draw(32, stream(0, "real"))[0], path=paths)
