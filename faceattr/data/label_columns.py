"""All Arrow columns of an attribute: published, packed, and as outputs of a model. Null is unknown, 0 is no.

The types of labels are decided only here, and `faceattr.data.table_checks` checks every table before it is committed.
Published label tables have the columns of `attribute_fields`. The table that every source yields, and that packed runs
keep, has one row per image:

    image_id    string   key below the image root, with `/`
    uri         string   where its bytes are
    source_row  int64?   place inside a Parquet or tar file, for label runs over such files
    sha256      string?  of the bytes, if a label run has it
    group       string?  the same for all images of one person; null is unknown
    split       string?  the official split, mapped from the layout's own word to `train`, `val` or `test`

and for each attribute, where null is unknown and 0 is no:

    binary      <name>            int8    0 or 1
    multiclass  <name>            int16   class index (int32 from 32,768 classes on), if the label is exact
                <name>_mask       int64   if it is coarse: bit c is set if class c is possible; then <name> is null
    age         <name>_low, _high float32 years, low <= age < high; completed years 25 are [25, 26), a range 20-29 is
                                          [20, 30), an open one ends at AGE_LIMIT. high - low == 1: an exact age
    identity    <name>            int32   class index; the names are in the AttributeSet
    soft        <name>_score      float32 P(yes), or one per class (list) for multiclass; <name>_mass float32. A yes is
                                          0.5 or more: scores of a teacher with another threshold are recentred
                                          (`layouts/published.py`)

A mask lets sources of different granularity train one head: the likelihood of a coarse label is the sum over its
classes. A row has <name>, or <name>_mask with at least two bits, or neither. With more than MAX_MASK_CLASSES classes
there is no mask column.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
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

FACE_FIELDS = (pa.field("face_box", pa.list_(pa.int32())), pa.field("face_score", pa.float32()))
"""Columns of a run with `--faces`: left, top, right and bottom of the face in px of the upright image, and the score of
the detector; null for an image without a face."""

# Metadata of a label column: its class names in a published table, the whole attribute as JSON in a packed one.
_CLASSES_KEY = b"classes"
ATTRIBUTE_KEY = b"attribute"
# Class counts up to which an index type is used, the narrowest type first.
_INDEX_TYPES = ((127, pa.int8()), (2**15 - 1, pa.int16()), (2**31 - 1, pa.int32()))


def label_type(attribute: Attribute, *, at_least: pa.DataType | None = None) -> pa.DataType:
    """Returns the type of a label: a class index type for all classes, or float32 years for an age.

    Args:
        attribute: the label's attribute.
        at_least: the narrowest class index type of the table's format, if it defines one.
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
    """Returns the type of a score: one number, or a list with one number per class in class order."""
    match attribute.kind:
        case "multiclass":
            return pa.list_(pa.float32())
        case "binary" | "identity" | "age":
            return pa.float32()
    assert_never(attribute.kind)


def score_names(attribute: Attribute) -> dict[str, int | None]:
    """Returns score columns of an exported file -> index in the list `<name>_score`, or None for a single score."""
    name = f"{attribute.name}_score"
    match attribute.kind:
        case "age":
            return {}
        case "multiclass":
            return {f"{name}_{each}": index for index, each in enumerate(attribute.classes)}
        case "binary" | "identity":
            return {name: None}
    assert_never(attribute.kind)


def attribute_fields(attribute: Attribute) -> tuple[pa.Field, ...]:
    """Returns `<name>` (class index), `<name>_score` (P(yes), or one per class in class order) and `<name>_mass`.

    An age has only `<name>`, in years. The score of an identity is that of the predicted person, and it has no mass.
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


def label_schema(
    attributes: AttributeSet, carried: Iterable[pa.Field] = (), *, has_agreement: bool = False
) -> pa.Schema:
    """Returns the schema of a label table: key, attributes, derived ones, image facts, status, carried columns.

    Args:
        attributes: the attributes.
        carried: fields of the carried columns.
        has_agreement: whether each attribute has `<name>_agreement`, as in a run that was combined from several.
    """
    fields = [*_HEAD]
    for attribute in attributes.attributes:
        fields += attribute_fields(attribute)
        if has_agreement:
            fields.append(pa.field(f"{attribute.name}_agreement", pa.float32()))
    fields += [pa.field(rule.name, pa.int8()) for rule in attributes.derived]
    return pa.schema([*fields, *_TAIL, *carried])


def derive_labels(rule: DerivedAttribute, labels: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Array:
    """Returns the labels of a derived attribute, int8 [n], from the columns of its inputs; null is unknown."""
    rows = list(zip(*(labels[name].to_pylist() for name in rule.inputs), strict=True))
    # Yes, no and unknown: few combinations, and reading a rule takes longer than a look into a dict.
    values = {row: rule.evaluate(dict(zip(rule.inputs, row, strict=True))) for row in set(rows)}
    return pa.array(map(values.__getitem__, rows), pa.int8())


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


# Result of a layout's parser for one image: column name to value; columns outside the schema are dropped.
LabelRow = dict[str, Any]


def label_fields(attribute: Attribute, *, scored: bool = False) -> list[pa.Field]:
    """Returns the columns of one attribute; the first one has the attribute itself in its metadata."""
    name = attribute.name
    # One type for all usual class counts, so that packed runs with different counts have equal types.
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
    """Returns the schema of a source's tables; `scored` names the attributes with soft scores.

    Raises:
        ConfigError: two attributes need a column of the same name, such as `age` (an age) and `age_low`.
    """
    with_score = frozenset(scored)
    fields = [*HEAD_FIELDS]
    for attribute in attributes.attributes:
        fields += label_fields(attribute, scored=attribute.name in with_score)
    names = [each.name for each in fields]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"several attributes need the columns {repeated}; rename one of them")
    return pa.schema(fields)


def read_attributes(schema: pa.Schema) -> AttributeSet:
    """Returns the attributes of a table in a source's schema, class order included: the inverse of `source_schema`.

    Raises:
        ConfigError: no column has an attribute in its metadata.
    """
    found = [json.loads(each.metadata[ATTRIBUTE_KEY]) for each in schema if ATTRIBUTE_KEY in (each.metadata or {})]
    if not found:
        raise ConfigError(f"no column carries an attribute definition; found {schema.names}")
    return AttributeSet(attributes=tuple(Attribute(**{**each, "classes": tuple(each["classes"])}) for each in found))


def class_label(name: str, classes: Iterable[int]) -> LabelRow:
    """Returns the columns of a multiclass label from its possible classes: one is exact, several are a mask."""
    possible = sorted(set(classes))
    if len(possible) == 1:
        return {name: possible[0]}
    return {f"{name}_mask": sum(1 << index for index in possible)}


def age_label(name: str, low: float, high: float | None = None) -> LabelRow:
    """Returns the columns of an age in completed years (`high` None), or of a range `low <= age < high`."""
    return {f"{name}_low": low, f"{name}_high": low + 1.0 if high is None else high}


TOP = 5
"""Number of the likeliest persons that count for top-5 and are stored."""


def output_columns(attribute: Attribute) -> tuple[pa.Field, ...]:
    """Returns the columns of a scored table for a model's outputs for one attribute."""
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
