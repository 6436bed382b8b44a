"""The key times of the paper, and a store of trajectories that no interruption can spoil."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from vidistill.distill.losses import shift, trajectory_target
from vidistill.distill.trajectory import (
    check_keys,
    euler_states,
    field_source,
    key_indices,
    model_source,
    open_trajectories,
    places_of,
    record_trajectories,
    sizes,
    stored,
    time_table,
)
from vidistill.errors import Cancelled, InputError
from vidistill.files import file_digest
from vidistill.rng import normal
from vidistill.sample import load_denoiser, sample

KEYS = [1, Fraction(28, 29), Fraction(21, 23), Fraction(14, 17), Fraction(7, 11), 0]
"""AccVideo's key times, the supplement's 0.9651 mended."""

FACTS = {"field": "linear"}
PROMPTS, SEEDS = [0, 1, 0, 1, 0, 1, 0], [3, 1, 4, 15, 9, 2, 6]


def linear(x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """A field that depends on all three of its arguments."""
    return x * (0.5 + t[:, None]) - c[:, None].to(x)


def plane(steps: int = 12, velocity=linear, **facts):
    return field_source(velocity, time_table(steps, 3.0), (2,), id="linear", facts=FACTS | facts)


def counting():
    """Return a field that counts the states that it has seen."""
    seen: list[int] = []

    def velocity(x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return linear(x, t, c)

    return velocity, seen


# ------------------------------------------------------------------------------------------------------------------- times


def test_the_key_times_of_the_paper_are_every_tenth_of_fifty() -> None:
    assert [shift(Fraction(j, 5), 7) for j in range(5, -1, -1)] == KEYS
    places = key_indices(50, 5)
    assert places == (0, 10, 20, 30, 40, 50)
    table = time_table(50, 7.0)
    assert [table[place] for place in places] == [float(t) for t in KEYS]  # to the last bit: nothing is interpolated
    assert time_table(5, 7.0) == tuple(float(t) for t in KEYS)
    assert places_of([float(t) for t in KEYS], table) == places
    assert abs(table[10] - 0.9651) > 3e-4  # the printed digits


def test_the_ten_step_preset() -> None:
    assert key_indices(50, 10) == tuple(range(0, 51, 5))
    for s in (5.0, 3.0):
        table = time_table(50, s)
        assert [table[place] for place in key_indices(50, 10)] == list(time_table(10, s))


@pytest.mark.parametrize(("steps", "s"), [(50, 7.0), (12, 1.0), (48, 0.5), (1, 3.0)])
def test_a_table_falls_from_noise_to_data(steps, s) -> None:
    table = time_table(steps, s)
    assert len(table) == steps + 1
    assert (table[0], table[-1]) == (1, 0)
    assert all(later < earlier for earlier, later in pairwise(table))
    assert table == pytest.approx([shift(j / steps, s) for j in range(steps, -1, -1)], rel=1e-15)


@pytest.mark.parametrize("wrong", [(0, 10, 10, 50), (0, 30, 20, 50), (50, 40, 0), (0,), ()])
def test_key_times_not_increasing_is_said(wrong) -> None:
    with pytest.raises(InputError, match="key times not increasing: places"):
        check_keys(wrong, 50)
    with pytest.raises(InputError, match="key times not increasing"):
        places_of([1.0, 0.5, 0.5, 0.0], time_table(4))


def test_key_times_must_be_the_teachers_own() -> None:
    with pytest.raises(InputError, match="5 key intervals do not divide a table of 48 steps: choose one of 1, 2, 3, 4, 6"):
        key_indices(48, 5)
    for wrong in ((0, 10, 40), (10, 50)):
        with pytest.raises(InputError, match="must begin at 0"):
            check_keys(wrong, 50)
    with pytest.raises(InputError, match=r"0\.9651 is not in the teacher's table of 50 steps: the nearest is 0\.965517"):
        places_of([1, 0.9651, 0], time_table(50, 7.0))
    assert places_of([1.0, 0.25, 0.0], time_table(4)) == (0, 3, 4)  # uneven ones are fine
    for steps, s in ((0, 7.0), (5, 0.0), (5, -1.0)):
        with pytest.raises(InputError, match="no time table"):
            time_table(steps, s)


# ------------------------------------------------------------------------------------------------------------------- sizes


def test_the_sizes_of_the_paper() -> None:
    medium, high = (16, 24, 68, 120), (16, 33, 90, 160)
    small, large = sizes(medium, 5), sizes(high, 5)
    assert (small["values"], large["values"]) == (3_133_440, 7_603_200)
    assert [round(one["state"] / 1e6, 2) for one in (small, large)] == [6.27, 15.21]
    assert [round(one["whole"] / 1e6) for one in (small, large)] == [320, 776]  # the table of the spec rounds 775.5 down
    assert [round(one["keys"] / 1e6, 1) for one in (small, large)] == [37.6, 91.2]
    assert [round(records * one["whole"] / 1e12, 1) for records, one in ((105_996, small), (8_303, large))] == [33.9, 6.4]
    assert [round(records * one["keys"] / 1e12, 2) for records, one in ((105_996, small), (8_303, large))] == [3.99, 0.76]
    assert round(38_400 * small["keys"] / 1e12, 2) == 1.44
    assert small["kept"] == small["keys"] - small["state"]  # the noise is in the seed
    assert sizes((3, 16, 32, 32), 5)["keys"] == 6 * 49_152 * 2  # the lab's world: 0.6 MB
    assert sizes((2,), 5, dtype="fp32")["kept"] == 5 * 2 * 4


# ------------------------------------------------------------------------------------------------------------------- store


def test_key_states_are_the_teachers_own(tmp_path) -> None:
    store = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path, places=4, dtype="fp32", batch=3, shard=4)
    assert (len(store), store.places, store.prompts, store.seeds) == (7, (0, 3, 6, 9, 12), tuple(PROMPTS), tuple(SEEDS))
    assert store.times == time_table(4, 3.0)
    found = store.batch(range(7))
    x = normal(SEEDS, "init", (2,))
    whole = [x, *euler_states(linear, x, time_table(12, 3.0), torch.tensor(PROMPTS))]
    torch.testing.assert_close(found.states, torch.stack(whole[::3], 1), rtol=0, atol=1e-6)
    assert torch.equal(found.states[:, 0], x)
    assert len(load_file(tmp_path / "shard-00000.safetensors")["states"][0]) == 4  # the noise state is not stored


def test_records_come_in_any_order(tmp_path, monkeypatch) -> None:
    store = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path, places=3, dtype="fp32", shard=3)
    every = store.batch(range(7)).states
    index = [5, 0, 0, -1, 3]
    assert torch.equal(store.batch(index).states, every[index])
    assert store.batch(torch.tensor(index)).seeds == (2, 3, 3, 6, 15)
    monkeypatch.setattr("vidistill.distill.trajectory.RESIDENT", 0)  # too large for memory: shard by shard
    again = open_trajectories(tmp_path)
    assert torch.equal(again.batch(index).states, every[index])
    assert torch.equal(torch.cat([part.states for part in again.batches(3)]), every)
    assert again.batch([]).states.shape == (0, 4, 2)
    with pytest.raises(IndexError, match="record 7 of 7"):
        store.batch([7])


@pytest.mark.parametrize(("dtype", "close"), [("bf16", 1e-2), ("fp16", 1e-3)])
def test_half_precision_halves_the_states_and_not_the_noise(tmp_path, dtype, close) -> None:
    store = record_trajectories(plane(), PROMPTS * 200, range(1400), tmp_path / "half", places=4, dtype=dtype, batch=1400, shard=1400)
    full = record_trajectories(plane(), PROMPTS * 200, range(1400), tmp_path / "full", places=4, dtype="fp32", batch=1400, shard=1400)
    a, b = (one.batch(range(0, 1400, 100)).states for one in (store, full))
    assert a.dtype == torch.float32
    torch.testing.assert_close(a, b, rtol=close, atol=close)
    assert not torch.equal(a, b)
    assert torch.equal(a[:, 0], b[:, 0])
    states = [1400 * sizes((2,), 4, dtype=name)["kept"] for name in (dtype, "fp32")]
    assert full.bytes - store.bytes == pytest.approx(states[1] - states[0], abs=16)
    assert 0 < store.bytes - states[0] < 30 * 1400  # prompts and seeds, as text


def test_a_student_with_the_targets_of_the_store_lands_on_its_clean_states(tmp_path) -> None:
    store = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path, places=4, dtype="fp32")
    states = store.batch(range(7)).states
    targets = {t: trajectory_target(states[:, j], states[:, j + 1], t, after) for j, (t, after) in enumerate(pairwise(store.times))}
    calls = []

    def student(x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        calls.append(float(t[0]))
        return targets[min(targets, key=lambda one: abs(one - float(t[0])))]

    *_, last = euler_states(student, states[:, 0], store.times, torch.tensor(PROMPTS))
    torch.testing.assert_close(last, states[:, -1], rtol=0, atol=1e-5)
    assert len(calls) == 4  # evaluations: one a key interval


def test_a_models_trajectories_are_the_samplers(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    prompts, seeds = ["orbit", "a blue ring falling", "spin"], [5, 6, 7]
    source = model_source(model, steps=4, guidance=2.0)
    store = record_trajectories(source, prompts, seeds, tmp_path, places=2, batch=3, dtype="fp32")
    steps = [step.latents for step in sample(model, prompts, seeds=seeds, steps=4, guidance=2.0)]
    found = store.batch(range(3))
    assert torch.equal(found.states, torch.stack([normal(seeds, "init", model.shape), steps[1], steps[3]], 1))
    assert found.prompts == tuple(prompts)
    assert store.times == pytest.approx([float(model.grid(4)[0][0].sigma), float(model.grid(4)[2][0].sigma), 0.0])
    with pytest.raises(InputError, match=r"holds other trajectories \(facts differ\)"):
        record_trajectories(model_source(model, steps=4, guidance=3.0), prompts, seeds, tmp_path, places=2, dtype="fp32")


def test_a_table_of_diffusers_is_not_its_own_part(tiny_dit) -> None:
    """Why a student is sampled at the key times, and not with the scheduler set to m steps."""
    table = model_source(load_denoiser(tiny_dit), steps=50).times
    assert [round(table[place], 3) for place in key_indices(50, 5)] == [1.0, 0.922, 0.814, 0.657, 0.407, 0.0]
    with pytest.raises(InputError, match="is not in the teacher's table of 50 steps"):
        places_of(model_source(load_denoiser(tiny_dit), steps=5).times, table)


def test_only_a_flow_has_trajectories(tiny_unet) -> None:
    with pytest.raises(InputError, match="epsilon family: trajectories need a flow"):
        model_source(load_denoiser(tiny_unet))


def test_a_run_draws_from_the_store(tmp_path) -> None:
    store = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path / "classes", places=4)
    draw = stored(store, 50)
    one, two, other = (draw(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.path, two.path)
    assert not torch.equal(one.path, other.path)
    every = store.batch(range(7)).states
    rows = (one.path[:, None] == every).flatten(2).all(2).int().argmax(1)
    assert torch.equal(one.path, every[rows])
    assert set(rows.tolist()) == set(range(7))
    assert torch.equal(one.c, torch.tensor(PROMPTS)[rows])
    assert torch.equal(one.x0, every[rows, -1])
    texts = field_source(lambda x, t, c: -x, time_table(12), (2,), id="texts", facts={})
    texts = replace(texts, run=lambda prompts, seeds: plane().run([0] * len(prompts), seeds))
    words = record_trajectories(texts, ["a", "bc"], [0, 1], tmp_path / "texts", places=4)
    with pytest.raises(InputError, match="texts for prompts: pass conditions"):
        stored(words, 2)
    lengths = stored(words, 9, lambda prompts: torch.tensor([len(prompt) for prompt in prompts]))(torch.Generator().manual_seed(0)).c
    assert set(lengths.tolist()) == {1, 2}
    with pytest.raises(InputError, match="batch >= 1"):
        stored(store, 0)


# ------------------------------------------------------------------------------------------------------------ interruption


def test_an_interrupted_recording_goes_on(tmp_path) -> None:
    velocity, seen = counting()

    def stop(stage: str, done: int, total: int) -> None:
        if done > 4 * 12:
            raise Cancelled

    with pytest.raises(Cancelled):
        record_trajectories(plane(velocity=velocity), PROMPTS, SEEDS, tmp_path / "a", places=4, batch=2, shard=2, progress=stop)
    with pytest.raises(InputError, match=r"cut short: 3 of 7 records remain, from shard-00002\.safetensors on; record them again"):
        open_trajectories(tmp_path / "a")
    assert len(open_trajectories(tmp_path / "a", 4)) == 4  # what is there can be used
    seen.clear()
    told: list[tuple[int, int]] = []
    again = record_trajectories(
        plane(velocity=velocity), PROMPTS, SEEDS, tmp_path / "a", places=4, batch=2, shard=2, progress=lambda _, *now: told.append(now)
    )
    assert told[0] == (4 * 12, 7 * 12)
    assert told[-1] == (7 * 12, 7 * 12)
    assert told == sorted(told)
    assert sum(seen) == 3 * 12  # records that were there are not made again
    whole = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path / "b", places=4, batch=2, shard=2)
    assert [file_digest(path) for path in sorted(again.folder.iterdir())] == [file_digest(path) for path in sorted(whole.folder.iterdir())]


@pytest.mark.parametrize("harm", ["gone", "short", "noise"])
def test_a_damaged_store_says_what_remains_and_is_mended(tmp_path, harm) -> None:
    before = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path, places=4, shard=3).batch(range(7)).states
    path = tmp_path / "shard-00001.safetensors"
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-8] if harm == "short" else bytes(40))
    with pytest.raises(InputError, match=r"cut short: 3 of 7 records remain, from shard-00001"):
        open_trajectories(tmp_path)
    velocity, seen = counting()
    mended = record_trajectories(plane(velocity=velocity), PROMPTS, SEEDS, tmp_path, places=4, shard=3)
    assert sum(seen) == 3 * 12
    assert torch.equal(mended.batch(range(7)).states, before)


def test_a_longer_list_goes_on_and_a_shorter_one_is_there(tmp_path) -> None:
    record_trajectories(plane(), PROMPTS[:5], SEEDS[:5], tmp_path, places=4, shard=3)
    velocity, seen = counting()
    longer = record_trajectories(plane(velocity=velocity), PROMPTS, SEEDS, tmp_path, places=4, shard=3)
    assert sum(seen) == 4 * 12  # the unfinished shard, and what follows
    shorter = record_trajectories(plane(velocity=velocity), PROMPTS[:2], SEEDS[:2], tmp_path, places=4, shard=3)
    assert sum(seen) == 4 * 12
    assert torch.equal(shorter.batch(range(2)).states, longer.batch(range(2)).states)
    assert (len(shorter), shorter.seeds) == (2, tuple(SEEDS[:2]))
    assert len(open_trajectories(tmp_path)) == 7


def test_other_trajectories_are_not_mixed_in(tmp_path) -> None:
    keep = {"places": 4, "dtype": "fp32", "shard": 3}
    record_trajectories(plane(), PROMPTS, SEEDS, tmp_path, **keep)
    for change, named in (({"places": 3}, "places"), ({"dtype": "bf16"}, "dtype"), ({"shard": 2}, "shard")):
        with pytest.raises(InputError, match=rf"holds other trajectories \({named} differ\)"):
            record_trajectories(plane(), PROMPTS, SEEDS, tmp_path, **keep | change)
    with pytest.raises(InputError, match="facts differ"):
        record_trajectories(plane(seed=1), PROMPTS, SEEDS, tmp_path, **keep)
    with pytest.raises(InputError, match="table"):
        record_trajectories(plane(24), PROMPTS, SEEDS, tmp_path, **keep)
    with pytest.raises(InputError, match="other prompts or seeds in shard 1"):
        record_trajectories(plane(), PROMPTS, [*SEEDS[:4], 77, *SEEDS[5:]], tmp_path, **keep)
    with pytest.raises(InputError, match="other prompts or seeds in shard 0"):
        record_trajectories(plane(), [1, *PROMPTS[1:]], SEEDS, tmp_path, **keep)
    velocity, seen = counting()  # a shard of another recipe is made again, even where the manifest is lost
    (tmp_path / "manifest.json").unlink()
    record_trajectories(plane(velocity=velocity, seed=1), PROMPTS, SEEDS, tmp_path, **keep)
    assert sum(seen) == 7 * 12


def test_bad_input_is_said(tmp_path) -> None:
    with pytest.raises(InputError, match="2 prompts, 3 seeds"):
        record_trajectories(plane(), [0, 1], [1, 2, 3], tmp_path)
    with pytest.raises(InputError, match="batch=0, shard=64"):
        record_trajectories(plane(), [0], [1], tmp_path, batch=0)
    with pytest.raises(InputError, match="5 key intervals do not divide a table of 12 steps"):
        record_trajectories(plane(), [0], [1], tmp_path)
    with pytest.raises(InputError, match="key times not increasing"):
        record_trajectories(plane(), [0], [1], tmp_path, places=[0, 6, 6, 12])
    with pytest.raises(InputError, match="unknown dtype 'int8'"):
        record_trajectories(plane(), [0], [1], tmp_path, places=4, dtype="int8")
    with pytest.raises(InputError, match="holds no trajectories: there is no manifest"):
        open_trajectories(tmp_path / "nowhere")
    huge = lambda x, t, c: torch.where(c[:, None] == 1, 1e6, 1.0) * x  # noqa: E731
    with pytest.raises(InputError, match="seed 9 has states that are not finite in fp16"):
        record_trajectories(plane(velocity=huge), [0, 1], [8, 9], tmp_path / "huge", places=4, dtype="fp16")
    assert not list((tmp_path / "huge").glob("*.safetensors"))
    record_trajectories(plane(), [0, 1], [8, 9], tmp_path / "fine", places=4)
    with pytest.raises(InputError, match="holds 2 trajectories; cannot open the first 3"):
        open_trajectories(tmp_path / "fine", 3)


def test_two_processes_make_what_one_makes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        two = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path / "two", places=4, shard=2)
        assert len(list((tmp_path / "two").glob("*.safetensors"))) == (2 if rank == "0" else 4)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    one = record_trajectories(plane(), PROMPTS, SEEDS, tmp_path / "one", places=4, shard=2)
    assert torch.equal(two.batch(range(7)).states, one.batch(range(7)).states)


SCRIPT = """
import sys, time
from vidistill.distill.trajectory import field_source, record_trajectories, time_table
def slow(x, t, c):
    time.sleep(0.002)
    return x * (0.5 + t[:, None]) - c[:, None].to(x)
source = field_source(slow, time_table(12, 3.0), (2,), id="linear", facts={"field": "linear"})
record_trajectories(source, [0] * 400, list(range(400)), sys.argv[1], places=4, batch=2, shard=4)
"""


def test_kill_9_loses_one_shard_at_most(tmp_path) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "a")], env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        try:
            for _ in range(1200):
                if len(list(tmp_path.glob("a/shard-*.safetensors"))) >= 3:
                    break
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("a/shard-*.safetensors")}
    assert 3 <= len(before) < 100
    with pytest.raises(InputError, match=f"cut short: {400 - 4 * len(before)} of 400 records remain"):
        open_trajectories(tmp_path / "a")
    velocity, seen = counting()
    resumed = record_trajectories(plane(velocity=velocity), [0] * 400, range(400), tmp_path / "a", places=4, batch=2, shard=4)
    assert sum(seen) == (400 - 4 * len(before)) * 12
    assert {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in before} == before
    whole = record_trajectories(plane(), [0] * 400, range(400), tmp_path / "b", places=4, batch=2, shard=4)
    assert torch.equal(resumed.batch(range(400)).states, whole.batch(range(400)).states)
