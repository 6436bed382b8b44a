"""Loading: what a folder holds decides what comes back; a damaged, truncated or foreign folder is one line, and nothing is unpickled."""

from __future__ import annotations

import json
import pickle  # noqa: TID251
import shutil
from pathlib import Path

import pytest

from vidistill import zoo
from vidistill.codec import Codec
from vidistill.errors import InputError


@pytest.fixture
def copied(tiny_dit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dit, tmp_path / "model", symlinks=True))


def one_line(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        zoo.load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_kinds(tiny_unet, tiny_dit) -> None:
    assert isinstance(zoo.load("lab-vae"), Codec)
    assert zoo.load(tiny_unet).family == "epsilon"
    assert zoo.load(tiny_dit).family == "flow"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(InputError, match="lab-dit"):
        zoo.load("lab-dot")


@pytest.mark.parametrize("weights", ["transformer/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_truncated_and_missing_weights(copied, weights) -> None:
    path = copied / weights
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert path.parent.name in one_line(copied)
    path.unlink()
    assert path.parent.name in one_line(copied)


def test_a_weight_that_is_missing_is_not_made_up(copied) -> None:
    from vidistill.files import load_tensors, save_tensors

    path = copied / "transformer/diffusion_pytorch_model.safetensors"
    tensors, metadata = load_tensors(path)
    gone = sorted(tensors)[0]
    del tensors[gone]
    save_tensors(path, tensors, metadata)
    assert gone in one_line(copied)


def test_nothing_is_unpickled(copied, tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for part, name in (("transformer", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")):
        (weights,) = (copied / part).glob("*.safetensors")
        weights.unlink()
        (copied / part / name).write_bytes(pickle.dumps(Bomb()))
    one_line(copied)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("part", ["transformer", "tokenizer", "scheduler", "vae", "text_encoder"])
def test_a_missing_folder_is_named(copied, part) -> None:
    (copied / part).unlink() if (copied / part).is_symlink() else shutil.rmtree(copied / part)
    assert part in one_line(copied)


@pytest.mark.parametrize(
    "part", ["transformer/config.json", "scheduler/scheduler_config.json", "model_index.json", "tokenizer/tokenizer.json"]
)
def test_damaged_json_is_named(copied, part) -> None:
    (copied / part).write_text('{"half": ')
    line = one_line(copied)
    assert part.split("/")[0] in line or part in line


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "os.system", None])
def test_a_foreign_pipeline_is_named(copied, kind) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps({**index, "_class_name": kind}))
    assert str(kind) in one_line(copied)


def test_a_part_of_another_library_is_refused(copied) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps({**index, "text_encoder": ["subprocess", "Popen"]}))
    assert "subprocess.Popen" in one_line(copied)


def test_another_latent_space_is_named(copied, tmp_path) -> None:
    from diffusers import AutoencoderKL

    (copied / "vae").unlink()
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=3).save_pretrained(copied / "vae")
    assert "4 latent channels" in one_line(copied)


def test_an_empty_folder(tmp_path) -> None:
    assert "neither model_index.json nor config.json" in one_line(tmp_path)
