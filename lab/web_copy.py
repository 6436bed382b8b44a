"""An executed notebook made readable where nothing runs: no script, no film that needs a player, no place or time of the machine.

A viewer on the web shows Markdown, tables and ``image/png``, animated or not; neither ``<video>``, ``<svg>`` nor ``<img>`` in HTML, nor
plotly's JSON, nor what HTML lays out by style. Films become animated PNG, the rest becomes photographs; what they say to who cannot see
them stays beside them as text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, Protocol

from vidistill.lab.apng import film_as_apng
from vidistill.lab.history import PLACES

PLOTLY = "application/vnd.plotly.v1+json"
READABLE = ("image/png", "image/jpeg", "text/html", "text/markdown", "text/latex", "text/plain")
PICTURES = {"svg", "img", "canvas"}
LAID_OUT = re.compile(r"display:\s*(inline-)?(flex|grid)")
"""What viewers on the web drop, and what then falls apart into lines."""

SILENT = re.compile(r"<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
GIVEN = "injected-parameters"
"""Tag of the cell that papermill adds."""


class Photographer(Protocol):
    """What takes the photographs, see :class:`vidistill.lab.camera.Camera`."""

    def html(self, piece: str) -> bytes: ...

    def figure(self, figure: Mapping[str, Any]) -> bytes: ...


class _Seen(HTMLParser):
    """What a piece of HTML shows: its tags, its words with those that describe pictures, its films as bytes."""

    def __init__(self, piece: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.films: list[bytes] = []
        self._words: list[str] = []
        self.feed(piece)
        self.close()

    @property
    def words(self) -> str:
        return " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attributes}
        self.tags.add(tag)
        self._words += [held[name] for name in ("aria-label", "alt") if held.get(name)]
        if tag in ("video", "source") and held.get("src", "").startswith("data:video/"):
            self.films.append(base64.b64decode(held["src"].partition(",")[2]))

    def handle_data(self, data: str) -> None:
        self._words.append(data)


def web_copy(notebook: Any, camera: Photographer, places: Mapping[str, str]) -> None:
    """Turn an executed notebook, in place, into one that is read on the web.

    Args:
        notebook: as nbformat reads it.
        camera: photographs figures and HTML.
        places: folder of this machine -> what a reader sees instead.
    """
    notebook.metadata = type(notebook.metadata)(kernelspec=notebook.metadata.get("kernelspec", {}), language_info={"name": "python"})
    kept = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if GIVEN in tags and not _given(cell):
            continue
        cell.metadata = type(cell.metadata)({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [new for output in cell.outputs for new in _readable(output, camera)]
        kept.append(_elsewhere(cell, places))
    notebook.cells = kept


def _given(cell: Any) -> bool:
    """Take the places out of the cell that papermill added, and say whether anything is left."""
    lines = [line for line in cell.source.splitlines() if line.partition("=")[0].strip() not in PLACES]
    cell.source, cell.id = "\n".join(lines), "given"
    return any(not line.startswith("#") for line in lines)


def _elsewhere(node: Any, places: Mapping[str, str]) -> Any:
    """Return a JSON value with every place of this machine exchanged."""
    if isinstance(node, str):
        for place, shown in places.items():
            node = node.replace(place, shown)
        return node
    if isinstance(node, dict):
        return type(node)({name: _elsewhere(value, places) for name, value in node.items()})
    return [_elsewhere(value, places) for value in node] if isinstance(node, list) else node


def _readable(output: Any, camera: Photographer) -> Iterator[Any]:
    """Yield the outputs that stand for one, none where it says nothing without its script."""
    if output.output_type not in ("display_data", "execute_result"):
        if output.get("name") != "stderr":
            yield output
        return
    data, told = output.data, output.metadata
    if PLOTLY in data:
        figure = data[PLOTLY]
        yield _picture(output, camera.figure(figure), _told(figure.get("layout", {})))
        return
    held = {kind: data[kind] for kind in READABLE if kind in data}
    if len(held) > 1 and held.get("text/plain", "").startswith("<"):  # the name of an object, which says nothing
        del held["text/plain"]
    if "text/html" in held:
        held["text/html"] = SILENT.sub("", held["text/html"]).strip()
        seen = _Seen(held["text/html"])
        if seen.films:
            for film in seen.films:
                yield _picture(output, film_as_apng(film), seen.words)
            return
        if (seen.tags & PICTURES or LAID_OUT.search(held["text/html"])) and "image/png" not in held:
            yield _picture(output, camera.html(held["text/html"]), seen.words)
            return
        if not seen.words:
            del held["text/html"]
    if any(_says(value) for value in held.values()):
        yield _output(output, held, {kind: told[kind] for kind in held if kind in told})


def _told(layout: Mapping[str, Any]) -> str:
    """Return what a plotly figure says it shows: the words that the house gives it, else its title, its notes and those of its axes."""
    if words := layout.get("meta", {}).get("words"):
        return str(words)
    axes = [held for name, held in layout.items() if re.fullmatch(r"[xy]axis\d*", name)]
    titles = [held.get("title", {}) for held in (layout, *axes)]
    texts = [title.get("text") if isinstance(title, Mapping) else title for title in titles]
    texts[1:1] = [note.get("text") for note in layout.get("annotations", ())]
    return "a figure: " + ", ".join(dict.fromkeys(str(text) for text in texts if text))


def _says(value: Any) -> bool:
    return not isinstance(value, str) or bool(value.strip())


def _picture(output: Any, png: bytes, words: str) -> Any:
    held = {"image/png": base64.b64encode(png).decode(), "text/plain": words}
    return _output(output, held, {"image/png": {"alt": words}})


def _output(output: Any, data: dict[str, Any], metadata: dict[str, Any]) -> Any:
    kind = type(output)
    return kind(output_type="display_data", data=kind(data), metadata=kind(metadata))
