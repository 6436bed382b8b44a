"""Each method feeds its networks what its paper says, draws what it says, and sends gradients where it says."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from vidistill.data.plane import quadrants
from vidistill.distill import METHODS, Batch, Heads, Nets, Turn, cast, changed, generate, in_memory, load_recipe, losses, methods, roll_out
from vidistill.distill import recipe as recipes
from vidistill.distill.mlp import VelocityMLP, points
from vidistill.distill.nets import Mlp
from vidistill.distill.recipe import Recipe, critic_updates, recipe_of, student_updates, turns
from vidistill.errors import InputError
from vidistill.rng import stream

TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)


class Recorder(nn.Module):
    """A network that remembers what it was asked, and whether with a gradient."""

    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, []

    def forward(self, x, t, c=None):
        self.calls.append((x.detach().clone(), t.clone(), torch.is_grad_enabled() and any(w.requires_grad for w in self.net.parameters())))
        return self.net(x, t, c)


def recorded(teacher, **more):
    """Student like the teacher, critic another one: DMD's gradient would vanish otherwise."""
    return Nets(Recorder(VelocityMLP(width=16, seed=1)), Recorder(teacher), Recorder(VelocityMLP(width=16, seed=2)), **more)


def turn(recipe, nets, data, iteration=1, seed=0, **more):
    return Turn(recipe, nets, data, seed, iteration, **more)


def only(moves):
    """Run a method without stepping; return its moves by name."""
    return {name: (who, loss) for who, name, loss in moves}


# ------------------------------------------------------------------------------------------------------------------------------- counting


def test_counters():
    """dfd.md test 12."""
    assert [student_updates(n, 5) for n in (100, 300, 160)] == [20, 60, 32]
    for counting, critics in (("fastgen", 80), ("dmd2", 100)):
        played = [turns(i, 5, counting) for i in range(1, 101)]
        assert sum(student for student, _ in played) == 20
        assert sum(critic for _, critic in played) == critics == critic_updates(20, 5, counting)
    assert not any(student and critic for student, critic in (turns(i, 5, "fastgen") for i in range(1, 101)))


def test_shipped_recipes():
    fastgen = load_recipe("fastgen-dmd2")
    assert fastgen.times == (0.999, 0.937, 0.833, 0.624, 0.0)  # the literals, dfd.md test 1
    assert fastgen.updates * fastgen.student_update_freq == 6000
    assert load_recipe("dfd").updates == student_updates(100, 5)
    assert load_recipe("accvideo").times == pytest.approx((1, 28 / 29, 21 / 23, 14 / 17, 7 / 11, 0), abs=1e-15)
    for name in recipes.recipes():
        assert load_recipe(name).method in METHODS


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "dmd", "critik_lr": 1}, "did you mean 'critic_lr'"),
        ({"lr": 1}, "needs a method"),
        ({"method": "dmd", "times": [1, 0.5, 0.5, 0]}, "must fall"),
        ({"method": "dmd", "times": [1, 0.5]}, "the last one 0"),
        ({"method": "dmd", "p": 1.5}, "p=1.5 is out of range, allowed is 0 to 1"),
        ({"method": "dmd", "counting": "fast"}, "did you mean 'fastgen'"),
        ({"method": "dmd", "updates": "many"}, "wrong type"),
    ],
)
def test_a_recipe_says_what_is_wrong(values, said):
    with pytest.raises(InputError, match=said):
        recipe_of(values)


def test_a_recipe_is_read_from_a_file(tmp_path):
    (tmp_path / "mine.toml").write_text('method = "sft"\np = 0.25\n')
    assert load_recipe(tmp_path / "mine.toml", lr=0.5) == Recipe("sft", p=0.25, lr=0.5)
    with pytest.raises(InputError, match="did you mean 'accvideo'"):
        load_recipe("acc-video")


# --------------------------------------------------------------------------------------------------------------------------------- inputs


def test_backward_simulation(teacher, data):
    """dfd.md test 17: a roll-out without gradient with the current weights, then one step with gradient, from where it ended."""
    recipe = Recipe("dmd", times=TIMES, student_input="simulate")
    depths = set()
    for iteration in range(1, 12):
        nets = recorded(teacher)
        moves = only(METHODS["dmd"].moves(turn(recipe, nets, data, iteration, critic=False)))
        calls = nets.student.calls
        assert [with_grad for *_, with_grad in calls] == [False] * (len(calls) - 1) + [True]
        assert [t[0].item() for _, t, _ in calls] == list(TIMES[: len(calls)])
        one = turn(recipe, nets, data, iteration)
        like = torch.zeros(8, 2)
        fresh = lambda j, one=one, like=like: one.noise(like, "renoise", "student", j)  # noqa: E731
        start = roll_out(
            nets.student.net, one.noise(like, "input", "student"), TIMES, None, renoise="sde", fresh=fresh, steps=len(calls) - 1
        )
        assert torch.equal(calls[-1][0], start)
        assert moves["dmd"][1].requires_grad
        depths.add(len(calls))
    assert depths == {1, 2, 3, 4}


