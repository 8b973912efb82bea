"""CelebA: the official text, truncated and CSV variants, identities, official split, rules, the CelebA JSON."""

import json

import pytest

from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError
from tests.data.sources.writers import write_celeba_json

NAMES = "5_o_Clock_Shadow Eyeglasses Goatee Mustache No_Beard Sideburns Wearing_Hat"
OURS = ("five_o_clock_shadow", "eyeglasses", "goatee", "mustache", "no_beard", "sideburns", "wearing_hat")
ROWS = [(0, 1, 0, 0, 1, 0, 0), (0, 0, 0, 1, 0, 0, 1), (0, 0, 0, 0, 1, 0, 0)]


def text(*, count="3", no="-1", separator=" ", rows=ROWS):
    lines = [count] if count else []
    lines.append(NAMES + " ")
    for number, row in enumerate(rows, start=1):
        values = ["1" if value else no for value in row]
        lines.append(f"{number:06d}.jpg{separator}" + separator.join(value.rjust(2) for value in values))
    return "\n".join(lines) + "\n"


def csv_text(no):
    lines = ["image_id," + NAMES.replace(" ", ",")]
    for number, row in enumerate(ROWS, start=1):
        lines.append(f"{number:06d}.jpg," + ",".join("1" if value else no for value in row))
    return "\n".join(lines) + "\n"


VARIANTS = {
    "official": ("list_attr_celeba.txt", text()),
    "zeros": ("list_attr_celeba.txt", text(no="0")),
    "tabs": ("Anno/list_attr_celeba.txt", text(separator="\t")),
    "no_count": ("list_attr_celeba.txt", text(count="")),
    "csv_minus": ("list_attr_celeba.csv", csv_text("-1")),
    "csv_zero": ("list_attr_celeba.csv", csv_text("0")),
}


