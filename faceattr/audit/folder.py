"""An audit folder: the sample of one table of scores, and what people judged of it.

    audit.json          what was sampled: the table, its attributes with their thresholds, strata, seed
    sample.parquet      one row per image and attribute to judge, in the order of `item`
    scores.parquet      how many rows of the table have which score: attribute, low, high, num_rows
    images/             copies of the images, if they were asked for
    judgements.jsonl    one line per answer, only ever appended (`faceattr.audit.judgements`)
    thresholds.yaml, result.json, report.html
                        what the judgements say (`faceattr audit apply`)

The columns of sample.parquet:

    item           int32    number of the item, from 0
    attribute      string   its name
    row            int64    row of the sampled table
    image_id       string
    uri            string   where the image's bytes are
    source_row     int64?   row inside a packed Parquet file, or byte of the header in a tar file
    score          float32? P(yes), or the probability of the likeliest class; null where the table has none
    label          int32?   the table's label, a class index; null if it abstained
    reason         string   why the item is in the sample: `score` (a random draw), or the list that it is of: `given`,
                            `other`, or the status of a rejected row (`faceattr.audit.lists.draw`)
    stratum        int16?   index in the attribute's strata; null for items that are no random draw
    probability    float64? probability with which the draw included this row; null for items that are no random draw
    copy           string?  key of the copied image in this folder; null for all if none was asked for
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.formats.json_files import damage_named, decode_fields, decode_versioned, encode_versioned
from faceattr.data.formats.parquet import decode_table, encode_table
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store, has_object
from faceattr.errors import ConfigError

AUDIT_KEY = "audit.json"
SAMPLE_KEY = "sample.parquet"
SCORES_KEY = "scores.parquet"
DRAWN, GIVEN, OTHER, ISSUE = "score", "given", "other", "issue"
"""Reasons of items: a random draw, a conflict with given labels, a disagreement with another run."""
RIGHTLY_REJECTED = "rightly_rejected"
"""What is judged of rejected rows, in the place of an attribute."""
SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("item", pa.int32(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source_row", pa.int64()),
        pa.field("score", pa.float32()),
        pa.field("label", pa.int32()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("stratum", pa.int16()),
        pa.field("probability", pa.float64()),
        pa.field("copy", pa.string()),
    ]
)
SCORES_SCHEMA = pa.schema(
    [
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("num_rows", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Rows of one attribute whose scores are in a half-open range; the last stratum includes its upper end.

    Attributes:
        low: lower end of the scores.
        high: upper end.
        num_rows: rows of the table in it.
        num_sampled: of these, rows in the sample, drawn with equal probability and without replacement.
    """

    low: float
    high: float
    num_rows: int
    num_sampled: int


@dataclass(frozen=True, kw_only=True)
class AuditedAttribute:
    """One attribute of the sampled table.

    Attributes:
        attribute: name, kind, classes.
        decision: the threshold and the abstain band that made the table's labels.
        strata: the strata of the draw, by ascending score; empty if nothing was drawn at random.
    """

    attribute: Attribute
    decision: Decision
    strata: tuple[Stratum, ...]

    @property
    def num_rows(self) -> int:
        """Rows of the table that have a score of this attribute."""
        return sum(each.num_rows for each in self.strata)


@dataclass(frozen=True, kw_only=True)
class RowList:
    """Rows that were listed for another reason than a random draw.

    Attributes:
        attribute: what is judged of them.
        reason: `reason` of their items.
        other: the table that they differ from; None for rejected rows.
        num_rows: rows of the audited table that are of this kind.
        num_listed: of these, items in the sample.
    """

    attribute: str
    reason: str
    other: str | None
    num_rows: int
    num_listed: int


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The content of audit.json.

    Attributes:
        table: address of the run folder or file that was sampled.
        run_id: id of the run; None for a table that is no run.
        version: version of the run's table; 0 for a table that is no run.
        root: where the images of relative addresses are.
        bytes_column: for packed input, the column with the encoded images.
        seed: seed of the draw.
        attributes: what was sampled, in the order in which it is judged.
        lists: rows that are in the sample without a random draw of scores.
    """

    table: str
    run_id: str | None
    version: int
    root: str
    bytes_column: str | None
    seed: int
    attributes: tuple[AuditedAttribute, ...]
    lists: tuple[RowList, ...] = ()

    def __getitem__(self, name: str) -> AuditedAttribute:
        return next(each for each in self.attributes if each.attribute.name == name)

    def encode(self) -> bytes:
        """Returns the bytes of audit.json."""
        value = asdict(self)
        if not self.lists:
            del value["lists"]
        return encode_versioned(value, indent=1)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An audit with its items.

    Attributes:
        audit: what was sampled.
        items: table in `SAMPLE_SCHEMA`, in the order of `item`.
        scores: table in `SCORES_SCHEMA`, by ascending score within an attribute; ranges without rows are left out.
    """

    audit: Audit
    items: pa.Table
    scores: pa.Table

    @property
    def has_copies(self) -> bool:
        """Whether the images were copied; items without a copy then had images that could not be read."""
        return bool(self.items["copy"].null_count < len(self.items))


def check_has_no_audit(store: Store) -> None:
    """Raises ConfigError if the folder has an audit."""
    if has_object(store, AUDIT_KEY):
        raise ConfigError(f"{store.uri} already has an audit ({AUDIT_KEY}); use another --output")


def write_sample(store: Store, sample: Sample) -> None:
    """Writes the tables and then audit.json.

    Raises:
        ConfigError: the folder has another audit.
    """
    check_has_no_audit(store)  # before its tables are replaced
    store.put(SAMPLE_KEY, encode_table(sample.items.cast(SAMPLE_SCHEMA)))
    store.put(SCORES_KEY, encode_table(sample.scores.cast(SCORES_SCHEMA)))
    if not store.put_if_absent(AUDIT_KEY, sample.audit.encode()):
        raise ConfigError(f"{store.uri}: another command has written {AUDIT_KEY} meanwhile; use another --output")


def read_sample(store: Store) -> Sample:
    """Reads an audit folder.

    Raises:
        ConfigError: there is no audit in it, or a later version of faceattr wrote it.
        RunError: a file is damaged.
    """
    try:
        data = store.get(AUDIT_KEY)
    except MissingObjectError:
        raise ConfigError(f"{store.uri} has no {AUDIT_KEY}; make an audit with: faceattr audit sample RUN") from None
    where = join_uri(store.uri, AUDIT_KEY)
    value = decode_versioned(data, where)
    with damage_named(where):
        value["attributes"] = tuple(_decode_attribute(each, where) for each in value["attributes"])
        value["lists"] = tuple(decode_fields(RowList, each, where) for each in value.get("lists", ()))
    audit = decode_fields(Audit, value, where)
    items, scores = (decode_table(store.get(key), join_uri(store.uri, key)) for key in (SAMPLE_KEY, SCORES_KEY))
    return Sample(audit=audit, items=items, scores=scores)


def _decode_attribute(value: Mapping[str, Any], where: str) -> AuditedAttribute:
    attribute, decision = value["attribute"], value["decision"]
    band = decision["abstain"]
    return AuditedAttribute(
        attribute=Attribute(**{**attribute, "classes": tuple(attribute["classes"])}),
        decision=Decision(threshold=decision["threshold"], abstain=None if band is None else (band[0], band[1])),
        strata=tuple(decode_fields(Stratum, each, where) for each in value["strata"]),
    )
