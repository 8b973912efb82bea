"""The stages of the pack tasks: first hash the images, then encode them into rows."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decode import Pixels
from faceattr.data.images.decoder import process_decoder
from faceattr.data.images.face_view import FaceView
from faceattr.data.images.perceptual_hash import hash_picture
from faceattr.data.packed.copies.near import HASH_FIELD
from faceattr.data.runs.commit import OK
from faceattr.data.sources.gather import ImagePlace
from faceattr.errors import ImageError
from faceattr.inference.detect import Face
from faceattr.inference.faces import face_columns, view_each
from faceattr.jobs.images.read import ReadImages

# Statuses in addition to `faceattr.data.images.decode.REASONS`.
CHANGED = "changed"
LATE = "late"
_CHANGED_TEXT = "its bytes have changed since its labels and its split were made; label or pack it again"
_LATE_TEXT = "it could be read only after the splits were drawn, so a copy may be in another; pack into a new folder"
_DECODE_IMAGES = 16


@dataclass(frozen=True)
class ReadPlaces:
    """Plan rows -> the same with `data`, `sha256` (of the bytes now), `status` and `error`, in another order."""

    places: tuple[ImagePlace, ...]
    storage: StorageConfig
    limits: ImageLimitsConfig

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Reads rows; yields tables with a few MB of images. Raises StorageError on an outage."""
        for number in pc.unique(rows["place"]).to_pylist():
            place = self.places[number]
            read = ReadImages(place.root, self.storage, self.limits, place.bytes_column)
            yield from read(rows.filter(pc.equal(rows["place"], number)))


