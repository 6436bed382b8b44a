import torch

from vidistill import rng


def test_streams_are_reproducible_and_apart():
    draw = lambda *path: torch.randn(4, generator=rng.stream(0, *path))  # noqa: E731
    assert torch.equal(draw("a"), draw("a"))
    assert not torch.equal(draw("a"), draw("b"))
    assert not torch.equal(draw("a", 1), draw("a", 2))


def test_one_batch_of_eight_equals_eight_batches_of_one():
    together = rng.normal(range(8), "init", (2, 3))
    alone = torch.cat([rng.normal([seed], "init", (2, 3)) for seed in range(8)])
    assert torch.equal(together, alone)


def test_global_seed_is_untouched():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    rng.normal([1, 2], "x", (3,))
    assert torch.equal(before, torch.get_rng_state())
