"""`audit sample --copy-images`: the audit is judged, here or in another tool, without the store of the images."""

import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.audit.folder import SAMPLE_KEY
from faceattr.audit.judgements import read_judgements
from faceattr.cli import main
from faceattr.data.stores.local import LocalStore
from tests.audit.review.servers import encode_colour
from tests.audit.review.test_pictures import fetch_pictures, read_picture
from tests.label_runs import write_label_run

NUM = 24
KINDS = ("JPEG", "PNG", "WEBP")
ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


@pytest.fixture
def images():
    """Image id to bytes of an image of its own colour, in three formats; names say what nobody may read off them."""
    found = {}
    for row in range(NUM):
        colour = f"#{row * 10:02x}40{250 - row * 10:02x}"
        found[f"hat_{row % 2}/{row}.img"] = encode_colour(colour, kind=KINDS[row % 3])
    return found


def write_run(folder, images, *, packed):
    """A label run of hat and glasses on these images, as objects of a folder or in a Parquet file."""
    where = {}
    if packed:
        pq.write_table(pa.table({"image": list(images.values())}), folder / "packed.parquet", row_group_size=5)
        where = {"bytes_column": "image", "file": str(folder / "packed.parquet")}
    for name, data in {} if packed else images.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(data)
    rows = {}
    for row, (name, data) in enumerate(images.items()):
        score = (row + 0.5) / NUM
        labels = {"hat": int(score >= 0.5), "hat_score": score, "hat_mass": 1.0}
        rows[name] = (data, {**labels, **{key.replace("hat", "glasses"): each for key, each in labels.items()}})
    return write_label_run(folder / "run", ["hat", "glasses"], rows, root=folder / "images", **where)


def sample(run, folder, *flags, count=20):
    return main(["audit", "sample", run, "--output", str(folder), "--per-attribute", str(count), *flags])


@pytest.mark.parametrize("packed", [False, True])
def test_copies_are_the_images_bytes_under_names_that_say_nothing(images, packed, tmp_path, capsys):
    run, audit = write_run(tmp_path, images, packed=packed), tmp_path / "audit"
    assert sample(run, audit, "--copy-images") == 0
    items = pq.read_table(audit / SAMPLE_KEY).to_pylist()
    copied = {row["row"] for row in items}
    assert f"{len(copied)} images are copied" in capsys.readouterr().out
    assert len(items) == 40
    names = list(images)
    for row in items:
        assert row["copy"] == f"images/{row['row']:09d}.{ENDINGS[KINDS[row['row'] % 3]]}"
        assert (audit / row["copy"]).read_bytes() == images[names[row["row"]]]
    assert len(list((audit / "images").iterdir())) == len(copied)
    # What is not asked for is not copied, and the draw is the same.
    assert sample(run, tmp_path / "plain") == 0
    plain = pq.read_table(tmp_path / "plain" / SAMPLE_KEY)
    assert plain["copy"].null_count == 40
    assert not (tmp_path / "plain" / "images").exists()
    assert plain.drop_columns("copy").to_pylist() == [{k: v for k, v in row.items() if k != "copy"} for row in items]


def test_a_reviewer_needs_no_access_to_the_images(images, tmp_path, capsys):
    run, audit = write_run(tmp_path, images, packed=False), tmp_path / "audit"
    gone = "hat_0/4.img"
    (tmp_path / "images" / gone).unlink()
    assert sample(run, audit, "--copy-images", count=NUM) == 0
    assert "1 images could not be copied: missing" in capsys.readouterr().out
    shutil.move(audit, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "images")
    items = pq.read_table(tmp_path / "elsewhere" / SAMPLE_KEY).to_pylist()
    found = fetch_pictures(
        tmp_path / "elsewhere", *range(5), *(row["item"] for row in items if row["image_id"] == gone)
    )
    for row, (status, data) in zip(items[:5], found, strict=False):
        if row["image_id"] != gone:
            assert status == 200
            red = read_picture(data)[:, :15, 0].mean()
            assert red == pytest.approx(row["row"] * 10, abs=14)
    for status, problem in found[5:]:
        assert status == 422
        assert json.loads(problem) == {
            "reason": "missing",
            "detail": "it could not be read when the audit's images were copied",
        }


