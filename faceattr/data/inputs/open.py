"""Opens the input of a run: a prefix of images, a manifest that names them, or Parquet or tar files that contain them.

Each becomes a stream of tables in `plan_schema`; no step keeps more than a few thousand rows in memory.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import pyarrow as pa

from faceattr.config import StorageConfig
from faceattr.data.formats.jsonl import JSONL_ENDINGS
from faceattr.data.formats.text_tables import TEXT_ENDINGS
from faceattr.data.hub.commits import pin_commit
from faceattr.data.inputs.folder_files import (
    DECODED_EXTENSIONS,
    FolderFiles,
    describe_files,
    is_compressed_tar,
    is_image_name,
    is_table_name,
    is_tar_name,
)
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.inputs.manifests import TableInput
from faceattr.data.inputs.saved_dataset import STATE, list_data_files
from faceattr.data.inputs.tar_shards import open_tars
from faceattr.data.runs.plan import plan_schema
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import join_uri, split_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import ObjectInfo, Store
from faceattr.errors import ConfigError

_BATCH_ROWS = 8_192
_UNPACK = "; compressed tar files cannot be read in parts: unpack them to .tar (gunzip, bunzip2, unxz or unzstd)"


def open_input(
    images: str,
    *,
    root: str | None = None,
    storage: StorageConfig | None = None,
    reserved: Iterable[str] = (),
    bytes_column: str | None = None,
) -> ImageInput:
    """Detects what `--images` names and opens it.

    Args:
        images: a prefix or folder, or a `.csv`, `.tsv`, `.jsonl` (also `.gz`), `.parquet` or `.tar` file.
        root: folder that relative manifest paths are relative to; default: the manifest's own folder.
        storage: how it is reached.
        reserved: names of the output's own columns; a carried column with such a name becomes `given_<name>`.
        bytes_column: name of the column with encoded images, if it is not one of manifests.BYTES_COLUMNS.

    Raises:
        ConfigError: there is no usable input.
    """
    images = pin_commit(resolve_address(images, "--images"))
    root = None if root is None else pin_commit(resolve_address(root, "--root"))
    storage = storage or StorageConfig()
    names = frozenset(reserved)
    tables = TableInput(root=root, storage=storage, reserved=names, bytes_column=bytes_column)
    folder, name = split_uri(images)
    ending = name.lower()
    is_table = ending.endswith((*TEXT_ENDINGS, *JSONL_ENDINGS, ".parquet"))
    if is_table and not _holds_objects(images, storage):  # Spark writes folders with such names
        if ending.endswith(".parquet"):
            return tables.open_parquet(folder, [name])
        return tables.open_csv(folder, name) if ending.endswith(TEXT_ENDINGS) else tables.open_jsonl(folder, name)
    store = open_store(images, storage)
    held = _FolderContent()
    files = held.files
    for entry in store.list():
        if is_image_name(entry.key):
            return _open_prefix(store)
        held.add(entry)
    if held.tables:
        files.take_files(len(held.tables), ".parquet")
        return dataclasses.replace(tables.open_parquet(store.uri, sorted(held.tables)), files=files)
    if held.shards:
        files.take_files(len(held.shards), ".tar")
        return open_tars(store, held.shards, storage, names, files)
    if held.states and files.other[".arrow"]:
        arrow_names = list_data_files(store, held.states)
        files.take_files(len(arrow_names), ".arrow")
        return dataclasses.replace(tables.open_arrow(store.uri, arrow_names), files=files)
    if not files.num_files and (is_tar_name(name) or is_compressed_tar(name)):
        return _open_tar(folder, name, storage, names)
    if not files.num_files and (single := _open_single(folder, name, storage)):
        return single
    if files.num_rows:  # perhaps images whose names have no extension
        return _open_prefix(store)
    found = "; ".join(describe_files(files.to_json())) or "the folder is empty or does not exist"
    named = (
        "; name a manifest itself, such as --images FOLDER/list.csv"
        if any(files.other[ending] for ending in (*TEXT_ENDINGS, *JSONL_ENDINGS))
        else ""
    )
    named += _UNPACK if held.is_compressed else ""
    raise ConfigError(
        f"--images {images}: found no image ({', '.join(sorted(DECODED_EXTENSIONS))} or another image's ending) and no "
        f".parquet file or .tar file; {found}{named}"
    )


@dataclasses.dataclass(kw_only=True)
class _FolderContent:
    """What a folder without images holds that may be input."""

    files: FolderFiles = dataclasses.field(default_factory=FolderFiles)
    tables: list[str] = dataclasses.field(default_factory=list)
    shards: list[ObjectInfo] = dataclasses.field(default_factory=list)
    states: list[str] = dataclasses.field(default_factory=list)
    is_compressed: bool = False

    def add(self, entry: ObjectInfo) -> None:
        self.files.add(entry.key)
        if is_table_name(entry.key):
            self.tables.append(entry.key)
        elif is_tar_name(entry.key):
            self.shards.append(entry)
        elif entry.key.rpartition("/")[2] == STATE:
            self.states.append(entry.key)
        self.is_compressed |= is_compressed_tar(entry.key)


def _holds_objects(uri: str, storage: StorageConfig) -> bool:
    return next(iter(open_store(uri, storage).list()), None) is not None


def _open_tar(folder: str, name: str, storage: StorageConfig, reserved: frozenset[str]) -> ImageInput:
    """Returns the input of the single tar file that `--images` names."""
    store = open_store(folder, storage)
    shards = [entry for entry in store.list(name) if entry.key == name]
    if not shards:
        raise ConfigError(f"--images {join_uri(folder, name)} does not exist")
    if is_compressed_tar(name):
        raise ConfigError(f"--images {join_uri(folder, name)}: found a compressed tar file{_UNPACK}")
    return open_tars(store, shards, storage, reserved, FolderFiles())


def _open_single(folder: str, name: str, storage: StorageConfig) -> ImageInput | None:
    """Returns the input of the single image that `--images` names, or None."""
    store = open_store(folder, storage)
    if not any(entry.key == name and FolderFiles().add(name) for entry in store.list(name)):
        return None
    rows = _prefix_tables((entry for entry in store.list(name) if entry.key == name), store.uri)
    return ImageInput(kind="prefix", root=store.uri, carried=pa.schema([]), tables=rows)


def _open_prefix(store: Store) -> ImageInput:
    """Returns the images of a folder. It is listed again from its start, so that no listing is kept in memory."""
    files = FolderFiles()
    rows = _prefix_tables(files.rows(store.list()), store.uri)
    return ImageInput(kind="prefix", root=store.uri, carried=pa.schema([]), tables=rows, files=files)


def _prefix_tables(listing: Iterable[ObjectInfo], root: str) -> Iterator[pa.Table]:
    images = iter(listing)
    while batch := list(itertools.islice(images, _BATCH_ROWS)):
        try:
            table = pa.table(
                {
                    "image_id": [entry.key for entry in batch],
                    "uri": [join_uri(root, entry.key) for entry in batch],
                    "num_bytes": pa.array([entry.num_bytes for entry in batch], pa.int64()),
                    "etag": pa.array([entry.etag for entry in batch], pa.string()),
                    "source_row": pa.nulls(len(batch), pa.int64()),
                },
                schema=plan_schema(),
            )
        except UnicodeEncodeError as error:  # a local file name may consist of any bytes
            raise ConfigError(f"{root}: the file name {error.object!r} is not UTF-8; rename the file") from error
        yield table
