"""AccVideo's cards: the numbers as printed, every arm one that the notebook makes, in the plane, on the line and on video."""

from __future__ import annotations

from vidistill.lab.cards import load_cards, load_protocol
from vidistill.papers.accvideo import ARMS, FILMS, KNOBS
from vidistill.papers.motion import NUMBERS as FILMED
from vidistill.papers.plane import NUMBERS

CARDS = {card.id.split("-", 2)[2]: card for card in load_cards("accvideo")}
MADE = {"recipe/accvideo", "recipe/teacher", "record/key states", "record/path"}
MOVED = ("far exact", "missed learned", "student near")
PRINTED = {  # name of the card: the two numbers of the specification, 1 and 3
    **{"speed-544": (91, 704), "speed-720": (380, 3234), "speed-wan": (97, 932), "speed-wan-i2v": (112, 768), "evaluations": (5, 50)},
    **{"quality-544": (83.26, 82.67), "quality-720": (82.77, 83.24), "quality-wan": (85.95, None), "look-544": (84.58, 84.43)},
    **{"look-720": (84.38, 85.09), "semantic-544": (77.96, 75.59), "semantic-720": (76.34, 75.82), "object-544": (92.99, 88.67)},
    **{"colour-544": (94.11, 92.07), "spatial-544": (75.7, 67.39), "useless": (29.06, 0.78), "useless-learned": (29.06, 0.78)},
    **{"useless-075": (6.79, 0.78), "useless-15": (17.43, 0.78), "useless-225": (26.93, 0.78)},
}


def test_numbers_are_the_papers() -> None:
    told = {name: (card.published, card.published_control) for name, card in CARDS.items() if card.published is not None}
    assert told == PRINTED


def test_arms_are_those_of_the_notebook() -> None:
    moved = {f"M:{end}" for end in ("first", "last", "0.75", "1.5", "2.25")}
    for card in CARDS.values():
        known = set(FILMS) if card.run == "video" else {*ARMS, *MADE, *moved}
        assert {card.arm, card.control} <= known, card.id
        numbers = FILMED if card.run == "video" else (*NUMBERS, *MOVED, "coverage", "evaluations", "bytes")
        assert card.absent or card.measure in ("score", *numbers), card.id
    assert [name for name, card in CARDS.items() if card.absent] == ["spatial-544"]


def test_students_on_video_are_in_the_zoo() -> None:
    from vidistill import shipped

    asked = {arm for card in CARDS.values() if card.run == "video" for arm in (card.arm, card.control)}
    assert {FILMS[arm].model for arm in asked} <= {"", *shipped.STUDENTS}
    wanted = load_protocol("accvideo").parameters("video")["arms"]
    assert asked <= {"trajectory", "teacher-few", *(name.strip() for name in wanted.split(","))}


def test_the_protocol_has_five_seeds() -> None:
    protocol = load_protocol("accvideo")
    assert set(protocol.runs) == {card.run for card in CARDS.values()} == {"main", "video"}
    for run in protocol.runs:
        for quick in (False, True):
            given = protocol.parameters(run, quick)
            k = KNOBS.resolve({name: value for name, value in given.items() if name in KNOBS})
            assert k["seeds"] >= 5 or quick
            assert k["mismatches"] == KNOBS["mismatches"].default
