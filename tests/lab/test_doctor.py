"""The doctor finds what is missing or clashes, and gives one line that mends it."""

import importlib

import pytest

from vidistill.lab import doctor
from vidistill.lab.doctor import checks


def by_name():
    return {check.what.split()[0]: check for check in checks()}


@pytest.fixture
def wheels(monkeypatch, tmp_path):
    """Everything installed and importable, unless the test says otherwise."""
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIDISTILL_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "ucf").mkdir(parents=True)
    absent = {"decord2", "faiss-gpu"}
    broken: dict[str, Exception] = {}
    real = importlib.import_module

    def load(name):
        if name in broken:
            raise broken[name]
        return real(name)

    monkeypatch.setattr(doctor, "installed", lambda name: None if name in absent else "1.0")
    monkeypatch.setattr(doctor.importlib, "import_module", load)
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    return absent, broken


def test_every_problem_has_a_line_that_mends_it_and_nothing_else_has():
    for check in checks():
        assert bool(check.mend) is not check.ok, check
        assert "\n" not in check.mend + check.found


def test_a_missing_core_package_breaks_the_core(wheels):
    wheels[0].add("diffusers")
    check = by_name()["diffusers"]
    assert (check.ok, check.core, check.mend) == (False, True, "pip install diffusers")


def test_a_wheel_that_does_not_load_is_told(wheels):
    wheels[1]["av"] = ImportError("libav.so:\n cannot open")
    check = by_name()["av"]
    assert not check.ok
    assert check.found == "ImportError: libav.so: cannot open"
    assert "--force-reinstall av" in check.mend


def test_missing_extras_leave_the_core_fine(wheels):
    wheels[0].update({"panel", "papermill", "faiss-cpu", "decord"})
    found = by_name()
    assert found["panel"].mend == "pip install 'vidistill[glass]'"
    assert found["papermill"].mend == "pip install 'vidistill[bench]'"
    assert found["faiss"].mend == "pip install faiss-cpu"
    assert found["decord"].mend == "pip install decord"
    assert all(check.ok for check in found.values() if check.core)


@pytest.mark.parametrize(("other", "what"), [("faiss-gpu", "faiss"), ("decord2", "decord")])
def test_two_wheels_of_one_module_clash(wheels, other, what):
    wheels[0].remove(other)
    check = by_name()[what]
    assert not check.ok
    assert "overwrite each other" in check.found
    assert f"pip uninstall -y {other}" in check.mend


def test_an_unwritable_cache_and_an_empty_data_folder(wheels, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("VIDISTILL_DATA", str(tmp_path / "nothing"))
    found = by_name()
    assert not found["cache"].ok
    assert found["cache"].core
    assert "VIDISTILL_CACHE" in found["cache"].mend
    assert not found["real"].ok
    assert not found["real"].core
