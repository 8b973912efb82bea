"""Label lists in every layout, and written back in the layout in which they came."""

import pytest

from faceattr.config import StorageConfig
from faceattr.data.sources.layouts.label_list import detect_layout
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError
from tests.data.sources.writers import write_label_list, write_labeled_data

PATHS = ["faces/a.jpg", "faces/b.jpg", "faces/c.jpg"]
LAYOUTS = {
    "space": "faces/a.jpg 1\nfaces/b.jpg 0\nfaces/c.jpg 1\n",
    "space_minus": "faces/a.jpg 1\nfaces/b.jpg -1\nfaces/c.jpg 1\n",
    "space_header": "image label\nfaces/a.jpg 1\nfaces/b.jpg 0\nfaces/c.jpg 1\n",
    "comma": "faces/a.jpg,1\nfaces/b.jpg,0\nfaces/c.jpg,1\n",
    "comma_header": "image_path,label\nfaces/a.jpg,1\nfaces/b.jpg,0\nfaces/c.jpg,1\n",
    "tab": "faces/a.jpg\t1\nfaces/b.jpg\t-1\nfaces/c.jpg\t1\n",
    "tab_header": "path\tlabel\nfaces/a.jpg\t1\nfaces/b.jpg\t0\nfaces/c.jpg\t1\n",
    "labels": "1\n0\n1\n",
    "labels_header": "label\n1\n-1\n1\n",
}


def write(tmp_path, text, name="label_train.txt"):
    (tmp_path / name).write_text(text)
    (tmp_path / "faces").mkdir(exist_ok=True)
    for path in PATHS:
        (tmp_path / path).write_bytes(b"")
    return str(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_one_table_and_round_trips(tmp_path, layout):
    root = write(tmp_path, LAYOUTS[layout])
    source = open_source("label_list", root)
    table, rejects = source.read_all()
    assert rejects.total == 0
    assert source.attributes.names == ("label",)
    assert table.select(["image_id", "label"]).to_pydict() == {"image_id": PATHS, "label": [1, 0, 1]}
    detected = detect_layout(f"{root}/label_train.txt", StorageConfig())
    write_label_list([table], tmp_path / "test_labels.txt", layout=detected)
    assert (tmp_path / "test_labels.txt").read_text() == LAYOUTS[layout]


def test_crlf_bom_and_blank_lines(tmp_path):
    root = write(tmp_path, "")
    (tmp_path / "label_train.txt").write_bytes(b"\xef\xbb\xbffaces/a.jpg 1\r\n\r\nfaces/b.jpg 0\r\n\n")
    table, rejects = open_source("label_list", root).read_all()
    assert (table["image_id"].to_pylist(), table["label"].to_pylist()) == (PATHS[:2], [1, 0])
    assert rejects.total == 0


def test_paths_with_spaces(tmp_path):
    root = write(tmp_path, "faces/my face.jpg 1\nfaces/b.jpg 0\n")
    assert open_source("label_list", root).read_all()[0]["image_id"].to_pylist()[0] == "faces/my face.jpg"


def test_labeled_data_csv(tmp_path):
    text = "image_path,hat,glasses,facial_hair,label\nfaces/a.jpg,0,0,0,1\nfaces/b.jpg,1,,0,0\n"
    root = write(tmp_path, text, "labeled_data.csv")
    source = open_source("label_list", root)
    assert source.attributes.names == ("hat", "glasses", "facial_hair", "label")
    table, _ = source.read_all()
    assert table.select(["image_id", *source.attributes.names]).to_pydict() == {
        "image_id": PATHS[:2],
        "hat": [0, 1],
        "glasses": [0, None],
        "facial_hair": [0, 0],
        "label": [1, 0],
    }
    write_labeled_data([table], tmp_path / "again.csv", attributes=source.attributes.names)
    assert (tmp_path / "again.csv").read_text() == text


def test_split_and_group_columns_and_quoted_cells(tmp_path):
    text = 'Image_Path,split,group,Wearing Hat\n"faces/a, b.jpg",train,p1,yes\nfaces/b.jpg,,,no\n'
    source = open_source("label_list", write(tmp_path, text, "labeled_data.csv"))
    table, rejects = source.read_all()
    assert rejects.total == 0
    assert table.select(["image_id", "split", "group", "wearing_hat"]).to_pylist() == [
        {"image_id": "faces/a, b.jpg", "split": "train", "group": "p1", "wearing_hat": 1},
        {"image_id": "faces/b.jpg", "split": None, "group": None, "wearing_hat": 0},
    ]


def test_broken_rows_are_counted(tmp_path):
    root = write(tmp_path, "faces/a.jpg 1\nfaces/b.jpg 2\nfaces/c.jpg\n../x.jpg 1\n/etc/x.jpg 0\n")
    table, rejects = open_source("label_list", root).read_all()
    assert table.num_rows == 1
    assert rejects.counts == {"value": 1, "columns": 1, "path": 2}
    assert [(each.line, each.text) for each in rejects.examples["path"]] == [(4, "../x.jpg 1"), (5, "/etc/x.jpg 0")]


def test_bytes_that_are_no_utf8_spoil_their_own_row_only(tmp_path):
    root = write(tmp_path, "")
    (tmp_path / "label_train.txt").write_bytes(b"faces/a.jpg 1\nfaces/\xff.jpg 0\nfaces/c.jpg 0\n")
    table, rejects = open_source("label_list", root).read_all()
    assert table["image_id"].to_pylist() == ["faces/a.jpg", "faces/c.jpg"]
    assert rejects.counts == {"encoding": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: found an empty file"),
        ("hello\nworld\n", "line 1: found 'hello'; expected 'path label'"),
        ("faces/a.jpg,1,0\n", "line 1: found 3 values without a header; expected a header"),
        ("image,label\nfaces/a.jpg,Male\n", "line 1: found 'image,label'; expected"),
        ("1\n0\n", "found 2 labels for 3 images"),
        ("1\n0\n1\n0\n", "found more labels for 3 images"),
        ("a.jpg 7\nb.jpg 8\n", "line 1: found 'a.jpg 7'"),
    ],
)
def test_wrong_layouts_are_refused(tmp_path, text, message):
    root = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message):
        open_source("label_list", root).read_all()


def test_an_unknown_label_does_not_fit_a_list_without_empty_cells(tmp_path):
    table, _ = open_source("label_list", write(tmp_path, "image_path,label\na.jpg,1\nb.jpg,\n")).read_all()
    (tmp_path / "plain.txt").write_text("a.jpg 1\n")
    layout = detect_layout(str(tmp_path / "plain.txt"), StorageConfig())
    with pytest.raises(ConfigError, match=r"b.jpg has an unknown label"):
        write_label_list([table], tmp_path / "out.txt", layout=layout)
    assert not (tmp_path / "out.txt").exists()


def test_images_below_a_folder(tmp_path):
    root = write(tmp_path, "a.jpg 1\nfaces/b.jpg 0\n")
    source = open_source("label_list", root, options=SourceOptions(image_folder="faces"))
    table, _ = source.read_all()
    assert table["image_id"].to_pylist() == ["faces/a.jpg", "faces/b.jpg"]
    assert table["uri"].to_pylist()[0] == f"{root}/faces/a.jpg"
