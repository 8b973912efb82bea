"""label_issues.parquet: labels of a packed run that are probably wrong, ranked; what `faceattr audit issues` writes.

attribute     string    its name
rank          int32     place in the attribute's list, from 1, the most doubtful label first
row           int64     row of the packed run
image_id      string    as in the packed run
sha256        string?   of the image's bytes
split         string    train, val or test
uri           string    the packed file that holds the image
source_row    int64     row inside that file
label         int32     the given label, a class index
suggested     int32     the class that heads think right that have not learnt from the row
score         float32   P(yes) by these heads; of several classes the probability of the likeliest
confidence    float32   probability of the given label
margin        float32   confidence minus the largest probability of another class
teacher       float32?  probability that the labelling run gave to the given label, where scores were packed
derived       int32?    what a rule says of the attribute, from the other given labels
doubt         float32   what the list is ranked by, from 0 to 1
is_issue      bool      whether the label is taken as wrong; the other rows are merely doubtful
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.parquet import decode_table
from faceattr.data.packed.copies.identical import mask_labels
from faceattr.data.sources.options import near_hint
from faceattr.data.sources.source import Rejects, SourceLabels
from faceattr.errors import ConfigError

LABEL_ISSUES_KEY = "label_issues.parquet"
ISSUES_SCHEMA_VERSION = 1
LABEL_ISSUES_SCHEMA = pa.schema(
    [
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("suggested", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),
        pa.field("teacher", pa.float32()),
        pa.field("derived", pa.int32()),
        pa.field("doubt", pa.float32(), nullable=False),
        pa.field("is_issue", pa.bool_(), nullable=False),
    ]
)


def decode_issues(data: bytes, where: str) -> dict[str, pa.Array]:
    """Returns attribute -> ids of the images whose label of it is an issue, string.

    Args:
        data: a Parquet file with image_id, attribute and, if only some of its rows are issues, is_issue.
        where: name of the file in errors.

    Raises:
        ConfigError: a column is missing, or no row is an issue.
        RunError: the file is damaged.
    """
    table = read_issues(data, where, columns=("image_id", "attribute"))
    names = table["attribute"]
    return {
        name: table["image_id"].filter(pc.equal(names, name)).combine_chunks() for name in pc.unique(names).to_pylist()
    }


def read_issues(
    data: bytes, where: str, *, columns: Sequence[str] = ("image_id", "attribute", "suggested")
) -> pa.Table:
    """Returns the rows of a list that are issues; see `decode_issues` for arguments and errors.

    Args:
        data: the file.
        where: its name in errors.
        columns: columns that it must have.
    """
    table = decode_table(data, where)
    missing = set(columns) - set(table.column_names)
    if missing:
        raise ConfigError(
            f"{where}: has no column {', '.join(sorted(missing))}; expected a list that `faceattr audit issues` wrote"
        )
    if "is_issue" in table.column_names:
        table = table.filter(table["is_issue"])
    if not len(table):
        raise ConfigError(f"{where}: names no issue")
    return table


def drop_issues(source: SourceLabels, issues: Mapping[str, pa.Array], where: str) -> tuple[SourceLabels, int]:
    """Returns a source in which the labels of a list are unknown, and how many labels that are; reads all rows once.

    The images stay, with their other labels: that a hat is labelled wrongly says nothing about the glasses.

    Args:
        source: the labels.
        issues: attribute -> ids of images.
        where: name of the list in errors.

    Raises:
        ConfigError: the source has no such attribute, or none of the labels.
    """
    known = source.attributes.names
    for name in issues:
        if name not in known:
            raise ConfigError(f"--drop-issues {where}: {name!r} is no attribute here; {near_hint(name, known)}")

    def read(rejects: Rejects) -> Iterator[pa.Table]:
        return (_without(table, source, issues)[0] for table in source.tables(rejects))

    num_dropped = sum(_without(table, source, issues)[1] for table in source.tables(Rejects()))
    if not num_dropped:
        raise ConfigError(
            f"--drop-issues {where}: names no label of {source.where}; expected the list that was made of these labels"
        )
    return replace(source, read=read), num_dropped


def _without(table: pa.Table, source: SourceLabels, issues: Mapping[str, pa.Array]) -> tuple[pa.Table, int]:
    num_dropped = 0
    for name, ids in issues.items():
        hit = np.asarray(pc.is_in(table["image_id"], ids))
        table, num_masked = mask_labels(table, source.attributes[name], hit)
        num_dropped += num_masked
    return table, num_dropped
