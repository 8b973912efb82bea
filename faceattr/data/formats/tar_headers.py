"""Headers of tar files: which members one has, and at which byte; the data between the headers is skipped.

    block of 512 bytes    header of a member: name, type, size (POSIX ustar, GNU, pax)
    ceil(size / 512)      blocks of data
    ...
    a block of zeros      end of the archive; only zeros follow

`tarfile` of the standard library ends quietly at a damaged header and keeps every member in memory, so only its
decoding of a single header is used. Here damage is an error, because each member behind it would be lost.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from faceattr.errors import ConfigError

BLOCK_BYTES = 512
# Fetched at a time while members are small; larger data is skipped, and only what may be headers is fetched.
_NEAR_BYTES = 4 * 2**20
_FAR_BYTES = 4 * 2**10
_SMALL_MEMBER_BYTES = 256 * 2**10
_MOST_NAME_BYTES = 64 * 2**10
_PACKED = {
    b"\x1f\x8b": "gzip (gunzip FILE)",
    b"BZh": "bzip2 (bunzip2 FILE)",
    b"\xfd7zXZ": "xz (unxz FILE)",
    b"\x28\xb5\x2f\xfd": "zstd (unzstd FILE)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TarMember:
    """A member of a tar file.

    Attributes:
        name: its name as stored; bytes that are not UTF-8 are surrogates.
        offset: byte where the header directly before its data begins.
        num_bytes: size of its data.
        is_file: whether it is a regular file.
        is_link: whether it is a hard or symbolic link, which has no data.
    """

    name: str
    offset: int
    num_bytes: int
    is_file: bool
    is_link: bool


class TarHeaders:
    """Reads the headers of one tar file.

    Args:
        file: the file, seekable.
        where: its address, for error texts.
    """

    def __init__(self, file: pa.NativeFile, where: str) -> None:
        self._file = file
        self._where = where
        self._size = file.size()
        self._window, self._start = b"", 0
        self._stride = 0  # typical distance between headers

    def __iter__(self) -> Iterator[TarMember]:
        """Yields all members, in order.

        Raises:
            ConfigError: the file is compressed, cut, damaged or has sparse members, or it is no tar file.
        """
        offset, common, pax, long_name = 0, dict[str, str](), dict[str, str](), ""
        while (block := self._header(offset)) is not None:
            data = offset + BLOCK_BYTES
            if block.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax = self._records(data, block.size)
            elif block.type == tarfile.XGLTYPE:
                common |= self._records(data, block.size)
            elif block.type == tarfile.GNUTYPE_LONGNAME:
                long_name = _text(self._bytes(data, block.size).partition(b"\0")[0])
            elif block.type == tarfile.GNUTYPE_LONGLINK:
                self._bytes(data, block.size)
            else:
                member = self._member(offset, block, common | pax, long_name)
                yield member
                pax, long_name = {}, ""
                block.size = member.num_bytes
            step = BLOCK_BYTES * (1 - -block.size // BLOCK_BYTES)
            self._stride = (self._stride + step) // 2
            offset += step

    def read(self, member: TarMember) -> bytes:
        """Returns the data of a member; for the small ones beside images."""
        return self._take(member.offset + BLOCK_BYTES, member.num_bytes)

    def _header(self, offset: int) -> tarfile.TarInfo | None:
        """Returns the header at a byte, or None at the end of the archive."""
        block = self._take(offset, BLOCK_BYTES)
        if block and not block.strip(b"\0"):
            self._check_end(offset)
            return None
        try:
            return decode_header(block)
        except tarfile.HeaderError:
            kind = next((kind for start, kind in _PACKED.items() if not offset and block.startswith(start)), None)
            if kind:
                self._refuse(f"it is compressed, so that no image can be read without all before it; unpack it: {kind}")
            if len(block) < BLOCK_BYTES:
                what = "it is cut: there is no block of zeros at its end" if offset else "it is empty, or no tar file"
                self._refuse(f"{what}. Make or copy it again")
            self._refuse(f"at byte {offset:,} there is no header; it is damaged, or not a tar file")

    def _check_end(self, offset: int) -> None:
        while data := self._take(offset, _NEAR_BYTES):
            if data.count(0) != len(data):
                self._refuse("data follows its end; are several tar files joined? Give them one by one")
            offset += len(data)

    def _member(self, offset: int, block: tarfile.TarInfo, pax: dict[str, str], long_name: str) -> TarMember:
        name = pax.get("GNU.sparse.name") or pax.get("path") or long_name or block.name
        if block.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in pax):
            self._refuse(f"the member {name!r} is sparse; make the tar file without --sparse")
        if block.type == b"M":
            self._refuse("it continues another volume; make the tar file without --multi-volume")
        size = pax.get("size", "")
        is_file = block.isreg() or block.type not in tarfile.SUPPORTED_TYPES
        num_bytes = (int(size) if size.isascii() and size.isdigit() else block.size) if is_file else 0
        if num_bytes < 0 or offset + BLOCK_BYTES + num_bytes > self._size:
            self._refuse(f"it is cut, or damaged: it ends inside {name!r}. Make or copy it again")
        is_link = block.islnk() or block.issym()
        return TarMember(name=name, offset=offset, num_bytes=num_bytes, is_file=block.isreg(), is_link=is_link)

    def _records(self, start: int, num_bytes: int) -> dict[str, str]:
        """Returns the records of a pax header: `LENGTH KEY=VALUE` and a line end, one after the other."""
        data, found = self._bytes(start, num_bytes), dict[str, str]()
        while data:
            digits = data.partition(b" ")[0]
            length = int(digits) if digits.isdigit() and len(digits) < 9 else 0
            key, equals, value = data[len(digits) + 1 : length].partition(b"=")
            if not equals or not value.endswith(b"\n"):
                self._refuse(f"the pax header at byte {start:,} is damaged")
            found[_text(key)] = _text(value[:-1])
            data = data[length:]
        return found

    def _bytes(self, start: int, num_bytes: int) -> bytes:
        data = self._take(start, num_bytes) if 0 <= num_bytes <= _MOST_NAME_BYTES else b""
        if len(data) != num_bytes:
            self._refuse(f"the header at byte {start:,} is cut, or damaged: it has {num_bytes:,} bytes")
        return data

    def _take(self, start: int, num_bytes: int) -> bytes:
        """Returns bytes of the file, fewer at its end; what follows is fetched with them while members are small."""
        place = start - self._start
        if not 0 <= place <= len(self._window) - num_bytes:
            ahead = _NEAR_BYTES if self._stride <= _SMALL_MEMBER_BYTES else _FAR_BYTES
            self._file.seek(min(start, self._size))
            self._window, self._start, place = self._file.read(max(num_bytes, ahead)), start, 0
        return self._window[place : place + num_bytes]

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"{self._where}: {problem}")


def decode_header(block: bytes) -> tarfile.TarInfo:
    """Decodes the header of a member.

    Raises:
        tarfile.HeaderError: it is none: zeros, too short, or its checksum is wrong.
    """
    return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
