"""Frame features by networks; the networks are small and random, the reading of them is the real one."""

import json

import pytest
import torch
import torch.nn.functional as F

from vidistill.data.world import World
from vidistill.errors import InputError
from vidistill.measure.consistency import frame_consistency
from vidistill.measure.features import load_features
from vidistill.measure.probe import load_probe
from vidistill.shipped import folder as shipped_folder

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32, "patch_size": 8}


def written(tmp_path_factory, make):
    where = tmp_path_factory.mktemp("features")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make().save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import ViTConfig, ViTModel

    return written(tmp_path_factory, lambda: ViTModel(ViTConfig(**SMALL)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
    vision = {**SMALL, "projection_dim": 12}
    config = CLIPConfig(text_config={**text, "projection_dim": 12}, vision_config=vision, projection_dim=12)
    return written(tmp_path_factory, lambda: CLIPModel(config))


def clips(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_lab_probe_is_a_source_of_features():
    video, _ = World(seed=8).clips(range(2))
    torch.testing.assert_close(load_features("lab-probe")(video), load_probe(shipped_folder("lab-probe")).features(video)[1])


def test_dino_sees_the_whole_frame_and_answers_with_its_class_token(dino):
    from transformers import ViTModel

    net = ViTModel.from_pretrained(dino, add_pooling_layer=False).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    features = load_features(dino)
    for height, width, size in ((20, 20, (32, 32)), (24, 36, (32, 48))):
        video = clips(2, 3, 5, height, width)
        frames = video.transpose(1, 2).flatten(0, 1).float()
        x = (F.interpolate(frames, size, mode="bilinear") / 255 - mean) / std
        with torch.inference_mode():
            expected = net(pixel_values=x, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        found = features(video)
        assert found.shape == (2, 5, 16)
        torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)
        assert 0 <= frame_consistency(found).min() <= frame_consistency(found).max() <= 1


def test_clip_sees_the_middle_square_and_answers_with_its_embedding(clip):
    from transformers import CLIPModel

    net = CLIPModel.from_pretrained(clip).eval()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    video = clips(2, 3, 3, 40, 20)
    frames = F.interpolate(video.transpose(1, 2).flatten(0, 1).float(), (64, 32), mode="bicubic")[..., 16:48, :]
    with torch.inference_mode():
        inner = net.vision_model(pixel_values=(frames / 255 - mean) / std).pooler_output
        expected = net.visual_projection(inner)
    found = load_features(clip)(video)
    assert found.shape == (2, 3, 12)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_what_gives_no_features_is_one_line(tmp_path, dino):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_features(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match=r"holds bert, which gives no frame features"):
        load_features(tmp_path)
    (tmp_path / "config.json").write_text((dino / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle that nobody opens")
    with pytest.raises(InputError, match="cannot load frame features") as error:
        load_features(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="needs uint8 RGB clips"):
        load_features(dino)(torch.zeros(1, 3, 4, 32, 32))
