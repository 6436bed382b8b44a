"""The command line, driven with a paper of three lines: what it writes, what it says, and how it stops."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from vidistill.data import world
from vidistill.errors import Cancelled
from vidistill.files import save_tensors
from vidistill.knobs import Knob, Knobs
from vidistill.lab import cli, presets, terminal
from vidistill.lab.commands import doors, models, reproduce
from vidistill.lab.record import verify_record
from vidistill.types import Report, Score

KNOBS = Knobs("toy", Knob("instances", 2, "clips per class", low=1, high=9), Knob("split", 1, "official split", low=1, high=3))
TINY = {"per_class_train": 2, "per_class_test": 1, "classes": ("slide", "spin")}


def run_toy(values, videos, out, *, device, seed, progress):
    import torch

    progress("think", 0, 1)
    save_tensors(out / "distilled.safetensors", {"seed": torch.tensor(seed)})
    progress("think", 1, 1)
    accuracy = {"mean": 50.0 + values["instances"], "low": None, "high": None, "std": None, "n": 1, "values": [50.0 + values["instances"]]}
    data = {"root": str(videos.root), "layout": videos.layout, "split": videos.split, "classes": list(videos.classes)}
    data |= {"train": len(videos.train), "test": len(videos.test), "skipped": []}
    arm = {"name": "method", "role": "method", "score": accuracy, "bytes": None, "error": None, "clips": 4}
    return Report("toy", values, data, [arm], ["a finding"], {}, Score("Accuracy", "top-1 %", "method", "of nothing"))


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A paper called toy, with one preset, and an empty cache."""
    module = SimpleNamespace(KNOBS=KNOBS, run=run_toy)
    monkeypatch.setitem(sys.modules, "toy_paper", module)
    monkeypatch.setattr(presets, "PAPERS", {"toy": "toy_paper"})
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toy.toml").write_text('[quick]\nabout = "small"\ninstances = 1\n[ours]\nabout = "large"\ninstances = 4\n')
    return module


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.write_world(folder, **TINY)
    return folder


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_run_writes_report_record_and_set(toy, clips, tmp_path):
    out = tmp_path / "out"
    done = call("run", "toy", "--data", clips, "--preset", "quick", "--set", "split=1", "--out", out, "--seed", 5, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(out)) == ["distilled.safetensors", "record.json", "report.html", "report.json"]
    report = json.loads((out / "report.json").read_text())
    assert report["knobs"] == {"instances": 1, "split": 1}
    assert report["data"]["train"] == 4
    record = verify_record(out)
    assert record["outputs"].keys() == {"report.json", "report.html", "distilled.safetensors"}
    assert record["seed"] == 5
    assert record["seconds"]["stages"].keys() == {"think"}
    for words in ("51.0", "a finding", f"report: {out / 'report.html'}"):
        assert words in done.stdout
    assert done.stderr.startswith("think: 1 in")


def test_the_recorded_command_repeats_the_run(toy, clips, tmp_path):
    out = tmp_path / "a folder"
    assert call("run", "toy", "--data", clips, "--set", "instances=3", "--out", out).exit_code == 0
    first = verify_record(out)
    words = shlex.split(first["command"])
    assert words[0] == "vidistill"
    assert call(*words[1:]).exit_code == 0
    assert verify_record(out)["outputs"] == first["outputs"]


def test_the_user_overrides_the_preset(toy, clips, tmp_path):
    assert call("run", "toy", "--data", clips, "--preset", "quick", "--set", "instances=7", "--out", tmp_path / "out").exit_code == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["knobs"]["instances"] == 7


