"""Several sources as one, so that they train one model: the union of their attributes, null where one knows nothing.

Sources are given by name; the name stands in front of image ids and groups (`utkface/25_0_2_1.jpg`), because two data
sets may both have a `1.jpg` or a person `17`. `uri` still says where the bytes are.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.data.sources.source import Rejects, SourceLabels
from faceattr.errors import ConfigError


def combine_sources(sources: Mapping[str, SourceLabels]) -> SourceLabels:
    """All rows of all sources, one source after the other, in one schema. `image_root` is empty: use `uri`.

    Raises:
        ConfigError: an attribute of one name means different things in two of them.
    """
    attributes = AttributeSet(attributes=tuple(_union(sources).values()))
    scored = frozenset().union(*(source.scored for source in sources.values()))
    schema = source_schema(attributes, scored)

    def read(rejects: Rejects) -> Iterator[pa.Table]:
        for name, source in sources.items():
            for table in source.tables(rejects):
                yield pa.table([_column(table, field, name) for field in schema], schema=schema)

    where = ", ".join(f"{name}: {source.where}" for name, source in sources.items())
    return SourceLabels(
        kind="combined",
        where=where,
        image_root="",
        attributes=attributes,
        read=read,
        scored=scored,
        decisions={
            f"{name}/{attribute}": each
            for name, source in sources.items()
            for attribute, each in source.decisions.items()
        },
    )


def _union(sources: Mapping[str, SourceLabels]) -> dict[str, Attribute]:
    found: dict[str, tuple[str, Attribute]] = {}
    for name, source in sources.items():
        for attribute in source.attributes.attributes:
            first, known = found.setdefault(attribute.name, (name, attribute))
            if attribute != known:
                meanings = f"{_brief(known)} in {first!r} and {_brief(attribute)} in {name!r}"
                raise ConfigError(
                    f"attribute {attribute.name!r} is {meanings}; choose attributes that mean the same in both, or "
                    "leave it out of one"
                )
    return {name: attribute for name, (_, attribute) in found.items()}


def _brief(attribute: Attribute) -> str:
    shown = ", ".join(attribute.classes[:8]) + (", ..." if len(attribute.classes) > 8 else "")
    return f"{attribute.kind} [{shown}]"


def _column(table: pa.Table, field: pa.Field, name: str) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    column = table[field.name]
    return pc.binary_join_element_wise(name, column, "/") if field.name in ("image_id", "group") else column
