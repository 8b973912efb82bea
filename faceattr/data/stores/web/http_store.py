"""A read-only store of what one web server returns, by GET.

    200                        the image
    404, 410                   there is no such image
    301, 302, 303, 307, 308    read there instead, if that host may be read too; five times at most
    408, 425, 429, 5xx, no connection, a cut or slow body
                               tried again until the deadline, after `Retry-After` if the server names it
    anything else              refused: `ObjectReader` finds out whether only this image is

Proxies of the environment are not used: the connection goes to the address that was checked (`hosts`).
"""

import functools
import os
import ssl
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, SSLError

from faceattr.config import StorageConfig
from faceattr.data.stores.patience import Patience
from faceattr.data.stores.store import (
    LargeObjectError,
    MissingObjectError,
    ObjectInfo,
    ReadOnlyStore,
    RefusedObjectError,
)
from faceattr.data.stores.web.hosts import WebAddress, check_allowed, parse_web, resolve_host
from faceattr.errors import ConfigError, StorageError
from faceattr.version import __version__

_MISSING = frozenset([404, 410])
_MOVED = frozenset([301, 302, 303, 307, 308])
_AGAIN = frozenset([408, 425, 429])
_UNCHANGED = frozenset(["", "identity"])
_MOST_REDIRECTS = 5
_CONNECT_S = 5.0
_READ_S = 30.0
# Longest time of one answer; a server may send a byte now and then for ever.
_BODY_S = 120.0
_CHUNK = 256 * 2**10
_CONNECTIONS = 16


