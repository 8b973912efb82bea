"""Inputs given as manifests: which images they name, which columns they carry, and what is refused."""

import pyarrow as pa
import pytest

from faceattr.data.inputs.open import open_input
from faceattr.data.runs.plan import write_plan
from faceattr.errors import ConfigError
from tests.data.input_rows import column, parquet, read
from tests.fakes.stores import MemoryStore

# Text that no writer should have let pass: Parquet does not look.
NOT_UTF8 = pa.array([b"\xff\xfe.jpg"], pa.binary()).view(pa.string())


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


@KINDS
def test_an_image_of_a_host_that_is_not_named(folder, kind):
    manifest = put_manifest(folder, kind, {"uri": ["a.jpg", "https://example.org/b.jpg"], "n": ["1", "2"]})
    with pytest.raises(ConfigError, match=r"add --storage\.allow-http example\.org") as error:
        read(open_input(manifest))
    assert str(error.value).startswith(f"{manifest}, row 1 (counted from 0): ")


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
        (parquet({"uri": NOT_UTF8}), "cannot be read as a table: .*UTF8"),
        (parquet({"uri": ["a.jpg"], "age": NOT_UTF8}), "cannot be read as a table: .*UTF8"),
        (parquet({"image": [b"1"], "image_id": NOT_UTF8}), "cannot be read as a table: .*UTF8"),
        (parquet({"image": [b"1"], "n": NOT_UTF8}), "cannot be read as a table: .*UTF8"),
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
