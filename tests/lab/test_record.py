"""The record holds what a run needs to be repeated, and notices a result that was edited afterwards."""

import json
import subprocess
import time
from datetime import UTC, datetime

import pytest
import torch

from vidistill.errors import InputError
from vidistill.lab import record
from vidistill.lab.record import Stages, commit, environment, peak_memory, verify_record, write_record


def write(out, **changes):
    given = {"paper": "toy", "knobs": {"a": 1}, "seed": 3, "device": "cpu", "stages": Stages(), "started": datetime.now(UTC)}
    return write_record(out, **{**given, "command": "vidistill run toy", "outputs": ("report.json", "absent.html"), **changes})


def test_the_record_says_what_was_run_on_what(tmp_path):
    (tmp_path / "report.json").write_text("{}")
    kept = write(tmp_path)
    assert kept == json.loads((tmp_path / "record.json").read_text()) == verify_record(tmp_path)
    assert kept["knobs"] == {"a": 1}
    assert kept["seed"] == 3
    assert kept["command"] == "vidistill run toy"
    assert kept["outputs"].keys() == {"report.json"}
    assert kept["outputs"]["report.json"]["bytes"] == 2
    assert kept["environment"]["packages"]["torch"] == record.installed("torch")
    assert kept["environment"]["threads"] == torch.get_num_threads()


def test_an_edited_or_missing_result_is_noticed(tmp_path):
    result = tmp_path / "report.json"
    result.write_text('{"accuracy": 51.0}')
    write(tmp_path)
    result.write_text('{"accuracy": 91.0}')
    with pytest.raises(InputError, match=r"report.json was changed after the run wrote it .* vidistill run toy"):
        verify_record(tmp_path)
    result.unlink()
    with pytest.raises(InputError, match=r"report\.json is missing"):
        verify_record(tmp_path)
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(InputError, match="not a run record"):
        verify_record(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        verify_record(tmp_path / "nowhere")


def test_stages_share_out_the_time(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 7.0, 8.0, 18.0, 20.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    seen = []
    stages = Stages(lambda *event: seen.append(event))
    stages("decode", 0, 2)  # 0..1 belongs to nobody
    stages("decode", 1, 2)  # 2 s
    stages("decode", 2, 2)  # 4 s, complete
    stages("train", 0, 1)  # 1 s between the stages belongs to nobody
    stages("train", 1, 1)  # 10 s
    stages("decode", 2, 2)  # it came back for 2 s
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    assert stages.seconds() == {"decode": 8.0, "train": 10.0}
    assert len(seen) == 6


def test_commit_is_that_of_the_checkout_which_tracks_the_file(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        )

    (tmp_path / "mine.py").write_text("1")
    (tmp_path / "stranger.py").write_text("1")
    git("init", "-q")
    git("add", "mine.py")
    git("commit", "-qm", "first")
    found = commit(tmp_path / "mine.py")
    assert found is not None
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    assert commit(tmp_path / "stranger.py") is None
    (tmp_path / "mine.py").write_text("2")
    assert commit(tmp_path / "mine.py")["dirty"] is True


def test_memory_and_environment_on_the_cpu():
    used = peak_memory("cpu")
    assert used["device_bytes"] is None
    assert used["resident_bytes"] > 50 * 2**20  # torch alone is more
    assert environment("cpu")["device_name"]
