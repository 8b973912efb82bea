"""Rows of an input, and Parquet files to make inputs of."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from faceattr.data.runs.plan import plan_schema


def parquet(columns, **schema):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, **schema), buffer)
    return buffer.getvalue()


def read(source):
    """All rows of an input; the schema is checked on the way."""
    tables = list(source.tables)
    assert all(table.schema.equals(plan_schema(list(source.carried))) for table in tables)
    return pa.concat_tables(tables, promote_options="none").to_pylist() if tables else []


def column(source, name):
    return [row[name] for row in read(source)]
