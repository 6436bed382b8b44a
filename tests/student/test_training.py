"""Training is the protocol it says, belongs to its seed, learns, and can be stopped."""

import pytest
import torch
import torch.nn.functional as F

from vidistill.errors import Cancelled, InputError
from vidistill.rng import stream
from vidistill.student import Soft, build, predict, train_student
from vidistill.student.training import Muon, _float, _one_cycle, _optimisers, _order, orthogonal

K = 3


def clips(per_class, seed=0, frames=4, size=44):
    """A bright bar that stands, moves right or moves down: three classes that an easy network tells apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(K).repeat(per_class)
    video = torch.randint(0, 60, (len(labels), 3, frames, size, size), dtype=torch.uint8, generator=generator)
    for n, label in enumerate(labels.tolist()):
        at = int(torch.randint(0, 16, (), generator=generator))
        for t in range(frames):
            step = at + 7 * t
            if label == 0:
                video[n, :, t, at : at + 8, at : at + 8] = 255
            elif label == 1:
                video[n, :, t, :, step : step + 4] = 255
            else:
                video[n, :, t, step : step + 4] = 255
    return video, labels


class Store:
    """Looks like a clip store and counts the largest batch that was asked for."""

    def __init__(self, video):
        self.video, self.largest = video, 0

    def __len__(self):
        return len(self.video)

    def batch(self, index):
        self.largest = max(self.largest, len(index))
        return self.video[index]


def train(video, labels, **changes):
    return train_student(video, labels, **{"classes": K, "width": 4, "steps": 3, "batch": 4, "seed": 1} | changes)


@pytest.mark.parametrize("protocol", ["fast", "lvdd"])
def test_a_student_learns_what_it_sees(protocol):
    """Held-out clips far above the 33 % of chance, in both protocols."""
    video, labels = clips(12)
    unseen, truth = clips(10, seed=5)
    net = train(video, labels, protocol=protocol, width=8, steps=50, batch=12)
    assert (predict(net, unseen, protocol=protocol).argmax(1) == truth).float().mean() > 0.75


@pytest.mark.parametrize(("student", "protocol"), [("conv3d", "fast"), ("conv3d", "lvdd"), ("cnn-gru", "fast"), ("cnn-lstm", "lvdd")])
def test_the_same_seed_gives_the_same_student(student, protocol):
    video, labels = clips(3)
    torch.manual_seed(7)
    first = train(video, labels, student=student, protocol=protocol)
    torch.manual_seed(8)  # global state plays no part ...
    state = torch.random.get_rng_state()
    again = train(video, labels, student=student, protocol=protocol)
    other = train(video, labels, student=student, protocol=protocol, seed=2)
    assert torch.equal(state, torch.random.get_rng_state())  # ... and is left alone
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert torch.equal(predict(first, video, protocol=protocol), predict(again, video, protocol=protocol))


def test_a_store_a_function_and_a_tensor_give_the_same_student():
    video, labels = clips(4)
    store = Store(video)
    nets = [train(source, labels) for source in (video, store, lambda index: video[index])]
    for net in nets[1:]:
        assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), net.parameters(), strict=True))
    assert store.largest <= 4
    assert torch.equal(predict(nets[0], store), predict(nets[0], video))


def test_lvdd_is_sgd_with_a_fresh_optimiser_at_the_drop():
    """Four steps on one full batch, written out by hand: rate 0.01, then at step 251/501 of the run 0.001 with no momentum."""
    video, labels = clips(1)
    net = train(video, labels, protocol="lvdd", steps=4, batch=8)
    twin = build("conv3d", K, 4, 4, 44, seed=1).train()
    twin.dropout.generator = stream(1, "student", "dropout")
    order = _order(3, 8, "lvdd", stream(1, "student", "order"))
    speed = None
    for step in range(4):
        index = next(order)
        x = (video[index].float() / 255 - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1, 1)) / torch.tensor((0.229, 0.224, 0.225)).view(
            3, 1, 1, 1
        )
        loss = F.cross_entropy(twin((x - x.mean()) / x.std()), labels[index])
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        speed = None if step == 2 else speed
        with torch.no_grad():
            gradients = [g + 5e-4 * w for g, w in zip(gradients, twin.parameters(), strict=True)]
            speed = gradients if speed is None else [0.9 * v + g for v, g in zip(speed, gradients, strict=True)]
            for weight, v in zip(twin.parameters(), speed, strict=True):
                weight -= (0.01 if step < 2 else 0.001) * v
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_lvdd_runs_501_epochs_by_default(monkeypatch):
    """Two batches an epoch: 1,002 steps, of which the first 502 at the full rate."""
    seen = []

    def stop_early(stage, done, total):
        seen.append((stage, done, total))
        raise Cancelled

    video, labels = clips(2)
    with pytest.raises(Cancelled):
        train(video, labels, protocol="lvdd", steps=0, batch=3, progress=stop_early)
    assert seen == [("student", 1, 1002)]


def test_lvdd_standardises_each_batch_by_its_own_scalars():
    video, _ = clips(2)
    x = _float(video, "lvdd")
    assert abs(float(x.mean())) < 1e-5
    assert float(x.std()) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(_float(video[:2], "lvdd"), x[:2], atol=1e-3)  # a clip depends on its neighbours ...
    assert torch.equal(_float(video[:2], "fast"), _float(video, "fast")[:2])  # ... but not in the fast protocol


def test_normalisation_is_imagenets():
    video = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1, 1).expand(1, 3, 2, 1, 1)
    x = _float(video, "fast")[0, :, :, 0, 0]
    wanted = [[-0.485 / 0.229, 0.515 / 0.229], [-0.456 / 0.224, 0.544 / 0.224], [-0.406 / 0.225, 0.594 / 0.225]]
    torch.testing.assert_close(x, torch.tensor(wanted))


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (3, 8), (8, 8)])
def test_fast_gives_every_arm_full_batches(count, batch):
    """Equal compute: always ``batch`` clips a step, each clip as often as any other within one."""
    order = _order(count, batch, "fast", torch.Generator().manual_seed(0))
    picked = [next(order) for _ in range(2 * count)]
    assert all(len(index) == batch for index in picked)
    assert torch.equal(torch.bincount(torch.cat(picked)), torch.full((count,), 2 * batch))


def test_lvdd_epochs_end_with_a_short_batch():
    order = _order(10, 4, "lvdd", torch.Generator().manual_seed(0))
    epoch = [next(order) for _ in range(3)]
    assert [len(index) for index in epoch] == [4, 4, 2]
    assert torch.equal(torch.cat(epoch).sort().values, torch.arange(10))


@pytest.mark.parametrize("steps", [1, 2, 7, 80])
def test_the_rate_rises_to_its_peak_once_and_falls(steps):
    rates = [_one_cycle(step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0


def test_progress_tells_every_step_and_may_cancel():
    video, labels = clips(2)
    seen = []
    net = train(video, labels, progress=lambda *message: seen.append(message))
    assert seen == [("student", done, 3) for done in (1, 2, 3)]
    predict(net, video, progress=lambda *message: seen.append(message))
    assert seen[-1] == ("test", 6, 6)

    def cancel(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        train(video, labels, progress=cancel)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": torch.tensor([0, 1, 2, 3, 0, 1])}, "from 0 to 2"),
        ({"labels": torch.tensor([0, 1, 2, -1, 0, 1])}, "from -1"),
        ({"labels": torch.tensor([0, 1])}, "6 clips and 2 labels"),
        (
            {"video": torch.zeros(0, 3, 4, 44, 44, dtype=torch.uint8), "labels": torch.tensor([], dtype=torch.int64)},
            "at least one training clip",
        ),
        ({"video": torch.zeros(6, 3, 4, 44, 44)}, "uint8"),
        ({"protocol": "fats"}, "did you mean 'fast'?"),
        ({"student": "cnn-grue"}, "did you mean 'cnn-gru'?"),
        ({"width": 5}, "even"),
        ({"steps": -1}, "steps=-1"),
        ({"lr": 1e30}, "diverged at lr=1e+30"),
    ],
)
def test_bad_input_is_one_clear_line(changes, said):
    video, labels = clips(2)
    with pytest.raises(InputError) as error:
        train(**{"video": video, "labels": labels} | changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_test_set_is_said():
    video, labels = clips(1)
    net = train(video, labels, steps=1)
    with pytest.raises(InputError, match="test set is empty"):
        predict(net, video[:0])
    with pytest.raises(InputError, match="did you mean 'lvdd'"):
        predict(net, video, protocol="lvd")


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 8)])
def test_newton_schulz_brings_singular_values_near_one(shape):
    """And keeps the singular vectors: U^T X V stays diagonal."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ orthogonal(matrix) @ v.T
    assert (core - torch.diag(core.diag())).abs().max() < 1e-3
    assert ((core.diag() > 0.4) & (core.diag() < 1.3)).all()


