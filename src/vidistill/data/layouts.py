"""Folders of videos become lists of (file, class, side): UCF101, HMDB51, Kinetics, Something-Something V2 and plain folders.

The official split files decide; a folder's listing is read once per class and no video is opened. The class index is the rank in
the sorted class names (Something-Something: the number in its labels file), as in LVDD's code (specification 3).
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidistill.data.clips import inspect_files, pick_backend
from vidistill.errors import InputError, choose, nearest
from vidistill.files import load_json
from vidistill.types import Progress, silent

LAYOUTS = ("ucf101", "hmdb51", "kinetics", "ssv2", "folder")
SPLITS = {"ucf101": 3, "hmdb51": 3}
SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".flv")

# the 50 classes of LVDD's ucf50_splits1.csv; not UCF50, and not the 50 largest classes (specification 3.1)
# fmt: off
MINIUCF = (
    "ApplyEyeMakeup", "BalanceBeam", "BandMarching", "BaseballPitch", "Basketball", "BasketballDunk", "Biking", "Billiards",
    "BlowingCandles", "Bowling", "BreastStroke", "CleanAndJerk", "CliffDiving", "CricketShot", "Diving", "FloorGymnastics",
    "FrisbeeCatch", "GolfSwing", "HammerThrow", "HighJump", "HorseRace", "HorseRiding", "HulaHoop", "IceDancing", "JumpingJack",
    "Knitting", "MilitaryParade", "Mixing", "ParallelBars", "PlayingPiano", "PlayingViolin", "PoleVault", "PommelHorse", "Punch",
    "Rafting", "Rowing", "SkateBoarding", "Skiing", "Skijet", "SkyDiving", "SoccerPenalty", "StillRings", "SumoWrestling", "Surfing",
    "Swing", "TennisSwing", "TrampolineJumping", "UnevenBars", "VolleyballSpiking", "WritingOnBoard",
)
# fmt: on
SUBSETS = {"miniucf": MINIUCF}


@dataclass(frozen=True)
class Item:
    """One video: ``name`` is ``class/stem`` (``stem`` for ssv2), ``group`` the source video it was cut from, or ""."""

    path: Path
    name: str
    label: int
    group: str = ""


@dataclass(frozen=True)
class VideoSet:
    """A labelled set of video files with its two sides."""

    root: Path
    layout: str
    split: int
    classes: tuple[str, ...]
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def open_videos(root: str | Path, layout: str = "ucf101", split: int = 1, subset: str | None = None, *, unused: str = "skip") -> VideoSet:
    """List the videos of a data set by its official split files. No video is opened.

    Args:
        root: the data set's folder.
        layout: one of :data:`LAYOUTS`; the room's README shows the files that each one wants.
        split: 1, 2 or 3 for ucf101 and hmdb51, else 1.
        subset: ``"miniucf"`` keeps LVDD's 50 classes of ucf101.
        unused: what to do with HMDB51's clips that a split marks 0 (in neither side): ``"skip"`` (official: 3,570 / 1,530 clips) or
            ``"train"`` (LVDD: 5,236 / 1,530).

    Returns:
        The set; items in the order of classes, then names.

    Raises:
        InputError: unknown layout, subset or split; a missing folder, split file or video; a class without clips.
    """
    root = Path(root)
    choose("layout", layout, LAYOUTS)
    choose("unused", unused, ("skip", "train"))
    if subset is not None:
        choose("subset", subset, SUBSETS)
        if layout != "ucf101":
            raise InputError(f"subset {subset!r} is a part of ucf101, not of layout {layout!r}")
    if not 1 <= split <= SPLITS.get(layout, 1):
        allowed = ", ".join(str(n) for n in range(1, SPLITS.get(layout, 1) + 1))
        raise InputError(f"split {split} is out of range for layout {layout}: allowed: {allowed}")
    if not root.is_dir():
        raise InputError(
            f"data folder {root} {'is not a folder' if root.exists() else 'does not exist'}; give the folder that holds the videos"
        )
    if layout == "ucf101":
        listing = _ucf101(root, split, SUBSETS.get(subset or ""))
    elif layout == "hmdb51":
        listing = _hmdb51(root, split, unused)
    else:
        listing = {"kinetics": _kinetics, "ssv2": _ssv2, "folder": _folder}[layout](root)
    return _checked(root, layout, split, listing)


def list_clips(root: str | Path) -> tuple[Item, ...]:
    """List every video of a folder and its subfolders, unlabelled (label 0), in the order of their paths. No video is opened.

    Raises:
        InputError: there is no such folder, or no video in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"data folder {root} {'is not a folder' if root.exists() else 'does not exist'}; give one that holds the clips")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InputError(f"{root} holds no video: files that end in {', '.join(SUFFIXES)} are read")
    return tuple(Item(path, path.relative_to(root).with_suffix("").as_posix(), 0) for path in files)


