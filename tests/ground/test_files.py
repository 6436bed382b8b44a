import os

import pytest
import torch

from vidistill import files
from vidistill.errors import InputError


def test_tensors_round_trip_and_length_is_exact(tmp_path):
    tensors = {"a": torch.arange(6).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    size = files.save_tensors(tmp_path / "x.safetensors", tensors, {"k": "v"})
    assert size == os.path.getsize(tmp_path / "x.safetensors")
    back, metadata = files.load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"k": "v"}
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    files.save_json(tmp_path / "x.json", {"old": 1})

    def fill(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        files.write_atomic(tmp_path / "x.json", fill)
    assert files.load_json(tmp_path / "x.json") == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")

    def fill(_):
        with open("/dev/full", "w") as full:
            full.write("x")

    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        files.write_atomic(tmp_path / "never-written", fill)


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="cannot write to folder"):
        files.ensure_folder(tmp_path / "f")


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.save_json(tmp_path / "x.json", float("nan"))


def test_truncated_tensors_and_bad_json_are_input_errors(tmp_path):
    files.save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(100)})
    data = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(data[:-10])
    with pytest.raises(InputError, match="cannot read"):
        files.load_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        files.load_json(tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot read"):
        files.load_json(tmp_path / "absent.json")


def test_digest_ignores_order_and_sees_values():
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})
