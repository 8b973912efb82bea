"""Images in tar files, read by ranged reads; those that follow each other in one read.

A row names the byte of its member's header (`source_row`). The header is read with the image and must be that of a
member of this size, so that a tar file that was replaced since it was listed gives an error and no other image.
"""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.formats.tar_headers import BLOCK_BYTES, decode_header
from faceattr.data.images.decode import describe_too_large
from faceattr.data.stores.bounded_reads import read_within
from faceattr.data.stores.ranged import read_range
from faceattr.errors import ImageError, RunError

# Fetched where the size of a member is not known; a larger image takes a second read.
_FIRST_BYTES = 256 * 2**10
# Members that are read together: the bytes between two of them are at most texts of the sample.
_MOST_GAP_BYTES = 64 * 2**10
_MOST_READ_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberPlace:
    """Where a member is.

    Attributes:
        offset: byte of its header in the tar file.
        num_bytes: size of its data; None if it is not known.
    """

    offset: int
    num_bytes: int | None

    @property
    def end(self) -> int:
        """The byte after its data; of its header, if the size is not known."""
        return self.offset + BLOCK_BYTES + (self.num_bytes or 0)


@dataclass(frozen=True, kw_only=True)
class TarFile:
    """A tar file with images.

    Attributes:
        uri: its address.
        storage: how it is reached.
        etag: its ETag when it was listed; None if that is not known.
    """

    uri: str
    storage: StorageConfig
    etag: str | None = None

    def read(self, members: Iterable[MemberPlace], limits: ImageLimitsConfig) -> list[bytes | ImageError]:
        """Returns images, in order; of those whose size is known, one read fetches all.

        Args:
            members: ascending.
            limits: bounds of an encoded image.

        Raises:
            RunError: the file has no such member (any more).
            StorageError: it cannot be read.
        """
        places = list(members)
        if len(places) == 1 and places[0].num_bytes is None:
            return [self._read_unknown(places[0], limits)]
        start = places[0].offset
        data = self._range(start, places[-1].end - start)
        found: list[bytes | ImageError] = []
        for place in places:
            self._check(place, data[place.offset - start :][:BLOCK_BYTES])
            image = data[place.offset - start + BLOCK_BYTES : place.end - start]
            if len(image) != place.num_bytes:
                raise self._changed(place)
            found.append(image)
        return found

    def _read_unknown(self, place: MemberPlace, limits: ImageLimitsConfig) -> bytes | ImageError:
        head = self._range(place.offset, BLOCK_BYTES + _FIRST_BYTES)
        num_bytes = self._check(place, head[:BLOCK_BYTES])
        if num_bytes > limits.max_bytes:
            return describe_too_large(num_bytes, limits)
        if num_bytes <= len(head) - BLOCK_BYTES:
            return head[BLOCK_BYTES:][:num_bytes]
        (image,) = self.read([MemberPlace(offset=place.offset, num_bytes=num_bytes)], limits)
        return image

    def _range(self, start: int, num_bytes: int) -> bytes:
        found = read_range(self.uri, start, num_bytes, self.storage)
        if found.etag is not None and self.etag not in (None, found.etag):
            raise RunError(f"{self.uri} was replaced since the run listed it. Put it back, or begin a new run")
        return found.data

    def _check(self, place: MemberPlace, header: bytes) -> int:
        """Returns the size of the member that the header describes."""
        try:
            member = decode_header(header)
        except tarfile.HeaderError as error:
            raise self._changed(place) from error
        # A header cannot hold 8 GiB in octal digits; pax then has the size, but no image is as large.
        if not member.isreg() or place.num_bytes not in (None, member.size):
            raise self._changed(place)
        return member.size

    def _changed(self, place: MemberPlace) -> RunError:
        size = "" if place.num_bytes is None else f" of {place.num_bytes:,} bytes"
        return RunError(
            f"{self.uri}: at byte {place.offset:,} there is no member{size}; the tar file was changed since the run "
            "listed it. Put it back, or begin a new run"
        )


def read_tar_rows(
    rows: Iterable[dict[str, Any]], storage: StorageConfig, limits: ImageLimitsConfig, *, room_bytes: int
) -> Iterator[bytes | ImageError]:
    """Yields the images of rows in order; a few threads read.

    Args:
        rows: with `uri`, `source_row`, `num_bytes` and perhaps `etag`, sorted by the first two.
        storage: how the tar files are reached.
        limits: bounds of an encoded image; a larger one is not fetched.
        room_bytes: memory limit of the images that are being read.

    Raises:
        RunError, StorageError: see `TarFile.read`.
    """

    def read(span: list[dict[str, Any]], _: int | None) -> list[bytes | ImageError]:
        first = span[0]
        if (first["num_bytes"] or 0) > limits.max_bytes:
            return [describe_too_large(first["num_bytes"], limits)]
        places = [MemberPlace(offset=row["source_row"], num_bytes=row["num_bytes"]) for row in span]
        return TarFile(uri=first["uri"], storage=storage, etag=first.get("etag")).read(places, limits)

    spans = ((span, _span_bytes(span, limits)) for span in _cut(rows, limits))
    for found in read_within(read, spans, room_bytes=room_bytes, size_of=_sizes):
        yield from found


def _cut(rows: Iterable[dict[str, Any]], limits: ImageLimitsConfig) -> Iterator[list[dict[str, Any]]]:
    """Yields rows that one read fetches."""
    span: list[dict[str, Any]] = []
    for row in rows:
        if span and not _follows(span, row, limits):
            yield span
            span = []
        span.append(row)
    if span:
        yield span


def _follows(span: list[dict[str, Any]], row: dict[str, Any], limits: ImageLimitsConfig) -> bool:
    first, last = span[0], span[-1]
    if row["uri"] != last["uri"] or None in (row["num_bytes"], last["num_bytes"]):
        return False
    if max(row["num_bytes"], last["num_bytes"]) > limits.max_bytes:
        return False
    gap = row["source_row"] - last["source_row"] - last["num_bytes"]
    return bool(
        gap <= _MOST_GAP_BYTES and row["source_row"] + row["num_bytes"] - first["source_row"] <= _MOST_READ_BYTES
    )


def _span_bytes(span: list[dict[str, Any]], limits: ImageLimitsConfig) -> int | None:
    if span[0]["num_bytes"] is None:
        return None
    if span[0]["num_bytes"] > limits.max_bytes:
        return 0
    return int(span[-1]["source_row"] + span[-1]["num_bytes"] - span[0]["source_row"])


def _sizes(found: list[bytes | ImageError]) -> int:
    return sum(len(each) for each in found if isinstance(each, bytes))