def test_data_latents_are_noised_real_samples(teacher, data):
    nets = recorded(teacher)
    one = turn(Recipe("dmd", times=TIMES), nets, data, critic=False)
    only(METHODS["dmd"].moves(one))
    ((x, t, _),) = nets.student.calls
    assert len(set(t.tolist())) > 1  # one time a sample
    assert torch.equal(x, losses.noised(one.batch("student").x0, one.noise(x, "input", "student"), t))


def test_few_steps(teacher):
    """accvideo.md test 6 and dfd.md test 11: m evaluations; Euler draws no noise after the first state."""
    z = torch.randn(5, 2, generator=stream(0, "z"))
    net = Recorder(teacher)
    one, two = (generate(net, z, TIMES, renoise="ode", seed=seed) for seed in (0, 1))
    assert torch.equal(one, two)
    assert len(net.calls) == 2 * 4
    assert not torch.equal(generate(net, z, TIMES, seed=0), generate(net, z, TIMES, seed=1))
    assert torch.equal(generate(net, z, TIMES, seed=1), generate(net, z, TIMES, seed=1))
    x = z
    for now, after in pairwise(TIMES):
        x = x + (after - now) * teacher(x, torch.full((5,), now))
    assert torch.equal(one, x)


# ----------------------------------------------------------------------------------------------------------------------- DMD and its kin


def gradients(nets, moves):
    _, loss = next(iter(moves.values()))
    return torch.autograd.grad(loss, [*nets.student.parameters()])


def test_dfd_with_p_0_is_dmd_and_one_draw_decides(teacher, data):
    """dfd.md tests 5 and 7."""
    recipe = Recipe("dfd", times=TIMES, p=0.5)
    fed = Counter()
    for iteration in range(1, 21):
        kept = {}
        for name, one in {"dmd": changed(recipe, method="dmd"), "dfd": recipe, "p0": changed(recipe, p=0.0)}.items():
            nets = recorded(teacher)
            moves = only(METHODS[one.method].moves(turn(one, nets, data, iteration, critic=False)))
            kept[name] = (gradients(nets, moves), nets.critic.calls[0], nets.teacher.calls[0], list(moves))
        assert all(torch.equal(a, b) for a, b in zip(kept["dmd"][0], kept["p0"][0], strict=True))
        forced = kept["dfd"][3] == ["dfd"]
        fed[forced] += 1
        (x_f, t_f, _), (x_r, t_r, _) = kept["dfd"][1:3]
        assert torch.equal(t_f, t_r)
        assert torch.equal(x_f, kept["dmd"][1][0])  # the critic sees what it sees in DMD
        if not forced:
            assert torch.equal(x_f, x_r)
            continue
        one = turn(recipe, nets, data, iteration)
        eps = one.noise(x_f, "score", "student")
        assert torch.equal(x_r, losses.noised(one.batch("student").x0, eps, t_r))  # all rows forced, each with its own real sample
    assert min(fed.values()) >= 3


def test_unpaired_samples_are_independent_but_of_the_same_condition():
    world = quadrants()
    batch = points(world, 64, pairs=True)(stream(0, "batch"))
    near = lambda x: world.labels[torch.cdist(x.double(), world.means).argmin(1)]  # noqa: E731
    assert torch.equal(near(batch.x0), batch.c)
    assert torch.equal(near(batch.other), batch.c)
    assert not torch.equal(batch.x0, batch.other)
    stored = in_memory(64, x0=batch.x0, c=batch.c)(stream(1, "batch"))
    assert torch.equal(near(stored.other), stored.c)
    recipe = Recipe("dfd", times=TIMES, p=1.0, paired=False)
    net = VelocityMLP(width=8, classes=4)
    nets = Nets(Recorder(net), Recorder(net), Recorder(net))
    one = turn(recipe, nets, points(world, 16, pairs=True), critic=False)
    only(METHODS["dfd"].moves(one))
    x_r, t, _ = nets.teacher.calls[0]
    assert torch.equal(x_r, losses.noised(one.batch("student").other, one.noise(x_r, "score", "student"), t))


