"""Every kind of image file through a run's own listing, reading and decoding: the right pixels, or the right reason."""

import csv
import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from tests.documents import ROOT
from tests.zoo.encoders import RGB, png
from tests.zoo.kinds import HEIGHT, WIDTH, Kind, Picture, quadrants
from tests.zoo.names import BACKSLASH, CONTROL_NAMES, NAMES
from tests.zoo.outcome import POINTS, Outcome, decoder_peak_bytes, forget_peak, read_folder
from tests.zoo.table import write_page
from tests.zoo.zoo import FAMILIES, kinds_of

pytestmark = pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
MOST_BYTES = 512 * 2**20
# libwebp composes a frame twice beside the one that it gives, of four bytes a pixel.
MOST_BYTES_WEBP = 850 * 2**20


def fault_of(kind: Kind, found: Outcome) -> str | None:
    """What is wrong with an outcome."""
    if not isinstance(kind.expected, Picture):
        is_right = found.status in kind.expected and kind.detail in (found.error or "")
        return None if is_right else f"{found.status}: {found.error}, expected {sorted(kind.expected)} {kind.detail}"
    if found.status != "ok":
        return f"{found.status}: {found.error}"
    if (found.width, found.height) != (kind.expected.width, kind.expected.height):
        return f"{found.width} x {found.height} pixels"
    wanted = quadrants(kind.expected.corners, width=POINTS, height=POINTS)
    difference = int(np.abs(found.points.astype(int) - wanted).max())
    return None if difference <= kind.expected.tolerance else f"pixels differ by {difference}: {found.points[::7, ::7]}"


def read_kinds(kinds, folder):
    """Outcomes of kinds as files of a folder; every file is a row."""
    forget_peak()
    for kind in kinds:
        (folder / kind.name).write_bytes(kind.make())
    found = read_folder(str(folder))
    assert sorted(found) == sorted(kind.name for kind in kinds)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_right_pixels_or_the_right_reason(family, tmp_path):
    kinds = [kind for kind in kinds_of(family) if not kind.is_long]
    found = read_kinds(kinds, tmp_path)
    wrong = {kind.name: fault_of(kind, found[kind.name]) for kind in kinds}
    assert {name: fault for name, fault in wrong.items() if fault} == {}
    assert decoder_peak_bytes() < MOST_BYTES


LONG = [kind for family in FAMILIES for kind in kinds_of(family) if kind.is_long]


@pytest.mark.long
@pytest.mark.parametrize("kind", LONG, ids=lambda kind: kind.name)
def test_the_large_ones(kind, tmp_path):
    assert fault_of(kind, read_kinds([kind], tmp_path)[kind.name]) is None
    assert decoder_peak_bytes() < (MOST_BYTES_WEBP if kind.name.endswith(".webp") else MOST_BYTES)


def test_the_table_of_the_documents_is_what_the_zoo_makes():
    assert (ROOT / "docs" / "zoo.md").read_text() == write_page(), "run `python -m tests.zoo.write`"


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """An empty folder and an empty prefix."""
    return open_store(str(tmp_path / "x") if request.param == "local" else request.getfixturevalue("s3_uri"))


def fill(store, names) -> dict[str, tuple[int, int, int]]:
    """Puts a picture of a colour of its own under each name."""
    colours = {name: (number, 255 - number, 7 * number % 256) for number, name in enumerate(names)}
    for name, colour in colours.items():
        store.put(name, png(quadrants([colour] * 4), 8, RGB))
    return colours


def check(found, colours) -> None:
    assert {name: (each.status, each.error) for name, each in found.items() if each.status != "ok"} == {}
    assert {name: tuple(each.points[0, 0].tolist()) for name, each in found.items()} == colours


def write_list(store, names) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([["image_path", "number"], *([name, 1] for name in names)])
    store.put("list.csv", text.getvalue().encode())
    return f"{store.uri}/list.csv"


def test_a_name_is_no_reason_to_lose_an_image_in_a_folder(place):
    names = NAMES | CONTROL_NAMES | ({} if place.uri.startswith("s3:") else BACKSLASH)
    colours = fill(place, names.values())
    check(read_folder(place.uri), colours)


def test_nor_in_a_manifest(place):
    colours = fill(place, NAMES.values())
    check(read_folder(write_list(place, colours)), colours)


@pytest.mark.parametrize("name", CONTROL_NAMES.values(), ids=CONTROL_NAMES)
def test_control_characters_in_a_manifest_are_refused_with_their_row(name, tmp_path):
    with pytest.raises(ConfigError, match=r"list\.csv, row 1 \(counted from 0\).*control characters"):
        read_folder(write_list(open_store(str(tmp_path)), ["a.png", name]))


def test_a_photo_of_a_phone_without_the_extra_names_the_extra():
    code = """
        import sys
        sys.modules["pillow_heif"] = None  # as where it is not installed
        from faceattr.config import ImageLimitsConfig
        from faceattr.data.images.decode import decode_image
        from faceattr.errors import ImageError
        try:
            decode_image(b"\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic", ImageLimitsConfig())
        except ImageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("unsupported: HEIF; ")
    assert "pip install 'faceattr[heic]'" in done.stdout


def test_the_zoo_is_as_large_as_it_says():
    names = [kind.name for family in FAMILIES for kind in kinds_of(family)]
    assert len(names) == len(set(names))
    assert len(names) + len(NAMES | CONTROL_NAMES | BACKSLASH) >= 460
    assert (WIDTH, HEIGHT) == (64, 32)
