"""Teachers say their own classes in the data set's order, whatever the names look like; what does not fit is one line."""

from __future__ import annotations

import json

import pytest
import torch

from vidistill.data.world import MOTIONS, World, class_name
from vidistill.errors import InputError
from vidistill.measure.probe import load_probe
from vidistill.measure.teacher import load_teacher, match
from vidistill.shipped import folder as shipped_folder

NAMES = ["Apply Eye Makeup", "biking", "dunk_shot", "TaiChi"]


@pytest.fixture(scope="module")
def videomae(tmp_path_factory):
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    where = tmp_path_factory.mktemp("teacher")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = VideoMAEConfig(image_size=32, patch_size=8, num_frames=8, id2label=dict(enumerate(NAMES)), **small)
        VideoMAEForVideoClassification(config).save_pretrained(where)
    return where


def test_lab_probe_knows_the_world_by_its_folder_names() -> None:
    classes = [class_name(motion) for motion in MOTIONS][::-1]  # "Zigzag", ..., not in the probe's order
    teacher = load_teacher("lab-probe", classes)
    video, records = World(seed=8).clips(range(12))
    logits = teacher.logits(video)
    own = load_probe(shipped_folder("lab-probe")).logits(video)["motion"]
    torch.testing.assert_close(logits, own.flip(1))
    said = [classes[i] for i in logits.argmax(1).tolist()]
    assert said == [class_name(record.motion) for record in records]


def test_a_probe_head_is_found_by_the_classes() -> None:
    teacher = load_teacher("lab-probe", ["Red", "blue"])
    video, _ = World(seed=8, colour="blue").clips(range(2))
    assert teacher.logits(video).shape == (2, 2)
    assert teacher.logits(video).argmax(1).tolist() == [1, 1]


def test_videomae_answers_in_the_data_sets_order(videomae) -> None:
    from transformers import VideoMAEForVideoClassification

    classes = ["tai-chi", "Biking"]
    video = torch.randint(0, 256, (3, 3, 16, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = VideoMAEForVideoClassification.from_pretrained(videomae).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(1, 1, 3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(1, 1, 3, 1, 1)
    frames = torch.linspace(0, 15, 8).round().long()
    with torch.inference_mode():
        expected = net(pixel_values=(video[:, :, frames].transpose(1, 2) / 255 - mean) / std).logits[:, [3, 1]]
    torch.testing.assert_close(load_teacher(videomae, classes).logits(video), expected, rtol=1e-4, atol=1e-5)
    small = torch.randint(0, 256, (5, 3, 4, 20, 20), dtype=torch.uint8)  # fewer frames, another size
    assert load_teacher(videomae, classes).logits(small).shape == (5, 2)


def test_classes_that_are_not_known_are_named() -> None:
    assert match(["b a", "C"], ["c", "B-A"], "x") == (1, 0)
    with pytest.raises(InputError, match=r"teacher lab-probe does not know 1 of the 2 classes, e.g. 'Juggle'"):
        load_teacher("lab-probe", ["Slide", "Juggle"])


def test_what_is_no_teacher_is_one_line(tmp_path, videomae) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_teacher(tmp_path, ["a"])
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    with pytest.raises(InputError, match=r"holds \['BertModel'\], which is no teacher"):
        load_teacher(tmp_path, ["a"])
    (tmp_path / "config.json").write_text((videomae / "config.json").read_text())
    with pytest.raises(InputError, match="cannot load teacher"):
        load_teacher(tmp_path, ["biking"])
    with pytest.raises(InputError, match="expects uint8 clips"):
        load_teacher(videomae, ["biking"]).logits(torch.zeros(1, 3, 8, 32, 32))
