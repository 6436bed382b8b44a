"""The sampler against the stock pipelines, bit for bit, and what it promises about seeds, batches and bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vidistill.errors import InputError
from vidistill.rng import normal
from vidistill.sample import generate, load_denoiser, sample

PROMPTS = ["a red star orbiting over a navy background", "a blue ring falling, still camera"]


def last(*args, **options):
    *_, step = sample(*args, **options)
    return step


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("steps", [3, 7])
def test_epsilon_equals_the_stock_pipeline(tiny_unet, stock_latents, guidance, steps) -> None:
    model = load_denoiser(tiny_unet)
    ours = last(model, PROMPTS, seeds=[3, 4], steps=steps, guidance=guidance).latents
    theirs = stock_latents(tiny_unet, model, PROMPTS, seeds=[3, 4], steps=steps, guidance=guidance)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_flow_equals_the_stock_pipeline(tiny_dit, stock_latents, guidance) -> None:
    model = load_denoiser(tiny_dit)
    ours = last(model, PROMPTS, seeds=[3, 4], steps=5, guidance=guidance).latents
    theirs = stock_latents(tiny_dit, model, PROMPTS, seeds=[3, 4], steps=5, guidance=guidance)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_dit"])
def test_a_clip_depends_on_its_own_seed_and_prompt(which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    both = generate(model, PROMPTS, seeds=[5, 6], steps=3, batch=2)
    alone = generate(model, PROMPTS[1:], seeds=[6], steps=3)
    assert both.shape == (2, *model.shape)
    assert torch.allclose(both[1:], alone, atol=1e-4)  # a batch of another size may round differently
    other = generate(model, PROMPTS[1:], seeds=[7], steps=3)
    assert (other - alone).abs().mean() > 0.1
    assert torch.equal(generate(model, PROMPTS, seeds=[5, 6], steps=3, batch=1)[1:], alone)


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_dit"])
def test_a_record_tells_what_a_step_did(which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    records = list(sample(model, PROMPTS[:1], seeds=[1], steps=4, guidance=2.0))
    assert [step.index for step in records] == [0, 1, 2, 3]
    assert [step.evaluations for step in records] == [2, 4, 6, 8]
    assert [step.evaluations for step in sample(model, PROMPTS[:1], seeds=[1], steps=2, guidance=1.0)] == [1, 2]
    noise = normal([1], "init", model.shape)
    first = records[0]
    variance = first.alpha**2 + first.sigma**2 if model.family == "epsilon" else first.alpha + first.sigma
    assert variance == pytest.approx(1, abs=1e-6)
    assert records[-1].sigma < first.sigma
    with torch.inference_mode():  # what the record calls x0 is what the latents were made of
        eps = (noise - first.alpha * first.x0) / first.sigma
        begin = first.alpha * first.x0 + first.sigma * eps
    assert torch.allclose(begin, noise, atol=1e-5)
    assert 0 < records[0].seconds < records[-1].seconds
    if model.family == "flow":
        assert torch.allclose(records[-1].x0, records[-1].latents, atol=1e-5)


def test_time_of_the_caller_is_not_counted(tiny_dit, monkeypatch) -> None:
    from vidistill.sample import sampler

    now = [100.0]
    monkeypatch.setattr(sampler.time, "perf_counter", lambda: now[0])
    model = load_denoiser(tiny_dit)
    advance = model.advance

    def slow(*args):
        now[0] += 2
        return advance(*args)

    monkeypatch.setattr(model, "advance", slow)
    seconds = []
    for step in sample(model, PROMPTS[:1], seeds=[1], steps=3):
        seconds.append(step.seconds)
        now[0] += 50
    assert seconds == [2, 4, 6]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be 1 or more"),
        ({"guidance": 0.5}, "guidance=0.5: it must be 1"),
        ({"seeds": [1, 2]}, "one prompt and one seed a clip"),
    ],
)
def test_bad_settings_are_named_before_any_work(tiny_dit, options, words) -> None:
    with pytest.raises(InputError, match=words):
        sample(load_denoiser(tiny_dit), PROMPTS[:1], **({"seeds": [1]} | options))


def test_a_value_that_is_not_finite_stops_with_the_step(tiny_dit) -> None:
    model = load_denoiser(tiny_dit)
    model.parts["transformer"].proj_out.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"not finite at step 1 of 3"):
        generate(model, PROMPTS[:1], seeds=[1], steps=3)


@pytest.mark.parametrize("folder", ["tiny_unet", "tiny_dit"])
def test_two_threads_have_their_own_grids(folder, request):
    model = load_denoiser(str(request.getfixturevalue(folder)))
    times = lambda steps: [float(now.t) for now, _ in model.grid(steps)]  # noqa: E731
    alone = {steps: times(steps) for steps in (7, 25)}
    with ThreadPoolExecutor(2) as pool:
        runs = {steps: pool.submit(lambda steps=steps: [times(steps) for _ in range(400)]) for steps in alone}
        for steps, run in runs.items():
            assert all(found == alone[steps] for found in run.result())
