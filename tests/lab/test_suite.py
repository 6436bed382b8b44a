"""The suite runs every run of every paper, judges every card, fails closed, and what it keeps is shown only as fresh while it is."""

import json
import time

import pytest
from house import House, protocol_of
from typer.testing import CliRunner

from vidistill.errors import Cancelled, InputError
from vidistill.files import load_json, save_json
from vidistill.knobs import Knob, Knobs
from vidistill.lab import code, presets, standing, suite
from vidistill.lab.cli import app
from vidistill.lab.record import verify_record
from vidistill.lab.runner import notebooks_dir
from vidistill.lab.standing import keep, standings, write_tables
from vidistill.lab.status_page import status_page

KNOBS = Knobs("toy", Knob("seeds", 5, "repetitions", low=1, high=9), Knob("lift", 1.0, "what the method gains"))
PARAMETERS = 'tier: str = "toy"\nseeds: int = 5\nlift: float = 1.0\nout: str = ""\nout_json: str = ""'
WORK = """import json, pathlib
pathlib.Path(out).mkdir(parents=True, exist_ok=True)
with open(pathlib.Path(out, "ran"), "a") as log:
    log.write("x")"""
JUDGE = """rows = []
for card in CARDS:
    ours, other = [10 + lift + seed + .1 * (seed % 2) for seed in range(seeds)], [10 + seed for seed in range(seeds)]
    value, against = ({"mean": sum(v) / seeds, "low": 0.0, "high": 20.0, "std": 1.0, "n": seeds, "values": v} for v in (ours, other))
    rows.append({"card": card, "arm": "method", "control": "base", "value": value, "against": against, "verdict": "typed by hand"})
json.dump({"extra": {"verdicts": rows}}, open(out_json, "w"))"""
PROTOCOL = protocol_of("[runs.main]\nlift = 2.0\n[runs.other]\nlift = -2.0\n[quick.main]\nseeds = 2\n[quick.other]\nseeds = 2")
STATES = ["direction holds", "direction does not hold", "not attempted"]


class Lab(House):
    """A house with two runs and three cards."""

    def __init__(self, folder, patch):
        super().__init__(folder, patch, KNOBS)
        self.out = folder / "suite"
        self.work()
        self.protocol(PROTOCOL)
        self.card("01-up", claim="it rises", run="main")
        self.card("02-down", claim="it rises there, too", run="other")
        self.card("03-not", claim="somebody else's", run="main", absent="another method", published=0.5)

    def work(self, *cells, names=("toy-01-up", "toy-02-down")):
        self.cells(PARAMETERS, WORK, f"CARDS = {list(names)}", *cells, JUDGE)


@pytest.fixture
def lab(monkeypatch, tmp_path):
    return Lab(tmp_path, monkeypatch)


def ran(lab):
    return sum(len(path.read_text()) for path in lab.out.rglob("ran"))


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_every_run_is_run_once_and_every_card_judged(lab) -> None:
    told = []
    status = suite.run_suite(lab.out, progress=lambda *row: told.append(row))
    assert status == load_json(lab.out / "status.json")
    assert status["failed"] == []
    held = status["papers"]["toy"]
    assert {row["card"] for row in held["cards"]} == {"toy-01-up", "toy-02-down"}
    assert held["runs"].keys() == {"main", "other"}
    assert held["runs"]["main"]["parameters"] == {"tier": "toy", "lift": 2.0}
    assert held["runs"]["main"]["peak_bytes"] > 2**20
    assert held["runs"]["other"]["command"] == f"vidistill reproduce toy --tier toy --run other --out {lab.out / 'toy-other'}"
    for run in ("main", "other"):
        assert verify_record(lab.out / f"toy-{run}")["outputs"].keys() == {"toy.ipynb", "toy.json", "run.json"}
    assert [one.state for one in standings("toy", held | {"quick": False})] == [
        "direction holds",
        "direction does not hold",
        "not attempted",
    ]
    assert {stage for stage, _, _ in told} == {"suite"}
    assert all(0 <= done <= total for _, done, total in told)
    assert ran(lab) == 2
    again = suite.run_suite(lab.out)
    assert ran(lab) == 2, "a finished run was run again"
    assert again["papers"] == status["papers"]
    (lab.out / "toy-other/run.json").unlink()  # as a stop leaves it
    suite.run_suite(lab.out)
    assert ran(lab) == 3


