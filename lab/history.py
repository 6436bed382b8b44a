"""Finished runs: what was run when and what came of it, and what differs between two of them. Only JSON is read.

A run is a folder with a ``record.json``, or with an executed reproduce notebook beside its result where there is no record.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidistill.errors import InputError, choose, nearest
from vidistill.files import cache_home, digest, file_digest, load_json, write_atomic
from vidistill.lab import presets
from vidistill.lab.record import verify_record
from vidistill.lab.report import spread
from vidistill.measure import paired

ENTRIES = ("paper", "knobs", "seed", "command", "started", "seconds", "environment", "outputs")
"""What ``record.json`` of a run has at least."""

WORK = ("work", "parts", "videos", "clips", "teachers", "students", "paths", "sweep", "cost")
"""Folders that a run makes in its own; no other run lies in them."""

FILES = ("record.json", "run.json", "report.json", "report.html", "distilled.safetensors")
PLACES = ("out", "out_json")
"""Parameters of a notebook that say where, not what."""

CLOCKS = ("seconds", "training", "sampling")
"""Numbers of an arm that no two runs share."""

AGO = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it lies.
        id: eight hex digits of its record, the same wherever the folder is moved to.
        record: ``record.json``, or what the executed notebook says of itself.
        report: its result; empty where the notebook wrote none of the usual form.
        notebook: the executed notebook, or None.
        files: ``"as written"``, else the line that says what is missing or was changed; None where no hashes were kept.
    """

    folder: Path
    id: str
    record: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)
    notebook: Path | None = None
    files: str | None = None

    @property
    def paper(self) -> str:
        return str(self.record["paper"])

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def when(self) -> datetime:
        """When it began."""
        return datetime.fromisoformat(self.record["started"])

    @property
    def knobs(self) -> dict[str, Any]:
        """Every knob and parameter of the notebook with its value."""
        known = {**self.record["knobs"], **self.report.get("knobs", {})}
        return {name: value for name, value in known.items() if name not in (*PLACES, "seed")}

    @property
    def preset(self) -> str | None:
        """The preset it was run with, or that of its tier."""
        words = shlex.split(self.record["command"] or "")
        said = dict(pairwise(words))
        return said.get("--preset") or presets.TIERS.get(said.get("--tier", str(self.record["knobs"].get("tier"))))

    @property
    def turned(self) -> dict[str, Any]:
        """The knobs that differ from the preset's, or from the defaults where there was none."""
        base: dict[str, Any] = {}
        if self.paper in presets.PAPERS:
            declared = presets.knobs_of(self.paper)
            known = presets.load_presets(self.paper)
            base = declared.resolve(presets.preset(self.paper, self.preset, declared) if self.preset in known else {})
        return {name: value for name, value in self.knobs.items() if name != "tier" and (name not in base or base[name] != value)}

    @property
    def arms(self) -> dict[str, Mapping[str, Any]]:
        """The rows of its report by name."""
        return {arm["name"]: arm for arm in self.report.get("arms", [])}

    @property
    def outcome(self) -> str:
        """The score of its method beside its control, and how many claims hold, in one line; empty without a report."""
        parts = []
        if arm := self.arms.get("method") or next((arm for arm in self.arms.values() if arm.get("role") == "method"), None):
            judged = self.report["score"]
            form = f".{judged['digits']}f"
            parts += [f"{arm['name']} {spread(arm['score'], form)} {judged['heading']}"]
            if (difference := arm.get("difference")) and arm["name"] != judged["control"]:
                parts += [f"{spread(difference, form, sign=True)} against {judged['control']}: {difference.get('verdict')}"]
        if claims := self.verdicts:
            parts += [f"{list(claims.values()).count('direction holds')} of {len(claims)} claims hold"]
        return ", ".join(parts)

    @property
    def verdicts(self) -> dict[str, str]:
        """Claim -> verdict, where the run judged some."""
        rows = self.report.get("extra", {}).get("verdicts", [])
        rows = rows if isinstance(rows, list) else []
        return {row["claim"]: row["verdict"] for row in rows if isinstance(row, dict) and {"claim", "verdict"} <= row.keys()}

    @property
    def commit(self) -> str | None:
        """The commit, with a plus where files were changed since; None outside a checkout."""
        source = self.record.get("source")
        return source and source["commit"] + "+" * bool(source["dirty"])

    def as_dict(self) -> dict[str, Any]:
        """Return what the history shows, JSON-ready."""
        return {
            **{"id": self.id, "folder": str(self.folder), "when": self.record["started"], "paper": self.paper, "preset": self.preset},
            **{"changed": self.turned, "seed": self.seed, "outcome": self.outcome, "seconds": self.record["seconds"]["total"]},
            **{"commit": self.commit, "files": self.files, "notebook": self.notebook and str(self.notebook)},
            **{"thumbnails": [str(path) for path in thumbnails(self.folder)], "command": self.record["command"]},
        }


