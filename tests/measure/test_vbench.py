"""The real VBench's command line, against a program that checks it word by word and behaves as version 0.1.5 does."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vidistill.data.clips import read_clip
from vidistill.data.world import factors, render
from vidistill.errors import InputError
from vidistill.measure.vbench import DIMENSIONS, run_vbench, vbench_results
from vidistill.types import Protocol

PROGRAM = """#!{python}
import argparse, json, os, pathlib, shutil, subprocess, sys

here, behave = pathlib.Path(__file__).parent, {behave!r}
called = {{"words": sys.argv[1:], "cwd": os.getcwd(), "python": shutil.which("python"), "env": dict(os.environ)}}
(here / "called.json").write_text(json.dumps(called))
shutil.copytree("videos", here / "videos")

# the options of version 0.1.5
evaluate = argparse.ArgumentParser(allow_abbrev=False)
evaluate.add_argument("command", choices=["evaluate", "static_filter"])
for name in ("full_json_dir", "load_ckpt_from_local", "read_frame", "prompt", "prompt_file", "category"):
    evaluate.add_argument("--" + name)
evaluate.add_argument("--ngpus", type=int, default=1)
evaluate.add_argument("--output_path", default="./evaluation_results/")
evaluate.add_argument("--videos_path", required=True)
evaluate.add_argument("--dimension", required=True)
evaluate.add_argument("--mode", choices=["custom_input", "vbench_standard", "vbench_category"], default="vbench_standard")
evaluate.add_argument("--imaging_quality_preprocessing_mode", default="longer")
said = evaluate.parse_args()

# it starts itself again through a shell, without quotes, and does not tell how that went
inner = "import sys, json; print(json.dumps(sys.argv[1:]))"
line = f"python -c '{{inner}}' --output_path {{said.output_path}} --videos_path=\\"{{said.videos_path}}\\" --dimension {{said.dimension}} "
argv = json.loads(subprocess.run(line, shell=True, capture_output=True, text=True).stdout)
(output, videos), dimensions = (argv[1], argv[2].partition("=")[2]), argv[4:]
if behave == "fail":
    print("[rank0]: ValueError: ProcessGroupNCCL is only supported with GPUs", file=sys.stderr)
    print("torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\\n=====", file=sys.stderr)
    sys.exit(0)
if behave == "exit":
    sys.exit("vbench: error: something else")
assert said.mode == "custom_input"
names = os.listdir(videos)[1 if behave == "lose" else 0 :]  # in no order
result = {{}}
for dimension in dimensions:
    rows = []
    for name in names:
        i = int(pathlib.Path(name).stem)
        value = {{"dynamic_degree": i % 2 == 1, "imaging_quality": 50.0 + i}}.get(dimension, 0.9 + i / 100)
        rows.append({{"video_path": os.path.join(videos, name), "video_results": value}})
    result[dimension] = [0.5, rows]
if behave == "forget":
    del result[dimensions[-1]]
out = pathlib.Path(output)
out.mkdir()
(out / "results_2026-11-21-20:00:00_full_info.json").write_text("[]")
if behave != "silent":
    (out / "results_2026-11-21-20:00:00_eval_results.json").write_text(json.dumps(result))
"""


def program(folder: Path, behave: str = "work") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python").symlink_to(sys.executable)
    path = folder / "vbench"
    path.write_text(PROGRAM.format(python=sys.executable, behave=behave))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return render([factors(8, i) for i in range(3)], frames=4)


def test_numbers_per_clip_come_back(tmp_path, video, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    path = program(tmp_path / "bin")
    found = run_vbench(video, path)
    assert list(found) == list(DIMENSIONS)
    assert found["dynamic_degree"].tolist() == [0, 1, 0]
    assert found["imaging_quality"].tolist() == pytest.approx([0.50, 0.51, 0.52])
    assert found["subject_consistency"].tolist() == pytest.approx([0.90, 0.91, 0.92])
    assert all(value.dtype == torch.float64 for value in found.values())

    called = json.loads((path.parent / "called.json").read_text())
    assert called["words"] == [
        *("evaluate", "--videos_path", "videos", "--output_path", "results"),
        *("--dimension", " ".join(DIMENSIONS), "--mode", "custom_input"),
    ]
    assert called["python"] == str(path.parent / "python")  # the program starts the first python on the PATH
    assert "PYTHONPATH" not in called["env"]
    assert not Path(called["cwd"]).exists()  # nothing is left behind
    assert sorted(os.listdir(path.parent / "videos")) == ["000000.mp4", "000001.mp4", "000002.mp4"]
    clip = read_clip(path.parent / "videos" / "000001.mp4", Protocol(frames=4, gap=1, size=64, crop="squash"), backend="pyav")
    assert (clip.float() - video[1].float()).abs().mean() < 8


def test_one_dimension_through_a_link(tmp_path, video):
    path = program(tmp_path / "bin")
    link = tmp_path / "vb"
    link.symlink_to(path)
    assert list(run_vbench(video, link, dimensions=["motion_smoothness"])) == ["motion_smoothness"]
    assert json.loads((path.parent / "called.json").read_text())["python"] == str(path.parent / "python")


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        ("fail", "VBench gave no result: [rank0]: ValueError: ProcessGroupNCCL is only supported with GPUs"),
        ("exit", "VBench failed with exit code 1: vbench: error: something else"),
        ("silent", "VBench gave no result: it said nothing"),
        ("lose", "lacks numbers of subject_consistency for 1 of 3 clips"),
        ("forget", "lacks the dimension imaging_quality"),
    ],
)
def test_a_failed_run_is_one_line(tmp_path, video, behave, says):
    with pytest.raises(InputError, match=re.escape(says)) as error:
        run_vbench(video, program(tmp_path / "bin", behave))
    assert "\n" not in str(error.value)


def test_bad_input_is_one_line(tmp_path, video):
    with pytest.raises(InputError, match=r"no program '.*nowhere'; set it up with  python3.10 -m venv"):
        run_vbench(video, tmp_path / "nowhere")
    with pytest.raises(InputError, match="folder with blanks in its name"):
        run_vbench(video, program(tmp_path / "my tools"))
    broken = program(tmp_path / "broken")
    broken.write_text("#!/no/such/python\n")
    with pytest.raises(InputError, match=r"cannot run VBench: .*No such file"):
        run_vbench(video, broken)
    path = program(tmp_path / "bin")
    with pytest.raises(InputError, match="unknown VBench dimension 'motion_smooth': did you mean 'motion_smoothness'"):
        run_vbench(video, path, dimensions=["motion_smooth"])
    for bad in ("dynamic_degree", []):
        with pytest.raises(InputError, match="must be a list of at least one"):
            run_vbench(video, path, dimensions=bad)
    with pytest.raises(InputError, match="even height and width, got clips of"):
        run_vbench(video[..., 1:], path)
    with pytest.raises(InputError, match="T >= 3"):
        run_vbench(video[:, :, :2], path)
    assert not (path.parent / "called.json").exists()


def test_results_of_another_form_are_one_line(tmp_path):
    path = tmp_path / "r.json"
    for text, says in (
        ("{", "not valid JSON"),
        ("[]", "lacks the dimension"),
        ('{"dynamic_degree": 0.5}', "lacks numbers of dynamic_degree"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            vbench_results(path, ["000000.mp4"], ["dynamic_degree"])


def test_nothing_of_the_package_is_imported():
    code = (
        "import sys, vidistill.measure.vbench, vidistill.measure; print([m for m in ('vbench', 'cv2', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
