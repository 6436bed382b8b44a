"""The cache of latents: the same values computed, read, or half computed and half read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vidistill.codec import cache as cache_module
from vidistill.codec import encode_store
from vidistill.codec.autoencoder import Codec
from vidistill.data.world import World
from vidistill.errors import Cancelled, InputError


class Store:
    """Five world clips; counts how often its pixels are read."""

    def __init__(self, key: str = "five") -> None:
        self.video, _ = World(seed=5).clips(range(5), frames=4, size=32)
        self.labels, self.key, self.reads = torch.arange(5), key, 0
        self.names, self.groups, self.classes = [f"clip{i}" for i in range(5)], [f"g{i}" for i in range(5)], list("abcde")

    def __len__(self) -> int:
        return len(self.video)

    def batches(self, size: int) -> Iterator[tuple[int, torch.Tensor]]:
        self.reads += 1
        for start in range(0, len(self), size):
            yield start, self.video[start : start + size]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD", 2)


@pytest.fixture(scope="module")
def codec(make) -> Codec:
    return Codec(make("AutoencoderKL"), id="kl")


def test_latents_are_those_of_encode(codec: Codec, tmp_path) -> None:
    clips = Store()
    latents = encode_store(codec, clips, cache=tmp_path)
    torch.testing.assert_close(latents.z, codec.encode(clips.video), atol=2e-3, rtol=2e-3)
    assert latents.z.dtype == torch.float32
    assert latents.frames == 4
    assert (latents.names, latents.groups, latents.classes) == (tuple(clips.names), tuple(clips.groups), tuple(clips.classes))


def test_second_call_reads_no_pixels(codec: Codec, tmp_path) -> None:
    clips = Store()
    first = encode_store(codec, clips, cache=tmp_path)
    assert torch.equal(encode_store(codec, clips, cache=tmp_path).z, first.z)
    assert clips.reads == 1


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_lost_shard_is_computed_again(codec: Codec, tmp_path, damage: str) -> None:
    first = encode_store(codec, Store(), cache=tmp_path)
    shards = sorted(tmp_path.rglob("*.safetensors"))
    assert len(shards) == 3
    if damage == "delete":
        shards[1].unlink()
    else:
        shards[1].write_bytes(shards[1].read_bytes()[:50])
    done: list[int] = []
    again = encode_store(codec, Store(), cache=tmp_path, progress=lambda stage, n, total: done.append(n))
    assert torch.equal(again.z, first.z)
    assert done == [2, 3]


def test_cancelled_in_the_middle_resumes_to_the_same(codec: Codec, tmp_path) -> None:
    def stop(stage: str, n: int, total: int) -> None:
        if n == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode_store(codec, Store(), cache=tmp_path / "a", latent="sample", seed=3, progress=stop)
    resumed = encode_store(codec, Store(), cache=tmp_path / "a", latent="sample", seed=3)
    assert torch.equal(resumed.z, encode_store(codec, Store(), cache=tmp_path / "b", latent="sample", seed=3).z)


def test_everything_that_matters_is_in_the_key(codec: Codec, make, tmp_path) -> None:
    other = Codec(make("AutoencoderKL", scaling_factor=0.5), id="kl")
    for arguments in ((codec, Store()), (other, Store()), (codec, Store("other key"))):
        encode_store(*arguments, cache=tmp_path)
    for seed in (0, 1):
        encode_store(codec, Store(), cache=tmp_path, latent="sample", seed=seed)
        encode_store(codec, Store(), cache=tmp_path, seed=seed)  # the mean knows no seed
    assert len(list((tmp_path / "latents").iterdir())) == 5


def test_nothing_to_encode(codec: Codec, tmp_path) -> None:
    empty = Store()
    empty.video = empty.video[:0]
    with pytest.raises(InputError, match="no clips to encode"):
        encode_store(codec, empty, cache=tmp_path)
