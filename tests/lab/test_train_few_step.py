"""The recipes of the few-step students on a tiny teacher: each learns, resumes, and leaves a folder that samples as it was trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from vidistill import zoo
from vidistill.distill import Trainer, load_recipe, roll_out
from vidistill.distill.trajectory import key_indices, model_source, open_trajectories
from vidistill.errors import Cancelled, InputError
from vidistill.files import load_json, load_tensors
from vidistill.guide import Cfg
from vidistill.lab.commands import models
from vidistill.lab.train import export, few_step
from vidistill.rng import normal
from vidistill.sample import Teacher, generate, load_denoiser, sample
from vidistill.schedule import First

CRITICS = {"dmd", "dfd", "sft"}
PROMPTS = ["a red star orbiting over a navy background", "spin"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path_factory) -> None:
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.getbasetemp() / "few-step"))  # recorded and encoded once for all tests
    monkeypatch.setitem(few_step.SIZES, "cpu", {"batch": 2, "records": 4, "clips": 4})
    monkeypatch.setattr(few_step, "WATCHED", 1)
    monkeypatch.setattr(export, "SHEET", {"a red circle spinning": 1})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(tiny_dit, monkeypatch):
    """The recipe on the tiny teacher; nothing is looked at on the way."""
    monkeypatch.setattr(few_step.Monitor, "__call__", lambda self, trainer: {})
    monkeypatch.setattr(export, "sheet", lambda model, path: None)
    return partial(few_step.train, device="cpu", teacher=tiny_dit)


@pytest.fixture
def trainers(monkeypatch) -> list[Trainer]:
    """The trainers of the runs whose models were written."""
    seen: list[Trainer] = []
    write = few_step.write
    monkeypatch.setattr(few_step, "write", lambda trainer, *rest: seen.append(trainer) or write(trainer, *rest))
    return seen


def stop_after(iterations: int):
    calls: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("train"):
            calls.append(done)
        if len(calls) == iterations:
            raise Cancelled

    return progress


@pytest.mark.parametrize("name", few_step.STUDENTS)
def test_an_update_of_each_recipe(name, tiny_dit, tmp_path, trainers) -> None:
    record = few_step.train(name, tmp_path, updates=1, device="cpu", teacher=tiny_dit)
    recipe, m = load_recipe(name), few_step.STUDENTS[name]
    assert record == load_json(tmp_path / "model/training.json")
    made = {"accvideo": 2 * m}.get(recipe.method, 1)  # Algorithm 1's updates are a pass
    assert (record["name"], record["method"], record["teacher"], record["steps"]) == (name, recipe.method, "tiny-dit", made)
    assert record["iterations"] == (5 if recipe.method in CRITICS else 1)
    assert record["samples"] == 2 * made
    first, *log = load_json(tmp_path / "log.json")
    assert {"motion", "shape", "colour", "together", "contrast", "saturation"} <= first["seen"].keys() & record["seen"].keys()
    names = set().union(*(line["losses"] for line in log))
    learned = {"kd": {"kd"}, "trajectory": {"trajectory"}, "accvideo": {"trajectory", "adversarial", "heads"}}
    assert names - CRITICS == learned.get(recipe.method, {"critic"})
    assert ("critic" in record["seen"]) == (recipe.method in CRITICS)
    assert (tmp_path / "sheet.png").is_file()
    sampling = load_json(tmp_path / "model/sampling.json")
    table = model_source(load_denoiser(tiny_dit), steps=few_step.TABLE).times
    times = [table[k] for k in key_indices(few_step.TABLE, m)]
    assert sampling == {"steps": m, "guidance": 1.0, "frames": 16, "size": 64, "times": times[:-1], "renoise": recipe.renoise}
    assert list(trainers[0].recipe.times) == times
    if "records" in record["settings"]:
        (store,) = (open_trajectories(path) for path in (few_step.cache_home() / "trajectories").iterdir())
        assert set(times) <= set(store.times)
    before, after = (
        load_tensors(folder / "transformer/diffusion_pytorch_model.safetensors")[0] for folder in (tiny_dit, tmp_path / "model")
    )
    assert "_name_or_path" not in load_json(tmp_path / "model/transformer/config.json")  # a path of this machine
    assert before.keys() == after.keys()
    assert {w.dtype for w in after.values()} == {torch.float16}
    assert any(not torch.equal(before[key].half(), after[key]) for key in before)


@pytest.mark.parametrize("name", ["lab-dit-kd4", "lab-dit-accvideo5"])
def test_the_folder_samples_what_the_trainers_student_does(name, train, trainers, tiny_dit, tmp_path) -> None:
    train(name, tmp_path, updates=1)
    (trainer,) = trainers
    model = load_denoiser(tmp_path / "model")
    ours = generate(model, PROMPTS, seeds=[1, 2])
    text, fresh = load_denoiser(tiny_dit).encode(PROMPTS), lambda j: normal([1, 2], f"step/{j}", model.shape)
    with torch.no_grad():
        how, times = trainer.recipe.renoise, trainer.recipe.times
        theirs = roll_out(trainer.student(), normal([1, 2], "init", model.shape), times, text, renoise=how, fresh=fresh)
    assert how == {"lab-dit-kd4": "sde", "lab-dit-accvideo5": "ode"}[name]
    assert (ours - theirs).norm() <= 5e-3 * theirs.norm()  # weights to half precision
    assert type(zoo.load(tmp_path / "model")) is type(model)


def test_a_student_is_a_teacher(train, tiny_unet, tmp_path) -> None:
    train("lab-dit-kd4", tmp_path, updates=1)
    base, model = load_denoiser(tiny_unet), load_denoiser(tmp_path / "model")
    guide = Teacher(model, base, PROMPTS, tau=1, points=model.steps + 1, guidance=Cfg(1), interval=First(2))
    *_, step = sample(base, PROMPTS, seeds=[1, 2], steps=4, guidance=2.0, operators=[guide])
    assert step.evaluations == 4 * 2 + 2


@pytest.mark.parametrize("name", ["lab-dit-kd4", "lab-dit-accvideo5", "lab-dit-dfd4"])
def test_resumed_equals_uninterrupted(name, train, tmp_path) -> None:
    goal = {"lab-dit-accvideo5": 20}.get(name, 2)
    train(name, tmp_path / "whole", updates=goal)
    with pytest.raises(Cancelled):
        train(name, tmp_path / "parts", updates=goal, progress=stop_after(1))
    assert load_json(tmp_path / "parts/model/training.json")["iterations"] == 1  # the model so far
    train(name, tmp_path / "parts", updates=goal)
    a, b = (load_tensors(tmp_path / run / "state.safetensors")[0] for run in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_finished_run_goes_on_when_it_is_given_more(train, tmp_path) -> None:
    assert train("lab-dit-kd4", tmp_path, updates=1)["steps"] == 1
    assert train("lab-dit-kd4", tmp_path, updates=1)["steps"] == 1
    assert train("lab-dit-kd4", tmp_path, updates=3)["steps"] == 3
    assert train("lab-dit-kd4", tmp_path / "nothing", minutes=0)["steps"] == 0
    done = train("lab-dit-kd4", tmp_path / "timed", minutes=1e-3)
    assert done["steps"] >= 1
    assert train("lab-dit-kd4", tmp_path / "timed", minutes=1e-3)["steps"] == done["steps"]
    with pytest.raises(InputError, match="state of another run"):
        train("lab-dit-kd4", tmp_path, updates=3, seed=1)


def test_where_a_branch_begins(train, trainers, tmp_path) -> None:
    train("lab-dit-dmd4", tmp_path / "dmd", updates=1)
    record = train("lab-dit-dfd4", tmp_path / "dfd", minutes=0, start=tmp_path / "dmd")
    dmd, dfd = trainers
    assert record["start"] == "lab-dit-dmd4"
    critic = {key: w for key, w in dmd.tensors().items() if key.startswith("critic/")}
    assert critic
    assert all(torch.equal(w, dfd.tensors()[key]) for key, w in critic.items())
    own = dmd.student().state_dict()
    assert all(torch.equal(w, own[key].half().float()) for key, w in dfd.student().state_dict().items())
    train("lab-dit-dfd4", tmp_path / "model-only", minutes=0, start=tmp_path / "dmd/model")
    with pytest.raises(InputError, match="cannot read"):
        train("lab-dit-dfd4", tmp_path / "other", minutes=0, start=tmp_path / "nowhere")


def test_students_share_one_store(tiny_dit, monkeypatch) -> None:
    model = load_denoiser(tiny_dit)
    source, text = model_source(model, steps=few_step.TABLE), few_step.embedder(model)
    store = few_step.recorded(source, 0, 4)
    monkeypatch.setattr(type(model), "predict", lambda *_: pytest.fail("the teacher was asked again"))
    assert few_step.recorded(source, 0, 4).key == store.key
    states = store.batch(range(4)).states
    for m in (4, 5):
        batch: Any = few_step.paths(store, m, 64, text)(torch.Generator().manual_seed(0))
        row = next(k for k in range(4) if torch.equal(batch.path[0, 0], states[k, 0]))
        places = [store.places.index(place) for place in key_indices(few_step.TABLE, m)]
        assert torch.equal(batch.path[0], states[row, places])
        assert torch.equal(batch.path[:, -1], batch.x0)
        assert torch.equal(batch.c[0], model.encode([store.prompts[row]])[0])
    assert min(store.seeds) >= few_step.NOISE_SEED


def test_prompts_say_something() -> None:
    prompts = few_step.prompts_of(0, 300)
    assert prompts == few_step.prompts_of(0, 400)[:300]
    assert all(prompts)
    assert len({len(prompt.split()) for prompt in prompts}) > 3  # class names and words left out are among them


def test_real_clips_look_right(tiny_dit) -> None:
    monitor = few_step.Monitor("any", load_denoiser(tiny_dit), count=2)
    seen = few_step.look(monitor.real, monitor.wanted, monitor.real)
    assert seen["together"] == 1.0
    assert seen["contrast"] == seen["saturation"] == 1.0
    assert seen["drift"] < 0.1


def test_an_unknown_student_is_one_line(tmp_path) -> None:
    with pytest.raises(InputError, match="did you mean 'lab-dit-kd4'"):
        few_step.train("lab-dit-kd5", tmp_path)


def test_several_processes_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="trained by one process"):
        few_step.train("lab-dit-kd4", tmp_path)


def test_the_command_line_knows_them() -> None:
    functions = {name: name.removeprefix("lab-dit-").replace("-", "_") for name in few_step.STUDENTS}
    assert all(models.TRAINERS[name] == f"vidistill.lab.train.few_step:{function}" for name, function in functions.items())
    assert [getattr(few_step, function).args for function in functions.values()] == [(name,) for name in few_step.STUDENTS]


def test_a_world_with_rare_modes(train, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(few_step.SIZES, "cpu", {"batch": 2, "records": 4, "clips": 64})
    plain, rare = few_step.prompts_of(0, 600), few_step.prompts_of(0, 600, "rare")
    assert len(plain) == len(rare) == 600
    assert sum("white" in prompt for prompt in rare) < sum("white" in prompt for prompt in plain) / 3
    assert sum("zoom-out" in prompt for prompt in rare) < sum("zoom-out" in prompt for prompt in plain) / 3
    record = train("lab-dit-dmd4", tmp_path / "a", updates=1, prior="rare")
    assert record["settings"]["prior"] == "rare"
    assert "prior" not in train("lab-dit-dmd4", tmp_path / "b", updates=1)["settings"]
    with pytest.raises(InputError, match="another run"):
        train("lab-dit-dmd4", tmp_path / "a", updates=2)
    with pytest.raises(InputError, match="did you mean 'rare'"):
        train("lab-dit-dmd4", tmp_path / "c", updates=1, prior="rar")
