"""FreeInit against the stock AnimateDiff pipeline, its counts, its noise and what it refuses."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import LowPass
from vidistill.rng import normal
from vidistill.sample import freeinit, load_denoiser, sample
from vidistill.schedule import First

PROMPTS = ["a red star orbiting over a navy background", "a blue ring falling, still camera"]


def test_freeinit_equals_the_stock_pipeline(tiny_motion, stock_latents, monkeypatch) -> None:
    from diffusers.pipelines import free_init_utils

    model = load_denoiser(tiny_motion)
    iteration = count(1)
    monkeypatch.setattr(free_init_utils, "randn_tensor", lambda **_: normal([3, 4], f"free-init/{next(iteration)}", model.shape))
    prepare = lambda pipe: pipe.enable_free_init(num_iters=3, method="butterworth")  # noqa: E731
    theirs = stock_latents(tiny_motion, model, PROMPTS, seeds=[3, 4], steps=3, guidance=3.0, prepare=prepare)
    *_, ours = freeinit(model, PROMPTS, seeds=[3, 4], iterations=3, steps=3, guidance=3.0)
    torch.testing.assert_close(ours.latents, theirs, rtol=1e-4, atol=1e-4)
    assert next(iteration) == 3


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_motion"])
def test_one_iteration_is_the_sampler_bit_for_bit(which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    options = {"seeds": [3, 4], "steps": 3, "guidance": 2.0}
    *_, plain = sample(model, PROMPTS, **options)
    first = list(freeinit(model, PROMPTS, iterations=1, **options))
    assert torch.equal(first[-1].latents, plain.latents)
    more = list(freeinit(model, PROMPTS, iterations=3, **options))
    assert torch.equal(more[2].latents, plain.latents)
    assert not torch.allclose(more[-1].latents, plain.latents)


def test_records_count_through(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    records = list(freeinit(model, PROMPTS, seeds=[3, 4], iterations=3, steps=2, guidance=2.0, operators=[LowPass(interval=First(1))]))
    assert [step.index for step in records] == list(range(6))
    assert {step.steps for step in records} == {6}
    assert [step.evaluations for step in records] == [2, 4, 6, 8, 10, 12]
    assert all(a.seconds < b.seconds for a, b in pairwise(records))
    assert [bool(step.forces) for step in records] == [True, False] * 3


def test_a_clip_depends_on_its_own_seed(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    *_, both = freeinit(model, PROMPTS, seeds=[5, 6], iterations=2, steps=2, guidance=2.0)
    *_, alone = freeinit(model, PROMPTS[1:], seeds=[6], iterations=2, steps=2, guidance=2.0)
    assert (both.latents[1] - alone.latents[0]).abs().max() <= 1e-4 * alone.latents.abs().max()


def test_bad_settings_are_one_line(tiny_unet, tiny_dit) -> None:
    model = load_denoiser(tiny_unet)
    for options, words in (
        ({"iterations": 0}, "iterations >= 1"),
        ({"space": 0.0}, "cut-offs in"),
        ({"steps": 0}, "steps must be 1 or more"),
    ):
        with pytest.raises(InputError, match=words):
            freeinit(model, PROMPTS, seeds=[1, 2], **options)
    with pytest.raises(InputError, match="tiny-dit: a flow begins at pure noise"):
        freeinit(load_denoiser(tiny_dit), PROMPTS, seeds=[1, 2])
