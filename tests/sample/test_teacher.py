"""The teacher as an operator: limits, its inner grid, its noise, what it costs, whom it may guide, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import Cfg, CfgPlus, LowPass, Moment, Pull, Switch, force
from vidistill.rng import normal
from vidistill.sample import Denoiser, Teacher, fork, load_denoiser, load_tape, record, sample
from vidistill.schedule import First, Interval, Time

PROMPTS = ["a red star orbiting over a navy background", "a blue ring falling, still camera"]
PAIRS = [("tiny_unet", "tiny_unet"), ("tiny_motion", "tiny_unet"), ("tiny_unet", "tiny_dit"), ("tiny_dit", "tiny_unet")]


def two(request: pytest.FixtureRequest, names: tuple[str, str]) -> tuple[Denoiser, Denoiser]:
    """Return base and teacher; one model where they are the same."""
    base = load_denoiser(request.getfixturevalue(names[0]))
    return base, base if names[0] == names[1] else load_denoiser(request.getfixturevalue(names[1]))


def last(*args, **options):
    *_, step = sample(*args, **options)
    return step


def level(abar: float) -> Time:
    value = torch.tensor(abar, dtype=torch.float64)
    return Time(torch.tensor(0), value**0.5, (1 - value) ** 0.5)


def test_the_inner_grid(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    inner = {t: [int(time.t) for time in model.below(model.at(torch.tensor(t)), 25)] for t in (999, 979, 919)}
    assert inner[999][:10] == [999, 957, 916, 874, 832, 791, 749, 708, 666, 624]
    assert {len(times) for times in inner.values()} == {24}
    assert (inner[979][9], inner[919][9]) == (612, 574)
    assert [int(time.t) for time in model.below(model.at(torch.tensor(999)), 5)] == [999, 749, 500, 250]  # of a four-step teacher


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_inner_grid_of_a_flow_is_the_schedulers_own(tiny_dit, shift) -> None:
    model = load_denoiser(tiny_dit)
    model.scheduler.set_shift(shift)
    times = model.below(model.at(torch.tensor(1000.0)), 25)
    u = torch.arange(24, 0, -1) / 24
    torch.testing.assert_close(torch.stack([time.sigma for time in times]), shift * u / (1 + (shift - 1) * u))
    assert all(float(time.t) == pytest.approx(1000 * float(time.sigma)) and float(time.alpha + time.sigma) == 1 for time in times)
    some = model.grid(7)[2][0]
    assert model.below(some, 25)[0] is some


def test_times_of_equal_noise(tiny_motion, tiny_unet, tiny_dit) -> None:
    """AnimateDiff's schedule is linear, VideoCrafter2's and ModelScope's scaled linear, LaVie's linear from 1e-4 to 0.02."""
    base, teacher, flow = (load_denoiser(folder) for folder in (tiny_motion, tiny_unet, tiny_dit))
    mapped = {t: int(teacher.like(base.at(torch.tensor(t))).t) for t in (999, 906, 880, 800, 600, 400)}
    assert mapped == {999: 999, 906: 999, 880: mapped[880], 800: 901, 600: 705, 400: 490}
    assert mapped[880] < 999
    lavie = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    assert [int(teacher.like(level(float(lavie[t]))).t) == 999 for t in (900, 727, 720)] == [True, True, False]
    for t in (0, 1, 500, 999):  # a model's own times stay
        assert int(teacher.like(teacher.at(torch.tensor(t))).t) == t
    assert float(flow.like(teacher.at(torch.tensor(999))).sigma) == pytest.approx(0.936, abs=1e-3)
    assert int(teacher.like(flow.at(torch.tensor(1000.0))).t) == 999  # pure noise
    there = flow.like(teacher.at(torch.tensor(500)))
    assert int(teacher.like(there).t) == 500


@pytest.mark.parametrize("names", PAIRS)
def test_no_weight_is_the_base_sampler_bit_for_bit(names, request, monkeypatch) -> None:
    base, teacher = two(request, names)
    options = {"seeds": [1, 2], "steps": 4, "guidance": Switch(CfgPlus(0.8), Cfg(3.0), First(2))}
    plain = last(base, PROMPTS, **options)
    guide = Teacher(teacher, base, PROMPTS, beta=1.0, interval=First(2))
    monkeypatch.setattr(Teacher, "estimate", lambda *_: pytest.fail("the teacher was asked"))
    guided = last(base, PROMPTS, operators=[guide], **options)
    assert torch.equal(guided.latents, plain.latents)
    assert torch.equal(guided.x0, plain.x0)
    assert guided.evaluations == plain.evaluations == 8
    assert "_texts" not in vars(guide)  # not even the prompts were encoded


@pytest.mark.parametrize("names", PAIRS)
def test_one_step_is_the_one_shot_estimate(names, request) -> None:
    base, teacher = two(request, names)
    options = {"seeds": [1, 2], "steps": 4, "guidance": CfgPlus(0.8)}
    plain = next(sample(base, PROMPTS, **options))
    step = next(sample(base, PROMPTS, operators=[Teacher(teacher, base, PROMPTS, beta=0.3, tau=1, interval=First(1))], **options))
    with torch.inference_mode():
        time = teacher.like(base.grid(4)[0][0])
        z = time.alpha * plain.x0 + time.sigma * normal([1, 2], "teacher/0", base.shape)
        u, c = teacher.predict(z, time, teacher.encode(PROMPTS), teacher.encode(["", ""]))
        x0_g = teacher.clean(z, u + 0.8 * (c - u), time)
    torch.testing.assert_close(step.x0, 0.3 * plain.x0 + 0.7 * x0_g, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(step.forces["teacher"], force(0.7 * (x0_g - plain.x0)), rtol=1e-4, atol=1e-4)


def test_no_weight_of_the_base_is_the_teachers_estimate(tiny_unet, tiny_dit) -> None:
    base, teacher = load_denoiser(tiny_unet), load_denoiser(tiny_dit)
    guide = Teacher(teacher, base, PROMPTS, beta=0.0, tau=3, interval=First(1))
    seen = []
    estimate = guide.estimate
    object.__setattr__(guide, "estimate", lambda x0, at: seen.append(estimate(x0, at)) or seen[-1])
    step = next(sample(base, PROMPTS, seeds=[1, 2], steps=2, guidance=CfgPlus(0.8), operators=[guide]))
    torch.testing.assert_close(step.x0, seen[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("guidance", "inner", "expected"), [(3.0, CfgPlus(0.8), 2 * (6 + 2 * 4)), (1.0, Cfg(1), 6 + 2 * 4), (3.0, Cfg(1), 2 * 6 + 2 * 4)]
)
def test_evaluations_are_counted(tiny_unet, tiny_dit, guidance, inner, expected) -> None:
    """N + I tau, a pair of outputs for the prompt and for none being one; pairs go through the teacher's network in one call."""
    for base, teacher in ((load_denoiser(tiny_unet), load_denoiser(tiny_dit)), (load_denoiser(tiny_dit), load_denoiser(tiny_unet))):
        rows: list[int] = []
        network = teacher.parts[teacher.network]
        network.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(len(args[0])))
        guide = Teacher(teacher, base, PROMPTS, tau=4, guidance=inner, interval=First(2))
        counts = [step.evaluations for step in sample(base, PROMPTS, seeds=[1, 2], steps=6, guidance=guidance, operators=[guide])]
        own, extra = (2 if guidance > 1 else 1), (8 if inner.needs_both else 4)
        assert counts == [own * (k + 1) + extra * min(k + 1, 2) for k in range(6)]
        assert counts[-1] == expected
        assert rows == [4 if inner.needs_both else 2] * 8