def test_guidance_is_the_teachers_and_has_a_switch_for_forced_steps():
    """dfd.md test 7: CFG acts on r only; ``real_scale`` only where the teacher is fed a real sample."""
    net = VelocityMLP(width=8, classes=4)
    data = points(quadrants(), 16)
    asked = {}
    for p, real_scale in ((0.0, 1.0), (1.0, 1.0), (1.0, None)):
        nets = Nets(Recorder(net), Recorder(net), Recorder(net), empty=net.empty)
        recipe = Recipe("dfd", times=TIMES, p=p, scale=2.0, real_scale=real_scale)
        only(METHODS["dfd"].moves(turn(recipe, nets, data, critic=False)))
        asked[p, real_scale] = len(nets.teacher.calls)
        assert len(nets.critic.calls) == len(nets.student.calls) == 1
    assert asked == {(0.0, 1.0): 2, (1.0, 1.0): 1, (1.0, None): 2}
    with pytest.raises(InputError, match="empty condition"):
        only(METHODS["dmd"].moves(turn(Recipe("dmd", scale=2.0), Nets(net, net, net), data, critic=False)))
    x, t, c = torch.randn(4, 2), torch.rand(4), torch.arange(4)
    guided = methods.guided_velocity(net, x, t, c, net.empty, 3.0)
    assert torch.allclose(guided, net(x, t, c) + 2 * (net(x, t, c) - net(x, t, torch.full((4,), 4))))


def test_sft_regresses_to_the_real_sample(teacher, data):
    nets = recorded(teacher)
    one = turn(Recipe("sft", times=TIMES, p=1.0), nets, data, critic=False)
    moves = only(METHODS["sft"].moves(one))
    assert list(moves) == ["sft"]
    assert not nets.teacher.calls
    assert not nets.critic.calls
    (x, t, _) = nets.student.calls[0]
    g = methods.x0_hat(nets.student.net, x, t, None)
    expected = losses.surrogate(g, losses.denoising_gradient(g, one.batch("student").x0))
    assert torch.allclose(moves["sft"][1], expected)


def test_the_critic_learns_the_students_samples_and_the_gan_its_noised_ones(teacher, data):
    recipe = Recipe("dmd", times=TIMES, gan=0.3)
    nets = recorded(teacher, heads=Mlp())
    moves = only(METHODS["dmd"].moves(turn(recipe, nets, data)))
    assert {name: who for name, (who, _) in moves.items()} == {"critic": "critic", "heads": "heads", "dmd": "student"}
    assert not nets.student.calls[0][2]  # no gradient into the student from the critic's turn
    for name, without in (("critic", nets.student), ("heads", nets.student), ("dmd", nets.critic)):
        assert not any(g is not None for g in torch.autograd.grad(moves[name][1], [*without.parameters()], allow_unused=True))
    plain = only(METHODS["dmd"].moves(turn(changed(recipe, gan=0.0), recorded(teacher), data)))
    assert moves["dmd"][1] > plain["dmd"][1]


# --------------------------------------------------------------------------------------------------------------------------------- DP-DMD


def test_dpdmd_anchors_the_first_step_only(teacher, data):
    """dfd.md test 13."""
    recipe = Recipe("dpdmd", times=TIMES, anchor=0.05, anchor_steps=3, teacher_steps=10)

    def student_gradient(**changes):
        nets = recorded(teacher)
        net = Scaled(nets.student.net)
        nets = replace(nets, student=net)
        one = turn(changed(recipe, **changes), nets, data, critic=False)
        (loss,) = [loss for _, _, loss in METHODS["dpdmd"].moves(one)]
        first, *rest = torch.autograd.grad(loss, net.gains, allow_unused=True)
        return first, rest

    whole, free = student_gradient(), student_gradient(anchor=0.0)
    assert free[0] is None or free[0].abs() == 0  # no DMD gradient reaches the first step
    assert whole[0].abs() > 0
    for a, b in zip(whole[1], free[1], strict=True):  # and L_div reaches no other
        assert a is not None
        assert torch.allclose(a, b)
    assert any(g.abs() > 0 for g in whole[1])


class Scaled(nn.Module):
    """A network whose k-th call is multiplied by the k-th gain, so that the gradient of each step can be told."""

    def __init__(self, net):
        super().__init__()
        self.net, self.gains, self.at = net, [nn.Parameter(torch.ones(())) for _ in range(4)], 0

    def forward(self, x, t, c=None):
        self.at += 1
        return self.gains[self.at - 1] * self.net(x, t, c)


