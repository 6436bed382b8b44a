"""lab-probe: shapes, independence of rows, round trip through its folder, bad folders in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vidistill.data.world import FACTORS, World
from vidistill.errors import InputError
from vidistill.measure.probe import HEADS, PER_FRAME, Probe, load_probe, new_network
from vidistill.weights import write_network

TINY: dict[str, Any] = {"channels": (8, 16), "maps": 2, "width": 16, "blocks": 1}


def tiny() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return new_network(**TINY)


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return World(seed=3).clips(range(3), frames=6, size=32)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_network(tiny(), tmp_path / "probe")
    return tmp_path / "probe"


def test_shapes_and_names(video: torch.Tensor) -> None:
    probe = Probe(tiny())
    assert probe.factors == {name: FACTORS[name] for name in HEADS}
    assert [len(values) for values in probe.factors.values()] == [12, 6, 8, 6]
    logits, frames, predicted = probe.logits(video), probe.frame_logits(video), probe.predict(video)
    assert {name: tuple(x.shape) for name, x in logits.items()} == {name: (3, len(FACTORS[name])) for name in HEADS}
    assert {name: tuple(x.shape) for name, x in frames.items()} == {name: (3, 6, len(FACTORS[name])) for name in PER_FRAME}
    clip, frame = probe.features(video)
    assert clip.shape == (3, TINY["width"])
    assert frame.shape == (3, 6, TINY["width"])
    assert all(x.dtype == torch.float32 and not x.requires_grad for x in (*logits.values(), *frames.values(), clip, frame))
    for name in HEADS:
        assert predicted[name].dtype == torch.int64
        assert torch.equal(predicted[name], logits[name].argmax(1))


def test_a_clip_is_judged_alone(video: torch.Tensor) -> None:
    probe, other = Probe(tiny()), video.clone()
    other[[0, 2]] = 255 - other[[0, 2]]
    for x, y in ((probe.logits(video)[name], probe.logits(other)[name]) for name in HEADS):
        assert torch.equal(x[1], y[1])
        assert not torch.equal(x[0], y[0])
    alone = [probe.features(video[b : b + 1]) for b in range(3)]
    for together, parts in zip(probe.features(video), zip(*alone, strict=True), strict=True):
        assert torch.equal(together, torch.cat(parts))


def test_a_frame_is_judged_alone(video: torch.Tensor) -> None:
    probe, other = Probe(tiny()), video.clone()
    other[:, :, 0] = 0
    for x, y in ((probe.frame_logits(video)[name], probe.frame_logits(other)[name]) for name in PER_FRAME):
        torch.testing.assert_close(x[:, 1:], y[:, 1:])
        assert not torch.allclose(x[:, 0], y[:, 0])


def test_the_order_of_frames_matters(video: torch.Tensor) -> None:
    probe = Probe(tiny())
    assert not torch.allclose(probe.logits(video)["motion"], probe.logits(video.flip(2))["motion"])


def test_one_frame_is_enough_for_an_answer(video: torch.Tensor) -> None:
    assert all(bool(x.isfinite().all()) for x in Probe(tiny()).logits(video[:, :, :1]).values())


def test_full_size() -> None:
    network = new_network()
    assert sum(p.numel() for p in network.parameters()) <= 1_000_000
    out = network(World(seed=3).clips(range(1), frames=16, size=64)[0])
    assert out.where.shape == (1, 16, 5, network.config["maps"])


def test_every_weight_learns(video: torch.Tensor) -> None:
    network = tiny()
    out = network(video)
    sum(x.square().sum() for x in (*out.logits.values(), *out.frame_logits.values(), out.where)).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_where_is_where(video: torch.Tensor) -> None:
    """A map that looks for bright cells finds the bright cell, in the world's coordinates, and says how wide it is."""
    eye = tiny().eye
    with torch.no_grad():
        for p in eye.parameters():
            p.zero_()
        eye.stem.weight[0] = 1.0
        eye.norm.weight[:], eye.norm.bias[:] = 1.0, 0.0
        eye.fine_maps.weight[0, 0] = 50.0
    frame = torch.full((1, 3, 64, 64), -1.0)
    frame[:, :, 40:44, 8:12] = 1.0  # cell (row 10, column 2) of 16 x 16
    where = eye(frame)[0].unflatten(1, (5, -1))[0, :, 0]
    assert where[0].item() == pytest.approx((2 + 0.5) / 8 - 1, abs=0.05)
    assert where[1].item() == pytest.approx((10 + 0.5) / 8 - 1, abs=0.05)
    assert where[2:4].max() < 0.15


def test_round_trip_keeps_every_bit_of_fp16(video: torch.Tensor, folder: Path, tmp_path: Path) -> None:
    probe = load_probe(folder)
    half = {name: tensor.half() for name, tensor in tiny().state_dict().items()}
    loaded = probe.network.state_dict()
    assert loaded.keys() == half.keys()
    assert all(loaded[name].dtype == torch.float32 and torch.equal(loaded[name].half(), half[name]) for name in half)
    network = tiny()
    network.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    for x, y in zip(probe.features(video), Probe(network).features(video), strict=True):
        assert torch.equal(x, y)
    write_network(probe.network, tmp_path / "again")
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()
    assert json.loads((folder / "config.json").read_text())["factors"]["motion"] == list(FACTORS["motion"])
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert size < 2.2 * sum(t.numel() for t in half.values()) + 8_000


def test_the_zoo_knows_it(folder: Path) -> None:
    from vidistill import zoo

    assert isinstance(zoo.load(folder), Probe)


def _config(folder: Path, **change: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def _drop(folder: Path) -> None:
    from vidistill.files import load_tensors, save_tensors

    path = folder / "diffusion_pytorch_model.safetensors"
    tensors, metadata = load_tensors(path)
    tensors.pop("eye.stem.weight")
    save_tensors(path, tensors, metadata)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


BAD: dict[str, Any] = {
    "missing": shutil.rmtree,
    "no config": lambda folder: (folder / "config.json").unlink(),
    "broken config": lambda folder: (folder / "config.json").write_text("{"),
    "a list": lambda folder: (folder / "config.json").write_text("[]"),
    "foreign": lambda folder: _config(folder, _class_name="AutoencoderKL"),
    "nonsense": lambda folder: _config(folder, factors="motion"),
    "other width": lambda folder: _config(folder, width=32),
    "no weights": lambda folder: (folder / "diffusion_pytorch_model.safetensors").unlink(),
    "truncated": lambda folder: _cut(folder / "diffusion_pytorch_model.safetensors"),
    "a weight is missing": _drop,
    "a weight too many": lambda folder: _config(folder, factors={"motion": list(FACTORS["motion"])}),
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_folders_in_one_line(folder: Path, damage: str) -> None:
    BAD[damage](folder)
    with pytest.raises(InputError) as caught:
        load_probe(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(1, 3, 4, 32, 32),
        torch.zeros(3, 4, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 32, 40, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 36, 36, dtype=torch.uint8),
        torch.zeros(1, 3, 0, 32, 32, dtype=torch.uint8),
        torch.zeros(0, 3, 4, 32, 32, dtype=torch.uint8),
    ],
    ids=lambda x: f"{x.dtype}-{tuple(x.shape)}",
)
def test_bad_clips_in_one_line(bad: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"uint8 clips \[B, 3, T, S, S\]"):
        Probe(tiny()).logits(bad)


def test_import_is_light() -> None:
    code = "import sys, vidistill.measure.probe; print([name for name in ('diffusers', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
