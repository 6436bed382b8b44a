"""The copies for readers on the web: there for every notebook, small, of the present source, and readable where nothing runs."""

import base64
import io
import json
import os
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from typer.testing import CliRunner

from vidistill.errors import InputError
from vidistill.lab import camera, cli, rendered
from vidistill.lab.runner import notebooks_dir
from vidistill.lab.web_copy import web_copy

FOLDER = notebooks_dir() / "rendered"
WITHOUT = {"cell.ipynb"}
"""Notebooks that have no copy: one cell of a sweep, which says nothing alone."""

MACHINE = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|Users|private|var)/|[A-Z]:\\\\")
PLOT = "application/vnd.plotly.v1+json"


def copy_of(name):
    return nbformat.read(FOLDER / name, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_every_notebook_has_a_copy_and_every_copy_a_notebook():
    root = notebooks_dir()
    every = {path.relative_to(root).as_posix() for path in root.rglob("*.ipynb")}
    every = {name for name in every if not {"rendered", "runs", ".ipynb_checkpoints"} & set(name.split("/"))}
    assert set(rendered.sources()) == every - WITHOUT
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.ipynb")} == set(rendered.sources())


@pytest.mark.parametrize("name", rendered.sources())
def test_a_copy_is_small_readable_and_of_the_present_source(name):
    assert (FOLDER / name).stat().st_size < rendered.LIMIT
    notebook = copy_of(name)
    nbformat.validate(notebook)
    stem = name.removesuffix(".ipynb")
    assert notebook.metadata["vidistill"]["source"] == name
    assert ("settles none" in notebook.cells[0].source) == name.startswith("reproduce/")
    assert notebook.metadata["vidistill"]["digest"] == rendered.source_digest(name), f"{name} was changed: vidistill render {stem}"
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    for output in outputs(notebook):
        assert output.output_type in ("display_data", "stream")
        assert output.get("name") != "stderr"
        assert output.get("data", {}).keys() <= {"image/png", "image/jpeg", "text/html", "text/markdown", "text/plain"}
        assert not re.search(r"<(script|style|video|svg|img|iframe|object)\b|\bon[a-z]+=", output.get("data", {}).get("text/html", ""))
    words = json.dumps([{**cell, "outputs": [_words(output) for output in cell.get("outputs", ())]} for cell in notebook.cells])
    assert not MACHINE.search(words), MACHINE.search(words)
    for link in re.findall(r"\]\(([^)#:]+\.ipynb)\)", words):
        assert (FOLDER / name).parent.joinpath(link).is_file(), link


def _words(output):
    return output.get("text") or {kind: value for kind, value in output["data"].items() if kind.startswith("text/")}


# How a copy is made.


class Photographer:
    """Takes no photograph, but remembers what it was shown."""

    def __init__(self):
        self.seen = []

    def html(self, piece):
        self.seen.append(piece)
        return b"photograph of HTML"

    def figure(self, figure):
        self.seen.append(figure)
        return b"photograph of a figure"


def copied(*shown, source="1 + 1", **more):
    """Return the outputs of the copy of a notebook of one cell, and what was photographed."""
    notebook = new_notebook(cells=[new_code_cell(source, outputs=list(shown), **more)])
    seen = Photographer()
    web_copy(notebook, seen, {"/tmp/place": "runs"})
    return notebook.cells[0].outputs if notebook.cells else None, seen.seen


def display(data, metadata=None):
    return new_output("display_data", data, metadata=metadata or {})


def png(output):
    return base64.b64decode(output.data["image/png"])


def video(frames=4, size=192):
    """Return an mp4 as a page shows it, red growing from frame to frame."""
    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=5, options={"crf": "1"})
        stream.height = stream.width = size
        stream.pix_fmt = "yuv420p"
        for k in range(frames):
            picture = np.zeros((size, size, 3), np.uint8)
            picture[..., 0] = 60 * k
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    return f'<video src="data:video/mp4;base64,{base64.b64encode(buffer.getvalue()).decode()}" aria-label="red grows" autoplay></video>'


def test_a_video_becomes_an_animated_png_that_says_what_it_shows():
    page = f"<style>p {{ color: red }}</style><figure>{video()}<figcaption>base</figcaption></figure>"
    (output,), seen = copied(display({"text/html": page, "text/plain": "<IPython.core.display.HTML object>"}))
    picture = Image.open(io.BytesIO(png(output)))
    assert picture.format == "PNG"
    assert picture.size == (128, 128)
    assert picture.mode == "P"
    assert picture.n_frames == 4
    assert picture.info["duration"] == 200
    reds = []
    for k in range(4):
        picture.seek(k)
        reds.append(picture.convert("RGB").getpixel((64, 64))[0])
    assert reds == sorted(reds)
    assert reds[3] > reds[0] + 120
    assert output.data["text/plain"] == output.metadata["image/png"]["alt"] == "red grows base"
    assert "text/html" not in output.data
    assert not seen