@dataclass(frozen=True)
class HashImages:
    """Rows, some without a hash -> the same with sha256, num_bytes, status and error; bytes are released at once.

    If the schema has the column of `HASH_FIELD`, all images are read and decoded for it; an image that cannot be
    decoded stays `ok` here, without a perceptual hash: its packing says what is wrong with it.
    """

    read: ReadPlaces
    timeout_s: float
    schema: pa.Schema

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Reads the rows without a hash; a row with one is `ok` unread."""
        if HASH_FIELD.name in self.schema.names:
            yield from self._hash_pictures(rows)
            return
        known = rows.filter(pc.is_valid(rows["sha256"]))
        known = known.append_column("status", pa.repeat(OK, len(known)))
        known = known.append_column("error", pa.nulls(len(known), pa.string()))
        unknown = rows.filter(pc.is_null(rows["sha256"])).drop_columns(["sha256"])
        yield known.select(self.schema.names).cast(self.schema)
        for found in self.read(unknown):
            hashed = _with_sizes(found).drop_columns(["data"])
            yield hashed.select(self.schema.names).cast(self.schema)

    def _hash_pictures(self, rows: pa.Table) -> Iterator[pa.Table]:
        known = dict(zip(rows["row"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
        decoder = process_decoder(self.read.limits, deadline_s=self.timeout_s)
        for found in self.read(rows.drop_columns(["sha256"])):
            # The sha256 of a label run is kept: packing compares it with the bytes, and refuses changed ones.
            contents = [
                known[row] or sha256
                for row, sha256 in zip(found["row"].to_pylist(), found["sha256"].to_pylist(), strict=True)
            ]
            hashes: list[bytes | None] = [None] * len(found)
            good = np.flatnonzero(pc.equal(found["status"], OK).to_numpy())
            for start in range(0, len(good), _DECODE_IMAGES):
                places = good[start : start + _DECODE_IMAGES].tolist()
                encoded = [found["data"][place].as_py() for place in places]
                for place, decoded in zip(places, decoder.decode_each(encoded), strict=True):
                    hashes[place] = None if isinstance(decoded, ImageError) else hash_picture(decoded)
            hashed = _with_sizes(found).drop_columns(["data", "sha256"])
            hashed = hashed.append_column("sha256", pa.array(contents, pa.string()))
            hashed = hashed.append_column(HASH_FIELD, pa.array(hashes, HASH_FIELD.type))
            yield hashed.select(self.schema.names).cast(self.schema)


def _with_sizes(found: pa.Table) -> pa.Table:
    sizes = pc.binary_length(found["data"]).cast(pa.int64())
    return found.drop_columns(["num_bytes"]).append_column("num_bytes", sizes)


@dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Attributes:
        short_side_px: longest short side; None keeps the size.
        quality: JPEG quality; None keeps the bytes as they are.
    """

    short_side_px: int | None = None
    quality: int | None = None

    def encode(self, pixels: Pixels, data: bytes) -> tuple[bytes, tuple[int, int]]:
        """Returns the image as it is stored, and its (width, height) in pixels.

        Args:
            pixels: uint8 [H, W, 3], upright.
            data: the encoded bytes as read.
        """
        if self.quality is None:
            return data, (pixels.shape[1], pixels.shape[0])
        image = Image.fromarray(pixels)
        if self.short_side_px is not None and min(image.size) > self.short_side_px:
            image = image.resize(self._size(image.size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        # No chroma subsampling: at face size it costs few bytes and keeps the colour of small details.
        image.save(buffer, "JPEG", quality=self.quality, subsampling="4:4:4", optimize=True)
        return buffer.getvalue(), image.size

    def _size(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = (self.short_side_px or 0) / min(size)
        width, height = (max(1, round(side * scale)) for side in size)
        return width, height


@dataclass(frozen=True)
class PackImages:
    """Plan rows of a packed run -> its rows. Images are decoded once here, so that training finds no broken one."""

    read: ReadPlaces
    timeout_s: float
    encoding: Encoding
    schema: pa.Schema
    faces: FaceView | None = None

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Reads, checks, crops if asked and encodes rows; yields them in another order."""
        planned = dict(zip(rows["row"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
        for found in self.read(rows.drop_columns(["sha256"])):
            yield self._pack(found, planned)

    def _pack(self, found: pa.Table, planned: Mapping[int, str | None]) -> pa.Table:
        status, error = found["status"].to_pylist(), found["error"].to_pylist()
        contents = found["sha256"].to_pylist()
        for place, row in enumerate(found["row"].to_pylist()):
            if status[place] == OK and contents[place] != planned[row]:
                late = planned[row] is None
                status[place], error[place] = (LATE, _LATE_TEXT) if late else (CHANGED, _CHANGED_TEXT)
        images: list[bytes | None] = [None] * len(found)
        sizes: list[tuple[int | None, int | None]] = [(None, None)] * len(found)
        found_faces: list[Face | None] = [None] * len(found)
        decoder = process_decoder(self.read.limits, deadline_s=self.timeout_s)
        good = [place for place, value in enumerate(status) if value == OK]
        for start in range(0, len(good), _DECODE_IMAGES):
            places = good[start : start + _DECODE_IMAGES]
            encoded = [found["data"][place].as_py() for place in places]
            views = view_each(decoder.decode_each(encoded), self.faces)
            for place, data, (_, seen) in zip(places, encoded, views, strict=True):
                if isinstance(seen, ImageError):
                    status[place], error[place] = seen.reason, seen.detail
                    continue
                found_faces[place] = seen.face
                images[place], sizes[place] = self.encoding.encode(seen.pixels, data)
        return self._table(found, images, sizes, found_faces, status=status, error=error)

    def _table(
        self,
        found: pa.Table,
        images: Sequence[bytes | None],
        sizes: Sequence[tuple[int | None, int | None]],
        faces: Sequence[Face | None],
        *,
        status: Sequence[str],
        error: Sequence[str | None],
    ) -> pa.Table:
        made = {
            "image": pa.array(images, pa.binary()),
            "width_px": pa.array([width for width, _ in sizes], pa.int32()),
            "height_px": pa.array([height for _, height in sizes], pa.int32()),
            "status": pa.array(status),
            "error": pa.array(error, pa.string()),
            **face_columns(faces),
        }
        columns = [made[name] if name in made else found[name] for name in self.schema.names]
        return pa.table(columns, schema=self.schema)


def mean_bytes(rows: pa.Table) -> float:
    """Returns the mean size in bytes of the images in packed rows; 0 if there is none."""
    sizes = pc.binary_length(rows["image"]).drop_null().to_numpy()
    return float(np.mean(sizes)) if len(sizes) else 0.0
