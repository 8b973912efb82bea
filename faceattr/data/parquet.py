"""Parquet in memory: a table becomes bytes first and an object second, so that no half-written file is ever visible.

(A writer that streams to the store publishes what it has when an exception closes it: apache/arrow#40502.)
"""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_METADATA_KEY = b"faceattr"


def encode_table(table: pa.Table, *, row_group_rows: int = 16_384) -> bytes:
    """The table as a zstd-compressed Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=row_group_rows)
    return buffer.getvalue()


def decode_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Inverse of encode_table; `columns` reads only some."""
    return pq.read_table(pa.BufferReader(data), columns=columns)


def with_provenance(schema: pa.Schema, provenance: dict[str, Any]) -> pa.Schema:
    """The schema with our JSON metadata attached."""
    return schema.with_metadata({_METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})


def read_provenance(schema: pa.Schema) -> dict[str, Any]:
    """Our JSON metadata, or an empty dict if the file is not ours."""
    value = (schema.metadata or {}).get(_METADATA_KEY)
    return dict(json.loads(value)) if value else {}
