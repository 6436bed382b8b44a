"""open_videos: the official split files, their published counts, and one clear line for everything that does not fit."""

from __future__ import annotations

import csv
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from vidistill.data import LAYOUTS, MINIUCF, inspect, open_videos, spoken
from vidistill.data.layouts import group_of
from vidistill.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def spread(total: int, low: int, high: int, names: list[str], seed: int) -> dict[str, int]:
    """Return whole numbers in [low, high] that add up to ``total``."""
    draw, counts = random.Random(seed), dict.fromkeys(names, low)
    for _ in range(total - low * len(names)):
        counts[draw.choice([name for name in names if counts[name] < high])] += 1
    return counts


def write_ucf(root: Path, classes: dict[str, tuple[int, int]], lists: str = "ucfTrainTestlist", videos: str = "videos") -> Path:
    """Write UCF101's files: classes as {name: (train clips, test clips)}; groups g01 .. g07 are for testing, as in split 1."""
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for label, (name, counts) in enumerate(sorted(classes.items()), 1):
        (root / videos / name).mkdir(parents=True)
        for side, count, first, groups in (("train", counts[0], 8, 18), ("test", counts[1], 1, 7)):
            for i in range(count):
                file = f"v_{name}_g{first + i % groups:02d}_c{i // groups + 1:02d}.avi"
                os.close(os.open(root / videos / name / file, os.O_CREAT))
                sides[side].append(f"{name}/{file}" + (f" {label}" if side == "train" else ""))
    (root / lists).mkdir(exist_ok=True)
    (root / lists / "classInd.txt").write_text("".join(f"{i} {name}\r\n" for i, name in enumerate(sorted(classes), 1)))
    for side, rows in sides.items():
        (root / lists / f"{side}list01.txt").write_text("\r\n".join(rows) + "\r\n")
    return root


def write_hmdb(root: Path, marks: dict[str, dict[str, int]]) -> Path:
    """Write HMDB51's files: {class: {mark: clips}}, marks "1" (train), "2" (test), "0" (neither)."""
    (root / "testTrainMulti_7030_splits").mkdir(parents=True)
    for name, counts in marks.items():
        (root / name).mkdir()
        rows = []
        for mark, count in counts.items():
            for i in range(count):
                file = f"Film{mark}_{i}_{name}_f_cm_np1_fr_med_{i % 5}.avi"
                os.close(os.open(root / name / file, os.O_CREAT))
                rows.append(f"{file} {mark} \n")
        (root / "testTrainMulti_7030_splits" / f"{name}_test_split1.txt").write_text("".join(rows))
    return root


# --- published counts ---------------------------------------------------------------------------------------------------------------------


def test_miniucf_has_the_published_counts(tmp_path):
    """Specification 3.1: UCF101 split 1 is 9,537 / 3,783 in 101 classes, MiniUCF 4,662 / 1,861 in 50 (72-121 and 28-49 a class)."""
    others = [f"Other{i:02d}" for i in range(51)]
    train = spread(4662, 72, 121, list(MINIUCF), 0) | spread(9537 - 4662, 72, 121, others, 1)
    test = spread(1861, 28, 49, list(MINIUCF), 2) | spread(3783 - 1861, 28, 49, others, 3)
    root = write_ucf(tmp_path, {name: (train[name], test[name]) for name in train})
    whole = open_videos(root)
    assert (len(whole.classes), len(whole.train), len(whole.test)) == (101, 9537, 3783)
    mini = open_videos(root, subset="miniucf")
    assert (len(mini.classes), len(mini.train), len(mini.test)) == (50, 4662, 1861)
    assert mini.classes == MINIUCF
    assert Counter(mini.classes[item.label] for item in mini.train) == {name: train[name] for name in MINIUCF}
    assert {item.group for item in mini.test} == {f"g{i:02d}" for i in range(1, 8)}
    assert not {(item.label, item.group) for item in mini.train} & {(item.label, item.group) for item in mini.test}


def test_miniucf_names():
    assert len(MINIUCF) == len(set(MINIUCF)) == 50
    assert list(MINIUCF) == sorted(MINIUCF)


