"""Centres of classes: against scikit-learn's k-means, and what is said about them; composition of instances frame by frame."""

from __future__ import annotations

import pytest
import torch

from vidistill.errors import InputError
from vidistill.select.centres import Centres, class_centres, cluster, motion
from vidistill.select.coresets import coordinates
from vidistill.select.mvic import POLICIES, compose, frames_of, members
from vidistill.types import Latents


def latents(counts: tuple[int, ...] = (12, 5), seed: int = 0) -> Latents:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.tensor([label for label, n in enumerate(counts) for _ in range(n)])
    z = torch.randn(len(labels), 4, 6, 3, 3, generator=draw) + 3 * labels.view(-1, 1, 1, 1, 1)
    names = tuple(f"clip{i}" for i in range(len(labels)))
    return Latents(z, labels, names, tuple(f"class{c}" for c in range(len(counts))), frames=6)


def gram(x: torch.Tensor) -> torch.Tensor:
    centred = x.double() - x.double().mean(0)
    return centred @ centred.T


def inertia(x: torch.Tensor, own: torch.Tensor) -> float:
    return sum(float((x[own == c] - x[own == c].mean(0)).square().sum()) for c in own.unique())


def test_coordinates_keep_distances() -> None:
    x = torch.randn(9, 200, generator=torch.Generator().manual_seed(0))
    points = coordinates(gram(x))
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(x, x), rtol=1e-3, atol=1e-3)


def test_clusters_are_as_tight_as_scikit_learns() -> None:
    from sklearn.cluster import KMeans

    draw = torch.Generator().manual_seed(1)
    x = torch.randn(60, 40, generator=draw) + 2 * torch.randint(0, 4, (60, 1), generator=draw)
    ours = cluster(coordinates(gram(x)), 6, torch.Generator().manual_seed(0))
    theirs = torch.from_numpy(KMeans(6, n_init=10, random_state=0).fit_predict(x.numpy()))
    assert inertia(x, ours) <= 1.02 * inertia(x, theirs)
    assert len(ours.unique()) == 6


def test_every_class_has_its_centres_and_no_other() -> None:
    """The mapping that a re-implementation lost nine points by: a centre belongs to the class whose clips it was made of."""
    data = latents((7, 5, 9))
    order = torch.randperm(21, generator=torch.Generator().manual_seed(3))  # load order must not matter
    mixed = data.take(order)
    centres = class_centres(mixed, k=3)
    for label in range(3):
        own = data.z[data.labels == label].flatten(1).mean(0)
        for video in range(5):
            at = centres.of(label, video)
            assert centres.labels[at] == label
            nearest = torch.stack([data.z[data.labels == c].flatten(1).mean(0) for c in range(3)])
            assert int((nearest - centres.z[at].flatten()).norm(dim=1).argmin()) == label
        assert (centres.z[centres.labels == label].flatten(1).mean(0) - own).norm() < own.norm()
    assert [centres.of(1, j) for j in range(4)] == [3, 4, 5, 3]


def test_small_classes_give_fewer_centres() -> None:
    centres = class_centres(latents((12, 2, 1)), k=4)
    assert torch.bincount(centres.labels).tolist() == [4, 2, 1]
    assert centres.sizes.sum() == 15
    assert torch.equal(centres.z[-1], latents((12, 2, 1)).z[-1])
    assert [centres.of(2, j) for j in range(3)] == [6, 6, 6]


def test_copies_of_a_clip_do_not_stop_it() -> None:
    data = latents((6,))
    same = data.take(torch.tensor([0, 0, 0, 1, 1, 1]))
    centres = class_centres(same, k=4)
    assert centres.sizes.sum() == 6
    assert len(centres.z) == 4
    assert all(any(torch.allclose(z, data.z[i], atol=1e-5) for i in (0, 1)) for z in centres.z)


def test_kinds_of_centre() -> None:
    data = latents((12,))
    mean, medoid, rescaled = (class_centres(data, k=3, kind=kind) for kind in ("mean", "medoid", "rescaled"))
    assert torch.equal(mean.medoids, medoid.medoids)
    for i in range(3):
        assert torch.equal(medoid.z[i], data.z[medoid.medoids[i]])
    assert torch.allclose(rescaled.norms, torch.ones(3), atol=1e-5)
    assert bool((mean.norms <= 1.0001).all())
    assert torch.allclose(
        rescaled.z / rescaled.z.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1), mean.z / mean.z.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    )