class _TryAgainError(Exception):
    """The server is busy, or its answer was cut or too slow.

    Attributes:
        wait_s: least wait that the server asks for, in seconds.
        has_answered: whether the server itself said that it cannot.
    """

    def __init__(self, reason: str, *, wait_s: float = 0.0, has_answered: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.has_answered = has_answered


class HttpStore(ReadOnlyStore):
    """What is below an http or https address; thread-safe. See `faceattr.data.stores.store.Store` for the methods.

    Args:
        uri: address of the server, or of a folder on it.
        options: which hosts may be read, and for how long a read is retried.

    Raises:
        ConfigError: the host may not be read.
    """

    def __init__(self, uri: str, options: StorageConfig) -> None:
        check_allowed(parse_web(uri), options.allow_http)
        self.uri = uri.rstrip("/")
        self._hosts = options.allow_http
        self._deadline_s = options.deadline_s

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Refused: a web server has no listing."""
        raise ConfigError(
            f"{self.uri}: a web server cannot be listed. Name its images in a manifest (a column uri), and give that "
            "to --images"
        )

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """See Store.get. Without a listing, `listed` is ignored."""
        where = f"{self.uri}/{key}"
        patience = Patience(self._deadline_s)
        attempt = 0
        while True:
            try:
                return self._follow(where, key, max_bytes, attempt)
            except (_TryAgainError, HTTPError, OSError) as error:
                if isinstance(error, SSLError) and isinstance(error.args[0], ssl.SSLCertVerificationError):
                    raise StorageError(f"cannot read {where}: its certificate is not valid ({error})") from error
                again = error if isinstance(error, _TryAgainError) else _TryAgainError(_words(error))
                if not patience.pause(again.wait_s):
                    raise self._give_up(where, again, patience.waited_s) from error
                attempt += 1

    def _give_up(self, where: str, again: _TryAgainError, waited_s: float) -> StorageError:
        message = f"could not read {where} for {waited_s:.0f} s: {again}"
        if again.has_answered:  # perhaps of this image alone, for ever: a script that fails on it
            return RefusedObjectError(message, detail=f"{again}, for {waited_s:.0f} s")
        return StorageError(
            f"{message}. No image is rejected because of it; run the same command again when the server answers."
        )

    def _follow(self, where: str, key: str, max_bytes: int | None, attempt: int) -> bytes:
        """Reads an address once, and what it redirects to."""
        url = where
        for _ in range(_MOST_REDIRECTS + 1):
            address = parse_web(url)
            answer = _request(address, attempt)
            try:
                if answer.status not in _MOVED:
                    return self._body(answer, where, key, max_bytes)
                url = self._target(answer, where, url)
                _drain(answer)
            except (MissingObjectError, RefusedObjectError, _TryAgainError):
                _drain(answer)
                raise
            finally:
                answer.close()  # and its connection, unless the body was read to its end
        raise _refusal(where, f"more than {_MOST_REDIRECTS} redirects")

    def _target(self, answer: urllib3.BaseHTTPResponse, where: str, url: str) -> str:
        """Returns what an answer redirects to, if that may be read."""
        target = urljoin(url, answer.headers.get("Location", ""))
        try:
            address = parse_web(target)
            check_allowed(address, self._hosts)
        except ConfigError as error:
            raise _refusal(where, f"it redirects to an address that may not be read: {error}") from error
        if url.lower().startswith("https:") and address.scheme != "https":
            raise _refusal(where, f"it redirects from https to {address.root}")
        return target

    def _body(self, answer: urllib3.BaseHTTPResponse, where: str, key: str, max_bytes: int | None) -> bytes:
        status = answer.status
        if status in _MISSING:
            raise MissingObjectError(key)
        if status in _AGAIN or status >= 500:
            wait_s = _retry_after(answer.headers.get("Retry-After"))
            raise _TryAgainError(f"status {status}", wait_s=wait_s, has_answered=True)
        if status != 200:
            raise _refusal(where, f"status {status}")
        if answer.headers.get("Content-Encoding", "").lower() not in _UNCHANGED:
            raise _refusal(where, f"the answer is compressed ({answer.headers['Content-Encoding']})")
        length = answer.headers.get("Content-Length", "")
        if max_bytes is not None and length.isdigit() and int(length) > max_bytes:
            raise LargeObjectError(key, num_bytes=int(length), max_bytes=max_bytes)
        started_s = time.monotonic()
        chunks, num_bytes = [], 0
        while chunk := answer.read1(_CHUNK):
            chunks.append(chunk)
            num_bytes += len(chunk)
            if max_bytes is not None and num_bytes > max_bytes:
                raise LargeObjectError(key, num_bytes=num_bytes, max_bytes=max_bytes)
            if time.monotonic() - started_s > min(_BODY_S, self._deadline_s):
                raise _TryAgainError(f"{num_bytes:,} bytes in {min(_BODY_S, self._deadline_s):g} s")
        return b"".join(chunks)


def _request(address: WebAddress, attempt: int) -> urllib3.BaseHTTPResponse:
    """Sends a GET to the checked address of a host; with each attempt to the next of them."""
    found = resolve_host(address)
    pool = _make_pool(address.scheme, found[attempt % len(found)], address.port, address.host, os.getpid())
    headers = {
        "Host": address.authority,
        "User-Agent": f"faceattr/{__version__}",
        "Accept": "image/*, */*;q=0.1",
        "Accept-Encoding": "identity",
    }
    return pool.urlopen(
        "GET",
        address.target,
        headers=headers,
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )


@functools.lru_cache(maxsize=256)
def _make_pool(scheme: str, ip: str, port: int, host: str, _pid: int) -> urllib3.HTTPConnectionPool:
    """Returns the connections to one address, of one process: a forked one must not share them."""
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
        "maxsize": _CONNECTIONS,
    }
    if scheme == "http":
        return urllib3.HTTPConnectionPool(ip, port, **options)
    # The certificate is that of the name.
    return urllib3.HTTPSConnectionPool(ip, port, cert_reqs="CERT_REQUIRED", server_hostname=host, **options)


def _drain(answer: urllib3.BaseHTTPResponse) -> None:
    """Reads a short body that is of no interest, so that the connection can be used again."""
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and int(length) <= _CHUNK:
        answer.drain_conn()


def _refusal(where: str, problem: str) -> RefusedObjectError:
    return RefusedObjectError(f"cannot read {where}: {problem}", detail=problem)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _retry_after(value: str | None) -> float:
    """Returns the seconds of a Retry-After header, a number or a date; 0 without one."""
    if value is None:
        return 0.0
    try:
        return max(0.0, urllib3.Retry().parse_retry_after(value))
    except InvalidHeader:
        return 0.0
