"""Input in the form of tables: manifests that name images, and Parquet files that contain them."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from faceattr.config import StorageConfig
from faceattr.data.formats.jsonl import read_object_tables, read_schema
from faceattr.data.formats.parquet import checked_rows, is_damage, read_batches
from faceattr.data.formats.text_tables import is_index_name, read_header, read_tables, sniff_delimiter
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.inputs.saved_dataset import image_feature, is_arrow, read_arrow_batches, read_arrow_schema
from faceattr.data.runs.plan import plan_schema
from faceattr.data.stores.addresses import check_no_credentials, key_below
from faceattr.data.stores.keys import check_key, join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.ranged import open_ranged
from faceattr.data.stores.web.hosts import check_allowed, is_web, parse_web
from faceattr.errors import ConfigError, StorageError

logger = logging.getLogger(__name__)

URI_COLUMNS = ("uri", "image_path")
ID_COLUMNS = ("image_id", "uri", "image_path")
BYTES_COLUMNS = ("image", "image_bytes", "bytes", "jpg", "png")
_BATCH_ROWS = 8_192


@dataclass(frozen=True, kw_only=True)
class TableInput:
    """Opens input in the form of tables; the fields are the arguments of `inputs.open_input`."""

    root: str | None
    storage: StorageConfig
    reserved: frozenset[str]
    bytes_column: str | None

    def open_csv(self, folder: str, name: str) -> ImageInput:
        """Opens a manifest in text form. Raises ConfigError if it is not one."""
        return self._manifest(self._csv_tables(join_uri(folder, name)), join_uri(folder, name), folder)

    def open_jsonl(self, folder: str, name: str) -> ImageInput:
        """Opens a manifest in JSON Lines. Raises ConfigError if it is not one."""
        uri = join_uri(folder, name)
        schema = read_schema(uri, self.storage)
        tables = ((uri, table) for table in read_object_tables(uri, self.storage, schema))
        return self._manifest(tables, uri, folder)

    def open_parquet(self, folder: str, names: list[str]) -> ImageInput:
        """Opens Parquet files that name or contain images. Raises ConfigError if their columns do neither."""
        first = join_uri(folder, names[0])
        with _read_errors(first), open_ranged(first, self.storage) as file:
            schema = pq.read_schema(file)
        column = self.bytes_column or _find_bytes_column(schema)
        if column is None:
            return self._manifest(self._parquet_tables(folder, names), first, folder)
        _check_columns(schema.names, [column], first)
        if not _holds_bytes(schema.field(column).type):
            raise ConfigError(f"{first}: column {column!r} holds {schema.field(column).type}, expected encoded images")
        return self._packed(folder, names, schema, column)

    def open_arrow(self, folder: str, names: list[str]) -> ImageInput:
        """Opens the Arrow files of a saved data set. Raises ConfigError if they contain no images."""
        if not names:
            raise ConfigError(f"{folder}: the data set has no rows")
        first = join_uri(folder, names[0])
        schema = read_arrow_schema(first)
        column = self.bytes_column or image_feature(schema) or _find_bytes_column(schema)
        if column is None:
            raise ConfigError(
                f"{first}: no column is known to hold images; name it: --bytes-column. Found {schema.names}"
            )
        _check_columns(schema.names, [column], first)
        if not _holds_bytes(schema.field(column).type):
            raise ConfigError(f"{first}: column {column!r} holds {schema.field(column).type}, expected encoded images")
        return self._packed(folder, names, schema, column)

    def _csv_tables(self, uri: str) -> Iterator[tuple[str, pa.Table]]:
        """Yields a CSV as texts: values are carried through unchanged, whatever they look like."""
        delimiter = sniff_delimiter(uri, self.storage)
        names = read_header(uri, self.storage, delimiter=delimiter)
        index = [name for name in names if is_index_name(name)]
        if index:
            logger.warning("%s: the column %r is left out: it is an index that pandas wrote", uri, index[0])
        for table in read_tables(uri, self.storage, delimiter=delimiter, names=names):
            places = [place for place, name in enumerate(names) if name not in index]
            yield uri, table.select(places)

    def _parquet_tables(self, folder: str, names: list[str]) -> Iterator[tuple[str, pa.Table]]:
        for name in names:
            uri = join_uri(folder, name)
            with _read_errors(uri), open_ranged(uri, self.storage) as file:
                for table in read_batches(pq.ParquetFile(file), _BATCH_ROWS):
                    yield uri, table

    def _manifest(self, tables: Iterator[tuple[str, pa.Table]], where: str, folder: str) -> ImageInput:
        """Args: tables: tables with the URI of the file that each comes from; where: the first of these URIs."""
        head = next(tables, None)
        if head is None or not head[1].num_columns:
            raise ConfigError(f"{where}: the manifest has no rows")
        where, first = head
        column = next((name for name in URI_COLUMNS if name in first.column_names), None)
        if column is None:
            binary = [field.name for field in first.schema if _holds_bytes(field.type)]
            hint = f"; if {binary[0]!r} holds the encoded images, set --bytes-column {binary[0]}" if binary else ""
            raise ConfigError(
                f"{where}: a manifest needs a column {' or '.join(map(repr, URI_COLUMNS))}, packed images one of "
                f"{', '.join(BYTES_COLUMNS)} with bytes; found {first.column_names}{hint}"
            )
        _check_text_column(first, column, where)
        root = open_store(self.root or folder, self.storage).uri
        carried = [name for name in first.column_names if name != column]
        schema = _carried_schema(first.schema, carried, self.reserved)

        def rows() -> Iterator[pa.Table]:
            num_rows: Counter[str] = Counter()  # rows per file, for error texts
            for uri, table in itertools.chain([head], tables):
                _check_columns(table.column_names, carried, uri)
                _check_text_column(table, column, uri)
                numbers = itertools.count(num_rows[uri])
                num_rows[uri] += len(table)
                keys = [self._key(value, root, uri, next(numbers)) for value in table[column].to_pylist()]
                with _read_errors(uri):
                    values = [table[name].cast(field.type) for name, field in zip(carried, schema, strict=True)]
                yield _plan_table(
                    image_id=pa.array(keys, pa.string()),
                    uri=pa.array([key if is_web(key) else join_uri(root, key) for key in keys], pa.string()),
                    source_row=pa.nulls(len(keys), pa.int64()),
                    carried=values,
                    schema=schema,
                )

        return ImageInput(kind="manifest", root=root, carried=schema, tables=rows())

    def _key(self, value: str | None, root: str, where: str, row: int) -> str:
        """Returns the key below the root; an address of the web is its own key, wherever it is."""
        if value is None or not is_web(value):
            return _key_below(value, root, where, row)
        place = f"{where}, row {row} (counted from 0)"
        check_no_credentials(value, place)
        try:
            check_allowed(parse_web(value), self.storage.allow_http)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from error
        return value

    def _column_batches(self, uri: str, bytes_column: str, columns: list[str]) -> Iterator[pa.Table]:
        """Yields columns of a Parquet or Arrow file; without any, tables of its number of rows."""
        if is_arrow(uri):
            _check_columns(read_arrow_schema(uri).names, [bytes_column, *columns], uri)
            for batch in read_arrow_batches(uri):
                found = batch.select(columns) if columns else {"nothing": pa.nulls(len(batch))}
                yield checked_rows(pa.table(found))
            return
        with open_ranged(uri, self.storage) as file:
            parquet = pq.ParquetFile(file)
            _check_columns(parquet.schema_arrow.names, [bytes_column, *columns], uri)
            if columns:
                yield from read_batches(parquet, _BATCH_ROWS, columns)
                return
            # Without a column to read, the footer alone has the number of rows.
            for group in range(parquet.num_row_groups):
                yield pa.table({"nothing": pa.nulls(parquet.metadata.row_group(group).num_rows)})

    def _packed(self, folder: str, names: list[str], first: pa.Schema, bytes_column: str) -> ImageInput:
        id_column = next((name for name in ID_COLUMNS if name in first.names), None)
        carried = [name for name in first.names if name not in (bytes_column, id_column)]
        schema = _carried_schema(first, carried, self.reserved)

        def rows() -> Iterator[pa.Table]:
            for name in names:
                uri = join_uri(folder, name)
                start = 0
                wanted = [each for each in (id_column, *carried) if each]
                with _read_errors(uri):
                    for batch in self._column_batches(uri, bytes_column, wanted):
                        numbers = range(start, start + len(batch))
                        start += len(batch)
                        names_of_rows = pa.array([f"{name}#{row}" for row in numbers], pa.string())
                        ids = batch[id_column].cast(pa.string()) if id_column else names_of_rows
                        if ids.null_count:
                            row = numbers[ids.is_null().index(True).as_py()]
                            raise ConfigError(f"{uri}: row {row} (counted from 0) has no {id_column!r}")
                        yield _plan_table(
                            image_id=ids,
                            uri=pa.array([uri] * len(batch), pa.string()),
                            source_row=pa.array(numbers, pa.int64()),
                            carried=[batch[each].cast(field.type) for each, field in zip(carried, schema, strict=True)],
                            schema=schema,
                        )

        root = open_store(folder, self.storage).uri
        return ImageInput(kind="packed", root=root, carried=schema, tables=rows(), bytes_column=bytes_column)


def _check_columns(found: list[str], names: Iterable[str], where: str) -> None:
    for name in names:
        if found.count(name) != 1:
            problem = "more than one" if name in found else "no"
            raise ConfigError(f"{where}: there is {problem} column {name!r}; found {found}")


def _check_text_column(table: pa.Table, name: str, where: str) -> None:
    _check_columns(table.column_names, [name], where)
    kind = table.schema.field(name).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)):
        raise ConfigError(f"{where}: column {name!r} names the images; expected text, found {kind}")


def _find_bytes_column(schema: pa.Schema) -> str | None:
    named = (name for name in BYTES_COLUMNS if name in schema.names)
    return next((name for name in named if _holds_bytes(schema.field(name).type)), None)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether the type is binary, or the {bytes, path} struct of Hugging Face image columns."""
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _key_below(value: str | None, root: str, where: str, row: int) -> str:
    key = key_below((value or "").replace("\\", "/"), root)  # Windows writes backslashes; label sources accept them too
    check_no_credentials(key, f"{where}, row {row} (counted from 0)")
    problem = check_key(key)
    if problem:
        raise ConfigError(
            f"{where}, row {row} (counted from 0): image {value!r}: {problem}. Paths must be below the root {root!r}; "
            "set --root if that is another folder."
        )
    return key


