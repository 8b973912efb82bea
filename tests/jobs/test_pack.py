"""`pipelines/pack.py` end to end on real Ray: each kind of source, S3, resume, retries, copies, and what is refused."""

import collections
import csv
import hashlib
import io
import json
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_manifest
from faceattr.data.stores.open import open_store
from tests.jobs.pack_images import picture, rows_of, write_images

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pack = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "pack.py"))["main"]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "fairface"


def splits_of(uri) -> dict[str, str]:
    data = open_packed([str(uri)], needs=())
    tables = [table for split in data.splits for table in data.iter_split(split, ["image_id", "split"])]
    return {row["image_id"]: row["split"] for table in tables for row in table.to_pylist()}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """60 images with labels in a CSV: some broken, one missing, two copies that conflict and two that do not."""
    root = tmp_path_factory.mktemp("listed")
    images = {f"img/{number:03d}.png": number for number in range(60)}
    images |= {"img/001.png": 0, "img/003.png": 2}  # copies of 000 and of 002
    images |= {"img/010.png": b"<!DOCTYPE html>", "img/011.png": b"", "img/012.png": picture(12)[:-30]}
    write_images(root, images)
    (root / "img" / "013.png").unlink()
    labels = {name: (number % 2, number % 3 == 0) for number, name in enumerate(sorted(images))}
    labels["img/003.png"] = labels["img/002.png"]
    lines = [f"{name},{hat},{int(beard)}" for name, (hat, beard) in labels.items()]
    (root / "labeled_data.csv").write_text("\n".join(["image_path,hat,beard", *lines]) + "\n")
    return root, labels


def flags(root, output, *more):
    return ["--source", "label_list", "--root", str(root), "--output", str(output), "--max-error-share", "0.2", *more]


def test_a_list_from_start_to_end(listed, tmp_path, ray_local, capsys):
    root, labels = listed
    assert pack(flags(root, tmp_path / "run", "--dry-run")) == 0
    shown = capsys.readouterr().out
    assert "60 rows from" in shown
    assert "Nothing was written" in shown
    assert not (tmp_path / "run").exists()

    assert pack(flags(root, tmp_path / "run")) == 0
    shown = capsys.readouterr().out
    assert "packed 56, rejected 4" in shown
    assert "conflicts: 1 images have copies whose labels cannot all be true; 4 labels were masked" in shown
    rows = rows_of(tmp_path / "run")
    assert sorted(rows) == sorted(labels)  # every row of the list is in the table once
    reasons = {name: row["status"] for name, row in rows.items() if row["status"] != "ok"}
    assert reasons == {
        "img/010.png": "not_an_image",
        "img/011.png": "empty",
        "img/012.png": "truncated",
        "img/013.png": "missing",
    }
    assert all(rows[name]["image"] is None and rows[name]["error"] for name in reasons)
    for name, row in rows.items():
        if name not in reasons:
            data = (root / name).read_bytes()
            assert row["image"] == data
            assert row["sha256"] == hashlib.sha256(data).hexdigest()
            assert (row["width_px"], row["height_px"]) == (12, 10)
        known = (None, None) if name in ("img/000.png", "img/001.png") else labels[name]
        assert (row["hat"], row["beard"]) == known

    conflicts = list(csv.DictReader((tmp_path / "run" / "conflicts.csv").open()))
    assert [(row["attribute"], row["image_id"], row["label"]) for row in conflicts] == [
        ("beard", "img/000.png", "1"),
        ("beard", "img/001.png", "0"),
        ("hat", "img/000.png", "0"),
        ("hat", "img/001.png", "1"),
    ]
    splits = splits_of(tmp_path / "run")
    assert splits["img/000.png"] == splits["img/001.png"]
    assert splits["img/002.png"] == splits["img/003.png"]
    for split in ("train", "val", "test"):
        members = sorted(name for name, each in splits.items() if each == split)
        path = tmp_path / "run" / "splits" / f"{split}.csv"
        found = list(csv.DictReader(path.open())) if members else []
        assert sorted(row["image_id"] for row in found) == members
        for row in found:
            expected = (
                ("", "")
                if row["image_id"] in ("img/000.png", "img/001.png")
                else tuple(str(int(label)) for label in labels[row["image_id"]])
            )
            assert (row["hat"], row["beard"]) == expected

    before = {path: path.read_bytes() for path in (tmp_path / "run" / "packed").rglob("*.parquet")}
    assert pack(flags(root, tmp_path / "run")) == 0
    assert "nothing to do: this run is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "packed").rglob("*.parquet")} == before
    assert pack(flags(root, tmp_path / "run", "--splits.seed", "1")) == 2
    assert "splits.seed: there 0, here 1" in capsys.readouterr().err


