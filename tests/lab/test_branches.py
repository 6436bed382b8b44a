"""Steps that were made are found again, as many bytes of them as there is room for, and a run goes on after them in segments."""

import pytest
import torch

from vidistill.errors import InputError
from vidistill.lab.branches import Branches, onward
from vidistill.sample import Step

BYTES = 2 * 4 * 10 + 4 * 2  # of one step


def step(index, evaluations=2, seconds=0.5):
    forces = {"pull": torch.zeros(1, 2)}
    return Step(index, 6, 0.0, 0.0, 0.0, torch.zeros(10), torch.full((10,), float(index)), forces, evaluations, seconds)


def run(*numbers):
    return [step(index) for index in numbers]


def test_the_longest_beginning_is_found():
    branches = Branches()
    assert branches.known("abc") == ()
    one, two = run(0, 1, 2), run(0, 1)
    branches.keep("abc", one)
    branches.keep("ab", two)
    assert [id(at) for at in branches.known("abd")] == [id(at) for at in one[:2]]
    assert len(branches.known("abcd")) == 3
    assert branches.known("xbc") == ()
    assert branches.known("") == ()


def test_the_oldest_runs_go_first_and_shared_steps_count_once():
    branches = Branches(most=7 * BYTES)
    parent = run(0, 1, 2, 3)
    branches.keep("abcd", parent)
    branches.keep("abce", [*parent[:3], step(3)])
    branches.keep("abfg", [*parent[:2], *run(2, 3)])
    assert branches.bytes == 7 * BYTES
    assert [len(branches.known(word)) for word in ("abcd", "abce", "abfg")] == [4, 4, 4]
    branches.keep("abch", [*parent[:3], step(3)])
    assert branches.bytes == 7 * BYTES
    assert [len(branches.known(word)) for word in ("abcd", "abce", "abfg", "abch")] == [3, 4, 4, 4]
    branches.keep("abce", branches.known("abce"))  # now it is the newest
    branches.keep("zzzz", run(0, 1, 2))
    assert len(branches.known("abce")) == 4
    assert branches.known("zz")
    assert len(branches.known("abfg")) == 2  # as far as the one that is left has them


def test_the_newest_run_is_kept_whatever_its_size():
    branches = Branches(most=BYTES)
    branches.keep("ab", run(0, 1))
    branches.keep("cdef", run(0, 1, 2, 3))
    assert len(branches.known("cdef")) == 4
    assert branches.known("ab") == ()


def sampler(begun, refuse=None):
    def begin(number, start, latents):
        if number == refuse:
            raise InputError("no")
        begun.append((number, start, None if latents is None else int(latents[0])))
        return (step(index, 2 * (index - start + 1), 0.5 * (index - start + 1)) for index in range(start, 6))

    return begin


def test_segments_are_sampled_one_after_the_other_and_their_costs_add_up():
    begun = []
    found = list(onward((), [2, 3, 6], sampler(begun)))
    assert [at.index for at in found] == [0, 1, 2, 3, 4, 5]
    assert [at.evaluations for at in found] == [2, 4, 6, 8, 10, 12]
    assert found[-1].seconds == 3.0
    assert begun == [(0, 0, None), (1, 0, None), (2, 0, None), (1, 2, 1), (2, 3, 2)]


def test_known_steps_are_not_sampled_again():
    begun = []
    found = list(onward([step(0), step(1), step(2), step(3, 8, 9.0)], [2, 3, 6], sampler(begun)))
    assert [at.index for at in found] == [4, 5]
    assert (found[-1].evaluations, found[-1].seconds) == (12, 10.0)
    assert begun == [(2, 4, 3)]
    assert list(onward(run(*range(6)), [2, 3, 6], sampler(begun))) == []
    assert len(begun) == 1


def test_what_a_later_segment_cannot_have_is_refused_at_once():
    with pytest.raises(InputError, match="no"):
        onward((), [2, 3, 6], sampler([], refuse=1))
    assert list(onward(run(0, 1, 2), [2, 3, 6], sampler([], refuse=1)))  # what is known needs no sampler
