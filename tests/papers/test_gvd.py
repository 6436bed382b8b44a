"""The whole paper on a tiny world with a tiny model: arms beside their controls, bytes that add up, runs that resume to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from vidistill.compress import load_clips
from vidistill.data import open_videos, spoken
from vidistill.data.world import write_world
from vidistill.errors import Cancelled, InputError
from vidistill.lab.presets import load_presets, preset
from vidistill.papers import gvd
from vidistill.sample import collected

TINY = {"gap": 1, "size": 64, "crop": "center", "instances": 2, "videos": 2, "sampling_steps": 2, "width": 4, "steps": 2, "seeds": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=3, per_class_train=5, per_class_test=2, frames=16, size=64, classes=("slide", "spin", "orbit"))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))


def go(world, folder, out, progress=lambda *_: None, **knobs):
    return gvd.run(TINY | {"model": str(folder)} | knobs, open_videos(world), out, progress=progress)


def test_every_arm_stands_beside_its_control(world, tiny_dit, tmp_path) -> None:
    report = go(world, tiny_dit, tmp_path / "out")
    arms = {arm["name"]: arm for arm in report.arms}
    assert set(arms) >= set(gvd.ARMS) - {"latents"}
    json.dumps(report.as_dict(), allow_nan=False)
    for name, arm in arms.items():
        assert arm["score"]["n"] == arm["difference"]["n"] == 2
        if name != "full-data":
            assert arm["bytes"]["total"] == sum(value for part, value in arm["bytes"].items() if part != "total")
    assert arms["random"]["difference"]["mean"] == 0
    total = arms["method"]["bytes"]["total"]
    assert (tmp_path / "out" / "distilled.safetensors").stat().st_size == total
    for name in ("random", "medoid", "unguided", "no-mvic"):
        assert arms[name]["clips"] == 6
        assert abs(arms[name]["bytes"]["total"] - total) < 300, f"{name} is not at equal bytes"
    if "latents" in arms:
        assert arms["latents"]["bytes"]["total"] <= total
        assert arms["latents"]["clips"] == 15
    assert arms["hard-labels"]["agreement"] is None
    for name in ("agreement", "pace", "diversity", "gap", "hits"):
        assert arms["method"][name]["n"] == 2
        assert arms["method"][name]["mean"] >= 0
    assert arms["random"]["hits"] is None
    assert report.notes[0].startswith("2 of 2 steps are guided")
    assert [row["class"] for row in report.extra["centres"]] == list(open_videos(world).classes)
    assert [row["frames"] for row in report.extra["frames"]] == [15 * 16, 15 * 16]
    assert report.extra["frames"][0]["percent"] == pytest.approx(100 * 6 * 16 / 240)


def test_the_stored_set_says_where_each_frame_comes_from(world, tiny_dit, tmp_path) -> None:
    go(world, tiny_dit, tmp_path / "out", arms="method", seeds=1)
    stored = load_clips(tmp_path / "out" / "distilled.safetensors")
    assert stored.video.shape == (6, 3, 16, 64, 64)
    assert stored.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert stored.soft is not None
    assert stored.soft.shape == (6, 3)
    assert stored.source is not None
    assert stored.source[0, :, 0].tolist() == [0] * 8 + [2] * 8
    assert stored.source[0, :, 1].tolist() == [*range(8), *range(8)]


def test_lambda_zero_is_the_unguided_arm(world, tiny_dit, tmp_path) -> None:
    go(world, tiny_dit, tmp_path / "a", arms="method", seeds=1, strength=0.0)
    go(world, tiny_dit, tmp_path / "b", arms="method", seeds=1, strength=0.0, weight="mgd3", decay="exp")
    go(world, tiny_dit, tmp_path / "c", arms="method", seeds=1, strength=0.7)
    a, b, c = (load_clips(tmp_path / name / "distilled.safetensors").video for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_cancelled_anywhere_it_resumes_to_the_same_result(world, tiny_dit, tmp_path, monkeypatch, cut_at) -> None:
    steps = []
    knobs = {"arms": "unguided", "seeds": 1}
    want = go(world, tiny_dit, tmp_path / "whole", progress=lambda *call: steps.append(call), **knobs).as_dict()
    want_file = (tmp_path / "whole" / "distilled.safetensors").read_bytes()
    for stop in sorted({1, len(steps) // 3, len(steps) // 2, len(steps) - 2}):
        monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / f"cache-{stop}"))
        with pytest.raises(Cancelled):
            go(world, tiny_dit, tmp_path / f"cut-{stop}", progress=cut_at(stop), **knobs)
        assert go(world, tiny_dit, tmp_path / f"cut-{stop}", **knobs).as_dict() == want
        assert (tmp_path / f"cut-{stop}" / "distilled.safetensors").read_bytes() == want_file


def test_a_longer_run_makes_no_clip_again(world, tiny_dit, tmp_path) -> None:
    go(world, tiny_dit, tmp_path / "out", arms="method", seeds=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "videos").iterdir()}
    assert len(before) == 3 * 2 * 2
    go(world, tiny_dit, tmp_path / "out", arms="method, hard-labels, unguided", seeds=1)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "videos").iterdir()}
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * len(before)  # the unguided ones


@pytest.mark.slow
def test_killed_with_minus_nine_it_goes_on(world, tiny_dit, tmp_path) -> None:
    many = {"instances": 5, "videos": 8, "sampling_steps": 5, "sampling_batch": 2}
    knobs = TINY | many | {"model": str(tiny_dit), "arms": "method", "seeds": 1}
    code = f"""
