"""All Arrow columns of an attribute: published, packed, and as outputs of a model. Null is unknown, 0 is no.

The types of labels are decided here and nowhere else, and `faceattr.data.table_checks` looks at every table before it
is committed. Published label tables have the columns of `attribute_fields`. The table that every source yields, which
packed runs keep, has one row an image:

    image_id    string   key below the image root, with `/`
    uri         string   where its bytes are
    source_row  int64?   row inside a packed Parquet file, for label runs over such
    sha256      string?  of the bytes, where a label run has it
    group       string?  images that show one person share it; null is unknown
    split       string?  the official split, in the layout's own word made `train`, `val` or `test`

and for each attribute, null being unknown and 0 no:

    binary      <name>            int8    0 or 1
    multiclass  <name>            int16   class index (int32 from 32,768 classes on), where the label is exact
                <name>_mask       int64   where it is coarse: bit c is set if class c is possible; then <name> is null
    age         <name>_low, _high float32 years, low <= age < high; completed years 25 are [25, 26), a range 20-29 is
                                          [20, 30), an open one ends at AGE_LIMIT. high - low == 1: an exact age
    identity    <name>            int32   class index; the names are in the AttributeSet
    soft        <name>_score      float32 P(yes), or one per class (list) for multiclass; <name>_mass float32. A yes is
                                          0.5 or more: a teacher with another threshold is recentred
                                          (`layouts/published.py`)

A mask lets sources of different fineness train one head: the likelihood of a coarse label is the sum over its classes.
A row has <name>, or <name>_mask with at least two bits, or neither. With more than MAX_MASK_CLASSES classes there is no
mask column.
"""

import json
from collections.abc import Iterable
from typing import Any, assert_never

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.formats.json_text import encode_json
from faceattr.errors import ConfigError

