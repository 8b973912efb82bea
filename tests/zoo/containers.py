"""Every format that Pillow opens and this project does not, formats that neither reads, and what is no image at all."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Iterator

from tests.zoo.encoders import drawing, saved
from tests.zoo.kinds import Kind, reasons

_TEXT = b"not an image, however it is named\n"


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    return stream.getvalue()


def _cur() -> bytes:
    icon = saved(drawing(), "ICO", sizes=[(16, 16)])
    return icon[:2] + b"\2\0" + icon[4:]


def _psd() -> bytes:
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 2, 2, 8, 3) + bytes(12) + b"\0\0" + bytes(12)


# Written by Pillow, or the start of such a file by its specification: name -> (what, bytes, what the row must name).
_UNREAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a.jp2": ("JPEG 2000", lambda: saved(drawing(), "JPEG2000"), "JPEG 2000"),
    "a.j2k": ("JPEG 2000, code stream alone", lambda: saved(drawing(), "JPEG2000", no_jp2=True), "JPEG 2000"),
    "a.ico": ("icon", lambda: saved(drawing(), "ICO"), "icon"),
    "a.cur": ("cursor", _cur, "icon"),
    "a.icns": ("icons of a Mac", lambda: saved(drawing().resize((32, 32)), "ICNS"), "icon"),
    "a.psd": ("Photoshop", _psd, "Photoshop"),
    "a.ppm": ("Netpbm, colour", lambda: saved(drawing(), "PPM"), "Netpbm"),
    "a.pgm": ("Netpbm, gray", lambda: saved(drawing("L"), "PPM"), "Netpbm"),
    "a.pbm": ("Netpbm, one bit", lambda: saved(drawing("1"), "PPM"), "Netpbm"),
    "a.pfm": ("Netpbm, float", lambda: saved(drawing("F"), "PPM"), "Netpbm"),
    "a.qoi": ("QOI", lambda: saved(drawing(), "QOI"), "QOI"),
    "a.dds": ("DDS", lambda: saved(drawing(), "DDS"), "DDS"),
    "a.pcx": ("PCX", lambda: saved(drawing(), "PCX"), "PCX"),
    "a-dcx.jpg": ("DCX: pages of PCX", lambda: b"\xb1\x68\xde\x3a" + bytes(64), "DCX"),
    "a.sgi": ("SGI", lambda: saved(drawing(), "SGI"), "SGI"),
    "a.ras": ("Sun raster", lambda: b"\x59\xa6\x6a\x95" + bytes(64), "Sun"),
    "a.xbm": ("X bitmap", lambda: saved(drawing("1"), "XBM"), "X bitmap"),
    "a.xpm": ("X pixmap", lambda: b'/* XPM */\nstatic char *a[] = {\n"1 1 1 1",\n"  c #FF0000",\n" "};\n', "X pixmap"),
    "a-eps.jpg": ("EPS", lambda: saved(drawing(), "EPS"), "PostScript"),
    "a-fits.jpg": ("FITS", lambda: b"SIMPLE  =                    T".ljust(2880), "FITS"),
    "a-blp.jpg": ("BLP, a game's texture", lambda: saved(drawing("P"), "BLP"), "texture"),
    "a-ftex.jpg": ("FTEX, a game's texture", lambda: b"FTEX" + bytes(64), "texture"),
    "a-im.jpg": ("IM of IFUNC", lambda: saved(drawing(), "IM"), "IM"),
    "a-msp.jpg": ("Microsoft Paint", lambda: saved(drawing("1"), "MSP"), "Paint"),
    "a-fli.jpg": ("FLI animation", lambda: struct.pack("<IHHHHH", 128, 0xAF11, 1, 64, 32, 8) + bytes(116), "FLI"),
    "a-pixar.jpg": ("PIXAR raster", lambda: b"\x80\xe8\0\0" + bytes(1024), "Pixar"),
    "a-xv.jpg": ("XV thumbnail", lambda: b"P7 332\n#END_OF_COMMENTS\n8 4 255\n" + bytes(range(32)), "XV"),
    "a-dib.jpg": ("BMP without its file header", lambda: saved(drawing(), "DIB"), "DIB"),
    "a.exr": ("OpenEXR", lambda: b"\x76\x2f\x31\1\2\0\0\0" + bytes(64), "OpenEXR"),
    "a.hdr": ("Radiance HDR", lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 2\n", "Radiance"),
    "a.jxl": ("JPEG XL", lambda: b"\xff\x0a" + bytes(range(64)), "JPEG XL"),
    "a-box.jxl": ("JPEG XL in boxes", lambda: b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl ", "JPEG XL"),
    "a.jxr": ("JPEG XR", lambda: b"II\xbc\1\x08\0\0\0" + bytes(64), "JPEG XR"),
    "a.bpg": ("BPG", lambda: b"BPG\xfb" + bytes(64), "BPG"),
    "a.flif": ("FLIF", lambda: b"FLIF31" + bytes(64), "FLIF"),
    "a.mng": ("MNG", lambda: b"\x8aMNG\r\n\x1a\n" + bytes(64), "MNG"),
    "a.xcf": ("GIMP", lambda: b"gimp xcf v011\0" + bytes(64), "Photoshop or icon"),
    "a.wmf": ("Windows metafile", lambda: b"\xd7\xcd\xc6\x9a" + bytes(64), "metafile"),
    "a.emf": ("Windows metafile, enhanced", lambda: b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(64), "metafile"),
    "a.cr2": ("camera raw of Canon", lambda: b"II\x2a\0\x10\0\0\0CR\2\0" + bytes(64), "camera raw"),
    "a.cr3": ("camera raw of Canon, new", lambda: b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
    "a.orf": ("camera raw of Olympus", lambda: b"IIRO\x08\0" + bytes(64), "camera raw"),
    "a.rw2": ("camera raw of Panasonic", lambda: b"IIU\0\x18\0\0\0" + bytes(64), "camera raw"),
    "a.raf": ("camera raw of Fuji", lambda: b"FUJIFILMCCD-RAW 0201" + bytes(64), "camera raw"),
}
_NO_IMAGES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "svg.svg": ("SVG", lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "pdf.jpg": ("PDF", lambda: saved(drawing(), "PDF"), "PDF"),
    "html.jpg": ("a web page", lambda: b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    "error.jpg": ("the error of a store", lambda: b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
    "json.jpg": ("JSON", lambda: b'{"error": "not found"}', "text"),
    "mp4.jpg": ("video", lambda: b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "MP4"),
    "webm.jpg": ("video", lambda: b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01" + bytes(64), "WebM"),
    "zip.jpg": ("an archive", _zip, "zip"),
    "gzip.jpg": ("a compressed file", lambda: gzip.compress(_TEXT, mtime=0), "gzip"),
    "lfs.jpg": ("a Git LFS pointer", lambda: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "zeros.jpg": ("1,000 zero bytes", lambda: bytes(1000), "zero bytes"),
    "zero.jpg": ("one zero byte", lambda: b"\0", "zero bytes"),
    "text.jpg": ("text", lambda: _TEXT, "text"),
    "random.jpg": ("bytes of no format", lambda: bytes(range(1, 256)), "no format"),
}


def containers() -> Iterator[Kind]:
    """Images that are not read, and files that are none."""
    for name, (what, make, detail) in _UNREAD.items():
        yield Kind(name=f"unread-{name}", what=what, make=make, expected=reasons("unsupported"), detail=detail)
    for name, (what, make, detail) in _NO_IMAGES.items():
        yield Kind(name=f"none-{name}", what=what, make=make, expected=reasons("not_an_image"), detail=detail)
    yield Kind(name="none-empty.jpg", what="no bytes", make=lambda: b"", expected=reasons("empty"))
    marks = {"jpg": b"\xff\xd8", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "tif": b"II\x2a\0", "bmp": b"BM"}
    for extension, mark in marks.items():
        yield Kind(
            name=f"none-start.{extension}",
            what=f"the first {len(mark)} bytes of a {extension}, and no more",
            make=lambda mark=mark: mark,
            expected=reasons("not_an_image") if extension == "bmp" else reasons("truncated"),
        )
