"""Cards are claims written before a run: every one that ships is complete, a broken one is one line, a verdict comes from the interval."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import protocol_of

from vidistill.errors import InputError
from vidistill.lab import cards
from vidistill.lab.cards import Card, claims_table, judge_cards, load_cards, load_protocol, published_table
from vidistill.lab.presets import PAPERS, knobs_of
from vidistill.lab.runner import notebooks_dir, parameters_of
from vidistill.measure import exact, interval

GOOD = 'claim = "up"\nsource = "Table 1"\nmeasure = "score"\narm = "method"\ncontrol = "base"\nwanted = "higher"\nneeds = "a GPU"\n'


@pytest.fixture
def write(monkeypatch, tmp_path):
    monkeypatch.setattr(cards, "FOLDER", tmp_path)

    def put(text, name="toy-01-up"):
        (tmp_path / f"{name}.toml").write_text(text)

    return put


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
        "x": {"score": interval([0.90, 0.92, 0.94, 0.90, 0.92]), "seconds": interval([1.0, 1.1, 1.2, 1.0, 1.1]), "rare": None},
        "y": {"score": interval([0.89, 0.9102, 0.93, 0.89, 0.91]), "seconds": interval([2.0, 2.1, 2.3, 2.0, 2.1]), "rare": interval([1.0])},
        "tau:last": {"score": interval([0.899, 0.918, 0.9391, 0.899, 0.918]), "setting": "tau 10"},
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
            card(absent="not here"),
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


def test_fewer_than_five_seeds_cannot_tell() -> None:
    rows = {name: {"score": interval([value + seed for seed in range(4)])} for name, value in (("x", 5.0), ("y", 1.0))}
    (row,) = judge_cards([card()], rows)
    assert row["difference"]["verdict"] == "higher"
    assert row["verdict"] == "cannot tell"


@pytest.mark.parametrize(
    ("wanted", "ours", "control", "verdict"),
    [("lower", 1, 2, True), ("lower", 2, 2, False), ("higher", 3, 2, True), ("kept", 1.9, 2, True), ("kept", 1.4, 2, False)],
)
def test_exact_numbers_need_no_seeds(wanted, ours, control, verdict) -> None:
    (row,) = judge_cards([card(wanted=wanted, margin=0.5)], {"x": {"score": exact(ours)}, "y": {"score": exact(control)}})
    assert row["verdict"] == ("direction holds" if verdict else "direction does not hold")
    assert "published" not in row


@pytest.mark.parametrize(("published", "verdict"), [(107, "matched"), (108.5, "matched"), (109, "differs"), (100, "differs"), (None, None)])
def test_exact_numbers_are_judged_against_the_published_one(published, verdict) -> None:
    (row,) = judge_cards([card(published=published, margin=1.0)], {"x": {"score": exact(107.5)}, "y": {"score": exact(1.0)}})
    assert row.get("published") == verdict


@pytest.mark.parametrize(("published", "verdict"), [(5.0, "matched"), (6.5, "consistent"), (9.0, "differs")])
def test_only_a_larger_tier_is_compared_with_the_published_number(published, verdict) -> None:
    rows = {"x": {"score": interval([4.9, 5.1, 5.0, 4.8, 5.2])}, "y": {"score": interval([1.0, 1.1, 1.2, 1.0, 1.1])}}
    rows["x"]["score"] |= {"low": 4.5, "high": 5.5}
    claim = card(published=published, margin=1.0)
    assert "published" not in judge_cards([claim], rows)[0]
    assert judge_cards([claim], rows, "full")[0]["published"] == verdict
    with pytest.raises(InputError, match="did you mean 'full'"):
        judge_cards([claim], rows, "ful")


PROTOCOL = protocol_of("[runs.main]\nseeds = 5\n[quick.main]\nseeds = 2\nclips = 4")


def test_a_protocol_gives_the_parameters_of_its_runs(write) -> None:
    write(PROTOCOL, "toy")
    protocol = load_protocol("toy")
    assert protocol.parameters() == {"tier": "toy", "seeds": 5}
    assert protocol.parameters("main", quick=True) == {"tier": "toy", "seeds": 2, "clips": 4}
    with pytest.raises(InputError, match="unknown run of toy 'mian': did you mean 'main'"):
        protocol.parameters("mian")
    write(GOOD.replace('needs = "a GPU"\n', ""), "toy-01-up")
    assert published_table(load_cards("toy")).endswith("| a GPU |")
    write(GOOD + 'run = "video"\n', "toy-01-up")
    with pytest.raises(InputError, match="run of card toy-01-up 'video'"):
        load_protocol("toy")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1\n", "", "lacks version"),
        ("version = 1", "version = 1.5", "version=1.5 must be a number"),
        ("version", "verison", "unknown entry 'verison': did you mean 'version'"),
        ('cost = "a week"\nneeds', "needs", r"\[full\] lacks cost"),
        ('[small]\ndata = "d"', "[small]\ndata = 1", r"\[small\] 'data' must be one of the lines data, model, command, cost"),
        ("[quick.main]", "[quick.mian]", "every run needs both"),
    ],
)
def test_a_broken_protocol_is_one_line(write, old, new, words) -> None:
    write(PROTOCOL.replace(old, new), "toy")
    with pytest.raises(InputError, match=words) as error:
        load_protocol("toy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_has_a_protocol_that_its_notebook_takes(paper) -> None:
    protocol, declared, knobs = load_protocol(paper), parameters_of(notebooks_dir() / f"reproduce/{paper}.ipynb"), knobs_of(paper)
    for run in protocol.runs:
        for quick in (False, True):
            for name, value in protocol.parameters(run, quick).items():
                assert name in declared
                assert name not in ("out", "out_json")
                if name in knobs:
                    assert knobs[name].check(value) == value