def test_the_anchor_is_the_teachers_state_after_k_steps(teacher, data):
    recipe = Recipe("dpdmd", times=TIMES, anchor_steps=2, teacher_steps=8, teacher_shift=3.0)
    eps = torch.randn(4, 2, generator=stream(0, "eps"))
    z, t = methods.anchor_state(turn(recipe, Nets(teacher, teacher), data), eps, None)
    table = [losses.shift(1 - j / 8, 3.0) for j in range(3)]
    assert t == table[2]
    expected = roll_out(teacher, eps, (*table, 0.0), None, renoise="ode", steps=2)
    assert torch.equal(z, expected)


# -------------------------------------------------------------------------------------------------------------------------------- AccVideo


class Linear(nn.Module):
    """The velocity of Gaussian data: v = (A - B) x at time t, exact and linear in x."""

    def __init__(self, deviation=0.5):
        super().__init__()
        self.d = deviation

    def forward(self, x, t, c=None):
        t = t.view(-1, 1)
        u = (1 - t) ** 2 * self.d**2 + t**2
        return (t - (1 - t) * self.d**2) / u * x


class PerStep(nn.Module):
    """A student with one matrix for each of its times."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Parameter(torch.zeros(4, 2))

    def forward(self, x, t, c=None):
        k = torch.tensor([TIMES.index(float(v)) for v in t])
        return self.maps[k] * x


def teacher_paths(net, noise, fine=24):
    table = [1 - j / fine for j in range(fine + 1)]
    states, x = [noise], noise
    for j in range(fine):
        x = losses.euler(x, net(x, torch.full((len(x),), table[j])), table[j], table[j + 1])
        if (j + 1) % (fine // 4) == 0:
            states.append(x)
    return torch.stack(states, 1)


def test_the_trajectory_loss_recovers_the_teacher_on_a_linear_ode():
    """Issue 6; accvideo.md test 5: the minimiser of Eq. 6, rolled out with 4 Euler steps, lands on the 24-step teacher's clean latent."""
    noise = torch.randn(64, 2, generator=stream(0, "noise"), dtype=torch.float64)
    paths, student = teacher_paths(Linear(), noise), PerStep().double()
    recipe = Recipe("trajectory", times=TIMES)
    best = torch.optim.LBFGS(
        student.parameters(), lr=1.0, max_iter=50, tolerance_grad=1e-14, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    batch = in_memory(256, path=paths)

    def closure():
        best.zero_grad()
        ((_, _, loss),) = METHODS["trajectory"].moves(turn(recipe, Nets(student, Linear()), batch))
        loss.backward()
        return loss

    best.step(closure)
    assert closure() < 1e-18
    fresh = torch.randn(16, 2, generator=stream(1, "noise"), dtype=torch.float64)
    end = roll_out(student, fresh, TIMES, None, renoise="ode")
    assert torch.allclose(end, teacher_paths(Linear(), fresh)[:, -1], atol=1e-9)


def test_exact_targets_compose(paths):
    """accvideo.md test 5 for any path."""
    x = paths[:, 0]
    for j in range(4):
        v = losses.trajectory_target(paths[:, j], paths[:, j + 1], TIMES[j], TIMES[j + 1])
        x = losses.euler(x, v, TIMES[j], TIMES[j + 1])
    assert torch.allclose(x, paths[:, -1], atol=1e-5)


def accvideo(teacher, data, monkeypatch, **changes):
    nets = recorded(teacher, heads=Heads(16, 4, kind="point"))
    nets.teacher = teacher
    judged = []
    plain = methods.judge

    def judge(one, x, t, c, k=0):
        judged.append((k, t, x))
        return plain(one, x, t, c, k)

    monkeypatch.setattr(methods, "judge", judge)
    one = turn(Recipe("accvideo", times=TIMES, **changes), nets, data)
    return nets, one, list(METHODS["accvideo"].moves(one)), judged


def test_queues_are_an_explicit_roll_out(teacher, data, monkeypatch):
    """accvideo.md tests 6, 8, 10 and 11: with weights that stand still the fakes are one roll-out of the student, step by step."""
    nets, one, moves, judged = accvideo(teacher, data, monkeypatch)
    assert [(who, name) for who, name, _ in moves] == [("student", "trajectory"), ("student", "adversarial"), ("heads", "heads")] * 4
    fooling, real, fake = judged[0::3], judged[1::3], judged[2::3]
    x, record = one.noise(torch.zeros(8, 2), "queue"), one.batch("key", 3)
    assert torch.equal(nets.student.calls[1][0], x)
    for j, k in enumerate((3, 2, 1, 0)):
        x = losses.euler(x, nets.student.net(x, torch.full((8,), TIMES[j])), TIMES[j], TIMES[j + 1])
        assert torch.equal(fooling[j][2], x)
        assert torch.equal(fake[j][2], x)
        assert fooling[j][2].requires_grad
        assert not fake[j][2].requires_grad
        assert torch.equal(real[j][2], record.path[:, j + 1])
        assert fooling[j][:2] == real[j][:2] == fake[j][:2] == (k, TIMES[j + 1])
        x = x.detach()
    # teacher forcing: the trajectory loss sees stored states only, a fresh record each
    for j, k in enumerate((3, 2, 1, 0)):
        assert torch.equal(nets.student.calls[2 * j][0], one.batch("key", k).path[:, j])
    # the gradient of an adversarial loss is that of one student evaluation from the queued state
    _, _, loss = moves[10]
    begin = fake[2][2]
    again = losses.euler(begin, nets.student.net(begin, torch.full((8,), TIMES[3])), TIMES[3], TIMES[4])
    expected = 0.1 * losses.generator_loss(nets.heads(teacher, again, torch.zeros(8), None, 0))
    grads = [torch.autograd.grad(value, [*nets.student.parameters()]) for value in (loss, expected)]
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))


