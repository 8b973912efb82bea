"""A folder with all sorts of files: each is a row of the run or is counted where the user reads of the run."""

import io
import json
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceattr.data.runs.version import read_published
from faceattr.data.stores.local import LocalStore
from tests.checkpoints import SIZES, save_random_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]
label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]


def picture(kind):
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


QUESTIONS = "attributes:\n  hat:\n    questions: ['is the person wearing a hat?']\n"
ROWS = {
    "a.jpg": (picture("JPEG"), "ok"),
    "camera/photo": (picture("JPEG"), "ok"),  # no ending
    "really a jpeg.heic": (picture("JPEG"), "ok"),
    "b.avif": (b"", "empty"),
    "c.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "unsupported"),
    "d.jxl": (b"\xff\x0a" + bytes(40), "unsupported"),
    "README": (b"Photos of a party.", "not_an_image"),
    "f.png": (picture("PNG")[:-20], "truncated"),
}
OTHER = ["list.csv", "more/rows.parquet", "clip.mov", "x.txt", "y.txt", ".git/config"]
SKIPPED = [".DS_Store", "camera/._photo", "Thumbs.db"]


@pytest.mark.long
def test_a_rejected_image_is_a_row_never_a_gap_for_every_file_of_a_folder(tmp_path, ray_local, capsys):
    save_random_checkpoint(tmp_path / "model", **SIZES["small"])
    (tmp_path / "questions.yaml").write_text(QUESTIONS)
    files = {key: data for key, (data, _) in ROWS.items()} | dict.fromkeys([*OTHER, *SKIPPED], b"x")
    for key, data in files.items():
        path = tmp_path / "in" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    command = ["--images", str(tmp_path / "in"), "--output", str(tmp_path / "run"), "--max-error-share", "1"]
    command += ["--model", str(tmp_path / "model"), "--attributes", str(tmp_path / "questions.yaml")]
    command += ["--workers.max-actors", "1", "--workers.gpus-per-actor", "1"]
    said = [
        "other files, no images: 6 (.txt 2, .csv 1, .git/ 1, .mov 1, .parquet 1)",
        "other files, skipped, of the operating system: 3 (.DS_Store 1, ._* 1, Thumbs.db 1)",
    ]
    assert label([*command, "--dry-run"]) == 0
    assert "\n".join(said) in capsys.readouterr().out
    assert label(command) == 0
    assert "\n".join(said) in capsys.readouterr().out
    run = LocalStore(tmp_path / "run")
    rows = pa.concat_tables(read_published(run)).to_pylist()
    assert {row["image_id"]: row["status"] for row in rows} == {key: status for key, (_, status) in ROWS.items()}
    assert next(row["error"] for row in rows if row["image_id"] == "c.jp2").startswith("JPEG 2000; ")
    page = run.get("report.html").decode()
    assert all(f"<p>{line}</p>" in page for line in said)
    counted = json.loads(run.get("run.json"))["source"]["files"]
    assert counted == {
        "rows": len(ROWS),
        "other": {".txt": 2, ".csv": 1, ".git/": 1, ".mov": 1, ".parquet": 1},
        "skipped": {".DS_Store": 1, "._*": 1, "Thumbs.db": 1},
        "is_complete": True,
    }
    assert counted["rows"] + sum(counted["other"].values()) + sum(counted["skipped"].values()) == len(files)


@pytest.mark.long
def test_a_run_that_began_before_files_were_counted_goes_on_with_its_own_rows(tmp_path, ray_local, capsys):
    save_random_checkpoint(tmp_path / "model", **SIZES["small"])
    (tmp_path / "questions.yaml").write_text(QUESTIONS)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(ROWS["a.jpg"][0])
    command = ["--images", str(tmp_path / "in"), "--output", str(tmp_path / "run"), "--max-error-share", "1"]
    command += ["--model", str(tmp_path / "model"), "--attributes", str(tmp_path / "questions.yaml")]
    command += ["--workers.max-actors", "1", "--workers.gpus-per-actor", "1"]
    assert label(command) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_bytes())
    del record["source"]["files"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    for key in ("_manifest.json", "report.html", *[path.name for path in (tmp_path / "run/labels").iterdir()]):
        (tmp_path / "run" / key).unlink(missing_ok=True)
        (tmp_path / "run/labels" / key).unlink(missing_ok=True)
    (tmp_path / "in" / "b.heic").write_bytes(b"since then")
    capsys.readouterr()
    assert label(command) == 0
    assert "labelled 1, rejected 0" in capsys.readouterr().out
    assert b"other files" not in (tmp_path / "run" / "report.html").read_bytes()
