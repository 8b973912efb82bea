"""What a run may be given to read: prefixes, manifests, packed Parquet; on disk and on S3."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.data.inputs.open import open_input
from faceattr.data.runs.plan import read_part, write_plan
from faceattr.errors import ConfigError
from tests.data.input_rows import column, parquet, read
from tests.fakes.stores import MemoryStore

# Prefixes


def test_a_prefix_gives_its_images_of_any_depth_and_case(place):
    images = {"a.jpg": 1, "b.JPG": 2, "c.Jpeg": 3, "d/e f/g.png": 4, "d/ü#?.webp": 5, "d/x.y.TIFF": 6, "s+%41.avif": 7}
    others = ["a.txt", "a.jpg.part", "d/list.json", "a.jpgx", ".gitignore", "d/._a.jpg"]
    for key, size in images.items():
        place.put(key, b"x" * size)
    for key in others:
        place.put(key, b"x")
    source = open_input(place.uri)
    assert (source.kind, source.root, list(source.carried), source.bytes_column) == ("prefix", place.uri, [], None)
    found = {row["image_id"]: row for row in read(source)}
    assert {key: row["num_bytes"] for key, row in found.items()} == images
    assert {key: row["uri"] for key, row in found.items()} == {key: f"{place.uri}/{key}" for key in images}
    assert all(row["etag"] and row["source_row"] is None for row in found.values())
    assert source.files.num_rows + source.files.other.total() + source.files.skipped.total() == len(images) + len(
        others
    )


def test_a_prefix_may_end_with_a_slash(place):
    place.put("x/a.jpg", b"1")
    place.put("x-2/b.jpg", b"1")
    source = open_input(f"{place.uri}/x/")
    assert [(row["image_id"], row["uri"]) for row in read(source)] == [("a.jpg", f"{place.uri}/x/a.jpg")]


def test_images_beside_parquet_files_are_a_prefix(folder):
    folder.put("a.jpg", b"1")
    folder.put("list.parquet", b"no matter what")
    assert column(open_input(folder.uri), "image_id") == ["a.jpg"]


def test_nothing_is_found(place):
    with pytest.raises(ConfigError, match=r"found no image \(\.avif, .*\) and no \.parquet file") as error:
        open_input(f"{place.uri}/nothing")
    assert str(error.value).startswith(f"--images {place.uri}/nothing: ")
    assert str(error.value).endswith("the folder is empty or does not exist")
    for key in ("a.txt", "b.TXT", "c.csv", "._a.jpg"):
        place.put(key, b"")
    with pytest.raises(ConfigError, match=r"no images: 3 \(\.txt 2, \.csv 1\).*\(\._\* 1\); name a manifest itself"):
        open_input(place.uri)
    with pytest.raises(ConfigError, match=r"no images: 1 \(\.json 1\)$"):
        (place.put("x/y.json", b""), open_input(f"{place.uri}/x"))


@pytest.mark.parametrize("key", ["z.jpg", "z.heic", "z.NEF"])
def test_what_the_input_is_does_not_hang_on_its_first_thousand_objects(tmp_path, key):
    for number in range(1_100):
        (tmp_path / f"{number:04}.json").touch()
    (tmp_path / "a.parquet").write_bytes(b"no matter what")
    (tmp_path / key).touch()
    source = open_input(str(tmp_path))
    assert (source.kind, column(source, "image_id")) == ("prefix", [key])
    assert source.files.other == {".json": 1_100, ".parquet": 1}


def test_a_parquet_file_behind_a_thousand_others_is_found(place, tmp_path):
    for number in range(1_001):
        place.put(f"{number:04}.json", b"")
    place.put("z.parquet", parquet({"uri": ["a.jpg"]}))
    place.put("_SUCCESS", b"")
    source = open_input(place.uri)
    assert (source.kind, column(source, "image_id")) == ("manifest", ["a.jpg"])
    assert source.files.to_json()["other"] == {".json": 1_001, "no extension": 1}


def test_parquet_files_of_other_programs_and_of_a_mac_are_not_the_input(folder):
    folder.put("b.parquet", parquet({"uri": ["a.jpg"]}))
    for key in ("._b.parquet", "_delta_log/1.checkpoint.parquet", ".hidden/c.parquet"):
        folder.put(key, b"no table")
    source = open_input(folder.uri)
    assert column(source, "image_id") == ["a.jpg"]
    assert (source.files.other, source.files.skipped) == ({".parquet": 2}, {"._*": 1})


def test_images_whose_names_have_no_ending(place):
    for key in ("0a1b", "d/2c3d", "notes.txt"):
        place.put(key, b"")
    source = open_input(place.uri)
    assert (source.kind, sorted(column(source, "image_id"))) == ("prefix", ["0a1b", "d/2c3d"])


def test_a_file_name_that_is_no_text_is_named(tmp_path):
    Path(str(tmp_path) + "/caf\udce9.jpg").write_bytes(b"1")
    with pytest.raises(ConfigError, match=r"caf\\udce9\.jpg.*not UTF-8"):
        read(open_input(str(tmp_path)))


# Manifests


# Packed images


def test_packed_images_in_a_binary_column(place):
    place.put("train.parquet", parquet({"image": [b"1", b"22"], "hat": [0, 1], "image_id": ["x", "y"]}))
    source = open_input(f"{place.uri}/train.parquet", reserved=["hat"])
    assert (source.kind, source.root, source.bytes_column) == ("packed", place.uri, "image")
    assert source.carried.names == ["given_hat"]
    rows = read(source)
    assert [(row["image_id"], row["source_row"], row["given_hat"]) for row in rows] == [("x", 0, 0), ("y", 1, 1)]
    assert {row["uri"] for row in rows} == {f"{place.uri}/train.parquet"}


@pytest.mark.parametrize("carried", [{}, {"n": [5, 6, 7]}])
def test_packed_images_of_hugging_face_without_ids(place, carried):
    image = pa.array(
        [{"bytes": b"1", "path": "same.jpg"}] * 3, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    place.put("data/train-0.parquet", parquet({"image": image} | carried))
    place.put("data/train-1.parquet", parquet({"image": image} | carried))
    source = open_input(f"{place.uri}/data")
    assert (source.kind, source.bytes_column, source.carried.names) == ("packed", "image", list(carried))
    assert [(row["image_id"], row["uri"], row["source_row"]) for row in read(source)] == [
        (f"train-{file}.parquet#{row}", f"{place.uri}/data/train-{file}.parquet", row)
        for file in range(2)
        for row in range(3)
    ]


def test_rows_are_numbered_per_file_over_row_groups(folder):
    pq.write_table(pa.table({"jpg": [b"x"] * 20_000}), Path(folder.uri) / "a.parquet", row_group_size=7_000)
    source = open_input(f"{folder.uri}/a.parquet")
    assert column(source, "source_row") == list(range(20_000))


@pytest.mark.parametrize(
    ("kind", "packed"),
    [(pa.binary(), True), (pa.large_binary(), True), (pa.binary_view(), True), (pa.string(), False)],
)
def test_what_counts_as_image_bytes(folder, kind, packed):
    folder.put("a.parquet", parquet({"bytes": pa.array([b"1"]).cast(kind), "uri": ["a.jpg"]}))
    assert open_input(f"{folder.uri}/a.parquet").kind == ("packed" if packed else "manifest")


def test_a_bytes_column_of_another_name(folder):
    folder.put("a.parquet", parquet({"picture": [b"1"], "uri": ["s3://elsewhere/a.jpg"]}))
    source = open_input(f"{folder.uri}/a.parquet", bytes_column="picture")
    assert (source.kind, source.bytes_column) == ("packed", "picture")
    assert column(source, "image_id") == ["s3://elsewhere/a.jpg"]
    with pytest.raises(ConfigError, match=r"there is no column 'photo'; found \['picture', 'uri'\]"):
        open_input(f"{folder.uri}/a.parquet", bytes_column="photo")
    with pytest.raises(ConfigError, match="column 'uri' holds string, expected encoded images"):
        open_input(f"{folder.uri}/a.parquet", bytes_column="uri")


def test_numbers_as_ids(folder):
    folder.put("a.parquet", parquet({"image": [b"1", b"2"], "image_id": [7, 8]}))
    assert column(open_input(f"{folder.uri}/a.parquet"), "image_id") == ["7", "8"]


def test_a_packed_image_without_its_id(folder):
    folder.put("a.parquet", parquet({"image": [b"1", b"2"], "image_id": ["x", None]}))
    with pytest.raises(ConfigError, match=r"a\.parquet: row 1 \(counted from 0\) has no 'image_id'"):
        read(open_input(f"{folder.uri}/a.parquet"))


def test_packed_files_that_differ(folder):
    folder.put("1.parquet", parquet({"image": [b"1"], "image_id": ["a"], "n": [1]}))
    folder.put("2.parquet", parquet({"image": [b"1"], "n": [1]}))
    with pytest.raises(ConfigError, match=r"2\.parquet: there is no column 'image_id'"):
        read(open_input(folder.uri))
    folder.put("2.parquet", parquet({"image_id": ["b"], "n": [1]}))
    with pytest.raises(ConfigError, match=r"2\.parquet: there is no column 'image'"):
        read(open_input(folder.uri))


def test_packed_ids_that_stand_twice_over_files(folder):
    for name in ("1", "2"):
        folder.put(f"{name}.parquet", parquet({"image": [b"1"], "image_id": ["x"]}))
    with pytest.raises(ConfigError, match=r"'x' \(rows 0 and 1\)"):
        write_plan(MemoryStore(), open_input(folder.uri).tables)


# To the plan


def test_an_input_becomes_a_plan_with_a_limit(place):
    for number in range(5):
        place.put(f"{number}.jpg", b"12")
    run = MemoryStore()
    plan = write_plan(run, open_input(place.uri).tables, limit=3, unique_by_source=True)
    assert (plan.num_rows, plan.num_bytes) == (3, 6)
    rows = read_part(run, plan.parts[0])
    assert rows["row"].to_pylist() == [0, 1, 2]
    assert len(set(rows["image_id"].to_pylist())) == 3