def test_seeds_and_policies(listed, tmp_path, ray_local):
    root, _ = listed
    for name, more in {
        "a": [],
        "b": ["--conflicts", "keep"],
        "c": ["--splits.seed", "5", "--conflicts", "drop"],
    }.items():
        assert pack(flags(root, tmp_path / name, *more)) == 0
    tables = {name: rows_of(tmp_path / name) for name in "abc"}
    order = {name: [key for key, row in rows.items() if row["status"] == "ok"] for name, rows in tables.items()}
    assert splits_of(tmp_path / "a") == splits_of(tmp_path / "b")
    assert order["a"] == order["b"]
    assert order["a"] != sorted(order["a"])
    assert [key for key in order["a"] if key in tables["c"]] != order["c"]
    assert (tables["b"]["img/000.png"]["hat"], tables["b"]["img/001.png"]["hat"]) == (0, 1)
    assert set(tables["a"]) - set(tables["c"]) == {"img/000.png", "img/001.png"}


def test_re_encoding(tmp_path, ray_local):
    turned = Image.fromarray(np.arange(40 * 20 * 3, dtype=np.uint8).reshape(20, 40, 3) // 2)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    write_images(tmp_path / "in", {"a.jpg": buffer.getvalue(), "b.png": picture(1, (9, 30))})
    (tmp_path / "in" / "labeled_data.csv").write_text("image_path,hat\na.jpg,1\nb.png,0\n")
    assert pack(flags(tmp_path / "in", tmp_path / "out", "--short-side-px", "10")) == 0
    rows = rows_of(tmp_path / "out")
    for name, size in {"a.jpg": (10, 20), "b.png": (9, 30)}.items():  # what is small enough keeps its size
        image = Image.open(io.BytesIO(rows[name]["image"]))
        assert (image.format, image.size, dict(image.getexif())) == ("JPEG", size, {})
        assert (rows[name]["width_px"], rows[name]["height_px"]) == size
    assert rows["a.jpg"]["sha256"] == hashlib.sha256(buffer.getvalue()).hexdigest()


def test_a_run_goes_on_where_it_was_stopped(listed, tmp_path, ray_local, capsys):
    root, labels = listed
    first, second = tmp_path / "undisturbed", tmp_path / "stopped"
    # Small shards, so that some can be there and others not.
    more = ["--shard-mb", "1"]
    assert pack(flags(root, first, *more)) == 0
    assert pack(flags(root, second, *more)) == 0
    kept = {}
    shards = sorted((second / "packed").rglob("*.parquet"))
    (second / "_manifest.json").unlink()  # as a driver leaves it that was killed before the end
    shards[0].unlink()
    for path in shards[1:]:
        kept[path] = path.stat().st_mtime_ns
    capsys.readouterr()
    assert pack(flags(root, second, *more)) == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert rows_of(second) == rows_of(first)

    third = tmp_path / "scanned"  # stopped between the scan and the plan, one shard of the scan lost
    assert pack(flags(root, third, *more)) == 0
    (third / "run.json").unlink()
    (third / "_manifest.json").unlink()
    (third / "scan" / "_manifest.json").unlink()
    for path in (third / "packed").rglob("*.parquet"):
        path.unlink()
    assert pack(flags(root, third, *more)) == 0
    assert splits_of(third) == splits_of(first)
    assert sorted(rows_of(third)) == sorted(labels)


def test_images_that_change_or_come_late(tmp_path, ray_local, capsys):
    root = tmp_path / "in"
    write_images(root, {f"{number:02d}.png": number for number in range(20)})
    lines = [f"{number:02d}.png,{number % 2}" for number in range(21)]
    (root / "labeled_data.csv").write_text("image_path,hat\n" + "\n".join(lines) + "\n")
    assert pack(flags(root, tmp_path / "run")) == 0
    for path in (tmp_path / "run" / "packed").rglob("*.parquet"):
        path.unlink()
    (tmp_path / "run" / "_manifest.json").unlink()
    (root / "05.png").write_bytes(picture(500))
    (root / "20.png").write_bytes(picture(20))
    (root / "06.png").unlink()
    assert pack(flags(root, tmp_path / "run")) == 0
    bad = {name: row["status"] for name, row in rows_of(tmp_path / "run").items() if row["status"] != "ok"}
    assert bad == {"05.png": "changed", "06.png": "missing", "20.png": "late"}

    first = read_manifest(open_store(str(tmp_path / "run")))
    (root / "05.png").write_bytes(picture(5))
    write_images(root, {"06.png": 6})
    assert pack(flags(root, tmp_path / "run", "--retry-failed")) == 0
    again = read_manifest(open_store(str(tmp_path / "run")))
    assert (first.version, again.version) == (1, 2)
    assert (again.num_rows, again.status_counts) == (21, {"late": 1, "ok": 20})
    assert (
        sum(open_packed([str(tmp_path / "run")], needs=()).num_rows(split) for split in ("train", "val", "test")) == 20
    )
    capsys.readouterr()


def test_too_many_bad_images(tmp_path, ray_local, capsys):
    root = tmp_path / "in"
    write_images(root, {"0.png": 0, "1.png": 1})
    (root / "labeled_data.csv").write_text("image_path,hat\n0.png,1\n1.png,0\n2.png,1\n3.png,0\n")
    assert pack(flags(root, tmp_path / "run")) == 1
    assert "2 of 4 images (50.0%) cannot be used" in capsys.readouterr().err
    write_images(root, {"2.png": 2, "3.png": 3})  # mended: the same command takes them in
    assert pack(flags(root, tmp_path / "run")) == 0
    assert {row["status"] for row in rows_of(tmp_path / "run").values()} == {"ok"}


def test_label_rows_have_the_budget_of_images(tmp_path, ray_local, capsys):
    root = tmp_path / "in"
    write_images(root, {f"{number}.png": number for number in range(20)})
    cells = [(f"{number}.png", "1" if number < 18 else "perhaps") for number in range(20)]
    (root / "labeled_data.csv").write_text("image_path,hat\n" + "".join(f"{name},{hat}\n" for name, hat in cells))
    command = ["--source", "label_list", "--root", str(root), "--output", str(tmp_path / "run")]
    for more in (["--dry-run"], []):
        assert pack([*command, *more]) == 2
        error = capsys.readouterr().err
        assert "2 of 20 label rows (10.0%) cannot be used, more than --max-error-share 0.05" in error
        assert "'perhaps'" in error
        assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert pack([*command, "--max-error-share", "0.1"]) == 0
    assert len(rows_of(tmp_path / "run")) == 18


def test_fairface_keeps_its_splits_and_can_rename_them(tmp_path, ray_local, capsys):
    root = tmp_path / "in"
    write_images(
        root,
        {f"{split}/{number}.png": number + 100 * (split == "val") for split in ("train", "val") for number in range(8)},
    )
    for split in ("train", "val"):
        lines = [f"{split}/{number}.png,20-29,{'Male' if number % 2 else 'Female'},White,True" for number in range(8)]
        (root / f"fairface_label_{split}.csv").write_text(
            "file,age,gender,race,service_test\n" + "\n".join(lines) + "\n"
        )
    command = ["--source", "fairface", "--root", str(root), "--output"]
    assert pack([*command, str(tmp_path / "kept")]) == 0
    assert {name: name.partition("/")[0] for name in splits_of(tmp_path / "kept")} == splits_of(tmp_path / "kept")
    assert collections.Counter(splits_of(tmp_path / "kept").values()) == {"train": 8, "val": 8}
    renamed = [str(tmp_path / "renamed"), "--splits.rename", "val=test", "--limit", "12"]
    assert pack([*command, *renamed]) == 0
    assert collections.Counter(splits_of(tmp_path / "renamed").values()) == {"train": 8, "test": 4}
    assert "the split 'val' is empty" in capsys.readouterr().out


def test_facecom_identities_are_in_every_split_and_groups_stay_together_when_asked(tmp_path, ray_local):
    root = tmp_path / "in"
    write_images(root, {f"images/{number}.png": number for number in range(60)})
    entries = [
        {"filename": f"{number}.png", "gender": "Male" if number % 3 else "Female", "person_id": number % 3}
        for number in range(60)
    ]
    (root / "annotations.json").write_text(json.dumps(entries))
    command = ["--source", "facecom", "--root", str(root), "--splits.val", "0.3"]
    assert pack([*command, "--output", str(tmp_path / "auto")]) == 0
    data = open_packed([str(tmp_path / "auto")])
    known = [
        set(pa.concat_tables(data.iter_split(split, ["identity"]))["identity"].to_pylist())
        for split in ("train", "val")
    ]
    assert known == [{0, 1, 2}, {0, 1, 2}]
    assert pack([*command, "--output", str(tmp_path / "group"), "--splits.by", "group"]) == 0
    splits = splits_of(tmp_path / "group")
    people = collections.defaultdict(set)
    for name, split in splits.items():
        people[int(Path(name).stem) % 3].add(split)
    assert all(len(each) == 1 for each in people.values())


def test_celeba_with_mixed_negatives(tmp_path, ray_local, capsys):
    root = tmp_path / "in"
    names = ["Eyeglasses", "Wearing_Hat", "No_Beard", "Mustache"]
    lines = ["40", " ".join(names)]
    for number in range(40):
        values = [1 if number < 5 else -1, 1 if 3 <= number < 8 else -1, 1, -1]
        lines.append(f"{number:06d}.jpg " + " ".join(map(str, values)))
    write_images(root, {f"img_align_celeba/{number:06d}.jpg": number for number in range(40)})
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    command = ["--source", "celeba", "--root", str(root), "--output", str(tmp_path / "run")]
    chosen = ["--select.any-of", "eyeglasses", "wearing_hat", "--select.negatives", "6"]
    assert pack([*command, *chosen]) == 0
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 14
    assert {f"img_align_celeba/{number:06d}.jpg" for number in range(8)} <= set(rows)
    assert "selected 8 positives and 6 negatives; left out 26" in capsys.readouterr().out
    assert pack([*command[:-1], str(tmp_path / "other"), *chosen[:-1], "33"]) == 2
    assert "only 32 images have a no for all" in capsys.readouterr().err


def test_utkface_and_a_table(tmp_path, ray_local):
    write_images(tmp_path / "utk", {f"{20 + n}_{n % 2}_2_2017011617452512{n}.jpg": n for n in range(4)})
    assert pack(["--source", "utkface", "--root", str(tmp_path / "utk"), "--output", str(tmp_path / "a")]) == 0
    row = rows_of(tmp_path / "a")["21_1_2_20170116174525121.jpg"]
    assert (row["age_low"], row["age_high"], row["gender"], row["race_group"]) == (21.0, 22.0, 1, 2)

    write_images(tmp_path / "table", {"x/1.png": 1, "x/2.png": 2})
    (tmp_path / "table" / "labels.csv").write_text("path,years,who,part\nx/1.png,20-29,ann,train\nx/2.png,,bob,val\n")
    columns = ["image=path", "age=years:age", "split=part", "who=who:identity"]
    command = ["--source", "table", "--root", str(tmp_path / "table"), "--source-options.columns", *columns]
    assert pack([*command, "--output", str(tmp_path / "b")]) == 0
    rows = rows_of(tmp_path / "b")
    assert (rows["x/1.png"]["age_low"], rows["x/1.png"]["who"], rows["x/1.png"]["group"]) == (20.0, 0, "ann")
    assert splits_of(tmp_path / "b") == {"x/1.png": "train", "x/2.png": "val"}


def test_a_source_on_s3(s3_uri, ray_local):
    write_images(f"{s3_uri}/in", {f"{number:02d}.png": number for number in range(30)})
    lines = "".join(f"{number:02d}.png,{number % 2}\n" for number in range(30))
    open_store(f"{s3_uri}/in").put("labeled_data.csv", f"image_path,hat\n{lines}".encode())
    assert pack(flags(f"{s3_uri}/in", f"{s3_uri}/run")) == 0
    data = open_packed([f"{s3_uri}/run"], needs=("train",))
    rows = [row for split in data.splits for table in data.iter_split(split) for row in table.to_pylist()]
    assert {row["image_id"]: (row["image"], row["hat"]) for row in rows} == {
        f"{number:02d}.png": (picture(number), number % 2) for number in range(30)
    }


@pytest.mark.skipif(not SHARED.is_dir(), reason="the FairFace sample is not beside the project")
def test_a_sample_of_real_fairface(tmp_path, ray_local):
    command = ["--source", "fairface", "--root", str(SHARED), "--output", str(tmp_path / "run")]
    assert pack([*command, "--limit", "300", "--short-side-px", "48"]) == 0
    data = open_packed([str(tmp_path / "run")], needs=("train",))
    table = pa.concat_tables(data.iter_split("train", ["width_px", "height_px", "gender"]))
    assert len(table) == 300
    assert set(table["width_px"].to_pylist()) == set(table["height_px"].to_pylist()) == {48}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--source", "fairface"], "--root: expected the folder of --source fairface"),
        (["--root", "x"], "--labels: expected a label run, or --source and --root"),
        (["--labels", "{tmp}/none"], "there is no published label run"),
        (["--source", "label_list", "--root", "{tmp}/none"], "found none of"),
        (["--source", "label_list", "--root", "{root}", "--source-options.attributes", "hats"], "did you mean 'hat'"),
        (["--source", "label_list", "--root", "{root}", "--select.any-of", "hatt"], "did you mean 'hat'"),
        (["--source", "label_list", "--root", "{root}", "--splits.rename", "val=tset"], "entries such as val=test"),
        (["--source", "utkface", "--root", "{root}", "--source-options.files", "x"], "has no option 'files'"),
    ],
)
def test_commands_that_are_refused_before_anything_is_written(listed, tmp_path, capsys, given, message):
    words = [word.format(tmp=tmp_path, root=listed[0]) for word in given]
    assert pack([*words, "--output", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
