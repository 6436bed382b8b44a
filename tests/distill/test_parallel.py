"""Two processes do what one does, with copies of the weights or with shards of them, and go on where they stopped."""

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
def runs(tmp_path_factory, two_processes) -> Path:
    out = tmp_path_factory.mktemp("runs")
    subprocess.run([sys.executable, str(SCRIPT), str(out / "one")], check=True, timeout=500)
    two_processes(SCRIPT, out / "two")
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
