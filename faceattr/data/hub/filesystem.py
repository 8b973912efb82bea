"""The Hugging Face hub as a file system of pyarrow, by that of `huggingface_hub`, for reading."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.fs
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HfHubHTTPError


def open_hub(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Returns the file system and the path in it of an address such as `hf://datasets/OWNER/NAME@COMMIT/FOLDER`."""
    return pyarrow.fs.PyFileSystem(_Hub(HfFileSystem())), uri.removeprefix("hf://")


class _Hub(pyarrow.fs.FSSpecHandler):
    """Turns the client's errors into an OSError, as file systems of pyarrow have them."""

    def get_file_info(self, paths: list[str]) -> Any:
        with _os_errors():
            return super().get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        with _os_errors():
            return super().get_file_info_selector(selector)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        with _os_errors():
            return pa.PythonFile(_File(self.fs.open(path, mode="rb")), mode="r")


class _File(io.RawIOBase):
    """A file of the hub that fetches what is read, in blocks."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        with _os_errors():
            return bytes(self._file.read(size))


@contextmanager
def _os_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        kind = PermissionError if status in (401, 403) else OSError
        raise kind(f"the hub answered {status}: {error.server_message or 'no reason'}") from error
    except httpx2.HTTPError as error:
        raise OSError(f"the hub cannot be reached: {type(error).__name__}: {error}") from error
