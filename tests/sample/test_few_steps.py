"""Few-step students: their own times and way to renoise come from the folder, and nothing else is sampled at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vidistill.distill.trajectory import model_source
from vidistill.errors import InputError
from vidistill.guide import Cfg, CfgPlus, Moment
from vidistill.rng import normal
from vidistill.sample import Job, Teacher, collect, fork, generate, load_denoiser, load_tape, record, sample
from vidistill.schedule import First

PROMPTS = ["a red star orbiting over a navy background", "a blue ring falling, still camera"]
TIMES = [1.0, 0.8940030336380005, 0.73, 0.44]


def student(folder: Path, target: Path, **sampling: Any) -> Path:
    """Return a copy of a model's folder with other settings of sampling; one that is None is left out."""
    shutil.copytree(folder, target, symlinks=True)
    own = json.loads((target / "sampling.json").read_text()) | sampling
    (target / "sampling.json").write_text(json.dumps({key: value for key, value in own.items() if value is not None}))
    return target


@pytest.fixture
def few(tiny_dit, tmp_path: Path) -> Path:
    return student(tiny_dit, tmp_path / "few", steps=None, guidance=1.0, times=TIMES)


@pytest.fixture
def fresh(tiny_dit, tmp_path: Path) -> Path:
    return student(tiny_dit, tmp_path / "fresh", steps=4, guidance=1.0, times=TIMES, renoise="sde")


def by_hand(model, prompts: list[str], seeds: list[int], how: str) -> torch.Tensor:
    text, x, ends = model.encode(prompts), normal(seeds, "init", model.shape), [*TIMES[1:], 0.0]
    with torch.no_grad():
        for k, (now, after) in enumerate(zip(TIMES, ends, strict=True)):
            t = torch.full((len(x),), 1000 * torch.tensor(now))
            v = model.parts["transformer"](x, t, text).sample
            z = normal(seeds, f"step/{k}", model.shape)
            x = x + (after - now) * v if how == "ode" else (1 - after) * (x - now * v) + after * z
    return x


def test_its_times_are_those_of_the_folder(few) -> None:
    model = load_denoiser(few)
    assert (model.times, model.steps, model.guidance, model.renoise) == (tuple(TIMES), 4, 1.0, False)
    grid = model.grid(4)
    exact = torch.tensor([*TIMES, 0.0])
    assert torch.equal(torch.stack([now.sigma for now, _ in grid]), exact[:-1])
    assert torch.equal(torch.stack([after.sigma for _, after in grid]), exact[1:])
    assert torch.equal(torch.stack([now.t for now, _ in grid]), 1000 * exact[:-1])
    assert model_source(model).times == tuple(exact.tolist())


def test_a_stock_model_has_none(tiny_dit, tiny_unet) -> None:
    for folder in (tiny_dit, tiny_unet):
        model = load_denoiser(folder, steps=7)
        assert (model.times, model.renoise, model.steps) == ((), False, 7)


@pytest.mark.parametrize("how", ["ode", "sde"])
def test_it_is_sampled_as_it_was_trained(few, fresh, how) -> None:
    model = load_denoiser(few if how == "ode" else fresh)
    steps = list(sample(model, PROMPTS, seeds=[1, 2]))
    assert [step.sigma for step in steps] == pytest.approx(TIMES)
    assert steps[-1].evaluations == 4  # one a step: guidance 1 asks once
    torch.testing.assert_close(steps[-1].latents, by_hand(model, PROMPTS, [1, 2], how), rtol=1e-4, atol=1e-4)
    assert torch.equal(generate(model, PROMPTS, seeds=[1, 2]), steps[-1].latents)
    *_, other = sample(model, PROMPTS, seeds=[1, 2], renoise=how == "ode")  # what is asked for goes before the model's own
    torch.testing.assert_close(other.latents, by_hand(model, PROMPTS, [1, 2], "sde" if how == "ode" else "ode"), rtol=1e-4, atol=1e-4)


def test_another_number_of_steps_is_refused_before_any_work(few) -> None:
    model = load_denoiser(few)
    words = r"^few was trained for 4 steps, at the times 1, 0.894, 0.73, 0.44: it has no grid of steps=8$"
    for call in (lambda: model.grid(8), lambda: sample(model, PROMPTS, seeds=[1, 2], steps=8), lambda: load_denoiser(few, steps=8)):
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"times": [1.0, 0.5, 0.5]}, "must be numbers that fall from 1"),
        ({"times": [1.0, 0.5, 0.0]}, "the final 0 left out"),
        ({"times": [0.9, 0.5]}, "from 1"),
        ({"times": [1.5, 0.5]}, "from 1"),
        ({"times": [1, "half"]}, "must be numbers"),
        ({"times": 4}, "must be numbers"),
        ({"times": [1.0, float("nan")]}, "must be numbers that fall"),
        ({"times": [1.0, 0.5], "steps": 3}, "trained for 2 steps"),
        ({"renoise": "euler"}, "unknown renoise of bad 'euler'.*ode"),
    ],
)
def test_bad_settings_are_one_line(tiny_dit, tmp_path, sampling, words) -> None:
    folder = student(tiny_dit, tmp_path / "bad", **({"steps": None} | sampling))
    with pytest.raises(InputError, match=words) as error:
        load_denoiser(folder)
    assert "\n" not in str(error.value)