def test_muon_turns_each_kernel_by_its_rate():
    """One step moves W by lr times its own length, whatever the size of the gradient; no gradient, no move."""
    for size in (1e-6, 1.0, 1e6):
        weight = torch.nn.Parameter(torch.randn(4, 3, 3, 7, 7, generator=torch.Generator().manual_seed(0)))
        before = weight.detach().clone()
        weight.grad = size * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        optimiser = Muon([{"params": [weight], "lr": 0.05}])
        optimiser.step()
        moved = weight.detach() - before
        assert float(moved.norm() / before.norm()) == pytest.approx(0.05, rel=1e-4)
        assert float((moved * weight.grad).sum()) < 0  # downhill
    weight.grad = torch.zeros_like(weight)
    still = weight.detach().clone()
    Muon([{"params": [weight], "lr": 0.05}]).step()
    assert torch.equal(weight, still)


@pytest.mark.parametrize("student", ["conv3d", "cnn-gru", "cnn-lstm"])
def test_fast_trains_every_weight_exactly_once(student):
    """Even where the classifier has as many rows as the network is wide."""
    net = build(student, 4, 4, 4, 44)
    held = [weight for optimiser in _optimisers(net, "fast", 0.05) for group in optimiser.param_groups for weight in group["params"]]
    assert {id(weight) for weight in held} == {id(weight) for weight in net.parameters()}
    assert len(held) == len(list(net.parameters()))


