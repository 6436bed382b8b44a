"""The sampler with operators: against the stock pipelines, against closed forms, and what its records and tapes promise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import CfgPlus, LowPass, Pull
from vidistill.rng import normal
from vidistill.sample import Denoiser, fork, load_denoiser, load_tape, record, sample
from vidistill.schedule import Interval, ddim_sigma

PROMPTS = ["a red star orbiting over a navy background", "a blue ring falling, still camera"]


def last(*args, **options):
    *_, step = sample(*args, **options)
    return step.latents


def with_our_noise(pipe, seeds, shape, flat: bool, steps: int) -> None:
    """Let a stock DDIM scheduler add the sampler's own noise, step by step."""
    step, grid = pipe.scheduler.step, iter(range(steps))

    def ours(model_output, timestep, sample, eta=0.0, generator=None, return_dict=True):
        noise = normal(seeds, f"step/{next(grid)}", shape)
        if flat:
            noise = noise.transpose(1, 2).flatten(0, 1)
        return step(model_output, timestep, sample, eta=eta, variance_noise=noise if eta else None, return_dict=return_dict)

    pipe.scheduler.step = ours


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_modelscope_with_eta_equals_the_stock_pipeline(tiny_unet, stock_latents, eta) -> None:
    model = load_denoiser(tiny_unet)
    ours = last(model, PROMPTS, seeds=[3, 4], steps=4, guidance=3.0, eta=eta)
    prepare = partial(with_our_noise, seeds=[3, 4], shape=model.shape, flat=True, steps=4)
    theirs = stock_latents(tiny_unet, model, PROMPTS, seeds=[3, 4], steps=4, guidance=3.0, prepare=prepare, eta=eta)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_animatediff_equals_the_stock_pipeline(tiny_motion, stock_latents, eta) -> None:
    model = load_denoiser(tiny_motion)
    ours = last(model, PROMPTS, seeds=[3, 4], steps=3, guidance=3.0, eta=eta)
    prepare = partial(with_our_noise, seeds=[3, 4], shape=model.shape, flat=False, steps=3)
    theirs = stock_latents(tiny_motion, model, PROMPTS, seeds=[3, 4], steps=3, guidance=3.0, prepare=prepare, eta=eta)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_motion", "tiny_dit"])
