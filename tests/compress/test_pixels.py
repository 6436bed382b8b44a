"""A file of clips gives back what was put in, and its bytes add up."""

from __future__ import annotations

import pytest
import torch

from vidistill.compress.pixels import load_clips, save_clips
from vidistill.errors import InputError
from vidistill.files import save_tensors


def parts(n: int = 5):
    draw = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (n, 3, 4, 8, 8), dtype=torch.uint8, generator=draw)
    labels, soft = torch.arange(n) % 3, torch.randn(n, 3, generator=draw)
    return video, labels, soft, torch.randint(0, 900, (n, 4, 2), generator=draw)


def test_what_goes_in_comes_out_and_the_bytes_add_up(tmp_path) -> None:
    video, labels, soft, source = parts()
    path = tmp_path / "set.safetensors"
    size = save_clips(path, video, labels, ["a", "b", "c"], soft=soft, source=source, meta={"seed": 3})
    assert size["total"] == path.stat().st_size == sum(size[part] for part in size if part != "total")
    assert size["pixels"] == video.numel()
    assert size["soft_labels"] == 2 * soft.numel()
    assert size["labels"] == 5 + 2 * source.numel()
    held = load_clips(path)
    assert torch.equal(held.video, video)
    assert torch.equal(held.labels, labels)
    assert held.classes == ("a", "b", "c")
    assert held.soft is not None
    torch.testing.assert_close(held.soft, soft, rtol=1e-3, atol=1e-3)
    assert torch.equal(held.source, source)
    assert held.meta == {"seed": 3}


def test_labels_alone_will_do(tmp_path) -> None:
    video, labels, *_ = parts()
    size = save_clips(tmp_path / "set.safetensors", video, labels, ["a", "b", "c"])
    held = load_clips(tmp_path / "set.safetensors")
    assert (held.soft, held.source, size["soft_labels"], size["labels"]) == (None, None, 0, 5)


def test_what_does_not_fit_is_named(tmp_path) -> None:
    video, labels, soft, _ = parts()
    with pytest.raises(InputError, match="4 labels"):
        save_clips(tmp_path / "x", video, labels[:4], ["a", "b", "c"])
    with pytest.raises(InputError, match=r"\(5, 3\) soft ones"):
        save_clips(tmp_path / "x", video, labels, ["a", "b"], soft=soft)
    save_tensors(tmp_path / "other", {"x": soft})
    with pytest.raises(InputError, match="no set of clips"):
        load_clips(tmp_path / "other")
