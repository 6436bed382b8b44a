"""The cards of Guiding Video Diffusion: arms that are run or computed, published numbers that are the specification's."""

from __future__ import annotations

import pytest

from vidistill.lab.arithmetic import frame_rows
from vidistill.lab.cards import judge_cards, load_cards, load_protocol
from vidistill.papers.gvd import ARMS
from vidistill.papers.sets import SHOWN

CARDS = {card.id.split("-", 2)[2]: card for card in load_cards("gvd")}
SWEEPS = {"lambda": "lambdas", "decay": "decays", "window": "windows", "IPC": "counts"}
COSTS = {"at once": "seconds", "of a class": "rate"}


def rows_of(parameters):
    """The names of the rows that the notebook makes with these parameters."""
    split = lambda name: [word.strip() for word in parameters[name].split(",")]  # noqa: E731
    made = {f"{title} {text}" for title, name in SWEEPS.items() for text in split(name)} | set(split("students"))
    made |= {f"{title}:{end}" for title in (*SWEEPS, *COSTS) for end in ("first", "last")}
    return set(ARMS) | made | {f"random, {name}" for name in made if name.startswith("IPC") or name in split("students")}


@pytest.mark.parametrize("quick", [False, True])
def test_the_toy_makes_every_arm_that_a_card_names(quick):
    parameters = load_protocol("gvd").parameters(quick=quick)
    made, sums = rows_of(parameters), frame_rows()
    for name, card in CARDS.items():
        assert not card.absent
        if card.arm in sums:
            assert card.measure in sums[card.arm].keys() & sums[card.control].keys(), name
        else:
            assert {card.arm, card.control} <= made, name
            assert card.measure in ("score", "share", *SHOWN, COSTS.get(card.arm.partition(":")[0])), name
    assert parameters["seeds"] >= (2 if quick else 5)
    assert float(parameters["lambdas"].split(",")[0]) == 0  # the control of every pull
    assert parameters["decays"].startswith("none,")
    assert parameters["windows"].startswith("1000-0,")


def test_the_published_numbers_are_the_two_that_are_public():
    told = {name: card.published for name, card in CARDS.items() if card.published is not None}
    assert told == {"share-miniucf": 78.29, "share-hmdb51": 73.83, "frames-miniucf": 1.98, "frames-hmdb51": 3.30}
    assert all(card.published_control is None for card in CARDS.values())


def test_the_papers_share_of_frames_is_not_of_those_that_students_see():
    judged = {row["card"].split("-", 2)[2]: row for row in judge_cards(list(CARDS.values()), frame_rows())}
    assert {name: (row["verdict"], row["published"]) for name, row in judged.items()} == {
        "frames-miniucf": ("direction holds", "differs"),
        "frames-hmdb51": ("direction holds", "differs"),
    }
    assert judged["frames-miniucf"]["value"]["mean"] == pytest.approx(21.5, abs=0.1)
    assert judged["frames-hmdb51"]["value"]["mean"] == pytest.approx(19.5, abs=0.1)
