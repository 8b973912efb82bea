"""UTKFace: labels in the file names, `[age]_[gender]_[race]_[date&time].jpg`, also `.jpg.chip.jpg`.

    25_0_2_20170116174525125.jpg.chip.jpg       25 years, Male, Asian

Gender 0 Male, 1 Female; race 0 White, 1 Black, 2 Asian, 3 Indian, 4 Others. Names with missing parts, of which the data
set has a few, are rejected, since the missing part is unknown. Attributes, defined in `face_classes.py`: age, gender
and race_group by default; age_group and race (with masks) on request.
"""

from collections.abc import Iterator

from faceattr.config import StorageConfig
from faceattr.data.label_columns import AGE_LIMIT, LabelRow, age_label, source_schema
from faceattr.data.sources.face_classes import (
    FACE_ATTRIBUTES,
    GENDERS,
    RACE_GROUPS,
    age_group_of,
    coarse_race_labels,
)
from faceattr.data.sources.image_names import find_image_root, image_keys
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

DEFAULT_ATTRIBUTES = ("age", "gender", "race_group")
_EXPECTED = "image names such as 25_0_2_20170116174525125.jpg ([age]_[gender]_[race]_[date&time])"


def open_utkface(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens a folder of UTKFace images, at any depth; see the module.

    Raises:
        ConfigError: no image name has the layout.
    """
    store, images = find_image_root(root, storage, options.image_folder)
    attributes = select_attributes(FACE_ATTRIBUTES, options.attributes, default=DEFAULT_ATTRIBUTES, where="utkface")

    def read(rejects: Rejects) -> Iterator:
        keys = image_keys(store, images.folder, rejects.files)
        found = (FoundRow(where=store.uri, line=None, text=key, value=key) for key in keys)
        rows = parse_rows(found, lambda key: {**images.columns(key), **parse_name(key)}, rejects)
        yield from row_tables(rows, source_schema(attributes))

    source = SourceLabels(kind="utkface", where=store.uri, image_root=images.uri, attributes=attributes, read=read)
    return check_first_rows(source, _EXPECTED)


def parse_name(key: str) -> LabelRow:
    """Parses the labels of one image from its name.

    Raises:
        BadRow: a part is missing, or has a value that the layout does not define.
    """
    stem = key.rpartition("/")[2].partition(".")[0]
    parts = stem.split("_")
    if len(parts) != 4 or not all(parts):
        raise BadRow("parts", f"found {len([each for each in parts if each])} parts, expected 4 joined by '_'")
    age = _number(parts[0], int(AGE_LIMIT), "age")
    gender = _number(parts[1], len(GENDERS), "gender")
    race_group = RACE_GROUPS[_number(parts[2], len(RACE_GROUPS), "race")]
    return {
        **age_label("age", float(age)),
        "age_group": age_group_of(age),
        "gender": gender,
        **coarse_race_labels(race_group),
    }


def _number(text: str, limit: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < limit):
        raise BadRow("value", f"{what} {text!r} is not a number from 0 to {limit - 1}")
    return int(text)