def test_a_few_step_teacher(tiny_unet) -> None:
    base = load_denoiser(tiny_unet)
    guide = Teacher(base, base, PROMPTS, tau=2, points=5, guidance=Cfg(1), interval=First(1))
    asked: list[int] = []
    base.parts["unet"].register_forward_pre_hook(lambda _, args: asked.append(int(args[1])))
    assert last(base, PROMPTS, seeds=[1, 2], steps=1, guidance=1.0, operators=[guide]).evaluations == 3
    t = int(base.grid(1)[0][0].t)
    assert asked == [t, t, round(t * 3 / 4)]


def test_the_teacher_is_told_another_scale(tiny_unet, monkeypatch) -> None:
    """A network that predicts no noise gives back what it saw: x0 + s n / (a k)."""
    base = load_denoiser(tiny_unet)
    guide = Teacher(base, base, PROMPTS, beta=0.0, tau=1, scale=0.7)
    step = next(sample(base, PROMPTS, seeds=[1, 2], steps=4, guidance=2.0))
    monkeypatch.setattr(base, "predict", lambda x, *_: (None, torch.zeros_like(x)))
    now, after = base.grid(4)[0]
    got = guide.estimate(step.x0, Moment(0, 4, now, after, 0.0, step.x0, (1, 2)))
    torch.testing.assert_close(got, step.x0 + now.sigma / (now.alpha * 0.7) * normal([1, 2], "teacher/0", base.shape))