# Reading.


def read_run(folder: str | Path) -> Run:
    """Read the run in ``folder``.

    Raises:
        InputError: there is none, or its record or report is not what a run writes.
    """
    folder = Path(folder)
    kept = folder / "record.json"
    notebooks = sorted(path for path in folder.glob("*.ipynb") if path.with_suffix(".json").is_file())
    if kept.is_file():
        record = load_json(kept)
        if not _is_record(record):
            raise InputError(f"{kept} is not the record of a run: it must hold {', '.join(ENTRIES)}; point at a folder that a run wrote")
        files = _verified(folder)
    elif notebooks:
        record, files = _told(notebooks[0]), None
    else:
        raise InputError(f"{folder} is no run: it holds neither record.json nor an executed notebook beside its result (vidistill runs)")
    notebook = next((path for path in (folder / f"{record['paper']}.ipynb", *notebooks) if path.is_file()), None)
    results = [folder / "report.json", *([notebook.with_suffix(".json")] if notebook else [])]
    report: Any = next((load_json(path) for path in results if path.is_file()), {})
    return Run(folder, digest(record, 8), record, report if _is_report(report) else {}, notebook, files)


def _is_record(value: Any) -> bool:
    """Say whether a JSON value has every entry of a record in the form that this module reads."""
    try:
        datetime.fromisoformat(value["started"]).astimezone()
        shlex.split(value["command"] or "")
        source = value.get("source")
        sound = source is None or (isinstance(source["commit"], str) and isinstance(source["dirty"], bool))
        sound &= all(isinstance(entry["sha256"], str) for entry in value["outputs"].values())
        sound &= isinstance(value["seconds"]["total"], int | float | None)
        sound &= isinstance(value["environment"], dict) and isinstance(value["environment"].get("packages", {}), dict)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return sound and isinstance(value["paper"], str) and isinstance(value["knobs"], dict) and isinstance(value["seed"], int)


def _is_report(value: Any) -> bool:
    """Say whether a JSON value is a report of this version, as far as this module reads it."""
    try:
        score = value["score"]
        sound = all(isinstance(score[name], str) for name in ("heading", "control")) and isinstance(score["digits"], int)
        sound &= all(isinstance(value[name], dict) for name in ("knobs", "data", "extra"))
        for arm in value["arms"]:
            judged = [arm["score"], *([arm["difference"]] if arm.get("difference") else [])]
            sound &= isinstance(arm["name"], str) and all(_is_interval(one) for one in judged) and bool(arm["score"]["values"])
    except (KeyError, TypeError, AttributeError):
        return False
    return sound


def _verified(folder: Path) -> str:
    try:
        verify_record(folder)
    except InputError as error:
        return str(error)
    return "as written"


def _told(notebook: Path) -> dict[str, Any]:
    """Return the record of a run that kept none, from what papermill wrote into the executed notebook."""
    result = load_json(notebook.with_suffix(".json"))
    try:
        ran = load_json(notebook)["metadata"]["papermill"]
        values = ran["parameters"]
        record = {
            **{"paper": result["paper"], "knobs": values, "seed": values.get("seed", 0), "command": None, "started": ran["start_time"]},
            **{"seconds": {"total": ran["duration"], "stages": {}}, "environment": {}, "source": None, "outputs": {}},
        }
    except (KeyError, TypeError, AttributeError):
        record = {}
    if not _is_record(record):
        raise InputError(f"{notebook} is not the executed notebook of a run: papermill says no start, or its result names no paper")
    return record


