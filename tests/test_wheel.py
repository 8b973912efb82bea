"""The wheel: what it holds, and that it is enough to label a folder of images."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from faceattr.demo.faces import write_faces

ROOT = Path(__file__).parents[1]
NUM_FACES = 50


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # From a copy: setuptools builds in the tree, and takes what an earlier build left there.
    folder, tree = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "faceattr", tree / "faceattr", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path for path in (ROOT / "faceattr").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {path.relative_to(ROOT).as_posix() for path in files}


@pytest.mark.ray
@pytest.mark.long
def test_the_wheel_alone_labels_a_folder(wheel, tmp_path):
    """In an empty folder, with the package from the wheel in place of this checkout."""
    installed, here = tmp_path / "installed", tmp_path / "here"
    zipfile.ZipFile(wheel).extractall(installed)
    here.mkdir()
    write_faces(here / "photos", NUM_FACES, 5_000_000)
    env = os.environ | {"PYTHONPATH": str(installed)}
    run = [sys.executable, "-m", "faceattr"]
    where = subprocess.run(
        [sys.executable, "-c", "import faceattr; print(faceattr.__file__)"],
        cwd=here,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip() == str(installed / "faceattr" / "__init__.py")
    command = [*run, "label", "--images", "photos", "--output", "labels", "--model", "tiny"]
    labelled = subprocess.run(command, cwd=here, env=env, check=True, capture_output=True, text=True, timeout=560)
    assert f"labelled {NUM_FACES}, rejected 0" in labelled.stdout
    table = pq.read_table(here / "labels" / "labels")
    assert table.num_rows == NUM_FACES
    assert table["hat_score"].null_count == 0
    shown = subprocess.run(
        [*run, "status", "labels", "--wait"], cwd=here, env=env, check=True, capture_output=True, text=True
    )
    assert "state      published" in shown.stdout
