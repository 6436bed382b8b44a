"""The explore notebooks without a screen: numbers answer to parameters, pictures are there, a page copied as a command is itself again."""

import base64
import io
import json
import shlex
from pathlib import Path

import nbformat
import pages
import pytest
from typer.testing import CliRunner

from vidistill.lab import cli, explore
from vidistill.lab.presets import knobs_of, load_presets
from vidistill.lab.runner import notebooks_dir, run_notebook

NOTEBOOK = notebooks_dir() / "explore" / "latent_vdd.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    parameters = {"live": False, "rank_ratio": 0.5, "kernel": "official", "instances": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(folder / "cache"))
        return run_notebook(NOTEBOOK, folder / "out.ipynb", parameters, knobs=knobs_of("latent_vdd"), timeout=300)


def test_numbers_answer_to_the_parameters(run):
    result = run["result"]
    assert result["ranks"] == {"T": 8, "C": 4, "H": 4, "W": 4}
    assert len(result["chosen"]) == 6 * 3
    parts = dict(result["bytes"])
    assert parts.pop("total") == sum(parts.values())
    assert 0 < result["error"] < 1
    assert result["psnr"]["distilled"] < result["psnr"]["codec alone"]
    assert result["kernel"]["blind"] >= 4  # the official kernel is the identity but for the nearest twins
    assert result["kernel"]["effective_rank"] > 11.99
    errors = [error for _, error in result["curves"]["HOSVD fp32"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3  # r of 1 keeps everything


def outputs_of(executed):
    """Return what the cells of an executed notebook show; it is small enough for the web."""
    assert Path(executed).stat().st_size < 1_000_000
    return [output for cell in nbformat.read(executed, 4).cells for output in cell.get("outputs", [])]


def twins(executed):
    """Return the number of pictures in an executed notebook and the titles of its plots."""
    shown = [output["data"] for output in outputs_of(executed) if "data" in output]
    plots = [data["text/plain"].split(":")[0] for data in shown if "application/vnd.plotly.v1+json" in data]
    return sum("image/png" in data for data in shown), plots


def test_static_twins_are_in_the_notebook(run):
    from PIL import Image

    outputs = outputs_of(run["output"])
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    frames = [getattr(Image.open(io.BytesIO(base64.b64decode(picture))), "n_frames", 1) for picture in pictures]
    assert sorted(frames) == [1, 16]  # the contact sheet, and the film
    words = [output["data"]["text/plain"] for output in outputs if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert [line.split(":")[0] for line in words] == ["energy per mode", "error against bytes", "byte budget"]
    assert "time, 8 of 16 kept" in words[0]
    assert f"cores {run['result']['bytes']['core']:,} bytes" in words[2]
    assert any("uniform random sampling" in "".join(output.get("data", {}).get("text/html", "")) for output in outputs)


def test_the_notebook_is_thin_clean_and_declares_knobs_as_the_paper_does():
    notebook = nbformat.read(NOTEBOOK, 4)
    assert len(notebook.cells) <= 25
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    knobs = knobs_of("latent_vdd")
    for line in source.splitlines():
        name, _, rest = line.partition(": ")
        if name in knobs:
            assert rest.endswith(f"  # {knobs[name].doc}"), line
            knobs[name].check(eval(rest.split(" = ")[1].split("  #")[0]))


def again(page, settings, clips, out):
    """Run what "copy as command" gives, compare the hash that it prints with the page's, and return that and what the notebook found."""
    line = explore.command(page, settings)
    done = CliRunner().invoke(cli.app, [*shlex.split(line)[1:], "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads((out / f"{page}.json").read_text())
    told = explore.record(page, settings, clips)
    assert result["record"] == told
    assert sorted(path.name for path in (out / "clips").glob("*.mp4")) == sorted(
        Path(file).name for file in explore.clip_files(clips).values()
    )
    assert done.stdout.splitlines()[-1] == f"record hash: {told['hash']}"
    return told["hash"], result


@pytest.mark.slow
def test_videoguide_as_a_command_is_the_same_to_the_pixel(tiny_dit, tiny_unet, tmp_path):
    from vidistill.lab.videoguide_session import BASE, GUIDED, KNOBS, TEACHER, VideoGuideSession
    from vidistill.widgets.videoguide import VideoGuideBench

    session = VideoGuideSession({"dit": tiny_dit, "unet": tiny_unet})
    start = KNOBS.resolve({"sampling_steps": 3, "guidance": 2.0, "guided": 2, "tau": 2, "points": 4, "space": 0.25})
    first = session.look("a red star", "unet", "dit", start, seed=5)
    bench = VideoGuideBench(session, first, start)
    turned = {"beta": 0.1 + 0.2, "eta": 0.5}
    pages.play(bench, lambda: bench.panel.set(turned), lambda: setattr(bench.panel, "seed", 6), seconds=30)
    settings = bench.asked() | {"models": f"dit={tiny_dit}, unet={tiny_unet}"}
    look = bench.desk.runs.history.entries[-1].record
    shown, result = again("videoguide", settings, bench.clips(look), tmp_path)
    assert shown != explore.record("videoguide", settings, first.clips)["hash"]
    assert (result["prompt"], result["base"], result["teacher"], result["seed"]) == ("a red star", "unet", "dit", 6)
    assert (result["values"]["beta"], result["guided"]) == (pytest.approx(0.3), "the first 2 of 3 steps are guided")
    assert [result["takes"][name]["evaluations"] for name in (BASE, TEACHER, GUIDED)] == [6, 6, 6 + 2 * 4]
    assert result["paths"][GUIDED]["step"] == [1, 2, 3]
    plots = ["drift and motion on the way", "consistency against motion", "force of each step", "scale of guidance", "low-pass mask"]
    assert twins(tmp_path / "videoguide.ipynb") == (3, plots)


@pytest.mark.slow
def test_gvd_as_a_command_is_the_same_to_the_pixel(tiny_dit, tmp_path, monkeypatch):
    from vidistill.lab.gvd_session import KNOBS, GvdSession
    from vidistill.widgets.gvd import GvdBench

    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    session = GvdSession({"dit": tiny_dit}, per_class=4)
    start = KNOBS.resolve({"sampling_steps": 3, "guidance": 2.0, "centres": 2})
    bench = GvdBench(session, session.look("slide", "slide", "dit", start, seed=5), start)
    pages.play(bench, lambda: bench.panel.set({"strength": 0.75, "pick": 2}), lambda: setattr(bench.label, "value", "orbit"), seconds=30)
    settings = bench.asked() | {"until": "1: strength=0.25", "models": f"dit={tiny_dit}"}
    assert (settings["prompt"], settings["per_class"], settings["pick"]) == ("orbit", 4, 2)
    values = {name: settings[name] for name in KNOBS}
    look = session.look("orbit", "orbit", "dit", values, seed=5, until=settings["until"])
    shown, result = again("gvd", settings, bench.clips(look), tmp_path / "out")
    assert shown != explore.record("gvd", settings, session.look("orbit", "orbit", "dit", values, seed=5).clips)["hash"]
    assert (result["label"], result["prompt"], result["seed"], result["guided"]) == ("orbit", "orbit", 5, "3 of 3 steps are guided")
    assert (result["values"]["strength"], result["values"]["pick"]) == (0.75, 2)
    assert len(result["sizes"]) == 2
    assert len(result["force"]) == 3
    plots = ["along the frames", "along the steps", "force per step and frame", "distance to the centre"]
    assert twins(tmp_path / "out/gvd.ipynb") == (3, plots)


@pytest.mark.slow
def test_latent_vdd_as_a_command_is_the_same_to_the_pixel(tmp_path, monkeypatch):
    from vidistill.lab.session import Session
    from vidistill.widgets.latent_vdd import LatentVddBench

    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    start = {"selector": "dpp", "instances": 2, "rank_ratio": 0.5}
    bench = LatentVddBench(Session.world(), knobs_of("latent_vdd"), load_presets("latent_vdd"), start)
    turns = [{"bandwidth": 2.0, "codec_dtype": "fp16"}, {"decomposition": "svd", "core_dtype": "fp32"}]
    pages.play(bench, *(lambda turn=turn: bench.panel.set(turn) for turn in turns), seconds=60)
    pages.play(bench, lambda: setattr(bench.panel, "seed", 3), lambda: setattr(bench.picked, "value", bench.picked.values[-1]), seconds=60)
    entry = bench.desk.runs.history.entries[-1]
    settings = bench.asked()
    assert settings == entry.settings
    assert (settings["seed"], settings["decomposition"], settings["clip"]) == (3, "svd", bench.picked.values[-1])
    again("latent_vdd", settings, bench.clips(entry.record), tmp_path / "out")


@pytest.mark.slow
def test_a_student_alone_and_a_second_model_as_commands(tiny_dit, tiny_unet, tiny_students, tmp_path):
    from vidistill.lab.few_step_session import ANEW, EULER, KNOBS, TEACHER, FewStepSession
    from vidistill.lab.zoo_session import ZooSession

    zoo, settings = ZooSession({"dit": tiny_dit, "unet": tiny_unet}), {"prompt": "A red  Ring", "model": "unet", "other": "dit", "seed": 4}
    takes = zoo.takes("A red  Ring", ["unet", "dit"], {"steps": 2, "seed": 4})
    settings |= {"steps": 2, "models": f"dit={tiny_dit}, unet={tiny_unet}"}
    _, result = again("zoo", settings, {take.model: take.clip for take in takes}, tmp_path / "zoo")
    assert sorted(take["model"] for take in result["takes"]) == ["dit", "unet"]
    assert {(take["seed"], take["steps"], take["evaluations"]) for take in result["takes"]} == {(4, 2, 4)}
    assert [row["asked"] for row in result["takes"][0]["readings"]] == ["", "ring", "red", "", ""]
    assert twins(tmp_path / "zoo/zoo.ipynb")[0] == 1
    assert any("data-mark" in output.get("data", {}).get("text/html", "") for output in outputs_of(tmp_path / "zoo/zoo.ipynb"))

    own = FewStepSession(tiny_students, teacher=f"dit={tiny_dit}")
    settings = {"prompt": "a red ring", "teacher": f"dit={tiny_dit}", "steps": 2, "seed": 4, "teaching": 20, "updates": 3}
    settings |= {"method": "dfd", "plane_seed": 2}
    for students in (["euler"], []):
        text = f"euler={tiny_students['euler']}" if students else "none"
        found = own.look("a red ring", KNOBS.resolve({"steps": 2}), seed=4, students=students)
        out = tmp_path / "few_step" / text[:4]
        _, result = again("few_step", settings | {"students": text}, found.clips, out)
        assert {name: take["steps"] for name, take in result["clips"]["takes"].items()} == {
            **{TEACHER: 2, EULER: 4, ANEW: 4},
            **dict.fromkeys(students, 4),
        }
        assert result["clips"]["seed"] == 4
        plane = result["plane"]
        assert (plane["values"]["method"], plane["updates"], plane["seed"], plane["world"]) == ("dfd", 3, 2, "quadrants")
        assert set(plane["curve"]) == {"0", "1", "2", "3"}
        assert plane["tables"]["student"]["clips"] == 1200
        pictures, plots = twins(out / "few_step.ipynb")
        assert (pictures, len(plots)) == (1, 3)


@pytest.mark.slow
def test_compose_runs_without_a_screen(tiny_dit, tiny_students, tmp_path, monkeypatch):
    from vidistill.lab.compose_session import ALL, ALONE, KNOBS, ORDERS, PULL, TEACHER, only

    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    parameters = {"live": False, "label": "spin", "prompt": "a red ring", "centres": 3, "pick": 2, "tau": 1, "points": 3, "seed": 4}
    parameters |= {"models": f"dit={tiny_dit}, four={tiny_students['anew']}", "model": "four", "teacher": "dit", "chain": ORDERS[1]}
    done = run_notebook(explore.notebook_of("compose"), tmp_path / "compose.ipynb", parameters | {"per_class": 4}, knobs=KNOBS, timeout=300)
    result = done["result"]
    assert (result["label"], result["model"], result["teacher"], result["seed"]) == ("spin", "four", "dit", 4)
    assert (result["values"]["chain"], result["values"]["pick"], result["values"]["sampling_steps"]) == (ORDERS[1], 2, 4)
    assert list(result["takes"]) == [ALONE, only(PULL), only(TEACHER), ALL]
    assert result["adds"]["effects"].keys() == {PULL, TEACHER}
    ledgers = [f"{name}, force per step and frame" for name in ("pull to a centre", "teacher", "low-pass")]
    assert twins(done["output"]) == (2, ["effects", "adding up along the steps", "distance to the centre", *ledgers])
