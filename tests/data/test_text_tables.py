"""The strict reader of text tables: what breaks a row is refused with its line, and everything else comes as it is."""

import csv
import gzip
import io
import random

import pytest

from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import read_header, read_rows, read_tables, sniff_delimiter
from faceattr.data.inputs.open import open_input
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError

STORAGE = StorageConfig()


def write(folder, content, name="list.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read_both(uri, delimiter=","):
    """Rows behind the header by both ways of reading, which must agree."""
    names = read_header(uri, STORAGE, delimiter=delimiter)
    tables = read_tables(uri, STORAGE, delimiter=delimiter, names=names)
    found = [list(row.values()) for table in tables for row in table.to_pylist()]
    assert [row.cells for row in read_rows(uri, STORAGE, delimiter=delimiter)][1:] == found
    return found


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('uri,note\na.jpg,x\nb.jpg,"broken\nc.jpg,y\n', "line 3: an unclosed quote: '\"broken'"),
        ('uri,note\na.jpg,x\nb.jpg,"broken\nc.jpg,"y\n', "line 4: text 'y' behind a closing quote; .* opens in line 3"),
        ('uri,note\na.jpg,"x" y\n', "line 2: text ' y' behind a closing quote"),
        ('uri,note\nb.jpg,"broken\nc.jpg,y\nd.jpg,end"\n', "line 2: an unclosed quote: line 3 .* looks like a row"),
        ('uri,note\nb.jpg,"broken\nc.jpg,end"\n', "line 2: an unclosed quote: line 3 .* looks like a row"),
        ('"uri,note\na.jpg,x\n', "line 1: an unclosed quote"),
        ("uri,note\na.jpg,x\nb.jpg\n", "line 3: Expected 2 columns, got 1: 'b.jpg'"),
        ("uri,note\n\na.jpg,x,y\n", "line 3: Expected 2 columns, got 3"),
        ('uri,note\na.jpg,"two\nlines"\nb.jpg\n', "line 4: Expected 2 columns, got 1"),
        ("uri,note\ra.jpg,x\rb.jpg\r", "line 3: Expected 2 columns, got 1"),
        (b"uri,note\na.jpg,x\nb\xff.jpg,x\n", "line 3: bytes that are not UTF-8"),
        (b"uri,note\na.jpg,x\nb\0.jpg,x\n", "line 3: a NUL byte"),
        ("uri,note\na.jpg,x\n".encode("utf-16"), "it is UTF-16 text"),
        ("uri,note\na.jpg,x\n".encode("utf-16-le"), "line 1: a NUL byte; .*UTF-16"),
        ("uri,note,note\na.jpg,x,y\n", "more than one column 'note'"),
        (b"PK\x03\x04 a workbook", "it is a ZIP or Excel file"),
        (gzip.compress(b"uri,note\na.jpg,x\n", mtime=0)[:-9], "the gzip file is cut or damaged"),
    ],
)
def test_what_would_lose_or_shift_rows_is_refused_with_its_line(tmp_path, content, problem):
    uri = write(tmp_path, content)
    with pytest.raises(ConfigError, match=problem) as error:
        list(open_input(uri).tables)
    assert str(error.value).startswith(f"{uri} cannot be read as a table: ")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('uri,note\na.jpg,5" tall\nb.jpg,x"y\n', [["a.jpg", '5" tall'], ["b.jpg", 'x"y']]),
        ('uri,note\na.jpg,"one, ""two""\nthree"\nb.jpg,""\n', [["a.jpg", 'one, "two"\nthree'], ["b.jpg", ""]]),
        ('uri,note\r\na.jpg,"x\r\ny"\r\n', [["a.jpg", "x\r\ny"]]),
        ("uri,note\ra.jpg,x\rb.jpg,y\r", [["a.jpg", "x"], ["b.jpg", "y"]]),
        ("uri,note\n a.jpg, x \n", [[" a.jpg", " x "]]),
        ("\ufeffuri,note\n\na.jpg,x\n\n", [["a.jpg", "x"]]),
        ('uri,note\na.jpg,"""x"""', [["a.jpg", '"x"']]),
    ],
)
def test_what_is_well_formed_comes_as_it_is(tmp_path, content, rows):
    assert read_both(write(tmp_path, content)) == rows


def test_cells_of_many_lines_and_megabytes_are_read(tmp_path):
    long = "a line of a comment, with a comma\n" * 150_000  # 5 MB
    file = io.StringIO()
    csv.writer(file).writerows([["uri", "note"], ["a.jpg", long], ["b.jpg", "x"], ["c.jpg", long]])
    assert read_both(write(tmp_path, file.getvalue())) == [["a.jpg", long], ["b.jpg", "x"], ["c.jpg", long]]