@pytest.mark.parametrize("which", ["tiny_unet", "tiny_dit"])
def test_the_noise_that_is_put_back_stays_the_bases(which, request) -> None:
    """With ordinary guidance too: x' = alpha' x0' + sigma' eps; a pull after it moves the noise as it does without a teacher."""
    base = load_denoiser(request.getfixturevalue(which))
    m = normal([9, 9], "centre", base.shape)
    operators = [Teacher(base, base, PROMPTS, tau=2), Pull(m, 0.2, "blend", "none")]
    now, after = base.grid(6)[0]
    x = normal([1, 2], "init", base.shape)
    plain = next(sample(base, PROMPTS, seeds=[1, 2], steps=6, guidance=3.0))
    eps = (x - now.alpha * plain.x0) / now.sigma
    only = next(sample(base, PROMPTS, seeds=[1, 2], steps=6, guidance=3.0, operators=operators[:1]))
    torch.testing.assert_close(only.latents, after.alpha * only.x0 + after.sigma * eps, rtol=1e-4, atol=1e-4)
    both = next(sample(base, PROMPTS, seeds=[1, 2], steps=6, guidance=3.0, operators=operators))
    pulled = both.x0 - only.x0
    torch.testing.assert_close(pulled, 0.2 * (m - only.x0), rtol=1e-4, atol=1e-4)
    moved = eps - now.alpha / now.sigma * pulled
    torch.testing.assert_close(both.latents, after.alpha * both.x0 + after.sigma * moved, rtol=1e-4, atol=1e-4)


def test_toggling_a_feature_draws_no_other_noise(tiny_unet, monkeypatch) -> None:
    from vidistill.guide import lowpass
    from vidistill.sample import sampler, teacher

    base = load_denoiser(tiny_unet)
    drawn: dict[str, torch.Tensor] = {}

    def watched(seeds, name, shape):
        assert name not in drawn  # each stream serves once
        drawn[name] = normal(seeds, name, shape)
        return drawn[name]

    for module in (lowpass, sampler, teacher):
        monkeypatch.setattr(module, "normal", watched)
    guide, low_pass = Teacher(base, base, PROMPTS, tau=2, interval=First(2)), LowPass(interval=First(2))
    seen = {}
    for label, operators in {"none": [], "teacher": [guide], "low-pass": [low_pass], "both": [guide, low_pass]}.items():
        drawn.clear()
        last(base, PROMPTS, seeds=[1, 2], steps=3, guidance=2.0, eta=0.5, operators=operators)
        seen[label] = dict(drawn)
    own = {"init", "step/0", "step/1", "step/2"}
    assert seen["none"].keys() == own
    assert seen["teacher"].keys() == own | {"teacher/0", "teacher/1"}
    assert seen["low-pass"].keys() == own | {"low-pass/0", "low-pass/1"}
    assert seen["both"].keys() == seen["teacher"].keys() | seen["low-pass"].keys()
    for label in ("none", "teacher", "low-pass"):
        assert all(torch.equal(noise, seen["both"][name]) for name, noise in seen[label].items())
    noises = [noise.flatten() for noise in seen["both"].values()]
    assert torch.corrcoef(torch.stack(noises)).fill_diagonal_(0).abs().max() < 0.1


