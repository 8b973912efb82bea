"""A plain CSV or Parquet file with a column mapping. Each entry of `columns` is `name=column` or `name=column:kind`:

    image=path                  the image; default: a column named image_path, image_id, file ...
    split=part  group=person    used as they are (both optional); splits must be train, val or test
    hat=wearing_hat             a binary attribute: 1, 0, -1 (no), true, false, yes, no
    race=Race:White|Black|Asian a multiclass attribute; values are class names, `White|Asian` is a coarse label
    age=years:age               25, 20-29 (both ends included) or 70+
    person=name:identity        an identity; also the group, if no column is given for the group
    hat_score=p_hat:score       P(yes) of the binary attribute `hat`

Without `columns`, every column that is not the image, split or group is a binary attribute. Empty cells are unknown.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow.parquet as pq

from faceattr.attributes import Attribute, AttributeKind
from faceattr.config import StorageConfig
from faceattr.data.formats.parquet import read_batches
from faceattr.data.formats.text_tables import is_index_name, read_header, sniff_delimiter, table_file
from faceattr.data.label_columns import LabelRow, class_label, source_schema
from faceattr.data.sources.image_names import find_files, find_image_root
from faceattr.data.sources.label_values import (
    attribute_name,
    identity_classes,
    is_unknown,
    parse_age,
    parse_binary,
    parse_score,
    text_of,
)
from faceattr.data.sources.layouts.label_list import IMAGE_COLUMNS
from faceattr.data.sources.options import SourceOptions, near_hint, select_attributes
from faceattr.data.sources.source import (
    BadRow,
    FoundRow,
    Rejects,
    SourceLabels,
    check_first_rows,
    parse_rows,
    row_tables,
)
from faceattr.data.sources.text_files import layout_error, read_csv
from faceattr.errors import ConfigError

logger = logging.getLogger(__name__)

USUAL_FILES = ("labels.csv", "labels.parquet", "labels.tsv", "labels.csv.gz", "labels.tsv.gz")
_PLAIN = ("split", "group")
_KINDS = ("binary", "age", "identity", "score")
# Classes that an entry does not list; classes of identities are read from the table.
_CLASSES = {"binary": ("no", "yes")}
_ENTRY = re.compile(r"(?P<name>[^=]+)=(?P<column>.+?)(?::(?P<kind>[^:]*))?")
_BATCH_ROWS = 8_192


@dataclass(frozen=True, kw_only=True)
class MappedColumn:
    """One entry of the mapping.

    Attributes:
        name: `image`, `split`, `group`, an attribute, or `<attribute>_score`.
        column: name of the column in the file.
        kind: `binary`, `multiclass`, `age`, `identity` or `score`.
        classes: classes of a multiclass attribute.
    """

    name: str
    column: str
    kind: str = "binary"
    classes: tuple[str, ...] = ()

    @property
    def is_score(self) -> bool:
        """Whether the column contains scores of another column's attribute."""
        return self.kind == "score"


def parse_mapping(entry: str) -> MappedColumn:
    """Parses an entry of `columns`, such as `race=Race:White|Black|Asian`. Raises ConfigError if it is not one."""
    match = _ENTRY.fullmatch(entry.strip())
    if match is None:
        raise ConfigError(f"columns: {entry!r}: expected name=column or name=column:kind")
    name, column, kind = match["name"].strip(), match["column"].strip(), (match["kind"] or "binary").strip()
    if "|" in kind:
        return MappedColumn(name=name, column=column, kind="multiclass", classes=tuple(kind.split("|")))
    if kind not in _KINDS:
        raise ConfigError(f"columns: {entry!r}: kind {kind!r}; {near_hint(kind, (*_KINDS, 'class|class|...'))}")
    if kind == "score" and not name.endswith("_score"):
        raise ConfigError(f"columns: {entry!r}: a score is named after its attribute, such as {name}_score")
    return MappedColumn(name=name, column=column, kind=kind)


