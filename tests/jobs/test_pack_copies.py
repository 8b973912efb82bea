"""Packing near copies, and labels that an issue list names, on real Ray."""

import csv
import io
import json
import runpy
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from faceattr.data.packed.reader import open_packed
from faceattr.demo.faces import build_face_rng, draw_face
from tests.jobs.pack_images import picture, rows_of, write_images
from tests.label_runs import write_label_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pack = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "pack.py"))["main"]
NUM_FACES = 12


def splits_of(uri) -> dict[str, str]:
    data = open_packed([str(uri)], needs=())
    tables = [table for split in data.splits for table in data.iter_split(split, ["image_id", "split"])]
    return {row["image_id"]: row["split"] for table in tables for row in table.to_pylist()}


def encode(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """12 faces of the official train split, and of four of them a small, mirrored copy in val; one broken image."""
    root = tmp_path_factory.mktemp("faces")
    drawn = [Image.fromarray(draw_face(build_face_rng(8, number), 120).image) for number in range(NUM_FACES)]
    images = {f"face{number:02d}.jpg": encode(face, 92) for number, face in enumerate(drawn)}
    for number in range(4):
        images[f"copy{number:02d}.jpg"] = encode(ImageOps.mirror(drawn[number].resize((80, 80))), 60)
    images["broken.jpg"] = images["face05.jpg"][:300]
    write_images(root, images)
    lines = [
        f"{name},{number % 2},{'val' if name[0] == 'c' else 'train'}" for number, name in enumerate(sorted(images))
    ]
    (root / "labels.csv").write_text("\n".join(["file,hat,part", *lines]) + "\n")
    return root, sorted(images)


def flags(root, output, *more):
    columns = ["--source-options.columns", "image=file", "hat=hat", "split=part"]
    words = ["--source", "table", "--root", str(root), "--source-options.files", "labels.csv", *columns]
    return [*words, "--output", str(output), "--max-error-share", "0.2", *more]


def test_near_copies_of_held_out_images_leave_the_training_split(faces, tmp_path, ray_local, capsys):
    root, names = faces
    assert pack(flags(root, tmp_path / "run", "--dry-run")) == 0
    assert pack(flags(root, tmp_path / "run")) == 0
    shown = capsys.readouterr().out
    assert "near copies: 4 groups of 8 images in all, each in one split" in shown
    assert "4 rows left their official split" in shown
    held_out = {f"{kind}{number:02d}.jpg" for kind in ("face", "copy") for number in range(4)}
    assert splits_of(tmp_path / "run") == {
        name: "val" if name in held_out else "train" for name in names if name != "broken.jpg"
    }
    assert rows_of(tmp_path / "run")["broken.jpg"]["status"] == "truncated"
    with (tmp_path / "run" / "near_copies.csv").open() as file:
        groups = {}
        for row in csv.DictReader(file):
            groups.setdefault(row["group"], set()).add(row["image_id"])
    assert sorted(map(sorted, groups.values())) == [[f"copy{n:02d}.jpg", f"face{n:02d}.jpg"] for n in range(4)]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["fingerprint"]["near_copies"] == 6


def test_a_run_that_was_begun_without_goes_on_without(faces, tmp_path, ray_local, capsys):
    root, names = faces
    assert pack(flags(root, tmp_path / "run", "--near-copies", "off")) == 0
    assert "near copies" not in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not {"near_copies", "picture_hash"} & set(record["fingerprint"])
    assert "near" not in record["source"]["facts"]
    assert not (tmp_path / "run" / "near_copies.csv").exists()
    assert splits_of(tmp_path / "run") == {
        name: "val" if name[0] == "c" else "train" for name in names if name != "broken.jpg"
    }
    # What an earlier version began resumes by the same command: a finished run, and one that was stopped in its scan.
    assert pack(flags(root, tmp_path / "run")) == 0
    assert "nothing to do" in capsys.readouterr().out
    shutil.copytree(tmp_path / "run" / "scan", tmp_path / "stopped" / "scan")
    assert pack(flags(root, tmp_path / "stopped")) == 0
    assert "near copies" not in capsys.readouterr().out
    assert pack(flags(root, tmp_path / "stopped", "--near-copies", "4")) == 2
    assert "near_copies: there None, here 4" in capsys.readouterr().err


def test_images_of_a_label_run_are_hashed_when_asked(tmp_path, ray_local, capsys):
    face = Image.fromarray(draw_face(build_face_rng(9, 0), 120).image)
    images = {"a.jpg": encode(face, 92), "b.jpg": encode(face, 50), **{f"{n}.png": picture(n) for n in range(8)}}
    write_images(tmp_path / "in", images)
    rows = {name: (data, {"hat": 1, "hat_score": 0.9}) for name, data in images.items()}
    run = write_label_run(tmp_path / "labels", ["hat"], rows, root=tmp_path / "in")
    write_images(tmp_path / "in", {"3.png": 300})  # changed since it was labelled
    words = ["--labels", run, "--max-error-share", "0.2", "--splits.train", "0.5", "--splits.val", "0.5"]
    assert pack([*words, "--output", str(tmp_path / "packed"), "--near-copies", "3"]) == 0
    assert "near copies: 1 groups of 2 images" in capsys.readouterr().out
    splits = splits_of(tmp_path / "packed")
    assert splits["a.jpg"] == splits["b.jpg"]
    assert rows_of(tmp_path / "packed")["3.png"]["status"] == "changed"


def test_labels_of_an_issue_list_become_unknown(faces, tmp_path, ray_local, capsys):
    root, names = faces
    issues = tmp_path / "label_issues.parquet"
    columns = {"image_id": ["face01.jpg", "face02.jpg"], "attribute": ["hat", "hat"], "is_issue": [True, False]}
    pq.write_table(pa.table(columns), issues)
    more = ["--near-copies", "off", "--drop-issues", str(issues)]
    assert pack(flags(root, tmp_path / "run", *more)) == 0
    assert "label issues: 1 labels were set to unknown" in capsys.readouterr().out
    found = {name: row["hat"] for name, row in rows_of(tmp_path / "run").items()}
    expected = {name: number % 2 for number, name in enumerate(names)} | {"face01.jpg": None}
    assert found == expected
    assert pack(flags(root, tmp_path / "run", "--near-copies", "off")) == 2
    assert "drop_issues: there" in capsys.readouterr().err
