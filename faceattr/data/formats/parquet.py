"""Parquet in memory: a table becomes bytes first and an object second, so that no partial file is ever visible.

(A writer that streams to the store publishes what it has when an exception closes it: apache/arrow#40502.)
"""

import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from faceattr.data.formats.integrity import REMEDY
from faceattr.data.formats.json_files import describe_cause
from faceattr.errors import RunError

_METADATA_KEY = b"faceattr"
# Small, since training mixes many row groups at a time and distributes them to workers; large enough for one request.
_ROW_GROUP_BYTES = 4 * 2**20


def encode_table(table: pa.Table, *, row_group_rows: int = 16_384) -> bytes:
    """Returns the table as a zstd-compressed Parquet file with page checksums.

    Columns of bytes contain encoded images, which do not compress further: they are stored uncompressed, in row groups
    that a reader can stream.
    """
    buffer = io.BytesIO()
    blobs = {field.name for field in table.schema if _is_blob(field.type)}
    if not blobs:
        pq.write_table(table, buffer, compression="zstd", row_group_size=row_group_rows, write_page_checksum=True)
        return buffer.getvalue()
    rows_of_bytes = _ROW_GROUP_BYTES * len(table) // max(1, table.nbytes)
    # Parquet's column names: the values of a list are one level below it.
    leaves = {each.name: each.name + ".list.element" * pa.types.is_list(each.type) for each in table.schema}
    pq.write_table(
        table,
        buffer,
        compression={leaf: "none" if name in blobs else "zstd" for name, leaf in leaves.items()},
        use_dictionary=[leaf for name, leaf in leaves.items() if name not in blobs],
        write_statistics=[leaf for name, leaf in leaves.items() if name not in blobs],
        write_page_checksum=True,
        row_group_size=max(1, min(row_group_rows, rows_of_bytes)),
    )
    return buffer.getvalue()


def _is_blob(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def decode_table(data: bytes, where: str, columns: list[str] | None = None) -> pa.Table:
    """Inverse of encode_table.

    Args:
        data: the whole file.
        where: name of the file in the error.
        columns: columns to read, as far as they exist; default: all.

    Raises:
        RunError: the file is truncated or damaged.
    """
    try:
        return pq.read_table(pa.BufferReader(data), columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # in memory, an OSError is a wrong checksum
        raise RunError(f"{where} is damaged: {describe_cause(error)}; {REMEDY}") from error


def read_batches(file: pq.ParquetFile, batch_rows: int, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yields the rows of a user's file.

    Raises:
        pa.ArrowInvalid: a value does not fit its type, such as text that is not UTF-8, which Parquet itself lets pass.
    """
    for batch in file.iter_batches(batch_rows, columns=columns):
        yield checked_rows(pa.Table.from_batches([batch]))


def checked_rows(table: pa.Table) -> pa.Table:
    """Returns a table of a user's file; raises pa.ArrowInvalid if a value does not fit its type."""
    table.validate(full=True)
    return table


def decode_schema(text: str) -> pa.Schema:
    """Decodes a schema from the hex text of its IPC form. Raises ValueError if the text is not one."""
    try:
        return pa.ipc.read_schema(pa.BufferReader(bytes.fromhex(text)))
    except OSError as error:  # pyarrow's error for invalid bytes in memory
        raise ValueError(f"no Arrow schema: {error}") from error


def with_provenance(schema: pa.Schema, provenance: dict[str, Any]) -> pa.Schema:
    """Returns the schema with our JSON metadata attached."""
    return schema.with_metadata({_METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})


def read_provenance(schema: pa.Schema) -> dict[str, Any]:
    """Returns our JSON metadata, or an empty dict if the file is not ours."""
    value = (schema.metadata or {}).get(_METADATA_KEY)
    return dict(json.loads(value)) if value else {}


def is_damage(error: OSError, uri: str) -> bool:
    """Whether pyarrow failed to parse bytes that arrived. It raises OSError both for these and for outages.

    System errors have a number, and our own client's errors are StorageErrors; for other clients it is unknown.
    """
    return error.errno is None and ("://" not in uri or uri.startswith("s3://"))
