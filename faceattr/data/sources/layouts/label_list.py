"""Label lists: an image and its labels per line, in every form in circulation.

    train/1.jpg 1               path and label, separated by white space, comma or tab; the attribute is `label`
    image_path,hat,...,label    with a header: every other column is a binary attribute (labeled_data.csv)
    1                           only labels: line n belongs to the n-th image in string order of the keys

Values are 1, 0, -1 (no), true, false, yes, no; an empty cell is unknown. Columns named `split` and `group` are used
as such.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from faceattr.attributes import Attribute
from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import check_header, is_index_name
from faceattr.data.inputs.folder_files import is_image_name
from faceattr.data.label_columns import LabelRow, source_schema
from faceattr.data.sources.image_names import ImageRoot, find_files, find_image_root, image_keys
from faceattr.data.sources.label_values import attribute_name, is_binary, is_unknown, parse_binary
from faceattr.data.sources.options import SourceOptions, select_attributes
from faceattr.data.sources.source import (
    BadRow,
    FoundRow,
    Rejects,
    SourceLabels,
    check_first_rows,
    parse_rows,
    row_tables,
)
from faceattr.data.sources.text_files import layout_error, read_csv, read_lines
from faceattr.errors import ConfigError

USUAL_FILES = ("labeled_data.csv", "label_train.txt")
IMAGE_COLUMNS = frozenset(["image_path", "image_id", "image", "file", "filename", "file_name", "path", "name"])
_EXPECTED = (
    "'path label', 'path,label' or tabs between them, a header with more columns, or one label (1, 0, -1) a line"
)
_SNIFF_ROWS = 100
INDEX = "pandas index"
_PLAIN_COLUMNS = frozenset(["split", "group"])
Delimiter = Literal[" ", ",", ";", "\t", ""]
_MARKS: tuple[Delimiter, ...] = (",", ";", "\t")


@dataclass(frozen=True, kw_only=True)
class ListLayout:
    """The layout of a list, so that predictions can be written in the same form.

    Attributes:
        delimiter: separator of path and label; empty if there are only labels.
        header: the unchanged names of the header; empty without one.
        columns: meaning of each cell: `image`, `split`, `group`, an attribute, or pandas' index, which is ignored.
        no: how a no is written, `0` or `-1`.
    """

    delimiter: Delimiter
    header: tuple[str, ...]
    columns: tuple[str, ...]
    no: str

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes, in column order."""
        return tuple(name for name in self.columns if name not in ("image", INDEX) and name not in _PLAIN_COLUMNS)


def detect_layout(uri: str, storage: StorageConfig) -> ListLayout:
    """Detects the layout from the first rows of a list.

    Raises:
        ConfigError: they have none of the module's layouts.
    """
    lines = list(islice(read_lines(uri, storage), _SNIFF_ROWS))
    if not lines:
        raise layout_error(uri, 1, found="an empty file", expected=_EXPECTED)
    first = lines[0].value
    last_cells = [line.value.replace(",", " ").replace(";", " ").split()[-1:] for line in lines]
    no = "-1" if ["-1"] in last_cells else "0"
    if all(is_binary(line.value) for line in lines[1:]) and len(first.split()) == 1 and "," not in first:
        if is_binary(first):
            return ListLayout(delimiter="", header=(), columns=("label",), no=no)
        if len(lines) > 1:
            return ListLayout(delimiter="", header=(first,), columns=(attribute_name(first),), no=no)
    delimiter: Delimiter = next((mark for mark in _MARKS if mark in first), " ")
    cells = _cells(first, delimiter)
    if len(cells) < 2:
        raise layout_error(uri, lines[0].line, found=repr(first), expected=_EXPECTED)
    if any(is_binary(cell) or is_unknown(cell) for cell in cells[1:]):
        if len(cells) > 2:
            found = f"{len(cells)} values without a header"
            raise layout_error(uri, lines[0].line, found=found, expected="a header that names the columns")
        return ListLayout(delimiter=delimiter, header=(), columns=("image", "label"), no=no)
    if len(lines) == 1 or not any(is_binary(cell) for cell in _cells(lines[1].value, delimiter)):
        raise layout_error(uri, lines[0].line, found=repr(first), expected=_EXPECTED)
    check_header(cells, uri)
    return ListLayout(delimiter=delimiter, header=tuple(cells), columns=_name_columns(cells), no=no)


