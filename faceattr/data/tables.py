"""Columns of the published tables: one explicit Arrow schema each. Null is unknown, 0 is no."""

from collections.abc import Iterable

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet

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

_INT8_CLASSES = 127


def attribute_fields(attribute: Attribute) -> tuple[pa.Field, ...]:
    """`<name>` class index, `<name>_score` (P(yes), or one per class in class order), `<name>_mass`.

    Of an age `<name>` alone, in years; of an identity the score is that of the person, and there is no mass.
    """
    name = attribute.name
    metadata = {"classes": "\n".join(attribute.classes)}
    match attribute.kind:
        case "age":
            return (pa.field(name, pa.float32()),)
        case "identity":
            return (pa.field(name, pa.int32(), metadata=metadata), pa.field(f"{name}_score", pa.float32()))
        case "binary" | "multiclass":
            index = pa.int8() if len(attribute.classes) <= _INT8_CLASSES else pa.int16()
            score = pa.float32() if attribute.kind == "binary" else pa.list_(pa.float32())
            return (
                pa.field(name, index, metadata=metadata),
                pa.field(f"{name}_score", score),
                pa.field(f"{name}_mass", pa.float32()),
            )


def label_schema(attributes: AttributeSet, carried: Iterable[pa.Field] = ()) -> pa.Schema:
    """Schema of a label table: key, attributes, derived attributes, facts about the image, status, carried columns."""
    fields = [*_HEAD]
    for attribute in attributes.attributes:
        fields += attribute_fields(attribute)
    fields += [pa.field(rule.name, pa.int8()) for rule in attributes.derived]
    return pa.schema([*fields, *_TAIL, *carried])
