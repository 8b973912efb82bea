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