def test_an_operator_without_effect_leaves_every_bit(which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    m = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    options = {"seeds": [1], "steps": 3, "guidance": 2.0}
    plain = last(model, PROMPTS[:1], **options)
    idle = [Pull(m, 0.0), Pull(m, 0.5, interval=Interval(0.5, 0.0)), LowPass(interval=Interval(0.5, 0.0))]
    assert torch.equal(last(model, PROMPTS[:1], operators=idle, **options), plain)
    assert not torch.equal(last(model, PROMPTS[:1], operators=[Pull(m, 0.5)], **options), plain)


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_dit"])
def test_eight_clips_at_once_and_one_by_one(which, request) -> None:
    """Libraries pick other kernels for other batch sizes, so a batch may differ by rounding: it stays below 1e-4 of the latents' size."""
    model = load_denoiser(request.getfixturevalue(which))
    prompts, seeds = PROMPTS * 4, list(range(8))
    m = torch.randn(8, *model.shape, generator=torch.Generator().manual_seed(0))
    options = {"steps": 3, "guidance": 3.0}
    low_pass = LowPass(interval=Interval(1000, 900))
    together = last(model, prompts, seeds=seeds, operators=[Pull(m, 0.3), low_pass], **options)
    for i in range(8):
        alone = last(model, prompts[i : i + 1], seeds=[i], operators=[Pull(m[i : i + 1], 0.3), low_pass], **options)
        assert (together[i] - alone[0]).abs().max() <= 1e-4 * alone.abs().max()


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_motion", "tiny_dit"])
def test_a_pull_moves_the_clean_video_by_what_it_says(which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    m = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    options = {"seeds": [1], "steps": 3, "guidance": 2.0}
    plain = next(sample(model, PROMPTS[:1], **options))
    pull = Pull(m, 0.2, "blend", "linear")
    pulled = next(sample(model, PROMPTS[:1], operators=[pull], **options))
    w = torch.tensor([1 - f / 16 for f in range(16)]).view(1, 1, -1, 1, 1)
    torch.testing.assert_close(pulled.x0, plain.x0 + 0.2 * w * (m - plain.x0))
    torch.testing.assert_close(pulled.forces["pull"], (0.2 * w * (m - plain.x0)).square().mean((1, 3, 4)).sqrt())
    now, after = model.grid(3)[0]
    eps = (normal([1], "init", model.shape) - now.alpha * pulled.x0) / now.sigma
    torch.testing.assert_close(pulled.latents, after.alpha * pulled.x0 + after.sigma * eps, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_type_is_shifted_alike(tiny_unet, prediction) -> None:
    model = load_denoiser(tiny_unet)
    model.scheduler.register_to_config(prediction_type=prediction)
    draw = torch.Generator().manual_seed(0)
    x, out, change = (torch.randn(1, *model.shape, dtype=torch.float64, generator=draw) for _ in range(3))
    for now, _ in model.grid(5):
        moved = model.clean(x, model.shifted(out, change, now), now) - model.clean(x, out, now)
        torch.testing.assert_close(moved, change, rtol=1e-6, atol=1e-6)
        eps, x0 = model.noise(x, out, now), model.clean(x, out, now)
        torch.testing.assert_close(now.alpha * x0 + now.sigma * eps, x, rtol=1e-5, atol=1e-5)


def test_order_of_composition_is_the_lists(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    a, b = (torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    pulls = [Pull(a, 0.4, "blend", name="a"), Pull(b, 0.4, "blend", name="b")]
    first, second = (next(sample(model, PROMPTS[:1], seeds=[1], steps=2, operators=ops)) for ops in (pulls, pulls[::-1]))
    plain = next(sample(model, PROMPTS[:1], seeds=[1], steps=2))
    w = torch.tensor([1 - f / 16 for f in range(16)]).view(1, 1, -1, 1, 1)
    after_a = plain.x0 + 0.4 * w * (a - plain.x0)
    torch.testing.assert_close(first.x0, after_a + 0.4 * w * (b - after_a))
    assert not torch.allclose(first.x0, second.x0)
    assert first.forces.keys() == second.forces.keys() == {"a", "b"}


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_dit"])
def test_cfgpp_believes_the_guided_output_and_renoises_with_the_other(which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    x = normal([1], "init", model.shape)
    step = next(sample(model, PROMPTS[:1], seeds=[1], steps=3, guidance=CfgPlus(0.8)))
    with torch.inference_mode():
        now, after = model.grid(3)[0]
        u, c = model.predict(x, now, model.encode(PROMPTS[:1]), model.encode([""]))
        x0 = model.clean(x, u + 0.8 * (c - u), now)
        torch.testing.assert_close(step.x0, x0)
        torch.testing.assert_close(step.latents, after.alpha * x0 + after.sigma * model.noise(x, u, now), rtol=1e-4, atol=1e-4)


def test_renoise_puts_all_noise_back_anew(tiny_dit) -> None:
    model = load_denoiser(tiny_dit)
    steps = list(sample(model, PROMPTS[:1], seeds=[1], steps=3, renoise=True))
    (_, after), *_ = model.grid(3)
    expected = after.alpha * steps[0].x0 + after.sigma * normal([1], "step/0", model.shape)
    torch.testing.assert_close(steps[0].latents, expected)
    torch.testing.assert_close(steps[-1].latents, steps[-1].x0)


@dataclass
class Gaussian:
    """The exact denoiser of N(mean, deviation^2), with a real DDIM schedule behind it."""

    mean: float
    deviation: float

    def model(self, folder) -> Denoiser:
        model, owner = load_denoiser(folder), self

        def predict(x, time, text, negative):
            a, s, d2 = time.alpha.double(), time.sigma.double(), owner.deviation**2
            x0 = owner.mean + a * d2 / (a**2 * d2 + s**2) * (x - a * owner.mean)
            return None, (x - a * x0) / s

        model.predict = predict
        return model


def pull_of(
    model: Denoiser, steps: int, strength: float, weight: str, eta: float = 0.0, interval: Interval | None = None
) -> tuple[float, float]:
    """Return the weight of the centre in the final sample, and what is left of its deviation, from two runs of float64 latents."""
    x = normal([1], "init", model.shape).double()
    centre = torch.ones(1, *model.shape, dtype=torch.float64)
    pull = Pull(centre, strength, weight, "none", interval or Interval())
    plain, pulled, moved = (
        last(model, [""], seeds=[1], steps=steps, guidance=1.0, operators=ops, eta=eta, latents=at)
        for ops, at in (([], x), ([pull], x), ([Pull(2 * centre, strength, weight, "none", interval or Interval())], x))
    )
    return float((moved - pulled).mean()), float(pulled.std() / plain.std())


TABLE = {  # specification of GVD, 5.2: pull and what is left of the deviation, lambda .1 at N steps; the last column is lambda .2 at N = 50
    "blend": [(0.22, 0.82), (0.26, 0.79), (0.28, 0.77), (0.30, 0.75), (0.49, 0.58)],
    "mgd3": [(0.31, 0.87), (0.61, 0.74), (0.86, 0.63), (1.10, 0.50), (1.28, 0.39)],
    "score": [(0.19, 0.93), (0.20, 0.93), (0.21, 0.93), (0.21, 0.93), (0.40, 0.87)],
}


@pytest.mark.parametrize("weight", TABLE)
def test_pull_of_each_weight_in_closed_form(tiny_unet_leading, weight) -> None:
    model = Gaussian(0.0, 0.8).model(tiny_unet_leading)
    for (steps, strength), (pull, left) in zip([(10, 0.1), (25, 0.1), (50, 0.1), (100, 0.1), (50, 0.2)], TABLE[weight], strict=True):
        got, ratio = pull_of(model, steps, strength, weight)
        assert got == pytest.approx(pull, abs=0.005 + 0.005)  # the table has two digits
        assert ratio == pytest.approx(left, abs=0.005 + 0.005)


def test_scores_pull_hardly_depends_on_the_number_of_steps(tiny_unet_leading) -> None:
    model = Gaussian(0.0, 0.8).model(tiny_unet_leading)
    pulls = [pull_of(model, steps, 0.1, "score")[0] for steps in (10, 25, 50, 100)]
    assert pulls == pytest.approx([pulls[2]] * 4, abs=0.02)


def test_mgd3_in_its_native_setting(tiny_unet_leading) -> None:
    """DDPM's noise (eta 1), 50 steps, lambda .1, guided above timestep 500: a pull of .16; without the stop .39."""
    model = Gaussian(0.0, 0.8).model(tiny_unet_leading)
    assert pull_of(model, 50, 0.1, "mgd3", eta=1.0, interval=Interval(1000, 500))[0] == pytest.approx(0.16, abs=0.01)
    assert pull_of(model, 50, 0.1, "mgd3", eta=1.0)[0] == pytest.approx(0.39, abs=0.01)
    assert pull_of(model, 50, 0.1, "mgd3", interval=Interval(1000, 500))[0] == pytest.approx(0.67, abs=0.01)


def test_mgd3_equals_its_term_on_the_next_latents(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    m = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    options = {"seeds": [1], "steps": 4, "guidance": 2.0}
    plain = next(sample(model, PROMPTS[:1], **options))
    pulled = next(sample(model, PROMPTS[:1], operators=[Pull(m, 0.1, "mgd3", "none")], **options))
    now, after = model.grid(4)[0]
    torch.testing.assert_close(pulled.latents, plain.latents + 0.1 * ddim_sigma(now, after) * (m - plain.x0), rtol=1e-4, atol=1e-4)


def test_a_tape_is_saved_and_gone_on_from(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    m = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    tape = record(model, PROMPTS, seeds=[1, 2], steps=4, guidance=CfgPlus(0.8), operators=[Pull(m, 0.3, interval=Interval(1000, 900))])
    tape.save(tmp_path / "run.safetensors")
    again = load_tape(tmp_path / "run.safetensors")
    assert again.settings == tape.settings
    assert torch.equal(again.latents, tape.latents)
    assert again.forces["pull"].shape == (4, 2, 16)
    assert bool((again.forces["pull"][0] > 0).all())
    assert not again.forces["pull"][-1].any()
    rest = list(fork(model, again, 2))
    assert [step.index for step in rest] == [2, 3]
    assert rest[-1].evaluations == 4
    torch.testing.assert_close(rest[-1].latents, tape.latents[-1])
    other = list(fork(model, again, 2, operators=[Pull(m, 0.5)]))[-1]
    assert not torch.allclose(other.latents, tape.latents[-1])


def test_tapes_refuse_what_does_not_fit(tiny_dit, tiny_unet, tmp_path) -> None:
    from vidistill.files import save_tensors

    model = load_denoiser(tiny_dit)
    tape = record(model, PROMPTS[:1], seeds=[1], steps=2)
    with pytest.raises(InputError, match="made with tiny-dit, not with tiny-unet"):
        fork(load_denoiser(tiny_unet), tape, 0)
    with pytest.raises(InputError, match="there is none 2"):
        fork(model, tape, 2)
    save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(InputError, match="is no tape"):
        load_tape(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eta": 0.5}, "eta=0.5 is the noise of DDIM's steps"),
        ({"eta": 1.5}, r"eta in \[0, 1\]"),
        ({"start": 2, "steps": 2}, "start < steps"),
        ({"start": 1, "steps": 2}, "the latents before it are needed"),
        ({"latents": torch.zeros(1, 4, 3, 8, 8)}, "the latents to begin with"),
        ({"guidance": 0.5}, r"CFG\+\+"),
    ],
)
def test_bad_settings_are_one_line(tiny_dit, options, words) -> None:
    with pytest.raises(InputError, match=words):
        sample(load_denoiser(tiny_dit), PROMPTS[:1], **({"seeds": [1]} | options))


def test_what_is_not_finite_is_named(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    m = torch.full((1, *model.shape), float("nan"))
    with pytest.raises(InputError, match=r"operator pull gave a value that is not finite at step 1 of 2"):
        list(sample(model, PROMPTS[:1], seeds=[1], steps=2, operators=[Pull(m, 0.1)]))
    model.parts["unet"].conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"^tiny-unet gave a value that is not finite at step 1 of 2"):
        list(sample(model, PROMPTS[:1], seeds=[1], steps=2, operators=[Pull(torch.zeros_like(m), 0.1)]))
