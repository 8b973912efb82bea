"""Members of tar files: where they are, by the standard library; and what damaged or unusual files give."""

import gzip
import io
import random
import subprocess
import tarfile

import pyarrow as pa
import pytest

from faceattr.data.formats.tar_headers import TarHeaders
from faceattr.errors import ConfigError
from tests.data.tar_files import data_offsets, write_tar

LONG = "folder/" * 40 + "a.jpg"
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def members(data):
    return list(TarHeaders(pa.BufferReader(data), "x.tar"))


def refusal(data):
    with pytest.raises(ConfigError) as error:
        members(data)
    assert str(error.value).startswith("x.tar: ")
    return str(error.value).removeprefix("x.tar: ")


@pytest.mark.parametrize("kind", FORMATS)
def test_members_are_where_the_standard_library_finds_them(kind):
    names = ["a.jpg", "./b.png", "d/c.webp", "d/" * 60 + "c.jpg"]
    names += [] if kind == "ustar" else [LONG, "\u00fc" * 120 + ".jpg"]
    # Sizes around a block, and one that is skipped without being read.
    sizes = [0, 1, 511, 512, 513, 9_000_000][: len(names)]
    given = {name: bytes([65 + place]) * size for place, (name, size) in enumerate(zip(names, sizes, strict=False))}
    data = write_tar(given.items(), FORMATS[kind])
    headers = TarHeaders(pa.BufferReader(data), "x.tar")
    found = list(headers)
    assert {member.name: member.offset + 512 for member in found} == data_offsets(data)
    assert {member.name: headers.read(member) for member in found} == given
    assert all(member.is_file and not member.is_link for member in found)


def test_tars_of_any_sizes_are_read_as_the_standard_library_reads_them():
    drawn = random.Random(5)
    for _ in range(30):
        sizes = [drawn.choice([0, 7, 512, 5_000, 70_000, 600_000]) for _ in range(drawn.randrange(1, 40))]
        data = write_tar([(f"{place}.jpg", drawn.randbytes(size)) for place, size in enumerate(sizes)])
        found = members(data)
        assert {member.name: member.offset + 512 for member in found} == data_offsets(data)
        assert [member.num_bytes for member in found] == sizes


def test_only_headers_are_fetched_of_large_members():
    class Counted(io.BytesIO):
        num_read = 0

        def read(self, size=-1):
            found = super().read(size)
            self.num_read += len(found)
            return found

    data = write_tar([(f"{place}.jpg", bytes(2_000_000)) for place in range(50)])
    file = Counted(data)
    assert len(list(TarHeaders(pa.PythonFile(file, mode="r"), "x.tar"))) == 50
    # The first window, and 4 KiB a member; the end is read through, to see that nothing follows.
    assert file.num_read < 4 * 2**20 + 60 * 4_096 + 12_000


def test_folders_and_links_and_devices_are_no_files(tmp_path):
    (tmp_path / "in" / "d").mkdir(parents=True)
    (tmp_path / "in" / "d" / "a.jpg").write_bytes(b"a" * 700)
    (tmp_path / "in" / "d" / "b.jpg").hardlink_to(tmp_path / "in" / "d" / "a.jpg")
    (tmp_path / "in" / "c.jpg").symlink_to("d/a.jpg")
    command = ["tar", "--sort=name", "-cf", str(tmp_path / "x.tar"), "-C", str(tmp_path / "in"), "."]
    subprocess.run(command, check=True)
    found = members((tmp_path / "x.tar").read_bytes())
    assert [(each.name, each.num_bytes, each.is_file, each.is_link) for each in found] == [
        (".", 0, False, False),
        ("./c.jpg", 0, False, True),
        ("./d", 0, False, False),
        ("./d/a.jpg", 700, True, False),
        ("./d/b.jpg", 0, False, True),
    ]


@pytest.mark.parametrize("kind", ["gnu", "posix"])
def test_a_sparse_member_is_refused(tmp_path, kind):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1_000_000)
    command = ["tar", "--sparse", f"--format={kind}", "-cf", str(tmp_path / "x.tar"), "-C", str(tmp_path), "a.jpg"]
    subprocess.run(command, check=True)
    said = refusal((tmp_path / "x.tar").read_bytes())
    assert said == "the member 'a.jpg' is sparse; make the tar file without --sparse"


def test_a_global_pax_header_is_read():
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "made\nhere"}
    ) as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    data = buffer.getvalue()
    assert [(each.name, each.offset + 512) for each in members(data)] == [*data_offsets(data).items()]


def test_a_compressed_tar_says_how_to_unpack_it():
    said = refusal(gzip.compress(write_tar([("a.jpg", b"1")])))
    assert said.endswith("unpack it: gzip (gunzip FILE)")


TWO = write_tar([("a.jpg", b"a" * 700), ("b.jpg", b"b" * 600)])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "it is empty, or no tar file. Make or copy it again"),
        (b"\xff\xd8\xff\xe0" + bytes(2_000), "at byte 0 there is no header; it is damaged, or not a tar file"),
        # The second header is at byte 512 + 2 * 512.
        (TWO[:1_536], "it is cut: there is no block of zeros at its end. Make or copy it again"),
        (TWO[:1_700], "it is cut: there is no block of zeros at its end. Make or copy it again"),
        (TWO[:2_100], "it is cut, or damaged: it ends inside 'b.jpg'. Make or copy it again"),
        (TWO[:3_072], "it is cut: there is no block of zeros at its end. Make or copy it again"),
        (TWO[:1_540] + b"?" + TWO[1_541:], "at byte 1,536 there is no header; it is damaged, or not a tar file"),
        (TWO + TWO, "data follows its end; are several tar files joined? Give them one by one"),
    ],
)
def test_what_is_cut_or_damaged_is_refused(data, expected):
    assert refusal(data) == expected


def test_no_cut_loses_a_member_silently():
    for end in range(0, 3_072, 64):
        assert refusal(TWO[:end])
    assert [each.name for each in members(TWO[:3_584])] == ["a.jpg", "b.jpg"]  # one block of zeros is enough


def test_a_damaged_pax_header_is_refused():
    data = bytearray(write_tar([(LONG, b"1")], tarfile.PAX_FORMAT))
    place = data.index(b"path=")
    data[place : place + 5] = b"path "
    assert "the pax header at byte 512 is damaged" in refusal(bytes(data))