def test_each_key_time_has_its_head_and_its_block(teacher, data, monkeypatch):
    """accvideo.md test 8."""
    blocks = []
    plain = teacher.features
    monkeypatch.setattr(teacher, "features", lambda x, t, c, block: (blocks.append((float(t[0]), block)), plain(x, t, c, block))[1])
    nets, _, moves, _ = accvideo(teacher, data, monkeypatch)
    assert set(blocks) == {(0.75, 2), (0.5, 2), (0.25, 2), (0.0, 1)}
    for j, k in enumerate((3, 2, 1, 0)):
        _, _, loss = moves[3 * j + 2]
        for number, head in enumerate(nets.heads.heads):
            found = torch.autograd.grad(loss, [*head.parameters()], allow_unused=True, retain_graph=True)
            assert all((g is not None) == (number == k) for g in found)
    single = Heads(16, 1, kind="point")
    assert single(teacher, torch.zeros(3, 2), torch.zeros(3), None, 3).shape == (3, 1)


def test_accvideo_noises_no_data(teacher, data, monkeypatch):
    """accvideo.md test 9."""
    calls = []
    monkeypatch.setattr(losses, "noised", lambda *given: calls.append(given))
    accvideo(teacher, data, monkeypatch)
    assert not calls


def test_without_its_weight_accvideo_is_trajectories(teacher, data, monkeypatch):
    """accvideo.md test 11."""
    nets, _, moves, judged = accvideo(teacher, data, monkeypatch, adversarial=0.0)
    assert [(who, name) for who, name, _ in moves] == [("student", "trajectory")] * 4
    assert not judged
    assert len(nets.student.calls) == 4


def test_kd_regresses_the_clean_end(nets, data):
    one = turn(Recipe("kd", times=TIMES), nets, data)
    ((who, name, loss),) = METHODS["kd"].moves(one)
    path = one.batch("student").path
    k = torch.randint(4, (8,), generator=one.draw("step", "student"))
    t = torch.tensor(TIMES)[k]
    x = path[torch.arange(8), k]
    assert (who, name) == ("student", "kd")
    assert torch.allclose(loss, (x - t[:, None] * nets.student(x, t) - path[:, -1]).square().mean())


def test_missing_data_is_said(teacher, paths):
    for recipe, batch, said in (
        (Recipe("kd", times=TIMES), Batch(torch.zeros(2, 2)), "stored paths, but the data has none"),
        (Recipe("kd", times=(1.0, 0.5, 0.0)), Batch(path=paths), "each of the 3 student times; these have 5"),
        (Recipe("dmd"), Batch(path=paths), "needs real samples"),
    ):
        with pytest.raises(InputError, match=said):
            only(METHODS[recipe.method].moves(turn(recipe, cast(teacher), lambda generator, batch=batch: batch)))
    with pytest.raises(InputError, match="equally many"):
        in_memory(2, x0=torch.zeros(3, 2), path=paths)
