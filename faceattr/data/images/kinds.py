"""The format of a file, recognised by its first bytes and never by its name."""

import re

from PIL import AvifImagePlugin

from faceattr.data.images.heif import HEIF_IS_READ
from faceattr.errors import ImageError

_SIGNATURES: tuple[tuple[str, str, bytes], ...] = (
    ("read", "JPEG", rb"\xff\xd8"),
    ("read", "PNG", rb"\x89PNG\r\n\x1a\n"),
    ("read", "WEBP", rb"RIFF....WEBP"),
    ("read", "GIF", rb"GIF8[79]a"),
    ("read", "BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    # TIFF structure, but the first image would be a thumbnail; NEF, ARW, DNG and others are recognised by their tags.
    ("unsupported", "camera raw", rb"II\x2a\0.{4}CR\x02|IIR[OS]\x08\0|MMOR\0|IIU\0|FUJIFILMCCD-RAW|FOVb|\0MRM"),
    ("unsupported", "camera raw", rb"II\x1a\0{3}HEAPCCDR|....ftypcrx "),
    ("read", "TIFF", rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),
    ("read", "AVIF", rb"....ftyp(avi[fs]|mif1.{4,40}avif)"),
    ("unsupported", "HEIF", rb"....ftyp(hei|hev|mif[12]|msf1|avc[is])"),
    ("unsupported", "JPEG 2000", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    ("unsupported", "JPEG XL", rb"\0\0\0\x0cJXL |\xff\x0a"),
    ("unsupported", "JPEG XR", rb"II\xbc[\0\x01]"),
    ("unsupported", "Photoshop or icon", rb"8BPS|\0\0[\x01\x02]\0|icns\0|gimp xcf"),
    ("unsupported", "Netpbm", rb"P[1-6]\s(\s|#[^\n]*\n)*\d+\s|P7\nWIDTH |P[Ff]\n\d+ "),
    ("unsupported", "OpenEXR or Radiance HDR", rb"\x76\x2f\x31\x01|#\?R(ADIANCE|GBE)"),
    (
        "unsupported",
        "DDS, QOI, BPG, FLIF, MNG or JNG",
        rb"DDS \x7c\0|qoif\0|BPG\xfb|FLIF[134ACDQSTacd][012]|\x8a[MJ]NG|\x8bJNG",
    ),
    (
        "unsupported",
        "PCX, SGI or Sun raster",
        rb"\n[\0\x02-\x05]\x01[\x01\x02\x04\x08]|\x01\xda[\0\x01]|\x59\xa6\x6a\x95",
    ),
    ("unsupported", "DCX, FLI, Pixar or IM raster", rb"\xb1\x68\xde\x3a|.{4}[\x11\x12]\xaf|\x80\xe8\0\0|Image type:"),
    ("unsupported", "BLP or FTEX texture of a game", rb"BLP[12]|FTEX|FTC\0"),
    ("unsupported", "FITS", rb"SIMPLE  ="),
    ("unsupported", "Encapsulated PostScript", rb"%!PS-Adobe-\d\.\d EPSF|\xc5\xd0\xd3\xc6"),
    ("unsupported", "X bitmap or X pixmap", rb"\s*#define[ \t]+\w+_width[ \t]+\d|/\* XPM \*/"),
    ("unsupported", "Microsoft Paint or XV thumbnail", rb"DanM|LinS|P7 332\n"),
    ("unsupported", "DIB, a BMP without its header", rb"\x28\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0"),
    ("unsupported", "Windows metafile", rb"\xd7\xcd\xc6\x9a|\x01\0{3}.{36} EMF"),
    ("not_an_image", "SVG", rb"(?i)(\xef\xbb\xbf)?\s*(<\?xml.*?|<!--.*?)?<(!doctype\s+)?svg\b"),
    ("not_an_image", "HTML", rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body|script)\b"),
    ("not_an_image", "XML", rb"(?i)(\xef\xbb\xbf)?\s*<[?!a-z]"),
    ("not_an_image", "MP4 or QuickTime video", rb"....ftyp"),
    ("not_an_image", "WebM, Matroska or AVI video", rb"\x1a\x45\xdf\xa3|RIFF....AVI "),
    ("not_an_image", "PDF", rb"%PDF"),
    ("not_an_image", "a zip or gzip archive", rb"PK(\x03\x04|\x05\x06)|\x1f\x8b"),
    ("not_an_image", "a Git LFS pointer", rb"version https://git-lfs"),
    ("not_an_image", "only zero bytes", rb"\0+\Z"),
    ("not_an_image", "text", rb"[\t\n\f\r\x20-\x7e\x80-\xff]+\Z"),
    ("not_an_image", "no format known here", rb""),
)


def announced_format(data: bytes) -> str:
    """Returns Pillow's name of the format that the first bytes announce.

    Raises:
        ImageError: `unsupported` or `not_an_image`, with what the bytes look like.
    """
    head = data[:512]
    verdict, name = next((verdict, name) for verdict, name, start in _SIGNATURES if re.match(start, head, re.DOTALL))
    if verdict == "not_an_image":
        raise ImageError(verdict, f"looks like {name}")
    if verdict == "unsupported" and name == "HEIF" and HEIF_IS_READ:
        return name
    if verdict == "unsupported" or (name == "AVIF" and not AvifImagePlugin.SUPPORTED):
        read = ", ".join(name for verdict, name, _ in _SIGNATURES if verdict == "read")
        hint = "; `pip install 'faceattr[heic]'` reads it" if name == "HEIF" else ""
        raise ImageError("unsupported", f"{name}; expected one of {read}{hint}")
    return name