@pytest.mark.parametrize("tool", ["label-studio", "cvat", "fiftyone"])
def test_other_tools_get_the_copies_and_their_answers_come_back(images, tool, tmp_path, capsys):
    run, audit, path = write_run(tmp_path, images, packed=True), tmp_path / "audit", tmp_path / "out"
    command = ["audit", "export", str(audit), "--format", tool, "--attribute", "hat", "--output", str(path)]
    assert sample(run, audit) == 0
    assert main(command) == 2  # rows of a Parquet file
    assert "sample them with copies (faceattr audit sample --copy-images)" in capsys.readouterr().err
    shutil.rmtree(audit)
    assert sample(run, audit, "--copy-images") == 0
    items = [row for row in pq.read_table(audit / SAMPLE_KEY).to_pylist() if row["attribute"] == "hat"]
    shutil.rmtree(path, ignore_errors=True)
    assert main(command) == 0
    text = path.read_text() if path.is_file() else (path / "hat" / "labels.json").read_text()
    assert "hat_0" not in text
    assert "hat_1" not in text
    answers = {row["copy"]: ("no", "yes")[int(hashlib.sha256(row["copy"].encode()).digest()[0] > 99)] for row in items}
    if tool == "label-studio":
        tasks = json.loads(text)
        assert [task["data"]["image"] for task in tasks] == [f"/data/local-files/?d={row['copy']}" for row in items]
        for task in tasks:
            said = {"from_name": "hat", "type": "choices", "value": {"choices": [answers[task["data"]["image_id"]]]}}
            task["annotations"] = [{"result": [said]}]
        path.write_text(json.dumps(tasks))
    elif tool == "cvat":
        for copy, said in answers.items():
            assert text.count(f'name="{copy}">') == 1
            text = text.replace(f'name="{copy}">', f'name="{copy}"><tag label="hat={said}" source="manual"/>')
        path.write_text(text)
    else:
        content = json.loads(text)
        assert list(content["labels"]) == [str(audit / row["copy"]) for row in items]
        content["labels"] = {str(audit / copy): content["classes"].index(said) for copy, said in answers.items()}
        (path / "hat" / "labels.json").write_text(json.dumps(content))
    assert main(["import", "judgements", str(path), "--format", tool, "--output", str(audit)]) == 0
    said = {each.item: each.answer for each in read_judgements(LocalStore(audit))}
    assert said == {row["item"]: int(answers[row["copy"]] == "yes") for row in items}


def test_a_folder_with_an_audit_is_left_alone(images, tmp_path, capsys):
    run, audit = write_run(tmp_path, images, packed=False), tmp_path / "audit"
    assert sample(run, audit) == 0
    assert sample(run, audit, "--copy-images") == 2
    assert "already has an audit" in capsys.readouterr().err
    assert not (audit / "images").exists()


def test_a_table_of_scores_names_images_beside_it_and_elsewhere(images, tmp_path, monkeypatch):
    here, there = tmp_path / "tables", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (first, data), (second, other) = list(images.items())[:2]
    (here / "a.img").write_bytes(data)
    (there / "b.img").write_bytes(other)
    table = {"image_path": ["a.img", f"{there}/b.img"], "hat_score": [0.1, 0.9]}
    pq.write_table(pa.table(table), here / "scores.parquet")
    monkeypatch.chdir(tmp_path)
    assert sample("tables/scores.parquet", "audit", "--copy-images") == 0
    monkeypatch.chdir(here)
    copies = {row["image_id"]: row["copy"] for row in pq.read_table(tmp_path / "audit" / SAMPLE_KEY).to_pylist()}
    assert (tmp_path / "audit" / copies["a.img"]).read_bytes() == images[first]
    assert (tmp_path / "audit" / copies[f"{there}/b.img"]).read_bytes() == images[second]
