"""The table that every source yields: one row an image, one explicit schema that follows from the attributes.

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
                                          0.5 or more: a teacher with another threshold is recentred (`recentring.py`)

A mask lets sources of different fineness train one head: the likelihood of a coarse label is the sum over its classes.
A row has <name>, or <name>_mask with at least two bits, or neither. With more than MAX_MASK_CLASSES classes there is no
mask column.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.formats.json_text import encode_json
from faceattr.data.label_columns import ATTRIBUTE_KEY, label_type, score_type
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.sources.rejects import REFUSED_WITH_CREDENTIALS, BadRow, Rejects
from faceattr.errors import ConfigError

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
_BATCH_ROWS = 8_192

# What a layout's parser gives for one image: column name to value; columns that are not in the schema are left out.
LabelRow = dict[str, Any]


def label_fields(attribute: Attribute, *, scored: bool = False) -> list[pa.Field]:
    """Columns of one attribute; the first carries the attribute itself in its metadata."""
    name = attribute.name
    # One type for all usual class counts, so that packed runs of either read alike.
    kind = label_type(attribute, at_least=pa.int16() if attribute.kind == "multiclass" else None)
    definition = {"name": name, "kind": attribute.kind, "classes": list(attribute.classes)}
    metadata = {ATTRIBUTE_KEY: encode_json(definition)}
    if attribute.kind == "age":
        return [pa.field(f"{name}_low", kind, metadata=metadata), pa.field(f"{name}_high", kind)]
    fields = [pa.field(name, kind, metadata=metadata)]
    if attribute.kind == "multiclass" and len(attribute.classes) <= MAX_MASK_CLASSES:
        fields.append(pa.field(f"{name}_mask", pa.int64()))
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


@dataclass(frozen=True, kw_only=True)
class SourceLabels:
    """The labels of one source.

    Attributes:
        kind: of source, as in `registry.SOURCE_KINDS`.
        where: what was read, for messages.
        image_root: URI below which the images lie.
        attributes: what the columns are, with class order; rules of a label run are plain binary attributes here.
        read: a new pass over the rows; rejected ones go to the `Rejects` that it is given.
        scored: names of the attributes with soft scores.
        bytes_column: for label runs over packed Parquet, the column that holds the images.
        decisions: name of an attribute (in front of it that of its source and `/`, where several are combined) to how
            its teacher made labels of its own scores, where that is unusual; the scores here are recentred.
    """

    kind: str
    where: str
    image_root: str
    attributes: AttributeSet
    read: Callable[[Rejects], Iterator[pa.Table]] = field(repr=False)
    scored: frozenset[str] = frozenset()
    bytes_column: str | None = None
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """Schema of every table."""
        return source_schema(self.attributes, self.scored)

    def tables(self, rejects: Rejects) -> Iterator[pa.Table]:
        """The rows, a few thousand a table, in the source's own order. May be called again for another pass."""
        return self.read(rejects)

    def read_all(self) -> tuple[pa.Table, Rejects]:
        """Everything at once, for small sources."""
        rejects = Rejects()
        tables = list(self.tables(rejects))
        return pa.concat_tables(tables) if tables else self.schema.empty_table(), rejects


def row_tables(rows: Iterable[LabelRow], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows as tables; a column that a row lacks is null in it."""
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH_ROWS)):
        yield pa.Table.from_pylist(batch, schema=schema)


@dataclass(frozen=True, kw_only=True)
class FoundRow:
    """One row of a foreign layout, before it is understood.

    Attributes:
        where: file, or folder.
        line: counted from 1; None where rows are file names.
        text: the row as found, for messages.
        value: what the layout's parser takes.
    """

    where: str
    line: int | None
    text: str
    value: Any


def parse_rows(
    rows: Iterable[FoundRow], parse: Callable[[Any], Mapping[str, Any] | None], rejects: Rejects
) -> Iterator[LabelRow]:
    """Parses row by row. A BadRow is counted and left out; None is left out without a count.

    Raises:
        ConfigError: the image's address holds credentials.
    """
    for row in rows:
        try:
            row.text.encode()
        except UnicodeEncodeError:
            text = row.text.encode(errors="backslashreplace").decode()
            problem = BadRow("encoding", "the row is not UTF-8")
            rejects.reject(problem, where=row.where, line=row.line, text=text)
            continue
        try:
            parsed = parse(row.value)
        except BadRow as problem:
            if problem.reason == REFUSED_WITH_CREDENTIALS:
                place = row.where if row.line is None else f"{row.where} line {row.line}"
                raise ConfigError(f"{place}: {problem.detail}") from problem
            rejects.reject(problem, where=row.where, line=row.line, text=row.text)
            continue
        if parsed is not None:
            yield dict(parsed)


def check_first_rows(source: SourceLabels, expected: str) -> SourceLabels:
    """The source itself, once one row of it could be read.

    Raises:
        ConfigError: there is none; the text names the first line that was refused, and what was expected.
    """
    rejects = Rejects()
    if next(source.tables(rejects), None) is not None:
        return source
    if not rejects.total:
        raise ConfigError(f"{source.where}: found no rows; expected {expected}")
    first = next(iter(rejects.examples.values()))[0]
    raise ConfigError(f"{first}. None of the {rejects.total:,} rows could be read; expected {expected}")