@pytest.mark.parametrize("names", [("tiny_unet", "tiny_dit"), ("tiny_dit", "tiny_unet")])
def test_eight_clips_at_once_and_one_by_one(names, request) -> None:
    base, teacher = two(request, names)
    prompts, seeds = PROMPTS * 4, list(range(8))

    def run(rows: slice) -> torch.Tensor:
        guide = Teacher(teacher, base, prompts[rows], tau=2, interval=First(2))
        options = {"steps": 4, "guidance": Switch(CfgPlus(0.8), Cfg(3.0), First(2)), "operators": [guide, LowPass(interval=First(2))]}
        return last(base, prompts[rows], seeds=seeds[rows], **options).latents

    together = run(slice(None))
    for i in range(8):
        alone = run(slice(i, i + 1))
        assert (together[i] - alone[0]).abs().max() <= 1e-4 * alone.abs().max()


@pytest.mark.parametrize("names", [*PAIRS, ("tiny_dit", "tiny_dit"), ("tiny_unet", "tiny_motion")])
def test_every_pair_of_one_latent_space_runs(names, request) -> None:
    base, teacher = two(request, names)
    guide = Teacher(teacher, base, PROMPTS, tau=2, interval=First(2))
    records = list(sample(base, PROMPTS, seeds=[1, 2], steps=4, guidance=CfgPlus(0.8), operators=[guide, LowPass(interval=First(2))]))
    assert [sorted(step.forces) for step in records] == [["low-pass", "teacher"]] * 2 + [[]] * 2
    assert all(step.forces["teacher"].shape == (2, 16) and bool((step.forces["teacher"] > 0).all()) for step in records[:2])


def test_a_step_that_switches_guidance_asks_for_what_it_needs(tiny_unet) -> None:
    base = load_denoiser(tiny_unet)
    switch = Switch(CfgPlus(0.8), Cfg(1), First(2))
    records = list(sample(base, PROMPTS[:1], seeds=[1], steps=4, guidance=switch))
    assert [step.evaluations for step in records] == [2, 4, 5, 6]
    inside = list(sample(base, PROMPTS[:1], seeds=[1], steps=4, guidance=CfgPlus(0.8)))
    assert torch.equal(records[1].latents, inside[1].latents)
    rest = list(sample(base, PROMPTS[:1], seeds=[1], steps=4, guidance=1.0, start=2, latents=inside[1].latents))
    assert torch.equal(records[-1].latents, rest[-1].latents)


@pytest.mark.parametrize("interval", [First(2), Interval(1000, 900)])
def test_a_tape_keeps_guidance_that_switches(tiny_dit, tmp_path, interval) -> None:
    model = load_denoiser(tiny_dit)
    switch = Switch(CfgPlus(0.8), Cfg(2.0), interval)
    tape = record(
        model, PROMPTS, seeds=[1, 2], steps=4, guidance=switch, operators=[Teacher(model, model, PROMPTS, tau=2, interval=First(2))]
    )
    tape.save(tmp_path / "run.safetensors")
    again = load_tape(tmp_path / "run.safetensors")
    assert again.settings == tape.settings
    assert bool((again.forces["teacher"][:2] > 0).all())
    torch.testing.assert_close(list(fork(model, again, 2))[-1].latents, tape.latents[-1])
    guide = Teacher(model, model, PROMPTS, tau=2, interval=First(2))
    torch.testing.assert_close(list(fork(model, again, 1, operators=[guide]))[-1].latents, tape.latents[-1])


