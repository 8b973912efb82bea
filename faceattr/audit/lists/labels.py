"""Labels of another table, by image: given by somebody, or made by another run.

Images are matched by id, as 64-bit hashes of it, so that the other table takes 8 bytes a row and 4 for each attribute.
Two ids with one hash would list a row that nobody disputes; at 10^8 images that is expected once in 4,000 audits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute
from faceattr.audit.scored_table import ScoredTable, open_scored_table
from faceattr.config import StorageConfig
from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.packed.label_issues import LABEL_ISSUES_KEY, read_issues
from faceattr.data.sources.label_values import attribute_name
from faceattr.data.sources.layouts.table import read_column_names
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.data.sources.source import Rejects
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import split_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError
from faceattr.errors import ConfigError

NO_CLASS = -1


@dataclass(frozen=True, kw_only=True)
class OtherLabels:
    """Labels by image.

    Attributes:
        flag: the flag that named the table, for messages.
        address: the table.
        hashes: uint64 [n], ascending, of image ids.
        labels: attribute -> class indices, int32 [n]; `NO_CLASS` where there is none.
        rejected: rows that could not be read, in words; empty if all could.
    """

    flag: str
    address: str
    hashes: np.ndarray
    labels: Mapping[str, np.ndarray]
    rejected: str = ""

    def find(self, image_ids: pa.ChunkedArray) -> np.ndarray:
        """Returns the place of each image, int64 [m]; -1 for images that are not there."""
        wanted = _hash(image_ids)
        places = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        return np.where(self.hashes[places] == wanted, places, -1)


def read_given_labels(address: str, storage: StorageConfig, table: ScoredTable) -> OtherLabels:
    """Reads the labels that somebody gave, a CSV or Parquet file; see `faceattr.data.sources.layouts.table`.

    Columns count that are named as an audited attribute; images are named below the root of the table's images.

    Args:
        address: the file.
        storage: how it is reached.
        table: the audited table.

    Raises:
        ConfigError: it is no such file, has a label of no audited attribute, or none of its rows can be read.
    """
    where = resolve_address(address, "--given")
    found = {attribute_name(column): column for column in read_column_names(where, storage)}
    names = [name for name in table.attributes if name in found]
    if not names:
        raise ConfigError(
            f"--given {address}: has no column of an audited attribute ({', '.join(table.attributes)}); it has "
            f"{', '.join(found.values())}"
        )
    columns = tuple(_describe_column(table.attributes[name], found[name]) for name in names)
    source = open_source("table", table.root, options=SourceOptions(files=(where,), columns=columns), storage=storage)
    rejects = Rejects()
    tables = (each.select(["image_id", *names]) for each in source.tables(rejects))
    return _collect("--given", address, tables, names, rejects=rejects)


def read_run_labels(address: str, storage: StorageConfig, table: ScoredTable) -> OtherLabels:
    """Reads the labels of another run or table of scores.

    Args:
        address: a run folder, or a Parquet file; see `open_scored_table`.
        storage: how it is reached.
        table: the audited table.

    Raises:
        ConfigError: there is no such table, it has no audited attribute, or one with other classes.
    """
    other = open_scored_table(address, storage)
    names = [name for name in table.attributes if name in other.attributes]
    if not names:
        raise ConfigError(
            f"--other {address}: has none of the audited attributes {', '.join(table.attributes)}; it has "
            f"{', '.join(other.attributes)}"
        )
    for name in names:
        ours, theirs = table.attributes[name].classes, other.attributes[name].classes
        if ours != theirs:
            raise ConfigError(
                f"--other {address}: {name} has the classes {', '.join(theirs)}; expected {', '.join(ours)}"
            )
    return _collect("--other", address, (each.select(["image_id", *names]) for each in other.read()), names)


def read_suggested_labels(address: str, storage: StorageConfig, table: ScoredTable) -> OtherLabels:
    """Reads the labels that `faceattr audit issues` suggests in place of those that it takes as wrong.

    Args:
        address: label_issues.parquet of a packed run with the labels of the audited table.
        storage: how it is reached.
        table: the audited table.

    Raises:
        ConfigError: there is no such file, or it has no issue of an audited attribute.
        RunError: it is damaged.
    """
    folder, name = split_uri(resolve_address(address, "--issues"))
    try:
        issues = read_issues(open_store(folder, storage).get(name), address)
    except MissingObjectError as error:
        raise ConfigError(f"--issues {address}: there is no such file; expected a {LABEL_ISSUES_KEY}") from error
    found = set(issues["attribute"].to_pylist())
    names = [each for each in table.attributes if each in found]
    if not names:
        raise ConfigError(
            f"--issues {address}: has no issue of the audited attributes {', '.join(table.attributes)}; it has "
            f"{', '.join(sorted(found))}"
        )
    hashes = np.unique(_hash(issues["image_id"]))
    labels = {each: np.full(len(hashes), NO_CLASS, np.int32) for each in names}
    for each in names:
        rows = issues.filter(pc.equal(issues["attribute"], each))
        labels[each][np.searchsorted(hashes, _hash(rows["image_id"]))] = rows["suggested"].to_numpy()
        num_classes = len(table.attributes[each].classes)
        if labels[each].max() >= num_classes:
            raise ConfigError(f"--issues {address}: {each} has other classes there; the table has {num_classes}")
    return OtherLabels(flag="--issues", address=address, hashes=hashes, labels=labels)


def _describe_column(attribute: Attribute, column: str) -> str:
    classes = "" if attribute.is_yes_no else f":{'|'.join(attribute.classes)}"
    return f"{attribute.name}={column}{classes}"


def _collect(
    flag: str, address: str, tables: Iterable[pa.Table], names: list[str], *, rejects: Rejects | None = None
) -> OtherLabels:
    hashes, labels = [np.empty(0, np.uint64)], {name: [np.empty(0, np.int32)] for name in names}
    for table in tables:
        hashes.append(_hash(table["image_id"]))
        for name in names:
            labels[name].append(table[name].cast(pa.int32()).fill_null(NO_CLASS).to_numpy())
    joined = np.concatenate(hashes)
    if not len(joined):
        raise ConfigError(f"{flag} {address}: has no rows")
    # Of several rows of one image the first counts.
    unique, first = np.unique(joined, return_index=True)
    return OtherLabels(
        flag=flag,
        address=address,
        hashes=unique,
        labels={name: np.concatenate(parts)[first] for name, parts in labels.items()},
        rejected="" if rejects is None else rejects.describe(),
    )


def _hash(image_ids: pa.ChunkedArray) -> np.ndarray:
    return np.fromiter((RepeatedKeys.hash(each) for each in image_ids.to_pylist()), np.uint64, len(image_ids))