def test_a_model_of_noise_has_no_times_of_its_own(tiny_unet, tmp_path) -> None:
    with pytest.raises(InputError, match="it is of the epsilon family"):
        load_denoiser(student(tiny_unet, tmp_path / "bad", steps=None, times=TIMES))
    assert load_denoiser(student(tiny_unet, tmp_path / "fresh", renoise="sde")).renoise


def test_a_tape_keeps_them(few, fresh, tiny_dit, tmp_path) -> None:
    model = load_denoiser(fresh)
    tape = record(model, PROMPTS, seeds=[1, 2])
    assert (tape.settings["times"], tape.settings["renoise"], tape.settings["steps"]) == (TIMES, True, 4)
    tape.save(tmp_path / "run.safetensors")
    again = load_tape(tmp_path / "run.safetensors")
    assert again.settings == tape.settings
    torch.testing.assert_close(list(fork(model, again, 2))[-1].latents, tape.latents[-1])
    other = load_denoiser(student(fresh, tmp_path / "other" / "fresh", times=[1.0, 0.9, 0.7, 0.4]))
    stock = load_denoiser(student(tiny_dit, tmp_path / "stock" / "fresh"))
    for one in (other, stock):
        with pytest.raises(InputError, match=r"at the times \[1.0, .*which it no longer has"):
            fork(one, again, 2)
    assert "times" not in record(stock, PROMPTS[:1], seeds=[1]).settings


def test_a_collection_tells_them_apart(few, fresh, tiny_dit, tmp_path) -> None:
    models = [load_denoiser(folder) for folder in (few, fresh, student(few, tmp_path / "other", times=[1.0, 0.9, 0.7, 0.4]))]
    models.append(load_denoiser(tiny_dit, guidance=1.0))
    paths = {collect(model, [Job(PROMPTS[0], 1)], tmp_path / "clips")[0] for model in models}
    assert len(paths) == len(models)
    (path,) = collect(models[0], [Job(PROMPTS[0], 1)], tmp_path / "clips")
    assert path in paths


def test_as_a_teacher_it_is_asked_at_its_own_times(few, tiny_unet) -> None:
    base, teacher = load_denoiser(tiny_unet), load_denoiser(few)
    asked: list[float] = []
    teacher.parts["transformer"].register_forward_pre_hook(lambda _, args: asked.append(float(args[1][0])))
    guide = Teacher(teacher, base, PROMPTS, tau=2, points=5, guidance=Cfg(1), interval=First(1))
    *_, last = sample(base, PROMPTS, seeds=[1, 2], steps=4, guidance=2.0, operators=[guide])
    level = float(teacher.like(base.grid(4)[0][0]).sigma)
    assert level in torch.tensor(TIMES).tolist()
    first = min(range(4), key=lambda k: abs(TIMES[k] - level))
    assert asked == pytest.approx([1000 * t for t in TIMES[first : first + 2]])
    assert last.evaluations == 4 * 2 + 2
    assert bool(torch.isfinite(last.latents).all())


def test_the_inner_grid_of_a_few_step_teacher(few, tiny_dit) -> None:
    model, stock = load_denoiser(few), load_denoiser(tiny_dit)
    inner = lambda sigma, points=5: [float(time.sigma) for time in model.below(stock.at(torch.tensor(1000.0 * sigma)), points)]  # noqa: E731
    assert inner(1.0) == pytest.approx(TIMES)
    assert inner(0.96) == pytest.approx(TIMES)
    assert inner(0.93) == pytest.approx(TIMES[1:])
    assert inner(0.93, 3) == pytest.approx(TIMES[1:3])
    assert inner(0.1) == pytest.approx(TIMES[-1:])
    assert float(model.like(stock.at(torch.tensor(930.0))).sigma) == pytest.approx(TIMES[1])
    base = load_denoiser(tiny_dit)
    guide = Teacher(model, base, PROMPTS, tau=2, points=5, guidance=CfgPlus(0.8))
    (*_, (now, after)) = base.grid(20)
    x = normal([1, 2], "x", base.shape)
    with pytest.raises(InputError, match="few has 1 of its times left at step 20 of 20, fewer than tau=2: guide fewer first steps"):
        guide.estimate(x, Moment(19, 20, now, after, 0.0, x, (1, 2)))


@pytest.mark.parametrize("options", [{}, {"tau": 1, "points": 25}, {"tau": 4, "points": 6}])
def test_other_points_than_its_own_are_refused(few, tiny_dit, options) -> None:
    with pytest.raises(InputError, match=r"few was trained for 4 steps: as a teacher it needs points=5 and tau of 1 to 4, got tau="):
        Teacher(load_denoiser(few), load_denoiser(tiny_dit), PROMPTS, **options)


def test_a_few_step_base_can_be_guided(few, fresh, tiny_unet) -> None:
    for folder in (few, fresh):
        base = load_denoiser(folder)
        guide = Teacher(load_denoiser(tiny_unet), base, PROMPTS, tau=2, interval=First(1))
        *_, step = sample(base, PROMPTS, seeds=[1, 2], operators=[guide])
        assert step.evaluations == 4 + 4
        plain = next(sample(base, PROMPTS, seeds=[1, 2]))
        guided = next(sample(base, PROMPTS, seeds=[1, 2], operators=[guide]))
        assert not torch.equal(guided.x0, plain.x0)
