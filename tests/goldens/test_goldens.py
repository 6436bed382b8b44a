"""Every case gives what its golden says, on every device that is here; and the tool that keeps goldens can refuse."""

from __future__ import annotations

import json

import goldens
import pytest
import torch

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", goldens.CASES)
def test_golden(name, device) -> None:
    found = goldens.draft([name], device)
    how = f"look: python tests/goldens/goldens.py review --device {device}; only if it is meant: promote {name} --why REASON"
    assert not found, f"golden {name} on {device} differs, the draft is in {goldens.drafts_of(device)}\n{goldens.told(found)}\n{how}"


@pytest.mark.parametrize("device", DEVICES)
def test_every_golden_has_its_case_and_its_reason(device) -> None:
    held = goldens.load(goldens.goldens_of(device))
    assert held.keys() <= goldens.CASES.keys(), "a golden without a case: draft and promote its name to take it away"
    assert all(entry[goldens.WHY] for entry in held.values())


def test_no_two_rooms_share_a_name() -> None:
    assert len(goldens.CASES) == sum(len(room.CASES) for room in goldens.ROOMS)


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Two cases in a folder of their own, whose values a test may turn."""
    values = {"numbers": torch.linspace(1, 2, 100), "places": torch.arange(100)}
    cases = {"floats": lambda device: {"x": values["numbers"]}, "wholes": lambda device: {"i": values["places"]}}
    monkeypatch.setattr(goldens, "FOLDER", tmp_path)
    monkeypatch.setattr(goldens, "CASES", cases)
    return values


def accept(*names: str) -> None:
    goldens.draft(names, "cpu")
    goldens.promote(names, "cpu", "first")


def test_a_missing_golden_fails_until_its_draft_is_promoted(own, capsys) -> None:
    assert [(change.case, change.golden) for change in goldens.draft(["floats"], "cpu")] == [("floats", "none")]
    assert goldens.draft(["floats"], "cpu"), "a draft is no golden"
    assert goldens.main(["review"]) == 0
    assert "| floats | - |" in capsys.readouterr().out
    assert goldens.main(["promote", "floats", "--why", "the first time"]) == 0
    assert goldens.draft(["floats"], "cpu") == []
    assert json.loads(goldens.goldens_of("cpu").read_text())["floats"]["why"] == "the first time"
    assert goldens.load(goldens.drafts_of("cpu")) == {}
    assert goldens.draft(["wholes"], "cpu"), "only what was named is promoted"


def test_a_difference_beyond_the_tolerance_is_a_draft_and_goes_when_it_is_mended(own) -> None:
    accept("floats", "wholes")
    held = goldens.goldens_of("cpu").read_text()
    own["numbers"] = own["numbers"] * (1 + 5e-6)
    assert goldens.draft(["floats"], "cpu") == []
    own["numbers"] = torch.linspace(1, 2, 100)
    own["numbers"][-1] *= 1 + 3e-5
    (change,) = goldens.draft(["floats"], "cpu")
    assert change.by == pytest.approx(3e-5, rel=0.01)
    assert (change.golden, change.now) == ("2", "2.00006")
    assert goldens.review("cpu") == [change]
    assert goldens.goldens_of("cpu").read_text() == held, "a draft leaves the goldens alone"
    own["numbers"] = torch.linspace(1, 2, 100)
    assert goldens.draft(["floats"], "cpu") == []
    assert goldens.review("cpu") == []


def test_values_that_are_not_among_the_kept_ones_show_in_their_sums(own) -> None:
    accept("floats", "wholes")
    own["numbers"][1] += 1
    assert goldens.draft(["floats"], "cpu")
    own["places"][1] += 1
    (change,) = goldens.draft(["wholes"], "cpu")
    assert change.golden == "other bytes"
    own["places"] = torch.arange(100)
    own["places"][0] = 1
    (change,) = goldens.draft(["wholes"], "cpu")
    assert (change.by, change.golden, change.now) == (1, "0", "1")


@pytest.mark.parametrize("turned", [torch.zeros(99), torch.zeros(10, 10), torch.arange(100)])
def test_another_shape_or_kind_is_a_difference(own, turned) -> None:
    accept("floats")
    own["numbers"] = turned
    assert [change.by for change in goldens.draft(["floats"], "cpu")] == [float("inf")]


def test_a_golden_without_a_case_is_taken_away_by_name_alone(own, monkeypatch) -> None:
    accept("floats", "wholes")
    monkeypatch.setattr(goldens, "CASES", {"wholes": goldens.CASES["wholes"]})
    assert [change.now for change in goldens.draft(["floats", "wholes"], "cpu")] == ["no such case"]
    assert goldens.load(goldens.goldens_of("cpu")).keys() == {"floats", "wholes"}
    goldens.promote(["floats"], "cpu", "the case is gone")
    assert goldens.load(goldens.goldens_of("cpu")).keys() == {"wholes"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["promte"], "error: unknown command 'promte': did you mean 'promote'?"),
        (["promote", "floats"], "error: a golden is promoted with its reason: --why"),
        (["promote", "flots", "--why", "x"], "error: unknown draft 'flots': did you mean 'floats'?"),
        (["promote", "--why", "x"], "error: give the names of the drafts to promote, or --all"),
        (["draft", "flots"], "error: unknown case 'flots': did you mean 'floats'?"),
        (["review", "--device", "cud"], "error: unknown device 'cud': did you mean 'cuda'?"),
    ],
)
def test_bad_input_is_one_line(own, capsys, words, line) -> None:
    goldens.draft(["floats"], "cpu")
    assert goldens.main(words) == 2
    told = capsys.readouterr()
    assert told.err.startswith(line)
    assert (told.err.count("\n"), told.out) == (1, "")
    assert not goldens.goldens_of("cpu").exists()


def test_what_is_not_finite_is_no_golden(own) -> None:
    own["numbers"][3] = float("nan")
    with pytest.raises(goldens.InputError, match="finite"):
        goldens.draft(["floats"], "cpu")
