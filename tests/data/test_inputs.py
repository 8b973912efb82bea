"""What a run may be given to read: prefixes, manifests, packed Parquet; on disk and on S3."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.data.inputs.open import open_input
from faceattr.data.runs.plan import plan_schema, read_part, write_plan
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from tests.fakes.stores import MemoryStore


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """An empty place: its store; `store.uri` is its address."""
    return open_store(str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def folder(tmp_path):
    """An empty local place, for what does not depend on the kind of store."""
    return open_store(str(tmp_path))


def parquet(columns, **schema):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, **schema), buffer)
    return buffer.getvalue()


def read(source):
    """All rows of an input; the schema is checked on the way."""
    tables = list(source.tables)
    assert all(table.schema.equals(plan_schema(list(source.carried))) for table in tables)
    return pa.concat_tables(tables, promote_options="none").to_pylist() if tables else []


def column(source, name):
    return [row[name] for row in read(source)]


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


def put_manifest(place, kind, columns, name="list"):
    """A manifest of columns of strings, as CSV or Parquet; gives its URI."""
    if kind == "csv":
        rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        place.put(f"{name}.csv", "\n".join(rows).encode())
    else:
        place.put(f"{name}.parquet", parquet({key: pa.array(values, pa.string()) for key, values in columns.items()}))
    return f"{place.uri}/{name}.{kind}"


KINDS = pytest.mark.parametrize("kind", ["csv", "parquet"])


@KINDS
@pytest.mark.parametrize("name", ["uri", "image_path"])
def test_a_manifest_names_images_relative_to_its_folder_or_below_it(place, kind, name):
    values = ["a.jpg", "./b/c d.jpg", f"{place.uri}/e#?.jpg", "no extension", " spaced.jpg "]
    source = open_input(put_manifest(place, kind, {"note": list("vwxyz"), name: values}))
    keys = ["a.jpg", "b/c d.jpg", "e#?.jpg", "no extension", " spaced.jpg "]
    assert (source.kind, source.root, source.carried.names) == ("manifest", place.uri, ["note"])
    rows = read(source)
    assert [row["image_id"] for row in rows] == keys
    assert [row["uri"] for row in rows] == [f"{place.uri}/{key}" for key in keys]
    assert [row["note"] for row in rows] == list("vwxyz")
    assert all(row["num_bytes"] is row["etag"] is row["source_row"] is None for row in rows)


@KINDS
def test_paths_of_windows_are_read_as_label_sources_read_them(folder, kind):
    source = open_input(put_manifest(folder, kind, {"uri": ["img\\0.jpg", ".\\img\\b c.jpg"]}))
    assert column(source, "image_id") == ["img/0.jpg", "img/b c.jpg"]


def test_a_path_of_windows_cannot_climb_out_of_the_root(folder):
    with pytest.raises(ConfigError, match="leaves the root"):
        read(open_input(put_manifest(folder, "csv", {"uri": ["..\\b.jpg"]})))


@pytest.mark.parametrize("name", ["img_bytes", "jpeg"])
def test_bytes_in_a_column_of_another_name_are_named_with_the_flag(folder, name):
    folder.put("a.parquet", parquet({name: [b"1"], "id": ["a"]}))
    with pytest.raises(ConfigError, match=f"set --bytes-column {name}$"):
        open_input(f"{folder.uri}/a.parquet")
    assert open_input(f"{folder.uri}/a.parquet", bytes_column=name).kind == "packed"


@KINDS
def test_another_root(place, kind):
    manifest = put_manifest(place, kind, {"uri": ["a.jpg", f"{place.uri}/images/b.jpg"]})
    source = open_input(manifest, root=f"{place.uri}/images/")
    assert source.root == f"{place.uri}/images"
    assert column(source, "uri") == [f"{place.uri}/images/a.jpg", f"{place.uri}/images/b.jpg"]


def test_uri_counts_before_image_path(folder):
    source = open_input(put_manifest(folder, "csv", {"image_path": ["x.jpg"], "uri": ["a.jpg"]}))
    assert read(source)[0]["image_id"] == "a.jpg"
    assert source.carried.names == ["image_path"]


def test_an_upper_case_ending_and_a_byte_order_mark(folder):
    folder.put("LIST.CSV", b"\xef\xbb\xbfuri,hat\r\na.jpg,1\r\n")
    assert column(open_input(f"{folder.uri}/LIST.CSV"), "image_id") == ["a.jpg"]


def test_carried_columns_of_csv_stay_texts(folder):
    folder.put("list.csv", b'uri,hat,empty,quoted\na.jpg,01,,"x, ""y"""\nb.jpg,1e3,NULL,z\n')
    source = open_input(f"{folder.uri}/list.csv")
    assert [(field.name, field.type) for field in source.carried] == [
        (name, pa.string()) for name in ("hat", "empty", "quoted")
    ]
    assert [tuple(row.values())[5:] for row in read(source)] == [("01", "", 'x, "y"'), ("1e3", "NULL", "z")]


