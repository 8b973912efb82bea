"""Small inputs that went wrong once (`tests/cases/`, drawings), through the commands as users type them."""

import runpy
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from faceattr.attributes import Attribute, AttributeSet
from faceattr.cli import main as faceattr
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_published
from faceattr.data.stores.local import LocalStore
from tests.checkpoints import SIZES, save_random_checkpoint
from tests.models.tiny import build_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
PHOTO = CASES / "phone" / "IMG_0010.JPG"
label, pack = (runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"))["main"] for name in ("label", "pack"))


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    save_random_checkpoint(folder, **SIZES["small"])
    return folder


@pytest.fixture
def labelled(blip, tmp_path, ray_local):
    """Labels some images: (exit code, rows by image id)."""

    def run(images):
        command = ["--images", str(images), "--output", str(tmp_path / "run"), "--model", str(blip)]
        command += ["--attributes", "clear_face", "--workers.max-actors", "1", "--workers.gpus-per-actor", "1"]
        code = label([*command, "--max-error-share", "1"])
        if code:
            return code, {}
        rows = pa.concat_tables(read_published(LocalStore(tmp_path / "run"))).to_pylist()
        return code, {row["image_id"]: row for row in rows}

    return run


def place(name, folder, images):
    """A case's table in a folder, with the images that it lists."""
    (folder / "img").mkdir()
    for image in images:
        shutil.copy(PHOTO, folder / "img" / image)
    return shutil.copy(CASES / name, folder / name)


def test_an_unclosed_quote_in_a_manifest_swallows_no_rows(labelled, tmp_path, capsys):
    manifest = place("manifest_stray_quote.csv", tmp_path, [f"{number}.jpg" for number in range(5)])
    assert labelled(manifest) == (2, {})
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(manifest) in error
    assert "line 5: an unclosed quote: '\"broken'" in error
    assert not list((tmp_path / "run").rglob("*"))


@pytest.mark.long
def test_paths_of_windows_lead_to_their_images(labelled, tmp_path):
    code, rows = labelled(place("manifest_windows.csv", tmp_path, [f"{number}.jpg" for number in range(6)]))
    assert code == 0
    assert [(row["status"], row["note"]) for row in rows.values()] == [("ok", "x")] * 6


def test_every_photo_of_a_phone_is_a_row(labelled):
    code, rows = labelled(CASES / "phone")
    assert code == 0
    assert {name: row["status"] for name, row in rows.items()} == {"IMG_0000.HEIC": "unsupported", "IMG_0010.JPG": "ok"}
    assert rows["IMG_0000.HEIC"]["error"].startswith("HEIF")


@pytest.fixture
def packed(tmp_path, ray_local):
    """Packs a table: (exit code, output folder)."""

    def run(name, *columns):
        place(name, tmp_path, [f"{number:03d}.jpg" for number in range(40)])
        command = ["--source", "table", "--root", str(tmp_path), "--source-options.files", name]
        command += ["--source-options.columns", *columns] if columns else []
        return pack([*command, "--output", str(tmp_path / "run")]), tmp_path / "run"

    return run


def test_an_unclosed_quote_in_a_column_that_nobody_asked_for_swallows_no_rows(packed, capsys):
    code, output = packed("table_stray_quote.csv", "image=image_path", "hat=hat")
    assert code == 2
    assert "line 11: an unclosed quote: '\"5 ft tall'" in capsys.readouterr().err.splitlines()[-1]
    assert not list(output.rglob("*"))


def test_an_index_that_pandas_wrote_is_no_attribute(packed, capsys):
    code, output = packed("table_unnamed0.csv")
    assert code == 0
    assert "the column 'Unnamed: 0' is left out: it is an index that pandas wrote" in capsys.readouterr().err
    data = open_packed([str(output)], needs=())
    assert data.attributes.names == ("hat", "glasses")
    assert sum(data.num_rows(split) for split in data.splits) == 40


def test_a_strip_of_pixels_is_drawn_and_ends_no_folder(tmp_path, capsys):
    build_model("vit", tmp_path / "model", AttributeSet(attributes=(Attribute(name="hat"),))).save_pretrained(
        tmp_path / "model"
    )
    (tmp_path / "in").mkdir()
    shutil.copy(CASES / "strip_1x4000.png", tmp_path / "in" / "a.png")
    shutil.copy(PHOTO, tmp_path / "in" / "b.jpg")
    command = ["predict", "--model", str(tmp_path / "model"), "--device", "cpu", "--input", str(tmp_path / "in")]
    assert faceattr([*command, "--visualize", "--output", str(tmp_path / "out")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    sizes = [Image.open(tmp_path / "out" / name).size for name in ("a_pred.jpg", "b_pred.jpg")]
    assert max(max(size) for size in sizes) < 5_000