_HEAD = (
    pa.field("row", pa.int64(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
)
_TAIL = (
    pa.field("sha256", pa.string()),
    pa.field("width_px", pa.int32()),
    pa.field("height_px", pa.int32()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
)

# Metadata of a label column: its class names in a published table, the whole attribute as JSON in a packed one.
_CLASSES_KEY = b"classes"
ATTRIBUTE_KEY = b"attribute"
# Class counts up to which an index type is used, the narrowest first.
_INDEX_TYPES = ((127, pa.int8()), (2**15 - 1, pa.int16()), (2**31 - 1, pa.int32()))


def label_type(attribute: Attribute, *, at_least: pa.DataType | None = None) -> pa.DataType:
    """Type of a label: a class index that holds every class, or float32 years of an age.

    Args:
        attribute: whose label.
        at_least: the narrowest type of a class index that the table uses; its format may say so.
    """
    match attribute.kind:
        case "age":
            return pa.float32()
        case "identity":
            return pa.int32()
        case "binary" | "multiclass":
            index = next(index for most, index in _INDEX_TYPES if len(attribute.classes) <= most)
            return index if at_least is None or index.bit_width > at_least.bit_width else at_least
    assert_never(attribute.kind)


def score_type(attribute: Attribute) -> pa.DataType:
    """Type of a score: one number, or for several classes one a class, in class order."""
    match attribute.kind:
        case "multiclass":
            return pa.list_(pa.float32())
        case "binary" | "identity" | "age":
            return pa.float32()
    assert_never(attribute.kind)


def score_names(attribute: Attribute) -> dict[str, int | None]:
    """Names of the scores in an exported file -> place in the list of `<name>_score`, None where it is one number."""
    name = f"{attribute.name}_score"
    match attribute.kind:
        case "age":
            return {}
        case "multiclass":
            return {f"{name}_{each}": place for place, each in enumerate(attribute.classes)}
        case "binary" | "identity":
            return {name: None}
    assert_never(attribute.kind)


def attribute_fields(attribute: Attribute) -> tuple[pa.Field, ...]:
    """`<name>` class index, `<name>_score` (P(yes), or one per class in class order), `<name>_mass`.

    Of an age `<name>` alone, in years; of an identity the score is that of the person, and there is no mass.
    """
    name = attribute.name
    label = pa.field(name, label_type(attribute))
    score = pa.field(f"{name}_score", score_type(attribute))
    named = label.with_metadata({_CLASSES_KEY: "\n".join(attribute.classes)})
    match attribute.kind:
        case "age":
            return (label,)
        case "identity":
            return (named, score)
        case "binary" | "multiclass":
            return (named, score, pa.field(f"{name}_mass", pa.float32()))
    assert_never(attribute.kind)


def label_schema(attributes: AttributeSet, carried: Iterable[pa.Field] = ()) -> pa.Schema:
    """Schema of a label table: key, attributes, derived attributes, facts about the image, status, carried columns."""
    fields = [*_HEAD]
    for attribute in attributes.attributes:
        fields += attribute_fields(attribute)
    fields += [pa.field(rule.name, pa.int8()) for rule in attributes.derived]
    return pa.schema([*fields, *_TAIL, *carried])


AGE_LIMIT = 117.0


MAX_MASK_CLASSES = 63


HEAD_FIELDS = (
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("source_row", pa.int64()),
    pa.field("sha256", pa.string()),
    pa.field("group", pa.string()),
    pa.field("split", pa.string()),
)


# What a layout's parser gives for one image: column name to value; columns that are not in the schema are left out.
LabelRow = dict[str, Any]


def label_fields(attribute: Attribute, *, scored: bool = False) -> list[pa.Field]:
    """Columns of one attribute; the first carries the attribute itself in its metadata."""
    name = attribute.name
    # One type for all usual class counts, so that packed runs of either read alike.
    column = label_type(attribute, at_least=pa.int16() if attribute.can_be_coarse else None)
    definition = {"name": name, "kind": attribute.kind, "classes": list(attribute.classes)}
    metadata = {ATTRIBUTE_KEY: encode_json(definition)}
    fields = [pa.field(name, column, metadata=metadata)]
    match attribute.kind:
        case "age":
            return [pa.field(f"{name}_low", column, metadata=metadata), pa.field(f"{name}_high", column)]
        case "multiclass":
            if len(attribute.classes) <= MAX_MASK_CLASSES:
                fields.append(pa.field(f"{name}_mask", pa.int64()))
        case "binary" | "identity":
            pass
        case _:
            assert_never(attribute.kind)
    if scored:
        fields += [pa.field(f"{name}_score", score_type(attribute)), pa.field(f"{name}_mass", pa.float32())]
    return fields


def source_schema(attributes: AttributeSet, scored: Iterable[str] = ()) -> pa.Schema:
    """Schema of a source's tables; `scored` names the attributes with soft scores.

    Raises:
        ConfigError: two attributes need a column of one name, such as `age` (an age) and `age_low`.
    """
    with_score = frozenset(scored)
    fields = [*HEAD_FIELDS]
    for attribute in attributes.attributes:
        fields += label_fields(attribute, scored=attribute.name in with_score)
    names = [each.name for each in fields]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"attributes meet in the columns {repeated}; rename one of them")
    return pa.schema(fields)


def read_attributes(schema: pa.Schema) -> AttributeSet:
    """The attributes of a table in a source's schema, class order included: inverse of `source_schema`.

    Raises:
        ConfigError: no column carries an attribute.
    """
    found = [json.loads(each.metadata[ATTRIBUTE_KEY]) for each in schema if ATTRIBUTE_KEY in (each.metadata or {})]
    if not found:
        raise ConfigError(f"no column carries an attribute definition; found {schema.names}")
    return AttributeSet(attributes=tuple(Attribute(**{**each, "classes": tuple(each["classes"])}) for each in found))


def class_label(name: str, classes: Iterable[int]) -> LabelRow:
    """Columns of a multiclass label by the classes it leaves possible: one is exact, several are a mask."""
    possible = sorted(set(classes))
    if len(possible) == 1:
        return {name: possible[0]}
    return {f"{name}_mask": sum(1 << index for index in possible)}


def age_label(name: str, low: float, high: float | None = None) -> LabelRow:
    """Columns of an age in completed years (`high` None), or of a range `low <= age < high`."""
    return {f"{name}_low": low, f"{name}_high": low + 1.0 if high is None else high}


TOP = 5
"""How many of the likeliest persons count for top-5, and are kept."""


def output_columns(attribute: Attribute) -> tuple[pa.Field, ...]:
    """Columns in which a scored table holds a model's outputs for one attribute."""
    name = attribute.name
    match attribute.kind:
        case "binary":
            return (pa.field(f"output_{name}", pa.float32()),)
        case "multiclass":
            return (pa.field(f"output_{name}", pa.list_(pa.float32(), len(attribute.classes))),)
        case "age":
            return (pa.field(f"output_{name}", pa.float32()),)
        case "identity":
            kept = min(TOP, len(attribute.classes))
            return (pa.field(f"output_{name}", pa.list_(pa.int32(), kept)), pa.field(f"certainty_{name}", pa.float32()))
    assert_never(attribute.kind)
