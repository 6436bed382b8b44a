"""What is in the tree is in the wheel, and what the metadata says is true."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked(*folders: str) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listing.stdout.split("\0") if name]


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for base in ("src/vidistill", "lab", "widgets") for path in (ROOT / base).rglob("__init__.py")}
    dotted = set()
    for folder in folders:
        relative = folder.relative_to(ROOT)
        dotted.add(".".join(relative.parts[1:]) if relative.parts[0] == "src" else ".".join(("vidistill", *relative.parts)))
    assert dotted | {"vidistill.notebooks"} == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.slow
def test_wheel_holds_code_weights_presets_and_notebooks(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in tracked("src/vidistill", "lab", "widgets", "notebooks"):
        if path.suffix in {".py", ".safetensors", ".toml", ".ipynb"} and "rendered" not in path.parts:  # these are for readers on the web
            inside = path.relative_to("src") if path.parts[0] == "src" else Path("vidistill") / path
            assert inside.as_posix() in names, f"{inside} is missing from the wheel"
    assert not [name for name in names if name.split("/")[0] not in ("vidistill",) and ".dist-info" not in name]


def test_extras_are_the_promised_ones():
    assert {"cpu", "cuda", "ray", "dev"} <= set(PROJECT["project"]["optional-dependencies"])
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert not [line for line in PROJECT["project"]["dependencies"] if "torchvision" in line]


def test_constraints_pin_every_direct_dependency():
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["bench"], *extras["glass"], *extras["lora"], *extras["dev"], "faiss-cpu"]
    for requirement in wanted:
        name = requirement.split(";")[0].split("[")[0]
        for mark in "<>=":
            name = name.split(mark)[0]
        if name != "decord2":
            assert name.strip().lower().replace("_", "-") in pinned, f"{name} is not pinned in constraints.txt"


def test_environment_files_are_well_formed_and_alike():
    yaml = pytest.importorskip("yaml")
    cpu, cuda = (yaml.safe_load((ROOT / name).read_text()) for name in ("environment.yml", "environment-cuda.yml"))
    plain = lambda env: {d.replace("-gpu", "").replace("-cpu", "") for d in env["dependencies"] if isinstance(d, str)}  # noqa: E731
    assert plain(cpu) == plain(cuda)
    assert cpu["name"] != cuda["name"]


def test_no_file_in_the_tree_is_too_large():
    for path in tracked():
        if (ROOT / path).exists():
            assert (ROOT / path).stat().st_size <= 16 * 2**20, f"{path} is over 16 MB"
