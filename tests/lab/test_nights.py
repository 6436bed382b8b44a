"""One night against the one before: what changed, by how much, and what had no reason to."""

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidistill.errors import InputError
from vidistill.lab import cli, nights, suite
from vidistill.lab.cards import Card, judge
from vidistill.measure import exact, interval

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
ARM, CONTROL = [52.0, 55.0, 51.0, 57.0, 54.0], [50.0, 52.5, 50.0, 54.0, 51.5]


def row(card="gvd-01-hits", arm=ARM, control=CONTROL, **more):
    """A verdict row as the suite writes it."""
    rule = {"measure": "score", "arm": "pull:last", "control": "pull:first", "wanted": "higher"} | more
    card = Card(id=card, claim="a pull brings clips to their centres", source="Table 1", **rule)
    return {"card": card.id, **judge(card, interval(arm), interval(control)), "rule": card.rule}


def night(*rows, day=21, **changes):
    """The status of a suite with one paper."""
    paper = {"code": "c0de", "protocol": "gvd-world", "version": 1, "cards": list(rows)}
    paper["runs"] = {"main": {"parameters": {"tier": "toy", "seeds": 5}, "seconds": 100.0, "command": "vidistill reproduce gvd"}}
    return {
        **{"tier": "toy", "quick": False, "started": f"2026-11-{day}T03:00:00+00:00", "finished": f"2026-11-{day}T04:00:00+00:00"},
        **{"commit": {"commit": "0787405a" * 5, "dirty": False}, "environment": {"python": "3.11.7", "packages": {"torch": "2.13.0"}}},
        **{"papers": {"gvd": paper | changes}, "failed": []},
    }


def write(root, name, status):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / nights.STATUS).write_text(json.dumps(status))
    return folder


def test_two_equal_nights_have_nothing_to_tell_but_time():
    changes = nights.compare_nights(night(row()), night(row(), day=22))
    for name in ("changed", "moved", "unexplained", "came", "went", "failed", "environment", "papers"):
        assert not changes[name], name
    assert changes["seconds"] == [{"paper": "gvd", "run": "main", "then": 100.0, "now": 100.0}]
    assert nights.headline(changes) == "0 of 1 verdicts changed, 0 other numbers changed, 0 cards came and 0 went, 0 failures"


def test_a_changed_verdict_has_its_effects_then_and_now_and_the_paired_change():
    worse = [value - 3 for value in ARM[:4]] + [ARM[4] - 2]
    changes = nights.compare_nights(night(row()), night(row(arm=worse), code="other"))
    (found,) = changes["changed"]
    assert (found["was"], found["is"]) == ("direction holds", "cannot tell")
    assert found["then"]["mean"] == pytest.approx(2.2)
    assert found["now"]["mean"] == pytest.approx(-0.6)
    assert found["change"]["mean"] == pytest.approx(-2.8)
    assert found["change"]["verdict"] == "lower"
    assert found["change"]["high"] < 0
    assert found["effect"] == pytest.approx([2.2 / 0.758288, -0.6 / 0.961769, -2.8 / 0.447214], rel=1e-5)
    assert not changes["unexplained"]  # the code is another one
    assert changes["papers"] == {"gvd": {"code": ["c0de", "other"]}}


def test_a_number_that_changed_without_a_reason_is_named():
    near = [*ARM[:4], ARM[4] + 1e-9]
    changes = nights.compare_nights(night(row()), night(row(arm=near)))
    assert not changes["changed"]
    assert changes["unexplained"] == [found["card"] for found in changes["moved"]] == ["gvd-01-hits"]
    assert "1 WITHOUT A REASON" in nights.headline(changes)
    text = nights.changes_markdown(changes)
    assert text.index("Changed without a reason") < text.index("gvd-01-hits")


@pytest.mark.parametrize(
    "reason",
    [
        lambda status: status["environment"]["packages"].update(torch="2.14.0"),
        lambda status: status["papers"]["gvd"].update(code="other"),
        lambda status: status["papers"]["gvd"].update(version=2),
        lambda status: status["papers"]["gvd"]["runs"]["main"]["parameters"].update(steps=8),
        lambda status: status["papers"]["gvd"]["cards"][0]["rule"].update(margin=1.0),
    ],
    ids=["environment", "code", "protocol", "knob", "rule"],
)
def test_a_number_that_changed_with_a_reason_is_not(reason):
    new = night(row(arm=[value + 1 for value in ARM]))
    reason(new)
    changes = nights.compare_nights(night(row()), new)
    assert len(changes["moved"]) == 1
    assert not changes["unexplained"]


@pytest.mark.parametrize("measure", ["seconds", "rate", "times"])
def test_a_clock_is_never_without_a_reason_nor_a_number_that_moved(measure):
    old, new = (night(row(measure=measure, arm=[value + more for value in ARM])) for more in (0, -9))
    changes = nights.compare_nights(old, new)
    assert len(changes["changed"]) == 1
    assert not changes["moved"]
    assert not changes["unexplained"]


