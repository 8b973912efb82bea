"""A data set of Hugging Face's `datasets` as `save_to_disk` leaves it: Arrow stream files, read by pyarrow alone.

    dataset_info.json, state.json, data-00000-of-00002.arrow, data-00001-of-00002.arrow     a data set
    dataset_dict.json, train/..., test/...                                                  a dictionary of splits

`state.json` names the files in order; others, such as the caches of `map`, are not rows. The files are mapped into
memory, so they must be on a local disk.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from faceattr.data.stores.addresses import local_part
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, StorageError

STATE = "state.json"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def is_arrow(uri: str) -> bool:
    """Whether a file of images is an Arrow stream; else it is a Parquet file."""
    return uri.endswith(".arrow")


def list_data_files(store: Store, states: Sequence[str]) -> list[str]:
    """Returns the keys of the files with rows, in order.

    Args:
        store: the folder that was saved.
        states: keys of its files `state.json`, one for each split.

    Raises:
        ConfigError: it is not on a local disk, damaged, or a selection that was not written out.
    """
    if "://" in store.uri:
        raise ConfigError(
            f"{store.uri}: a data set of save_to_disk is read from a local disk only; copy it there, or save it with "
            "to_parquet and give the Parquet files"
        )
    names = []
    for key in sorted(states):
        where = join_uri(store.uri, key)
        try:
            state = json.loads(store.get(key))
            files = [file["filename"] for file in state["_data_files"]]
        except MissingObjectError as error:
            raise ConfigError(f"{where} does not exist") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{where} is no state of a data set that save_to_disk wrote ({error})") from error
        if state.get("_indices_data_files"):
            raise ConfigError(f"{where}: the data set is a selection of rows; save it after flatten_indices()")
        folder = key.removesuffix(STATE)
        names += [f"{folder}{file}" for file in files]
    return names


def image_feature(schema: pa.Schema) -> str | None:
    """Returns the column that the data set's features say to be the images; None if there are none or several."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
        names = [name for name, each in features.items() if isinstance(each, dict) and each.get("_type") == "Image"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return names[0] if len(names) == 1 else None


def read_arrow_schema(uri: str) -> pa.Schema:
    """Returns the schema of an Arrow stream file.

    Raises:
        ConfigError: it does not exist, is cut, or is something else.
    """
    with _open(uri) as stream:
        return stream.schema


def read_arrow_batches(uri: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yields the batches of an Arrow stream file, without copying them.

    Raises:
        ConfigError: see `read_arrow_schema`.
    """
    with _open(uri) as stream:
        for batch in stream:
            yield batch if columns is None else batch.select(list(columns))


@contextmanager
def _open(uri: str) -> Iterator[pa.ipc.RecordBatchStreamReader]:
    path = local_part(uri)
    try:
        with pa.OSFile(path) as file:
            # A stream that ends early between two batches would otherwise be read as a shorter one.
            file.seek(max(0, file.size() - len(_END_OF_STREAM)))
            is_whole = file.read() == _END_OF_STREAM
        if not is_whole:
            raise ConfigError(f"{uri} is no complete Arrow stream: cut, or another kind of file. Save it again")
        with pa.memory_map(path) as mapped:
            yield pa.ipc.open_stream(mapped)
    except FileNotFoundError as error:
        raise ConfigError(f"{uri} does not exist") from error
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{uri} is damaged: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error
