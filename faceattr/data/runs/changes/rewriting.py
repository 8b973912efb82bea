"""Shards of the base version that only lose rows: written again from their files, without the model."""

import pyarrow as pa

from faceattr.data.formats.parquet import decode_table
from faceattr.data.runs.commit import commit_shard, list_committed, read_ahead, read_file, shard_key
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.keys import join_uri
from faceattr.data.table_checks import fit_schema


def rewrite_shards(version: RunVersion) -> None:
    """Commits the shards of a change that only lose rows; none of another version, and none that is committed already.

    Raises:
        RunError: a file of the base version is missing or damaged.
    """
    store, plan, files = version.store, version.record.plan, version.rewritten
    committed = list_committed(store, version.folder, plan) if files else {}
    pending = [shard for shard in files if shard not in committed]
    for shard, data in read_ahead(lambda shard: read_file(store, files[shard]), pending):
        rows = decode_table(data, join_uri(store.uri, files[shard].key))
        kept = rows.filter(pa.array(version.removed.live_mask(rows["row"].to_numpy())))
        key = shard_key(version.folder, plan, shard)
        commit_shard(store, key, fit_schema(kept, version.schema, key))
