"""The suite: every claim of every paper tried by its protocol, notebook after notebook, and judged by rule.

    protocols --runs--> notebooks --rows--> cards --verdicts--> status.json, index.html

It fails closed: a notebook that did not end, a card that nothing judged, a result that was edited are said, and never a verdict.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidistill.errors import Cancelled, InputError, choose
from vidistill.files import digest, ensure_folder, load_json, save_json, write_atomic
from vidistill.lab import presets
from vidistill.lab.cards import Protocol, load_cards, load_protocol
from vidistill.lab.code import code_digest
from vidistill.lab.record import Stages, commit, environment, verify_record, write_record
from vidistill.lab.runner import RunFailed, check_run, notebooks_dir, run_notebook
from vidistill.types import Progress, silent

STATUS = "status.json"
PAGE = "index.html"
SCHEMA = 1

UNKNOWN = 1000.0
"""Seconds that a run is thought to take of which nothing is known."""


@dataclass(frozen=True)
class Task:
    """One run of a paper's notebook.

    Attributes:
        paper, run: which.
        parameters: of the notebook.
        out: its folder.
        code: see :func:`vidistill.lab.code.code_digest`.
        key: of the code, the protocol and the parameters: a finished run with this key is not run again.
        expected: seconds that it took last time.
        quick: whether it is the shortest form.
    """

    paper: str
    run: str
    parameters: Mapping[str, Any]
    out: Path
    code: str
    key: str
    expected: float
    quick: bool

    @property
    def name(self) -> str:
        return f"{self.paper}-{self.run}"

    @property
    def command(self) -> str:
        """The command line that runs it alone."""
        own = ["--run", self.run, *(["--quick"] if self.quick else [])]
        return shlex.join(["vidistill", "reproduce", self.paper, "--tier", "toy", *own, "--out", str(self.out)])


def tasks_of(out: Path, papers: Sequence[str], quick: bool = False) -> list[Task]:
    """Return the runs of some papers in tier ``toy``, the longest first.

    Raises:
        InputError: an unknown paper, or a protocol, a card, a notebook or a parameter is broken.
    """
    found = []
    for paper in papers:
        protocol, notebook = load_protocol(choose("paper", paper, presets.PAPERS)), notebooks_dir() / "reproduce" / f"{paper}.ipynb"
        for run in protocol.runs:
            check_run(notebook, protocol.parameters(run, quick) | {"out": ""}, presets.knobs_of(paper))
        code = code_digest(paper)
        for run in protocol.runs:
            parameters = protocol.parameters(run, quick)
            key = digest([code, protocol.protocol, protocol.version, parameters], 16)
            found.append(Task(paper, run, parameters, out / f"{paper}-{run}", code, key, _expected(paper, run, quick), quick))
    return sorted(found, key=lambda task: -task.expected)


def _expected(paper: str, run: str, quick: bool) -> float:
    from vidistill.lab.standing import kept

    known = kept(paper).get("runs", {}).get(run, {}).get("seconds", UNKNOWN)
    return known / 20 if quick else known


def run_suite(
    out: str | Path,
    *,
    quick: bool = False,
    jobs: int = 2,
    papers: Sequence[str] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run tier ``toy`` of the papers, each notebook with one thread, and judge every card; a repeated call goes on where it stopped.

    Args:
        out: folder; each run has one of its own in it.
        quick: the shortest form of each run, for CI; its verdicts mostly cannot tell, for it has few seeds.
        jobs: notebooks at a time.
        papers: all when None.
        progress: called with (``"suite"``, seconds of work done, seconds of work) by what the runs took last time; raise in it to stop.

    Returns:
        what ``OUT/status.json`` then holds: for each paper its code, protocol, runs and the rows of its cards, and in ``failed`` what went
        wrong, a line each.

    Raises:
        InputError: a protocol, a card or a parameter is broken; nothing was run.
    """
    from vidistill.lab.status_page import status_page

    if jobs < 1:
        raise InputError(f"jobs={jobs} is out of range: at least 1 notebook at a time")
    out, chosen = ensure_folder(out), list(papers or presets.PAPERS)
    tasks, started = tasks_of(out, chosen, quick), datetime.now(UTC)
    (out / STATUS).unlink(missing_ok=True)
    watch = _Watch(tasks, progress)
    runs: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_run, task, watch): task for task in tasks}
        try:
            for done in as_completed(waiting):
                task = waiting[done]
                try:
                    runs[task.name] = done.result()
                except (RunFailed, InputError) as error:
                    failed.append(f"{task.name}: {error}")
        except BaseException:
            watch.stop()  # the kernels end before the pool does
            raise
    status = {
        **{"schema": SCHEMA, "tier": "toy", "quick": quick, "started": started.isoformat(timespec="seconds")},
        **{"finished": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "environment": environment()},
        "papers": {paper: _paper(paper, tasks, runs, failed) for paper in chosen},
        "failed": failed,
    }
    save_json(out / STATUS, status)
    page = status_page(status)
    write_atomic(out / PAGE, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return status


class _Watch:
    """Progress of several notebooks at once, and the way to stop them all."""

    def __init__(self, tasks: Sequence[Task], progress: Progress) -> None:
        self._tasks, self._progress = tasks, progress
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._begun: dict[str, float] = {}
        self._done: set[str] = set()

    def stop(self) -> None:
        self._stopped.set()

    def done(self, task: Task) -> None:
        with self._lock:
            self._done.add(task.name)

    def __call__(self, task: Task) -> None:
        """Report from a run; called in its thread.

        Raises:
            Cancelled: the suite was stopped.
        """
        if self._stopped.is_set():
            raise Cancelled
        with self._lock:
            now = time.monotonic()
            self._begun.setdefault(task.name, now)
            spent = sum(self._spent(one, now) for one in self._tasks)
            try:
                self._progress("suite", int(spent), int(sum(one.expected for one in self._tasks)))
            except BaseException:
                self.stop()
                raise

    def _spent(self, task: Task, now: float) -> float:
        if task.name in self._done:
            return task.expected
        return min(now - self._begun.get(task.name, now), 0.99 * task.expected)


def _run(task: Task, watch: _Watch) -> dict[str, Any]:
    """Run a task, unless it is finished and as it was written; return what the status says of it."""
    kept = task.out / "run.json"
    if (task.out / "record.json").is_file() and kept.is_file() and (held := load_json(kept)).get("key") == task.key:
        try:
            verify_record(task.out)
        except InputError as error:
            raise InputError(f"{error}; or delete {task.out} and repeat the suite") from None
        watch.done(task)
        return held | {"verdicts": _verdicts(task, load_json(task.out / f"{task.paper}.json"))}
    for name in ("record.json", kept.name):  # never beside the results of another run
        (task.out / name).unlink(missing_ok=True)
    started, stages = datetime.now(UTC), Stages()

    def progress(stage: str, done: int, total: int) -> None:
        stages(stage, done, total)
        watch(task)

    values = {**task.parameters, "out": str(task.out / "work" / task.key)}  # other code never finds this one's finished parts
    notebook = notebooks_dir() / "reproduce" / f"{task.paper}.ipynb"
    done = run_notebook(
        notebook, task.out / f"{task.paper}.ipynb", values, knobs=presets.knobs_of(task.paper), threads=1, progress=progress
    )
    verdicts = _verdicts(task, done["result"])
    found = {"key": task.key, "parameters": dict(task.parameters), "command": task.command, "seconds": done["seconds"]}
    found["peak_bytes"] = done["peak_bytes"]
    save_json(kept, found)
    write_record(
        task.out,
        **{"paper": task.paper, "knobs": values, "seed": int(values.get("seed", 0)), "device": str(values.get("device", "cpu"))},
        **{"stages": stages, "started": started, "command": task.command},
        outputs=(f"{task.paper}.ipynb", f"{task.paper}.json", kept.name),
    )
    watch.done(task)
    return found | {"verdicts": verdicts}


def _verdicts(task: Task, result: Any) -> list[dict[str, Any]]:
    extra = result.get("extra") if isinstance(result, dict) else None
    rows = extra.get("verdicts") if isinstance(extra, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "card" in row for row in rows):
        raise RunFailed(f"the notebook of {task.paper} wrote a result without the verdicts of its cards (extra.verdicts)")
    return rows


def _paper(paper: str, tasks: Sequence[Task], runs: Mapping[str, Mapping[str, Any]], failed: list[str]) -> dict[str, Any]:
    """Return what the status says of a paper; a card that a finished run did not judge is added to ``failed``."""
    protocol = load_protocol(paper)
    asked = [task for task in tasks if task.paper == paper]
    own = [task for task in asked if task.name in runs]
    rows = {task.run: {row["card"]: row for row in runs[task.name]["verdicts"]} for task in own}
    cards = []
    for card in load_cards(paper):
        if card.absent or card.run not in rows:
            continue
        if card.id not in rows[card.run]:
            failed.append(f"{paper}-{card.run}: nothing judged the card {card.id}: {card.arm} or {card.control} has no {card.measure}")
            continue
        cards.append({**rows[card.run][card.id], "rule": card.rule})
    return {
        **{"code": asked[0].code, "protocol": protocol.protocol, "version": protocol.version},
        "runs": {task.run: {name: part for name, part in runs[task.name].items() if name != "verdicts"} for task in own},
        "cards": cards,
    }


def plans(tier: str, papers: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Return what a tier takes of each paper, in words: data, model, command, cost, and for tier ``full`` what it needs.

    Raises:
        InputError: an unknown tier or paper, or a broken protocol.
    """
    choose("tier", tier, presets.TIERS)
    return [{"paper": paper, **_plan(load_protocol(paper), tier)} for paper in papers or presets.PAPERS]


def _plan(protocol: Protocol, tier: str) -> dict[str, str]:
    held = dict({"toy": protocol.toy, "small": protocol.small, "full": protocol.full}[tier])
    return {"command": f"vidistill reproduce {protocol.paper} --tier toy", **held} if tier == "toy" else held
