"""Prompts: a world's captions with their truth, a folder's class names, a file; always as many as can be had, evenly spread."""

from __future__ import annotations

import json

import pytest

from vidistill.data import (
    captions_of,
    describe_prompts,
    list_clips,
    open_videos,
    prompts_of,
    read_captions,
    read_prompts,
    world_captions,
)
from vidistill.data.world import factors, write_world
from vidistill.errors import InputError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=5, per_class_train=2, per_class_test=2, frames=4, size=32, classes=("slide", "spin", "orbit"))
    return folder


def test_captions_come_with_what_they_say(world) -> None:
    prompts, wanted = prompts_of(open_videos(world), 6)
    assert wanted is not None
    assert prompts == [row.caption() for row in wanted]
    assert [row.motion for row in wanted] == ["orbit", "slide", "spin"] * 2  # every test clip, the classes in turn
    assert wanted[1] == factors(5, 2 * 12 + 0, motion="slide")  # the first test clip of slide


def test_few_begin_as_many_do_and_many_go_on_with_the_training_clips(world) -> None:
    videos = open_videos(world)
    three, _ = prompts_of(videos, 3)
    assert ["orbiting" in three[0], "sliding" in three[1], "spinning" in three[2]] == [True, True, True]
    every, wanted = prompts_of(videos, 100)
    assert wanted is not None
    assert len(every) == len({row.texture for row in wanted}) == 12
    for count in (1, 3, 6, 8):
        assert every[:count] == prompts_of(videos, count)[0]


def test_other_folders_have_the_names_of_their_classes(world, tmp_path) -> None:
    for name in ("videos", "classInd.txt", "trainlist01.txt", "testlist01.txt"):
        (tmp_path / name).symlink_to(world / name)
    prompts, wanted = prompts_of(open_videos(tmp_path), 5)
    assert (prompts, wanted) == (["orbit", "slide", "spin", "orbit", "slide"], None)


def test_a_damaged_file_of_factors_is_one_line(world, tmp_path) -> None:
    for name in ("videos", "classInd.txt", "trainlist01.txt", "testlist01.txt"):
        (tmp_path / name).symlink_to(world / name)
    held = json.loads((world / "factors.json").read_text())
    for broken in ([], {"clips": {}}, {"clips": {name: {"motion": "slide"} for name in held["clips"]}}):
        (tmp_path / "factors.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match="does not hold the factors"):
            prompts_of(open_videos(tmp_path), 3)


def test_a_file_of_prompts(tmp_path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n\n  a jaguar driving \n")
    assert read_prompts(path, 9) == ["a cat", "a jaguar driving"]
    assert read_prompts(path, 1) == ["a cat"]
    path.write_text("\n\n")
    with pytest.raises(InputError, match="holds no prompt"):
        read_prompts(path, 1)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read prompts"):
        read_prompts(path, 1)
    with pytest.raises(InputError, match=r"cannot read prompts from .*none\.txt: No such file"):
        read_prompts(tmp_path / "none.txt", 1)


def test_what_was_read_is_told(world) -> None:
    found = describe_prompts(open_videos(world), ["a", "b"])
    assert (found["root"], found["prompts"], found["train"], found["test"], found["skipped"]) == (str(world), 2, 0, 0, [])
    assert describe_prompts(open_videos(world), ["a"], "prompts.txt")["root"] == "prompts.txt"


def test_clips_of_a_folder_and_what_a_file_says_of_them(world, tmp_path) -> None:
    items = list_clips(world)
    assert [item.path for item in items] == sorted(world.rglob("*.mp4"))
    names = [item.path.name for item in items]
    rows = [{"video": name, "prompt": f"clip {name}"} for name in names]
    files = {
        "a.csv": "\n".join(["video,prompt", *(f"{name},clip {name}" for name in names)]),
        "b.json": json.dumps([{"path": name, "cap": [f"clip {name}", "another"]} for name in names]),  # FastVideo's
        "c.json": json.dumps({str(item.path.relative_to(world)): f"clip {item.path.name}" for item in items}),
        "d.jsonl": "\n".join(json.dumps(row) for row in rows),
        "e.json": json.dumps({item.path.stem: f"clip {item.path.name}" for item in items}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert captions_of(items, world, read_captions(tmp_path / name), name) == [f"clip {name}" for name in names]
    said = world_captions(items, world)
    assert all(motion in text for motion, text in zip(("orbiting", "sliding", "spinning"), (said[0], said[4], said[8]), strict=True))


def test_captions_that_cannot_be_read_are_one_line(world, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("video,prompt\nx.mp4,\n")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.jsonl").write_text('{"video": "x.mp4"\n')
    (tmp_path / "d.csv").write_text("name,words\nx.mp4,something\n")
    for name, line in (
        ("a.csv", "row 1 has no caption"),
        ("b.json", "holds no captions"),
        ("c.jsonl", "is not a file of captions"),
        ("d.csv", r"row 1 has no caption \(prompt, caption, cap, text\)"),
        ("e.txt", "unknown kind of caption file '.txt'"),
        ("f.csv", "cannot read captions from"),
    ):
        with pytest.raises(InputError, match=line):
            read_captions(tmp_path / name)
    items = list_clips(world)
    with pytest.raises(InputError, match=r"has no caption in some.csv \(11 of 12 clips have none\)"):
        captions_of(items, world, {items[0].path.stem: "one"}, "some.csv")
    for place, line in ((tmp_path / "none", "does not exist"), (tmp_path / "a.csv", "is not a folder"), (tmp_path, "holds no video")):
        with pytest.raises(InputError, match=line):
            list_clips(place)
