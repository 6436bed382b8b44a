"""Data-Forcing's cards: the numbers as printed, every arm one that the notebook makes, in the plane and on video."""

from __future__ import annotations

from vidistill.lab.cards import load_cards, load_protocol
from vidistill.papers.dfd import ARMS, FILMS, GUIDED, KNOBS
from vidistill.papers.motion import NUMBERS as FILMED
from vidistill.papers.plane import NUMBERS

CARDS = {card.id.split("-", 2)[2]: card for card in load_cards("dfd")}
GROUPS = ("wide", "short", "guided", "ring")
PRINTED = {  # name of the card: the two numbers of the specification, 3
    **{"diversity": (0.128, 0.12), "diversity-frames": (0.17, 0.165), "diversity-dino": (0.205, 0.19)},
    **{"diversity-dino-frames": (0.252, 0.239), "lost": (0.12, 0.178), "gap": (0.128, 0.178), "diversity-dp-dmd": (0.128, 0.126)},
    **{"camera-endpoint": (18.513, 9.148), "camera-trajectory": (19.256, 4.284), "camera-lost": (9.148, 30.571)},
    **{"camera-gap": (18.513, 30.571), "teacher": (0.906, 0.899), "vbench-dmd": (0.906, 0.901), "vbench-dp-dmd": (0.906, 0.903)},
    **{"i2v-dmd": (0.9303, 0.9245), "i2v-teacher": (0.9303, 0.9285), "i2v-dp-dmd": (0.9303, 0.8843)},
    **{"vipe-dmd": (0.9207, 0.9171), "vipe-teacher": (0.9207, 0.9151), "batch": (0.9316, 0.9303), "gan": (0.5, 0.375)},
    **{"gan-look": (0.7452, 0.721), "forced-dynamic": (0.5625, 0.375), "forced-look": (0.7457, 0.721), "iterations-cost": (100, 25000)},
    **{"dp-dmd": (0.179, 0.137), "dp-dmd-clip": (0.182, 0.133), "dp-dmd-teacher": (0.179, 0.24), "dp-dmd-lost": (0.137, 0.24)},
    **{"dp-dmd-gan": (0.182, 0.162), "dp-dmd-quality": (65, 66), "dp-dmd-anchor": (0.179, 0.157), "rcm": (84.43, None)},
    **{"self-forcing": (84.31, 84.26), "self-forcing-speed": (17, 0.78)},
}


def test_numbers_are_the_papers() -> None:
    told = {name: (card.published, card.published_control) for name, card in CARDS.items() if card.published is not None}
    assert told == PRINTED


def test_arms_are_those_of_the_notebook() -> None:
    made = {"recipe/dfd", "recipe/checkpoint", "p:0.5", *(f"{title}:{end}" for title in ("p", "batch", "K") for end in ("first", "last"))}
    here = {"main": {*ARMS, *made, *(f"{group}/{arm}" for group in GROUPS for arm in ARMS)} - set(GUIDED), "video": set(FILMS)}
    for card in CARDS.values():
        if not card.absent:
            assert {card.arm, card.control} <= here[card.run], card.id
            assert card.measure in ("score", "iterations", *(FILMED if card.run == "video" else NUMBERS)), card.id
            assert card.arm.split("/")[:-1] == card.control.split("/")[:-1]  # of one group, so of the same seeds


def test_what_is_absent_is_another_papers() -> None:
    absent = {name: card for name, card in CARDS.items() if card.absent}
    assert set(absent) == {"rcm", "self-forcing", "self-forcing-speed"}
    assert all(card.absent.startswith("another paper's method") for card in absent.values())


def test_students_on_video_are_in_the_zoo() -> None:
    from vidistill import shipped

    asked = {arm for card in CARDS.values() if card.run == "video" for arm in (card.arm, card.control)}
    assert {FILMS[arm].model for arm in asked} <= {"", *shipped.STUDENTS}


def test_the_protocol_runs_what_the_cards_ask_for() -> None:
    protocol = load_protocol("dfd")
    for run in protocol.runs:
        for quick in (False, True):
            given = protocol.parameters(run, quick)
            k = KNOBS.resolve({name: value for name, value in given.items() if name in KNOBS})
            assert quick or (k["seeds"] >= 5 and given.get("few", 5) >= 5)
            assert k["p"] == 0.5
    assert protocol.parameters("main")["few"] == protocol.parameters("main")["seeds"]
    assert protocol.parameters("video")["caption"] == "medium"  # what a caption leaves open is where modes can be lost
