"""WebDataset tar files as input: rows and their texts, and the images read back by ranges; on disk and on S3."""

import io
import subprocess
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.open import open_input
from faceattr.data.inputs.run_images import RunImages
from faceattr.data.runs.plan import read_part, write_plan
from faceattr.errors import ConfigError, ImageError, RunError, StorageError
from faceattr.jobs.images.read import ReadImages
from tests.data.input_rows import column, parquet, read
from tests.data.tar_files import data_offsets, write_tar
from tests.fakes.stores import MemoryStore

LIMITS = ImageLimitsConfig()
STORAGE = StorageConfig()
FIRST = {
    "0001.jpg": b"a" * 700,
    "0001.json": b'{"age": 31}\n',
    "0001.cls": b"4\n",
    "0002.cls": b"5",
    "0002.png": b"",
    "d/0003.JPG": b"c" * 100_000,
    "0004.left.jpg": b"left",
    "0004.right.jpg": b"right",
    "0004.txt": "a caption, \u00fc".encode(),
    "0005.seg.npy": b"no image",
}
SECOND = {"0001.webp": b"w" * 1_025, "README": b"x", "._0001.webp": b"x", "0009.json": b"{}"}


def put_two(place):
    """Two tar files: (data of the first, of the second)."""
    shards = [write_tar(each.items()) for each in (FIRST, SECOND)]
    place.put("train/b.tar", shards[1])
    place.put("train/a.tar", shards[0])
    place.put("train/notes.txt", b"x")
    return shards


def read_images(rows, root, **options):
    """Row number -> the image or the status."""
    found = {}
    numbered = rows if "row" in rows.column_names else rows.add_column(0, "row", pa.array(range(len(rows)), pa.int64()))
    for table in ReadImages(root, STORAGE, options.pop("limits", LIMITS), **options)(numbered):
        for row in table.to_pylist():
            found[row["row"]] = row["data"] if row["status"] == "ok" else row["status"]
    return found


def test_every_image_of_the_tar_files_is_a_row_with_its_texts(place):
    shards = put_two(place)
    source = open_input(f"{place.uri}/train")
    assert (source.kind, source.root, source.bytes_column) == ("tar", f"{place.uri}/train", None)
    rows = read(source)
    assert [(row["image_id"], row["cls"], row["json"], row["txt"]) for row in rows] == [
        ("a.tar/0001.jpg", "4", '{"age": 31}', None),
        ("a.tar/0002.png", "5", None, None),
        ("a.tar/d/0003.JPG", None, None, None),
        ("a.tar/0004.left.jpg", None, None, "a caption, \u00fc"),
        ("a.tar/0004.right.jpg", None, None, "a caption, \u00fc"),
        ("b.tar/0001.webp", None, None, None),
    ]
    assert [row["num_bytes"] for row in rows] == [700, 0, 100_000, 4, 5, 1_025]
    assert {row["uri"] for row in rows} == {f"{place.uri}/train/a.tar", f"{place.uri}/train/b.tar"}
    places = [data_offsets(shard) for shard in shards]
    by_tar = {"a.tar": places[0], "b.tar": places[1]}
    for row in rows:
        tar, _, name = row["image_id"].partition("/")
        assert row["source_row"] + 512 == by_tar[tar][name]
    assert source.files.to_json() == {
        "rows": 6,
        # Labels without an image, a file that is none, one without an ending, and the file beside the tar files.
        "other": {".json": 1, ".npy": 1, ".txt": 1, "no extension": 1},
        "skipped": {"._*": 1},
        "is_complete": True,
    }


def test_a_single_tar_file_is_an_input(place):
    put_two(place)
    source = open_input(f"{place.uri}/train/b.tar")
    assert (source.kind, source.root, column(source, "image_id")) == ("tar", f"{place.uri}/train", ["b.tar/0001.webp"])
    with pytest.raises(ConfigError, match=r"c\.tar does not exist$"):
        open_input(f"{place.uri}/train/c.tar")


def test_the_images_are_read_back_in_any_order_of_rows(place):
    put_two(place)
    source = open_input(f"{place.uri}/train")
    rows = pa.concat_tables(source.tables)
    expected = dict(enumerate([FIRST[name] for name in FIRST if name.endswith(("jpg", "png", "JPG"))]))
    expected[5] = SECOND["0001.webp"]
    shuffled = rows.add_column(0, "row", pa.array(range(6), pa.int64())).take([4, 0, 5, 2, 1, 3])
    assert read_images(shuffled, source.root) == expected
    # As packing has them: sizes and ETags are not known.
    unknown = pa.nulls(6, pa.int64())
    bare = rows.drop_columns(["num_bytes", "etag"]).append_column("num_bytes", unknown)
    assert read_images(bare, source.root) == expected
    images = RunImages(source.root, None, STORAGE, LIMITS)
    assert [images.read(row["uri"], row["source_row"]) for row in rows.to_pylist()] == [*expected.values()]


