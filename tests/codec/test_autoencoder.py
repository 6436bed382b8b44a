"""Every kind of codec, tiny and random: shapes, frames, invariances, and errors of one line."""

from __future__ import annotations

import pytest
import torch

from vidistill import hub
from vidistill.codec import load_codec
from vidistill.codec.autoencoder import Codec
from vidistill.data.world import World
from vidistill.errors import InputError
from vidistill.measure.reconstruction import psnr

KINDS = {  # kind -> (f_space, f_time, temporal)
    "AutoencoderKL": (4, 1, False),
    "AutoencoderTiny": (8, 1, False),
    "AutoencoderKLTemporalDecoder": (2, 1, False),
    "AutoencoderKLWan": (8, 4, True),
    "AutoencoderKLCogVideoX": (8, 4, True),
    "AutoencoderKLHunyuanVideo": (8, 4, True),
}


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return World(seed=3).clips(range(2), frames=6, size=32)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_frames_and_batch_invariance(make, kind: str, video: torch.Tensor) -> None:
    codec = Codec(make(kind), id=kind)
    assert (codec.f_space, codec.f_time, codec.temporal) == KINDS[kind]
    z = codec.encode(video)
    assert z.shape == (2, *codec.latent_shape(6, 32))
    assert z.dtype == torch.float32
    assert z.shape[2] == (3 if codec.temporal else 6)
    alone = torch.cat([codec.encode(video[i : i + 1], batch_frames=1) for i in range(2)])
    torch.testing.assert_close(alone, z, atol=1e-4, rtol=1e-4)
    y = codec.decode(z, frames=6)
    assert y.shape == video.shape
    assert y.dtype == torch.uint8
    apart = torch.cat([codec.decode(z[i : i + 1], frames=6, batch_frames=1) for i in range(2)])
    assert (apart.int() - y.int()).abs().max() <= 1


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderKLWan"])
def test_encode_equals_the_module_and_its_normalisation(make, kind: str, video: torch.Tensor) -> None:
    module = make(kind)
    codec = Codec(module, id=kind)
    x = video[:, :, :5].float() / 127.5 - 1
    with torch.no_grad():
        if kind == "AutoencoderKL":
            raw = torch.stack([module.encode(x[:, :, t]).latent_dist.mean for t in range(5)], dim=2)
            expected = raw * 0.18215
        else:
            raw = module.encode(x).latent_dist.mean
            mean, std = (torch.tensor(module.config[f"latents_{name}"]).view(1, 4, 1, 1, 1) for name in ("mean", "std"))
            expected = (raw - mean) / std
    torch.testing.assert_close(codec.encode(video[:, :, :5]), expected, atol=1e-4, rtol=1e-4)


def test_scale_and_shift_cancel_in_a_round_trip(make, video: torch.Tensor) -> None:
    plain = Codec(make("AutoencoderKL", scaling_factor=1.0), id="plain")
    moved = Codec(make("AutoencoderKL", scaling_factor=0.3, shift_factor=0.7), id="moved")
    z, z_moved = plain.encode(video), moved.encode(video)
    torch.testing.assert_close(z_moved, (z - 0.7) * 0.3)
    assert (plain.decode(z, 6).int() - moved.decode(z_moved, 6).int()).abs().max() <= 1


