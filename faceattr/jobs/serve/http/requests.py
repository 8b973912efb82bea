"""What a request holds: its images, out of a body that is one image or a form with files.

    content-type: image/jpeg             the body is one image (any image/..., or application/octet-stream)
    content-type: multipart/form-data    each part with a file name is an image (RFC 7578), as `curl -F` sends them

Which format an image has is decided by its first bytes, whatever its type or name says.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message

from faceattr.config.serving.requests import RequestLimitsConfig

UNNAMED = "-"
"""The `path` of an image that came without a name."""
_MAX_NAME = 255
_MAX_PART_HEADER_BYTES = 8 * 2**10
_BOUNDARY_LENGTHS = range(1, 71)  # RFC 2046, section 5.1.1


class RefusedRequestError(Exception):
    """A request that is not answered with predictions.

    Attributes:
        status: HTTP status.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Upload:
    """One image of a request.

    Attributes:
        name: the file name that the client gave.
        data: encoded bytes.
    """

    name: str
    data: bytes


def read_length(headers: Mapping[str, str], limits: RequestLimitsConfig) -> int:
    """Returns how many bytes the body has, or may have if the client does not say.

    Raises:
        RefusedRequestError: more than allowed, or compressed.
    """
    if headers.get("content-encoding"):
        raise RefusedRequestError(415, "the body is compressed; send images as they are")
    given = headers.get("content-length")
    if given is None:
        return limits.max_bytes
    if not (given.isascii() and given.isdigit()):
        raise RefusedRequestError(400, f"Content-Length: expected a number, found {given!r}")
    if int(given) > limits.max_bytes:
        raise _too_long(limits)
    return int(given)


async def read_body(chunks: AsyncIterator[bytes], limits: RequestLimitsConfig) -> bytes:
    """Returns the whole body; the caller bounds the time.

    Raises:
        RefusedRequestError: more bytes than allowed.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limits.max_bytes:
            raise _too_long(limits)
        await asyncio.sleep(0)  # a body that arrives at once must not keep others waiting
    return bytes(body)


def _too_long(limits: RequestLimitsConfig) -> RefusedRequestError:
    return RefusedRequestError(413, f"the body has more than {limits.max_bytes:,} bytes (--limits.max-bytes)")


def split_uploads(content_type: str, body: bytes, limits: RequestLimitsConfig) -> list[Upload]:
    """Returns the images of a body, in its order.

    Args:
        content_type: the request's header of that name.
        body: the whole body.
        limits: at most `max_images` are taken.

    Raises:
        RefusedRequestError: another type, damaged, without an image, or with too many.
    """
    message = _parse_headers([("content-type", content_type)])
    kind = message.get_content_type() if content_type else "none"
    if kind.startswith("image/") or kind == "application/octet-stream":
        if not body:
            raise RefusedRequestError(400, "the body is empty; expected an image")
        return [Upload(UNNAMED, body)]
    if kind != "multipart/form-data":
        raise RefusedRequestError(
            415,
            f"content type {kind!r}: expected image/..., application/octet-stream or multipart/form-data; with curl: "
            "-H 'Content-Type: image/jpeg' --data-binary @photo.jpg, or -F image=@photo.jpg",
        )
    boundary = message.get_boundary("")
    if len(boundary) not in _BOUNDARY_LENGTHS or not boundary.isascii():
        raise RefusedRequestError(400, "multipart/form-data: expected a boundary of 1 to 70 ASCII characters")
    parts = _split_parts(body, boundary.encode())
    if not parts:
        raise RefusedRequestError(400, "multipart/form-data: the form has no part; expected at least one file")
    if len(parts) > limits.max_images:
        raise RefusedRequestError(
            413, f"the form has {len(parts)} images, more than {limits.max_images} (--limits.max-images)"
        )
    return [_read_part(part) for part in parts]


def _split_parts(body: bytes, boundary: bytes) -> Sequence[bytes]:
    """Splits a multipart body (RFC 2046, section 5.1.1) into its parts, each with its headers."""
    # With the line break that the first delimiter may lack, every delimiter is CRLF, two dashes, the boundary.
    before, *pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not pieces or before.strip() or not pieces[-1].startswith(b"--"):
        raise RefusedRequestError(400, "multipart/form-data: damaged or cut off: the closing boundary is missing")
    parts = []
    for piece in pieces[:-1]:
        padding, line_break, part = piece.partition(b"\r\n")
        if padding.strip(b" \t") or not line_break:
            raise RefusedRequestError(400, "multipart/form-data: damaged: no line break after a boundary")
        parts.append(part)
    return parts


def _read_part(part: bytes) -> Upload:
    # A part may have no headers at all; then the empty line is its first.
    header, empty_line, data = (b"\r\n" + part).partition(b"\r\n\r\n")
    if not empty_line or len(header) > _MAX_PART_HEADER_BYTES:
        raise RefusedRequestError(400, "multipart/form-data: damaged: a part without the empty line after its headers")
    lines = (line.partition(":") for line in header.decode("utf-8", "replace").split("\r\n") if ":" in line)
    message = _parse_headers([(name.strip(), value.strip()) for name, _, value in lines])
    name = message.get_filename()
    if name is None:
        field = message.get_param("name", "", "content-disposition")
        raise RefusedRequestError(
            400, f"multipart/form-data: the part {field!r} has no file name; expected files alone (curl -F image=@FILE)"
        )
    return Upload(name[:_MAX_NAME] or UNNAMED, data)


def _parse_headers(fields: Sequence[tuple[str, str]]) -> Message:
    message = Message()
    for name, value in fields:
        message[name] = value
    return message


def read_query(query: Mapping[str, str]) -> bool:
    """Returns whether confidences are asked for, by `?confidence=true`.

    Raises:
        RefusedRequestError: another parameter, or another value.
    """
    unknown = sorted(set(query) - {"confidence"})
    if unknown:
        raise RefusedRequestError(400, f"unknown parameter {unknown[0]!r}; known is confidence")
    value = query.get("confidence", "false")
    if value not in ("true", "false"):
        raise RefusedRequestError(400, f"confidence={value!r}: expected true or false")
    return value == "true"