@pytest.fixture(scope="session")
def tiny_wan(tiny_dit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Wan-family folder with a small autoencoder of Wan's kind: 16 channels, four frames in one."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    folder = tmp_path_factory.mktemp("models") / "tiny-wan"
    shutil.copytree(tiny_dit, folder, symlinks=True)
    (folder / "vae").unlink()
    config = json.loads((folder / "transformer" / "config.json").read_text())
    small = {key: value for key, value in config.items() if not key.startswith("_")} | {"in_channels": 16, "out_channels": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        ).save_pretrained(folder / "vae")
        WanTransformer3DModel(**small).save_pretrained(folder / "transformer")
    return folder


def test_another_latent_space_is_named(tiny_motion, tiny_wan, tiny_unet, tmp_path) -> None:
    base = load_denoiser(tiny_motion)
    words = r"tiny-wan cannot guide tiny-motion: its latents are those of Codec\(.*AutoencoderKLWan, 16 .*Codec\(.*AutoencoderKL, 4 "
    with pytest.raises(InputError, match=words) as error:
        Teacher(load_denoiser(tiny_wan), base, PROMPTS)
    assert "\n" not in str(error.value)
    folder = tmp_path / "other"
    shutil.copytree(tiny_unet, folder)
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.5}))
    with pytest.raises(InputError, match="other cannot guide tiny-motion: its latents are those of"):
        Teacher(load_denoiser(folder), base, PROMPTS)


def test_a_decoder_of_its_own_and_half_precision_are_no_other_space(tiny_unet, tmp_path) -> None:
    base, tuned, half = load_denoiser(tiny_unet), load_denoiser(tiny_unet), load_denoiser(tiny_unet, dtype="bf16")
    Teacher(half, base, PROMPTS)
    for name, p in tuned.codec.module.named_parameters():
        if name.startswith("decoder."):
            p.data += 1
    tuned.codec.fingerprint = "tuned"
    Teacher(tuned, base, PROMPTS)
    next(p for name, p in tuned.codec.module.named_parameters() if name.startswith("encoder.")).data *= 1.1
    with pytest.raises(InputError, match="cannot guide"):
        Teacher(tuned, base, PROMPTS)


def test_another_number_of_frames_is_named(tiny_unet, tiny_dit) -> None:
    words = r"tiny-unet cannot guide tiny-dit: it makes latents \(4, 8, 8, 8\) with Codec\(.*the base \(4, 16, 8, 8\) with Codec\("
    with pytest.raises(InputError, match=words):
        Teacher(load_denoiser(tiny_unet, frames=8), load_denoiser(tiny_dit), PROMPTS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": -0.1}, r"beta in \[0, 1\]"),
        ({"beta": 1.1}, r"beta in \[0, 1\]"),
        ({"tau": 0}, "1 <= tau < points"),
        ({"tau": 25}, "1 <= tau < points"),
        ({"tau": 1, "points": 1}, "1 <= tau < points"),
        ({"scale": 0.0}, "above 0"),
        ({"t_map": "snr"}, "snr_matched"),
        ({"t_map": "same_index"}, "use snr_matched"),
    ],
)
def test_bad_settings_are_one_line(tiny_unet, tiny_dit, options, words) -> None:
    with pytest.raises(InputError, match=words) as error:
        Teacher(load_denoiser(tiny_unet), load_denoiser(tiny_dit), PROMPTS, **options)
    assert "\n" not in str(error.value)


def test_more_guided_steps_than_steps_are_refused_before_any_work(tiny_unet) -> None:
    model = load_denoiser(tiny_unet)
    guide = Teacher(model, model, PROMPTS, interval=First(5))
    for options in (
        {"operators": [guide]},
        {"operators": [LowPass(interval=First(5))]},
        {"guidance": Switch(CfgPlus(0.8), Cfg(3), First(5))},
    ):
        with pytest.raises(InputError, match=r"first I=5 steps: the sampler makes N=4"):
            sample(model, PROMPTS, seeds=[1, 2], steps=4, **options)
    with pytest.raises(InputError, match="2 prompts, the sampler 1 clips"):
        last(model, PROMPTS[:1], seeds=[1], steps=5, operators=[guide])