def test_temporal_padding_repeats_the_last_frame(make, video: torch.Tensor) -> None:
    codec = Codec(make("AutoencoderKLWan"), id="wan")
    longer = torch.cat([video, video[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)  # 6 -> 9 frames
    torch.testing.assert_close(codec.encode(video), codec.encode(longer))
    assert torch.equal(codec.decode(codec.encode(longer), 9)[:, :, :6], codec.decode(codec.encode(video), 6))
    assert [codec.latent_shape(frames, 112)[1:] for frames in (1, 16, 17, 18)] == [(1, 14, 14), (5, 14, 14), (5, 14, 14), (6, 14, 14)]


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderKLWan"])
def test_sizes_that_do_not_divide_are_padded_and_cropped(make, kind: str, video: torch.Tensor) -> None:
    codec = Codec(make(kind), id=kind)
    odd = video[..., :30, :30]
    z = codec.encode(odd)
    assert z.shape[1:] == codec.latent_shape(6, 30)
    assert codec.decode(z, 6, size=30).shape == odd.shape
    assert codec.decode(z, 6).shape[-1] == 32


def test_latents_can_enter_a_graph(make, video: torch.Tensor) -> None:
    z = Codec(make("AutoencoderKL"), id="kl").encode(video)
    w = torch.ones((), requires_grad=True)
    (w * z).sum().backward()  # tensors made under inference mode refuse this
    torch.testing.assert_close(w.grad, z.sum())


def test_a_sample_belongs_to_its_clip(make, video: torch.Tensor) -> None:
    codec = Codec(make("AutoencoderKL"), id="kl")
    both = codec.encode(video, latent="sample", seeds=[5, 6])
    torch.testing.assert_close(codec.encode(video[1:], latent="sample", seeds=[6])[0], both[1], atol=1e-5, rtol=1e-4)
    mean, std = codec.encode(video), (both - codec.encode(video)).std()
    assert std > 1e-3
    assert not torch.equal(mean, both)
    assert not torch.allclose(codec.encode(video, latent="sample", seeds=[7, 6])[0], both[0], atol=1e-3)


def test_half_precision_is_close(make, video: torch.Tensor) -> None:
    full, half = Codec(make("AutoencoderKL"), id="kl"), Codec(make("AutoencoderKL"), id="kl", dtype="bf16")
    z = full.encode(video)
    assert (half.encode(video) - z).norm() < 0.05 * z.norm()
    assert half.fingerprint != full.fingerprint


def test_fingerprint_follows_the_weights(make) -> None:
    module = make("AutoencoderKL")
    first = Codec(module, id="a").fingerprint
    assert Codec(make("AutoencoderKL"), id="b").fingerprint == first
    module.decoder.conv_out.bias.data += 1e-3
    assert Codec(module, id="a").fingerprint != first


def test_loads_a_folder_and_a_pipeline_folder(make, tmp_path, video: torch.Tensor) -> None:
    module = make("AutoencoderKL")
    module.save_pretrained(tmp_path / "pipe" / "vae")
    z = Codec(module, id="kl").encode(video)
    for folder in (tmp_path / "pipe", tmp_path / "pipe" / "vae"):
        torch.testing.assert_close(load_codec(folder).encode(video), z)


def test_bad_names_folders_and_files_are_one_line(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hub, "_answers", lambda: False)

    def line(name, **options) -> str:
        with pytest.raises(InputError) as caught:
            load_codec(name, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean 'lab-vae'" in line("lab-vea")
    assert "pass codec=lab-vae or a folder" in line(tmp_path / "nowhere")
    assert "cannot get codec 'nobody/nothing'" in line("nobody/nothing")
    assert "no config.json" in line(tmp_path)
    assert "unknown codec dtype 'fp8'" in line("lab-vae", dtype="fp8")
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKLL"}')
    assert "did you mean 'AutoencoderKL'" in line(tmp_path)

    make("AutoencoderKL").save_pretrained(tmp_path / "vae")
    weights = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cannot load codec" in line(tmp_path / "vae")
    weights.unlink()
    assert "cannot load codec" in line(tmp_path / "vae")


def test_loads_a_hub_id_from_the_download_cache(make, tmp_path, monkeypatch, video: torch.Tensor) -> None:
    from huggingface_hub import constants

    make("AutoencoderKL").save_pretrained(tmp_path / "models--some--pipeline" / "snapshots" / "1" / "vae")
    (tmp_path / "models--some--pipeline" / "refs").mkdir()
    (tmp_path / "models--some--pipeline" / "refs" / "main").write_text("1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_answers", lambda: False)
    torch.testing.assert_close(load_codec("some/pipeline").encode(video), Codec(make("AutoencoderKL"), id="kl").encode(video))


def test_a_missing_weight_is_an_error_not_a_random_number(make, tmp_path) -> None:
    from vidistill.files import load_tensors, save_tensors

    make("AutoencoderKL").save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors, metadata = load_tensors(path)
    del tensors["decoder.conv_out.weight"]
    save_tensors(path, tensors, metadata)
    with pytest.raises(InputError, match=r"1 weights are missing or misshapen, e\.g\. decoder\.conv_out\.weight"):
        load_codec(tmp_path)


def test_bad_arguments_are_named(make, video: torch.Tensor) -> None:
    codec = Codec(make("AutoencoderKL"), id="kl")
    with pytest.raises(InputError, match="expects uint8 clips"):
        codec.encode(video.float())
    with pytest.raises(InputError, match="one seed per clip: 2 clips, 1 seeds"):
        codec.encode(video, latent="sample", seeds=[1])
    with pytest.raises(InputError, match=r"decodes 5 frames from latents \[B, 4, 5, h, w\]"):
        codec.decode(codec.encode(video), 5)
    with pytest.raises(InputError, match="no posterior"):
        Codec(make("AutoencoderTiny"), id="tiny").encode(video, latent="sample", seeds=[1, 2])
    with pytest.raises(InputError, match="latents_mean has 16 values for 4"):
        Codec(make("AutoencoderKLWan", latents_mean=(0.0,) * 16), id="wan")
    with pytest.raises(InputError, match="not an RGB autoencoder"):
        Codec(make("AutoencoderKL", in_channels=1, out_channels=1), id="grey")


def test_lab_vae_reaches_30_db_on_unseen_world_clips() -> None:
    codec = load_codec("lab-vae")
    video, _ = World(seed=97).clips(range(32), frames=4, size=64)
    z = codec.encode(video)
    assert (codec.channels, codec.f_space, codec.temporal) == (4, 8, False)
    assert sum(p.numel() for p in codec.module.parameters()) <= 3_000_000
    assert 0.5 < z.std() < 2
    assert psnr(video, codec.decode(z, 4)).mean() >= 30
