"""Two processes do what one does, with copies of the weights or with shards of them, and go on where they stopped."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vidistill.distill.methods import Batch
from vidistill.distill.parallel import Ranks
from vidistill.errors import InputError
from vidistill.files import load_json, load_tensors

SCRIPT = Path(__file__).with_name("two.py")
WAYS = ("full", "full-shards", "lora-shards")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"OMP_NUM_THREADS": "1"}
    there = common | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    starts = [("one", common), *(("two", there | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2))]
    command = [sys.executable, str(SCRIPT)]
    running = [subprocess.Popen([*command, str(out / name)], env=own, stderr=subprocess.PIPE, text=True) for name, own in starts]
    said = [process.communicate(timeout=280)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], "".join(said)[-3000:]
    return out


@pytest.mark.parametrize("way", WAYS)
def test_resumed_equals_uninterrupted(runs, way):
    for processes in ("one", "two"):
        for file in ("state.safetensors", "student.safetensors"):
            whole, parts = (load_tensors(runs / processes / way / run / file)[0] for run in ("whole", "parts"))
            assert whole.keys() == parts.keys()
            assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_compute_what_one_does(runs, way):
    """The same global batch: losses and weights differ by the order of additions alone; AdamW's first steps magnify that."""
    one, two = (load_json(runs / processes / way / "whole/log.json") for processes in ("one", "two"))
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        assert a["losses"] == pytest.approx(b["losses"], rel=2e-3)
        assert a["norms"] == pytest.approx(b["norms"], rel=2e-2)
    one, two = (load_tensors(runs / processes / way / "whole/student.safetensors")[0] for processes in ("one", "two"))
    assert {name: w.shape for name, w in one.items()} == {name: w.shape for name, w in two.items()}
    far = sum((one[name] - two[name]).abs().gt(1e-4).sum() for name in one)
    assert far <= 0.01 * sum(w.numel() for w in one.values())


def test_each_process_has_its_rows_of_the_batch():
    batch = Batch(torch.arange(6.0)[:, None], {"text": torch.arange(6), "none": None}, None, None)
    parts = [batch.share(Ranks(rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat([part.x0 for part in parts]), batch.x0)
    assert torch.equal(torch.cat([part.c["text"] for part in parts]), batch.c["text"])
    assert batch.share(Ranks()) is batch
    with pytest.raises(InputError, match="batch of 6 cannot be shared by 4 processes: make it a multiple of 4"):
        batch.share(Ranks(0, 4))
