"""Cards are claims written before a run: every one that ships is complete, a broken one is one line, a verdict comes from the interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidistill.errors import InputError
from vidistill.lab import cards
from vidistill.lab.cards import Card, claims_table, judge_cards, load_cards, published_table
from vidistill.lab.report import COLUMNS
from vidistill.measure import interval
from vidistill.papers import videoguide

GOOD = 'claim = "up"\nsource = "Table 1"\nmeasure = "score"\narm = "method"\ncontrol = "base"\nwanted = "higher"\nneeds = "a GPU"\n'


@pytest.fixture
def write(monkeypatch, tmp_path):
    monkeypatch.setattr(cards, "FOLDER", tmp_path)

    def put(text, name="toy-01-up"):
        (tmp_path / f"{name}.toml").write_text(text)

    return put


def test_videoguide_has_every_table_of_the_paper() -> None:
    found = load_cards("videoguide")
    told = " ".join(card.source for card in found)
    assert all(f"Table {number}," in told for number in (1, 2, 3, 4, 6))
    elsewhere = {f"{sweep}:{end}" for sweep in ("beta", "I", "tau") for end in ("first", "last")}
    elsewhere |= {"DiT", "DiT, self", "LaVie", "LaVie, + VC2"}
    for card in found:
        assert {card.arm, card.control} <= set(videoguide.ARMS) | elsewhere
        assert card.measure in ("score", *COLUMNS)
        assert card.source.startswith(("arXiv 2410.04364", "ours"))
        assert (card.published is None) == (card.published_control is None)
    by_id = {card.id.split("-", 2)[2]: card for card in found}
    assert (by_id["consistency"].published, by_id["consistency"].published_control) == (0.9614, 0.9183)
    assert (by_id["freeinit-seconds"].published, by_id["freeinit-seconds"].published_control) == (29.73, 51.98)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("claim =", "cannot read the card"),
        (GOOD.replace('"higher"', '"hihger"'), "did you mean 'higher'"),
        (GOOD + "margn = 1\n", "unknown entry 'margn': did you mean 'margin'"),
        (GOOD + 'published = "0.9"\n', "published='0.9' must be a number"),
        (GOOD.replace('"up"', "1"), "claim=1 must be text"),
        (GOOD.replace('arm = "method"\n', ""), "lacks arm"),
        (GOOD.replace('control = "base"\n', ""), "lacks control"),
    ],
)
def test_a_broken_card_is_one_line(write, text, words) -> None:
    write(text)
    with pytest.raises(InputError, match=words) as error:
        load_cards("toy")
    assert "\n" not in str(error.value)


def test_papers_have_their_own_cards_in_the_order_of_their_names(write) -> None:
    write(GOOD, "toy-02-b")
    write(GOOD, "toy-01-a")
    write(GOOD, "other-01-c")
    assert [card.id for card in load_cards("toy")] == ["toy-01-a", "toy-02-b"]
    assert load_cards("nothing") == []
    assert Path(cards.FOLDER).is_dir()


def card(**changes) -> Card:
    return Card(
        **(
            {"id": "a", "claim": "c", "source": "s", "measure": "score", "arm": "x", "control": "y", "wanted": "higher", "needs": "n"}
            | changes
        )
    )


def test_verdicts_come_from_the_paired_interval() -> None:
    rows = {
        "x": {"score": interval([0.90, 0.92, 0.94]), "seconds": interval([1.0, 1.1, 1.2]), "rare": None},
        "y": {"score": interval([0.89, 0.9102, 0.93]), "seconds": interval([2.0, 2.1, 2.3]), "rare": interval([1.0])},
        "tau:last": {"score": interval([0.899, 0.918, 0.9391]), "setting": "tau 10"},
    }
    judged = judge_cards(
        [
            card(),
            card(measure="seconds", wanted="lower"),
            card(measure="seconds"),
            card(arm="y", control="x", wanted="kept", margin=0.02),
            card(arm="y", control="x", wanted="kept", margin=0.001),
            card(measure="rare"),
            card(arm="z"),
            card(arm="tau:last"),
        ],
        rows,
    )
    holds, fails = "direction holds", "direction does not hold"
    assert [row["verdict"] for row in judged] == [holds, holds, fails, holds, fails, holds]
    assert judged[-1]["arm"] == "tau 10"
    assert "| c | score | x / y | +0.010 [" in claims_table(judged)


def test_published_numbers_stand_in_their_own_table() -> None:
    table = published_table([card(published=0.9614, published_control=0.9183), card(claim="d")])
    assert "| c | s | 0.9614 | 0.9183 | n |" in table
    assert "| d | s | - | - | n |" in table
