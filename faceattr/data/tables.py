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


def attribute_fields(attribute: Attribute) -> tuple[pa.Field, pa.Field, pa.Field]:
    """`<name>` int8 class index, `<name>_score` (P(yes), or one per class in class order), `<name>_mass`."""
    metadata = {"classes": "\n".join(attribute.classes)}
    score = pa.float32() if attribute.kind == "binary" else pa.list_(pa.float32())
    return (
        pa.field(attribute.name, pa.int8(), metadata=metadata),
        pa.field(f"{attribute.name}_score", score),
        pa.field(f"{attribute.name}_mass", pa.float32()),
    )


def label_schema(attributes: AttributeSet, carried: Iterable[pa.Field] = ()) -> pa.Schema:
    """Schema of a label table: key, attributes, derived attributes, facts about the image, status, carried columns."""
    fields = [*_HEAD]
    for attribute in attributes.attributes:
        fields += attribute_fields(attribute)
    fields += [pa.field(rule.name, pa.int8()) for rule in attributes.derived]
    return pa.schema([*fields, *_TAIL, *carried])