def test_hmdb51_has_the_published_counts_in_both_readings(tmp_path):
    """6,766 clips: official split 1 is 70 / 30 in each of 51 classes (3,570 / 1,530); LVDD trains on all that is not test (5,236)."""
    names = ["catch", "kiss", "smile", "throw", "walk", *(f"action_{i:02d}" for i in range(46))]
    unused = dict.fromkeys(names[:4], 2) | {"walk": 448} | spread(5236 - 4 * 72 - 518 - 46 * 70, 3, 60, names[5:], 0)
    root = write_hmdb(tmp_path, {name: {"1": 70, "2": 30, "0": unused[name]} for name in names})
    official, lvdd = open_videos(root, "hmdb51"), open_videos(root, "hmdb51", unused="train")
    assert (len(official.classes), len(official.train), len(official.test)) == (51, 3570, 1530)
    assert (len(lvdd.classes), len(lvdd.train), len(lvdd.test)) == (51, 5236, 1530)
    counts = Counter(lvdd.classes[item.label] for item in lvdd.train)
    assert (min(counts.values()), counts["walk"], max(counts.values())) == (72, 518, 518)
    assert official.classes == tuple(sorted(names))


# --- layouts ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lists", ["ucfTrainTestlist", "."])
@pytest.mark.parametrize("videos", ["videos", "UCF-101", "."])
def test_ucf101_wherever_its_parts_lie(tmp_path, lists, videos):
    root = write_ucf(tmp_path, {"Walk": (3, 1), "Biking": (2, 2)}, lists, videos)
    videos_found = open_videos(root)
    assert videos_found.classes == ("Biking", "Walk")
    first = videos_found.train[0]
    assert (first.name, first.label, first.group) == ("Biking/v_Biking_g08_c01", 0, "g08")
    assert first.path == root / videos / "Biking" / "v_Biking_g08_c01.avi"
    assert [item.label for item in videos_found.test] == [0, 0, 1]