def group_of(stem: str) -> str:
    """Return the source video that a clip's name tells of, or "".

    ``v_Biking_g07_c02`` (UCF101) gives ``g07``. HMDB51 names end in body part, camera motion, people, viewpoint, quality and a number,
    ``April_09_brush_hair_u_nm_np1_ba_goo_2``; what stands before them, ``April_09_brush_hair``, is the film.
    """
    if ucf := re.search(r"_(g\d+)_c\d+$", stem):
        return ucf[1]
    hmdb = re.match(r"(.+)_[a-z]_[a-z]{2}_np\d+_[a-z]{2}_[a-z]{3}_\d+$", stem)
    return hmdb[1] if hmdb else ""


# --- one reader per layout: each yields what it lists, found on disk or not ---------------------------------------------------------------


Row = tuple[str, str, Path | None]  # class, stem, file: None where the list names a video that is not there


@dataclass(frozen=True)
class _Listing:
    """What a layout's own files say: the classes in index order and the rows of each side."""

    classes: tuple[str, ...]
    train: list[Row]
    test: list[Row]


def _ucf101(root: Path, split: int, keep: tuple[str, ...] | None) -> _Listing:
    lists = _first_folder(root, ("ucfTrainTestlist", "."), f"trainlist{split:02d}.txt")
    rows = {side: list(_ucf_lines(lists / f"{side}list{split:02d}.txt")) for side in ("train", "test")}
    index = lists / "classInd.txt"
    named = {line.split()[-1] for line in _lines(index)} if index.exists() else {name for side in rows.values() for name, _ in side}
    if strangers := sorted({name for side in rows.values() for name, _ in side} - named):
        raise InputError(f"the lists of split {split} use class {strangers[0]!r}, which {index} lacks: {nearest(strangers[0], named)}")
    if keep and (lost := [name for name in keep if name not in named]):
        raise InputError(f"subset miniucf needs {len(keep)} classes of UCF101; {root} lacks {len(lost)} of them: {_first(lost)}")
    classes = keep or tuple(sorted(named))
    shelf = _Shelf(root, ("videos", "UCF-101", "."))
    sides = {side: [(name, stem, shelf.find(name, stem)) for name, stem in rows[side] if name in set(classes)] for side in rows}
    return _Listing(classes, sides["train"], sides["test"])


def _ucf_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (class, stem) of the lines ``class/file.avi [label]``; file names may hold blanks, the label is the folder's name."""
    for number, line in enumerate(_lines(path), 1):
        folder, slash, file = re.sub(r"\s+\d+$", "", line).rpartition("/")
        if not slash:
            raise InputError(f"{path} line {number}: {line!r} is not of the form class/file.avi")
        yield folder.rpartition("/")[2], Path(file).stem


def _hmdb51(root: Path, split: int, unused: str) -> _Listing:
    ending = f"_test_split{split}.txt"
    lists = next((folder for name in ("testTrainMulti_7030_splits", ".") if any((folder := root / name).glob(f"*{ending}"))), None)
    if lists is None:
        raise InputError(f"no split file *{ending} in {root} or {root / 'testTrainMulti_7030_splits'}; get HMDB51's split files")
    marks = {"1": "train", "2": "test", "0": "train" if unused == "train" else ""}
    classes = tuple(sorted(path.name.removesuffix(ending) for path in lists.glob(f"*{ending}")))
    shelf = _Shelf(root, ("videos", "hmdb51_org", "."))
    sides: dict[str, list[Row]] = {"train": [], "test": [], "": []}
    for name in classes:
        for number, line in enumerate(_lines(lists / f"{name}{ending}"), 1):
            file, _, mark = line.rpartition(" ")
            if mark not in marks:
                raise InputError(f"{lists / (name + ending)} line {number}: {line!r} must end in 0 (unused), 1 (train) or 2 (test)")
            stem = Path(file.strip()).stem
            side = marks[mark]
            sides[side].append((name, stem, shelf.find(name, stem) if side else None))
    return _Listing(classes, sides["train"], sides["test"])