def test_few_centres_hardly_move() -> None:
    still, alive = (class_centres(latents((60,)), k=k).motion for k in (1, 60))
    assert float(still) == pytest.approx(1 / 60, rel=0.3)
    assert torch.allclose(alive.mean(), torch.tensor(1.0), atol=0.01)
    assert motion(torch.zeros(2, 4, 6, 3, 3)).tolist() == [0, 0]


def test_centres_depend_on_the_seed_alone() -> None:
    one, two = class_centres(latents((30,)), k=5, seed=3), class_centres(latents((30,)), k=5, seed=3)
    assert torch.equal(one.z, two.z)
    assert isinstance(one, Centres)


def test_what_cannot_be_clustered_is_named() -> None:
    data = latents((4, 0))
    with pytest.raises(InputError, match="class class1 has no clips"):
        class_centres(data, k=2)
    with pytest.raises(InputError, match="at least one centre"):
        class_centres(latents(), k=0)
    with pytest.raises(InputError, match="medoid"):
        class_centres(latents(), k=1, kind="mediod")
    with pytest.raises(InputError, match="no centre of class 7"):
        class_centres(latents(), k=1).of(7, 0)


# ------------------------------------------------------------------------------------------------------------- composition


def numbered(videos: int, frames: int = 16) -> torch.Tensor:
    """Clips whose pixels say which video and which frame they are."""
    return (100 * torch.arange(videos).view(-1, 1, 1, 1, 1) + torch.arange(frames).view(1, 1, -1, 1, 1)).expand(-1, 3, -1, 2, 2)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_frame_comes_from_where_it_says(policy: str) -> None:
    made, source = compose(numbered(12), 3, policy, seed=5)
    assert made.shape == (3, 3, 16, 2, 2)
    said = 100 * source[..., 0] + source[..., 1]
    assert torch.equal(made, said.view(3, 1, 16, 1, 1).expand_as(made))
    for row in source:  # four videos, four frames of each, in order
        assert row[:, 0].view(4, 4).unique(dim=1).shape == (4, 1)
        assert bool((row[:, 1].view(4, 4).diff(dim=1) > 0).all())


def test_each_video_is_used_once() -> None:
    assert members(3, 4).flatten().sort().values.tolist() == list(range(12))
    assert members(3, 4)[1].tolist() == [1, 4, 7, 10]
    _, source = compose(numbered(12), 3, "first")
    assert sorted(source[..., 0].unique().tolist()) == list(range(12))


def test_frames_of_each_policy() -> None:
    assert frames_of("first", 16, 4).tolist() == [0, 1, 2, 3]
    assert frames_of("stride", 16, 4).tolist() == [0, 4, 8, 12]
    runs = {tuple(frames_of("random-contiguous", 16, 4, seed, 1).tolist()) for seed in range(40)}
    assert len(runs) > 5
    assert all(run == tuple(range(run[0], run[0] + 4)) and run[-1] < 16 for run in runs)


def test_without_composition_a_video_is_an_instance() -> None:
    video = numbered(3)
    made, _ = compose(video, 3, "first")
    assert torch.equal(made, video)


def test_what_does_not_divide_is_named() -> None:
    with pytest.raises(InputError, match="U must divide both"):
        compose(numbered(7), 3, "first")
    with pytest.raises(InputError, match="U must divide both"):
        compose(numbered(9), 3, "first")  # U = 3 does not divide 16
    with pytest.raises(InputError, match="stride"):
        frames_of("strides", 16, 4)
    with pytest.raises(InputError, match="5 of 4 frames"):
        frames_of("first", 4, 5)


def test_centres_as_a_table() -> None:
    rows = class_centres(latents((12, 3)), k=4).table(["a", "b"])
    assert [(row["class"], row["centres"]) for row in rows] == [("a", 4), ("b", 3)]
    assert (rows[1]["smallest"], rows[1]["largest"], rows[1]["motion"], rows[1]["norm"]) == (1, 1, 1.0, pytest.approx(1.0))
    assert rows[0]["motion"] < 1
