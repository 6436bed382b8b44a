"""VideoGuide's cards: every table of the paper, every number as printed there, every arm one that the notebook makes."""

from __future__ import annotations

import pytest

from vidistill.lab.cards import load_cards, load_protocol
from vidistill.measure.clips import NUMBERS
from vidistill.papers import videoguide
from vidistill.papers.videoguide import ARMS, KNOBS

CARDS = {card.id.split("-", 2)[2]: card for card in load_cards("videoguide")}
ALONE = ("LaVie/method", "LaVie/base", "LaVie/self", "LaVie/freeinit")
SWEPT = {"beta", "I", "tau", "filter", "DiT"}
PRINTED = {  # name of the card: the two numbers of the specification, 4
    **{"consistency": (0.9614, 0.9183), "background": (0.9664, 0.9437), "smoothness": (0.9772, 0.9547), "quality": (0.6671, 0.6647)},
    **{"motion": (16.78, 26.67), "self": (0.952, 0.9183), "self-background": (0.96, 0.9437), "self-smoothness": (0.9731, 0.9547)},
    **{"self-quality": (0.6566, 0.6647), "self-motion": (15.25, 26.67), "freeinit-consistency": (0.9614, 0.9487)},
    **{"freeinit-background": (0.9664, 0.9604), "freeinit-quality": (0.6671, 0.6173), "freeinit-smoothness": (0.9772, 0.9705)},
    **{"freeinit-motion": (16.78, 19.28), "freeinit-seconds": (29.73, 51.98), "beta": (0.9614, 0.9518), "tau": (0.9614, 0.9444)},
    **{"beta-background": (0.9664, 0.9599), "steps-background": (0.9664, 0.9618), "tau-background": (0.9664, 0.9558)},
    **{"beta-code": (0.9546, 0.9614), "steps": (0.9614, 0.9524), "steps-two": (0.9524, 0.9489), "cfg": (0.9614, 0.9598)},
    **{"cfg-background": (0.9664, 0.9635), "base-cfg-kept": (0.9176, 0.9183), "freeinit-cfg": (0.9473, 0.9487)},
    **{"people-text": (4.36, 3.72), "people-overall": (4.37, 2.84), "people-motion": (4.36, 2.9)},
    **{"people-text-freeinit": (4.36, 3.97), "people-overall-freeinit": (4.37, 3.35), "people-motion-freeinit": (4.36, 3.38)},
    **{"dit": (0.9808, 0.9725), "dit-motion": (11.07, 12.68), "sora1-consistency": (0.9763, 0.9735), "sora1-motion": (3.88, 4.97)},
    **{"unictrl": (0.9614, 0.9259), "unictrl-both": (0.9639, 0.9614), "lavie": (0.9635, 0.9534), "lavie-self": (0.9629, 0.9534)},
    **{"lavie-quality": (0.6796, 0.675), "lavie-motion": (12.63, 14.69), "lavie-freeinit-smoothness": (0.9723, 0.9757)},
    **{"lavie-freeinit-seconds": (14.07, 30.18), "cost-teacher": (2.61, 1), "cost-self": (1.91, 1), "cost-freeinit": (4.57, 1)},
    **{"lavie-cost-teacher": (2.05, 1), "lavie-cost-self": (1.46, 1), "lavie-cost-freeinit": (4.4, 1), "few-guided-cost": (7, 1)},
}


def test_it_has_every_table_of_the_paper() -> None:
    told = " ".join(card.source for card in CARDS.values())
    assert all(f"Table {number}," in told for number in range(1, 8))
    for card in CARDS.values():
        assert card.measure in ("score", "seconds", "times", *NUMBERS)
        assert card.source.startswith(("arXiv 2410.04364", "ours"))
        assert (card.published is None) == (card.published_control is None)


def test_numbers_are_the_papers() -> None:
    assert {name: (CARDS[name].published, CARDS[name].published_control) for name in PRINTED} == PRINTED
    ratios = {name: card for name, card in CARDS.items() if card.measure == "times"}
    assert all(card.margin == pytest.approx(0.15 * card.published, abs=0.006) for card in ratios.values())  # 15 percent, as they say


def test_arms_are_those_of_the_notebook() -> None:
    arithmetic = {f"arithmetic/{name}" for name in ("base", "paper", "lavie", "freeinit", "I 4", "I 50")}
    for card in CARDS.values():
        if not card.absent:
            for arm in (card.arm, card.control):
                assert arm in {*ARMS, *ALONE, *arithmetic} or arm.split(":")[0] in SWEPT, f"{card.id}: {arm}"
            assert card.arm.count("/") == card.control.count("/")  # of one run, so of the same seeds
    named = {arm.split(":")[1] for card in CARDS.values() for arm in (card.arm, card.control) if arm.startswith("beta:")}
    assert named == {"first", "last", "0.8", "0.5"}


def test_what_is_absent_says_why() -> None:
    assert {name for name, card in CARDS.items() if card.absent} == {"freeinit-cfg", "unictrl", "unictrl-quality", "unictrl-both"}


@pytest.mark.parametrize("quick", [False, True])
def test_the_protocol_runs_what_the_cards_ask_for(quick: bool) -> None:
    protocol = load_protocol("videoguide")
    given = protocol.parameters("main", quick)
    k = KNOBS.resolve({name: value for name, value in given.items() if name in KNOBS})
    assert k["seeds"] >= 5 or quick
    asked = {arm for card in CARDS.values() if not card.absent for arm in (card.arm, card.control)} & set(ARMS)
    assert asked <= {"method", "base", *(name.strip() for name in k["arms"].split(","))}
    assert all(word in [each.strip() for each in given.get("betas", "0.8, 0.5").split(",")] for word in ("0.8", "0.5"))
    assert [each.strip() for each in given.get("firsts", "1, 2").split(",")][:2] == ["1", "2"]
    assert k["guided"] * k["tau"] > 0
    assert videoguide.SCORE.control == "base"