def find_runs(folders: Sequence[str | Path], left_out: Callable[[str], object] = lambda line: None) -> list[Run]:
    """Return the runs in ``folders`` and below, newest first.

    Args:
        folders: where to look.
        left_out: told, in a line, of each folder that looks like a run and cannot be read.

    Raises:
        InputError: a folder does not exist.
    """
    found = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}: give one that holds runs (vidistill run writes to runs/ without --out)")
        for place in _places(folder):
            try:
                found[place.resolve()] = read_run(place)
            except InputError as error:
                left_out(f"left out: {error}")
    return sorted(found.values(), key=lambda run: run.when.astimezone(), reverse=True)


def _places(folder: Path) -> Iterator[Path]:
    """Yield the folders that look like runs."""
    for place, below, files in os.walk(folder):
        told = [name for name in files if name.endswith(".ipynb") and f"{name[:-6]}.json" in files]
        if "record.json" in files or told:
            yield Path(place)
            below[:] = [name for name in below if name not in WORK]
        if "sweep.json" in files:  # its cells are shown together, by its own page
            below[:] = [name for name in below if name != "cells"]
        below[:] = sorted(name for name in below if not name.startswith("."))


def find_run(name: str, folders: Sequence[str | Path] = ("runs",)) -> Run:
    """Return the run that ``name`` means: its folder, a file in it, or the first digits of its id among the runs in ``folders``.

    Raises:
        InputError: no run or several are meant.
    """
    place = Path(name)
    if place.exists():
        return read_run(place if place.is_dir() else place.parent)
    runs = find_runs([folder for folder in folders if Path(folder).is_dir()])
    meant = [run for run in runs if name and run.id.startswith(name)]
    if len(meant) == 1:
        return meant[0]
    where = ", ".join(str(folder) for folder in folders)
    if meant:
        raise InputError(f"run {name!r} is not clear in {where}: it may be {', '.join(f'{run.id} ({run.folder})' for run in meant)}")
    hint = nearest(name, [run.id for run in runs]) if runs else f"there are no runs in {where}"
    raise InputError(f"no run {name!r}, neither a folder nor an id in {where}: {hint}")


# Choosing.