def test_a_figure_becomes_its_photograph_with_its_words():
    figure = {"data": [], "layout": {"meta": {"words": "error against bytes: falls"}}}
    (output,), seen = copied(display({PLOT: figure, "text/html": "<script>plotly</script>", "text/plain": "Figure"}))
    assert png(output) == b"photograph of a figure"
    assert output.data.keys() == {"image/png", "text/plain"}
    assert output.data["text/plain"] == "error against bytes: falls"
    assert seen == [figure]
    layout = {
        "title": {"text": "way"},
        "annotations": [{"text": "left"}, {"text": "right"}],
        "xaxis2": {"title": "N"},
        "yaxis": {"title": {"text": "pull"}},
    }
    (titled,), _ = copied(display({PLOT: {"data": [], "layout": layout}}))
    assert titled.data["text/plain"] == "a figure: way, left, right, N, pull"


@pytest.mark.parametrize(
    "piece",
    [
        '<svg aria-label="arms with intervals"><text>dpp</text></svg>',
        '<img src="data:image/png;base64,x" alt="arms">',
        '<div style="gap:8px;display: flex"><b>arms</b></div>',
    ],
)
def test_pictures_in_html_are_photographed_and_so_is_what_style_lays_out(piece):
    (output,), seen = copied(display({"text/html": f"<p>three</p>{piece}<script>x()</script>"}))
    assert seen == [f"<p>three</p>{piece}"]
    assert output.data["text/plain"].startswith("three arms")
    assert png(output) == b"photograph of HTML"


def test_widgets_scripts_and_their_state_go_words_and_tables_stay():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "7"}, "text/plain": "IntSlider(value=3)"}
    panel = {"application/vnd.holoviews_exec.v0+json": "", "text/html": "<div id='p7'></div><script>embed()</script>", "text/plain": "Row"}
    words = {"text/markdown": "**5**", "text/plain": "<IPython.core.display.Markdown object>"}
    load = {"application/javascript": "load()", "application/vnd.bokehjs_load.v0+json": "load()"}
    table = {"text/html": "<style>td { x }</style><table><tr><td>5</td></tr></table>", "text/plain": "5"}
    notebook = new_notebook(
        cells=[new_code_cell("", outputs=[display(view), display(panel), display(load), display(table), display(words)])]
    )
    notebook.metadata.update(widgets={"state": {}}, papermill={"start_time": "now"}, language_info={"name": "python", "version": "3.11.7"})
    web_copy(notebook, Photographer(), {})
    assert [dict(output.data) for output in notebook.cells[0].outputs] == [
        {"text/plain": "IntSlider(value=3)"},
        {"text/plain": "Row"},
        {"text/html": "<table><tr><td>5</td></tr></table>", "text/plain": "5"},
        {"text/markdown": "**5**"},
    ]
    assert notebook.metadata == {"kernelspec": {}, "language_info": {"name": "python"}}


def test_streams_stay_but_not_those_of_errors_and_places_are_exchanged():
    out, err = new_output("stream", name="stdout", text="in /tmp/place/out\n"), new_output("stream", name="stderr", text="warned\n")
    result = new_output("execute_result", {"text/plain": "'/tmp/place/out/start.safetensors'"}, execution_count=3)
    found, _ = copied(out, err, result)
    assert [output.get("text") or output.data["text/plain"] for output in found] == ["in runs/out\n", "'runs/out/start.safetensors'"]
    assert found[1].output_type == "display_data"


def test_given_parameters_stay_without_places_and_a_cell_of_nothing_else_goes():
    given = {"metadata": {"tags": ["injected-parameters"], "papermill": {"duration": 1.2}}}
    notebook = new_notebook(
        cells=[
            new_code_cell('# Parameters\nlive = False\nout = "/tmp/place/out"\nout_json = "/tmp/x.json"', **given),
            new_code_cell('# Parameters\nout_json = "/tmp/x.json"', **given),
            new_markdown_cell("words"),
        ]
    )
    web_copy(notebook, Photographer(), {"/tmp/place": "runs"})
    assert [cell.source for cell in notebook.cells] == ["# Parameters\nlive = False", "words"]
    assert notebook.cells[0].metadata == {"tags": ["injected-parameters"]}
    assert notebook.cells[0].id == "given"