def _cells(line: str, delimiter: Delimiter) -> list[str]:
    # White space may occur inside a path, but not after it.
    return line.rsplit(None, 1) if delimiter == " " else [cell.strip().strip('"') for cell in line.split(delimiter)]


def _name_columns(header: list[str]) -> tuple[str, ...]:
    lower = [name.lower() for name in header]
    image = next((place for place, name in enumerate(lower) if name in IMAGE_COLUMNS), None)
    if image is None:
        image = next((place for place, name in enumerate(header) if not is_index_name(name)), 0)
    return tuple(
        "image" if place == image else INDEX if is_index_name(name) else attribute_name(name)
        for place, name in enumerate(header)
    )


def open_label_list(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens a label list; see the module.

    Raises:
        ConfigError: there is no list, it has another layout, or it has only labels, and not as many as images.
    """
    store, images = find_image_root(root, storage, options.image_folder)
    files = find_files(store, options.files, USUAL_FILES)
    if not files:
        raise ConfigError(f"{store.uri}: found none of {', '.join(USUAL_FILES)}; name the list with `files`")
    if len(options.files) > 1:
        raise ConfigError(f"label_list reads one file, found {list(options.files)}")
    uri = files[0]
    layout = detect_layout(uri, storage)
    available = {name: Attribute(name=name) for name in layout.attributes}
    attributes = select_attributes(available, options.attributes, default=available, where=uri)

    def read(rejects: Rejects) -> Iterator:
        found = _rows(uri, storage, layout, lambda: image_keys(store, images.folder, rejects.files))
        rows = parse_rows(found, lambda cells: _parse(cells, layout, images), rejects)
        yield from row_tables(rows, source_schema(attributes))

    source = SourceLabels(kind="label_list", where=uri, image_root=images.uri, attributes=attributes, read=read)
    return check_first_rows(source, _EXPECTED)


def _rows(
    uri: str, storage: StorageConfig, layout: ListLayout, list_images: Callable[[], Iterator[str]]
) -> Iterator[FoundRow]:
    """Yields the rows of a list; `value` is the list of cells."""
    if layout.delimiter in (",", ";", "\t"):
        yield from islice(read_csv(uri, storage, delimiter=layout.delimiter), bool(layout.header), None)
        return
    lines = islice(read_lines(uri, storage), bool(layout.header), None)
    if layout.delimiter:
        for line in lines:
            yield replace(line, value=line.value.rsplit(None, 1))
        return
    # The order is part of the layout, so all keys are sorted in memory; a non-image such as a README would shift them
    # all.
    keys = sorted(filter(is_image_name, list_images()))
    number = 0
    for number, line in enumerate(lines, start=1):
        if number > len(keys):
            break
        yield replace(line, value=[keys[number - 1], line.value])
    if number != len(keys):
        found = f"{'more' if number > len(keys) else number} labels for {len(keys)} images"
        raise layout_error(uri, None, found=found, expected="one label a line for each image, in sorted order")


def _parse(cells: list[str], layout: ListLayout, images: ImageRoot) -> LabelRow:
    columns = layout.columns if layout.delimiter else ("image", *layout.columns)
    if len(cells) != len(columns):
        raise BadRow("columns", f"found {len(cells)} values, expected {len(columns)}: {', '.join(columns)}")
    values = dict(zip(columns, cells, strict=True))
    plain = {name: values[name].strip() or None for name in _PLAIN_COLUMNS if name in values}
    labels = {name: parse_binary(values[name].strip(), name) for name in layout.attributes}
    return {**images.columns(values["image"]), **plain, **labels}