def since(text: str, now: datetime | None = None) -> datetime:
    """Read a date, a date with a time, or how long ago: ``2026-11-22``, ``2026-11-22T18:00``, ``90m``, ``12h``, ``7d``, ``2w``.

    Raises:
        InputError: it is none of these.
    """
    if ago := re.fullmatch(r"(\d{1,5})([mhdw])", text.strip()):
        return (now or datetime.now(UTC)) - timedelta(**{AGO[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except ValueError:
        raise InputError(f"--since {text!r} is no time: write a date (2026-11-22), or how long ago (90m, 12h, 7d, 2w)") from None


def choose_runs(
    runs: Sequence[Run], paper: str | None = None, after: str | None = None, where: Mapping[str, str] | None = None
) -> list[Run]:
    """Return the runs of one paper, begun after a time, whose knobs have the values that are asked for.

    Args:
        runs: all of them.
        paper: a paper's name.
        after: see :func:`since`.
        where: knob -> value as text; ``seed`` is one of them.

    Raises:
        InputError: an unknown paper, no time, a knob that no paper has, or a value that it cannot have.
    """
    papers = [choose("paper", paper, presets.PAPERS)] if paper else list(presets.PAPERS)
    start = since(after) if after else None
    wanted = {name: _values(name, text, papers) for name, text in (where or {}).items()}
    return [
        run
        for run in runs
        if (paper is None or run.paper == paper)
        and (start is None or run.when.astimezone() >= start)
        and all(run.paper in by and (run.seed if name == "seed" else run.knobs.get(name)) == by[run.paper] for name, by in wanted.items())
    ]


def _values(name: str, text: str, papers: Sequence[str]) -> dict[str, Any]:
    """Return the value that ``text`` means for a knob, by paper; papers without the knob are left out."""
    if name == "seed":
        if not text.strip().isdigit():
            raise InputError(f"--where seed={text!r} is not allowed: a seed is a whole number >= 0")
        return dict.fromkeys(papers, int(text))
    every = {paper: presets.knobs_of(paper) for paper in papers}
    if not any(name in knobs for knobs in every.values()):
        raise InputError(f"--where: unknown knob {name!r}: {nearest(name, {'seed', *(one for knobs in every.values() for one in knobs)})}")
    found: dict[str, Any] = {}
    refused = None
    for paper, knobs in every.items():
        try:
            found |= {paper: knobs[name].parse(text)} if name in knobs else {}
        except InputError as error:
            refused = error
    if refused and not found:
        raise refused
    return found


# Pictures.


def thumbnails(folder: Path) -> list[Path]:
    """Return a small picture for each arm that kept clips: the middle frame of its first one, made once and kept in the cache."""
    firsts = [min(arm.glob("*.mp4"), default=None) for arm in sorted(folder.glob("clips/*"))]
    return [picture for clip in firsts if clip and (picture := _picture(clip))]


def _picture(clip: Path) -> Path | None:
    import av

    target = cache_home() / "thumbnails" / f"{file_digest(clip)[:16]}.png"
    if not target.is_file():
        try:
            with av.open(str(clip)) as file:
                frames = list(file.decode(video=0))
        except (av.FFmpegError, IndexError):
            return None
        if not frames:
            return None
        image = frames[len(frames) // 2].to_image()
        write_atomic(target, lambda temporary: image.save(temporary, format="PNG"))
    return target


# Deleting.


def deletable(run: Run) -> tuple[int, int]:
    """Return how many files and bytes go with a run, after checking that the folder holds nothing but it.

    Raises:
        InputError: the folder is a link or the working folder's own, holds another run, or something that no run writes.
    """
    folder, stay = run.folder, "nothing was deleted"
    if run.files is None:
        raise InputError(f"{folder} holds no record.json, so nobody knows which files are the run's: delete it by hand; {stay}")
    if folder.is_symlink() or Path.cwd().resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder} is a link or the folder you work in: go elsewhere and name the run's own folder; {stay}")
    notebook = {run.notebook.name, f"{run.notebook.stem}.json", f"{run.notebook.stem}.failed.ipynb"} if run.notebook else set()
    ours = {*FILES, *WORK, *notebook, *run.record["outputs"], ".ipynb_checkpoints"}
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in ours):
        raise InputError(f"{folder} holds what no run writes: {', '.join(foreign[:5])}; move it away and delete the run then; {stay}")
    if links := [path for path in folder.iterdir() if path.is_symlink()]:
        raise InputError(f"{links[0]} is a link: delete it by hand first; {stay}")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def delete(run: Run) -> None:
    """Delete a run's folder, its record last: what an interruption leaves is still known as a run.

    Raises:
        InputError: see :func:`deletable`, or the disk refuses.
    """
    deletable(run)
    try:
        for path in sorted(run.folder.iterdir(), key=lambda path: path.name == "record.json"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        run.folder.rmdir()
    except OSError as error:
        raise InputError(f"cannot delete {run.folder}: {error.strerror or error}; delete it by hand") from None


# Comparing.


def differences(a: Run, b: Run) -> dict[str, Any]:
    """Return what differs between two runs, and nothing else: an empty dict where only clocks do.

    Returns:
        of ``paper``, ``knobs``, ``seed``, ``data``, ``environment``, ``commit``, ``arms``, ``verdicts``, ``files`` those that
        differ, each a pair ``[a, b]`` or pairs by name. An arm has its pairs and, where its score differs, ``effect``: b minus a, paired
        over the seeds that both share, with their number.
    """
    plain: dict[str, list[Any]] = {"paper": [a.paper, b.paper], "seed": [a.seed, b.seed], "commit": [a.commit, b.commit]}
    found: dict[str, Any] = {name: pair for name, pair in plain.items() if pair[0] != pair[1]}
    named: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "knobs": (a.knobs, b.knobs),
        "data": (a.report.get("data", {}), b.report.get("data", {})),
        "environment": (flat(a.record["environment"]), flat(b.record["environment"])),
        "verdicts": (a.verdicts, b.verdicts),
        "files": (_stored(a), _stored(b)),
    }
    found |= {name: apart for name, (one, other) in named.items() if (apart := pairs(one, other))}
    if arms := {name: row for name in dict.fromkeys([*a.arms, *b.arms]) if (row := _arm(a, b, name))}:
        found["arms"] = arms
    return found


def pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what differs between two mappings, each a pair ``[a, b]``; None stands for what one of them lacks."""
    return {name: [a.get(name), b.get(name)] for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)}


def flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return an environment with the versions of its packages beside the rest."""
    return {name: value for name, value in environment.items() if name != "packages"} | environment.get("packages", {})


def _stored(run: Run) -> dict[str, str]:
    """Return the hash of each result that holds no clocks."""
    return {name: entry["sha256"] for name, entry in run.record["outputs"].items() if Path(name).suffix == ".safetensors"}


def _arm(a: Run, b: Run, name: str) -> dict[str, Any]:
    """Return the pairs of one arm that differ, and the effect; ``{"only": "a"}`` or ``"b"`` where one run alone has it."""
    if name not in a.arms or name not in b.arms:
        return {"only": "a" if name in a.arms else "b"}
    one, other = ({key: value for key, value in run.arms[name].items() if key not in CLOCKS} for run in (a, b))
    found: dict[str, Any] = pairs(one, other)
    same = a.report["score"]["heading"] == b.report["score"]["heading"]
    if "score" in found and same:
        seeds = [dict(enumerate(run.arms[name]["score"]["values"], run.seed)) for run in (a, b)]
        if shared := sorted(seeds[0].keys() & seeds[1].keys()):
            found["effect"] = paired([seeds[1][seed] for seed in shared], [seeds[0][seed] for seed in shared])
    return found


def clocks(a: Run, b: Run) -> dict[str, list[Any]]:
    """Return when two runs were made, how long they took and what memory they needed; these always differ and never count."""
    rows: list[dict[str, Any]] = [
        {"started": run.record["started"], "seconds": run.record["seconds"]["total"]}
        | {name: value for name, value in (run.record.get("memory") or {}).items() if value is not None}
        for run in (a, b)
    ]
    return {name: [rows[0].get(name), rows[1].get(name)] for name in dict.fromkeys([*rows[0], *rows[1]])}


def difference_rows(found: Mapping[str, Any], digits: int = 1) -> Iterator[list[str]]:
    """Yield the differences as rows of text: what, in a, in b, b against a."""
    form = f".{digits}f"
    for part, held in found.items():
        if part == "arms":
            for name, row in held.items():
                yield from _arm_rows(name, row, form)
        elif isinstance(held, list):
            yield [part, *map(_shown, held), ""]
        else:
            yield from ([f"{part}: {name}", *map(_shown, pair), ""] for name, pair in held.items())


def _arm_rows(name: str, row: Mapping[str, Any], form: str) -> Iterator[list[str]]:
    if "only" in row:
        yield [f"arm {name}", *("there" if row["only"] == side else "-" for side in "ab"), ""]
        return
    told = {key: pair for key, pair in row.items() if key != "effect"}
    for key, (a, b) in told.items():
        effect = row.get("effect") if key == "score" else None
        change = f"{spread(effect, form, sign=True)}: {effect['verdict']}, {effect['n']} shared seeds" if effect else ""
        if key == "bytes" and a and b:
            yield from ([f"arm {name}: bytes, {part}", *map(_shown, pair), _change(*pair)] for part, pair in pairs(a, b).items())
        else:
            shown = [spread(one, form if key in ("score", "difference") else ".4g") if _is_interval(one) else _shown(one) for one in (a, b)]
            yield [f"arm {name}: {key}", *shown, change or _change(a, b)]


def _is_interval(value: Any) -> bool:
    return isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys()


def _change(a: Any, b: Any) -> str:
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return ""
    return f"{b - a:+.4g}" if isinstance(a, float) or isinstance(b, float) else f"{b - a:+,d}"


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = "-" if value is None or value == "" else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 70 else f"{text[:66]} ..."
