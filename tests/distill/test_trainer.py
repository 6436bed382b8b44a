"""The loop: who is stepped and how often, bit-for-bit resume, a stop before a bad step, and what is averaged, logged and cast."""

import json
from collections import Counter

import pytest
import torch
from torch import nn

from vidistill.data.plane import grid
from vidistill.distill import METHODS, Heads, Method, Nets, Trainer, cast, in_memory
from vidistill.distill.mlp import VelocityMLP
from vidistill.distill.nets import Mlp
from vidistill.distill.recipe import Recipe
from vidistill.errors import Cancelled, InputError
from vidistill.files import load_tensors
from vidistill.rng import stream

TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
SMALL = {"times": TIMES, "lr": 1e-2, "critic_lr": 1e-2, "heads_lr": 1e-2, "student_update_freq": 3, "updates": 4}
RECIPES = {
    "flow": Recipe("flow", ema=0.9, decay="cosine", **SMALL),
    "kd": Recipe("kd", **SMALL),
    "trajectory": Recipe("trajectory", **SMALL),
    "accvideo": Recipe("accvideo", **SMALL),
    "dmd": Recipe("dmd", gan=0.1, counting="fastgen", **SMALL),
    "dmd simulated": Recipe("dmd", student_input="simulate", ema=0.5, **SMALL),
    "dfd": Recipe("dfd", **SMALL),
    "dfd unpaired": Recipe("dfd", paired=False, form="score", **SMALL),
    "sft": Recipe("sft", critic_form="x0", **SMALL),
    "dpdmd": Recipe("dpdmd", anchor_steps=2, teacher_steps=4, **SMALL),
    "bf16": Recipe("dmd", student_input="simulate", precision="bf16", **SMALL),
}


def trainer(recipe, data, seed=0, **more):
    net = VelocityMLP(width=16, seed=1).requires_grad_(False)
    heads = {"accvideo": lambda: Heads(16, 4, kind="point"), "dmd": Mlp}.get(recipe.method, lambda: None)()
    return Trainer(recipe, cast(net, heads=heads, empty=net.empty), data, seed=seed, **more)


