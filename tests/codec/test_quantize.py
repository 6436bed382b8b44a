"""Packed weights: the error bound, the exact bytes, and a way back that forgives no missing key."""

from __future__ import annotations

import json
import math

import pytest
import torch

from vidistill.codec import bytes_of_shapes, load_packed, pack, packed_bytes, save_codec, shapes_of, unpack
from vidistill.codec.autoencoder import Codec
from vidistill.codec.quantize import dequantise, quantise
from vidistill.data.world import World
from vidistill.errors import InputError

SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
KINDS = (
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderKLWan",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLHunyuanVideo",
    "AutoencoderKLQwenImage",  # its decoder looks at its encoder
    "AutoencoderKLCosmos",  # keeps wavelets outside its weights
)


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return World(seed=4).clips(range(1), frames=5, size=32)[0]


@pytest.mark.parametrize("shape", [(7, 5), (8, 3, 3, 3), (4, 2, 3, 3, 3), (3, 1)])
def test_int8_error_is_at_most_half_a_step(shape) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * torch.logspace(-6, 2, shape[0]).view(-1, *[1] * (len(shape) - 1))
    q, s = quantise(w)
    step = s.view(-1, *[1] * (w.ndim - 1))
    assert q.dtype == torch.int8
    assert s.shape == (shape[0],)
    assert ((w - dequantise(q, s)).abs() <= step / 2 * (1 + 1e-5)).all()
    assert (q.flatten(1).abs().amax(1) == 127).all()  # the whole range is used in every channel


def test_zero_channels_stay_zero() -> None:
    q, s = quantise(torch.zeros(3, 4))
    assert torch.equal(dequantise(q, s), torch.zeros(3, 4))
    assert s.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_packed_decode_equals_dequantised_decode(make, kind: str, dtype: str, video: torch.Tensor) -> None:
    codec = Codec(make(kind), id=kind)
    z = codec.encode(video)
    tensors, record = pack(codec, "decoder", dtype)
    back = unpack(tensors, json.loads(json.dumps(record)))
    assert (back.kind, back.config, back.f_space, back.f_time, back.temporal) == (
        kind,
        codec.config,
        codec.f_space,
        codec.f_time,
        codec.temporal,
    )
    if dtype == "fp32":
        expected = codec.decode(z, 5)
    else:  # the same rounding, done by hand in the original module
        module = make(kind)
        state = module.state_dict()
        for name in state:
            if name in tensors:
                stored = tensors[name]
                state[name] = dequantise(stored, tensors[f"{name}.scale"]) if stored.dtype == torch.int8 else stored.float()
        module.load_state_dict(state)
        expected = Codec(module, id=kind).decode(z, 5)
    assert torch.equal(back.decode(z, 5), expected)
    with pytest.raises(InputError, match="holds the decoder only"):
        back.encode(video)
    with pytest.raises(InputError, match="holds the decoder only"):
        pack(back, "full")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["decoder", "full"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8", "int8-linear"])
def test_bytes_from_shapes_are_the_bytes_stored(make, kind: str, part: str, dtype: str) -> None:
    codec = Codec(make(kind), id=kind)
    tensors, _ = pack(codec, part, dtype)
    assert bytes_of_shapes(shapes_of(kind, codec.config, part), dtype)["total"] == packed_bytes(tensors)


def test_repacking_int8_changes_nothing(make) -> None:
    tensors, record = pack(Codec(make("AutoencoderKL"), id="kl"), "decoder", "int8")
    again, _ = pack(unpack(tensors, record), "decoder", "int8")
    assert set(again) == set(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-6, atol=0)


def test_file_holds_the_codec_and_its_length_is_known(make, tmp_path, video: torch.Tensor) -> None:
    codec = Codec(make("AutoencoderKL"), id="kl")
    path = tmp_path / "codec.safetensors"
    length = save_codec(path, codec, "full", "fp16")
    header = int.from_bytes(path.read_bytes()[:8], "little") + 8
    assert length == path.stat().st_size == header + packed_bytes(pack(codec, "full", "fp16")[0])
    assert (load_packed(path).encode(video) - codec.encode(video)).abs().max() < 0.01


def test_wrong_keys_are_errors(make) -> None:
    tensors, record = pack(Codec(make("AutoencoderKL"), id="kl"), "decoder", "int8")
    weight = "decoder.conv_out.weight"
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith(weight)}
    with pytest.raises(InputError, match=r"does not fit its configuration: .*Missing key.*conv_out"):
        unpack(without, record)
    with pytest.raises(InputError, match=r"does not fit its configuration: .*Unexpected key.*stranger"):
        unpack({**tensors, "stranger": torch.zeros(1)}, record)
    with pytest.raises(InputError, match="1 scales are missing"):
        unpack({name: tensor for name, tensor in tensors.items() if name != f"{weight}.scale"}, record)
    with pytest.raises(InputError, match="the codec record lacks kind, config, part"):
        unpack(tensors, {"id": "kl"})
    with pytest.raises(InputError, match="unknown codec packing 'int4'"):
        pack(Codec(make("AutoencoderKL"), id="kl"), "decoder", "int4")


def test_sd_vae_counts_and_sizes() -> None:
    """Section 2.1, 2.2 of the LVDD reading: 83,653,863 parameters, the decoder's share, "335 -> 80 MB"."""
    full = bytes_of_shapes(shapes_of("AutoencoderKL", SD_VAE, "full"), "int8")
    decoder = bytes_of_shapes(shapes_of("AutoencoderKL", SD_VAE, "decoder"), "int8")
    assert (full["parameters"], decoder["parameters"]) == (83_653_863, 49_490_199)
    assert math.isclose(full["parameters"] / 2**20, 79.8, abs_tol=0.05)
    assert math.isclose(decoder["parameters"] / 2**20, 47.2, abs_tol=0.05)
    for size in (full, decoder):  # scales and the halves' second bytes are all that comes on top of one byte a parameter
        assert size["parameters"] < size["total"] < 1.005 * size["parameters"]
        assert size["total"] == size["parameters"] + size["rest"] // 2 + size["scales"]
    assert bytes_of_shapes(shapes_of("AutoencoderKL", SD_VAE), "fp32")["total"] == 4 * 83_653_863


def test_the_cv_vae_scheme_gives_twice_not_2_6_times() -> None:
    """Section 5.1 item 7: four 512 x 512 linear layers of 182,446,475 parameters; int8 on them and fp16 elsewhere is 2.006x."""
    linear = {f"linear.{i}.weight": (512, 512) for i in range(4)} | {f"linear.{i}.bias": (512,) for i in range(4)}
    rest = 182_446_475 - 4 * (512 * 512 + 512)
    shapes = {**linear, "convolutions": (1, rest, 1, 1, 1)}
    packed, whole = bytes_of_shapes(shapes, "int8-linear"), bytes_of_shapes(shapes, "fp32")
    assert packed["parameters"] == 182_446_475
    assert packed["int8"] == 1_048_576
    assert round(whole["total"] / packed["total"], 3) == 2.006
    assert round(packed["total"] / 2**20) == 347
