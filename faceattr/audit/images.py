"""The images of an audit's items: read where they are, or copied into the audit folder.

A copy is `images/<row of the table>.<format>`, the image's own bytes. The name says nothing of the image, so that a
reviewer who sees it is told nothing; one copy serves all attributes.
"""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from faceattr.audit.folder import SAMPLE_SCHEMA, Sample
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.kinds import announced_format
from faceattr.data.inputs.folder_files import is_tar_name
from faceattr.data.inputs.run_images import RunImages
from faceattr.data.runs.commit import read_ahead
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, ImageError

_FOLDER = "images"
_ENDINGS = {"JPEG": "jpg", "HEIF": "heic"}
_NO_IMAGE = "bin"


class ItemImages:
    """The encoded images of one audit; thread-safe.

    If the images were copied, those without a copy could not be read at the time, and the store that they came from is
    not asked again.

    Args:
        sample: the audit.
        folder: its folder, which contains copies of the images if the sample says so.
        storage: how the images are reached.
        limits: bounds of one image.

    Raises:
        ConfigError: images are rows of Parquet files, and the audit does not say in which column.
    """

    def __init__(self, sample: Sample, folder: Store, storage: StorageConfig, limits: ImageLimitsConfig) -> None:
        self._rows = sample.items.select(["uri", "source_row", "copy"]).to_pylist()
        self._uris = [row["uri"] for row in self._rows]
        self._folder = folder
        self._are_copied = sample.has_copies
        self._images = RunImages(sample.audit.root, sample.audit.bytes_column, storage, limits)
        in_files = any(row["source_row"] is not None and not is_tar_name(row["uri"]) for row in self._rows)
        if in_files and not self._are_copied and sample.audit.bytes_column is None:
            raise ConfigError(f"{folder.uri}: images are rows of Parquet files, and audit.json names no bytes_column")

    def read(self, item: int) -> bytes | ImageError:
        """Returns the encoded image of an item, or why it cannot be used.

        Raises:
            RunError: a Parquet file with images is damaged.
            StorageError: the store does not answer; nothing is known about the image.
        """
        row = self._rows[item]
        if not self._are_copied:
            return self._images.read(row["uri"], row["source_row"], self._uris)
        if row["copy"] is None:
            return ImageError("missing", "it could not be read when the audit's images were copied")
        try:
            return self._folder.get(row["copy"])
        except MissingObjectError:
            return ImageError("missing", f"the audit folder has no {row['copy']}")


def copy_images(
    sample: Sample, folder: Store, storage: StorageConfig, limits: ImageLimitsConfig
) -> tuple[Sample, Mapping[str, int]]:
    """Copies the images of all items into the audit folder, each once.

    Args:
        sample: the audit, without copies.
        folder: its folder.
        storage: how the images are reached.
        limits: bounds of one image.

    Returns:
        The audit with the keys of the copies, and reason -> number of images that could not be read.

    Raises:
        ConfigError, RunError, StorageError: see `ItemImages`.
    """
    images = ItemImages(sample, folder, storage, limits)
    rows = sample.items["row"].to_pylist()
    first = {row: item for item, row in reversed(list(enumerate(rows)))}
    # In the order of the files, since those with many images are read through.
    places = zip(sample.items["uri"].to_pylist(), sample.items["source_row"].fill_null(0).to_pylist(), strict=True)
    order = dict(enumerate(places))
    keys: dict[int, str] = {}
    unread = Counter[str]()

    def copy(item: int) -> str | ImageError:
        data = images.read(item)
        if isinstance(data, ImageError):
            return data
        key = f"{_FOLDER}/{rows[item]:09d}.{_ending_of(data)}"
        folder.put(key, data)
        return key

    for item, found in read_ahead(copy, sorted(first.values(), key=order.__getitem__)):
        if isinstance(found, ImageError):
            unread[found.reason] += 1
        else:
            keys[rows[item]] = found
    place = SAMPLE_SCHEMA.get_field_index("copy")
    items = sample.items.set_column(place, SAMPLE_SCHEMA.field(place), pa.array(map(keys.get, rows), pa.string()))
    return Sample(audit=sample.audit, items=items, scores=sample.scores), dict(unread)


def _ending_of(data: bytes) -> str:
    try:
        announced = announced_format(data)
    except ImageError:
        return _NO_IMAGE
    return _ENDINGS.get(announced, announced.lower())