@pytest.mark.parametrize(("steps", "rate"), [(40, 0.05), (80, 0.05), (400, 0.01)])
def test_fast_lowers_its_rate_in_long_runs(monkeypatch, steps, rate):
    """At a rate of 0.05 a run of 300 steps fell apart on real clips."""
    seen = []

    def spy(net, protocol, lr):
        seen.append(lr)
        raise Cancelled

    monkeypatch.setattr("vidistill.student.training._optimisers", spy)
    video, labels = clips(1)
    with pytest.raises(Cancelled):
        train(video, labels, steps=steps)
    assert seen == [pytest.approx(rate)]


def teacher(labels, sure=4.0):
    return sure * F.one_hot(labels, K).float()


def test_soft_labels_are_their_formula():
    z, told = torch.randn(5, K, generator=torch.Generator().manual_seed(0)), torch.randn(9, K, generator=torch.Generator().manual_seed(1))
    labels, index = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([8, 0, 3, 3, 1])
    p, q = (told[index] / 3).softmax(1), (z / 3).softmax(1)
    kl = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(Soft(told).loss(z, labels, index), 0.2 * F.cross_entropy(z, labels) + 0.8 * 9 * kl)
    torch.testing.assert_close(Soft(told, 0.2, squared=False).loss(z, labels, index), 0.8 * F.cross_entropy(z, labels) + 0.2 * kl)
    torch.testing.assert_close(Soft(told, 0.0).loss(z, labels, index), F.cross_entropy(z, labels))


def test_a_student_learns_from_a_teacher_against_the_labels():
    """With all weight on the teacher the labels, wrong here, do not matter."""
    video, labels = clips(12)
    unseen, truth = clips(10, seed=5)
    net = train(video, labels.roll(5), width=8, steps=50, batch=12, soft=Soft(teacher(labels), 1.0))
    assert (predict(net, unseen).argmax(1) == truth).float().mean() > 0.75


def test_no_weight_on_the_teacher_is_hard_labels():
    video, labels = clips(3)
    one, two = train(video, labels), train(video, labels, soft=Soft(teacher(labels), 0.0))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_soft_labels_that_do_not_fit_are_named():
    video, labels = clips(3)
    with pytest.raises(InputError, match="one row a clip"):
        train(video, labels, soft=Soft(teacher(labels)[:4]))
    with pytest.raises(InputError, match=r"weight must be in \[0, 1\]"):
        Soft(teacher(labels), 1.5)
    with pytest.raises(InputError, match="temperature positive"):
        Soft(teacher(labels), 0.5, 0)
    with pytest.raises(InputError, match="finite logits"):
        Soft(teacher(labels) * float("nan"))
