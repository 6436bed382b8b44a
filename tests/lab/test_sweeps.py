"""A sweep makes each cell once, survives whatever stops it, and gives one table on whatever it runs."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from vidistill.distill.parallel import Ranks
from vidistill.errors import Cancelled, InputError
from vidistill.knobs import Knob, Knobs
from vidistill.lab import cells as cells_module
from vidistill.lab import presets
from vidistill.lab.sweep_page import html_page, write_page
from vidistill.lab.sweep_table import AFTER, BEFORE, TIMES, pick_arm, points_of, table_of, write_table
from vidistill.lab.sweeps import parse_grid, parse_seeds, plan, run_sweep, save_summary

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("papermill")
pytest.importorskip("ipykernel")

SCRIPT = Path(__file__).with_name("cell_stub.py")
STUB = runpy.run_path(str(SCRIPT), run_name="stub")
KNOBS, sweep_of = STUB["KNOBS"], STUB["sweep_of"]


@pytest.fixture
def here(monkeypatch):
    """Cells run in this process, without a kernel: the same notebook, in milliseconds."""

    def run(path, output, parameters, *, threads, progress):
        progress("notebook", 0, 1)
        space = dict(parameters) | {"out_json": str(Path(output).with_suffix(".json"))}
        try:
            exec(nbformat.read(path, 4).cells[1].source, space)
        except ValueError as error:
            failed = Path(output).with_suffix(".failed.ipynb")
            failed.write_text("what ran")
            raise cells_module.RunFailed(f"cell 2 (import): ValueError: {error}; what ran is in {failed}") from None
        Path(output).write_text("executed")

    monkeypatch.setattr(cells_module, "run_notebook", run)


def steady(table):
    return table.drop_columns(list(TIMES))


def begun(folder):
    return (folder / "log").read_text().split("\n")[:-1]


def started(folder, engine="threads", jobs=2, points=2, seeds=2):
    command = [sys.executable, str(SCRIPT), str(folder), engine, str(jobs), str(points), str(seeds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


# --------------------------------------------------------------------------------------------------------------- the table


def test_the_table_is_tidy_and_its_clocks_stand_apart(here, tmp_path):
    done = run_sweep(sweep_of(tmp_path, [0, 2], [3, 4]), tmp_path / "out")
    write_table(tmp_path / "sweep.parquet", table_of(done))
    table = pq.read_table(tmp_path / "sweep.parquet")
    assert table.column_names == [*BEFORE, "strength", "way", *AFTER]
    assert [str(table.schema.field(name).type) for name in ("strength", "way", "seed", "value", "clock")] == [
        *("int64", "string", "int64", "double", "double")
    ]
    assert pq.ParquetFile(tmp_path / "sweep.parquet").metadata.row_group(0).column(0).compression == "ZSTD"
    rows = table.to_pylist()
    assert len(rows) == 4 * 2 * (4 + 1)
    first = rows[: 4 + 1]
    assert [(row["arm"], row["role"], row["measure"], row["value"]) for row in first] == [
        ("method", "method", "score", 30.0),
        ("method", "method", "bytes.core", 3.0),
        ("method", "method", "bytes.total", 7.0),
        ("method", "method", "seconds", None),
        ("random", "control", "score", 3.0),
    ]
    assert first[3]["clock"] > 1e9
    assert first[0]["clock"] is None
    assert [(row["strength"], row["way"], row["seed"]) for row in rows[::5]] == [
        (strength, way, seed) for strength in (0, 2) for way in ("up", "down") for seed in (3, 4)
    ]
    about = json.loads(table.schema.metadata[b"vidistill"])
    assert about["paper"] == "toy"
    assert about["score"]["heading"] == "points"
    assert about["knobs"]["seeds"] == 1


def test_no_paper_has_a_knob_with_the_name_of_a_column():
    for paper in presets.PAPERS:
        assert not {*BEFORE, *AFTER} & set(presets.knobs_of(paper))


def test_points_are_paired_by_seed_with_the_base(here, tmp_path):
    done = run_sweep(sweep_of(tmp_path, [3, 0], [0, 1, 2, 3, 4]), tmp_path / "out")
    assert done.sweep.base == {"strength": 0, "way": "up"}, "the default is in the grid"
    points = {tuple(point.turned.values()): point for point in points_of(done, pick_arm(done))}
    base, up = points[0, "up"], points[3, "up"]
    assert base.base
    assert base.difference is None
    assert up.score["n"] == 5
    assert up.score["mean"] == pytest.approx(20 + 3)
    assert up.difference["values"] == pytest.approx([3.0] * 5), "not paired: the seeds are ten apart"
    assert up.difference["verdict"] == "higher"
    assert points[3, "down"].difference["verdict"] == "lower"
    assert pick_arm(done, "random") == "random"
    with pytest.raises(InputError, match="did you mean 'random'"):
        pick_arm(done, "randon")
    other = run_sweep(sweep_of(tmp_path, [3, 5], [0]), tmp_path / "out")
    assert other.sweep.base == {"strength": 3, "way": "up"}, "without the default it is the first value"


# ---------------------------------------------------------------------------------------------------------------- the cells


def test_a_cell_is_made_once_and_belongs_to_any_grid_that_has_it(here, tmp_path):
    out = tmp_path / "out"
    whole = table_of(run_sweep(sweep_of(tmp_path, [0, 2], [3, 4]), out))
    assert len(begun(tmp_path)) == 8
    seen = []
    again = table_of(run_sweep(sweep_of(tmp_path, [0, 2], [3, 4]), out, progress=lambda *event: seen.append(event)))
    assert again.equals(whole), "even the clocks are those of the cells"
    assert len(begun(tmp_path)) == 8
    assert not seen
    run_sweep(sweep_of(tmp_path, [2, 4], [4, 5]), out)
    assert len(begun(tmp_path)) == 8 + 6, "cells that two grids share were made twice, or not shared"
    run_sweep(sweep_of(tmp_path, [2], [4], slow=0.001), out)
    assert len(begun(tmp_path)) == 8 + 6 + 2, "another knob makes another cell"


def test_code_and_data_are_in_the_hash(tmp_path):
    notebook = STUB["stub"](tmp_path)

    def hashes(**changes):
        return {cell.hash for cell in plan(KNOBS, {"strength": [1, 2]}, [0], notebook=notebook, **changes).cells}

    same = hashes(key=lambda values: "a", device="cuda:0")
    assert same == hashes(key=lambda values: "a", device="cuda:1"), "it does not matter which GPU"
    assert not same & hashes(key=lambda values: "a")
    assert not same & hashes(key=lambda values: "b", device="cuda")
    STUB["stub"](tmp_path, "pass")
    assert not same & hashes(key=lambda values: "a", device="cuda"), "the notebook is code, too"


def test_the_first_seed_of_every_point_comes_first_and_progress_counts_what_is_to_be_made(here, tmp_path):
    seen = []
    run_sweep(sweep_of(tmp_path, [0, 2], [7, 8]), tmp_path / "out", jobs=1, progress=lambda *event: seen.append(event))
    assert [line.split()[-1] for line in begun(tmp_path)] == ["7"] * 4 + ["8"] * 4
    assert seen[-1] == ("cells", 8, 8)


def test_an_edited_cell_is_told_of_and_made_again(here, tmp_path):
    sweep, out, told = sweep_of(tmp_path, [0], [0]), tmp_path / "out", []
    whole = table_of(run_sweep(sweep, out))
    report = out / "cells" / sweep.cells[0].hash / "report.json"
    report.write_text(report.read_text().replace("points", "prizes"))
    again = table_of(run_sweep(sweep, out, told=told.append))
    assert steady(again).equals(steady(whole), check_metadata=True)
    assert len(told) == 1
    assert told[0].startswith("strength=0, way=up, seed 0 is made again: ")
    assert "report.json was changed after the run wrote it" in told[0]
    assert len(begun(tmp_path)) == 3


def test_a_cell_that_fails_is_told_of_and_the_others_go_on(here, tmp_path):
    out, told = tmp_path / "out", []
    sweep = sweep_of(tmp_path, [12, 13], [0, 1], ways=("up",))
    done = run_sweep(sweep, out, told=told.append)
    bad = [cell for cell in sweep.cells if cell.turned["strength"] == 13]
    assert done.failed == {cell.hash: "cell 2 (import): ValueError: unlucky strength" for cell in bad}
    kept = out / "failed" / f"{bad[0].hash}.ipynb"
    assert f"failed: strength=13, way=up, seed 0: {done.failed[bad[0].hash]}; what ran is in {kept}" in told
    assert kept.read_text() == "what ran"
    assert {row["strength"] for row in table_of(done).to_pylist()} == {12}
    points = points_of(done, "method")
    assert [(point.failed, point.score and point.score["n"]) for point in points] == [(0, 2), (2, None)]
    page = html_page(done, "method", points, {})
    assert "✕ 2 of 2 failed" in page
    assert "strength=13, way=up, seed 1: cell 2 (import): ValueError: unlucky strength" in page
    run_sweep(sweep, out)
    assert len(begun(tmp_path)) == 4 + 2, "a failed cell is made again, a finished one is not"


def test_a_sweep_whose_cells_all_fail_still_says_so(here, tmp_path):
    done = run_sweep(sweep_of(tmp_path, [13], [0], ways=("up",)), tmp_path / "out")
    assert pick_arm(done) == ""
    assert table_of(done).num_rows == 0
    assert "No cell is finished" in html_page(done, "", points_of(done, ""), {})


def test_a_cell_without_a_sound_record_fails(here, tmp_path):
    lost = STUB["WORK"].replace('Path(out, "record.json").write_text(json.dumps(record))', "")
    done = run_sweep(sweep_of(tmp_path, [1], [0], lost, ways=("up",)), tmp_path / "out")
    assert next(iter(done.failed.values())).startswith("stub.ipynb left no sound record: cannot read ")


# ------------------------------------------------------------------------------------------------------------------ kernels


def test_kernels_run_side_by_side_with_one_thread_each(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before, told = dict(os.environ), []
    sweep = sweep_of(tmp_path, [12, 13], [0], ways=("up",))
    done = run_sweep(sweep, tmp_path / "out", jobs=2, told=told.append)
    good, bad = sweep.cells
    record = json.loads((tmp_path / "out" / "cells" / good.hash / "record.json").read_text())
    assert (record["threads"], record["rank"]) == ("1", None)
    assert dict(os.environ) == before
    assert done.failed.keys() == {bad.hash}
    assert done.failed[bad.hash].endswith("ValueError: unlucky strength")
    assert "ValueError" in (tmp_path / "out" / "failed" / f"{bad.hash}.ipynb").read_text()
    assert sorted(os.listdir(tmp_path / "out" / "cells" / good.hash)) == ["record.json", "report.json", "toy.ipynb"]


def test_a_stop_ends_the_kernels_and_leaves_no_half_a_cell(tmp_path):
    pids = tmp_path / "pids"
    work = f"import os, time\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(60)"

    def progress(stage, done, total):
        if pids.exists() and len(pids.read_text().split()) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_sweep(sweep_of(tmp_path, [0, 1], [0], work, ways=("up",)), tmp_path / "out", jobs=2, progress=progress)
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.slow
def test_kill_minus_nine_loses_the_cells_in_flight_and_no_others(tmp_path, request):
    """Forty cells, two at once, killed half-way; what is resumed is the table of a sweep that was never interrupted."""
    first = started(tmp_path, jobs=2, points=4, seeds=5)
    finished = tmp_path / "out" / "cells"
    while len(list(finished.glob("*/record.json"))) < 18:
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = {path.parent.name for path in finished.glob("*/record.json")}
    assert 18 <= len(kept) < 30
    second = started(tmp_path, jobs=2, points=4, seeds=5)
    assert second.wait(300) == 0, second.stderr.read()
    lines = begun(tmp_path)
    assert len(set(lines)) == 40
    assert len(lines) <= 40 + 2, "more than the two cells in flight were made twice"
    resumed = pq.read_table(tmp_path / "out" / "sweep.parquet")
    request.getfixturevalue("here")
    whole = table_of(run_sweep(sweep_of(tmp_path, range(4), range(5)), tmp_path / "whole"))
    assert steady(resumed).equals(steady(whole), check_metadata=True)


@pytest.mark.slow
def test_two_processes_make_the_table_of_one(tmp_path, request, two_processes):
    two_processes(SCRIPT, tmp_path, "threads", 1, 3, 2)
    assert len(begun(tmp_path)) == 12, "a cell was made by both, or by neither"
    shared = pq.read_table(tmp_path / "out" / "sweep.parquet")
    request.getfixturevalue("here")
    alone = table_of(run_sweep(sweep_of(tmp_path, range(3), range(2)), tmp_path / "alone"))
    assert steady(shared).equals(steady(alone), check_metadata=True)


@pytest.mark.slow
def test_a_ray_cluster_makes_the_table_of_threads(tmp_path):
    pytest.importorskip("ray", reason="the engine ray needs the extra of that name: pip install 'vidistill[ray]'")
    cluster = started(tmp_path / "ray", engine="ray", jobs=2, points=2)
    said = cluster.communicate(timeout=240)[1]
    assert cluster.returncode == 0, said
    assert len(begun(tmp_path / "ray")) == 8
    sweep = sweep_of(tmp_path / "threads", range(2), range(2))
    threads = table_of(run_sweep(sweep, tmp_path / "threads" / "out", jobs=2))
    assert steady(pq.read_table(tmp_path / "ray" / "out" / "sweep.parquet")).equals(steady(threads), check_metadata=True)


def test_ray_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"engine ray needs the package ray: pip install 'vidistill\[ray\]'"):
        run_sweep(sweep_of(tmp_path, [0], [0]), tmp_path / "out", engine="ray")


class FakeRay:
    """Ray as the engine uses it, in this process; the cells of seed 1 are on a machine that is lost."""

    def __init__(self, starts):
        error = type("RayError", (Exception,), {})
        self.exceptions = SimpleNamespace(RayError=error, RayTaskError=type("RayTaskError", (error,), {}))
        self.starts, self.tries, self.down = starts, 0, 0

    def init(self, **options):
        self.tries += 1
        if self.tries < self.starts:
            raise Exception("The current node timed out\nduring startup.")

    def shutdown(self):
        self.down += 1

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, **options):
        return lambda task: SimpleNamespace(remote=lambda *given: partial(task, *given))

    def wait(self, running, timeout):
        assert len(running) <= 2, "more tasks than the cluster has cores"
        return running[:1], running[1:]

    def get(self, done):
        if done.args[0].seed == 1:
            raise self.exceptions.RayError
        return done()


def test_a_lost_worker_is_a_failed_cell_and_a_slow_start_is_tried_again(here, tmp_path, monkeypatch):
    fake = FakeRay(starts=2)
    monkeypatch.setitem(sys.modules, "ray", fake)
    done = run_sweep(sweep_of(tmp_path, [1, 2], [0, 1], ways=("up",)), tmp_path / "out", engine="ray")
    assert {line.split(":")[0] for line in done.failed.values()} == {"its Ray worker was lost"}
    assert {cell.seed for cell in done.sweep.cells if cell.hash in done.failed} == {1}
    assert len(done.arms) == 2
    assert (fake.tries, fake.down) == (2, 2)
    run_sweep(sweep_of(tmp_path, [1, 2], [0], ways=("up",)), tmp_path / "out", engine="ray")
    assert fake.tries == 2, "nothing was to be made, and yet Ray was started"


def test_ray_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    fake = FakeRay(starts=9)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(InputError, match=r"^Ray did not start: The current node timed out during startup\.; is the machine too busy"):
        run_sweep(sweep_of(tmp_path, [0], [0]), tmp_path / "out", engine="ray")
    assert fake.tries == 3
    with pytest.raises(InputError, match="engine ray shares the cells itself: start one process"):
        run_sweep(sweep_of(tmp_path, [0], [0]), tmp_path / "out", engine="ray", ranks=Ranks(0, 2))


# ----------------------------------------------------------------------------------------------------------------- the page


def test_the_page_is_a_grid_of_clips_without_javascript(here, tmp_path):
    import torch

    from vidistill.data.world import write_clip
    from vidistill.lab.first_clip import place_of

    out = tmp_path / "out"
    done = run_sweep(sweep_of(tmp_path, [0, 2, 4], [0, 1, 2]), out)
    shown = done.sweep.cells[0]
    write_clip(place_of(out / "cells" / shown.hash, "method"), torch.randint(0, 255, (3, 4, 32, 32), dtype=torch.uint8))
    points = points_of(done, "method")
    write_page(out, done, "method", points)
    save_summary(out, done, "vidistill sweep toy", "", "none")
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert page.count("<th scope=col>") == 3
    assert page.count("<th scope=row>way ") == 2
    picture = f"pictures/method-{shown.hash}.png"
    assert page.count("<img") == 1
    assert f"src='{picture}' alt='first clip at strength=0, way=up'" in page
    assert (out / picture).read_bytes()[:4] == b"\x89PNG"
    assert b"acTL" in (out / picture).read_bytes(), "it does not move"
    assert page.count("base</span>") == 1
    assert "class='higher'>▲ +2.12 [" in page
    assert "class='lower'>▼ " in page
    assert "differences are to strength=0, way=up, paired by seed; seeds 0 to 2" in page
    told = json.loads((out / "sweep.json").read_text())
    assert [cell["error"] for cell in told["cells"]] == [""] * 18
    assert told["grid"] == {"strength": [0, 2, 4], "way": ["up", "down"]}


def test_a_page_of_one_knob_has_one_row_and_of_three_a_block_for_each_value(here, tmp_path):
    notebook = STUB["stub"](tmp_path)
    common = {"notebook": notebook, "data": str(tmp_path / "log"), "layout": "none"}
    one = run_sweep(plan(KNOBS, {"strength": [1, 2]}, [0], **common), tmp_path / "out")
    page = html_page(one, "method", points_of(one, "method"), {})
    assert page.count("<tr><th scope=row>") == 1
    assert "<h2>" not in page
    three = run_sweep(plan(KNOBS, {"strength": [1, 2], "way": ["up", "down"], "slow": [0.0, 0.001]}, [0], **common), tmp_path / "out")
    page = html_page(three, "method", points_of(three, "method"), {})
    assert [line for line in page.splitlines() if line.startswith("<h2>")] == ["<h2>slow=0</h2>", "<h2>slow=0.001</h2>"]
    assert page.count("<th scope=col>") == 4


# ---------------------------------------------------------------------------------------------------------------- bad input


def test_seeds_are_a_range_or_a_list():
    assert parse_seeds("0:5") == (0, 1, 2, 3, 4)
    assert parse_seeds("7") == (7,)
    assert parse_seeds("0, 3, 8:10") == (0, 3, 8, 9)
    for text, line in {
        "5:0": "'5:0' holds no seed: 5:0 ends before it begins; write 0:5",
        "3:3": "holds no seed",
        "": "is not allowed: write 0:5",
        "a": "is not allowed",
        "-1:4": "is not allowed",
        "0:3,2": "holds a seed twice",
        "0:99999": "at most 10,000 cells",
    }.items():
        with pytest.raises(InputError, match=line):
            parse_seeds(text)


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (["strengh=1"], "unknown knob 'strengh' for toy: did you mean 'strength'"),
        (["strength=101"], r"strength=101 is not allowed: it must be a whole number in \[0, 100\]"),
        (["way=sideways"], "way='sideways' is not allowed"),
        (["strength=1,2", "strength=3"], "turns the knob strength twice"),
        (["strength=1,1"], "has the value 1 twice"),
        (["strength="], "has no values"),
        (["strength"], "is not of the form knob=value,value"),
        ([], "turns at least one knob"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(texts, line):
    with pytest.raises(InputError, match=line):
        parse_grid(KNOBS, texts)


def test_a_plan_that_cannot_be_is_one_line(tmp_path):
    for grid, values, line in [
        ({"strength": list(range(101)), "slow": [k / 10 for k in range(100)]}, {}, "101 x 100 points with 1 seeds has 10,100 cells"),
        ({"strength": [1]}, {"strength": 3}, "cannot turn the knob strength: it is set to 3"),
        ({"seeds": [1]}, {}, "cannot turn the knob seeds: a cell has one repetition; say --seeds"),
        ({"strength": [1]}, {"seeds": 3}, "knob seeds cannot be set in a sweep"),
        ({"strength": [1]}, {"slo": 3}, "did you mean 'slow'"),
        ({"strength": [-1]}, {}, "strength=-1 is not allowed"),
        ({}, {}, "at least one knob"),
    ]:
        with pytest.raises(InputError, match=line):
            plan(KNOBS, grid, [0], values, notebook=STUB["stub"](tmp_path))
    with pytest.raises(InputError, match="did you mean 'threads'"):
        run_sweep(sweep_of(tmp_path, [0], [0]), tmp_path / "out", engine="thread")
    named = plan(KNOBS, {"strength": [1]}, [0], named={"strength": 4, "slow": 2.0}, notebook=STUB["stub"](tmp_path))
    assert named.values == {"strength": 4, "way": "up", "slow": 2.0, "seeds": 1}, "a preset stands in place of the defaults"
    free = Knobs("free", Knob("a", 1, "a"))
    assert plan(free, {"a": [2]}, [0], notebook=STUB["stub"](tmp_path)).values == {"a": 1}