def test_what_was_counted_is_no_clock():
    """Twice as many evaluations are "times", too, but no machine is faster or slower at them."""
    card = Card(id="gvd-01-hits", claim="c", source="s", measure="times", arm="x", control="y", wanted="lower")
    found = [night({"card": card.id, **judge(card, exact(times), exact(1.0)), "rule": card.rule}) for times in (2.0, 2.5)]
    assert nights.compare_nights(*found)["unexplained"] == [card.id]


def test_only_shared_seeds_of_the_same_arms_are_paired():
    later = night(row(arm=[value + 1 for value in ARM]))
    later["papers"]["gvd"]["runs"]["main"]["parameters"]["seed"] = 3
    (found,) = nights.compare_nights(night(row()), later)["moved"]
    assert found["change"]["n"] == 2  # seeds 3 and 4
    assert found["change"]["values"] == pytest.approx([(ARM[k] + 1 - CONTROL[k]) - (ARM[3 + k] - CONTROL[3 + k]) for k in (0, 1)])
    other = row(arm=[value + 1 for value in ARM]) | {"arm": "lambda 0.8"}
    (found,) = nights.compare_nights(night(row()), night(other))["moved"]
    assert found["change"] is None
    assert found["effect"][2] is None


def test_cards_and_failures_that_came_and_went():
    old, new = night(row(), row("gvd-02-old")), night(row(), row("gvd-03-new"))
    old["failed"], new["failed"] = ["dfd-video: cell 3: boom"], ["dfd-video: cell 4: boom", "gvd-main: nothing judged the card"]
    changes = nights.compare_nights(old, new)
    assert [found["card"] for found in changes["came"]] == ["gvd-03-new"]
    assert [found["card"] for found in changes["went"]] == ["gvd-02-old"]
    assert [held["before"] for held in changes["failed"]] == [True, False]
    text = nights.changes_markdown(changes)
    assert "1 card came and 1 went, 2 failures" in text
    assert "| dfd-video: cell 4: boom | too |" in text


def test_the_first_night_lists_its_cards():
    changes = nights.compare_nights(None, night(row()))
    assert nights.headline(changes) == "the first night: 1 verdicts, 0 failures"
    assert [found["verdict"] for found in changes["came"]] == ["direction holds"]
    assert not changes["environment"]
    assert "no night → 2026-11-21" in nights.changes_markdown(changes)


def test_the_page_holds_what_the_text_holds_escaped_and_without_script():
    changed = row(arm=[value - 9 for value in ARM]) | {"claim": "lambda < 1 | kept"}
    changes = nights.compare_nights(night(row()), night(changed, code="other"))
    page, text = nights.changes_page(changes), nights.changes_markdown(changes)
    assert "direction holds → direction does not hold" in page
    assert "lambda &lt; 1 | kept" in page
    assert "lambda < 1 \\| kept" in text
    assert "<script" not in page
    rows = [line for line in text.splitlines() if line.startswith("| gvd-01")]
    assert len(rows) == 1
    assert rows[0].count(" | ") == 8


def test_the_files_are_beside_the_night(tmp_path):
    before, now = write(tmp_path, "2026-11-21T03-00-00Z", night(row())), write(tmp_path, "2026-11-22T03-00-00Z", night(row()))
    changes = nights.write_changes(now, before)
    assert json.loads((now / "changes.json").read_text()) == changes
    assert (now / "changes.md").read_text() == nights.changes_markdown(changes)
    assert (now / "changes.html").read_text() == nights.changes_page(changes)


@pytest.mark.parametrize("broken", ["papers", "failed", "environment", "started"])
def test_a_status_of_another_form_is_one_line(tmp_path, broken):
    status = night(row())
    del status[broken]
    folder = write(tmp_path, "2026-11-22T03-00-00Z", status)
    with pytest.raises(InputError, match=r"is not the status of a suite"):
        nights.write_changes(folder, None)


# Folders.


def test_a_night_that_was_cut_off_goes_on_within_a_day_and_a_finished_one_does_not(tmp_path):
    first = nights.open_night(tmp_path, now=NOW)
    assert first.name == "2026-11-22T03-00-00Z"
    first.mkdir()
    assert nights.open_night(tmp_path, now=NOW + timedelta(hours=23)) == first
    assert nights.open_night(tmp_path, now=NOW + timedelta(hours=25)).name == "2026-11-23T04-00-00Z"
    (first / nights.STATUS).write_text("{}")
    assert nights.open_night(tmp_path, now=NOW + timedelta(hours=1)).name == "2026-11-22T04-00-00Z"


