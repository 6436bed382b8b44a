"""The whole paper on a tiny world: bytes that add up, arms that are paired, a run that resumes to the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidistill.compress import load_distilled
from vidistill.data import open_videos
from vidistill.data.world import write_world
from vidistill.errors import Cancelled, InputError
from vidistill.files import digest
from vidistill.lab.presets import load_presets, preset
from vidistill.papers import latent_vdd

TINY = {"frames": 8, "gap": 2, "size": 48, "crop": "center", "instances": 4, "width": 4, "steps": 2, "seeds": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=3, per_class_train=8, per_class_test=2, frames=16, size=64, classes=("slide", "spin", "orbit"))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))


def go(world, out, progress=lambda *_: None, **knobs):
    return latent_vdd.run(TINY | knobs, open_videos(world), out, progress=progress)


def test_every_arm_is_there_with_interval_bytes_and_control(world, tmp_path):
    report = go(world, tmp_path / "out")
    arms = {arm["name"]: arm for arm in report.arms}
    assert set(arms) == set(latent_vdd.ARMS)
    json.dumps(report.as_dict(), allow_nan=False)
    for name, arm in arms.items():
        assert arm["score"]["n"] == 2
        assert 0 <= arm["score"]["mean"] <= 100
        assert arm["difference"]["n"] == 2
        if name != "full-data":
            parts = arm["bytes"]
            assert parts["total"] == sum(value for key, value in parts.items() if key != "total")
    assert arms["random"]["difference"]["mean"] == 0

    total = arms["method"]["bytes"]["total"]
    assert (tmp_path / "out" / "distilled.safetensors").stat().st_size == total
    for name in ("random", "dpp-official", "dpp-rbf", "greedy-map", "k-means", "k-center", "herding"):
        assert abs(arms[name]["bytes"]["total"] - total) <= 64, f"{name} is not at equal bytes"
    for name in latent_vdd.EQUAL_BYTES:
        assert total - 4096 <= arms[name]["bytes"]["total"] <= total, f"{name} is not at equal bytes"
    assert arms["whole-set"]["clips"] == 24
    assert arms["official-store"]["bytes"]["total"] > total
    assert any("dpp-official" in note and "identity" in note for note in report.notes)


def test_the_file_alone_gives_the_clips_back(world, tmp_path):
    from vidistill.codec import unpack

    go(world, tmp_path / "out", arms="method", seeds=1)
    stored = load_distilled(tmp_path / "out" / "distilled.safetensors")
    clips = unpack(stored.codec_tensors, stored.codec).decode(stored.z, stored.frames)
    assert tuple(clips.shape) == (12, 3, 8, 48, 48)
    assert stored.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(stored.classes) == 3


def test_cancelled_anywhere_it_resumes_to_the_same_result(world, tmp_path, monkeypatch, cut_at):
    steps = []
    want = go(world, tmp_path / "whole", progress=lambda *call: steps.append(call), arms="svd").as_dict()
    want_file = (tmp_path / "whole" / "distilled.safetensors").read_bytes()
    for stop in sorted({1, len(steps) // 3, len(steps) // 2, len(steps) - 2}):
        monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / f"cache-{stop}"))
        with pytest.raises(Cancelled):
            go(world, tmp_path / f"cut-{stop}", progress=cut_at(stop), arms="svd")
        again = go(world, tmp_path / f"cut-{stop}", arms="svd").as_dict()
        assert digest(again) == digest(want), f"stopped at call {stop}"
        assert (tmp_path / f"cut-{stop}" / "distilled.safetensors").read_bytes() == want_file


@pytest.mark.slow
def test_killed_with_minus_nine_it_resumes_to_the_same_result(world, tmp_path):
    def command(out):
        settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
        words = ["run", "latent_vdd", "--data", str(world), "--layout", "ucf101", "--set", "arms=svd", "--out", str(out), *settings]
        return [sys.executable, "-c", "from vidistill.lab.cli import main; main()", *words]

    def results(out: Path):
        return (out / "report.json").read_bytes(), (out / "distilled.safetensors").read_bytes()

    environment = os.environ | {"VIDISTILL_CACHE": str(tmp_path / "killed-cache")}
    killed = subprocess.Popen(command(tmp_path / "killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "parts").glob("*.json")) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "killed" / "report.json").exists()

    subprocess.run(command(tmp_path / "killed"), env=environment, check=True, capture_output=True)
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        ({"instances": 9}, r"k=9 .* has 8.*\[1, 8\]"),
        ({"rank_ratio": 0}, r"rank_ratio=0.*\(0, 1\]"),
        ({"rank_ratio": 1.2}, r"rank_ratio=1\.2.*\(0, 1\]"),
        ({"rank_ration": 0.5}, "did you mean 'rank_ratio'"),
        ({"arms": "randon"}, "did you mean 'random'"),
        ({"selector": "ddp"}, "did you mean 'dpp'"),
    ],
)
def test_bad_knobs_are_one_clear_line(world, tmp_path, knobs, line):
    with pytest.raises(InputError, match=line) as caught:
        go(world, tmp_path / "out", **{"arms": "method"} | knobs)
    assert "\n" not in str(caught.value)


def test_unknown_preset_and_the_presets_themselves():
    with pytest.raises(InputError, match="did you mean 'quick'"):
        preset("latent_vdd", "quik", latent_vdd.KNOBS)
    presets = load_presets("latent_vdd")
    assert set(presets) == {"paper", "official", "ours", "quick"}
    for name in presets:
        preset("latent_vdd", name, latent_vdd.KNOBS)


def test_ours_stores_the_same_clips_better_than_official(world, tmp_path):
    """At the byte count of the official store, ours has the smaller error; at the official ranks, fewer bytes at the same error."""
    arms = {arm["name"]: arm for arm in go(world, tmp_path / "a", arms="official-store", seeds=1).arms}
    ours, official = arms["method"], arms["official-store"]
    payload = official["bytes"]["core"] + official["bytes"]["factors"]
    assert ours["bytes"]["core"] + ours["bytes"]["factors"] < payload / 2
    assert ours["error"] <= official["error"] * 1.02
    budget = {"budget_kib": payload // 1024}
    more = {arm["name"]: arm for arm in go(world, tmp_path / "b", arms="method", seeds=1, **budget).arms}["method"]
    assert more["bytes"]["core"] + more["bytes"]["factors"] <= payload
    assert more["error"] < official["error"] * 0.5
