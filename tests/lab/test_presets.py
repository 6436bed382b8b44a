"""Presets are read from TOML and checked against the knobs."""

import sys
from types import SimpleNamespace

import pytest

from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs
from vidistill.lab import presets

KNOBS = Knobs("toy", Knob("steps", 8, "how many", low=1, high=10), Knob("mode", "fast", "how", choices=("fast", "slow")))


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "toy_paper", SimpleNamespace(KNOBS=KNOBS))
    monkeypatch.setattr(presets, "PAPERS", {"toy": "toy_paper"})
    monkeypatch.setattr(presets, "FOLDER", tmp_path)

    def write(text):
        (tmp_path / "toy.toml").write_text(text)

    return write


def test_a_preset_gives_its_own_values_only(toy):
    toy('[quick]\nabout = "small"\nsteps = 2\n[paper]\nabout = "as printed"\nmode = "slow"\n')
    assert presets.preset("toy", "quick", presets.knobs_of("toy")) == {"steps": 2}
    assert {name: values["about"] for name, values in presets.load_presets("toy").items()} == {"quick": "small", "paper": "as printed"}


def test_unknown_names_and_values_are_refused(toy):
    toy('[quick]\nabout = "small"\nsteps = 20\nmod = "slow"\n')
    with pytest.raises(InputError, match="unknown preset 'quik': did you mean 'quick'"):
        presets.preset("toy", "quik", KNOBS)
    with pytest.raises(InputError, match="steps=20"):
        presets.preset("toy", "quick", KNOBS)
    toy('[quick]\nabout = "small"\nmod = "slow"\n')
    with pytest.raises(InputError, match="did you mean 'mode'"):
        presets.preset("toy", "quick", KNOBS)
    with pytest.raises(InputError, match="unknown paper 'toi': did you mean 'toy'"):
        presets.load_presets("toi")


@pytest.mark.parametrize("text", ["[quick]\nsteps = 2", "quick = 2", "["])
def test_a_broken_file_is_one_line(toy, text):
    toy(text)
    with pytest.raises(InputError) as error:
        presets.load_presets("toy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("paper", presets.PAPERS)
def test_every_preset_that_ships_is_allowed(paper):
    if not (presets.FOLDER / f"{paper}.toml").is_file():
        pytest.skip(f"presets/{paper}.toml is not written yet")
    knobs = presets.knobs_of(paper)
    for name in presets.load_presets(paper):
        presets.preset(paper, name, knobs)
