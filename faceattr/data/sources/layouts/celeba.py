"""CelebA: `list_attr_celeba.txt` and its variants, with identities and the official split if they exist.

    202599                                    a count, which may be missing or wrong
    5_o_Clock_Shadow Arched_Eyebrows ...      names
    000001.jpg -1 1 ...                       -1 or 0 is no; separated by white space or commas

CSV copies start with `image_id,5_o_Clock_Shadow,...`. The CelebA JSON, `{"000001": ["1","0","0","1"]}`, contains
Eyeglasses, Mustache, Beard, Hat, in this order. Attribute names are CelebA's in lower case (`five_o_clock_shadow`). In
addition there are rules over them (`CELEBA_RULES`) with our names, and `identity` if identity_CelebA.txt exists.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from faceattr.attributes import Attribute, DerivedAttribute
from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import is_index_name, table_file
from faceattr.data.label_columns import LabelRow, source_schema
from faceattr.data.sources.image_names import ImageRoot, find_files, find_image_root, match_ending
from faceattr.data.sources.label_values import attribute_name, identity_classes, is_binary, parse_binary, text_of
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

USUAL_FILES = tuple(f"{folder}list_attr_celeba.{ending}" for folder in ("", "Anno/") for ending in ("txt", "csv"))
_IDENTITY_FILES = ("identity_CelebA.txt", "Anno/identity_CelebA.txt", "identity_CelebA.csv")
_SPLIT_FILES = ("list_eval_partition.txt", "Eval/list_eval_partition.txt", "list_eval_partition.csv")
_USUAL_FOLDERS = (
    "img_align_celeba/img_align_celeba",
    "img_align_celeba",
    "Img/img_align_celeba",
    "img_celeba",
    "images",
)
_SPLITS = {"0": "train", "1": "val", "2": "test"}
_IMAGE_COLUMNS = frozenset(["image_id", "image", "filename", "file", "image_path"])
_EXPECTED = "a count line, a line of attribute names, then '000001.jpg -1 1 ...' or the same as CSV"

# Our names as rules over CelebA's. Facial hair is what No_Beard denies, and what can grow without a beard: stubble
# (5_o_Clock_Shadow), Goatee, Mustache, Sideburns. `hat` and `glasses` are only renamed, so that one head can learn from
# several sources.
_HAIR = "not no_beard or mustache or goatee or sideburns or five_o_clock_shadow"
CELEBA_RULES: dict[str, str] = {
    "beard": "not no_beard",
    "facial_hair": _HAIR,
    "hat": "wearing_hat",
    "glasses": "eyeglasses",
    "label": f"not (wearing_hat or eyeglasses or {_HAIR})",
}


def open_celeba(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens a CelebA folder; see the module. `files` names another attribute list, or the CelebA JSON.

    Raises:
        ConfigError: there is no list, or it has another layout.
    """
    store, images = find_image_root(root, storage, options.image_folder, usual=_USUAL_FOLDERS)
    files = find_files(store, options.files, USUAL_FILES)
    if not files:
        raise ConfigError(f"{store.uri}: found none of {', '.join(USUAL_FILES)}; name the list with `files`")
    if len(options.files) > 1:
        raise ConfigError(f"celeba reads one file, found {list(options.files)}")
    uri = files[0]
    is_json = uri.lower().endswith(".json")
    names = JSON_ATTRIBUTES if is_json else _read_header(uri, storage).names
    rules = _rules_over(names)
    side = _SideFiles(
        identities=next(iter(find_files(store, (), _IDENTITY_FILES)), None),
        splits=next(iter(find_files(store, (), _SPLIT_FILES)), None),
        storage=storage,
    )
    available = {name: Attribute(name=name) for name in (*names, *(rule.name for rule in rules))}
    people = identity_classes(set(side.read_identities(Rejects()).values())) if side.identities else ()
    if people:
        available["identity"] = Attribute(name="identity", kind="identity", classes=people)
    attributes = select_attributes(available, options.attributes, default=names, where=uri)

    def read_list(rejects: Rejects) -> Iterator[FoundRow]:
        return read_celeba_json(uri, storage) if is_json else _read_rows(uri, storage, rejects)

    first = next(read_list(Rejects()), None)
    if first is not None and first.value[0]:
        images = match_ending(store, images, first.value[0])

    def read(rejects: Rejects) -> Iterator:
        parser = _Parser(images=images, names=names, rules=rules, side=side, people=people, rejects=rejects)
        yield from row_tables(parse_rows(read_list(rejects), parser.parse, rejects), source_schema(attributes))

    source = SourceLabels(kind="celeba", where=uri, image_root=images.uri, attributes=attributes, read=read)
    return check_first_rows(source, _EXPECTED)


