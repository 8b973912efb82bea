"""Manifests in JSON Lines: rows, types of the carried columns, and lines that are refused."""

import gzip
import json

import pyarrow as pa
import pytest

from faceattr.data.inputs.open import open_input
from faceattr.data.runs.plan import write_plan
from faceattr.errors import ConfigError
from tests.data.input_rows import column, read
from tests.fakes.stores import MemoryStore


def lines(*rows):
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()


@pytest.mark.parametrize("name", ["list.jsonl", "list.jsonl.gz", "LIST.NDJSON"])
def test_a_manifest_in_json_lines_names_images_and_carries_the_rest(place, name):
    data = lines({"image_path": "a.jpg", "age": 31}, "", {"age": None, "image_path": "./b/\u00fc.jpg", "who": "x"})
    place.put(name, gzip.compress(data) if name.endswith(".gz") else b"\xef\xbb\xbf" + data)
    source = open_input(f"{place.uri}/{name}")
    assert (source.kind, source.root) == ("manifest", place.uri)
    assert source.carried == pa.schema([("age", pa.int64()), ("who", pa.string())])
    found = [(row["image_id"], row["uri"], row["age"], row["who"]) for row in read(source)]
    assert found == [
        ("a.jpg", f"{place.uri}/a.jpg", 31, None),
        ("b/\u00fc.jpg", f"{place.uri}/b/\u00fc.jpg", None, "x"),
    ]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], pa.bool_(), [True, None, False]),
        ([1, -(2**63), 2**63 - 1], pa.int64(), [1, -(2**63), 2**63 - 1]),
        ([1, 0.5, None], pa.float64(), [1.0, 0.5, None]),
        ([0.5, 2**53 + 1], pa.string(), ["0.5", "9007199254740993"]),
        ([2**63, 1], pa.string(), ["9223372036854775808", "1"]),
        ([True, 1], pa.string(), ["true", "1"]),
        (["01", "x"], pa.string(), ["01", "x"]),
        (["x", 1, None], pa.string(), ["x", "1", None]),
        ([[1, 2], {"a": None}], pa.string(), ["[1, 2]", '{"a": null}']),
        ([None, None], pa.string(), [None, None]),
    ],
)
def test_types_of_carried_columns(folder, values, kind, expected):
    folder.put("l.jsonl", lines(*({"uri": f"{place}.jpg", "x": value} for place, value in enumerate(values))))
    source = open_input(f"{folder.uri}/l.jsonl")
    assert source.carried.field("x").type == kind
    assert column(source, "x") == expected


def test_a_key_that_comes_late_is_a_column_of_all_rows(folder):
    rows = [{"uri": f"{place}.jpg"} for place in range(20_000)] + [{"uri": "z.jpg", "late": 1.5}]
    folder.put("l.jsonl", lines(*rows))
    tables = list(open_input(f"{folder.uri}/l.jsonl").tables)
    assert [len(table) for table in tables] == [8_192, 8_192, 20_001 - 2 * 8_192]
    assert pa.concat_tables(tables)["late"].to_pylist() == [None] * 20_000 + [1.5]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ('{"uri": "b.jpg"', "line 2: no JSON object in UTF-8 (Expecting ',' delimiter"),
        ('{"uri": "b.jpg"} {}', "line 2: no JSON object in UTF-8 (Extra data"),
        ('["b.jpg"]', "line 2: expected a JSON object, found '[\"b.jpg\"]'"),
        ('{"uri": "b.jpg", "x": 1, "x": 2}', "the key 'x' is there twice"),
        ('{"uri": "b.jpg", "x": NaN}', "NaN is not JSON"),
        ('{"uri": "b.jpg", "x": 1e999}', "the number of 'x' is too large"),
        ('{"uri": "b.jpg", "x": "\\ud800"}', "surrogates not allowed"),
        ("[" * 100_000, "line 2: no JSON object in UTF-8 (maximum recursion depth"),
        ('{"uri": null}', "row 1 (counted from 0): image None: it is empty"),
        ('{"uri": "../b.jpg"}', "it leaves the root with '..'"),
        ('{"uri": "https://user:pw@h/b.jpg"}', "a password or a key in front of the host"),
        ('{"uri": "a.jpg"}', "the input lists images twice: 'a.jpg' (rows 0 and 1)"),
    ],
)
def test_lines_that_are_refused(folder, second, expected):
    folder.put("l.jsonl", lines({"uri": "a.jpg"}, second))
    with pytest.raises(ConfigError) as error:
        write_plan(MemoryStore(), open_input(f"{folder.uri}/l.jsonl").tables)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the manifest has no rows"),
        (lines({"name": "a.jpg"}), "a manifest needs a column 'uri' or 'image_path'"),
        (lines({"uri": 7}), "column 'uri' names the images; expected text, found int64"),
        (b'{"uri": "\xff.jpg"}\n', "line 1: no JSON object in UTF-8"),
        (b'\xff\xfe{\0"\0', "it is UTF-16 text"),
        (lines({"uri": "a.jpg", **{f"k{number}": 1 for number in range(1_000)}}), "more than 1,000 keys"),
        (gzip.compress(lines({"uri": "a.jpg"}), mtime=0)[:-9], "the gzip file is cut or damaged"),
    ],
)
def test_files_that_are_refused(folder, content, expected):
    folder.put("l.jsonl", content)
    with pytest.raises(ConfigError) as error:
        read(open_input(f"{folder.uri}/l.jsonl"))
    assert expected in str(error.value)


def test_a_manifest_that_does_not_exist(place):
    with pytest.raises(ConfigError, match=r"l\.jsonl does not exist$"):
        open_input(f"{place.uri}/l.jsonl")


@pytest.mark.parametrize("name", ["l.csv.gz", "l.tsv", "l.tsv.gz"])
def test_text_manifests_of_every_ending(place, name):
    data = b"uri\twho\na.jpg\tx, y\n" if ".tsv" in name else b'uri,who\na.jpg,"x, y"\n'
    place.put(name, gzip.compress(data) if name.endswith(".gz") else data)
    source = open_input(f"{place.uri}/{name}")
    assert [(row["image_id"], row["who"]) for row in read(source)] == [("a.jpg", "x, y")]


def test_a_folder_with_a_list_alone_says_to_name_it(folder):
    folder.put("l.jsonl", lines({"uri": "a.jpg"}))
    with pytest.raises(ConfigError, match="name a manifest itself"):
        open_input(folder.uri)
