"""Collections: no clip is lost or made twice, whatever stops them, and several processes make what one makes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from vidistill.errors import Cancelled, InputError
from vidistill.guide import Pull
from vidistill.sample import Job, collect, collected, costs, freeinit, generate, load_denoiser

PROMPTS = ["orbit", "a blue ring falling", "spin"]
JOBS = [Job(PROMPTS[i % 3], i, {"centre": i % 2}) for i in range(5)]


def counted(model):
    """Count the clips that the network sees."""
    rows, predict = [], model.predict

    def count(x, *rest):
        rows.append(len(x))
        return predict(x, *rest)

    model.predict = count
    return rows


def test_a_collection_is_what_the_sampler_makes(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    paths = collect(model, JOBS, tmp_path, steps=2, guidance=2.0, batch=2)
    expected = generate(model, [job.prompt for job in JOBS], seeds=[job.seed for job in JOBS], steps=2, guidance=2.0, batch=2)
    assert torch.equal(collected(paths), expected.half().float())


def test_what_is_there_is_not_made_again(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    paths = collect(model, JOBS[:3], tmp_path, steps=2, batch=2)
    stamps = [path.stat().st_mtime_ns for path in paths]
    rows = counted(model)
    again = collect(model, JOBS, tmp_path, steps=2, batch=2)
    assert again[:3] == paths
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    assert sum(rows) == 2 * 2  # two clips, two steps
    rows.clear()
    assert collect(model, JOBS, tmp_path, steps=2, batch=2) == again
    assert not rows


def test_equal_jobs_share_a_clip(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    rows = counted(model)
    paths = collect(model, [JOBS[0], JOBS[1], JOBS[0]], tmp_path, steps=1, guidance=1.0)
    assert paths[0] == paths[2] != paths[1]
    assert sum(rows) == 2


@pytest.mark.parametrize("change", [{"steps": 3}, {"guidance": 3.0}, {"eta": 0.5}])
def test_other_settings_are_other_clips(tiny_unet, tmp_path, change) -> None:
    model, usual = load_denoiser(tiny_unet), {"steps": 2, "guidance": 2.0}
    assert not {*collect(model, JOBS[:1], tmp_path, **usual)} & {*collect(model, JOBS[:1], tmp_path, **(usual | change))}


def test_another_sampler_is_another_clip_and_its_steps_count_whole(tiny_unet, tmp_path) -> None:
    model, told = load_denoiser(tiny_unet), []
    plain = collect(model, JOBS[:3], tmp_path, steps=2, batch=2)
    again = {"iterations": 3, "space": 0.5, "time": 0.5, "order": 4}
    paths = collect(model, JOBS[:3], tmp_path, sampler=freeinit, steps=2, batch=2, progress=lambda *call: told.append(call[1:]), **again)
    assert not set(plain) & set(paths)
    assert told[0] == (0, 6)
    assert told[-1] == (6, 6)
    assert told == sorted(told)
    *_, last = freeinit(model, [PROMPTS[0]], seeds=[0], steps=2, **again)
    assert torch.allclose(collected(paths[:1]), last.latents, atol=2e-3)
    assert costs(plain)["evaluations"] == 4
    assert costs(paths)["evaluations"] == 12


def test_a_clip_says_what_it_has_cost(tiny_dit, tmp_path) -> None:
    paths = collect(load_denoiser(tiny_dit), JOBS, tmp_path, steps=3, guidance=1.0, batch=2)
    found = costs(paths)
    assert found["evaluations"] == 3
    assert found["seconds"] > 0
    assert found["seconds"] == pytest.approx(sum(costs([path])["seconds"] for path in paths) / len(paths))


def test_operators_are_made_for_the_clips_of_a_batch(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    centres = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    pull = lambda rows: [Pull(centres[[JOBS[row].facts["centre"] for row in rows]], 0.5)]  # noqa: E731
    together = collected(collect(model, JOBS, tmp_path / "a", operators=pull, steps=2, batch=5))
    alone = collected(collect(model, JOBS, tmp_path / "b", operators=pull, steps=2, batch=1))
    torch.testing.assert_close(together, alone, rtol=1e-2, atol=1e-2)
    plain = collected(collect(model, JOBS, tmp_path / "c", steps=2))
    assert not torch.allclose(plain, together, atol=0.05)


def test_a_cancelled_collection_keeps_its_finished_clips(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)

    def stop(stage: str, done: int, total: int) -> None:
        if done > 2 * 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        collect(model, JOBS, tmp_path, steps=2, batch=2, progress=stop)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    seen = []
    collect(model, JOBS, tmp_path, steps=2, batch=2, progress=lambda stage, done, total: seen.append((done, total)))
    assert seen[0] == (4, 10)
    assert seen[-1] == (10, 10)
    assert seen == sorted(seen)


SCRIPT = """
import sys
from vidistill.sample import Job, collect, load_denoiser
jobs = [Job("orbit", i) for i in range(int(sys.argv[3]))]
collect(load_denoiser(sys.argv[1]), jobs, sys.argv[2], steps=3, batch=2)
"""


def started(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)], env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


@pytest.mark.slow
def test_kill_9_loses_nothing_and_repeats_nothing(tiny_dit, tmp_path) -> None:
    with started(tiny_dit, tmp_path, 400) as process:
        try:
            for _ in range(1200):
                if len(list(tmp_path.glob("[!.]*.safetensors"))) >= 4:
                    break
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.safetensors")}
    assert 4 <= len(before) < 400
    jobs = [Job("orbit", i) for i in range(len(before) + 3)]
    model = load_denoiser(tiny_dit)
    paths = collect(model, jobs, tmp_path, steps=3, batch=2)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before
    whole = collect(model, jobs, tmp_path / "whole", steps=3, batch=2)
    torch.testing.assert_close(collected(paths), collected(whole), rtol=1e-2, atol=1e-2)
    assert [path.name for path in paths] == [path.name for path in whole]


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tiny_dit, tmp_path) -> None:
    both = [started(tiny_dit, tmp_path / "two", 7, RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    one = collect(load_denoiser(tiny_dit), [Job("orbit", i) for i in range(7)], tmp_path / "one", steps=3, batch=2)
    assert sorted(path.name for path in one) == sorted(path.name for path in (tmp_path / "two").glob("*.safetensors"))
    torch.testing.assert_close(collected(one), collected([tmp_path / "two" / path.name for path in one]), rtol=1e-2, atol=1e-2)


def test_clips_that_never_come_are_said(tiny_dit, tmp_path, monkeypatch) -> None:
    from vidistill.sample import collect as module  # the function shadows its module

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys.modules[module.__module__], "PATIENCE", 0.2)
    with pytest.raises(InputError, match="2 clips of the other processes do not come"):
        collect(load_denoiser(tiny_dit), JOBS, tmp_path, steps=1)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_latents_beyond_fp16_are_named(tiny_dit, tmp_path) -> None:
    model = load_denoiser(tiny_dit)
    model.parts["transformer"].proj_out.bias.data.fill_(1e6)
    with pytest.raises(InputError, match="beyond fp16's range"):
        collect(model, JOBS[:1], tmp_path, steps=1)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_fingerprint_follows_the_weights(tiny_dit, tmp_path) -> None:
    import shutil

    from vidistill.files import load_tensors, save_tensors
    from vidistill.sample.load import fingerprint

    shutil.copytree(tiny_dit, tmp_path / "copy", symlinks=True)
    assert fingerprint(tmp_path / "copy") == fingerprint(tiny_dit) == load_denoiser(tiny_dit).fingerprint
    file = tmp_path / "copy" / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors, metadata = load_tensors(file)
    next(iter(tensors.values())).flatten()[0] += 1
    save_tensors(file, tensors, metadata)
    assert fingerprint(tmp_path / "copy") != fingerprint(tiny_dit)
