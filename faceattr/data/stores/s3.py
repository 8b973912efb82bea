"""A store on S3 or any compatible service, through boto3.

boto3 instead of pyarrow: it needs one GET per object instead of HEAD and GET, verifies stored checksums, and offers
conditional PUT. Every operation is retried until a deadline; a failure after it is an outage (StorageError), which is
never taken for a fact about one object.
"""

import datetime
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import botocore.config
import botocore.exceptions
import botocore.session
import botocore.utils

from faceattr.data.stores.listing.segments import Page, list_in_segments
from faceattr.data.stores.patience import Patience
from faceattr.data.stores.s3_answers import EXISTS_CODES, code_of, find_remedy, judge_answer, words_of
from faceattr.data.stores.store import LargeObjectError, MissingObjectError, ObjectInfo, RefusedObjectError
from faceattr.errors import ConfigError, StorageError

_T = TypeVar("_T")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
# Number of bodies whose length differs from the listing's after which the object counts as unreadable.
_MOST_SHORT_ANSWERS = 6
_AMAZON = re.compile(r"\.amazonaws\.com(\.cn)?(:\d+)?/?$")
_AMAZON_LIST_STREAMS = 16


@dataclass(frozen=True, slots=True)
class S3Range:
    """Some bytes of an object, from `get_range`.

    Attributes:
        data: the bytes.
        size: size of the whole object, in bytes.
        etag: changes when the content does.
    """

    data: bytes
    size: int
    etag: str


class _CutBodyError(Exception):
    """The connection ended before the promised number of bytes, or the answer does not match the request."""


_TRANSIENT = (
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.ChecksumError,
    botocore.exceptions.FlexibleChecksumError,
    botocore.exceptions.IncompleteReadError,
    ConnectionError,
    TimeoutError,
    _CutBodyError,
)


def s3_client(endpoint_url: str | None) -> Any:
    """Returns the S3 client of this process, used for whole objects, listings, ranges and all writes.

    boto3 resolves the endpoint, region, addressing style, credentials and profile from `AWS_*` and `~/.aws`; a second
    client would resolve them in its own way and send a private bucket's name elsewhere. `AWS_REQUEST_PAYER=requester`
    is honoured, as by GDAL.

    Args:
        endpoint_url: overrides the endpoint from the environment.

    Raises:
        ConfigError: the settings cannot be used.
    """
    # The process id is part of the key, since a forked process must not share connections.
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _make_client(endpoint_url, os.getpid(), os.environ.get("HOME"), settings)


@functools.lru_cache(maxsize=8)
def _make_client(endpoint_url: str | None, _pid: int, _home: str | None, _settings: tuple[tuple[str, str], ...]) -> Any:
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
    try:
        client = boto3.session.Session(botocore_session=core).client(
            "s3",
            endpoint_url=endpoint_url,
            config=botocore.config.Config(
                connect_timeout=5,
                read_timeout=30,
                # One quick retry inside boto3; our retries, with the deadline, are around it.
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=64,
            ),
        )
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise ConfigError(f"the S3 settings (AWS_* variables, ~/.aws) cannot be used: {error}") from error
    payer = os.environ.get("AWS_REQUEST_PAYER", "").lower()
    if payer not in ("", "requester"):
        raise ConfigError(f"AWS_REQUEST_PAYER={payer}: expected requester, or the variable unset")
    if payer:
        client.meta.events.register("before-parameter-build.s3", _pay)
    return client


def _parse_time(text: str) -> datetime.datetime:
    """Parses a time of an answer. botocore's own parser takes three quarters of the time of a page of 1,000 keys."""
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:  # the dates of headers
        moment: datetime.datetime = botocore.utils.parse_timestamp(text)
        return moment


def _pay(params: dict[str, Any], model: Any, **_: Any) -> None:
    if "RequestPayer" in model.input_shape.members:
        params.setdefault("RequestPayer", "requester")


def _choose_streams(bucket: str, endpoint_url: str) -> int:
    """Returns the streams of a listing: several only where its order is known to be that of the keys' bytes.

    That is so in Amazon S3, but not in its directory buckets, nor in services that list folder by folder.
    """
    is_ordered = _AMAZON.search(endpoint_url) is not None and not bucket.endswith("--x-s3")
    return _AMAZON_LIST_STREAMS if is_ordered else 1