def open_table(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens a CSV or Parquet file by a mapping; see the module.

    Raises:
        ConfigError: there is no file, no such column, or no row that fits the mapping.
    """
    store, images = find_image_root(root, storage, options.image_folder)
    files = find_files(store, options.files, USUAL_FILES)[: len(options.files) or 1]
    if not files:
        raise ConfigError(f"{store.uri}: found none of {', '.join(USUAL_FILES)}; name the table with `files`")
    mapping = _resolve_mapping(options.columns, files, storage)

    def found_rows() -> Iterator[FoundRow]:
        for uri in files:
            yield from _read_rows(uri, storage, mapping)

    available = {each.name: _attribute(each, found_rows) for each in mapping if _is_attribute(each)}
    if not available:
        raise ConfigError(f"{files[0]}: the mapping names no attribute; add entries such as hat=column to `columns`")
    attributes = select_attributes(available, options.attributes, default=available, where=files[0])
    scored = _scored_names(mapping, available) & set(attributes.names)
    parser = _Parser(mapping, available)

    def parse(cells: Mapping[str, Any]) -> LabelRow:
        if not cells:
            raise BadRow("columns", "the row has more or fewer values than the header")
        return {**images.columns(_image_name(cells[parser.image])), **parser.parse(cells)}

    def read(rejects: Rejects) -> Iterator:
        rows = parse_rows(found_rows(), parse, rejects)
        yield from row_tables(rows, source_schema(attributes, scored))

    source = SourceLabels(
        kind="table",
        where=", ".join(files),
        image_root=images.uri,
        attributes=attributes,
        read=read,
        scored=frozenset(scored),
    )
    return check_first_rows(source, "values as the mapping says: " + ", ".join(options.columns or available))


def _image_name(value: Any) -> str:
    """Returns the unchanged name: a file's name may start or end with a space."""
    return value if isinstance(value, str) else text_of(value)


def _is_attribute(each: MappedColumn) -> bool:
    return each.name not in ("image", *_PLAIN) and not each.is_score


def _scored_names(mapping: tuple[MappedColumn, ...], available: Mapping[str, Attribute]) -> set[str]:
    names = {each.name.removesuffix("_score") for each in mapping if each.is_score}
    for name in names:
        if name not in available or not available[name].is_yes_no:
            raise ConfigError(f"columns: {name}_score: there is no binary attribute {name!r}")
    return names


def _attribute(each: MappedColumn, found_rows: Callable[[], Iterator[FoundRow]]) -> Attribute:
    kind = cast(AttributeKind, each.kind)
    attribute = Attribute(name=each.name, kind=kind, classes=each.classes or _CLASSES.get(each.kind, ()))
    if attribute.is_person:
        return replace(attribute, classes=identity_classes(_distinct(found_rows(), each.column)))
    return attribute


def _distinct(rows: Iterator[FoundRow], column: str) -> set[str]:
    texts = (text_of(row.value.get(column)) for row in rows)
    return {text for text in texts if not is_unknown(text)}


def _resolve_mapping(
    entries: tuple[str, ...], files: tuple[str, ...], storage: StorageConfig
) -> tuple[MappedColumn, ...]:
    """Returns the mapping with an entry for the image, checked against the columns of every file."""
    mapping = [parse_mapping(entry) for entry in entries]
    header = read_column_names(files[0], storage)
    if not any(each.name == "image" for each in mapping):
        column = next((name for name in header if name.lower() in IMAGE_COLUMNS), None)
        if column is None:
            expected = f"a column named {', '.join(sorted(IMAGE_COLUMNS))}, or image=<column> in `columns`"
            raise layout_error(files[0], 1, found=f"the columns {header}", expected=expected)
        mapping.append(MappedColumn(name="image", column=column))
    if not entries:
        image = mapping[0].column
        index = [name for name in header if is_index_name(name)]
        if index:
            logger.warning("%s: the column %r is left out: it is an index that pandas wrote", files[0], index[0])
        named = [name for name in header if name != image and name not in index]
        names = {name: name if name in _PLAIN else attribute_name(name) for name in named}
        mapping += [MappedColumn(name=name, column=column) for column, name in names.items()]
    repeated = sorted({each.name for each in mapping if [other.name for other in mapping].count(each.name) > 1})
    if repeated:
        raise ConfigError(f"columns: {repeated} are given twice")
    for uri in files:
        names_there = read_column_names(uri, storage)
        for each in mapping:
            if each.column not in names_there:
                raise ConfigError(f"{uri}: there is no column {each.column!r}; {near_hint(each.column, names_there)}")
    return tuple(mapping)


def _is_parquet(uri: str) -> bool:
    return uri.lower().endswith(".parquet")


def read_column_names(uri: str, storage: StorageConfig) -> list[str]:
    """Returns the columns of a CSV or Parquet file. Raises ConfigError if it is neither."""
    if _is_parquet(uri):
        with table_file(uri, storage) as file:
            return list(pq.read_schema(file).names)
    return read_header(uri, storage, delimiter=sniff_delimiter(uri, storage))


def _read_rows(uri: str, storage: StorageConfig, mapping: tuple[MappedColumn, ...]) -> Iterator[FoundRow]:
    """Yields rows; `value` is the cells by column name. Rows of a Parquet file are counted as lines are."""
    if not _is_parquet(uri):
        yield from _read_csv_rows(uri, storage)
        return
    columns = sorted({each.column for each in mapping})
    with table_file(uri, storage) as file:
        batches = read_batches(pq.ParquetFile(file), _BATCH_ROWS, columns)
        rows = (cells for batch in batches for cells in batch.to_pylist())
        for number, cells in enumerate(rows, start=1):
            yield FoundRow(where=uri, line=number, text=str(cells), value=cells)


def _read_csv_rows(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    rows = read_csv(uri, storage, delimiter=sniff_delimiter(uri, storage))
    names = [cell.strip() for cell in next(rows).value]
    for row in rows:
        # A row of another length keeps only its text, and is rejected.
        cells = dict(zip(names, row.value, strict=True)) if len(row.value) == len(names) else {}
        yield FoundRow(where=row.where, line=row.line, text=row.text, value=cells)


def _parse_yes_no(text: str, mapped: MappedColumn) -> int | None:
    try:
        return parse_binary(text, mapped.name)
    except BadRow as error:
        remedy = f"a column of other values has its classes in the mapping: {mapped.name}={mapped.column}:A|B|C"
        raise BadRow(error.reason, f"{error.detail}; {remedy}") from None


class _Parser:
    """Parses cells by column name to labels."""

    def __init__(self, mapping: tuple[MappedColumn, ...], available: Mapping[str, Attribute]) -> None:
        self._mapping = tuple(each for each in mapping if each.name != "image")
        self.image = next(each.column for each in mapping if each.name == "image")
        self._available = available
        self._index = {
            name: {text: index for index, text in enumerate(attribute.classes)}
            for name, attribute in available.items()
            if not attribute.is_yes_no
        }

    def parse(self, cells: Mapping[str, Any]) -> LabelRow:
        row: LabelRow = {}
        person = None
        for each in self._mapping:
            text = text_of(cells[each.column])
            attribute = self._available.get(each.name)
            if each.name in _PLAIN:
                row[each.name] = None if is_unknown(text) else text
            elif attribute is None:
                row[each.name] = parse_score(text, each.name)
            elif attribute.is_yes_no:
                row[each.name] = _parse_yes_no(text, each)
            elif attribute.is_years:
                row |= parse_age(text, each.name)
            elif not is_unknown(text):
                row |= self._classes(each.name, text, split=attribute.can_be_coarse)
                person = text if attribute.is_person else person
        row.setdefault("group", person)
        return row

    def _classes(self, name: str, text: str, *, split: bool) -> LabelRow:
        index = self._index[name]
        if not split:
            return {name: index[text]}
        parts = [part.strip() for part in text.split("|")]
        unknown = [part for part in parts if part not in index]
        if unknown:
            raise BadRow("value", f"{name} {unknown[0]!r} is none of {', '.join(index)}")
        return class_label(name, [index[part] for part in parts])