def test_carried_columns_of_parquet_keep_their_types(folder):
    columns = {
        "uri": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
        "hat": pa.array([1, None], pa.int8()),
        "box": pa.array([[1.0, 2.0], []], pa.list_(pa.float32())),
        "day": pa.array([0, 1], pa.date32()),
        "who": pa.array(["x", "x"]).dictionary_encode(),
    }
    folder.put("list.parquet", parquet(columns))
    source = open_input(f"{folder.uri}/list.parquet")
    assert {field.name: field.type for field in source.carried} == {
        name: columns[name].type for name in ("hat", "box", "day", "who")
    }
    assert [(row["hat"], row["box"]) for row in read(source)] == [(1, [1.0, 2.0]), (None, [])]


@KINDS
def test_carried_columns_that_meet_ours_are_renamed(folder, kind):
    columns = {name: ["x"] for name in ("uri", "hat", "row", "etag", "hat_score", "other")}
    source = open_input(put_manifest(folder, kind, columns), reserved=["hat", "hat_score", "status"])
    assert source.carried.names == ["given_hat", "given_row", "given_etag", "given_hat_score", "other"]
    assert read(source)[0]["given_hat"] == "x"


@pytest.mark.parametrize(
    "names", [["hat", "given_hat"], ["x", "x"]], ids=["a name that is taken", "a name that stands twice"]
)
def test_columns_that_cannot_be_told_apart(folder, names):
    folder.put("list.csv", f"uri,{','.join(names)}\na.jpg,1,2\n".encode())
    with pytest.raises(ConfigError, match="rename them"):
        open_input(f"{folder.uri}/list.csv", reserved=["hat"])


@KINDS
def test_an_image_that_stands_twice(place, kind):
    manifest = put_manifest(place, kind, {"uri": ["a.jpg", "b.jpg", f"{place.uri}/a.jpg"]})
    with pytest.raises(ConfigError, match=r"lists images twice: 'a.jpg' \(rows 0 and 2\)"):
        write_plan(MemoryStore(), open_input(manifest).tables)


@KINDS
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("../b.jpg", "leaves the root"),
        ("x/../../b.jpg", "leaves the root"),
        ("https://example.org/b.jpg", "names a scheme"),
        ("s3://other-bucket/b.jpg", "names a scheme"),
        ("/etc/passwd", "absolute path outside the root"),
        ("b\x07.jpg", "control characters"),
        ("", "it is empty"),
        ("  ", "it is empty"),
    ],
)
def test_a_path_that_does_not_lie_below_the_root(folder, kind, value, problem):
    manifest = put_manifest(folder, kind, {"uri": ["a.jpg", value], "n": ["1", "2"]})
    with pytest.raises(ConfigError, match=problem) as error:
        read(open_input(manifest))
    assert str(error.value).startswith(f"{manifest}, row 1 (counted from 0): image {value!r}: ")
    assert "set --root" in str(error.value)