import sys
from pathlib import Path
from vidistill.data import open_videos
from vidistill.papers import gvd
from vidistill.sample import collected
knobs = {knobs!r}
gvd.run(knobs, open_videos(sys.argv[1]), Path(sys.argv[2]))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    videos = tmp_path / "out" / "videos"
    with subprocess.Popen([sys.executable, "-c", code, str(world), str(tmp_path / "out")], env=environment) as process:
        try:
            for _ in range(1200):
                if videos.is_dir() and len(list(videos.glob("[!.]*.safetensors"))) >= 2:
                    break
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in videos.glob("[!.]*.safetensors")}
    assert len(before) >= 2
    subprocess.run([sys.executable, "-c", code, str(world), str(tmp_path / "out")], env=environment, check=True, timeout=240)
    after = {path: path.stat().st_mtime_ns for path in videos.glob("[!.]*.safetensors")}
    assert {path: after[path] for path in before} == before
    assert len(after) == 3 * 5 * 8
    assert (tmp_path / "out" / "distilled.safetensors").is_file()


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"videos": 3}, "videos=3 must divide frames=16"),
        ({"instances": 6}, "cannot keep k=6 clips of each class"),
        ({"t_high": 200.0, "t_low": 300.0}, "guide interval 200 to 300 is empty"),
        ({"model": "nowhere"}, "no model 'nowhere'"),
        ({"weight": "scor"}, "score"),
        ({"strength": -1.0}, "strength"),
    ],
)
def test_bad_settings_are_one_line(world, tiny_dit, tmp_path, knobs, words) -> None:
    with pytest.raises(InputError, match=words):
        go(world, tiny_dit, tmp_path / "out", **knobs)


def test_an_interval_without_a_step_is_said(world, tiny_dit, tmp_path) -> None:
    report = go(world, tiny_dit, tmp_path / "out", arms="method", seeds=1, t_high=450.0, t_low=400.0)
    assert report.notes[0] == "0 of 2 steps are guided: none lies in 450 >= t > 400"


def test_the_teacher_may_be_a_student_or_see_the_videos(world, tiny_dit, tmp_path) -> None:
    report = go(world, tiny_dit, tmp_path / "out", arms="method", seeds=1, teacher="student", labelled="videos")
    assert all(arm["entropy"]["mean"] >= 0 for arm in report.arms)


def test_a_teacher_is_found_for_any_classes(world, tiny_dit, tmp_path) -> None:
    from vidistill.papers.sets import with_teacher

    assert with_teacher({"teacher": "auto"}, ["Slide", "spin"]) == {"teacher": "lab-probe"}
    assert with_teacher({"teacher": "auto"}, ["Slide", "brush_hair"]) == {"teacher": "student"}
    assert with_teacher({"teacher": "folder"}, ["brush_hair"]) == {"teacher": "folder"}
    assert go(world, tiny_dit, tmp_path / "out", arms="method", seeds=1).knobs["teacher"] == "lab-probe"