def test_quick_nights_are_compared_with_quick_ones_and_unfinished_ones_with_none(tmp_path):
    days = [write(tmp_path, f"2026-11-{day}T03-00-00Z", night()) for day in (19, 20, 22)]
    quick = [write(tmp_path, f"2026-11-{day}T03-00-00Z-quick", night()) for day in (18, 21)]
    (tmp_path / "2026-11-21T03-00-00Z").mkdir()
    (tmp_path / "notes").mkdir()
    assert nights.previous_night(days[2]) == days[1]
    assert nights.previous_night(days[0]) is None
    assert nights.previous_night(quick[1]) == quick[0]
    assert nights.open_night(tmp_path, quick=True, now=NOW).name == "2026-11-22T03-00-00Z-quick"


def test_old_nights_go_and_nothing_else_does(tmp_path):
    days = [write(tmp_path, f"2026-11-{day}T03-00-00Z", night()) for day in range(10, 20)]
    quick = write(tmp_path, "2026-11-01T03-00-00Z-quick", night())
    (tmp_path / "notes").mkdir()
    (tmp_path / "2026-11-02T03-00-00Z").symlink_to(tmp_path / "notes")
    assert nights.forget_nights(days[-1], keep=3) == days[:7]
    assert sorted(tmp_path.iterdir()) == sorted([*days[7:], quick, tmp_path / "notes", tmp_path / "2026-11-02T03-00-00Z"])
    assert nights.forget_nights(days[-1], keep=3) == []


# The command.


@pytest.fixture
def runs(monkeypatch):
    """A suite that writes what it is given instead of running anything; returns the list of what comes next."""
    ahead = []

    def run_suite(out, *, quick=False, jobs=2, progress=None):
        Path(out).mkdir(parents=True, exist_ok=True)
        found = ahead.pop(0)
        if isinstance(found, BaseException):
            raise found
        (Path(out) / nights.STATUS).write_text(json.dumps(found))
        return found

    monkeypatch.setattr(suite, "run_suite", run_suite)
    return ahead


def nightly(root, *options):
    return CliRunner().invoke(cli.app, ["nightly", "--out", str(root), *options])


def test_a_changed_verdict_is_news_and_a_failure_is_one(tmp_path, runs, monkeypatch):
    clock = iter(NOW + timedelta(days=day) for day in range(9))
    opened = nights.open_night
    monkeypatch.setattr(nights, "open_night", lambda root, quick=False: opened(root, quick, next(clock)))
    broken = night(row()) | {"failed": ["gvd-main: cell 3: boom"]}
    runs += [night(row()), night(row(arm=CONTROL, control=ARM), code="other"), broken]
    first, second, third = (nightly(tmp_path, "--keep", "2") for _ in range(3))
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 0, 1), second.output
    assert "the first night" in first.output
    assert "1 of 1 verdicts changed" in second.output
    assert "1 failure" in third.output
    assert [folder.name[:10] for folder in sorted(tmp_path.iterdir())] == ["2026-11-23", "2026-11-24"]


def test_a_night_that_is_stopped_goes_on_in_its_folder(tmp_path, runs):
    runs += [KeyboardInterrupt(), night(row())]
    assert nightly(tmp_path).exit_code == 130
    assert nightly(tmp_path).exit_code == 0
    (folder,) = tmp_path.iterdir()
    assert (folder / "changes.md").is_file()


def test_what_the_suite_writes_is_a_night(tmp_path, monkeypatch):
    """The form of ``status.json`` is agreed on by no more than this."""
    from vidistill.lab.cards import load_cards

    def run(task, watch):
        cards = [card for card in load_cards(task.paper) if card.run == task.run and not card.absent]
        rows = [{"card": card.id, **judge(card, interval(ARM), interval(CONTROL))} for card in cards]
        told = {"key": task.key, "parameters": dict(task.parameters), "command": task.command, "seconds": 1.0, "peak_bytes": 1}
        return told | {"verdicts": rows}

    monkeypatch.setattr(suite, "_run", run)
    folders = [tmp_path / name for name in ("2026-11-21T03-00-00Z", "2026-11-22T03-00-00Z")]
    for folder in folders:
        suite.run_suite(folder, papers=["videoguide"])
    changes = nights.write_changes(folders[1], nights.previous_night(folders[1]))
    assert sum(changes["verdicts"][1].values()) == len([card for card in load_cards("videoguide") if not card.absent])
    assert nights.headline(changes).startswith("0 of ")
    assert changes["seconds"][0] == {"paper": "videoguide", "run": "main", "then": 1.0, "now": 1.0}


def test_rows_of_a_night_are_not_changed_by_the_comparison():
    old, new = night(row()), night(row(arm=[value + 1 for value in ARM]))
    kept = copy.deepcopy((old, new))
    nights.compare_nights(old, new)
    assert (old, new) == kept
