"""A clip carries what made it, beside it and inside it; from either the same frames come back. Real small runs of a tiny model."""

import json
import shlex
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from vidistill.data.clip_record import sidecar
from vidistill.data.world import factors, render, write_clip, write_world
from vidistill.errors import InputError
from vidistill.lab import cli
from vidistill.lab.recall import read_clip_record, same_frames
from vidistill.lab.recall import recall as recalled

TINY = ["prompts=2", "sampling_steps=2", "guided=1", "tau=1", "points=2", "seeds=1", "guide=self", "arms=method"]


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def frames(path):
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_unet):
    """A run of videoguide with a tiny model on a tiny world whose folder needs quotes."""
    root = tmp_path_factory.mktemp("made")
    write_world(root / "a world's", seed=3, per_class_train=1, per_class_test=1, classes=("slide", "spin"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(root / "cache"))
        settings = [part for pair in [*TINY, f"model={tiny_unet}"] for part in ("--set", pair)]
        done = call("run", "videoguide", "--data", root / "a world's", *settings, "--out", root / "out", "--seed", 7, "--device", "cpu")
    assert done.exit_code == 0, done.output
    return root / "out"


@pytest.fixture
def clip(made, tmp_path, monkeypatch):
    """A copy of one clip of the method with its record, in the current folder."""
    monkeypatch.setenv("VIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    source = made / "clips" / "method" / "0001.mp4"
    shutil.copy(source, "clip.mp4")
    shutil.copy(sidecar(source), "clip.mp4.json")
    return Path("clip.mp4")


def test_the_tag_changes_no_frame_and_bytes_are_deterministic(tmp_path):
    video, record = render([factors(0, 0)], 8, 32)[0], {"prompt": 'a "quoted" rång; #1 = two\nlines', "knobs": {"beta": 0.1}}
    write_clip(tmp_path / "plain.mp4", video)
    for name in ("one", "two"):
        write_clip(tmp_path / f"{name}.mp4", video, record)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert np.array_equal(frames(tmp_path / "one.mp4"), frames(tmp_path / "plain.mp4"))
    with av.open(str(tmp_path / "one.mp4")) as file:
        assert json.loads(file.metadata["comment"]) == record
    assert json.loads((tmp_path / "one.mp4.json").read_text()) == record
    assert not (tmp_path / "plain.mp4.json").exists()


def test_the_json_is_written_first(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("the clip came first") if not list(tmp_path.glob("*.json")) else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_clip(tmp_path / "a.mp4", render([factors(0, 0)], 2, 16)[0], {"a": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4.json"]


def test_every_kept_clip_says_what_made_it(made):
    report = json.loads((made / "report.json").read_text())
    command = json.loads((made / "record.json").read_text())["command"]
    clips = sorted(made.glob("clips/*/*.mp4"))
    assert len(clips) == 4
    for path in clips:
        record, notes = read_clip_record(path)
        assert notes == []
        assert record == json.loads(sidecar(path).read_text())
        assert (record["paper"], record["arm"], record["row"]) == ("videoguide", path.parent.name, int(path.stem))
        assert (record["knobs"], record["seed"], record["command"]) == (report["knobs"], 7, command)
        assert record["prompt"]
        assert record["models"][0]


def test_either_place_alone_is_enough(clip):
    whole = call("recall", clip)
    assert whole.exit_code == 0, whole.output
    sidecar(clip).rename("kept.json")
    alone = call("recall", clip)
    assert (alone.exit_code, alone.stdout) == (0, whole.stdout)
    Path("kept.json").rename(sidecar(clip))
    clip.unlink()
    for name in (clip, sidecar(clip)):
        lost = call("recall", name)
        assert (lost.exit_code, lost.stdout) == (0, whole.stdout)
        assert "clip.mp4 is lost, so clip.mp4.json is used" in lost.stderr


def test_the_printed_command_makes_the_same_frames(clip):
    done = call("recall", clip, "--out", "a b")
    words = shlex.split(done.stdout)
    assert words[:3] == ["vidistill", "run", "videoguide"]
    assert {"arms=method", "tau=1", "7"} <= set(words)
    assert not any(word.startswith(("vbench=", "rare=", "seeds=5")) for word in words)
    assert Path(words[words.index("--data") + 1]).name == "a world's"
    again = call(*words[1:])
    assert again.exit_code == 0, again.output
    assert "the clip will be a b/clips/method/0001.mp4" in done.stderr
    assert same_frames(clip, "a b/clips/method/0001.mp4")
    assert not same_frames(clip, "a b/clips/method/0000.mp4")


def test_run_makes_it_and_compares(clip):
    done = call("recall", clip, "--run")
    assert done.exit_code == 0, done.output
    assert "it has the same frames as clip.mp4" in done.stdout
    made = Path(done.stdout.split("\nclip: ")[1].splitlines()[0])
    turned = call("recall", made, "--seed", "new", "--set", "beta=0.2", "--run")
    assert turned.exit_code == 0, turned.output
    other = Path(turned.stdout.split("\nclip: ")[1].splitlines()[0])
    record, _ = read_clip_record(other)
    assert record["knobs"]["beta"] == 0.2
    assert record["seed"] != 7
    assert not same_frames(clip, other)


def test_an_edited_json_is_said_and_does_not_count(clip):
    record = json.loads(sidecar(clip).read_text())
    plain = call("recall", clip).stdout
    sidecar(clip).write_text(json.dumps(record | {"seed": 8}))
    done = call("recall", clip)
    assert (done.exit_code, done.stdout) == (0, plain)
    assert "clip.mp4.json was edited or is another clip's, it differs in seed: what the clip itself says is used\n" in done.stderr
    sidecar(clip).write_text("{")
    done = call("recall", clip)
    assert (done.exit_code, done.stdout) == (0, plain)
    assert "clip.mp4.json is not valid JSON" in done.stderr


def test_a_record_may_name_no_program(clip):
    """A clip from a stranger must not start what it names: knobs that only measure are not taken from it, nor given."""
    record = json.loads(sidecar(clip).read_text())
    record["knobs"]["vbench"] = "/bin/false"
    write_clip(clip, render([factors(0, 0)], 2, 16)[0], record)
    assert "vbench" not in call("recall", clip).stdout
    assert "error: knob vbench does not make the clip" in call("recall", clip, "--set", "vbench=x").stderr


def test_another_version_is_said(clip):
    record = json.loads(sidecar(clip).read_text())
    write_clip(clip, render([factors(0, 0)], 2, 16)[0], record | {"version": "0.0.1"})
    assert "made by version 0.0.1" in call("recall", clip).stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"paper": "videoguid"}, "unknown paper 'videoguid': did you mean 'videoguide'?"),
        ({"arm": "metho"}, "unknown arm of videoguide in clip.mp4 'metho': did you mean 'method'?"),
        ({"knobs": {"tua": 1}}, "does not fit this version .*unknown knob 'tua' for videoguide: did you mean 'tau'?"),
        ({"knobs": {"beta": 7}}, "does not fit this version .*knob beta=7 is not allowed"),
        ({"seed": "7"}, "clip.mp4 carries a comment that is no record of vidistill, and there is no clip.mp4.json"),
    ],
)
def test_a_record_that_does_not_fit_is_one_line(clip, change, line):
    record = json.loads(sidecar(clip).read_text())
    write_clip(clip, render([factors(0, 0)], 2, 16)[0], record | change)
    sidecar(clip).unlink()
    with pytest.raises(InputError, match=line):
        recalled(clip)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere.mp4"], "error: there is neither nowhere.mp4 nor nowhere.mp4.json: give a clip that a run kept"),
        (["plain.mp4"], "error: plain.mp4 carries no record, and there is no plain.mp4.json"),
        (["text.mp4"], "error: text.mp4 cannot be read as a video"),
        (["list.mp4.json"], "error: list.mp4.json is not the record of a clip: it must hold paper, arm"),
        (["clip.mp4", "--seed", "3"], "error: unknown --seed '3': allowed: new, same"),
        (["clip.mp4", "--set", "tua=1"], "error: unknown knob 'tua' for videoguide: did you mean 'tau'?"),
        (["clip.mp4", "--set", "tau"], "error: --set 'tau' is not of the form name=value"),
    ],
)
def test_bad_input_is_one_line(clip, arguments, line):
    write_clip("plain.mp4", render([factors(0, 0)], 2, 16)[0])
    Path("text.mp4").write_text("no video")
    Path("list.mp4.json").write_text("[]")
    done = call("recall", *arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