def test_a_large_image_is_a_row_with_its_reason_and_is_not_fetched(place):
    place.put("a.tar", write_tar([("1.jpg", b"1"), ("2.jpg", b"2" * 300_000), ("3.jpg", b"3")]))
    source = open_input(place.uri)
    rows = pa.concat_tables(source.tables)
    small = ImageLimitsConfig(max_bytes=290_000)
    assert read_images(rows, source.root, limits=small) == {0: b"1", 1: "too_large", 2: b"3"}
    found = RunImages(source.root, None, STORAGE, small).read(rows["uri"][1].as_py(), rows["source_row"][1].as_py())
    assert isinstance(found, ImageError)
    assert found.reason == "too_large"
    whole = RunImages(source.root, None, STORAGE, LIMITS).read(rows["uri"][1].as_py(), rows["source_row"][1].as_py())
    assert whole == b"2" * 300_000  # more than is fetched at first


def test_images_that_follow_each_other_are_fetched_together(s3_uri, monkeypatch):
    from faceattr.data.stores.open import open_store
    from faceattr.data.stores.s3 import S3Store

    place = open_store(s3_uri)
    names = [f"{number:03}" for number in range(200)]
    place.put("a.tar", write_tar([(f"{name}.jpg", name.encode() * 1_000) for name in names]))
    source = open_input(place.uri)
    rows = pa.concat_tables(source.tables)
    ranges, get_range = [], S3Store.get_range

    def counted(self, key, start, num_bytes):
        ranges.append((start, num_bytes))
        return get_range(self, key, start, num_bytes)

    monkeypatch.setattr(S3Store, "get_range", counted)
    found = read_images(rows, source.root)
    assert found == {place: name.encode() * 1_000 for place, name in enumerate(names)}
    assert len(ranges) == 1
    ranges.clear()
    every_hundredth = rows.add_column(0, "row", pa.array(range(200), pa.int64())).take([0, 100])
    assert read_images(every_hundredth, source.root) == {0: b"000" * 1_000, 100: b"100" * 1_000}
    assert sorted(ranges) == [(0, 3_512), (100 * 3_584, 3_512)]


@pytest.mark.parametrize("change", ["other sizes", "shorter"])
def test_a_changed_tar_file_gives_no_other_image(place, change):
    place.put("a.tar", write_tar([("1.jpg", b"1" * 600), ("2.jpg", b"2" * 600)]))
    source = open_input(place.uri)
    rows = pa.concat_tables(source.tables)
    place.put("a.tar", write_tar([("0.jpg", b"0" * 2_000), ("2.jpg", b"2")] if change == "other sizes" else []))
    with pytest.raises(RunError, match=r"a\.tar.*(changed|replaced) since the run listed it\. Put it back, or"):
        read_images(rows.slice(1), source.root)


def test_a_replaced_tar_file_of_the_same_layout_is_seen_on_s3(s3_uri):
    from faceattr.data.stores.open import open_store

    place = open_store(s3_uri)
    place.put("a.tar", write_tar([("1.jpg", b"1")]))
    source = open_input(place.uri)
    rows = pa.concat_tables(source.tables)
    place.put("a.tar", write_tar([("2.jpg", b"2")]))
    with pytest.raises(RunError, match="was replaced since the run listed it"):
        read_images(rows, source.root)


def test_a_tar_file_that_is_gone_stops_the_run_and_rejects_nothing(place):
    place.put("a.tar", write_tar([("1.jpg", b"1")]))
    source = open_input(place.uri)
    rows = pa.concat_tables(source.tables)
    place.delete("a.tar")
    with pytest.raises(StorageError, match=r"a\.tar: there is no such file"):
        read_images(rows, source.root)


def test_images_and_parquet_files_come_before_tar_files(folder):
    folder.put("a.tar", write_tar([("1.jpg", b"1")]))
    folder.put("_hidden.tar", b"of another program")
    folder.put("x.parquet", parquet({"uri": ["q.jpg"]}))
    assert open_input(folder.uri).kind == "manifest"
    folder.put("b.jpg", b"1")
    assert column(open_input(folder.uri), "image_id") == ["b.jpg"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "a.tar.zst"])
def test_compressed_tar_files_have_to_be_unpacked(folder, name):
    folder.put(name, b"\x1f\x8b")
    for address in (folder.uri, f"{folder.uri}/{name}"):
        with pytest.raises(ConfigError, match=r"unpack them to \.tar \(gunzip, "):
            open_input(address)