def states(one):
    return {name: tensor.clone() for name, tensor in one.tensors().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(count, error=Cancelled):
    calls = []

    def progress(stage, done, total):
        calls.append(done)
        if len(calls) == count:
            raise error

    return progress


# --------------------------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(name, data, tmp_path):
    recipe = RECIPES[name]
    whole = trainer(recipe, data)
    whole.run(tmp_path / "whole")
    torch.manual_seed(99)  # global state plays no part
    half = whole.iterations // 2
    parts = trainer(recipe, data)
    with pytest.raises(Cancelled):
        parts.run(tmp_path / "parts", progress=stop_after(half))
    assert parts.iteration == half
    assert not equal(states(parts), states(whole))
    again = trainer(recipe, data)
    again.run(tmp_path / "parts")
    assert equal(states(again), states(whole))
    files = [load_tensors(tmp_path / run / "student.safetensors")[0] for run in ("whole", "parts")]
    assert equal(*files)
    plain = lambda run: [(line["iteration"], line["updates"], line["losses"]) for line in json.loads((run / "log.json").read_text())]  # noqa: E731
    assert plain(tmp_path / "parts") == plain(tmp_path / "whole")
    assert equal(states(whole), {key: value for key, value in load_tensors(tmp_path / "whole/state.safetensors")[0].items()})


def test_a_killed_run_goes_on_from_its_checkpoint(data, tmp_path):
    recipe = RECIPES["dfd"]
    whole = trainer(recipe, data)
    whole.run()
    with pytest.raises(ZeroDivisionError):
        trainer(recipe, data).run(tmp_path, checkpoint_minutes=0, progress=stop_after(5, ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):  # nothing is written this time
        trainer(recipe, data).run(tmp_path, progress=stop_after(3, ZeroDivisionError))
    assert json.loads(load_tensors(tmp_path / "state.safetensors")[1]["record"])["iteration"] == 5
    again = trainer(recipe, data)
    again.run(tmp_path)
    assert equal(states(again), states(whole))
    assert [update.iteration for update in again.log] == list(range(1, 13))


def test_a_state_of_another_run_is_refused(data, tmp_path):
    trainer(RECIPES["kd"], data).run(tmp_path)
    for other, said in (
        (trainer(Recipe("kd", **{**SMALL, "lr": 0.5}), data), r"another run \(lr differ"),
        (trainer(RECIPES["kd"], data, seed=1), r"another run \(seed differ"),
        (trainer(RECIPES["kd"], data, about={"teacher": "b"}), r"another run \(about differ"),
        (Trainer(RECIPES["kd"], cast(VelocityMLP(width=8).requires_grad_(False)), data), "other networks"),
    ):
        with pytest.raises(InputError, match=said):
            other.run(tmp_path)
    (tmp_path / "state.safetensors").write_bytes((tmp_path / "state.safetensors").read_bytes()[:100])
    with pytest.raises(InputError, match="cannot read"):
        trainer(RECIPES["kd"], data).run(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------- who is stepped


@pytest.mark.parametrize(("counting", "critics"), [("dmd2", 20), ("fastgen", 16)])
def test_alternation(counting, critics, data):
    recipe = Recipe("dmd", times=TIMES, updates=4, counting=counting, student_update_freq=5)
    one, seen = trainer(recipe, data), Counter()
    for update in one.steps():
        seen.update(update.losses.keys())
        assert update.updates == update.iteration // 5
    assert seen == {"critic": critics, "dmd": 4}
    assert one.updates == 4


def test_accvideo_steps_the_student_twice_per_key_time_and_never_the_teacher(data):
    one = trainer(RECIPES["accvideo"], data)
    before = states(one), {name: w.clone() for name, w in one.nets.teacher.state_dict().items()}
    update = next(one.steps())
    assert update.updates == one.updates == 8
    assert set(update.losses) == {"trajectory", "adversarial", "heads"}
    assert equal(before[1], one.nets.teacher.state_dict())
    after = states(one)
    assert all(not torch.equal(before[0][name], after[name]) for name in after if name.startswith("heads/") and name.endswith("1.weight"))


def test_only_the_one_whose_loss_it_is_moves(data):
    one = trainer(RECIPES["dmd"], data)
    moved = []
    for _ in range(3):
        before = states(one)
        next(one.steps())
        after = states(one)
        moved.append(
            {who for who in one.learning for name in after if name.startswith(f"{who}/") and not torch.equal(before[name], after[name])}
        )
    assert moved == [{"critic", "heads"}, {"critic", "heads"}, {"student"}]


def test_a_new_method_is_one_function(data, monkeypatch):
    def shrink(turn):
        yield "student", "size", sum(w.square().sum() for w in turn.nets.student.parameters())

    monkeypatch.setitem(METHODS, "shrink", Method(shrink))
    one = trainer(Recipe("shrink", times=TIMES, updates=20, lr=1e-2), data)
    one.run()
    assert one.log[-1].losses["size"] < one.log[0].losses["size"]


def test_bf16_gradients_reach_the_student_after_a_roll_out_without(data):
    """Casts of weights made without gradient must not serve the step with one."""
    one = trainer(RECIPES["bf16"], data)
    for _ in one.steps():
        pass
    assert all(update.norms["student"] > 0 for update in one.log if "student" in update.norms)
    assert all(w.dtype == torch.float32 for w in one.nets.student.parameters())
    plain = trainer(Recipe("dmd", student_input="simulate", **SMALL), data)
    assert next(plain.steps()).losses["critic"] == pytest.approx(one.log[0].losses["critic"], rel=0.05)
    assert next(plain.steps()).losses != one.log[1].losses


def test_clipping_and_rates(data):
    loose, tight = (trainer(Recipe("kd", **{**SMALL, "clip": clip, "updates": 1}), data) for clip in (0.0, 1e-4))
    for one in (loose, tight):
        next(one.steps())
    assert loose.log[0].norms == tight.log[0].norms
    moment = "adam/student/exp_avg/out.weight"
    assert tight.tensors()[moment].norm() < 1e-4 < loose.tensors()[moment].norm()
    cosine = trainer(Recipe("kd", decay="cosine", **SMALL), data)
    rates = []
    for _ in cosine.steps():
        rates.append(cosine.optimisers["student"].param_groups[0]["lr"] / 1e-2)
    assert rates == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_average(data):
    off, on = (trainer(Recipe("kd", **{**SMALL, "ema": ema}), data) for ema in (0.0, 0.5))
    before = on.nets.student.out.weight.detach().clone()
    next(off.steps())
    next(on.steps())
    assert not off.average
    assert torch.equal(off.student().out.weight, off.nets.student.out.weight)
    assert torch.allclose(on.student().out.weight, (before + on.nets.student.out.weight) / 2)
    assert not on.student().out.weight.requires_grad


# ------------------------------------------------------------------------------------------------------------------------------ bad numbers


class Broken:
    """Data that goes bad at an iteration."""

    def __init__(self, data, count):
        self.data, self.left = data, count

    def __call__(self, generator):
        batch = self.data(generator)
        self.left -= 1
        return batch if self.left else type(batch)(batch.x0 * float("nan"), batch.c, batch.path * float("nan"), batch.other)


def test_nan_stops_before_the_step_and_keeps_the_last_good_weights(data, tmp_path):
    good = trainer(Recipe("kd", **{**SMALL, "updates": 2}), data)
    good.run()
    bad = trainer(RECIPES["kd"], Broken(data, 3))
    with pytest.raises(
        InputError, match=r"the kd loss is not finite at iteration 3 \(student update 3\).*student.safetensors holds"
    ) as said:
        bad.run(tmp_path)
    assert "state.safetensors" not in str(said.value)
    assert bad.iteration == bad.updates == 2
    assert equal(load_tensors(tmp_path / "student.safetensors")[0], dict(bad.nets.student.state_dict()))
    assert all(torch.isfinite(tensor).all() for tensor in bad.tensors().values())
    assert equal(states(bad), states(good))
    with pytest.raises(InputError, match=r"critic loss is not finite at iteration 2 \(student update 0\).*the networks keep"):
        trainer(RECIPES["dfd"], Broken(data, 2)).run()


def test_an_infinite_gradient_stops_too(data, monkeypatch):
    def steep(turn):
        yield "student", "steep", sum((w - w.detach()).abs().sqrt().sum() for w in turn.nets.student.parameters())

    monkeypatch.setitem(METHODS, "steep", Method(steep))
    one = trainer(Recipe("steep", times=TIMES, updates=3), data)
    before = states(one)
    with pytest.raises(InputError, match=r"gradient of the steep loss is not finite at iteration 1 "):
        one.run()
    assert equal(states(one), before)


# ----------------------------------------------------------------------------------------------------------------- what the run is given


def test_watch_and_log(data, tmp_path):
    asked = []

    def watch(one):
        asked.append(one.updates)
        return {"size": float(one.student().out.weight.norm())}

    one = trainer(RECIPES["dmd"], data)
    one.run(tmp_path, watch=watch, every=2)
    assert asked == [0, 2, 4]
    assert [update.updates for update in one.log if update.seen] == [0, 2, 4]
    log = json.loads((tmp_path / "log.json").read_text())
    assert len(log) == 1 + 12
    assert {"critic", "heads"} <= set(log[1]["losses"])


def test_networks_of_other_architectures_are_both_named(teacher):
    with pytest.raises(InputError) as said:
        cast(teacher, VelocityMLP(width=8, depth=2))
    for part in (
        "student (VelocityMLP of 2 layers of 8,",
        "teacher (VelocityMLP of 3 layers of 16,",
        "hidden.0.weight is (8, 19) here and (16, 19)",
    ):
        assert part in str(said.value)
    own = VelocityMLP(width=8, depth=2)
    assert cast(teacher, own, fresh=True).student is own
    other = VelocityMLP(width=16, seed=5)
    assert equal(dict(cast(teacher, other).student.state_dict()), dict(teacher.state_dict()))


def test_what_is_missing_is_said(teacher, data):
    student = VelocityMLP(width=16)
    for recipe, nets, said in (
        (Recipe("dmb"), cast(teacher), "did you mean 'dmd'"),
        (Recipe("kd"), Nets(student), "needs a teacher"),
        (Recipe("dmd"), Nets(student, lambda x, t, c: x), "needs a critic"),
        (Recipe("accvideo"), cast(teacher), "needs discriminator heads"),
        (Recipe("kd"), Nets(VelocityMLP(width=4).requires_grad_(False), teacher), "all of them are frozen"),
    ):
        with pytest.raises(InputError, match=said):
            Trainer(recipe, nets, data)


def test_prepare_and_backward_are_the_seam_for_accelerate(data):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    plain = trainer(RECIPES["dfd"], data)
    through = trainer(RECIPES["dfd"], data, prepare=accelerator.prepare_model, backward=accelerator.backward)
    plain.run()
    through.run()
    assert equal(states(plain), states(through))


class Affine(nn.Module):
    """The exact velocity of N(mean, deviation^2) data, with both to be learned."""

    def __init__(self, mean=0.0, deviation=1.0):
        super().__init__()
        self.mean, self.log_deviation = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(deviation).log())

    def forward(self, x, t, c=None):
        t, d2 = t.view(-1, 1), (2 * self.log_deviation).exp()
        u = (1 - t) ** 2 * d2 + t**2
        return (t - (1 - t) * d2) / u * (x - (1 - t) * self.mean) - self.mean


class OneStep(nn.Module):
    """A student whose clean sample from noise at t = 1 is ``m + s z``."""

    def __init__(self, m, s):
        super().__init__()
        self.m, self.s = nn.Parameter(torch.tensor(m)), nn.Parameter(torch.tensor(s))

    def forward(self, x, t, c=None):
        return x - (self.m + self.s * x)


def test_dmd_recovers_a_gaussian():
    """A one-step student that begins wide and off its place finds the teacher's mean and deviation through a learned critic."""
    student, shape = OneStep(0.5, 1.4), torch.zeros(2, 1)
    recipe = Recipe("dmd", times=(1.0, 0.0), updates=200, lr=5e-2, critic_lr=1e-1, betas=(0.0, 0.99), decay="cosine", weight_decay=0.0)
    Trainer(recipe, Nets(student, Affine(1.5, 0.8), Affine(0.5, 1.4)), in_memory(256, x0=shape)).run()
    assert student.m.item() == pytest.approx(1.5, abs=0.05)
    assert student.s.item() == pytest.approx(0.8, abs=0.05)


def test_flow_trains_a_teacher():
    from vidistill.distill.mlp import teacher

    world = grid(2, 3.0, 0.3)
    net = teacher(world, steps=150, batch=128, ema=0.9, width=32, lr=1e-2)
    x, _ = world.draw(512, stream(0, "x"))
    eps, t = torch.randn(512, 2, generator=stream(0, "eps")), torch.rand(512, generator=stream(0, "t"))
    x_t = (1 - t)[:, None] * x + t[:, None] * eps
    exact = world.velocity(x_t, t.double()).float()
    assert (net(x_t, t) - exact).square().mean() < 0.35 * exact.square().mean()
    assert not net.training
