"""A published label run as a folder that `datasets.load_dataset` reads.

    README.md                   the card, whose header names the files
    data/train-00000.parquet    all rows, with the columns of the label table; further files from 500 MB on

Labels of classes are int64 with their names (`ClassLabel`), binary ones `no` and `yes`; null is unknown. `image` is
there only if it is asked for: the upright pixels as JPEG, without EXIF and all other metadata. An address on a machine
(`uri` of a local file) is left out, since nobody else can use it.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from faceattr.attributes import Attribute
from faceattr.config import DecodeConfig, StorageConfig
from faceattr.data.exports import read_label_record, read_run_tables, select_run_attributes
from faceattr.data.formats.json_text import encode_json
from faceattr.data.images.decoder import process_decoder
from faceattr.data.inputs.run_images import RunImages
from faceattr.data.row_filter import RowFilter
from faceattr.data.runs.commit import OK, read_ahead
from faceattr.data.runs.run_attributes import read_run_attributes
from faceattr.data.runs.version import RunRecord
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError, ImageError

_FILE_BYTES = 500 * 2**20
_DECODE_IMAGES = 16
# As the images of a packed run that are encoded again: no chroma subsampling, which blurs small coloured details.
_QUALITY = 95
_IMAGE = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_OF_ATTRIBUTE = ("", "_score", "_mass", "_agreement")
_LOCAL = ("uri",)


@dataclass(frozen=True, kw_only=True)
class LabelDataset:
    """What was written.

    Attributes:
        record: the run.
        attributes: its attributes that the table has, by name.
        columns: the columns.
        num_rows: number of rows.
        num_images: number of images in them.
        files: the files below the folder, in order.
    """

    record: RunRecord
    attributes: Mapping[str, Attribute]
    columns: tuple[str, ...]
    num_rows: int
    num_images: int
    files: tuple[str, ...]


def write_label_dataset(
    store: Store,
    folder: Path,
    *,
    names: Sequence[str] = (),
    where: RowFilter | None = None,
    limit: int | None = None,
    images: tuple[RunImages, DecodeConfig] | None = None,
    verify: bool = True,
) -> LabelDataset:
    """Writes the table of a published label or prediction run, without the card.

    Args:
        store: the run folder.
        folder: where to write; it must not exist, or be empty.
        names: attributes to write; empty for all.
        where: which rows; None for all.
        limit: most rows; None for all.
        images: reads the images, and the limits of decoding one; None leaves them out.
        verify: see `read_published`.

    Raises:
        ConfigError: this is no published label run, or something is in the folder.
        StorageError: images cannot be read now.
    """
    record = read_label_record(store)
    attributes = select_run_attributes(record, names)
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: expected a folder that is empty or does not exist yet; choose another")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    left_out = {
        f"{name}{suffix}" for name in read_run_attributes(record) if name not in attributes for suffix in _OF_ATTRIBUTE
    }
    if "://" not in str(record.source["root"]):
        left_out |= set(_LOCAL)
    num_rows = num_images = 0
    columns: tuple[str, ...] = ()
    with _Files(folder / "data") as files:
        for table in read_run_tables(store, None, where=where, limit=limit, verify=verify):
            written = table.select([name for name in table.column_names if name not in left_out])
            if images is not None:
                column = pa.array(_read_images(*images, table), _IMAGE.type)
                num_images += len(column) - column.null_count
                written = written.append_column(_IMAGE, column)
            written = _with_features(written, attributes)
            files.write(written)
            num_rows += len(written)
            columns = tuple(written.column_names)
    return LabelDataset(
        record=record,
        attributes=attributes,
        columns=columns,
        num_rows=num_rows,
        num_images=num_images,
        files=tuple(f"data/{name}" for name in files.names),
    )


def open_run_images(store: Store, storage: StorageConfig) -> tuple[RunImages, DecodeConfig]:
    """Returns what reads the images of a run, and the limits of decoding one.

    Raises:
        ConfigError: this is no label run, or its images are rows of Parquet files.
    """
    source, limits = read_label_record(store).source, DecodeConfig()
    if source.get("bytes_column") is not None:
        raise ConfigError(
            f"{store.uri}: its images are in the column {source['bytes_column']!r} of Parquet files, which are a data "
            "set with images already; leave --images out"
        )
    return RunImages(source["root"], None, storage, limits), limits


def _read_images(images: RunImages, limits: DecodeConfig, table: pa.Table) -> list[dict[str, Any] | None]:
    """Returns the image of every row; None for rejected rows, and for an image that cannot be used any more."""
    rows = table.select(["image_id", "uri", "status"]).to_pylist()
    uris = [row["uri"] for row in rows]

    def read(place: int) -> bytes | ImageError:
        return images.read(uris[place], None, uris)

    usable = [place for place, row in enumerate(rows) if row["status"] == OK]
    encoded = {place: data for place, data in read_ahead(read, usable) if not isinstance(data, ImageError)}
    found: list[dict[str, Any] | None] = [None] * len(rows)
    decoder = process_decoder(limits, deadline_s=limits.timeout_s)
    places = list(encoded)
    for start in range(0, len(places), _DECODE_IMAGES):
        batch = places[start : start + _DECODE_IMAGES]
        for place, decoded in zip(batch, decoder.decode_each([encoded[each] for each in batch]), strict=True):
            if not isinstance(decoded, ImageError):
                buffer = io.BytesIO()
                Image.fromarray(decoded).save(buffer, "JPEG", quality=_QUALITY, subsampling="4:4:4", optimize=True)
                name = Path(rows[place]["image_id"]).with_suffix(".jpg").name
                found[place] = {"bytes": buffer.getvalue(), "path": name}
    return found


def _with_features(table: pa.Table, attributes: Mapping[str, Attribute]) -> pa.Table:
    """Returns the table with the types and the metadata by which `datasets` knows classes and images."""
    fields, features = [], {}
    for field in table.schema:
        attribute = attributes.get(field.name)
        if attribute is not None and (attribute.is_yes_no or attribute.has_class_scores):
            names = ["no", "yes"] if attribute.is_yes_no else list(attribute.classes)
            features[field.name] = {"names": names, "_type": "ClassLabel"}
            fields.append(pa.field(field.name, pa.int64()))
        else:
            features[field.name] = _describe_type(field.type)
            fields.append(field.remove_metadata())
    metadata = {"huggingface": encode_json({"info": {"features": features}})}
    return table.cast(pa.schema(fields, metadata=metadata))


def _describe_type(kind: pa.DataType) -> dict[str, Any]:
    """Returns a type as `datasets` writes it."""
    if kind == _IMAGE.type:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _describe_type(kind.value_type), "_type": "List"}
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.float16(): "float16"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}


class _Files:
    """Writes tables into files of limited size."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: pq.ParquetWriter | None = None
        self._num_bytes = 0
        self.names: list[str] = []

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def write(self, table: pa.Table) -> None:
        """Writes a table; into a new file if the one before is full."""
        if self._writer is None or self._num_bytes > _FILE_BYTES:
            self._close()
            self.names.append(f"train-{len(self.names):05d}.parquet")
            self._writer = pq.ParquetWriter(self._folder / self.names[-1], table.schema, compression="zstd")
            self._num_bytes = 0
        self._writer.write_table(table)
        self._num_bytes += table.nbytes

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