def test_other_code_or_parameters_are_run_anew_and_never_find_finished_parts(lab) -> None:
    suite.run_suite(lab.out)
    lab.work("pass")
    suite.run_suite(lab.out)
    assert ran(lab) == 4
    assert len(list((lab.out / "toy-main/work").iterdir())) == 2
    suite.run_suite(lab.out, quick=True)
    assert ran(lab) == 6


def test_what_failed_is_said_and_the_rest_goes_on(lab) -> None:
    lab.work("if lift < 0:\n    1 / 0")
    done = call("reproduce", "--all", "--tier", "toy", "--out", lab.out)
    assert done.exit_code == 1, done.output
    assert "failed: toy-other: cell 5 (if lift < 0:): ZeroDivisionError" in done.stderr
    status = load_json(lab.out / "status.json")
    assert [row["card"] for row in status["papers"]["toy"]["cards"]] == ["toy-01-up"]
    assert "ZeroDivisionError" in (lab.out / "index.html").read_text()
    with pytest.raises(InputError, match="1 parts of the suite failed, so nothing is kept"):
        keep(status)


def test_a_card_that_nothing_judged_is_a_failure(lab) -> None:
    lab.work(names=["toy-02-down"])
    done = call("reproduce", "--all", "--out", lab.out)
    assert done.exit_code == 1
    assert "failed: toy-main: nothing judged the card toy-01-up: method or base has no score" in done.stderr


def test_a_card_without_a_control_stops_the_suite_before_it_runs(lab) -> None:
    path = lab.card("01-up", run="main", control=None)
    done = call("reproduce", "--all", "--out", lab.out)
    assert (done.exit_code, ran(lab)) == (2, 0)
    assert done.stderr == f"error: card {path} lacks control\n"


def test_an_edited_result_is_a_failure_not_a_verdict(lab) -> None:
    suite.run_suite(lab.out)
    path = lab.out / "toy-main/toy.json"
    held = load_json(path)
    held["extra"]["verdicts"][0]["value"]["values"] = [99.0] * 5
    save_json(path, held)
    done = call("reproduce", "--all", "--out", lab.out)
    assert done.exit_code == 1
    assert f"failed: toy-main: {path} was changed after the run wrote it (its SHA-256 differs)" in done.stderr
    assert [row["card"] for row in load_json(lab.out / "status.json")["papers"]["toy"]["cards"]] == ["toy-02-down"]


def test_a_stop_ends_the_kernels(lab) -> None:
    lab.work("import time\ntime.sleep(60)")
    start = time.monotonic()

    def progress(stage, done, total):
        if time.monotonic() - start > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        suite.run_suite(lab.out, progress=progress)
    assert time.monotonic() - start < 30
    assert not (lab.out / "status.json").exists()


def test_bad_orders_are_one_line(lab) -> None:
    assert call("reproduce").stderr == "error: give the name of one paper, or --all\n"
    assert "leave out -p, --run and --timeout" in call("reproduce", "--all", "-p", "seeds=1").stderr
    assert "--quick and --run are of tier toy" in call("reproduce", "toy", "--tier", "small", "--quick").stderr
    assert "jobs=0 is out of range" in _error(lambda: suite.run_suite(lab.out, jobs=0))
    assert "unknown paper 'toi': did you mean 'toy'" in _error(lambda: suite.run_suite(lab.out, papers=["toi"]))
    assert "a quick suite is too short" in _error(lambda: keep({"quick": True}))


def _error(work) -> str:
    with pytest.raises(InputError) as error:
        work()
    return str(error.value)


def test_larger_tiers_say_what_they_take(lab) -> None:
    done = call("reproduce", "--all", "--tier", "full")
    assert done.exit_code == 0, done.output
    assert all(words in done.stdout for words in ("not attempted here", "a week", "a GPU"))
    assert suite.plans("small") == [
        {"paper": "toy", "data": "d", "model": "m", "command": "vidistill reproduce toy --tier small", "cost": "an hour"}
    ]


# What is kept.


@pytest.fixture(scope="module")
def ended():
    """The status of a suite, once it was run."""
    return {}


@pytest.fixture
def kept(lab, ended):
    if not ended:
        done = call("reproduce", "--all", "--out", lab.out, "--write")
        assert done.exit_code == 0, done.output
        ended.update(load_json(lab.out / "status.json"))
    keep(ended)
    write_tables(lab.readme)
    return lab