def planning_error(folder, data):
    folder.put("x.tar", data)
    with pytest.raises(ConfigError) as error:
        write_plan(MemoryStore(), open_input(folder.uri).tables)
    return str(error.value)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"../a.jpg": b"1"}, "the member '../a.jpg': it leaves the root with '..'; rename it"),
        ({"a\n.jpg": b"1"}, "it contains control characters; rename it"),
        ({"\udcff.jpg": b"1"}, "it is not UTF-8; rename it"),
        ({"a.jpg": b"1", "a.txt": b"\xff"}, "the member 'a.txt' is not text in UTF-8"),
        ({"a.jpg": b"1", "a.json": b"1" * (2**20 + 1)}, "the member 'a.json' has 1,048,577 bytes; at most 1,048,576"),
        ({"a.jpg": b"1", "a.cls": b"1", "a.CLS": b"2"}, "the sample 'a' has two members 'cls'"),
    ],
)
def test_members_that_cannot_be_rows_are_refused(folder, members, expected):
    said = planning_error(folder, write_tar(members.items(), tarfile.GNU_FORMAT))
    assert said.startswith(f"{folder.uri}/x.tar: ")
    assert expected in said


def test_two_members_of_one_name_are_refused(folder):
    said = planning_error(folder, write_tar([("a.jpg", b"1"), ("b.jpg", b"2"), ("./a.jpg", b"3")]))
    assert "the input lists images twice: 'x.tar/a.jpg' (rows 0 and 2)" in said


def test_a_linked_image_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"1")
    (tmp_path / "in" / "b.jpg").symlink_to("a.jpg")
    command = ["tar", "-cf", str(tmp_path / "x.tar"), "-C", str(tmp_path / "in"), "a.jpg", "b.jpg"]
    subprocess.run(command, check=True)
    with pytest.raises(ConfigError) as error:
        read(open_input(f"{tmp_path}/x.tar"))
    said = str(error.value)
    assert "the member 'b.jpg' is a link; make the tar file with --hard-dereference --dereference" in said
    subprocess.run([*command[:1], "--hard-dereference", "--dereference", *command[1:]], check=True)
    assert column(open_input(f"{tmp_path}/x.tar"), "num_bytes") == [1, 1]


def test_absolute_and_long_names_keep_their_images(folder):
    long = "d/" * 90 + "c.jpg"
    data = write_tar([("/abs/a.jpg", b"1"), ("./b.jpg", b"22"), (long, b"333")], tarfile.GNU_FORMAT)
    folder.put("x.tar", data)
    source = open_input(folder.uri)
    rows = pa.concat_tables(source.tables)
    assert rows["image_id"].to_pylist() == ["x.tar/abs/a.jpg", "x.tar/b.jpg", f"x.tar/{long}"]
    assert read_images(rows, source.root) == {0: b"1", 1: b"22", 2: b"333"}


def test_names_with_further_dots_are_many_images_of_one_key(folder):
    names = [f"img.{number:05}.jpg" for number in range(3_000)]
    folder.put("x.tar", write_tar([(name, b"1") for name in names]))
    assert column(open_input(folder.uri), "image_id") == [f"x.tar/{name}" for name in names]
    late = write_tar([*((name, b"1") for name in names), ("img.txt", b"of all")])
    assert "1,024 images or more have the key 'img' and come before 'img.txt'" in planning_error(folder, late)


def test_the_plan_of_many_tar_files_is_in_the_order_of_their_names(place):
    shards = {f"{number:04}.tar": [f"{image}.jpg" for image in range(number % 5)] for number in range(60)}
    for name, images in sorted(shards.items(), reverse=True):
        place.put(name, write_tar([(image, b"1") for image in images]))
    store = MemoryStore()
    plan = write_plan(store, open_input(place.uri).tables)
    found = read_part(store, plan.parts[0])["image_id"].to_pylist()
    assert found == [f"{name}/{image}" for name, images in sorted(shards.items()) for image in images]
    limited = open_input(place.uri)
    assert write_plan(MemoryStore(), limited.tables, limit=7).num_rows == 7


def test_tables_of_a_large_tar_file_are_small(folder):
    member = tarfile.TarInfo("0.jpg").tobuf()
    buffer = io.BytesIO()
    for number in range(20_000):
        header = bytearray(member)
        header[:9] = f"{number:05}.jpg".encode()
        header[148:156] = b" " * 8
        header[148:156] = f"{int(np.frombuffer(header, np.uint8).sum()):06o}\0 ".encode()
        buffer.write(header)
    buffer.write(bytes(1_024))
    folder.put("x.tar", buffer.getvalue())
    tables = list(open_input(folder.uri).tables)
    assert [len(table) for table in tables] == [8_192, 8_192, 20_000 - 2 * 8_192]


def test_a_text_with_a_name_of_the_output_is_renamed(folder):
    folder.put("x.tar", write_tar([("a.jpg", b"1"), ("a.txt", b"t")]))
    source = open_input(folder.uri, reserved=["txt"])
    assert column(source, "given_txt") == ["t"]
