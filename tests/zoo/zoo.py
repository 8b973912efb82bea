"""All kinds of the zoo."""

from collections.abc import Iterator

from tests.zoo.bombs import metadata, sizes, structures
from tests.zoo.containers import containers
from tests.zoo.cuts import cuts
from tests.zoo.depths import bmp_depths, png_depths, png_transparency, tiff_depths
from tests.zoo.kinds import Kind
from tests.zoo.others import apng, gifs, heifs, jpegs, webps_and_avifs, wrong_names
from tests.zoo.upright import orientations

FAMILIES = {
    "Every depth of PNG": (png_depths, png_transparency, apng),
    "TIFF": (tiff_depths,),
    "BMP": (bmp_depths,),
    "JPEG": (jpegs,),
    "WebP, AVIF, HEIF, GIF": (webps_and_avifs, heifs, gifs),
    "EXIF orientation": (orientations,),
    "Wrong names": (wrong_names,),
    "Cut files": (cuts,),
    "What is not read": (containers,),
    "Bombs": (sizes, structures),
    "Metadata": (metadata,),
}


def kinds_of(family: str) -> Iterator[Kind]:
    """Every kind of a family, in the order of the table."""
    for part in FAMILIES[family]:
        yield from part()
