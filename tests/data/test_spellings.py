"""One place, however its address is written: every command opens the same, and an earlier run resumes."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.inputs.open import open_input
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.begin import check_fingerprint
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import RunRecord
from faceattr.data.sources.image_names import find_files, find_image_root
from faceattr.data.stores.addresses import key_below, local_path, normalise_address, resolve_distinct
from faceattr.data.stores.open import open_output, open_store
from faceattr.errors import ConfigError
from tests.packed_runs import write_packed_run


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """A folder of two images at <home>/data/faces, from inside <home>/work."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "data" / "faces"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "link").symlink_to(tmp_path / "data" / "faces")
    return folder


SPELLINGS = [
    "{home}/data/faces",
    "{home}/data/faces/",
    "{home}/data/faces//",
    "{home}//data/./faces",
    "../data/faces",
    "../data/../data/faces/.",
    "link/../faces",
    "~/data/faces",
    "file://{home}/data/faces",
    "file://{home}/data/faces/",
    "file:{home}/data/faces",
    "file://localhost{home}/data/faces",
    "FILE://{home}/data/faces",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_folder_is_one_address(faces, spelling, tmp_path):
    address = spelling.format(home=tmp_path)
    assert normalise_address(address) == str(faces)
    assert local_path(address, "--output") == faces
    assert open_input(address).root == str(faces)
    assert sorted(entry.key for entry in open_store(address).list()) == ["a.jpg", "b.jpg"]
    assert open_output(address).uri == str(faces)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket/faces/", "s3://bucket/faces"),
        ("S3://bucket", "s3://bucket"),
        ("s3a://bucket/a//b/", "s3://bucket/a//b"),
        ("s3n://bucket/", "s3://bucket"),
        ("gs://bucket/a/", "gs://bucket/a"),
        ("s3://bucket/~/a", "s3://bucket/~/a"),
        ("file:///data/a%20b", "/data/a b"),
        ("/", "/"),
        ("//data", "/data"),
        ("~nobody-of-this-name/a", "{cwd}/~nobody-of-this-name/a"),
        ("a:b", "{cwd}/a:b"),
    ],
)
def test_the_one_spelling_of_an_address(faces, address, expected):
    assert normalise_address(address) == expected.format(cwd=Path.cwd())


def test_a_folder_whose_name_has_a_percent_sign_is_taken_as_it_stands(tmp_path):
    (tmp_path / "a%20b").mkdir()
    assert normalise_address(f"file://{tmp_path}/a%20b") == f"{tmp_path}/a%20b"


@pytest.mark.parametrize("spelling", ["a.jpg", "./a.jpg", "file:{faces}/a.jpg", "~/data/faces/a.jpg"])
def test_a_single_image_is_an_input_of_one_row(faces, spelling, monkeypatch):
    monkeypatch.chdir(faces)
    source = open_input(spelling.format(faces=faces))
    assert (source.kind, source.root) == ("prefix", str(faces))
    assert [row["image_id"] for table in source.tables for row in table.to_pylist()] == ["a.jpg"]


def test_a_single_image_on_s3(s3_uri):
    store = open_store(s3_uri)
    for key in ("faces/a.jpg", "faces/a.jpg.txt", "faces/b.jpg"):
        store.put(key, b"x")
    source = open_input(f"{s3_uri}/faces/a.jpg")
    assert [(row["image_id"], row["uri"]) for table in source.tables for row in table.to_pylist()] == [
        ("a.jpg", f"{s3_uri}/faces/a.jpg")
    ]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_named_as_a_parquet_file_is_a_folder(tmp_path, end):
    folder = tmp_path / "list.parquet"
    folder.mkdir()
    for part in range(2):
        pq.write_table(pa.table({"uri": [f"{part}.jpg"]}), folder / f"part-{part}.parquet")
    source = open_input(f"{folder}{end}", root=str(tmp_path))
    assert [row["image_id"] for table in source.tables for row in table.to_pylist()] == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "{faces}/a.jpg", "file:{faces}/a.jpg", "file://{faces}/a.jpg"])
