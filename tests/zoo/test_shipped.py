"""What ships: every model is whole, small, in half precision, and a stock checkpoint where it can be."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

from vidistill import zoo
from vidistill.codec import Codec
from vidistill.files import load_tensors
from vidistill.measure.probe import Probe
from vidistill.rng import normal
from vidistill.sample import Denoiser, sample

MAKERS = [name for name in zoo.ZOO if name not in ("lab-vae", "lab-probe")]
MB = 10**6


def own_files(name: str) -> list[Path]:
    return [path for path in sorted(zoo.path(name).rglob("*")) if path.is_file() and "vae" not in path.relative_to(zoo.path(name)).parts]


@pytest.mark.parametrize("name", zoo.ZOO)
def test_files_are_few_small_and_harmless(name) -> None:
    files = own_files(name)
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    assert all(path.stat().st_size <= 16 * MB for path in files)
    for path in files:
        if path.suffix == ".safetensors":
            assert {tensor.dtype for tensor in load_tensors(path)[0].values()} == {torch.float16}, path


def test_the_zoo_is_within_its_budget() -> None:
    assert sum(path.stat().st_size for name in zoo.ZOO for path in own_files(name)) <= 60 * MB


@pytest.mark.parametrize("name", MAKERS)
def test_the_autoencoder_is_a_link_that_holds_anywhere(name) -> None:
    link = zoo.path(name) / "vae"
    if link.is_symlink():  # a wheel holds a copy
        assert os.readlink(link) == "../lab-vae"
    weights = "diffusion_pytorch_model.safetensors"
    assert (link / weights).read_bytes() == (zoo.path("lab-vae") / weights).read_bytes()


def test_each_loads_as_what_it_is() -> None:
    kinds = {"lab-vae": Codec, "lab-probe": Probe}
    for name in zoo.ZOO:
        assert isinstance(zoo.load(name), kinds.get(name, Denoiser))


def test_all_share_one_latent_space() -> None:
    models = [zoo.load(name) for name in MAKERS]
    assert {model.shape for model in models} == {(4, 16, 8, 8)}
    assert {model.codec.fingerprint for model in models} == {zoo.load("lab-vae").fingerprint}


@pytest.mark.parametrize("name", ["lab-unet", "lab-base"])
def test_stock_diffusers_makes_the_same_clip(name) -> None:
    from diffusers import TextToVideoSDPipeline

    prompt, model = "a purple star orbiting over a forest background, camera pan-left", zoo.load(name)
    *_, step = sample(model, [prompt], seeds=[1], steps=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = TextToVideoSDPipeline.from_pretrained(zoo.path(name))
    pipe.set_progress_bar_config(disable=True)
    made = {"num_frames": 16, "height": 64, "width": 64, "num_inference_steps": 4, "guidance_scale": model.guidance}
    noise = normal([1], "init", model.shape)
    latents = pipe(prompt, latents=noise, output_type="latent", **made).frames
    assert torch.equal(step.latents, latents)
    assert torch.equal(model.codec.decode(step.latents, 16), Codec(pipe.vae, id="theirs").decode(latents, 16))
    shown = torch.from_numpy(pipe(prompt, latents=noise, output_type="np", **made).frames)  # float [B, T, H, W, 3]
    ours = model.codec.decode(step.latents, 16).permute(0, 2, 3, 4, 1)
    assert ((shown * 255).round().int() - ours.int()).abs().max() <= 1  # a half rounds either way


def test_a_clip_is_what_the_prompt_says() -> None:
    """Not the card, only that the shipped weights are trained ones: most backgrounds and colours of a few prompts are right."""
    from vidistill.data.parse import parse
    from vidistill.data.world import factors
    from vidistill.sample import generate

    clips, model = [factors(8, i) for i in range(6)], zoo.load("lab-dit")
    latents = generate(model, [clip.caption() for clip in clips], seeds=range(6), steps=8, batch=6)
    agreement = parse(model.codec.decode(latents, 16)).agreement(clips)
    assert agreement["background"] >= 5 / 6
    assert agreement["colour"] >= 4 / 6
