"""The explore notebook without a screen: it runs, its numbers answer to its parameters, and its pictures are there."""

import base64
import io
from pathlib import Path

import nbformat
import pytest

from vidistill.lab.presets import knobs_of
from vidistill.lab.runner import notebooks_dir, run_notebook

NOTEBOOK = notebooks_dir() / "explore" / "latent_vdd.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    parameters = {"live": False, "rank_ratio": 0.5, "kernel": "official", "instances": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(folder / "cache"))
        return run_notebook(NOTEBOOK, folder / "out.ipynb", parameters, knobs=knobs_of("latent_vdd"), timeout=300)


def test_numbers_answer_to_the_parameters(run):
    result = run["result"]
    assert result["ranks"] == {"T": 8, "C": 4, "H": 4, "W": 4}
    assert len(result["chosen"]) == 6 * 3
    parts = dict(result["bytes"])
    assert parts.pop("total") == sum(parts.values())
    assert 0 < result["error"] < 1
    assert result["psnr"]["distilled"] < result["psnr"]["codec alone"]
    assert result["kernel"]["blind"] >= 4  # the official kernel is the identity but for the nearest twins
    assert result["kernel"]["effective_rank"] > 11.99
    errors = [error for _, error in result["curves"]["HOSVD fp32"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3  # r of 1 keeps everything


def test_static_twins_are_in_the_notebook(run):
    from PIL import Image

    outputs = [output for cell in nbformat.read(run["output"], 4).cells for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    frames = [getattr(Image.open(io.BytesIO(base64.b64decode(picture))), "n_frames", 1) for picture in pictures]
    assert sorted(frames) == [1, 16]  # the contact sheet, and the film
    words = [output["data"]["text/plain"] for output in outputs if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert [line.split(":")[0] for line in words] == ["energy per mode", "error against bytes", "byte budget"]
    assert "time, 8 of 16 kept" in words[0]
    assert f"cores {run['result']['bytes']['core']:,} bytes" in words[2]
    assert any("uniform random sampling" in "".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert Path(run["output"]).stat().st_size < 1_000_000


def test_the_notebook_is_thin_clean_and_declares_knobs_as_the_paper_does():
    notebook = nbformat.read(NOTEBOOK, 4)
    assert len(notebook.cells) <= 25
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    knobs = knobs_of("latent_vdd")
    for line in source.splitlines():
        name, _, rest = line.partition(": ")
        if name in knobs:
            assert rest.endswith(f"  # {knobs[name].doc}"), line
            knobs[name].check(eval(rest.split(" = ")[1].split("  #")[0]))
