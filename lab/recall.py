"""From a saved clip back to the command that makes it again: its record is read from the file itself, or from the JSON beside it."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from vidistill import __version__
from vidistill.data.clip_record import sidecar
from vidistill.errors import InputError, choose
from vidistill.files import digest, load_json
from vidistill.knobs import Value
from vidistill.lab import presets
from vidistill.lab.record import commit
from vidistill.lab.source import embedded

KINDS: dict[str, type] = {"paper": str, "arm": str, "row": int, "knobs": dict, "seed": int, "prompt": str, "data": dict, "version": str}
"""What the record of a clip has at least."""

SEEDS = ("same", "new")


@dataclass(frozen=True)
class Recall:
    """How a clip is made again.

    Attributes:
        paper, settings, seed: of the run, which makes the clip's arm beside its controls; a setting is a knob that is not at its default.
        data, layout: its data set; None for the embedded world.
        device: None where the record does not say.
        out: folder of the new run.
        clip: where the clip will lie.
        notes: what is to be known, a line each.
    """

    paper: str
    settings: Mapping[str, Value]
    seed: int
    data: str | None
    layout: str
    device: str | None
    out: Path
    clip: Path
    notes: list[str] = field(default_factory=list)

    @property
    def turned(self) -> list[str]:
        """The settings as ``--set`` wants them."""
        return [f"{name}={value}" for name, value in self.settings.items()]

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        words = ["vidistill", "run", self.paper, *(["--data", self.data, "--layout", self.layout] if self.data else [])]
        words += [part for pair in self.turned for part in ("--set", pair)]
        words += ["--out", str(self.out), "--seed", str(self.seed), *(["--device", self.device] if self.device else [])]
        return shlex.join(words)


def read_clip_record(file: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Return the record of a clip and what is to be said about it; either of the two places is enough, and the clip's own counts.

    Args:
        file: the clip, or the JSON beside it; only one of them need be there.

    Raises:
        InputError: neither place holds the record of a clip.
    """
    file = Path(file)
    clip = file.with_suffix("") if file.suffix == ".json" else file
    beside = sidecar(clip)
    if not clip.is_file() and not beside.is_file():
        raise InputError(f"there is neither {clip} nor {beside}: give a clip that a run kept, in its folder clips/")
    inside, missing = _inside(clip) if clip.is_file() else (None, f"{clip} is lost")
    if not beside.is_file():
        if inside is None:
            raise InputError(f"{missing}, and there is no {beside}: only clips that vidistill run keeps know how they were made")
        return inside, []
    try:
        told = _checked(load_json(beside), beside)
    except InputError as error:
        if inside is None:
            raise
        return inside, [f"{error}; what the clip itself says is used"]
    if inside is None:
        return told, [f"{missing}, so {beside} is used"]
    if told != inside:
        parts = ", ".join(sorted(name for name in {*told, *inside} if told.get(name) != inside.get(name)))
        return inside, [f"{beside} was edited or is another clip's, it differs in {parts}: what the clip itself says is used"]
    return inside, []


def _inside(clip: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the record in a clip's metadata, or None and why there is none."""
    try:
        with av.open(str(clip)) as file:
            comment = file.metadata.get("comment")
    except (OSError, av.FFmpegError) as error:
        return None, f"{clip} cannot be read as a video ({str(error).splitlines()[0]})"
    if comment is None:
        return None, f"{clip} carries no record"
    try:
        return _checked(json.loads(comment), clip), ""
    except (ValueError, RecursionError):  # an InputError is one
        return None, f"{clip} carries a comment that is no record of vidistill"


def _checked(value: Any, where: Path) -> dict[str, Any]:
    sound = isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in KINDS.items())
    if not sound or not all(isinstance(value["data"].get(name), str) for name in ("root", "layout")):
        raise InputError(f"{where} is not the record of a clip: it must hold {', '.join(KINDS)}")
    return value


def recall(file: str | Path, seed: str = "same", changes: Mapping[str, str] | None = None, out: str | Path | None = None) -> Recall:
    """Return how the clip ``file`` is made again, alone with the controls of its paper and for the first seed.

    Knobs that only measure are left out: they do not make the clip, and one of them names a program.

    Args:
        file: the clip, or the JSON beside it.
        seed: ``"same"`` or ``"new"``.
        changes: knob -> value as text.
        out: folder of the new run; left out: one of its own in ``runs/recall``.

    Raises:
        InputError: no record, an unknown arm or knob, a value outside its limits, or an unknown word for the seed.
    """
    choose("--seed", seed, SEEDS)
    record, notes = read_clip_record(file)
    module = presets.paper_module(record["paper"])
    turned = module.KNOBS.parse(changes or {})
    arm = choose(f"arm of {record['paper']} in {file}", record["arm"], getattr(module, "ARMS", ()))
    try:
        values = module.KNOBS.resolve(record["knobs"], {"arms": arm, "seeds": 1})
    except InputError as error:
        raise InputError(f"the record of {file} (version {record['version']}) does not fit this version {__version__}: {error}") from None
    if idle := [name for name in turned if module.KNOBS[name].group == "measure"]:
        raise InputError(f"knob {idle[0]} does not make the clip, it only measures: leave out --set {idle[0]}")
    values |= turned
    settings = {
        name: value for name, value in values.items() if value != module.KNOBS[name].default and module.KNOBS[name].group != "measure"
    }
    number = secrets.randbelow(2**31) if seed == "new" else record["seed"]
    here = commit()
    if record["version"] != __version__ or (here and record.get("commit") and record["commit"]["commit"] != here["commit"]):
        then = (record.get("commit") or {}).get("commit", "")[:8]
        notes.append(
            f"made by version {record['version']} {then}, this is {__version__} {(here or {}).get('commit', '')[:8]}: it may differ"
        )
    data, layout = record["data"]["root"], record["data"]["layout"]
    own = Path(data).name == embedded().name or record["paper"] in presets.PLANE
    device = str(record.get("device") or "").partition(":")[0] or None
    folder = Path(out or Path("runs", "recall", digest([record, settings, number], 8)))
    target = folder / "clips" / arm / f"{record['row']:04d}.mp4"
    return Recall(record["paper"], settings, number, None if own else data, layout, device, folder, target, notes)


def same_frames(a: str | Path, b: str | Path) -> bool:
    """Say whether two clips decode to the same frames, bit for bit."""

    def frames(path: str | Path) -> list[bytes]:
        with av.open(str(path)) as file:
            return [frame.to_ndarray(format="rgb24").tobytes() for frame in file.decode(video=0)]

    return frames(a) == frames(b)
