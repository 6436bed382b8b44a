"""The distilled set as a file: bytes equal the file's length, the round trip is exact, and every kind of damage is one clear line."""

import hashlib
import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidistill.compress import BASES, CORE_DTYPES, DECOMPOSITIONS, compress, load_distilled, save_distilled
from vidistill.compress.store import FORMAT, seal
from vidistill.errors import InputError

N, SHAPE = 24, (2, 6, 5, 4)
LABELS = torch.arange(N).flip(0) % 5
CLASSES = [f"class {c}" for c in range(5)]
CODEC_TENSORS = {"decoder.weight": torch.arange(30, dtype=torch.int8).view(5, 6), "decoder.scale": torch.rand(5).half()}


def latents() -> torch.Tensor:
    z = torch.randn(N, *SHAPE, generator=torch.Generator().manual_seed(0))
    return z + z.cumsum(2)


def save(path, compressed=None, **changes):
    values = {
        "labels": LABELS,
        "classes": CLASSES,
        "names": [f"v_é_{i:02d}" for i in range(N)],
        "frames": 6,
        "codec_record": {"id": "lab-vae", "fingerprint": "abc", "part": "decoder", "dtype": "int8", "config": {"latent_channels": 4}},
        "codec_tensors": CODEC_TENSORS,
        "protocol": {"frames": 6, "size": 40},
        "meta": {"selector": "dpp", "seed": 3},
    } | changes
    return save_distilled(path, compressed or compress(latents(), LABELS, core_dtype="int8", basis="class"), **values)


@pytest.mark.parametrize("core_dtype", CORE_DTYPES)
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("decomposition", DECOMPOSITIONS)
def test_what_comes_back_is_exactly_what_reconstruct_gave(tmp_path, decomposition, basis, core_dtype):
    path = tmp_path / "distilled.safetensors"
    compressed = compress(latents(), LABELS, decomposition=decomposition, basis=basis, core_dtype=core_dtype)
    size = save(path, compressed)
    back = load_distilled(path)
    assert torch.equal(back.z, compressed.reconstruct())
    assert torch.equal(back.labels, LABELS)
    assert size["total"] == os.path.getsize(path)
    assert {part: size[part] for part in ("core", "factors")} == compressed.bytes
    assert back.bytes == size


def test_labels_classes_names_codec_protocol_and_meta_survive(tmp_path):
    save(tmp_path / "d.safetensors")
    back = load_distilled(tmp_path / "d.safetensors")
    assert back.labels.dtype == torch.int64
    assert back.classes == tuple(CLASSES)
    assert back.names[3] == "v_é_03"
    assert back.frames == 6
    assert back.codec["config"] == {"latent_channels": 4}
    assert back.protocol == {"frames": 6, "size": 40}
    assert (back.meta["selector"], back.meta["seed"], back.meta["compression"]["basis"]) == ("dpp", 3, "class")
    assert back.codec_tensors.keys() == CODEC_TENSORS.keys()
    assert all(torch.equal(back.codec_tensors[name], tensor) for name, tensor in CODEC_TENSORS.items())


def test_every_part_is_counted_to_the_byte(tmp_path):
    path = tmp_path / "d.safetensors"
    size = save(path)
    raw = path.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    assert size["header"] == header
    assert size["labels"] == N  # one byte a label
    assert size["codec"] == 30 + 10
    assert size["total"] == len(raw) == sum(size[part] for part in ("core", "factors", "codec", "labels", "header"))
    entries = json.loads(raw[8:header])
    spans = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in entries.items() if name != "__metadata__"}
    assert spans["core"] == size["core"]
    assert sum(span for name, span in spans.items() if name.startswith(("factor.", "core."))) == size["factors"]


def test_a_file_without_codec_is_smaller_by_the_codec(tmp_path):
    with_codec, without = save(tmp_path / "a.safetensors"), save(tmp_path / "b.safetensors", codec_tensors={})
    assert without["codec"] == 0
    assert with_codec["core"] == without["core"]
    assert load_distilled(tmp_path / "b.safetensors").codec_tensors == {}


