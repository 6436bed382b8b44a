"""`select` as a whole: every selector, its promises, its errors, and its memory."""

import threading
import time

import pytest
import torch

from vidistill import select as room
from vidistill.errors import InputError
from vidistill.select import KERNELS, SELECTORS, select
from vidistill.types import Latents


def latents(counts=(9, 12, 7), shape=(2, 3, 4, 4), seed=0, shuffled=True, groups=True):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    if shuffled:
        labels = labels[torch.randperm(len(labels), generator=g)]
    n = len(labels)
    videos = tuple(f"g{i % 4}" for i in range(n)) if groups else ()
    return Latents(
        torch.randn(n, *shape, generator=g),
        labels,
        tuple(f"clip{i}" for i in range(n)),
        tuple(map(chr, range(97, 97 + len(counts)))),
        videos,
    )


@pytest.mark.parametrize("selector", [s for s in SELECTORS if s != "all"])
def test_every_selector_keeps_k_distinct_clips_of_each_class_in_class_order(selector):
    z = latents()
    found = select(z, selector=selector, k=5)
    assert found.index.dtype == torch.int64
    assert z.labels[found.index].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(set(found.index.tolist())) == 15
    assert found.index.equal(select(z, selector=selector, k=5).index)
    assert (found.diagnostics is not None) == (selector in ("dpp", "greedy-map"))


@pytest.mark.parametrize("selector", ["dpp", "random", "group-random"])
def test_random_selectors_follow_the_seed(selector):
    z = latents()
    assert not select(z, selector=selector, k=4, seed=0).index.equal(select(z, selector=selector, k=4, seed=1).index)


@pytest.mark.parametrize("selector", ["greedy-map", "herding", "k-center", "random"])
def test_fewer_instances_are_the_first_of_more(selector):
    z = latents()
    few, many = (select(z, selector=selector, k=k).index.view(3, k) for k in (3, 6))
    assert few.equal(many[:, :3])


def test_all_keeps_everything_by_class():
    z = latents()
    found = select(z, selector="all", k=3).index
    assert found.sort().values.equal(torch.arange(28))
    assert (z.labels[found].diff() >= 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("selector", ["dpp", "greedy-map"])
def test_batches_of_classes_do_not_change_the_result(selector, kernel, monkeypatch):
    z = latents()
    whole = select(z, selector=selector, kernel=kernel, k=5)
    monkeypatch.setattr(room, "_ENTRIES", 1)  # one class at a time
    parts = select(z, selector=selector, kernel=kernel, k=5)
    assert whole.index.equal(parts.index)
    assert whole.diagnostics["largest_off_diagonal"] == pytest.approx(parts.diagnostics["largest_off_diagonal"])
    assert [row["class"] for row in parts.diagnostics["per_class"]] == ["a", "b", "c"]


def test_the_report_says_when_the_kernel_is_the_identity():
    z = latents((20, 30), shape=(4, 8, 14, 14))
    note = select(z, selector="dpp", kernel="official", k=4).diagnostics["note"]
    assert "official kernel is numerically the identity here" in note
    assert "uniform random sampling" in note
    assert select(z, selector="dpp", kernel="rbf-median", k=4).diagnostics["note"] == ""


def test_half_precision_latents_select_as_their_float32_values():
    z = latents()
    half = Latents(z.z.half(), z.labels, z.names, z.classes, z.groups)
    full = Latents(z.z.half().float(), z.labels, z.names, z.classes, z.groups)
    assert select(half, selector="greedy-map", k=5).index.equal(select(full, selector="greedy-map", k=5).index)


def test_group_aware_dpp_rarely_keeps_two_clips_of_one_video():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(40, 1, 1, 10, 10, generator=g)
    groups = tuple(f"g{i // 4}" for i in range(40))
    data = Latents(z, torch.zeros(40, dtype=torch.int64), groups, ("a",), groups)

    def videos(kernel):
        return sum(len(set(data.take(select(data, selector="dpp", kernel=kernel, k=8, seed=s).index).groups)) for s in range(20)) / 20

    assert videos("group-aware") > 7.5
    assert videos("rbf-median") < 7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"selector": "dp"}, "unknown selector 'dp'.*did you mean 'dpp'"),
        ({"selector": "random", "kernel": "cosin"}, "unknown kernel 'cosin'.*'cosine'"),
        ({"k": 8}, r"k=8.*class 'c' has 7.*\[1, 7\]"),
        ({"k": 0}, r"k=0.*\[1, 7\]"),
        ({"bandwidth": -1.0}, "bandwidth=-1.0.*greater than 0"),
        ({"kernel": "group-aware"}, "kernel 'group-aware' needs the source video"),
        ({"selector": "group-random"}, "selector 'group-random' needs the source video"),
    ],
)
def test_bad_input_is_one_clear_line(words, line):
    with pytest.raises(InputError, match=line) as error:
        select(latents(groups=False), **{"selector": "dpp", "k": 3} | words)
    assert "\n" not in str(error.value)


def test_broken_latents_are_refused():
    z = latents((50, 50))
    z.z[70, 0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite values, first among clips 64 to 99"):
        select(z, selector="dpp", k=3)


def test_a_class_without_clips_is_named():
    z = latents((5, 5))
    with pytest.raises(InputError, match="class 'z' has 0"):
        select(Latents(z.z, z.labels, z.names, ("a", "b", "z")), selector="random", k=1)


def test_memory_on_top_of_the_latents_stays_small():
    """MiniUCF's count and width: the extra memory must be a fraction of the latents, far from a copy of them."""

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    z = latents((93,) * 50, shape=(4, 16, 14, 14), shuffled=False)
    select(latents((93,) * 2), selector="dpp", k=3)  # library start-up
    size, base, peak, done = z.z.nbytes, resident(), [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], resident() - base)
            time.sleep(1e-3)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        select(z, selector="dpp", kernel="official", k=24)
    finally:
        done.set()
        watcher.join()
    assert size > 200e6
    assert peak[0] < 0.5 * size, peak[0] / size
