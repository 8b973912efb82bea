"""HEIF, the photos of phones (.heic): read by pillow-heif, which the extra `heic` brings."""

try:
    import pillow_heif
except ImportError:
    pillow_heif = None  # type: ignore[assignment]

HEIF_IS_READ = pillow_heif is not None
"""Whether the extra is installed."""


def register_heif() -> None:
    """Makes Pillow read HEIF."""
    pillow_heif.options.DECODE_THREADS = 1  # a decoding process has one core
    pillow_heif.register_heif_opener()


def is_cut_heif(data: bytes) -> bool:
    """Whether the file ends inside a box behind its index, `meta`.

    A file is a row of boxes: 4 bytes size, 4 bytes type, content; of size 1 the size follows in 8 bytes, of size 0 it
    goes to the end (ISO/IEC 14496-12, 4.2). libheif says of a cut file no more than of one that it does not know.
    """
    position, has_index = 0, False
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:
            return False
        position += size
        has_index |= kind == b"meta" and position <= len(data)
    return has_index and position != len(data)
