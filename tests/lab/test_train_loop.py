"""The loop on a toy recipe: it resumes bit for bit, copes with figures that come and go, and never saves what is not finite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vidistill.errors import Cancelled, InputError
from vidistill.files import load_tensors, save_tensors
from vidistill.lab.train import loop
from vidistill.rng import stream


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, batch: loop.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        y = self.last(self.first(batch["x"]).tanh())
        loss = (y - batch["x"].sum(1, keepdim=True)).square().mean()
        return loss, {"now and then": loss.detach()} if int(batch["k"][0]) % 2 else {"never": loss.detach() * float("nan")}


def task(seed: int = 0, name: str = "toy", broken: int = -1) -> loop.Task:
    def batch(k: int) -> loop.Batch:
        x = torch.randn(6, 4, generator=stream(seed, "toy", k))
        return {"x": x * float("nan") if k == broken else x, "k": torch.full((6,), k)}

    def export(model: nn.Module, folder: Path) -> None:
        save_tensors(folder / "weights.safetensors", model.state_dict())

    return loop.Task(name, Toy(), batch, lambda name, p: name == "first.weight", export, lambda model, path: None, {"seed": seed})


def stop_after(steps: int, error: type[BaseException]):
    calls: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == steps:
            raise error

    return progress


def fit(out: Path, steps: int, one: loop.Task | None = None, **options):
    return loop.fit(out, one or task(), minutes=0, steps=steps, device="cpu", **options)


def record(out: Path) -> dict:
    return json.loads(load_tensors(out / "state.safetensors")[1]["record"])


def equal(one: Path, two: Path) -> bool:
    a, b = load_tensors(one / "state.safetensors")[0], load_tensors(two / "state.safetensors")[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    fit(tmp_path / "whole", 9)
    with pytest.raises(Cancelled):
        fit(tmp_path / "parts", 9, progress=stop_after(4, Cancelled))
    assert record(tmp_path / "parts")["step"] == 4
    assert not equal(tmp_path / "whole", tmp_path / "parts")
    fit(tmp_path / "parts", 9)
    assert equal(tmp_path / "whole", tmp_path / "parts")
    weights = [(tmp_path / name / "model/weights.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Nothing runs after the exception, as after ``kill -9``: the step behind the last checkpoint is taken again."""
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "parts", 9, progress=stop_after(5, ZeroDivisionError), checkpoint_minutes=0)
    assert record(tmp_path / "parts")["step"] == 5
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "parts", 9, progress=stop_after(3, ZeroDivisionError))
    assert record(tmp_path / "parts")["step"] == 5
    fit(tmp_path / "parts", 9)
    fit(tmp_path / "whole", 9)
    assert equal(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_goes_on_when_it_is_given_more(tmp_path: Path) -> None:
    fit(tmp_path, 3)
    assert fit(tmp_path, 3)["steps"] == 3  # nothing left to do
    assert fit(tmp_path, 5)["steps"] == 5
    run = loop.fit(tmp_path, task(), minutes=record(tmp_path)["wall"] / 60 + 0.003, device="cpu")
    assert run["steps"] > 5


def test_the_averaged_weights_are_exported(tmp_path: Path) -> None:
    fit(tmp_path, 4)
    state, weights = load_tensors(tmp_path / "state.safetensors")[0], load_tensors(tmp_path / "model/weights.safetensors")[0]
    assert all(torch.equal(weights[name], state[f"average/{name}"]) for name in weights)
    assert not torch.equal(weights["last.weight"], state["model/last.weight"])


def test_what_it_cost_stands_beside_the_model(tmp_path: Path) -> None:
    one = task(seed=3)
    one.settings["start"] = "other"
    cost = fit(tmp_path, 2, one)
    assert json.loads((tmp_path / "model/training.json").read_text()) == cost
    assert {key: cost[key] for key in ("name", "steps", "samples", "data", "seed", "start")} == {
        "name": "toy",
        "steps": 2,
        "samples": 12,
        "data": "Motion World",
        "seed": 3,
        "start": "other",
    }
    assert cost["settings"] == {"seed": 3, "start": "other"}
    assert cost["samples_per_second"] > 0


def test_points_of_the_curve_are_means_over_the_steps_that_have_the_figure(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loop, "WINDOW", 4)
    fit(tmp_path, 6)
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert [point["step"] for point in curve] == [4, 6]
    assert all(set(point) == {"step", "minutes", "loss", "now and then"} for point in curve)
    some = [{"loss": torch.tensor(1.0), "a": torch.tensor(2.0)}, {"loss": torch.tensor(3.0), "b": torch.tensor(float("nan"))}]
    assert loop.means(some) == {"loss": 2.0, "a": 2.0}


def test_a_loss_that_is_not_finite_names_its_step_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path, 2)
    before = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"the loss of toy is not finite at step 5; .* still holds the state of step 2, which is good"):
        fit(tmp_path, 9, task(broken=5))
    assert (tmp_path / "state.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="not finite at step 0; nothing was saved yet"):
        fit(tmp_path / "new", 9, task(broken=0))
    assert not (tmp_path / "new/state.safetensors").exists()


def test_no_step_is_taken_on_a_loss_that_is_not_finite(monkeypatch, tmp_path: Path) -> None:
    taken = []
    monkeypatch.setattr(loop.Run, "update", lambda self, factor: (taken.append(self.step), setattr(self, "step", self.step + 1)))
    with pytest.raises(InputError, match="at step 3"):
        fit(tmp_path, 9, task(broken=3))
    assert taken == [0, 1, 2]


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A finite loss with an infinite gradient would be noticed one step later; a checkpoint may come before."""
    one = task()
    one.model.last.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(InputError, match="the weights of toy are not finite after step 0; nothing was saved yet"):
        fit(tmp_path, 9, one, checkpoint_minutes=0)
    assert not (tmp_path / "state.safetensors").exists()


def test_a_sheet_comes_with_every_third_checkpoint_and_at_the_end(tmp_path: Path) -> None:
    drawn = []
    one = task()
    one.sheet = lambda model, path: drawn.append((path.name, record(tmp_path)["step"], (tmp_path / "model/weights.safetensors").exists()))
    fit(tmp_path, 7, one, checkpoint_minutes=0)
    assert drawn == [("sheet.png", 3, True), ("sheet.png", 6, True), ("sheet.png", 7, True)]


@pytest.mark.parametrize("other", [task(seed=1), task(name="other")], ids=["seed", "name"])
def test_another_run_needs_another_folder(tmp_path: Path, other: loop.Task) -> None:
    fit(tmp_path, 1)
    with pytest.raises(InputError, match="use another --out"):
        fit(tmp_path, 2, other)


def test_a_state_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    save_tensors(tmp_path / "state.safetensors", {"model/first.weight": torch.zeros(2, 2)})
    with pytest.raises(InputError, match="is not the state of a run of this toy"):
        fit(tmp_path, 1)
    (tmp_path / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(InputError, match="cannot read"):
        fit(tmp_path, 1)


def test_a_state_without_a_name_is_read(tmp_path: Path) -> None:
    fit(tmp_path, 2)
    tensors, metadata = load_tensors(tmp_path / "state.safetensors")
    old = json.loads(metadata["record"])
    del old["name"]
    save_tensors(tmp_path / "state.safetensors", tensors, {"record": json.dumps(old)})
    assert fit(tmp_path, 3)["steps"] == 3


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    assert loop.rate(0, 0.0) == pytest.approx(1 / loop.WARMUP)
    assert loop.rate(10_000, 1 - loop.DECAY) == pytest.approx(1)
    assert loop.rate(10_000, 1 - loop.DECAY / 2) == pytest.approx(0.5)
    assert loop.rate(10_000, 1.0) == 0


def test_muon_steps_are_orthogonal_whatever_the_gradient() -> None:
    weights = {name: torch.zeros(shape) for name, shape in {"a": (8, 4, 3, 3), "b": (8, 36), "c": (64, 2)}.items()}
    muon = loop.Muon(weights)
    assert sorted(map(len, muon.groups.values())) == [1, 2]
    for scale, (name, w) in zip((1e-3, 1.0, 1e3), weights.items(), strict=True):
        w.grad = scale * torch.randn(w.shape, generator=stream(0, name))
    muon.step(1.0)
    for name, w in weights.items():
        step = torch.linalg.svdvals(w.flatten(1)) / (loop.MUON["lr"] * max(1, w.shape[0] / w[0].numel()) ** 0.5)
        assert 0.6 < step.min() <= step.max() < 1.3, name


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_batches_come_in_order_however_many_are_drawn_at_once(ahead: int) -> None:
    drawn, begun = [], []

    def fetch(k: int) -> loop.Batch:
        time.sleep(0.01 * (k % 3))  # later ones are ready first
        drawn.append(k)
        return {"k": torch.tensor(k)}

    batches = loop.in_order(fetch, 5, ahead, lambda: begun.append(1))
    assert [int(next(batches)["k"]) for _ in range(7)] == list(range(5, 12))
    batches.close()
    assert sorted(drawn) == list(range(5, 12 + ahead))
    assert len(begun) == ahead


def test_what_a_drawing_thread_raises_ends_the_run() -> None:
    def fetch(k: int) -> loop.Batch:
        raise InputError("no such clip")

    with pytest.raises(InputError, match="no such clip"):
        next(loop.in_order(fetch, 0, 2))


def test_of_several_gpus_each_process_takes_its_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert (loop.pick("auto"), loop.pick("cuda"), loop.pick("cpu")) == (
        torch.device("cuda", 2),
        torch.device("cuda", 2),
        torch.device("cpu"),
    )


SCRIPT = """
import sys
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
options = {"checkpoint_minutes": float(sys.argv[4]), "progress": toys.stop_after(int(sys.argv[5]), toys.Cancelled)}
try:
    toys.loop.fit(sys.argv[2], toys.task(), minutes=0, steps=int(sys.argv[3]), device="cpu", **options)
except toys.Cancelled:
    Path(sys.argv[2], "stopped-" + toys.os.environ.get("RANK", "0")).touch()
"""


def script(tmp_path: Path) -> tuple[str, dict[str, str]]:
    (tmp_path / "toy.py").write_text(SCRIPT)
    return str(tmp_path / "toy.py"), {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_kill_9(tmp_path: Path) -> None:
    path, environment = script(tmp_path)
    state = tmp_path / "killed/state.safetensors"
    with subprocess.Popen([sys.executable, path, __file__, str(tmp_path / "killed"), "100000000", "0", "-1"], env=environment) as process:
        try:
            for _ in range(600):
                if state.exists():
                    break
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGKILL)
    done = record(tmp_path / "killed")["step"]
    assert done > 0
    for name, more in (("killed", 3), ("whole", done + 3)):
        with pytest.raises(Cancelled):
            fit(tmp_path / name, 100_000_000, progress=stop_after(more, Cancelled))
        assert record(tmp_path / name)["step"] == done + 3
    assert equal(tmp_path / "killed", tmp_path / "whole")


def launched(tmp_path: Path, *arguments: str) -> None:
    """Run the toy recipe in two processes, as several GPUs would."""
    path, environment = script(tmp_path)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run([*launch, path, __file__, str(tmp_path / "two"), *arguments], env=environment, check=True, timeout=240)


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path: Path) -> None:
    launched(tmp_path, "100000000", "5", "4")
    assert sorted(path.name for path in (tmp_path / "two").glob("stopped-*")) == ["stopped-0", "stopped-1"]
    assert record(tmp_path / "two")["step"] == 4


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    launched(tmp_path, "3", "0", "-1")
    fit(tmp_path / "one", 3)
    a, b = (load_tensors(tmp_path / name / "state.safetensors")[0] for name in ("one", "two"))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)
    assert record(tmp_path / "two")["place"].endswith("x 2")
    assert [record(tmp_path / name)["samples"] for name in ("one", "two")] == [18, 18]
    losses = [record(tmp_path / name)["curve"][0]["loss"] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
