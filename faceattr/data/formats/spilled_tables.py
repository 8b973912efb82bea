"""Tables on local disk, divided into named parts, for what does not fit into memory. Each part is read as a whole."""

import contextlib
import tempfile
from pathlib import Path
from types import TracebackType

import pyarrow as pa


class SpilledTables:
    """Appends rows to parts and returns each part. A context manager: it owns files.

    Args:
        schema: schema of the rows.
        prefix: first letters of the name of the temporary folder.
    """

    def __init__(self, schema: pa.Schema, prefix: str) -> None:
        self.schema = schema
        self._stack = contextlib.ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
        self._writers: dict[str, pa.ipc.RecordBatchStreamWriter] = {}

    def append(self, part: str, table: pa.Table) -> None:
        """Appends rows to a part."""
        if part not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writer = pa.ipc.new_stream(str(self._folder / part), self.schema, options=options)
            self._writers[part] = self._stack.enter_context(writer)
        self._writers[part].write_table(table)

    def read(self, part: str) -> pa.Table:
        """Returns the rows of a part, in the order in which they came. Afterwards nothing can be appended to it."""
        if part not in self._writers:
            return self.schema.empty_table()
        self._writers[part].close()
        with pa.ipc.open_stream(str(self._folder / part)) as reader:
            return reader.read_all()

    def __enter__(self) -> "SpilledTables":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