def _kinetics(root: Path) -> _Listing:
    sides: dict[str, list[Row]] = {}
    for side, names in (("train", ("train",)), ("test", ("val", "validate", "validation"))):
        path = _first_file(root, [f"{folder}{name}.csv" for folder in ("", "annotations/") for name in names])
        shelf = _Shelf(root, (*names, "replacement"))
        sides[side] = []
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if lost := {"label", "youtube_id", "time_start", "time_end"} - set(reader.fieldnames or ()):
                raise InputError(
                    f"{path} lacks the column {sorted(lost)[0]!r}; Kinetics lists have label, youtube_id, time_start, time_end, split"
                )
            for row in reader:
                try:
                    stem = f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
                except (TypeError, ValueError):
                    raise InputError(f"{path} line {reader.line_num}: time_start and time_end must be seconds") from None
                sides[side].append((row["label"], stem, shelf.find(row["label"], stem)))
    return _Listing(tuple(sorted({name for name, _, _ in sides["train"]})), sides["train"], sides["test"])


def _ssv2(root: Path) -> _Listing:
    prefixes = ("", "labels/", "something-something-v2-", "labels/something-something-v2-")
    labels, *lists = (_first_file(root, [f"{prefix}{name}.json" for prefix in prefixes]) for name in ("labels", "train", "validation"))
    numbers = {_plain(template): int(number) for template, number in load_json(labels).items()}
    classes = tuple(sorted(numbers, key=numbers.__getitem__))
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise InputError(f"{labels} must number its {len(numbers)} classes 0 .. {len(numbers) - 1}")
    shelf = _Shelf(root, ("20bn-something-something-v2", "videos", "."))
    sides = []
    for path in lists:
        rows = [(_plain(row["template"]), str(row["id"])) for row in load_json(path)]
        if strangers := [name for name, _ in rows if name not in numbers]:
            raise InputError(f"{path} uses the template {strangers[0]!r}, which {labels} lacks")
        sides.append([(name, stem, shelf.find("", stem)) for name, stem in rows])
    return _Listing(classes, *sides)


def _plain(template: str) -> str:
    """Return a Something-Something template as a class name: no brackets around the placeholders, lower case."""
    return template.replace("[", "").replace("]", "").lower()


def _folder(root: Path) -> _Listing:
    train, test = root / "train", next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if train.is_dir() != (test is not None):
        raise InputError(f"{root} has only one side: layout folder wants train/ and test/ (or val/) together, or class folders alone")
    if test is not None:
        whole: list[list[Row]] = [
            [(name, path.stem, path) for name in _subfolders(side) for path in _videos(side / name)] for side in (train, test)
        ]
        return _Listing(tuple(_subfolders(train)), whole[0], whole[1])
    sides: list[list[Row]] = [[], []]
    for name in _subfolders(root):
        files = _videos(root / name)
        held_out = _held_out(name, [path.stem for path in files])
        for path in files:
            sides[path.stem in held_out].append((name, path.stem, path))
    return _Listing(tuple(_subfolders(root)), sides[0], sides[1])


def _held_out(name: str, stems: list[str]) -> set[str]:
    """Return a fifth of a class's clips for testing: whole source videos, in the order of the SHA-256 of their names."""
    sources: dict[str, list[str]] = {}
    for stem in stems:
        sources.setdefault(group_of(stem) or stem, []).append(stem)
    order = sorted(sources, key=lambda source: hashlib.sha256(f"{name}/{source}".encode()).digest())
    held_out: set[str] = set()
    for source in order[:-1]:  # one source always stays to train on
        if len(held_out) * 5 >= len(stems):
            break
        held_out.update(sources[source])
    return held_out


# --- files --------------------------------------------------------------------------------------------------------------------------------


class _Shelf:
    """Videos by class folder and stem under the first of ``homes`` that exist; one directory listing per folder."""

    def __init__(self, root: Path, homes: tuple[str, ...]) -> None:
        self.homes = [root / home for home in homes if (root / home).is_dir()]
        self.listed: dict[Path, dict[str, Path]] = {}

    def find(self, name: str, stem: str) -> Path | None:
        """Return the file of clip ``stem``: in a home's folder ``name``, or in the home itself."""
        for home in self.homes:
            for folder in dict.fromkeys((home / name, home / name.replace(" ", "_"), home)):
                if folder not in self.listed:
                    self.listed[folder] = {path.stem: path for path in _videos(folder)}
                if path := self.listed[folder].get(stem):
                    return path
        return None


