"""The runner fails closed: whatever papermill lets pass is an error here."""

import json
import os
import threading
import time

import pytest

from vidistill.errors import Cancelled, InputError
from vidistill.knobs import Knob, Knobs

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("papermill")
pytest.importorskip("ipykernel")

from vidistill.lab.runner import RunFailed, notebooks_dir, parameters_of, parse_parameters, run_notebook  # noqa: E402

PARAMETERS = 'steps: int = 8  # how many steps\nratio: float = 0.5  # share kept\nfast: bool = False\nname: str = "a"\nout_json: str = ""'
WRITE = "import json\njson.dump({'steps': steps, 'ratio': ratio, 'fast': fast, 'name': name}, open(out_json, 'w'))"
KNOBS = Knobs("toy", Knob("steps", 8, "how many steps", low=1, high=10), Knob("ratio", 0.5, "share kept", low=0, high=1, open_low=True))


def notebook(folder, *cells, parameters=PARAMETERS, kernel="python3", tag="parameters", name="toy.ipynb"):
    nb = nbformat.v4.new_notebook()
    nb.metadata.kernelspec = {"name": kernel, "display_name": "Python 3", "language": "python"}
    nb.cells = [nbformat.v4.new_code_cell(source) for source in (parameters, *cells)]
    nb.cells[0].metadata.tags = [tag]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, folder / name)
    return folder / name


def test_values_reach_the_notebook_and_its_result_comes_back(tmp_path, capfd):
    path = notebook(tmp_path / "bra{ces", WRITE)
    seen = []
    done = run_notebook(
        path, tmp_path / "out" / "run.ipynb", {"steps": 3, "name": 'x"y'}, knobs=KNOBS, progress=lambda *event: seen.append(event)
    )
    assert done["result"] == {"steps": 3, "ratio": 0.5, "fast": False, "name": 'x"y'}
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == done["result"]
    cells = nbformat.read(tmp_path / "out" / "run.ipynb", 4).cells
    assert all(cell.execution_count for cell in cells)
    assert sorted(os.listdir(tmp_path / "out")) == ["run.ipynb", "run.json"]
    assert seen[-1] == ("notebook", 3, 3)
    assert capfd.readouterr() == ("", "")  # no kernel chatter


def test_unknown_parameter_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"'stepz' for toy.ipynb: did you mean 'steps'"):
        run_notebook(notebook(tmp_path, WRITE), tmp_path / "out.ipynb", {"stepz": 3})


def test_out_of_range_and_wrong_type_stop_before_anything_runs(tmp_path):
    path = notebook(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"ratio=1.5 .* in \(0, 1\]"):
        run_notebook(path, tmp_path / "out.ipynb", {"ratio": 1.5}, knobs=KNOBS)
    with pytest.raises(InputError, match=r"fast='maybe'.*declares it as bool"):
        run_notebook(path, tmp_path / "out.ipynb", {"fast": "maybe"}, knobs=KNOBS)
    with pytest.raises(InputError, match="set by the runner"):
        run_notebook(path, tmp_path / "out.ipynb", {"out_json": "x"})
    assert not (tmp_path / "ran").exists()


def test_unfit_notebooks_are_refused(tmp_path):
    out = tmp_path / "out.ipynb"
    with pytest.raises(InputError, match="no cell tagged 'parameters'"):
        run_notebook(notebook(tmp_path, WRITE, tag="parameter"), out)
    with pytest.raises(InputError, match="kernel 'julia'"):
        run_notebook(notebook(tmp_path, WRITE, kernel="julia"), out)
    with pytest.raises(InputError, match="no parameter out_json"):
        run_notebook(notebook(tmp_path, parameters="steps: int = 1"), out)
    with pytest.raises(InputError, match=r"line 2 of the parameters cell has '='.*ratio"):
        run_notebook(notebook(tmp_path, parameters="steps: int = 1\nratio: float = 0.5  # r=1 keeps all\nout_json = ''"), out)
    with pytest.raises(InputError, match=r"there is no notebook .*did you mean 'toy.ipynb'"):
        run_notebook(tmp_path / "toi.ipynb", out)
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(InputError, match="is not a notebook"):
        run_notebook(tmp_path / "broken.ipynb", out)
    with pytest.raises(InputError, match=r"must end in \.ipynb"):
        run_notebook(notebook(tmp_path, WRITE), tmp_path / "out.txt")
    assert not out.exists()


