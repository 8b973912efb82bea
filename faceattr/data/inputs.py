"""What a run is given to read: a prefix of images, a manifest that names them, or Parquet files that hold them.

Each becomes a stream of tables in `plan_schema`; no step holds more than a few thousand rows.
"""

import itertools
from collections.abc import Iterable, Iterator

import pyarrow as pa

from faceattr.data.addresses import resolve_address
from faceattr.data.image_input import ImageInput
from faceattr.data.manifests import TableInput
from faceattr.data.plan import plan_schema
from faceattr.data.storage import StorageOptions, join_uri, open_store, split_uri
from faceattr.data.store_types import ObjectInfo
from faceattr.data.text_tables import TEXT_ENDINGS
from faceattr.errors import ConfigError

IMAGE_EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"]
)
_BATCH_ROWS = 8_192
# How far a prefix is looked into to tell images from Parquet files.
_SNIFF_OBJECTS = 1_000


def open_input(
    images: str,
    *,
    root: str | None = None,
    storage: StorageOptions | None = None,
    reserved: Iterable[str] = (),
    bytes_column: str | None = None,
) -> ImageInput:
    """Looks at what `--images` names and opens it.

    Args:
        images: a prefix or folder, or a `.csv`, `.tsv` (also `.gz`) or `.parquet` file.
        root: what relative manifest paths resolve against; by default the manifest's own folder.
        storage: how to reach it.
        reserved: names of the output's own columns; a carried column of that name becomes `given_<name>`.
        bytes_column: name of the column with encoded images, if it is not one of manifests.BYTES_COLUMNS.

    Raises:
        ConfigError: nothing usable is there.
    """
    images = resolve_address(images, "--images")
    root = None if root is None else resolve_address(root, "--root")
    storage = storage or StorageOptions()
    tables = TableInput(root=root, storage=storage, reserved=frozenset(reserved), bytes_column=bytes_column)
    folder, name = split_uri(images)
    if name.lower().endswith((*TEXT_ENDINGS, ".parquet")) and not _holds_objects(
        images, storage
    ):  # Spark's are folders
        return (
            tables.open_parquet(folder, [name]) if name.lower().endswith(".parquet") else tables.open_csv(folder, name)
        )
    store = open_store(images, storage)
    listing = store.list()
    head = list(itertools.islice(listing, _SNIFF_OBJECTS))
    if not head and _is_image(name):
        store = open_store(folder, storage)
        head = [entry for entry in store.list(name) if entry.key == name]
    if any(_is_image(entry.key) for entry in head):
        rows = _prefix_tables(itertools.chain(head, listing), store.uri)
        return ImageInput(kind="prefix", root=store.uri, carried=pa.schema([]), tables=rows)
    names = sorted(entry.key for entry in itertools.chain(head, listing) if entry.key.lower().endswith(".parquet"))
    if names:
        return tables.open_parquet(store.uri, names)
    endings = ", ".join(sorted({_extension(entry.key) or "no extension" for entry in head}))
    found = f"the first {len(head)} objects end in {endings}" if head else "the place is empty or does not exist"
    raise ConfigError(
        f"--images {images}: found no image ({', '.join(sorted(IMAGE_EXTENSIONS))}) and no .parquet file; {found}"
    )


def _holds_objects(uri: str, storage: StorageOptions) -> bool:
    return next(iter(open_store(uri, storage).list()), None) is not None


def _extension(key: str) -> str:
    stem, dot, extension = key.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if dot and stem else ""


def _is_image(key: str) -> bool:
    return _extension(key) in IMAGE_EXTENSIONS


def _prefix_tables(listing: Iterable[ObjectInfo], root: str) -> Iterator[pa.Table]:
    images = (entry for entry in listing if _is_image(entry.key))
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
        except UnicodeEncodeError as error:  # a local file name may be any bytes
            raise ConfigError(f"{root}: the file name {error.object!r} is not UTF-8; rename the file") from error
        yield table
