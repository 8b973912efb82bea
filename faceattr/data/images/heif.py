"""HEIF, the photo format of phones (.heic), read by pillow-heif, which the extra `heic` installs."""

try:
    import pillow_heif
except ImportError:
    pillow_heif = None  # type: ignore[assignment]

HEIF_IS_READ = pillow_heif is not None
"""Whether the extra is installed."""


def register_heif() -> None:
    """Registers HEIF with Pillow."""
    pillow_heif.options.DECODE_THREADS = 1  # a decoding process has one core
    pillow_heif.register_heif_opener()


def is_cut_heif(data: bytes) -> bool:
    """Whether the file ends inside a box after its index, `meta`.

    A file is a sequence of boxes: 4 bytes size, 4 bytes type, content; with size 1 the size follows in 8 bytes, with
    size 0 the box extends to the end (ISO/IEC 14496-12, 4.2). libheif's error for a truncated file is the same as for
    an unknown one.
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