def _plan_table(
    *, image_id: pa.Array, uri: pa.Array, source_row: pa.Array, carried: list[pa.ChunkedArray], schema: pa.Schema
) -> pa.Table:
    unknown = [pa.nulls(len(uri), pa.int64()), pa.nulls(len(uri), pa.string())]
    return pa.table([image_id, uri, *unknown, source_row, *carried], schema=plan_schema(list(schema)))


def _carried_schema(schema: pa.Schema, names: list[str], reserved: frozenset[str]) -> pa.Schema:
    """Returns the carried columns, renamed where the output has the same name, without foreign metadata."""
    own = reserved | set(plan_schema().names) | {"row"}
    renamed = [f"given_{name}" if name in own else name for name in names]
    clash = {name for name in renamed if renamed.count(name) > 1 or name in own}
    if clash:
        raise ConfigError(f"the manifest's columns {sorted(clash)} have names that the output uses; rename them")
    return pa.schema([pa.field(new, schema.field(old).type) for new, old in zip(renamed, names, strict=True)])


class _read_errors:  # noqa: N801 - reads as a statement
    """Turns pyarrow's errors about a user's file into an error that names the file."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise ConfigError(f"{self._where} does not exist") from error
        unread = (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowTypeError, pa.ArrowNotImplementedError)
        if isinstance(error, unread):
            raise ConfigError(f"{self._where} cannot be read as a table: {error}") from error
        if isinstance(error, OSError):
            if is_damage(error, self._where):
                raise ConfigError(f"{self._where} cannot be read as a table: {error}") from error
            raise StorageError(f"cannot read {self._where}: {error}") from error
