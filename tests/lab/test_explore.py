"""What a page shows becomes a command, a cell and a hash: defaults are left out, limits hold, and nothing of a machine is in the hash."""

import json
import shlex

import nbformat
import pytest
import torch
from typer.testing import CliRunner

from vidistill.data.clip_record import sidecar
from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs
from vidistill.lab import cli, explore, headless
from vidistill.lab.runner import notebooks_dir, parse_parameters

CLIPS = {"unguided twin": torch.zeros(3, 2, 16, 16, dtype=torch.uint8), "guided": torch.full((3, 2, 16, 16), 200, dtype=torch.uint8)}
PARAMETERS = """\
pull: float = 0.5  # how hard
word: str = "a b"  # what is said
models: str = ""  # folders
out: str = ""  # folder for the clips
live: bool = True  # False for a run without a screen
out_json: str = ""  # where to write"""
WORK = """\
import torch
from vidistill.files import save_json
from vidistill.lab.explore import keep, record
clips = {"the clip": torch.full((3, 2, 16, 16), round(100 * pull), dtype=torch.uint8)}
told = record("zoo", {"guidance": 1 + pull}, clips)
save_json(out_json, {"live": live, "record": told})
keep(out, clips, told)"""


def hashed(page, settings, clips=CLIPS):
    return explore.record(page, settings, clips)["hash"]


def read_back(page, line):
    """Return what the command line would give to the notebook."""
    words = shlex.split(line)
    assert words[:3] == ["vidistill", "explore", page]
    assert set(words[3::2]) <= {"-p"}
    pairs = dict(pair.split("=", 1) for pair in words[4::2])
    return parse_parameters(explore.notebook_of(page), pairs, explore.knobs_of(page))


def test_every_page_is_a_notebook_with_a_record():
    assert {path.stem for path in (notebooks_dir() / "explore").glob("*.ipynb")} <= explore.PAGES.keys()
    for page in explore.PAGES:
        notebook = nbformat.read(explore.notebook_of(page), 4)
        assert {"out", "live", "out_json"} <= explore.declared(page).keys()
        last = [cell.source for cell in notebook.cells if cell.cell_type == "code"][-1]
        assert f'record("{page}", ' in last
        assert '{"record": told}' in last or '"record": told}' in last


@pytest.mark.parametrize("page", explore.PAGES)
def test_defaults_are_the_bare_command_and_the_notebooks_own_cell(page):
    notebook = nbformat.read(explore.notebook_of(page), 4)
    (own,) = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert explore.command(page, {}) == f"vidistill explore {page}"
    assert explore.cell(page, {}) == own


def test_settings_survive_the_shell_and_the_cell():
    settings = {"prompt": 'it\'s a "star" \\ $HOME\nnew', "beta": 0.1 + 0.2, "guided": 3.0, "until": "5: beta=0.2, guided=8", "seed": 0}
    line = explore.command("videoguide", settings)
    expected = settings | {"beta": 0.3, "guided": 3}
    assert read_back("videoguide", line) == {name: expected[name] for name in ("prompt", "beta", "guided", "until")}
    space: dict = {}
    exec(explore.cell("videoguide", settings), space)
    assert {name: space[name] for name in expected} == expected
    assert space["live"] is True
    assert "beta: float = 0.3  # weight kept from the model; 1 is no teacher" in explore.cell("videoguide", settings)


def test_none_is_the_default_and_knobs_of_the_paper_that_make_no_clip_are_passed_over():
    line = explore.command("latent_vdd", {"clip": None, "rank_ratio": 0.5, "width": 4, "folder": "my videos", "layout": "hmdb51"})
    assert line == "vidistill explore latent_vdd -p rank_ratio=0.5 -p 'folder=my videos' -p layout=hmdb51"