@pytest.mark.parametrize(("classes", "itemsize"), [(256, 1), (257, 2), (40_000, 4)])
def test_labels_take_the_smallest_type_that_holds_them(tmp_path, classes, itemsize):
    labels = torch.full((N,), classes - 1)
    path = tmp_path / "d.safetensors"
    size = save(path, compress(latents(), labels, basis="class"), labels=labels, classes=[str(c) for c in range(classes)])
    assert size["labels"] == N * itemsize
    assert torch.equal(load_distilled(path).labels, labels)


def test_the_same_input_gives_the_same_file(tmp_path):
    for name in "ab":
        save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[:-1]}, "23 labels"),
        ({"names": ["one"]}, "1 names"),
        ({"classes": CLASSES[:-1]}, r"labels span 0\.\.4 but there are 4 class names"),
        ({"labels": LABELS - 1}, r"labels span -1\.\.3"),
    ],
)
def test_labels_and_names_must_match(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        save(tmp_path / "d.safetensors", **changes)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            load_distilled(path)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 2000, -1])
def test_a_truncated_file(tmp_path, keep):
    path = tmp_path / "d.safetensors"
    save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="cannot read") as error:
        load_distilled(path)
    assert "\n" not in str(error.value)


def test_every_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "d.safetensors"
    save(path)
    raw = path.read_bytes()
    for at in range(0, len(raw), 97):
        changed = bytearray(raw)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError):
            load_distilled(path)


def test_an_edited_label_or_record_is_called_what_it_is(tmp_path):
    path = tmp_path / "d.safetensors"
    for edit in ("label", "record"):
        save(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        if edit == "label":
            tensors["labels"][0] += 1
        else:
            metadata[FORMAT] = metadata[FORMAT].replace('"seed":3', '"seed":4')
        save_file(tensors, path, metadata)
        with pytest.raises(InputError, match="was changed after it was written"):
            load_distilled(path)


def test_foreign_files(tmp_path):
    (tmp_path / "text").write_text("not a tensor file at all")
    with pytest.raises(InputError, match="cannot read"):
        load_distilled(tmp_path / "text")
    save_file({"core": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="is not a distilled set"):
        load_distilled(tmp_path / "other.safetensors")
    for text in ("", "[]", "{}", "nonsense", '{"version": 1}', '{"version": 1, "record": NaN}'):
        save_file({"core": torch.zeros(2)}, tmp_path / "other.safetensors", {FORMAT: text})
        with pytest.raises(InputError, match="not a valid distilled set"):
            load_distilled(tmp_path / "other.safetensors")


def test_a_newer_version(tmp_path):
    save_file({"core": torch.zeros(2)}, tmp_path / "d", {FORMAT: '{"version": 2, "record": {}}'})
    with pytest.raises(InputError, match=r"format version 2, this vidistill reads 1"):
        load_distilled(tmp_path / "d")


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, record: tensors.pop("core"),
        lambda tensors, record: tensors.pop("labels"),
        lambda tensors, record: tensors.pop("factor.T"),
        lambda tensors, record: tensors.update({"factor.T": torch.zeros(1, 2, 2)}),
        lambda tensors, record: tensors.update(labels=torch.zeros(3, dtype=torch.uint8)),
        lambda tensors, record: record.pop("compression"),
        lambda tensors, record: record["compression"].update(decomposition="magic"),
        lambda tensors, record: record["compression"].update(shape=[1, 2, 3]),
        lambda tensors, record: record.update(names=["one"]),
        lambda tensors, record: record.update(names=None),
    ],
)
def test_a_well_sealed_file_with_wrong_content_is_still_one_line(tmp_path, damage):
    path = tmp_path / "d.safetensors"
    save(path)
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()[FORMAT])["record"]
    tensors = load_file(path)
    damage(tensors, record)
    save_file(tensors, path, {FORMAT: json.dumps({"version": 1, "sha256": seal(tensors, record), "record": record})})
    with pytest.raises(InputError, match="not a valid distilled set") as error:
        load_distilled(path)
    assert "\n" not in str(error.value)


def test_the_seal_covers_names_shapes_and_types():
    x = torch.arange(6, dtype=torch.int8)
    seals = {
        seal({"a": x}, ""),
        seal({"b": x}, ""),
        seal({"a": x.view(2, 3)}, ""),
        seal({"a": x.view(torch.uint8)}, ""),
        seal({"a": x}, " "),
    }
    assert len(seals) == 5
    assert all(len(value) == len(hashlib.sha256().hexdigest()) for value in seals)