class S3Store:
    """Objects below `s3://bucket/prefix`. See `faceattr.data.stores.store.Store` for the methods; thread-safe."""

    def __init__(
        self, bucket: str, prefix: str, *, endpoint_url: str | None, deadline_s: float, list_streams: int | None = None
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        self._deadline_s = deadline_s
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._client = s3_client(endpoint_url)
        self._list_streams = list_streams or _choose_streams(bucket, self._client.meta.endpoint_url)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store.list. From its second page on, a listing has several streams of pages if the store permits it."""
        for entry in self._list(prefix):
            if not entry.key.endswith("/"):  # folder markers of consoles and of Ray's writers
                yield entry

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        page = self._fetch_page(prefix, "", None)
        if page.token is not None and self._list_streams > 1:
            yield from list_in_segments(functools.partial(self._fetch_page, prefix), streams=self._list_streams)
            return
        yield from page.entries
        while page.token is not None:
            page = self._fetch_page(prefix, "", page.token)
            yield from page.entries

    def _fetch_page(self, prefix: str, after: str, token: str | None) -> Page:
        """Returns the first page of keys after a key of this store, or the page of a token."""
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if token is not None:
            request["ContinuationToken"] = token
        elif after:
            request["StartAfter"] = self._prefix + after

        def fetch() -> dict[str, Any]:
            page: dict[str, Any] = self._client.list_objects_v2(**request)
            if "IsTruncated" not in page:  # boto3 reads an empty or unrelated document as an empty listing
                raise _CutBodyError("the answer is not a listing")
            return page

        answer = self._call("list", prefix, fetch)
        entries = [
            ObjectInfo(
                key=entry["Key"][len(self._prefix) :],
                num_bytes=entry["Size"],
                etag=entry.get("ETag", "").strip('"') or None,
                modified_s=entry["LastModified"].timestamp(),
            )
            for entry in answer.get("Contents", ())
        ]
        return Page(entries=entries, token=answer["NextContinuationToken"] if answer["IsTruncated"] else None)

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """See Store.get. The length is checked, and also the checksum if the store has one.

        A truncated body may have matching headers; the size of the listed object reveals it. An object that was
        replaced since the listing has another ETag, and its present content is returned.
        """
        attempts = itertools.count(1)

        def fetch() -> bytes:
            # boto3 requests the checksum by default, unless AWS_RESPONSE_CHECKSUM_VALIDATION=when_required.
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            num_bytes = int(answer["ContentLength"])
            if max_bytes is not None and num_bytes > max_bytes:
                answer["Body"].close()  # the headers contain the size: no extra request, and no body is fetched
                raise LargeObjectError(key, num_bytes=num_bytes, max_bytes=max_bytes)
            data: bytes = answer["Body"].read()
            if len(data) != num_bytes:
                raise _CutBodyError(f"{len(data)} of {num_bytes} bytes")
            is_same = (
                listed is not None and listed.etag is not None and answer.get("ETag", "").strip('"') == listed.etag
            )
            if listed is not None and is_same and len(data) != listed.num_bytes:
                what = f"{len(data):,} bytes of an object that the listing gives {listed.num_bytes:,}"
                if next(attempts) < _MOST_SHORT_ANSWERS:
                    raise _CutBodyError(what)
                message = f"cannot read {self.uri}/{key}: the store gives {what}"
                raise RefusedObjectError(message, detail=f"the store gives {what}", is_certain=True)
            return data

        return self._call("read", key, fetch)

    def get_range(self, key: str, start: int, num_bytes: int) -> "S3Range":
        """Returns some bytes of an object.

        Args:
            key: key of the object.
            start: first byte; a negative value counts from the object's end, and `num_bytes` is then ignored.
            num_bytes: number of bytes; 1 or more. Fewer are returned at the object's end, none behind it.

        Raises:
            MissingObjectError: there is no such object.
            StorageError: an outage or a refusal.
        """
        wanted = f"bytes={start}" if start < 0 else f"bytes={start}-{start + num_bytes - 1}"

        def fetch() -> S3Range:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, Range=wanted)
            except botocore.exceptions.ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return S3Range(data=b"", size=0, etag="")  # the object ends before the range, or is empty
                raise
            place = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
            length = int(answer["ContentLength"])
            if place is None and not (start <= 0 and length <= max(-start, num_bytes)):
                answer["Body"].close()
                raise StorageError(f"cannot read {self.uri}/{key} in parts: the store does not support Range")
            first, last, size = map(int, place.groups()) if place else (0, length - 1, length)
            data: bytes = answer["Body"].read()
            if len(data) != last - first + 1 or (start >= 0 and (first != start or len(data) > num_bytes)):
                raise _CutBodyError(f"{len(data)} bytes of {wanted}")
            return S3Range(data=data, size=size, etag=answer.get("ETag", ""))

        return self._call("read", key, fetch)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Store.put_if_absent."""

        def create() -> bool:
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*")
            except botocore.exceptions.ClientError as error:
                if code_of(error) in EXISTS_CODES:
                    return False
                raise
            return True

        return self._call("write", key, create, conditional=True)

    def put(self, key: str, data: bytes) -> None:
        """See Store.put."""
        self._call(
            "write", key, lambda: self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)
        )

    def delete(self, key: str) -> None:
        """See Store.delete."""
        self._call("delete", key, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key))

    def _call(self, verb: str, key: str, operation: Callable[[], _T], *, conditional: bool = False) -> _T:
        """Runs an operation until it succeeds, fails permanently, or the deadline has passed."""
        patience = Patience(self._deadline_s)
        where = f"s3://{self._bucket}/{self._prefix}{key}"
        while True:
            try:
                return operation()
            except botocore.exceptions.ClientError as error:
                verdict, code = judge_answer(error, verb), code_of(error)
                config = self._client.meta.config
                ours = config.response_checksum_validation if verb == "read" else config.request_checksum_calculation
                remedy = find_remedy(error, verb, conditional=conditional, checksums=ours != "when_required")
                refusal = f"the store refused to {verb} {where}: {words_of(error)}. {remedy}"
                if verdict == "missing":
                    raise MissingObjectError(key) from error
                if verdict == "the store":
                    raise StorageError(refusal) from error
                if verdict != "transient":
                    is_certain = verdict == "this object"
                    raise RefusedObjectError(refusal, detail=words_of(error), is_certain=is_certain) from error
                failure: Exception = error
                reason = code
            except botocore.exceptions.NoCredentialsError as error:
                raise StorageError(
                    f"no credentials to {verb} {where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
                ) from error
            except _TRANSIENT as error:
                failure = error
                reason = type(error).__name__
            except botocore.exceptions.BotoCoreError as error:  # an expired sign-on, half a pair of keys ...
                raise StorageError(f"could not {verb} {where}: {' '.join(str(error).split())}") from error
            if not patience.pause():
                raise StorageError(
                    f"could not {verb} {where} for {patience.waited_s:.0f} s: {reason}. Nothing is lost; run the same "
                    "command again when the store answers."
                ) from failure
