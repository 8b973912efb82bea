"""FairFace: `file,age,gender,race[,service_test]`, one CSV per split, and damaged copies of it in circulation.

    file,age,gender,race,service_test
    train/1.jpg,50-59,Male,East Asian,True

Undone, and counted as repairs: ages that a spreadsheet turned into dates (`03-Sep` is 3-9, `Oct-19` is 10-19), prefixes
before `train/` or `val/`, and `70+` for `more than 70`. An empty cell is unknown. Attributes, defined in
`face_classes.py`: age_group, gender and race by default, age and race_group on request.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import check_header, sniff_delimiter
from faceattr.data.label_columns import LabelRow, age_label, source_schema
from faceattr.data.sources.face_classes import (
    AGE_GROUPS,
    FACE_ATTRIBUTES,
    GENDERS,
    RACES,
    SEED_004_CLASSES,
    age_group_range,
    fine_race_labels,
)
from faceattr.data.sources.image_names import ImageRoot, find_files, find_image_root
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

USUAL_FILES = ("fairface_label_train.csv", "fairface_label_val.csv")
DEFAULT_ATTRIBUTES = ("age_group", "gender", "race")
COLUMNS = ("file", "age", "gender", "race")
_EXPECTED = "the header file,age,gender,race[,service_test] and rows such as train/1.jpg,50-59,Male,East Asian,True"
_USUAL_FOLDERS = ("fairface-img-margin025-trainval", "fairface-img-margin125-trainval")
_SPLIT_PATH = re.compile(r"(?:^|/)((train|val)/[^/]+)$")
# What spreadsheets of either date order make of 3-9 and 10-19 (0-2 would be month 0 and stays unchanged).
_DATES = {"3-9": ("3-sep", "sep-3", "9-mar", "mar-9"), "10-19": ("oct-19", "19-oct")}
_DAMAGED_AGES = {date: age for age, dates in _DATES.items() for date in dates}
_OPEN_AGES = frozenset(["70+", ">70", "morethan70", "more than 70+"])


def open_fairface(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens a FairFace folder; see the module.

    Raises:
        ConfigError: there is no label file, or it has another layout.
    """
    store, images = find_image_root(root, storage, options.image_folder, usual=_USUAL_FOLDERS)
    files = find_files(store, options.files, USUAL_FILES)
    if not files:
        raise ConfigError(f"{store.uri}: found none of {', '.join(USUAL_FILES)}; name the CSV files with `files`")
    available = FACE_ATTRIBUTES if options.class_order == "natural" else _sorted_classes(options.class_order)
    attributes = select_attributes(available, options.attributes, default=DEFAULT_ATTRIBUTES, where="fairface")

    def read(rejects: Rejects) -> Iterator:
        parser = _Parser(images, attributes, rejects)
        found = (row for uri in files for row in _read_file(uri, storage))
        yield from row_tables(parse_rows(found, parser.parse, rejects), source_schema(attributes))

    source = SourceLabels(
        kind="fairface", where=", ".join(files), image_root=images.uri, attributes=attributes, read=read
    )
    return check_first_rows(source, _EXPECTED)


def _sorted_classes(class_order: str) -> dict[str, Attribute]:
    if class_order != "sorted":
        raise ConfigError(f"class_order {class_order!r}: {near_hint(class_order, ('natural', 'sorted'))}")
    reordered = {name: replace(FACE_ATTRIBUTES[name], classes=order) for name, order in SEED_004_CLASSES.items()}
    return {**FACE_ATTRIBUTES, **reordered}


def _read_file(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    """Yields the rows of one CSV; `value` is the cells by column name."""
    delimiter = sniff_delimiter(uri, storage)
    rows = read_csv(uri, storage, delimiter=delimiter)
    header = next(rows, None)
    if header is None:
        raise layout_error(uri, 1, found="an empty file", expected=_EXPECTED)
    names = [cell.strip().lower() for cell in header.value]
    check_header(names, uri)
    if not set(COLUMNS) <= set(names):
        raise layout_error(uri, header.line, found=repr(header.text), expected=_EXPECTED)
    for row in rows:
        yield replace(row, value=(names, row.value))


class _Parser:
    """Parses rows to labels in the class order of the chosen attributes."""

    def __init__(self, images: ImageRoot, attributes: AttributeSet, rejects: Rejects) -> None:
        self._images = images
        self._rejects = rejects
        # From the natural index to the index in the requested order.
        self._order = {
            attribute.name: [attribute.classes.index(name) for name in FACE_ATTRIBUTES[attribute.name].classes]
            for attribute in attributes.attributes
            if attribute.has_classes
        }

    def parse(self, value: tuple[list[str], list[str]]) -> LabelRow:
        names, found = value
        if len(found) != len(names):
            raise BadRow("columns", f"found {len(found)} values, expected {len(names)}")
        cells = {name: cell if name == "file" else cell.strip() for name, cell in zip(names, found, strict=True)}
        labels: LabelRow = {}
        if cells["age"]:
            labels["age_group"] = AGE_GROUPS.index(self._age(cells["age"]))
        if cells["gender"]:
            labels["gender"] = GENDERS.index(_one_of(GENDERS, cells["gender"], "gender"))
        if cells["race"]:
            labels |= fine_race_labels(_one_of(RACES, cells["race"].replace("_", " "), "race"))
        if not labels:
            raise BadRow("no_label", "age, gender and race are all empty")
        ordered = {name: order[labels[name]] for name, order in self._order.items() if name in labels}
        years = age_label("age", *age_group_range(labels["age_group"])) if "age_group" in labels else {}
        return {**self._image(cells["file"]), **ordered, **years}

    def _age(self, text: str) -> str:
        if text in AGE_GROUPS:
            return text
        plain = text.lower().replace(" ", "")
        date = "-".join(part.lstrip("0") for part in plain.split("-"))
        if date in _DAMAGED_AGES:
            self._rejects.repair("age_became_date")
            return _DAMAGED_AGES[date]
        if plain in _OPEN_AGES:
            self._rejects.repair("age_open_range")
            return AGE_GROUPS[-1]
        return _one_of(AGE_GROUPS, text, "age")

    def _image(self, name: str) -> LabelRow:
        match = _SPLIT_PATH.search(name.replace("\\", "/"))
        if match is None:
            return self._images.columns(name)
        if match.start(1):
            self._rejects.repair("path_prefix")
        return {**self._images.columns(match.group(1)), "split": match.group(2)}


def _one_of(classes: tuple[str, ...], text: str, what: str) -> str:
    found = {name.replace("_", " ").lower(): name for name in classes}.get(text.lower())
    if found is None:
        raise BadRow("value", f"{what} {text!r} is none of {', '.join(classes)}")
    return found