def _videos(folder: Path) -> list[Path]:
    """Return the video files of a folder, sorted; none when it does not exist."""
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES]
    except OSError:
        return []


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] not in "._")


def _first_folder(root: Path, names: Iterable[str], file: str) -> Path:
    """Return the first folder under ``root`` that holds ``file``."""
    return _first_file(root, [f"{name}/{file}" for name in names]).parent


def _first_file(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    places = " or ".join(str(Path(name)) for name in names)
    raise InputError(f"{root} lacks the split file {places}; put the official list there or choose another layout: {', '.join(LAYOUTS)}")


def _lines(path: Path) -> list[str]:
    """Return the lines of a list file that are not blank."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the split file {path}: {getattr(error, 'strerror', None) or error}") from None


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _checked(root: Path, layout: str, split: int, listing: _Listing) -> VideoSet:
    """Turn a listing into a :class:`VideoSet` after the checks that hold for every layout."""
    rank = {name: label for label, name in enumerate(listing.classes)}
    sides = {"train": listing.train, "test": listing.test}
    for side, rows in sides.items():
        if missing := [f"{name}/{stem}" for name, stem, path in rows if path is None]:
            raise InputError(
                f"the {side} list of split {split} names {len(missing)} of {len(rows)} videos that {root} lacks: {_first(missing)}"
            )
        if strangers := sorted({name for name, _, _ in rows} - set(rank)):
            raise InputError(f"the {side} side has class {strangers[0]!r}, which is not a training class: {nearest(strangers[0], rank)}")
    if not rank:
        raise InputError(f"no classes found in {root} with layout {layout}; allowed layouts: {', '.join(LAYOUTS)}")
    counts = Counter(name for name, _, _ in listing.train)
    if empty := [name for name in listing.classes if not counts[name]]:
        raise InputError(
            f"{len(empty)} of {len(rank)} classes have no training clips in {root}: {_first(empty)}; add clips or remove the class"
        )
    if not listing.test:
        raise InputError(f"{root} has no test clips with layout {layout}, split {split}")

    def items(rows: list[Row]) -> tuple[Item, ...]:
        unique = {(rank[name], stem): path for name, stem, path in rows}
        return tuple(
            Item(path, stem if layout == "ssv2" else f"{listing.classes[label]}/{stem}", label, group_of(stem))
            for (label, stem), path in sorted(unique.items())
            if path is not None
        )

    return VideoSet(root, layout, split, listing.classes, items(listing.train), items(listing.test))


def inspect(videos: VideoSet, backend: str = "auto", workers: int | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Open every video of a set and say what is there.

    Returns:
        JSON-ready: ``root, layout, split, backend``, ``classes`` (name, train, test clips), ``clips`` per side, ``frames`` (min, median,
        max of the good files, or ``None``) and ``bad`` (name, path, side, reason).
    """
    backend = pick_backend(backend)
    sides = {"train": videos.train, "test": videos.test}
    listed = [(side, item) for side, items in sides.items() for item in items]
    found = inspect_files([item.path for _, item in listed], backend, workers, progress)
    good = [frames for _, frames, reason in found if frames is not None and reason is None]
    counts = {side: Counter(item.label for item in items) for side, items in sides.items()}
    return {
        "root": str(videos.root),
        "layout": videos.layout,
        "split": videos.split,
        "backend": backend,
        "classes": [{"name": name, "train": counts["train"][k], "test": counts["test"][k]} for k, name in enumerate(videos.classes)],
        "clips": {side: len(items) for side, items in sides.items()},
        "frames": {"min": min(good), "median": statistics.median(good), "max": max(good)} if good else None,
        "bad": [
            {"name": item.name, "path": str(path), "side": side, "reason": reason}
            for (side, item), (path, _, reason) in zip(listed, found, strict=True)
            if reason is not None
        ],
    }


def spoken(name: str) -> str:
    """Return a class name as words: ``"PushLeft"``, ``"push_left"`` -> ``"push left"``; a hyphen stays."""
    return " ".join(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").split()).lower()