def test_ucf101_finds_converted_files_and_names_with_blanks(tmp_path):
    touch(tmp_path / "videos/A/one two.mp4")
    touch(tmp_path / "videos/A/three.mp4")
    (tmp_path / "trainlist01.txt").write_text("A/one two.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("A/three.avi\n")
    assert open_videos(tmp_path).train[0].path.name == "one two.mp4"


def test_kinetics_accepts_val_and_validate(tmp_path):
    for side, name in (("val", "val.csv"), ("validate", "validate.csv")):
        root = tmp_path / side
        for split, file, ids in (("train", "train.csv", ("aaa", "bb-b", "ccc")), (side, name, ("ddd", "eee"))):
            root.mkdir(exist_ok=True)
            with open(root / file, "w", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
                for i, video in enumerate(ids):
                    label = ("air drumming", "yoga")[i % 2]
                    writer.writerow([label, video, i, i + 10, split])
                    folder = root / split if i else root / split / label.replace(" ", "_")
                    touch(folder / f"{video}_{i:06d}_{i + 10:06d}.mp4")
        videos = open_videos(root, "kinetics")
        assert videos.classes == ("air drumming", "yoga")
        assert [item.name for item in videos.train] == [
            "air drumming/aaa_000000_000010",
            "air drumming/ccc_000002_000012",
            "yoga/bb-b_000001_000011",
        ]
        assert len(videos.test) == 2


def write_ssv2(root: Path) -> Path:
    (root / "something-something-v2-labels.json").write_text(json.dumps({"Holding something": "1", "Pushing something to left": "0"}))
    entry = {"10": "Holding [something]", "11": "Pushing [something] to left", "12": "Holding [something]"}
    rows = [{"id": key, "label": "holding a cup", "template": value, "placeholders": ["a cup"]} for key, value in entry.items()]
    (root / "something-something-v2-train.json").write_text(json.dumps(rows[:2]))
    (root / "something-something-v2-validation.json").write_text(json.dumps(rows[2:]))
    for key in entry:
        touch(root / "20bn-something-something-v2" / f"{key}.webm")
    return root


def test_ssv2_takes_the_numbers_of_its_labels_file(tmp_path):
    videos = open_videos(write_ssv2(tmp_path), "ssv2")
    assert videos.classes == ("pushing something to left", "holding something")  # by number, not by name
    assert [(item.name, item.label) for item in videos.train] == [("11", 0), ("10", 1)]
    assert [(item.name, item.label) for item in videos.test] == [("12", 1)]


def test_folder_with_two_sides(tmp_path):
    for name in ("train/b/1.mp4", "train/a/2.mp4", "val/a/3.mp4", "train/a/notes.txt", "train/.cache/x.mp4"):
        touch(tmp_path / name)
    videos = open_videos(tmp_path, "folder")
    assert videos.classes == ("a", "b")
    assert [item.name for item in videos.train] == ["a/2", "b/1"]
    assert [item.name for item in videos.test] == ["a/3"]


def test_folder_without_sides_holds_out_a_fifth_of_whole_groups(tmp_path):
    for name in ("Run", "Sit"):
        for group in range(1, 21):
            for clip in range(1, 5):
                touch(tmp_path / name / f"v_{name}_g{group:02d}_c{clip:02d}.mp4")
    for i in range(20):
        touch(tmp_path / "Plain" / f"clip_{i}.mp4")
    videos = open_videos(tmp_path, "folder")
    counts = Counter(item.label for item in videos.test)
    assert counts == {0: 4, 1: 16, 2: 16}
    sides = [{(item.label, item.group) for item in side if item.group} for side in (videos.train, videos.test)]
    assert sides[0]
    assert not sides[0] & sides[1]
    assert open_videos(tmp_path, "folder") == videos
    assert {item.group for item in videos.test if item.label == 1} != {item.group for item in videos.test if item.label == 2}


@pytest.mark.parametrize(
    ("stem", "group"),
    [
        ("v_ApplyEyeMakeup_g07_c02", "g07"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_2", "April_09_brush_hair"),
        ("Brushing_my_hair_-_December_2008_brush_hair_u_cm_np1_ba_goo_1", "Brushing_my_hair_-_December_2008_brush_hair"),
        ("clip_001", ""),
    ],
)
def test_group_is_the_source_video(stem, group):
    assert group_of(stem) == group


# --- bad input ----------------------------------------------------------------------------------------------------------------------------


def fails(match: str, *args, **kwargs) -> None:
    with pytest.raises(InputError, match=match) as caught:
        open_videos(*args, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.fixture
def ucf(tmp_path):
    return write_ucf(tmp_path, {"Biking": (6, 3), "Walk": (4, 2)})


def test_unknown_layout_names_the_nearest(ucf):
    fails("unknown layout 'ucf11': did you mean 'ucf101'", ucf, "ucf11")


def test_missing_root(tmp_path):
    for layout in LAYOUTS:
        fails("does not exist", tmp_path / "nowhere", layout)
    fails("is not a folder", touch(tmp_path / "file"), "folder")


def test_missing_split_file(ucf, tmp_path):
    fails("lacks the split file .*trainlist02.txt", ucf, split=2)
    empty = tmp_path / "empty"
    empty.mkdir()
    fails("no split file", empty, "hmdb51")
    fails("train.csv", empty, "kinetics")
    fails("labels.json", empty, "ssv2")


def test_split_out_of_range(ucf):
    fails("split 4 is out of range for layout ucf101: allowed: 1, 2, 3", ucf, split=4)
    fails("split 2 is out of range for layout folder: allowed: 1", ucf, "folder", 2)


def test_subsets(ucf):
    fails("unknown subset 'mini': .*allowed: miniucf", ucf, subset="mini")
    fails("part of ucf101", ucf, "hmdb51", subset="miniucf")
    fails("lacks 49 of them: ApplyEyeMakeup, BalanceBeam, BandMarching, ...", ucf, subset="miniucf")


def test_class_without_clips(ucf, tmp_path):
    index = ucf / "ucfTrainTestlist/classInd.txt"
    index.write_text(index.read_text() + "3 Yoga\n")
    fails("1 of 3 classes have no training clips .*Yoga", ucf)
    for name in ("a/1.mp4", "a/2.mp4", "b/notes.txt"):
        touch(tmp_path / "folders" / name)
    fails("1 of 2 classes have no training clips .*b", tmp_path / "folders", "folder")


def test_split_that_names_missing_files(ucf):
    gone = [path for pattern in ("Biking/*_g0[89]_*", "Walk/*_g08*", "Walk/*_g1*") for path in (ucf / "videos").glob(pattern)]
    for path in gone:
        path.unlink()
    first = "Biking/v_Biking_g08_c01, Biking/v_Biking_g09_c01, Walk/v_Walk_g08_c01, [.]"
    fails(f"train list of split 1 names {len(gone)} of 10 videos .*: {first}", ucf)


def test_lists_that_make_no_sense(ucf, tmp_path):
    path = ucf / "ucfTrainTestlist/trainlist01.txt"
    good = path.read_text()
    path.write_text(good + "nonsense\n")
    fails("trainlist01.txt line 11: 'nonsense' is not of the form", ucf)
    path.write_text(good + "Bikin/v_Bikin_g08_c01.avi 1\n")
    fails("class 'Bikin', which .*did you mean 'Biking'", ucf)
    hmdb = write_hmdb(tmp_path / "hmdb", {"run": {"1": 2, "2": 1}})
    (hmdb / "testTrainMulti_7030_splits/run_test_split1.txt").write_text("Film.avi 5\n")
    fails("must end in 0", hmdb, "hmdb51")


def test_one_sided_folder(tmp_path):
    touch(tmp_path / "train/a/1.mp4")
    fails("only one side", tmp_path, "folder")


# --- inspect and the real clips -----------------------------------------------------------------------------------------------------------


def test_inspect_counts_and_lists_bad_files(tmp_path, write_video):
    for i, frames in enumerate((20, 30, 40)):
        write_video(tmp_path / f"train/a/{i}.mp4", frames)
        write_video(tmp_path / f"train/b/{i}.mp4", 16)
    write_video(tmp_path / "test/a/0.mp4", 10)
    (tmp_path / "test/b").mkdir()
    (tmp_path / "test/b/0.mp4").touch()
    calls = []
    found = inspect(open_videos(tmp_path, "folder"), workers=2, progress=lambda *call: calls.append(call))
    assert found["classes"] == [{"name": "a", "train": 3, "test": 1}, {"name": "b", "train": 3, "test": 1}]
    assert found["clips"] == {"train": 6, "test": 2}
    assert found["frames"] == {"min": 10, "median": 16, "max": 40}
    assert [(bad["name"], bad["side"]) for bad in found["bad"]] == [("b/0", "test")]
    assert "empty" in found["bad"][0]["reason"]
    assert calls[-1] == ("inspect", 8, 8)
    json.dumps(found)


@pytest.mark.data
@pytest.mark.skipif("VIDISTILL_DATA" not in os.environ, reason="needs the folder with jhmdb-21 in VIDISTILL_DATA")
@pytest.mark.parametrize(("split", "train", "test"), [(1, 671, 257), (2, 509, 250), (3, 517, 241)])
def test_jhmdb_opens_as_ucf101(split, train, test):
    videos = open_videos(Path(os.environ["VIDISTILL_DATA"]) / "jhmdb-21", split=split)
    assert (len(videos.classes), len(videos.train), len(videos.test)) == (21, train, test)
    sides = [{(item.label, item.group) for item in side} for side in (videos.train, videos.test)]
    assert not sides[0] & sides[1]  # within a class no film is on both sides
    assert all(item.group for item in videos.train)


def test_class_names_become_words():
    names = ("ApplyEyeMakeup", "brush_hair", "pan-left", "Slide", "pick  up")
    assert [spoken(name) for name in names] == ["apply eye makeup", "brush hair", "pan-left", "slide", "pick up"]
