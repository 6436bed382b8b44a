"""Small randomly initialised models in the zoo's format, made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False}
SAMPLING = {"steps": 4, "guidance": 3.0, "frames": 16, "size": 64}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files whose tests are long first, those of the browser before all: so no process is left alone with one at the end."""
    marked = {name: {item.path for item in items if item.get_closest_marker(name)} for name in ("ui", "slow")}
    items.sort(key=lambda item: [item.path not in marked[name] for name in ("ui", "slow")])


@pytest.fixture(scope="session")
def two_processes() -> Callable[..., None]:
    """Run a script in two processes that ``torchrun`` starts: on a port that it holds, and both are ended where one of them fails."""

    def run(*command: object) -> None:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
        done = subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]

    return run


def _write(folder: Path, kind: str, parts: dict[str, Any], tokenizer: Any, scheduler: Any, vae: list[str | None]) -> Path:
    from vidistill import shipped

    index: dict[str, Any] = {"_class_name": kind, "vae": vae}
    for name, part in {**parts, "tokenizer": tokenizer, "scheduler": scheduler}.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "sampling.json").write_text(json.dumps(SAMPLING))
    os.symlink(shipped.folder("lab-vae"), folder / "vae")
    return folder


def _clip(width: int) -> tuple[Any, Any]:
    """Return the world's CLIP tokenizer and a random text encoder for it."""
    from transformers import CLIPTextConfig, CLIPTextModel

    from vidistill.lab.train.captions import LENGTH, clip_tokenizer

    tokenizer = clip_tokenizer()
    ends = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    small = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1, "num_attention_heads": 2}
    return tokenizer, CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=LENGTH, **ends, **small))


@pytest.fixture(scope="session")
def tiny_unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ModelScope-family folder with lab-vae's latents: about 60 thousand random weights."""
    from diffusers import DDIMScheduler, UNet3DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer, text = _clip(16)
        unet = UNet3DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=2,
        )
    parts = {"text_encoder": text, "unet": unet}
    scheduler = DDIMScheduler(**SCHEDULE, steps_offset=1)
    return _write(
        tmp_path_factory.mktemp("models") / "tiny-unet",
        "TextToVideoSDPipeline",
        parts,
        tokenizer,
        scheduler,
        ["diffusers", "AutoencoderKL"],
    )


@pytest.fixture(scope="session")
def tiny_dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan-family folder with lab-vae's latents: about 30 thousand random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    from vidistill.lab.train.captions import t5_tokenizer

    tokenizer = t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = UMT5EncoderModel(
            UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
        )
        transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        )
    parts = {"text_encoder": text, "transformer": transformer}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return _write(tmp_path_factory.mktemp("models") / "tiny-dit", "WanPipeline", parts, tokenizer, scheduler, [None, None])


@pytest.fixture(scope="session")
def tiny_students(tiny_dit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the Wan-family folder that have four times of their own: one sampled with noise put back anew, one by Euler's steps."""
    import shutil

    found = {}
    for name, rule in (("anew", "sde"), ("euler", "ode")):
        found[name] = tmp_path_factory.mktemp("students") / name
        shutil.copytree(tiny_dit, found[name], symlinks=True)
        own = SAMPLING | {"guidance": 1.0, "times": [1.0, 0.9, 0.7, 0.4], "renoise": rule}
        (found[name] / "sampling.json").write_text(json.dumps(own))
    return found


@pytest.fixture(scope="module")
def small_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The live worlds of points, judged by few points and with few stored paths as long as the module's tests last."""
    from vidistill.lab import plane_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plane_session, "PATHS_STORED", 256)
        patch.setattr(plane_session, "POINTS", 240)
        yield plane_session.PlaneSession(tmp_path_factory.mktemp("plane"))


@pytest.fixture(scope="session")
def tiny_unet_leading(tiny_unet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ModelScope-family folder with the published checkpoint's schedule: DDIM, leading spacing."""
    import shutil

    folder = tmp_path_factory.mktemp("models") / "leading"
    shutil.copytree(tiny_unet, folder, symlinks=True)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"timestep_spacing": "leading"}))
    return folder


@pytest.fixture(scope="session")
def tiny_motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AnimateDiff-family folder with lab-vae's latents: about 60 thousand random weights."""
    from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer, text = _clip(8)
        image = UNet2DConditionModel(
            block_out_channels=(8, 8),
            layers_per_block=1,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            norm_num_groups=2,
        )
        adapter = MotionAdapter(
            block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=4
        )
        unet = UNetMotionModel.from_unet2d(image, adapter)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False)
    parts = {"text_encoder": text, "unet": unet, "motion_adapter": adapter}
    folder = tmp_path_factory.mktemp("models") / "tiny-motion"
    return _write(folder, "AnimateDiffPipeline", parts, tokenizer, scheduler, ["diffusers", "AutoencoderKL"])