# The command.


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder of notebooks with one that shows how many bytes it is told, and no browser."""
    cells = [
        new_code_cell(
            'size: int = 10  # characters\nlive: bool = True  # with controls\nout: str = ""  # folder\nout_json: str = ""', id="a"
        ),
        new_code_cell('import json, os\nprint(out, "x" * size)\nassert not live', id="b"),
        new_code_cell('with open(out_json, "w") as file:\n    json.dump({"threads": os.environ["OMP_NUM_THREADS"]}, file)', id="c"),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for room in rendered.ROOMS:
        (tmp_path / "notebooks" / room).mkdir(parents=True)
    path = tmp_path / "notebooks" / "learn" / "small.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / rendered.START)
    monkeypatch.setattr(rendered, "notebooks_dir", lambda: tmp_path / "notebooks")
    monkeypatch.setattr(rendered, "find_browser", lambda: "browser")

    class Closed(Photographer):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(rendered, "Camera", Closed)
    return path


@pytest.mark.slow
def test_two_renderings_give_the_same_file_which_goes_stale_with_its_source(house, tmp_path):
    copies = [rendered.render("learn/small.ipynb", tmp_path / name)[0] for name in "ab"]
    assert copies[0].read_bytes() == copies[1].read_bytes()
    notebook = nbformat.read(copies[0], as_version=4)
    assert "../../learn/small.ipynb" in notebook.cells[0].source
    assert [output.text for output in outputs(notebook)] == [f"runs/out {'x' * 10}\n"]
    kept = notebook.metadata["vidistill"]
    assert kept == {"source": "learn/small.ipynb", "digest": rendered.source_digest("learn/small.ipynb"), "parameters": {"live": False}}
    house.write_text(house.read_text().replace("= 10", "= 11"))
    assert rendered.source_digest("learn/small.ipynb") != kept["digest"]


@pytest.mark.slow
def test_a_large_copy_is_refused_and_its_largest_output_named(house, tmp_path, monkeypatch):
    house.write_text(house.read_text().replace("= 10", "= 999990"))
    monkeypatch.setattr(rendered, "LIMIT", 900_000)
    target = tmp_path / "out" / "learn" / "small.ipynb"
    target.parent.mkdir(parents=True)
    target.write_text("older")
    with pytest.raises(
        InputError, match=r"the copy of learn/small.ipynb has 1,\d{3},\d{3} bytes.*largest output is cell 4, stream"
    ) as error:
        rendered.render("learn/small.ipynb", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert target.read_text() == "older"


def test_names_mean_a_notebook_or_a_room(house):
    assert rendered.sources() == [rendered.START, "learn/small.ipynb"]
    assert rendered.choose_sources([]) == rendered.sources()
    for name in ("learn", "learn/", "learn/small", "learn/small.ipynb"):
        assert rendered.choose_sources([name]) == ["learn/small.ipynb"]
    assert rendered.choose_sources(["learn", "learn/small"]) == ["learn/small.ipynb"]
    with pytest.raises(InputError, match="did you mean 'learn/small'"):
        rendered.choose_sources(["learn/smal"])


def test_no_browser_is_one_line_before_anything_is_executed(house, monkeypatch):
    monkeypatch.setattr(rendered, "find_browser", camera.find_browser)
    monkeypatch.setattr(rendered, "run_notebook", lambda *given, **more: pytest.fail("executed"))
    monkeypatch.delenv("VIDISTILL_CHROMIUM", raising=False)
    monkeypatch.setattr(camera.shutil, "which", lambda name: None)
    done = CliRunner().invoke(cli.app, ["render", "learn"])
    assert done.exit_code == 2
    assert done.stderr.strip() == "error: photographing figures needs a browser: install chromium, or name one in VIDISTILL_CHROMIUM"


def test_the_copies_stay_out_of_the_wheel():
    import tomllib

    project = tomllib.loads((notebooks_dir().parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["vidistill.notebooks"]
    held = {path for pattern in patterns for path in notebooks_dir().glob(pattern)}
    assert held >= {notebooks_dir() / name for name in rendered.sources()}
    assert not [path for path in held if FOLDER in path.parents]


@pytest.mark.ui
def test_the_camera_photographs_a_figure_and_html():
    try:
        camera.find_browser()
    except InputError as error:
        (pytest.fail if os.environ.get("VIDISTILL_BROWSER") == "required" else pytest.skip)(str(error))
    figure = {
        "data": [{"type": "bar", "x": [1, 2], "y": [1, 3], "marker": {"color": "#0072B2"}}],
        "layout": {"height": 200, "sliders": [{"steps": []}], "paper_bgcolor": "#ffffff"},
    }
    with camera.Camera() as opened:
        pictures = [Image.open(io.BytesIO(png)) for png in (opened.figure(figure), opened.html("<p style='background:#009E73'>text</p>"))]
        again = opened.figure(figure)
    assert [picture.mode for picture in pictures] == ["P", "P"]
    assert pictures[0].size == (camera.WIDTH * camera.SCALE, pytest.approx(208 * camera.SCALE, abs=2))
    colours = [{colour for _, colour in picture.convert("RGB").getcolors(1 << 20)} for picture in pictures]
    assert any(abs(red - 0x00) + abs(green - 0x72) + abs(blue - 0xB2) < 12 for red, green, blue in colours[0])
    assert (0x00, 0x9E, 0x73) in colours[1]
    assert Image.open(io.BytesIO(again)).tobytes() == pictures[0].tobytes()
