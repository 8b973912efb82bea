"""Writing a packed run: the functions that know packed rows, but neither Ray nor images.

The order is that of every run: plan, shards, verification, manifest. See `reader.py` for the format and the reader.
"""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from faceattr.attributes import AttributeSet
from faceattr.data.formats.integrity import hash_bytes
from faceattr.data.label_columns import FACE_FIELDS, read_attributes
from faceattr.data.packed.label_counts import LabelCounts
from faceattr.data.packed.reader import (
    FOLDER,
    IMAGE_FIELDS,
    SECTION_PREFIX,
    STATUS_FIELDS,
    label_counts_key,
    split_of_shard,
)
from faceattr.data.packed.views import read_face_view
from faceattr.data.runs.commit import OK, CheckShards
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import Manifest, RunRecord, RunVersion
from faceattr.data.stores.store import Store

# Columns that a plan of a packed run carries in addition to the labels: the sha256 that the split was drawn by, null if
# the image could not be read then, and the number of the source that the image is from.
PLANNED_FIELDS = (pa.field("sha256", pa.string()), pa.field("place", pa.int16(), nullable=False))
GROUP_FIELD = pa.field("group", pa.string())


def carried_schema(label_fields: Sequence[pa.Field]) -> pa.Schema:
    """Returns the columns that a packed run adds to every plan's; the reader finds the attributes in them."""
    return pa.schema([*PLANNED_FIELDS, GROUP_FIELD, *label_fields])


def split_section(split: str) -> str:
    """Returns the name of a split's section in the plan, and of its folder."""
    return f"{SECTION_PREFIX}{split}"


def open_packed_version(store: Store, record: RunRecord, *, retry_failed: bool = False) -> RunVersion:
    """Opens the version of a packed run that a command works on."""
    labels = list(record.carried_schema)[len(PLANNED_FIELDS) + 1 :]
    faces = () if read_face_view(record) is None else FACE_FIELDS
    schema = pa.schema([*IMAGE_FIELDS, *labels, *faces, *STATUS_FIELDS])
    return RunVersion(store, record, schema, retry_failed=retry_failed, folder=FOLDER)


class PackedStatistics:
    """Counts labels by split over the shards of a packed run.

    Attributes:
        counts: labels of rows with an image.
        rejected: number of rows without an image, by split.
        bad_rows: their row numbers.
    """

    def __init__(self, plan: Plan, attributes: AttributeSet) -> None:
        self.counts = LabelCounts(attributes)
        self.rejected: Counter[str] = Counter()
        self.bad_rows: set[int] = set()
        self._plan = plan

    def observe(self, table: pa.Table) -> None:
        """Adds one shard's table."""
        split = split_of_shard(self._plan, int(self._plan.shards_of(table["row"][:1].to_numpy())[0]))
        is_good = pc.equal(table["status"], OK)
        good, bad = table.filter(is_good), table.filter(pc.invert(is_good))
        self.rejected[split] += len(bad)
        self.bad_rows.update(bad["row"].to_pylist())
        self.counts.add(good, pa.repeat(pa.scalar(split, pa.string()), len(good)))


def verify_packed(
    version: RunVersion,
    observers: Sequence[Callable[[pa.Table], None]] = (),
    *,
    check: CheckShards | None = None,
) -> tuple[Manifest, PackedStatistics]:
    """Verifies that every row exists once, and counts the labels meanwhile. Raises RunError if one does not."""
    statistics = PackedStatistics(version.record.plan, read_attributes(version.schema))
    return version.verify([statistics.observe, *observers], check=check), statistics


def publish_packed(version: RunVersion, manifest: Manifest, statistics: PackedStatistics) -> None:
    """Writes the label counts, then the manifest: readers rely on both."""
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(statistics.counts.to_table(), buffer)
    key, data = label_counts_key(manifest.version), buffer.getvalue()
    version.store.put(key, data)
    version.publish(replace(manifest, hashes={key: hash_bytes(data)}))
