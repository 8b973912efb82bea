"""Pictures of an audit's items for a browser: read where the images are, decoded as for labelling, sent as JPEG.

The pipeline's own decoder makes the pixels, so that a reviewer judges what the model saw: upright by EXIF, the first
frame, transparency over white, and any format that labelling reads, also one that browsers cannot show. The bytes of
the file itself, which are untrusted, never reach the browser.
"""

import io

from PIL import Image

from faceattr.audit.folder import Sample
from faceattr.audit.images import ItemImages
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decoder import process_decoder
from faceattr.data.stores.store import Store
from faceattr.errors import ImageError

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
        self._images = ItemImages(sample, folder, storage, limits)
        self._limits = limits

    def load(self, item: int) -> bytes:
        """Returns the picture of an item as JPEG, upright, with at most `MAX_SIDE_PX` on its longer side.

        Raises:
            ImageError: the image cannot be used; the reason is one of `faceattr.data.images.decode.REASONS`.
            RunError: a Parquet file with images is damaged, or the decoder cannot be started.
            StorageError: the store does not answer; nothing is known about the image.
        """
        found = self._images.read(item)
        if isinstance(found, ImageError):
            raise found
        picture = Image.fromarray(process_decoder(self._limits).decode(found))
        picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", **_JPEG)
        return encoded.getvalue()