def test_the_readme_gets_its_table_and_every_claim_has_a_row(kept) -> None:
    text = kept.readme.read_text()
    assert text.startswith("before\n<!-- status: begin -->\n| paper | claims | comparisons | hold |")
    assert text.endswith("<!-- status: end -->\nafter\n")
    assert "| toy | 3 | 2 | 1 | 1 | 0 | 0 | 1 | 0 | 0, 0, 0 |" in text
    page = standing.TABLE.read_text()
    assert "it rises" in page
    assert "not attempted: another method" in page
    assert "typed by hand" not in page
    results = standing.results_file("toy")
    assert str(kept.folder) not in results.read_text(), "results that go with the project name a folder of this machine"
    assert standing.kept("toy")["runs"]["other"]["command"] == "vidistill reproduce toy --tier toy --run other"
    before = (text, page)
    write_tables(kept.readme)
    assert (kept.readme.read_text(), standing.TABLE.read_text()) == before
    kept.readme.write_text("no markers")
    with pytest.raises(InputError, match="once each, in this order"):
        write_tables(kept.readme)


def test_a_verdict_is_taken_from_the_intervals_whatever_is_typed(kept, ended) -> None:
    assert [one.state for one in standings("toy")] == STATES
    other = json.loads(json.dumps(ended))
    other["papers"]["toy"]["cards"][1] |= {"verdict": "direction holds", "difference": {"mean": 9.0}}
    keep(other)
    assert [one.state for one in standings("toy")] == STATES
    other["papers"]["toy"]["cards"][1]["value"] |= {"values": [99.0, 98.0, 97.0, 99.5, 99.0]}
    keep(other)
    assert standings("toy")[1].state == "direction holds"


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (lambda lab: None, ["", "", ""]),
        (lambda lab: lab.work("pass"), ["the code changed"] * 2 + [""]),
        (lambda lab: lab.work("# a better word"), ["", "", ""]),
        (lambda lab: lab.protocol(PROTOCOL.replace("version = 1", "version = 2")), ["the protocol changed"] * 2 + [""]),
        (lambda lab: lab.protocol(PROTOCOL.replace("lift = -2.0", "lift = -1.0")), ["", "the parameters changed", ""]),
        (lambda lab: lab.card("01-up", claim="it rises", run="main", margin=1.0), ["the card's margin changed", "", ""]),
        (lambda lab: lab.card("01-up", claim="in other words", run="main"), ["", "", ""]),
    ],
)
def test_stale_where_code_protocol_parameters_or_card_changed(kept, change, reasons) -> None:
    change(kept)
    assert [one.stale for one in standings("toy")] == reasons
    done = call("cards")
    assert done.exit_code == 0, done.output


def test_comments_and_docstrings_make_nothing_stale() -> None:
    one = 'def f(x):\n    """A."""\n    # b\n    return x  # c\n'
    other = '# top\ndef f(x):\n    """B,\n    longer."""\n\n    return x  # c\n'
    assert code.bare(one) == code.bare(other)
    assert code.bare(one) != code.bare(one.replace("return x ", "return -x "))


def test_a_change_deep_in_the_library_reaches_its_papers_and_no_other(monkeypatch, tmp_path) -> None:
    before = {paper: code.code_digest(paper) for paper in presets.PAPERS}
    find = code._file
    pull = find("vidistill.guide.pull")
    (tmp_path / "pull.py").write_text(pull.read_text().replace("class Pull:", "class Push:"))
    monkeypatch.setattr(code, "_file", lambda name: tmp_path / "pull.py" if find(name) == pull else find(name))
    changed = {paper for paper in presets.PAPERS if code.code_digest(paper) != before[paper]}
    assert "gvd" in changed
    assert "latent_vdd" not in changed


def test_the_page_is_read_without_a_script(kept, ended) -> None:
    page = status_page(ended)
    bare = page.partition("<section id='chart'>")[0] + page.rpartition("</section>")[2]
    assert "<script" not in bare
    assert all(
        words in bare for words in ("it rises", "direction does not hold", "Table 1", "not attempted: another method", "holds: +2.04")
    )
    assert "http://" not in bare
    assert "src=" not in bare
    assert "https://" not in bare
    assert json.dumps("toy-01-up")[1:-1] in page


def test_the_tables_of_the_project_are_those_of_its_results(monkeypatch, tmp_path) -> None:
    """After a change of code, cards or protocols: vidistill cards --write."""
    house = notebooks_dir().parent
    if not (house / "README.md").is_file():
        pytest.skip("an installed package has no README")
    shown, told = standing.TABLE.read_text(), (house / "README.md").read_text()
    monkeypatch.setattr(standing, "TABLE", tmp_path / "claims.md")
    (tmp_path / "README.md").write_text(told)
    write_tables(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == told
    assert (tmp_path / "claims.md").read_text() == shown