@pytest.mark.parametrize("root", ["{faces}", "file://{faces}/", "~/data/faces"])
def test_an_image_of_a_manifest_may_be_written_with_any_spelling_of_the_root(faces, tmp_path, name, root):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"uri": [name.format(faces=faces)]}), buffer)
    (tmp_path / "list.parquet").write_bytes(buffer.getvalue())
    source = open_input(str(tmp_path / "list.parquet"), root=root.format(faces=faces))
    (row,) = [row for table in source.tables for row in table.to_pylist()]
    assert (row["image_id"], row["uri"]) == ("a.jpg", f"{faces}/a.jpg")
    assert find_image_root(root.format(faces=faces), StorageConfig(), None)[1].columns(name.format(faces=faces)) == {
        "image_id": "a.jpg",
        "uri": f"{faces}/a.jpg",
    }


def test_a_key_below_a_bucket_of_hadoops_name():
    assert key_below("s3a://bucket/faces/a.jpg", "s3://bucket/faces") == "a.jpg"
    assert key_below("s3://other/a.jpg", "s3://bucket") == "s3://other/a.jpg"


def test_label_files_may_have_addresses_of_their_own(tmp_path):
    store = open_store(str(tmp_path / "root"))
    given = ("list.csv", "/elsewhere/list.csv", "s3://bucket/list.csv", "sub/../a.csv")
    expected = (f"{store.uri}/list.csv", "/elsewhere/list.csv", "s3://bucket/list.csv", f"{store.uri}/sub/../a.csv")
    assert find_files(store, given, ()) == expected


def run_record(fingerprint):
    plan = Plan(num_rows=0, num_bytes=0, shard_size=1, parts=())
    return RunRecord(
        run_id="r", kind="label", fingerprint=fingerprint, config={}, plan=plan, source={}, carried="", versions={},
        notes={},
    )  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_run_goes_on_under_every_spelling_of_its_addresses(faces, spelling, tmp_path):
    def fingerprint(address):
        return {
            "images": address,
            "root": None,
            "labels": {address: {"run_id": "x"}},
            "base": {"data": [address], "model": {"checkpoint": address}},
        }

    store = open_store(str(tmp_path / "run"))
    record = run_record(fingerprint(str(faces)))
    check_fingerprint(store, record, kind="label", fingerprint=fingerprint(spelling.format(home=tmp_path)))
    with pytest.raises(ConfigError, match=r"images: there "):
        check_fingerprint(store, record, kind="label", fingerprint=fingerprint("../other"))


def test_one_folder_given_in_two_spellings_is_named(faces):
    with pytest.raises(ConfigError, match=r"^--labels: '\.\./data/faces' and '~/data/faces/' are the same place"):
        resolve_distinct(["../data/faces", "x", "~/data/faces/"], "--labels")


def test_one_packed_run_given_in_two_spellings_is_named(tmp_path, monkeypatch):
    attributes = AttributeSet(attributes=(Attribute(name="hat", kind="binary", classes=("no", "yes")),))
    run = write_packed_run(tmp_path / "packed", attributes, {"train": [{"image": b"x"}], "val": [{"image": b"x"}]})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"packed/ and .*packed are the same packed run; name it once"):
        open_packed(["packed/", run])


def test_packed_runs_open_under_another_spelling(tmp_path, monkeypatch):
    attributes = AttributeSet(attributes=(Attribute(name="hat", kind="binary", classes=("no", "yes")),))
    rows = {split: [{"image": b"x", "hat": 1}] for split in ("train", "val")}
    run = write_packed_run(tmp_path / "packed", attributes, rows)
    monkeypatch.chdir(tmp_path)
    assert open_packed(["packed/"]).fingerprint == open_packed([str(run)]).fingerprint


def test_a_path_on_another_machine_is_no_local_file():
    with pytest.raises(ConfigError, match=r"^--output s3:/bucket/a: expected a path on this machine"):
        local_path(Path("s3://bucket/a"), "--output")