def split_cells(line: str) -> list[str]:
    """Splits a line of any CelebA file into cells at white space, commas or both."""
    return re.split(r"[,\s]+", line)


def _read_cells(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    """Yields rows with their cells as `value`: a CSV read strictly, without pandas' index; else by `split_cells`."""
    head = [row.text for row in islice(read_lines(uri, storage), 2)]
    delimiter = next((mark for mark in ",;" if any(mark in text for text in head)), None)
    if delimiter is None or not any(text.lstrip('"' + delimiter)[:1].isalpha() for text in head):
        for row in read_lines(uri, storage):
            yield replace(row, value=split_cells(row.value))
        return
    has_index = False
    for number, row in enumerate(read_csv(uri, storage, delimiter=delimiter)):
        cells = [cell.strip() for cell in row.value]
        if number == 0:
            has_index = len(cells) > 1 and is_index_name(cells[0])
        yield replace(row, value=cells[has_index:])


def _rules_over(names: tuple[str, ...]) -> tuple[DerivedAttribute, ...]:
    rules = (DerivedAttribute(name=name, rule=rule) for name, rule in CELEBA_RULES.items() if name not in names)
    return tuple(rule for rule in rules if set(rule.inputs) <= set(names))


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What precedes the rows: the count, if any, the names, and the number of the last line read."""

    count: int | None
    names: tuple[str, ...]
    line: int


def _read_header(uri: str, storage: StorageConfig) -> _Header:
    lines = _read_cells(uri, storage)
    first = next(lines, None)
    if first is None:
        raise layout_error(uri, 1, found="an empty file", expected=_EXPECTED)
    text = first.text.strip()
    count = int(text) if text.isascii() and text.isdigit() else None
    header = first if count is None else next(lines, None)
    if header is None:
        raise layout_error(uri, first.line, found=repr(first.text), expected=_EXPECTED)
    cells = header.value
    names = cells[1:] if cells[0].lower() in _IMAGE_COLUMNS else cells
    if not names or any(is_binary(cell) for cell in cells) or len(set(names)) != len(names):
        raise layout_error(uri, header.line, found=repr(header.text[:120]), expected="attribute names, each once")
    return _Header(count=count, names=tuple(map(attribute_name, names)), line=header.line or 1)


def _read_rows(uri: str, storage: StorageConfig, rejects: Rejects) -> Iterator[FoundRow]:
    """Yields rows; `value` is the image name and the values."""
    header = _read_header(uri, storage)
    num_rows = 0
    for row in _read_cells(uri, storage):
        if (row.line or 0) > header.line:
            num_rows += 1
            yield row
    if header.count not in (None, num_rows):
        rejects.repair("count_line_differs")


@dataclass(frozen=True, kw_only=True)
class _SideFiles:
    """Identities and official split, each kept in memory as a dictionary by image name."""

    identities: str | None
    splits: str | None
    storage: StorageConfig

    def read_identities(self, rejects: Rejects) -> dict[str, str]:
        return self._read(self.identities, rejects, lambda text: text if text.isalnum() else None)

    def read_splits(self, rejects: Rejects) -> dict[str, str]:
        return self._read(self.splits, rejects, _SPLITS.get)

    def _read(self, uri: str | None, rejects: Rejects, value_of: Callable[[str], str | None]) -> dict[str, str]:
        if uri is None:
            return {}
        rows = _read_cells(uri, self.storage)

        def parse(cells: list[str]) -> LabelRow | None:
            if cells[0].lower() in _IMAGE_COLUMNS:
                return None
            value = value_of(cells[1]) if len(cells) == 2 else None
            if value is None:
                raise BadRow("value", "expected an image name and its number")
            return {"name": cells[0], "value": value}

        found = {row["name"]: row["value"] for row in parse_rows(rows, parse, rejects)}
        if not found:
            raise layout_error(uri, 1, found="no row in the layout", expected="'000001.jpg 1' a line")
        return found


class _Parser:
    """Parses rows to labels; joins identities and splits by image name."""

    def __init__(
        self,
        *,
        images: ImageRoot,
        names: tuple[str, ...],
        rules: tuple[DerivedAttribute, ...],
        side: _SideFiles,
        people: tuple[str, ...],
        rejects: Rejects,
    ) -> None:
        self._images = images
        self._names = names
        # A rule parses its text each time its inputs are read or it is evaluated; few combinations of inputs occur.
        self._rules = [(rule, rule.inputs) for rule in rules]
        self._decided: dict[tuple[str, tuple[int | None, ...]], int | None] = {}
        self._identities = side.read_identities(rejects)
        self._splits = side.read_splits(rejects)
        self._index = {name: index for index, name in enumerate(people)}
        self._rejects = rejects

    def parse(self, cells: list[str]) -> LabelRow:
        if len(cells) != len(self._names) + 1:
            raise BadRow("columns", f"found {len(cells) - 1} values, expected {len(self._names)}")
        image = cells[0]
        labels = {name: parse_binary(text, name) for name, text in zip(self._names, cells[1:], strict=True)}
        if self._images.endings is not None:
            self._rejects.repair("an image has another ending than its name in the list")
        person = self._identities.get(image.rpartition("/")[2])
        derived = {rule.name: self._derive(rule, inputs, labels) for rule, inputs in self._rules}
        return {
            **self._images.columns(image),
            **labels,
            **derived,
            "identity": None if person is None else self._index[person],
            "group": person,
            "split": self._splits.get(image.rpartition("/")[2]),
        }

    def _derive(self, rule: DerivedAttribute, inputs: tuple[str, ...], labels: dict[str, int | None]) -> int | None:
        key = (rule.name, tuple(labels[name] for name in inputs))
        if key not in self._decided:
            self._decided[key] = rule.evaluate(labels)
        return self._decided[key]


JSON_ATTRIBUTES = ("eyeglasses", "mustache", "beard", "hat")
_EXPECTED_JSON = 'an object such as {"000001": ["1","0","0","1"]}: Eyeglasses, Mustache, Beard, Hat'


def read_celeba_json(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    """Yields entries; `value` is the image name and the values. The whole file is in memory. Entries count as lines.

    Raises:
        ConfigError: the file is not JSON, or not an object of lists.
    """
    with table_file(uri, storage) as file:
        data = file.read()
    try:
        # Pairs, not a dict, so that a repeated name is not lost here.
        entries = json.loads(data, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise layout_error(uri, error.lineno, found=f"no JSON ({error.msg})", expected=_EXPECTED_JSON) from error
    except UnicodeDecodeError as error:
        raise layout_error(uri, None, found="bytes that are not UTF-8", expected=_EXPECTED_JSON) from error
    if not isinstance(entries, list) or not data.lstrip().startswith(b"{"):
        raise layout_error(uri, 1, found=f"a JSON {type(entries).__name__}", expected=_EXPECTED_JSON)
    for number, (name, values) in enumerate(entries, start=1):
        cells = [text_of(value) for value in values] if isinstance(values, list) else []
        image = name if "." in name else f"{name}.jpg"
        yield FoundRow(where=uri, line=number, text=f"{name}: {values}", value=[image, *cells])
