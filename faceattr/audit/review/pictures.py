"""Pictures of an audit's items for a browser: read where the images are, decoded as for labelling, sent as JPEG.

The pipeline's own decoder makes the pixels, so that a reviewer judges what the model saw: upright by EXIF, the first
frame, transparency over white, and any format that labelling reads, also one that browsers cannot show. The bytes of
the file itself, which are untrusted, never reach the browser.
"""

import io

from PIL import Image

from faceattr.audit.folder import Sample
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decoder import process_decoder
from faceattr.data.inputs.image_column import ImageColumn
from faceattr.data.inputs.object_reader import ObjectReader
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, ImageError

# The longer side of a picture that is sent: four times that of the stage on a laptop, for zooming.
MAX_SIDE_PX = 2_048
# Little loss, with full colour resolution: what the model saw should be what is judged.
_JPEG = {"quality": 95, "subsampling": 0}


class ItemPictures:
    """The pictures of one audit; thread-safe.

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
        self._column = sample.audit.bytes_column
        self._folder = folder
        self._storage = storage
        self._limits = limits
        self._reader = ObjectReader(open_store(sample.audit.root, storage), limits)
        if self._column is None and any(row["source_row"] is not None and not row["copy"] for row in self._rows):
            raise ConfigError(f"{folder.uri}: images are rows of Parquet files, and audit.json names no bytes_column")

    def load(self, item: int) -> bytes:
        """Returns the picture of an item as JPEG, upright, with at most `MAX_SIDE_PX` on its longer side.

        Raises:
            ImageError: the image cannot be used; the reason is one of `faceattr.data.images.decode.REASONS`.
            RunError: a Parquet file with images is damaged, or the decoder cannot be started.
            StorageError: the store does not answer; nothing is known about the image.
        """
        found = self._read(item)
        if isinstance(found, ImageError):
            raise found
        picture = Image.fromarray(process_decoder(self._limits).decode(found))
        picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", **_JPEG)
        return encoded.getvalue()

    def _read(self, item: int) -> bytes | ImageError:
        row = self._rows[item]
        if row["copy"]:
            try:
                return self._folder.get(row["copy"])
            except MissingObjectError:
                return ImageError("missing", f"the audit folder has no {row['copy']}")
        if row["source_row"] is not None:
            assert self._column is not None
            column = ImageColumn(uri=row["uri"], name=self._column, storage=self._storage)
            return next(column.read([row["source_row"]], self._limits), ImageError("missing", "there is no such row"))
        return self._reader.read(row["uri"], self._uris)
