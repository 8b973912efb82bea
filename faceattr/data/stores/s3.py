"""A store on S3 or any compatible service, through boto3.

boto3 instead of pyarrow: it needs one GET per object instead of HEAD and GET, verifies stored checksums, and offers
conditional PUT. Every operation is retried until a deadline; a failure after it is an outage (StorageError), which is
never taken for a fact about one object.
"""

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

from faceattr.data.stores.patience import Patience
from faceattr.data.stores.s3_answers import EXISTS_CODES, code_of, find_remedy, judge_answer, words_of
from faceattr.data.stores.store import LargeObjectError, MissingObjectError, ObjectInfo, RefusedObjectError
from faceattr.errors import ConfigError, StorageError

_T = TypeVar("_T")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
# Number of bodies whose length differs from the listing's after which the object counts as unreadable.
_MOST_SHORT_ANSWERS = 6


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
    try:
        client = boto3.session.Session().client(
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


def _pay(params: dict[str, Any], model: Any, **_: Any) -> None:
    if "RequestPayer" in model.input_shape.members:
        params.setdefault("RequestPayer", "requester")


class S3Store:
    """Objects below `s3://bucket/prefix`. See `faceattr.data.stores.store.Store` for the methods; thread-safe."""

    def __init__(self, bucket: str, prefix: str, *, endpoint_url: str | None, deadline_s: float) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        self._deadline_s = deadline_s
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._client = s3_client(endpoint_url)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store.list."""
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}

        def fetch() -> dict[str, Any]:
            page: dict[str, Any] = self._client.list_objects_v2(**request)
            if "IsTruncated" not in page:  # boto3 reads an empty or unrelated document as an empty listing
                raise _CutBodyError("the answer is not a listing")
            return page

        while True:
            page = self._call("list", prefix, fetch)
            for entry in page.get("Contents", ()):
                if entry["Key"].endswith("/"):  # folder markers of consoles and of Ray's writers
                    continue
                yield ObjectInfo(
                    key=entry["Key"][len(self._prefix) :],
                    num_bytes=entry["Size"],
                    etag=entry.get("ETag", "").strip('"') or None,
                    modified_s=entry["LastModified"].timestamp(),
                )
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

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