@pytest.mark.parametrize(
    ("page", "settings", "words"),
    [
        ("gdv", {}, "unknown page 'gdv': did you mean 'gvd'"),
        ("gvd", {"strenght": 1}, "'strenght' for gvd: did you mean 'strength'"),
        ("gvd", {"live": False}, "unknown parameter 'live'"),
        ("gvd", {"centres": 0}, r"centres=0 is not allowed: it must be a whole number in \[1, 100\]"),
        ("gvd", {"seed": "3"}, "seed='3' is not allowed: the notebook declares it as int"),
        ("few_step", {"students": ["a"]}, "declares it as str"),
    ],
)
def test_what_a_page_does_not_have_or_allow_is_one_line(page, settings, words):
    for make in (explore.command, explore.cell, lambda *one: explore.record(*one, CLIPS)):
        with pytest.raises(InputError, match=words):
            make(page, settings)


def test_the_hash_is_of_settings_and_pixels_and_of_nothing_else():
    told = explore.record("gvd", {"strength": 0.5}, CLIPS)
    assert json.loads(json.dumps(told)) == told
    assert len(told["hash"]) == 64
    assert told["clips"]["guided"]["shape"] == [3, 2, 16, 16]
    same = [
        ({"strength": 0.5, "models": "mine=/somewhere", "device": "cuda"}, CLIPS),
        ({"seed": 0, "strength": 0.5 + 1e-12}, CLIPS),
        ({}, dict(reversed(CLIPS.items()))),
        ({}, {name: clip.repeat(1, 1, 1, 2)[..., ::2].flip(-1) for name, clip in CLIPS.items()}),  # not contiguous
    ]
    assert {hashed("gvd", *one) for one in same} == {told["hash"]}
    pixel = CLIPS["guided"].clone()
    pixel[0, 0, 0, 0] = 199
    other = [
        ({"strength": 0.55}, CLIPS),
        ({"seed": 1}, CLIPS),
        ({"per_class": 5}, CLIPS),
        ({}, CLIPS | {"guided": pixel}),
        ({}, CLIPS | {"guided": CLIPS["guided"].reshape(3, 2, 32, 8)}),
        ({}, {"guided": CLIPS["guided"]}),
    ]
    assert len({told["hash"], *(hashed("gvd", *one) for one in other)}) == 1 + len(other)


def test_of_a_model_in_a_folder_the_record_keeps_the_name():
    one, two = ({"teacher": f"dit={place}/dit", "students": f"a={place}/x, b"} for place in ("/here", "/there"))
    told = explore.record("few_step", one, CLIPS)
    assert (told["settings"]["teacher"], told["settings"]["students"]) == ("dit", "a, b")
    assert told["hash"] == hashed("few_step", two)
    assert told["hash"] == hashed("few_step", one | {"method": "dfd", "plane_seed": 4})  # the plane makes no clip
    assert told["hash"] != hashed("few_step", one | {"few": 3})
    assert hashed("zoo", {"prompt": "A  red Star"}) == hashed("zoo", {"prompt": "a red star"}) != hashed("zoo", {})