def test_a_path_beside_the_root_whose_name_begins_like_it(folder):
    manifest = put_manifest(folder, "csv", {"uri": [f"{folder.uri}-2/b.jpg"]})
    with pytest.raises(ConfigError, match="absolute path outside the root"):
        read(open_input(manifest))


def test_a_parquet_manifest_with_a_null(folder):
    with pytest.raises(ConfigError, match=r"row 1 \(counted from 0\): image None: it is empty"):
        read(open_input(put_manifest(folder, "parquet", {"uri": ["a.jpg", None]})))


def test_row_numbers_of_errors_go_on_over_batches(folder):
    manifest = put_manifest(folder, "parquet", {"uri": [f"{number}.jpg" for number in range(20_000)] + ["../x"]})
    with pytest.raises(ConfigError, match="row 20000 "):
        read(open_input(manifest))


@KINDS
def test_a_manifest_without_a_known_column(place, kind):
    with pytest.raises(ConfigError, match=r"needs a column 'uri' or 'image_path', .* found \['file', 'hat'\]"):
        open_input(put_manifest(place, kind, {"file": ["a"], "hat": ["1"]}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read as a table"),
        (b"uri,hat\n", "the manifest has no rows"),
        (b"uri,hat\na.jpg,1\nb.jpg\n", "cannot be read as a table: .*Expected 2 columns, got 1"),
        (b'uri,hat\n"a.jpg,1\n', "cannot be read as a table"),
        (b"uri,hat\n\xff\xfe.jpg,1\n", "cannot be read as a table: .*UTF8"),
        (b"url;hat\na.jpg;1\n", r"found \['url', 'hat'\]"),
        (b"uri,uri\na.jpg,b.jpg\n", "there is more than one column 'uri'"),
    ],
)
def test_a_csv_that_is_broken(folder, content, problem):
    folder.put("list.csv", content)
    with pytest.raises(ConfigError, match=problem) as error:
        read(open_input(f"{folder.uri}/list.csv"))
    assert str(error.value).startswith(f"{folder.uri}/list.csv")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read as a table"),
        (b"PAR1 and no more", "cannot be read as a table"),
        (parquet({"uri": pa.array([], pa.string())}), "the manifest has no rows"),
        (parquet({"uri": [1, 2]}), "column 'uri' .*expected text, found int64"),
    ],
)
def test_a_parquet_file_that_is_broken(folder, content, problem):
    folder.put("list.parquet", content)
    with pytest.raises(ConfigError, match=problem) as error:
        read(open_input(f"{folder.uri}/list.parquet"))
    assert str(error.value).startswith(f"{folder.uri}/list.parquet")


@KINDS
def test_a_manifest_that_does_not_exist(place, kind):
    with pytest.raises(ConfigError, match=rf"nothing\.{kind} does not exist"):
        open_input(f"{place.uri}/nothing.{kind}")


def test_a_folder_of_manifests_is_read_in_the_order_of_names(place):
    for name, values in (("b/2", ["c.jpg"]), ("a", ["a.jpg", "b.jpg"]), ("b/10", ["d.jpg"])):
        put_manifest(place, "parquet", {"uri": values, "n": ["x"] * len(values)}, name)
    source = open_input(place.uri)
    assert (source.kind, source.root, source.carried.names) == ("manifest", place.uri, ["n"])
    assert column(source, "image_id") == ["a.jpg", "b.jpg", "d.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"uri": ["b.jpg"]}, r"no column 'n'; found \['uri'\]"),
        ({"image_path": ["b.jpg"], "n": [1]}, "no column 'uri'"),
        ({"uri": ["b.jpg"], "n": ["many"]}, "cannot be read as a table"),
    ],
)
def test_a_folder_of_manifests_that_differ(folder, second, problem):
    folder.put("1.parquet", parquet({"uri": ["a.jpg"], "n": [1]}))
    folder.put("2.parquet", parquet(second))
    with pytest.raises(ConfigError, match=problem) as error:
        read(open_input(folder.uri))
    assert str(error.value).startswith(f"{folder.uri}/2.parquet")


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
