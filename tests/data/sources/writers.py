"""Our tables in the layouts of the systems that we replace; each file reads back as the same labels.

Null is an empty cell where the layout can hold one, and an error where it cannot. Rows are streamed.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.label_columns import read_attributes
from faceattr.data.sources.layouts.celeba import JSON_ATTRIBUTES
from faceattr.data.sources.layouts.label_list import ListLayout
from faceattr.errors import ConfigError

_FAIRFACE_HEADER = ("file", "age", "gender", "race", "service_test")


def write_label_list(tables: Iterable[pa.Table], path: Path, *, layout: ListLayout) -> None:
    """Writes labels in the layout of the list that came in (`label_list.detect_layout`), as test_labels.txt.

    For labels alone, the rows must come in string order of their keys.

    Raises:
        ConfigError: a label is unknown and the layout has no cell to leave empty.
    """
    texts = {1: "1", 0: layout.no, None: ""}
    with _new_file(path) as file:
        writer = csv.writer(file, delimiter=layout.delimiter or ",", lineterminator="\n")
        if layout.header:
            _write_row(file, writer, layout, list(layout.header))
        for row in _rows(tables):
            values = {"image": row["image_id"], "split": row.get("split") or "", "group": row.get("group") or ""}
            labels = {name: texts[row[name]] for name in layout.attributes}
            if layout.delimiter in ("", " ") and "" in labels.values():
                raise ConfigError(f"{path}: {row['image_id']} has an unknown label, which this layout cannot hold")
            _write_row(file, writer, layout, [{**values, **labels}[name] for name in layout.columns])


def _write_row(file: TextIO, writer: Any, layout: ListLayout, cells: list[str]) -> None:
    # Paths with white space are not quoted in the white-space layout: the label is what stands behind the last one.
    if layout.delimiter in ("", " "):
        file.write(layout.delimiter.join(cells) + "\n")
    else:
        writer.writerow(cells)


def write_labeled_data(tables: Iterable[pa.Table], path: Path, *, attributes: Iterable[str]) -> None:
    """Writes labeled_data.csv: `image_path`, then the attributes."""
    names = tuple(attributes)
    layout = ListLayout(delimiter=",", header=("image_path", *names), columns=("image", *names), no="0")
    write_label_list(tables, path, layout=layout)


def write_celeba_json(tables: Iterable[pa.Table], path: Path) -> None:
    """Writes the CelebA JSON, `{"000001": ["1","0","0","1"]}`: Eyeglasses, Mustache, Beard, Hat.

    Keys are file names without `.jpg`; another ending stays, so that it can be read back.

    Raises:
        ConfigError: an attribute is not there, or a label is unknown.
    """
    separator = iter(("{",))
    with _new_file(path) as file:
        for row in _rows(tables):
            values = [row.get(name) for name in JSON_ATTRIBUTES]
            if None in values:
                found = dict(zip(JSON_ATTRIBUTES, values, strict=True))
                raise ConfigError(f"{path}: {row['image_id']} lacks a label that this layout needs: {found}")
            name = row["image_id"].rpartition("/")[2].removesuffix(".jpg")
            file.write(f"{next(separator, ',')}\n{json.dumps(name)}: {json.dumps([str(value) for value in values])}")
        file.write(f"{next(separator, '')}\n}}\n")


def write_fairface(tables: Iterable[pa.Table], path: Path) -> None:
    """Writes FairFace's CSV from age_group, gender and race, in whichever class order they are.

    `service_test` is no label of ours and stays empty.
    """
    with _new_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_FAIRFACE_HEADER)
        for table in tables:
            attributes = read_attributes(table.schema)
            missing = [name for name in ("age_group", "gender", "race") if name not in attributes.names]
            if missing:
                raise ConfigError(f"{path}: the labels lack {missing}, which this layout needs")
            for row in table.to_pylist():
                cells = [_class_name(attributes[name], row[name]) for name in ("age_group", "gender", "race")]
                writer.writerow([row["image_id"], *cells, ""])


def _class_name(attribute: Attribute, index: int | None) -> str:
    return "" if index is None else attribute.classes[index]


def _rows(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from table.to_pylist()


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A text file that appears under its name when it is complete."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