def write(tmp_path, name, content):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    return str(tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_one_table(tmp_path, variant):
    source = open_source("celeba", write(tmp_path, *VARIANTS[variant]))
    table, rejects = source.read_all()
    assert source.attributes.names == OURS
    assert table["image_id"].to_pylist() == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert [tuple(row.values()) for row in table.select(OURS).to_pylist()] == ROWS
    assert table["group"].null_count == table["split"].null_count == 3
    assert (rejects.total, rejects.repairs) == (0, {})


def test_a_truncated_file(tmp_path):
    broken = text(count="202599")[:-9]  # the last row is cut
    table, rejects = open_source("celeba", write(tmp_path, "list_attr_celeba.txt", broken)).read_all()
    assert table.num_rows == 2
    assert rejects.counts == {"columns": 1}
    assert rejects.examples["columns"][0].line == 5
    assert rejects.repairs == {"count_line_differs": 1}


def test_rules_in_our_words(tmp_path):
    rows = [*ROWS, (1, 0, 0, 0, 1, 0, 0)]
    names = ("beard", "facial_hair", "hat", "glasses", "label")
    root = write(tmp_path, "list_attr_celeba.txt", text(count="4", rows=rows))
    source = open_source("celeba", root, options=SourceOptions(attributes=names))
    assert [tuple(row.values()) for row in source.read_all()[0].select(names).to_pylist()] == [
        (0, 0, 0, 1, 0),
        (1, 1, 1, 0, 0),
        (0, 0, 0, 0, 1),
        (0, 1, 0, 0, 0),  # stubble alone: no beard, but facial hair
    ]


def test_identities_and_official_split(tmp_path):
    root = write(tmp_path, "list_attr_celeba.txt", text())
    write(tmp_path, "identity_CelebA.txt", "000001.jpg 2880\n000002.jpg 90\n000003.jpg 2880\n")
    write(tmp_path, "list_eval_partition.csv", "image_id,partition\n000001.jpg,0\n000002.jpg,2\n000003.jpg,7\n")
    source = open_source("celeba", root, options=SourceOptions(attributes=("mustache", "identity")))
    table, rejects = source.read_all()
    assert source.attributes["identity"].classes == ("90", "2880")
    assert table.select(["group", "split", "mustache", "identity"]).to_pydict() == {
        "group": ["2880", "90", "2880"],
        "split": ["train", "test", None],
        "mustache": [0, 1, 0],
        "identity": [1, 0, 1],
    }
    assert rejects.counts == {"value": 1}  # the partition 7 of a side file, not a row of the table
    assert "list_eval_partition.csv line 4" in rejects.describe()


def test_images_are_found_in_the_usual_folder(tmp_path):
    write(tmp_path, "img_align_celeba/000001.jpg", "")
    root = write(tmp_path, "list_attr_celeba.txt", text())
    table, _ = open_source("celeba", root).read_all()
    assert table["image_id"].to_pylist()[0] == "img_align_celeba/000001.jpg"
    assert table["uri"].to_pylist()[0] == f"{root}/img_align_celeba/000001.jpg"


def test_copies_of_the_images_in_another_format_are_found_by_their_stem(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path, f"images/00000{number}.png", "")
    write(tmp_path, "images/000001.txt", "")
    root = write(tmp_path, "list_attr_celeba.txt", text())
    write(tmp_path, "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    table, rejects = open_source("celeba", root).read_all()
    assert table["uri"].to_pylist() == [f"{root}/images/00000{number}.png" for number in (1, 2, 3)]
    assert table["split"].to_pylist() == ["train", "val", "test"]
    assert rejects.repairs == {"an image has another ending than its name in the list": 3}
    write(tmp_path, "images/000001.jpg", "")
    assert open_source("celeba", root).read_all()[0]["uri"].to_pylist()[1] == f"{root}/images/000002.jpg"


def test_json_round_trip(tmp_path):
    content = {"000001": ["1", "0", "0", "1"], "000002": ["0", "1", "1", "0"], "b.png": ["0", "0", "0", "0"]}
    root = write(tmp_path, "labels.json", json.dumps(content))
    options = SourceOptions(files=("labels.json",))
    source = open_source("celeba", root, options=options)
    assert source.attributes.names == ("eyeglasses", "mustache", "beard", "hat")
    table, _ = source.read_all()
    assert table.select(["image_id", "eyeglasses", "mustache", "beard", "hat"]).to_pydict() == {
        "image_id": ["000001.jpg", "000002.jpg", "b.png"],
        "eyeglasses": [1, 0, 0],
        "mustache": [0, 1, 0],
        "beard": [0, 1, 0],
        "hat": [1, 0, 0],
    }
    write_celeba_json([table], tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == content
    again = open_source("celeba", root, options=SourceOptions(files=("again.json",))).read_all()[0]
    assert again.equals(table)


def test_celeba_labels_as_json(tmp_path):
    names = ("eyeglasses", "mustache", "beard", "hat")
    root = write(tmp_path, "list_attr_celeba.txt", text())
    table, _ = open_source("celeba", root, options=SourceOptions(attributes=names)).read_all()
    write_celeba_json([table], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "000001": ["1", "0", "0", "0"],
        "000002": ["0", "1", "1", "1"],
        "000003": ["0", "0", "0", "0"],
    }


def test_empty_json_round_trip(tmp_path):
    write_celeba_json([], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == {}


def test_broken_json_entries_are_counted(tmp_path):
    root = write(tmp_path, "l.json", '{"1": ["1","0","0","1"], "2": ["1"], "3": "x", "4": ["1","0","0","5"]}')
    table, rejects = open_source("celeba", root, options=SourceOptions(files=("l.json",))).read_all()
    assert table.num_rows == 1
    assert rejects.counts == {"columns": 2, "value": 1}
    assert [each.line for each in rejects.examples["columns"]] == [2, 3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list_attr_celeba.txt", "", "line 1: found an empty file"),
        ("list_attr_celeba.txt", "3\n", "line 1: found '3'"),
        ("list_attr_celeba.txt", "3\n000001.jpg -1 1\n", "line 2: found '000001.jpg -1 1'; expected attribute names"),
        ("list_attr_celeba.txt", "1\nMale Young\n000001.jpg 1\n", "line 3: found 1 values, expected 2"),
        ("list_attr_celeba.txt", "0\nMale Young\n", "found no rows"),
        ("l.json", "[1]", "found a JSON list"),
        ("l.json", "{", r"line 1: found no JSON"),
    ],
)
def test_wrong_layouts_are_refused(tmp_path, name, content, message):
    root = write(tmp_path, name, content)
    with pytest.raises(ConfigError, match=message):
        open_source("celeba", root, options=SourceOptions(files=(name,)))


def test_an_unknown_attribute_names_the_near_ones(tmp_path):
    root = write(tmp_path, "list_attr_celeba.txt", text())
    with pytest.raises(ConfigError, match=r"no attribute 'moustache'; did you mean 'mustache'"):
        open_source("celeba", root, options=SourceOptions(attributes=("moustache",)))