def test_an_equals_sign_inside_a_string_is_no_comment(tmp_path):
    path = notebook(tmp_path, parameters="name: str = 'a#b'  # fine\nout_json: str = ''")
    assert set(parameters_of(path)) == {"name", "out_json"}


def test_a_cell_error_is_one_line_that_names_the_cell_and_leaves_no_old_result(tmp_path):
    out = tmp_path / "out.ipynb"
    run_notebook(notebook(tmp_path, WRITE), out)
    with pytest.raises(RunFailed, match=r"^cell 3 \(1 / 0\): ZeroDivisionError: division by zero; what ran is in .*out.failed.ipynb$"):
        run_notebook(notebook(tmp_path, "# say\n1 / 0", WRITE), out)
    assert not out.exists()
    assert not out.with_suffix(".json").exists()
    assert "ZeroDivisionError" in out.with_suffix(".failed.ipynb").read_text()


def test_a_dead_kernel_is_a_failure(tmp_path):
    start = time.monotonic()
    with pytest.raises(RunFailed, match=r"cell 4 \(import os; os._exit\(0\)\): the kernel died"):
        run_notebook(notebook(tmp_path, WRITE, "import os; os._exit(0)"), tmp_path / "out.ipynb")
    assert time.monotonic() - start < 20
    assert not (tmp_path / "out.json").exists()


def test_a_timeout_is_a_failure_and_ends_the_kernel(tmp_path):
    path = notebook(tmp_path, WRITE, f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    start = time.monotonic()
    with pytest.raises(RunFailed, match=r"cell 4 \(import os, time\) was still running when the time limit of 3 s"):
        run_notebook(path, tmp_path / "out.ipynb", timeout=3)
    assert time.monotonic() - start < 15
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_cancelling_progress_ends_the_kernel_within_a_cell(tmp_path):
    pid = tmp_path / "pid"
    path = notebook(tmp_path, f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")

    def progress(stage, done, total):
        if pid.exists() and pid.read_text():
            raise Cancelled

    with pytest.raises(Cancelled):
        run_notebook(path, tmp_path / "out.ipynb", progress=progress)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "papermill"]


@pytest.mark.parametrize(("cell", "message"), [("pass", "wrote no result"), ("open(out_json, 'w').write('{')", "not JSON")])
def test_a_run_without_a_readable_result_is_a_failure(tmp_path, cell, message):
    (tmp_path / "out.json").write_text("{}")  # a stale result must not pass for a fresh one
    with pytest.raises(RunFailed, match=message):
        run_notebook(notebook(tmp_path, cell), tmp_path / "out.ipynb")
    assert not (tmp_path / "out.json").exists()


def test_text_is_read_by_the_type_the_notebook_declares(tmp_path):
    path = notebook(tmp_path, WRITE)
    texts = {"steps": "3", "ratio": "1", "fast": "true", "name": "12"}
    assert parse_parameters(path, texts) == {"steps": 3, "ratio": 1, "fast": True, "name": "12"}
    with pytest.raises(InputError, match="steps='three'"):
        parse_parameters(path, {"steps": "three"})
    with pytest.raises(InputError, match="steps=11"):
        parse_parameters(path, {"steps": "11"}, KNOBS)
    with pytest.raises(InputError, match="did you mean 'ratio'"):
        parse_parameters(path, {"ration": "1"})


def test_the_notebooks_lie_beside_the_lab():
    assert notebooks_dir().name == "notebooks"
    assert (notebooks_dir().parent / "lab" / "runner.py").is_file()
