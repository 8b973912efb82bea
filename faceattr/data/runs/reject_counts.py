"""Counts the rejected rows of a run from the footers of its committed shards."""

import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceattr.config import StorageConfig
from faceattr.data.formats.json_files import damage_named
from faceattr.data.runs.commit import OK, read_ahead, shard_key
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.ranged import open_ranged
from faceattr.errors import StorageError


def count_rejected(version: RunVersion, work: PendingShards, storage: StorageConfig) -> int:
    """Counts rows with an error status in the shards that were committed before this session started its `work`.

    Shards that a retry processes again are not included: their rows are counted as they arrive. Shards that an update
    keeps are. Every row with an error status has an `error`, so the null count in a footer is enough; no row is read.

    Args:
        version: the version of the run that the session works on.
        work: the session's work.
        storage: how the run folder is reached.

    Raises:
        RunError: a shard is damaged.
        StorageError: a shard cannot be read.
    """
    pending = set(work.pending.tolist())
    done = [shard for shard in version.own_shards if shard not in pending]
    uris = [join_uri(version.store.uri, shard_key(version.folder, work.plan, shard)) for shard in done]
    num_kept = sum(file.num_bad for file in version.kept_files)
    return num_kept + sum(count for _, count in read_ahead(lambda uri: _count_in_file(uri, storage), uris))


def _count_in_file(uri: str, storage: StorageConfig) -> int:
    try:
        with damage_named(uri), open_ranged(uri, storage) as file:
            parquet = pq.ParquetFile(file)
            count = _count_in_footer(parquet.metadata)
            if count is not None:
                return count
            status = parquet.read(["status"])["status"]
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error
    return pc.sum(pc.not_equal(status, OK)).as_py() or 0


def _count_in_footer(metadata: pq.FileMetaData) -> int | None:
    """Returns the number of rows with an `error`; None if the footer does not contain it."""
    names = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    if "error" not in names:
        return None
    column, count = names.index("error"), 0
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(column)
        if not chunk.is_stats_set or not chunk.statistics.has_null_count:
            return None
        count += chunk.num_values - chunk.statistics.null_count
    return count
