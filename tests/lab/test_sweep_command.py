"""``vidistill sweep`` with a real paper: a cell that fails beside one that does not, bad input in one line, what a cell's hash knows."""

import json
import os
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vidistill.codec import load_codec, pack
from vidistill.compress import compress, save_clips, save_distilled
from vidistill.data.world import World, write_world
from vidistill.lab import cli, history
from vidistill.lab.cell_key import key_of
from vidistill.lab.first_clip import first_clips
from vidistill.measure import psnr
from vidistill.papers import dfd, latent_vdd
from vidistill.types import Protocol

pq = pytest.importorskip("pyarrow.parquet")

TINY = {"teacher_steps": 4, "teacher_batch": 16, "records": 32, "path_steps": 4, "path_updates": 4, "batch": 8, "updates": 2, "branch": 1}
TINY |= {"student_freq": 2, "points": 100, "arms": "more-dmd"}


def call(*arguments):
    return CliRunner().invoke(cli.app, ["sweep", *map(str, arguments)])


@pytest.mark.slow
def test_a_paper_is_swept_and_a_teacher_that_fails_its_gate_is_one_failed_cell(tmp_path):
    settings = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
    out = ["--seeds", "4", *settings, "--out", tmp_path, "--device", "cpu"]
    done = call("dfd", "--grid", "gate=0,1", *out)
    assert done.exit_code == 1, done.output
    assert "failed: gate=1, seed 4: " in done.stderr
    assert "InputError: " in done.stderr
    assert "1 of 2 cells failed; the same command makes them again" in done.stderr
    (cell,) = (tmp_path / "cells").iterdir()
    run = history.read_run(cell)
    assert run.files == "as written"
    assert run.seed == 4
    assert run.notebook == cell / "dfd.ipynb"
    assert run.record["memory"]["resident_bytes"] > 2**26, "not the memory of the kernel"
    assert {name: run.knobs[name] for name in TINY} == TINY
    again = shlex.split(run.record["command"])
    assert again[:3] == ["vidistill", "run", "dfd"]
    assert {"gate=0.0", "seeds=1", "points=100"} <= set(again)
    rows = pq.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert {(row["gate"], row["seed"], row["cell"]) for row in rows} == {(0.0, 4, cell.name)}
    assert {row["arm"]: row["role"] for row in rows} == {"dfd": "method", "more-dmd": "control"}
    scores = [row["value"] for row in rows if row["measure"] == "score"]
    assert scores == [arm["score"]["mean"] for arm in run.report["arms"]]
    assert "✕ 1 of 1 failed" in (tmp_path / "index.html").read_text()
    table = (tmp_path / "sweep.parquet").read_bytes()
    alone = call("dfd", "--grid", "gate=0", *out, "--arm", "more-dmd")
    assert alone.exit_code == 0, alone.output
    assert "dfd, more-dmd" in alone.stdout
    assert (tmp_path / "sweep.parquet").read_bytes() == table
    assert json.loads((tmp_path / "sweep.json").read_text())["command"].startswith("vidistill sweep dfd --grid gate=0 --seeds 4 --set ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["dfdd", "--grid", "p=0"], "unknown paper 'dfdd': did you mean 'dfd'"),
        (["dfd", "--grid", "pairs=true"], "unknown knob 'pairs' for dfd: did you mean 'paired'"),
        (["dfd", "--grid", "p=0.5,1.5"], "knob p=1.5 is not allowed: it must be a number in [0, 1]"),
        (["dfd", "--grid", "p=0", "--grid", "p=1"], "--grid turns the knob p twice"),
        (["dfd", "--grid", "p=0", "--set", "p=1"], "the grid cannot turn the knob p: it is set to 1.0, too"),
        (["dfd", "--grid", "p=0", "--set", "seeds=3"], "the knob seeds cannot be set in a sweep"),
        (["dfd", "--grid", "p=0", "--seeds", "5:0"], "--seeds '5:0' holds no seed"),
        (["dfd", "--grid", "p=0", "--engine", "rays"], "unknown engine 'rays': did you mean 'ray'"),
        (["dfd", "--grid", "p=0", "--arm", "more-dfd"], "unknown arm 'more-dfd': did you mean 'more-dmd'"),
        (["dfd", "--grid", "p=0", "--preset", "papre"], "unknown preset 'papre': did you mean 'paper'"),
        (["dfd", "--grid", "p=0", "--data", "."], "paper dfd reads no videos"),
        (["dfd", "--grid", "updates=" + ",".join(map(str, range(1, 2002)))], "2001 points with 5 seeds has 10,005 cells"),
        (["latent_vdd", "--grid", "rank_ratio=0.5", "--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(arguments, line, tmp_path):
    done = call(*arguments, "--out", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert not (tmp_path / "out" / "cells").exists()


def test_a_table_that_cannot_be_written_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    done = call("dfd", "--grid", "p=0", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "the table of a sweep needs pyarrow: pip install 'vidistill[bench]'" in done.stderr


def test_a_cell_knows_the_code_the_videos_and_the_files_of_its_knobs(tmp_path, monkeypatch):
    write_world(tmp_path / "world", per_class_train=1, per_class_test=1, classes=("slide", "spin"))
    monkeypatch.chdir(tmp_path)

    def key(data="world", **changes):
        return key_of(latent_vdd.KNOBS, data)(latent_vdd.KNOBS.resolve(changes))

    before = key()
    assert before == key(), "the same twice"
    assert before == key(str(tmp_path / "world")), "it does not matter how a folder is called"
    clip = next(Path("world").rglob("*.mp4"))
    os.utime(clip, ns=(1, 1))
    assert before["videos"] != key()["videos"]
    assert before["code"] == key()["code"]
    assert before["code"] != key_of(dfd.KNOBS)(dfd.KNOBS.resolve())["code"]
    Path("vae").mkdir()
    Path("vae/config.json").write_text("{}")
    one = key(codec="vae")
    assert one["files"].keys() == {"codec"}
    Path("vae/config.json").write_text("{ }")
    assert one["files"] != key(codec="vae")["files"]
    assert key_of(dfd.KNOBS)(dfd.KNOBS.resolve())["videos"] is None


def test_the_first_clip_of_a_set_is_what_its_students_see(tmp_path):
    video, _ = World(0).clips(range(2))
    first = first_clips(tmp_path)
    assert first == []
    save_clips(tmp_path / "distilled.safetensors", video, torch.tensor([0, 1]), ("a", "b"))
    assert first_clips(tmp_path) == ["clips/method/0000.mp4"]
    assert psnr(shown(tmp_path)[None], video[:1]).item() > 30
    codec = load_codec("lab-vae")
    weights, record = pack(codec, "decoder", "int8")
    facts = {"classes": ("a", "b"), "names": (), "frames": 16, "codec_record": record, "codec_tensors": weights, "meta": {}}
    packed = compress(codec.encode(video), torch.tensor([0, 1]), rank_ratio=1.0)
    labels, protocol = torch.tensor([0, 1]), Protocol(16, 1, 64, "center").as_dict()
    save_distilled(tmp_path / "distilled.safetensors", packed, labels=labels, protocol=protocol, **facts)
    assert first_clips(tmp_path) == ["clips/method/0000.mp4"]
    assert 20 < psnr(shown(tmp_path)[None], video[:1]).item() < 40


def shown(folder):
    import av

    with av.open(str(folder / "clips/method/0000.mp4")) as file:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    return torch.stack(frames).permute(3, 0, 1, 2)