def test_without_data_it_reads_the_embedded_world(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(world, "write_world", partial(world.write_world, **TINY))
    for _ in range(2):  # the second time it is there
        done = call("run", "toy", "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "out" / "report.json").read_text())["data"]
    assert (data["layout"], data["train"], data["test"]) == ("ucf101", 4, 2)
    assert data["root"].startswith(str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["toi"], "error: unknown paper 'toi': did you mean 'toy'? allowed: toy"),
        (["toy", "--preset", "quik"], "error: unknown preset 'quik': did you mean 'quick'? allowed: ours, quick"),
        (["toy", "--set", "instanses=3"], "error: unknown knob 'instanses' for toy: did you mean 'instances'? allowed: instances, split"),
        (["toy", "--set", "instances=90"], "error: knob instances=90 is not allowed: it must be a whole number in [1, 9]"),
        (["toy", "--set", "instances"], "error: --set 'instances' is not of the form name=value"),
        (["toy", "--data", "/nowhere"], "error: data folder /nowhere does not exist; give the folder that holds the videos"),
        (["toy", "--data", "/", "--layout", "ucf"], "error: unknown layout 'ucf': did you mean 'ucf101'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(toy, tmp_path, arguments, line):
    done = call("run", *arguments, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_folder_that_cannot_be_written_is_told_before_any_work(toy, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "run", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "file").write_text("")
    done = call("run", "toy", "--data", clips, "--out", tmp_path / "file" / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: cannot write to folder")


def test_an_old_report_does_not_survive_a_run_that_fails(toy, clips, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert call("run", "toy", "--data", clips, "--out", out).exit_code == 0

    def stop(*_, **__):
        raise Cancelled

    monkeypatch.setattr(toy, "run", stop)
    done = call("run", "toy", "--data", clips, "--out", out)
    assert done.exit_code == 130
    assert done.stderr == cli.STOPPED + "\n"
    assert not (out / "report.json").exists()
    assert not (out / "record.json").exists()


def test_a_bug_keeps_its_traceback(toy, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "run", lambda *_, **__: 1 / 0)
    assert isinstance(call("run", "toy", "--data", clips, "--out", tmp_path / "out").exception, ZeroDivisionError)


def test_cuda_without_a_gpu_is_one_line(toy, clips, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = call("run", "toy", "--data", clips, "--out", tmp_path / "out", "--device", "cuda")
    assert (done.exit_code, done.stderr[:31]) == (2, "error: device cuda is not avail")


def test_ctrl_c_ends_with_one_line_and_exit_code_130(clips, tmp_path):
    (tmp_path / "toy.toml").write_text("")
    script = f"""
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from vidistill.knobs import Knob, Knobs
from vidistill.lab import cli, presets
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
def run(*_, **__):
    Path({str(tmp_path / "began")!r}).touch()
    time.sleep(60)
sys.modules["toy_paper"] = SimpleNamespace(KNOBS=Knobs("toy", Knob("instances", 1, "clips")), run=run)
presets.PAPERS["toy"], presets.FOLDER = "toy_paper", Path({str(tmp_path)!r})
sys.argv = ["vidistill", "run", "toy", "--data", {str(clips)!r}, "--out", {str(tmp_path / "out")!r}]
cli.main()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "began").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "stopped; the same command resumes\n")


def test_the_training_stops_after_the_step(monkeypatch, tmp_path):
    def train(out, *, minutes, device, data, seed, progress):
        for step in range(3):
            if step == 1:
                os.kill(os.getpid(), signal.SIGINT)
            (out / f"step-{step}").touch()
            progress("train", step, 3)
        pytest.fail("it went on")

    monkeypatch.setitem(sys.modules, "toy_trainer", SimpleNamespace(train=train))
    monkeypatch.setattr(models, "TRAINERS", {"toy": "toy_trainer"})
    before = signal.getsignal(signal.SIGINT)
    done = call("train", "toy", "--out", tmp_path / "out")
    assert done.exit_code == 130, done.output
    assert sorted(os.listdir(tmp_path / "out")) == ["step-0", "step-1"]
    assert signal.getsignal(signal.SIGINT) == before
    assert call("train", "toi").stderr == "error: unknown model 'toi': did you mean 'toy'? allowed: toy\n"


def test_reproduce_runs_the_notebook_and_fails_closed(toy, monkeypatch, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("papermill")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    parameters = 'tier: str = "toy"\ninstances: int = 2\nout: str = ""\nout_json: str = ""'
    notebook.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook.cells += [nbformat.v4.new_code_cell("import json; json.dump([tier, instances, out], open(out_json, 'w'))")]
    (tmp_path / "notebooks" / "reproduce").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "notebooks" / "reproduce" / "toy.ipynb")
    monkeypatch.setattr(reproduce, "notebooks_dir", lambda: tmp_path / "notebooks")
    out = tmp_path / "out"
    assert call("reproduce", "toy", "--tier", "small", "--out", out).exit_code == 0
    assert json.loads((out / "toy.json").read_text()) == ["small", 4, str(out)], "the tier's preset did not reach the notebook"
    done = call("reproduce", "toy", "--tier", "small", "-p", "instances=3", "--out", out)
    assert done.exit_code == 0, done.output
    assert json.loads((out / "toy.json").read_text()) == ["small", 3, str(out)]
    assert verify_record(out)["outputs"].keys() == {"toy.ipynb", "toy.json"}
    assert call("reproduce", "toy", "-p", "instances=30", "--out", out).exit_code == 2
    assert "did you mean 'instances'" in call("reproduce", "toy", "-p", "instance=3", "--out", out).stderr
    notebook.cells[1].source = "raise KeyError('gone')"
    nbformat.write(notebook, tmp_path / "notebooks" / "reproduce" / "toy.ipynb")
    failed = call("reproduce", "toy", "--out", out)
    assert failed.exit_code == 1
    assert "KeyError: 'gone'" in failed.stderr
    assert not (out / "record.json").exists()


def test_data_commands(toy, clips, tmp_path):
    done = call("data", "world", tmp_path / "w", "--train", 1, "--test", 1)
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "w" / "videos").rglob("*.mp4"))) == 24
    (bad := next((tmp_path / "w" / "videos").rglob("*.mp4"))).write_bytes(b"")
    done = call("data", "inspect", tmp_path / "w")
    assert done.exit_code == 0, done.output
    assert "12 classes" in done.stdout
    assert "bad files: 1" in done.stdout
    assert str(bad) in done.stdout
    done = call("data", "prepare", clips, "--frames", 4, "--gap", 1, "--size", 32, "--crop", "center")
    assert done.exit_code == 0, done.output
    assert "train: 4 clips" in done.stdout
    assert "test: 2 clips" in done.stdout
    assert call("data", "prepare", clips, "--frames", 1).exit_code == 2


def test_knobs_prints_the_tables(toy):
    done = call("knobs", "toy")
    assert "| `instances` |" in done.stdout
    assert "| `quick` | small |" in done.stdout


def test_the_lab_is_local_offline_and_opens_the_start_notebook(monkeypatch):
    pytest.importorskip("jupyterlab")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    done = call("lab", "--print-command", "--no-browser", "--port", 9999)
    words = shlex.split(done.stdout)
    assert "PANEL_INLINE=true" in words
    assert any(word.endswith("notebooks/00_start_here.ipynb") for word in words)
    assert {"--port=9999", "--no-browser"} <= set(words)
    config = next(word for word in words if word.startswith("JUPYTER_CONFIG_PATH=")).partition("=")[2].split(os.pathsep)
    assert config[1] == "/mine"
    assert 'c.ServerApp.ip = "127.0.0.1"' in Path(config[0], "jupyter_server_config.py").read_text()
    assert json.loads(Path(config[0], "labconfig", "default_setting_overrides.json").read_text())


def test_installed_notebooks_are_copied_once_and_edits_kept(monkeypatch, tmp_path):
    (tmp_path / "site" / "notebooks" / "learn").mkdir(parents=True)
    (tmp_path / "site" / "notebooks" / "learn" / "a.ipynb").write_text("new")
    monkeypatch.setattr(doors, "notebooks_dir", lambda: tmp_path / "site" / "notebooks")
    monkeypatch.chdir(tmp_path)
    root, notebooks = doors._workspace()
    assert root == notebooks == tmp_path / "vidistill-notebooks"
    (notebooks / "learn" / "a.ipynb").write_text("edited")
    doors._workspace()
    assert (notebooks / "learn" / "a.ipynb").read_text() == "edited"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A copy of lab-vae's folder, and what ``zoo card`` measures on it: its own card, until a test changes that."""
    from vidistill import zoo
    from vidistill.lab import zoo_card

    folder, calls = tmp_path / "model", []
    shutil.copytree(zoo.path("lab-vae"), folder)
    new = json.loads((folder / "card.json").read_text())

    def measure(name, **options):
        calls.append((str(name), options))
        options["progress"]("measure", 1, 1)
        return new

    monkeypatch.setattr(zoo_card, "measure_model", measure)
    monkeypatch.delenv("VIDISTILL_DATA", raising=False)
    return SimpleNamespace(folder=folder, new=new, calls=calls)


def test_zoo_list_names_every_model():
    from vidistill import zoo

    done = call("zoo", "list")
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in zoo.ZOO)
    assert "2,593,015" in done.stdout


def test_a_card_that_is_reproduced_exits_0_and_leaves_the_model_alone(measured, tmp_path):
    before = {path.name: path.read_bytes() for path in measured.folder.iterdir()}
    done = call("zoo", "card", measured.folder, "--clips", 64, "--device", "cpu", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_bytes() for path in measured.folder.iterdir()} == before
    assert (tmp_path / "out" / "README.md").read_bytes() == before["README.md"]
    assert "0 differ from the card" in done.stdout
    name, options = measured.calls[0]
    assert name == str(measured.folder)
    assert (options["clips"], options["device"], options["data"]) == (64, "cpu", None)


def test_a_card_that_is_not_reproduced_exits_1_until_it_is_written(measured):
    held = json.loads((measured.folder / "card.json").read_text())
    row = measured.new["psnr_db"]["motion-world 64 px"]
    for key in ("mean", "low", "high"):
        row[key] += 10
    measured.new["bars"] = [
        {"bar": "a bar", "mean": 0.5, "low": None, "high": None, "unit": "share", "target": ">= 90 %", "reached": False, "note": "n"}
    ]
    done = call("zoo", "card", measured.folder)
    assert done.exit_code == 1, done.output
    assert "1 differ from the card: psnr_db, motion-world 64 px\n" in done.stdout
    assert "NOT reached: a bar 50.0 %, target >= 90 % (n)" in done.stdout
    assert json.loads((measured.folder / "card.json").read_text()) == held
    assert call("zoo", "card", measured.folder, "--write").exit_code == 0
    assert json.loads((measured.folder / "card.json").read_text()) == measured.new
    assert call("zoo", "card", measured.folder).exit_code == 0


def test_a_model_without_a_card_gets_its_first_one(measured):
    (measured.folder / "card.json").unlink()
    done = call("zoo", "card", measured.folder)
    assert (done.exit_code, "--write makes it" in done.stdout) == (0, True)
    assert not (measured.folder / "card.json").exists()


def test_every_model_of_the_package_is_measured_with_all(measured, tmp_path):
    from vidistill.lab import zoo_card

    there = [row["name"] for row in zoo_card.inventory() if row["bytes"]]
    done = call("zoo", "card", "--all", "--out", tmp_path / "out")
    assert [name for name, _ in measured.calls] == there
    assert (tmp_path / "out" / measured.new["name"] / "card.json").is_file(), done.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lab-vea"], "error: no model 'lab-vea': neither a model's folder nor in the zoo (did you mean 'lab-vae'?"),
        ([], "error: give the name of one model, or --all"),
        (["lab-vae", "--all"], "error: give the name of one model, or --all"),
    ],
)
def test_bad_zoo_input_is_one_line(arguments, line):
    done = call("zoo", "card", *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_doctor_exits_by_the_core(monkeypatch):
    from vidistill.lab import doctor

    monkeypatch.setattr(
        doctor, "checks", lambda: [doctor.Check("a", True, "1", core=True), doctor.Check("b", False, "no", "pip install b")]
    )
    done = call("doctor")
    assert (done.exit_code, "core: fine" in done.stdout, "pip install b" in done.stdout) == (0, True, True)
    monkeypatch.setattr(doctor, "checks", lambda: [doctor.Check("a", False, "no", "pip install a", core=True)])
    done = call("doctor")
    assert (done.exit_code, "core: broken (a)" in done.stdout) == (1, True)


def test_logs_get_one_line_per_stage_and_a_pulse(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    lines = terminal.Lines()
    for done in range(5):
        lines("decode", done, 4)
        clock[0] += 1
    lines("trials", 0, 4)
    for done in (1, 2, 3):
        clock[0] += 90
        lines("trials", done, 4)
    lines("decode", 0, 2)
    clock[0] += 5
    lines("decode", 2, 2)
    assert capsys.readouterr().err.splitlines() == [
        "decode: 4 in 4.0 s",
        "trials: 1 of 4, about 4 min left",
        "trials: 2 of 4, about 3 min left",
        "trials: 3 of 4, about 2 min left",
        "decode: 2 in 5.0 s",
    ]


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = "import sys, vidistill.lab.cli; print([m for m in ('torch', 'numpy', 'papermill', 'panel', 'diffusers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