def test_clips_are_kept_with_their_record(tmp_path):
    told = explore.record("gvd", {}, CLIPS)
    explore.keep(tmp_path, CLIPS, told)
    assert sorted(path.name for path in (tmp_path / "clips").glob("*.mp4")) == ["guided.mp4", "unguided-twin.mp4"]
    assert json.loads(sidecar(tmp_path / "clips/guided.mp4").read_text()) == {**told, "clip": "guided"}


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A page called toy, with one knob."""
    import sys
    from types import SimpleNamespace

    folder = tmp_path / "notebooks" / "explore"
    folder.mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "toy_session", SimpleNamespace(KNOBS=Knobs("toy", Knob("pull", 0.5, "how hard", low=0, high=1))))
    monkeypatch.setattr(explore, "PAGES", {"toy": ("toy_session",)})
    monkeypatch.setattr(explore, "notebooks_dir", lambda: tmp_path / "notebooks")
    explore.declared.cache_clear()

    def write(*cells):
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
        notebook.cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(nbformat.v4.new_code_cell, cells)]
        nbformat.write(notebook, folder / "toy.ipynb")

    write("pass")
    yield write
    explore.declared.cache_clear()


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_the_cell_keeps_comments_and_signs_in_strings(toy):
    assert explore.cell("toy", {"word": 'x # "y"'}) == PARAMETERS.replace('"a b"', r'"x # \"y\""')


def test_explore_refuses_before_anything_runs(toy, tmp_path):
    toy(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refused = {
        ("explore", "toi"): "unknown page 'toi': did you mean 'toy'",
        ("explore", "toy", "-p", "pul=1"): "unknown parameter 'pul' for toy.ipynb: did you mean 'pull'",
        ("explore", "toy", "-p", "pull=2"): "pull=2.0 is not allowed: it must be a number in [0, 1]",
        ("explore", "toy", "-p", "pull"): "-p 'pull' is not of the form name=value",
        ("explore", "toy", "-p", "live=true"): "parameter live is set by vidistill explore",
        ("explore", "toy", "-p", "out=here"): "parameter out is set by vidistill explore",
        ("explore", "toy", "-p", "out_json=x"): "parameter out_json is set by the runner",
    }
    for words, line in refused.items():
        done = call(*words, "--out", tmp_path / "out")
        assert (done.exit_code, line in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.output
    assert not (tmp_path / "ran").exists()


def test_a_stop_is_130_and_a_failed_cell_is_1(toy, tmp_path, monkeypatch):
    from vidistill.errors import Cancelled

    def stopped(*arguments, **options):
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(headless, "run_notebook", stopped)
        assert call("explore", "toy", "--out", tmp_path / "out").exit_code == 130
    toy("1 / 0")
    done = call("explore", "toy", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "out" / "record.json").exists()


@pytest.fixture
def told():
    """The record that the toy's notebook writes for a pull of 0.25; the zoo's, for a kernel does not know the toy."""
    return explore.record("zoo", {"guidance": 1.25}, {"the clip": torch.full((3, 2, 16, 16), 25, dtype=torch.uint8)})


@pytest.mark.slow
def test_explore_writes_numbers_clips_and_record_and_prints_the_hash(told, toy, tmp_path):
    from vidistill.lab.record import verify_record

    toy(WORK)
    out = tmp_path / "out"
    (out / "clips").mkdir(parents=True)
    (out / "clips" / "mine.mp4").write_text("somebody's own")
    done = call(*shlex.split(explore.command("toy", {"pull": 0.25, "models": str(tmp_path)}))[1:], "--out", out)
    assert done.exit_code == 0, done.output
    found = json.loads((out / "toy.json").read_text())
    assert found == {"live": False, "record": told}
    assert done.stdout.splitlines()[-1] == f"record hash: {found['record']['hash']}"
    assert f"numbers: {out / 'toy.json'}" in done.stdout
    record = verify_record(out)
    assert {"toy.ipynb", "toy.json", "clips/the-clip.mp4", "clips/the-clip.mp4.json"} <= record["outputs"].keys()
    assert record["command"].startswith("vidistill explore toy -p pull=0.25 -p models=")

    toy(WORK.replace("the clip", "another"))  # a run that makes other clips leaves none of those before
    assert call("explore", "toy", "--out", out).exit_code == 0
    assert not (out / "clips" / "the-clip.mp4").exists()
    assert not (out / "clips" / "the-clip.mp4.json").exists()
    assert (out / "clips" / "another.mp4").is_file()
    assert (out / "clips" / "mine.mp4").is_file()


def test_serve_takes_a_page_or_a_notebook_and_stays_on_this_machine(tmp_path):
    pytest.importorskip("panel")

    def served(*words):
        done = call("serve", *words, "--print-command", "--no-browser")
        assert done.exit_code == 0, done.output
        return shlex.split(done.stdout)

    assert served()[4] == str(explore.notebook_of("latent_vdd"))
    words = served("videoguide", "--port", 7777)
    assert words[4] == str(explore.notebook_of("videoguide"))
    assert words[words.index("--address") + 1] == "127.0.0.1"
    origins = [words[at + 1] for at, word in enumerate(words) if word == "--allow-websocket-origin"]
    assert origins == ["127.0.0.1:7777", "localhost:7777"]
    (tmp_path / "own.ipynb").write_text("{}")
    assert served(tmp_path / "own.ipynb")[4] == str(tmp_path / "own.ipynb")
    done = call("serve", "videogide", "--print-command")
    assert done.exit_code == 2
    assert "did you mean 'videoguide'" in done.stderr