@pytest.mark.parametrize("seed", range(6))
def test_random_tables_over_several_blocks_are_what_csv_reads(tmp_path, seed):
    draw = random.Random(seed)
    cells = ["", "x", " y ", "5 ft", 'say "hi"', "a,b", "two\nlines", "ü" * 40, "z" * 500, '"', "\r\n", ";"]
    rows = [[f"{number}.jpg", draw.choice(cells), draw.choice(cells)] for number in range(30_000)]
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if seed % 2 else csv.QUOTE_MINIMAL
    end = "\r\n" if seed % 3 else "\n"
    csv.writer(file, quoting=quoting, lineterminator=end).writerows([["uri", "a", "b"], *rows])
    assert read_both(write(tmp_path, file.getvalue())) == rows


def test_lines_are_counted_through_cells_of_several_lines_and_blocks(tmp_path):
    lines = ['uri,note\n"0.jpg","x\ny"\n', *(f"{number}.jpg,{'x' * 90}\n" for number in range(1, 60_000)), "bad\n"]
    uri = write(tmp_path, "".join(lines))
    with pytest.raises(ConfigError, match=r"line 60003: Expected 2 columns, got 1: 'bad'"):
        list(open_input(uri).tables)


@pytest.mark.parametrize(("delimiter", "name"), [(",", "l.csv"), (";", "l.csv"), ("\t", "l.csv"), ("\t", "l.tsv")])
@pytest.mark.parametrize("packed", [False, True])
def test_commas_semicolons_and_tabs_plain_or_packed(tmp_path, delimiter, name, packed):
    content = f'uri{delimiter}"a{delimiter}, b"\n a.jpg{delimiter}x\n'.encode()
    uri = write(tmp_path, gzip.compress(content) if packed else content, f"{name}.gz" if packed else name)
    source = open_input(uri)
    assert sniff_delimiter(uri, STORAGE) == delimiter
    assert source.carried.names == [f"a{delimiter}, b"]
    assert [row["image_id"] for table in source.tables for row in table.to_pylist()] == [" a.jpg"]


@pytest.mark.parametrize("name", ["Unnamed: 0", "", "Unnamed: 0.1", "__index_level_0__"])
def test_the_index_of_pandas_is_left_out_with_a_word(tmp_path, caplog, name):
    uri = write(tmp_path, f"{name},image_path,hat\n0,a.jpg,1\n1,b.jpg,0\n", "labels.csv")
    assert open_input(uri).carried.names == ["hat"]
    source = open_source("table", str(tmp_path))
    assert source.attributes.names == ("hat",)
    table, rejects = source.read_all()
    assert (table["hat"].to_pylist(), rejects.total) == ([1, 0], 0)
    assert caplog.text.count(f"the column {name!r} is left out: it is an index that pandas wrote") == 2


LABELS = {
    "table": ("labels.csv", 'image_path,hat,comment\na.jpg,0,x\nb.jpg,1,"5 ft tall\nc.jpg,0,x\n', ("hat=hat",)),
    "label_list": ("labeled_data.csv", 'image_path,hat\na.jpg,0\n"b.jpg,1\nc.jpg,0\n', ()),
    "fairface": (
        "fairface_label_train.csv",
        'file,age,gender,race\ntrain/1.jpg,3-9,Male,Black\ntrain/2.jpg,"3-9,Male,Black\ntrain/3.jpg,3-9,Male,Black\n',
        (),
    ),
    "celeba": ("list_attr_celeba.csv", 'image_id,Male,Young\n1.jpg,1,-1\n2.jpg,"1,-1\n3.jpg,1,1\n', ()),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_stray_quote_is_refused_in_every_source(tmp_path, kind):
    name, content, columns = LABELS[kind]
    write(tmp_path, content, name)
    with pytest.raises(ConfigError, match=rf"{name} cannot be read as a table: line 3: an unclosed quote"):
        open_source(kind, str(tmp_path), options=SourceOptions(columns=columns)).read_all()


@pytest.mark.parametrize("kind", LABELS)
def test_utf16_is_named_in_every_source(tmp_path, kind):
    name, content, columns = LABELS[kind]
    write(tmp_path, content.replace('"', "").encode("utf-16"), name)
    with pytest.raises(ConfigError, match=rf"{name} cannot be read as a table: it is UTF-16"):
        open_source(kind, str(tmp_path), options=SourceOptions(columns=columns)).read_all()


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("kind", LABELS)
def test_other_delimiters_in_every_source(tmp_path, kind, delimiter):
    name, content, columns = LABELS[kind]
    write(tmp_path, content.replace('"', "").replace(",", delimiter), name)
    table, rejects = open_source(kind, str(tmp_path), options=SourceOptions(columns=columns)).read_all()
    assert (len(table), rejects.total) == (3, 0)
