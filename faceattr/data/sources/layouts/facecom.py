"""FaceCom: gender and identity, as `annotations.json` or as folders.

    annotations.json   [{"filename": "a.jpg", "gender": "Male"|"Female", "person_id": ...}, ...]
                       with the images in the same folder or in images/
    Task_A/{train,val}/{male,female}/*.jpg
    Task_B/{train,val}/<person>/*.jpg, with <person>/distortion/*.jpg

A root may be one task's folder or contain both. Persons are the groups and, as `identity`, the classes, in number order
if all are numbers, else in text order. The folders `train` and `val` are the official split.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from faceattr.attributes import Attribute
from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import table_file
from faceattr.data.label_columns import LabelRow, source_schema
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES, GENDERS
from faceattr.data.sources.image_names import find_files, find_image_root, image_keys
from faceattr.data.sources.label_values import identity_classes, text_of
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
from faceattr.data.sources.text_files import layout_error
from faceattr.errors import ConfigError

USUAL_FILES = ("annotations.json",)
DEFAULT_ATTRIBUTES = ("gender", "identity")
_EXPECTED_JSON = '[{"filename": "a.jpg", "gender": "Male" or "Female", "person_id": 17}, ...]'
_EXPECTED_FOLDERS = (
    "annotations.json, Task_A/{train,val}/{male,female}/*.jpg, or Task_B/{train,val}/<person>/[distortion/]*.jpg"
)
_IN_FOLDERS = re.compile(r"(?:.*/)?(train|val)/([^/]+)/(?:distortion/)?[^/]+")


def open_facecom(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens a FaceCom folder; see the module.

    Raises:
        ConfigError: neither layout exists, or the JSON has another layout.
    """
    store, images = find_image_root(root, storage, options.image_folder)
    files = find_files(store, options.files, USUAL_FILES)
    if len(files) > 1:
        raise ConfigError(f"facecom reads one file, found {list(files)}")
    if files:
        _, images = find_image_root(root, storage, options.image_folder, usual=("images",))

    def found_rows(rejects: Rejects) -> Iterator[FoundRow]:
        if files:
            yield from _read_annotations(files[0], storage)
            return
        for key in image_keys(store, images.folder, rejects.files):
            yield FoundRow(where=store.uri, line=None, text=key, value=key)

    def parse(value: Any) -> LabelRow:
        if not files:
            return {**images.columns(value), **_parse_folders(value)}
        return {**images.columns(_file_name(value)), **_parse_entry(value)}

    # One pass for the class list: the persons are kept in memory, the images are not.
    rows = list(_seen(parse_rows(found_rows(Rejects()), parse, Rejects())))
    people = identity_classes({name for name, _ in rows if name is not None})
    available: dict[str, Attribute] = {}
    if any(has_gender for _, has_gender in rows):
        available["gender"] = FACE_ATTRIBUTES["gender"]
    if people:
        available["identity"] = Attribute(name="identity", kind="identity", classes=people)
    # Without usable rows the definition does not matter: the first rows are refused below, with a reason.
    attributes = select_attributes(
        available or {"gender": FACE_ATTRIBUTES["gender"]},
        options.attributes,
        default=[name for name in DEFAULT_ATTRIBUTES if name in (available or {"gender"})],
        where="facecom",
    )
    index = {name: number for number, name in enumerate(people)}

    def read(rejects: Rejects) -> Iterator:
        rows = parse_rows(found_rows(rejects), parse, rejects)
        labelled = ({**row, "identity": index.get(row.get("group") or "")} for row in rows)
        yield from row_tables(labelled, source_schema(attributes))

    where = files[0] if files else store.uri
    source = SourceLabels(kind="facecom", where=where, image_root=images.uri, attributes=attributes, read=read)
    return check_first_rows(source, _EXPECTED_JSON if files else _EXPECTED_FOLDERS)


def _seen(rows: Iterator[LabelRow]) -> set[tuple[str | None, bool]]:
    """Returns the distinct pairs (person, whether gender is known) of all rows."""
    return {(row.get("group"), row.get("gender") is not None) for row in rows}


def _read_annotations(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    """Yields entries of the JSON; the whole file is in memory. Entries are counted as lines are."""
    with table_file(uri, storage) as file:
        data = file.read()
    try:
        entries = json.loads(data)
    except json.JSONDecodeError as error:
        raise layout_error(uri, error.lineno, found=f"no JSON ({error.msg})", expected=_EXPECTED_JSON) from error
    except UnicodeDecodeError as error:
        raise layout_error(uri, None, found="bytes that are not UTF-8", expected=_EXPECTED_JSON) from error
    if not isinstance(entries, list):
        raise layout_error(uri, 1, found=f"a JSON {type(entries).__name__}", expected=_EXPECTED_JSON)
    for number, entry in enumerate(entries, start=1):
        yield FoundRow(where=uri, line=number, text=str(entry), value=entry)


def _file_name(entry: Any) -> str:
    name = entry.get("filename") if isinstance(entry, Mapping) else None
    if not isinstance(name, str) or not name.strip():
        raise BadRow("entry", "expected an object with 'filename', 'gender' and 'person_id'")
    return name


def _parse_entry(entry: Mapping[str, Any]) -> LabelRow:
    gender = text_of(entry.get("gender"))
    person = text_of(entry.get("person_id"))
    if not gender and not person:
        raise BadRow("no_label", "neither 'gender' nor 'person_id' is there")
    return {"gender": _gender(gender) if gender else None, "group": person or None}


def _gender(text: str) -> int:
    if text.capitalize() not in GENDERS:
        raise BadRow("value", f"gender {text!r} is none of {', '.join(GENDERS)}")
    return GENDERS.index(text.capitalize())


def _parse_folders(key: str) -> LabelRow:
    match = _IN_FOLDERS.fullmatch(key)
    if match is None:
        raise BadRow("path", f"the folder is not one of the layout; expected {_EXPECTED_FOLDERS}")
    split, folder = match.groups()
    if folder.lower() in ("male", "female"):
        return {"split": split, "gender": _gender(folder)}
    return {"split": split, "group": folder}