def test_another_size_for_students(world, tiny_dit, tmp_path) -> None:
    go(world, tiny_dit, tmp_path / "out", arms="method", seeds=1, size=48)
    assert load_clips(tmp_path / "out" / "distilled.safetensors").video.shape == (6, 3, 16, 48, 48)


def test_presets_are_allowed_and_say_their_weight() -> None:
    for name in load_presets("gvd"):
        values = gvd.KNOBS.resolve(preset("gvd", name, gvd.KNOBS))
        assert values["frames"] % values["videos"] == 0
    assert {name: load_presets("gvd")[name]["weight"] for name in ("paper", "mgd3")} == {"paper": "mgd3", "mgd3": "mgd3"}
    assert gvd.KNOBS.resolve(preset("gvd", "ours", gvd.KNOBS))["weight"] == "score"


def test_class_names_become_prompts() -> None:
    assert [spoken(name) for name in ("ApplyEyeMakeup", "brush_hair", "pan-left", "Slide")] == [
        "apply eye makeup",
        "brush hair",
        "pan-left",
        "slide",
    ]


def test_a_class_with_one_clip_has_one_centre(tiny_dit, tmp_path) -> None:
    write_world(tmp_path / "world", seed=3, per_class_train=1, per_class_test=1, frames=16, size=64, classes=("slide", "spin"))
    report = go(tmp_path / "world", tiny_dit, tmp_path / "out", arms="method", seeds=1, instances=1)
    assert [row["centres"] for row in report.extra["centres"]] == [1, 1]
    assert next(arm for arm in report.arms if arm["name"] == "method")["diversity"] is None  # nothing to compare with


def test_another_family_is_one_option(world, tiny_unet, tmp_path, capsys) -> None:
    """The same command on a randomly initialised ModelScope pipeline, as on any folder that its ``save_pretrained`` wrote."""
    from vidistill.lab.cli import app

    settings = [part for name, value in (TINY | {"arms": "method", "seeds": 1}).items() for part in ("--set", f"{name}={value}")]
    where = ["--data", str(world), "--layout", "ucf101", "--out", str(tmp_path / "out"), "--device", "cpu"]
    app(["run", "gvd", *where, "--model", str(tiny_unet), *settings], standalone_mode=False)
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["knobs"]["model"] == str(tiny_unet)
    assert f"model={tiny_unet}" in record["command"]
    assert f"{tiny_unet.name} does not know" not in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 3 * 2 * 2


def test_words_that_the_model_does_not_know_are_said(tiny_dit, tmp_path) -> None:
    write_world(tmp_path / "world", seed=3, per_class_train=2, per_class_test=1, frames=16, size=64, classes=("slide", "spin"))
    report = go(tmp_path / "world", tiny_dit, tmp_path / "out", arms="method", seeds=1, instances=1, prompt="a person doing {class}")
    assert any("does not know 2 words of the prompts (person, doing)" in note for note in report.notes)


@pytest.mark.slow
def test_two_processes_make_the_set_of_one(world, tiny_dit, tmp_path) -> None:
    knobs = TINY | {"model": str(tiny_dit), "arms": "unguided", "seeds": 1, "sampling_batch": 1}  # alone, a clip has the same bits
    settings = [part for name, value in knobs.items() for part in ("--set", f"{name}={value}")]

    def start(out: str, **environment: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            "vidistill.lab.cli",
            "run",
            "gvd",
            "--data",
            str(world),
            "--device",
            "cpu",
            "--out",
            str(tmp_path / out),
        ]
        return subprocess.Popen([*command, *settings], env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)

    both = [start("two", RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    assert [process.wait(240) for process in both] == [0, 0]
    assert start("one").wait(240) == 0
    one, two = (tmp_path / name for name in ("one", "two"))
    assert (one / "distilled.safetensors").read_bytes() == (two / "distilled.safetensors").read_bytes()
    clips = [sorted(path.name for path in (folder / "videos").iterdir()) for folder in (one, two)]
    assert clips[0] == clips[1]
    assert torch.equal(*(collected([folder / "videos" / name for name in clips[0]]) for folder in (one, two)))
    assert (two / "report.json").is_file()
