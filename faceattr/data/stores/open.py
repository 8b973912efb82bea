"""Stores: one small interface over a local folder, an S3 bucket, web servers, and file systems that pyarrow can read.

A store is rooted at a URI; keys are relative to it and use `/`. Runs need one strong guarantee from a store:
`put_if_absent` has exactly one winner, and a reader sees a whole object or none. Local folders provide it by hard
links, S3 by conditional PUT; all others can be read but not written.

Credentials come from each process's environment or role, never from a URI or a config (a config is pickled into tasks
and saved with outputs).
"""

import re
import uuid
from pathlib import Path

from faceattr.config import StorageConfig
from faceattr.data.stores.addresses import check_no_credentials, local_part, normalise_address, resolve_address
from faceattr.data.stores.arrow import ArrowStore
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.patience import write_on_the_way_out
from faceattr.data.stores.s3 import S3Store
from faceattr.data.stores.store import Store
from faceattr.data.stores.web.http_store import HttpStore
from faceattr.errors import ConfigError

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{3,255}")


def open_store(uri: str, options: StorageConfig | None = None) -> Store:
    """Opens the store rooted at `uri`: a local path, `file://`, `s3://bucket/prefix`, http(s) or what pyarrow can open.

    Raises:
        ConfigError: the URI cannot be used: unknown scheme, credentials in it, no bucket, a host that is not allowed.
    """
    check_no_credentials(uri, "a store's URI")
    options = options or StorageConfig()
    scheme = _SCHEME.match(normalise_address(uri))
    if scheme is None:
        # Not normalised further: roots in the plans of earlier runs may contain `..`.
        return LocalStore(Path(local_part(uri)))
    uri = normalise_address(uri)
    match scheme.group(1):
        case "s3":
            bucket, _, prefix = uri[len("s3://") :].partition("/")
            if not _BUCKET.fullmatch(bucket):
                raise ConfigError(f"{uri!r}: expected s3://bucket/prefix")
            return S3Store(
                bucket,
                prefix,
                endpoint_url=options.endpoint_url,
                deadline_s=options.deadline_s,
                list_streams=options.list_streams,
            )
        case "http" | "https":
            return HttpStore(uri, options)
        case _:
            return ArrowStore(uri)


def open_output(uri: str, options: StorageConfig | None = None) -> Store:
    """Opens the store of a run folder: `open_store` for stores with exactly-once writes.

    Raises:
        ConfigError: the URI cannot be used, or cannot be written.
    """
    uri = resolve_address(uri, "--output")
    scheme = _SCHEME.match(uri)
    if scheme is not None and scheme.group(1) != "s3":
        raise ConfigError(
            f"--output {uri!r}: runs are written to local folders and s3:// only; images may be read there"
        )
    return open_store(uri, options)


def probe_store(store: Store) -> None:
    """Checks that the store's `put_if_absent` works. Raises ConfigError if the store ignores If-None-Match."""
    key = f"_probe-{uuid.uuid4().hex}"
    first = store.put_if_absent(key, b"1")  # outside `try`: if this write fails, nothing needs to be deleted
    try:
        second = store.put_if_absent(key, b"2")
        if second or store.get(key) != b"1":
            raise ConfigError(
                f"{store.uri}: this store overwrites objects in spite of If-None-Match, so two writers could damage a "
                f"run (first write {first}, second {second}). Use a store with conditional writes, or a local folder."
            )
    finally:
        write_on_the_way_out(lambda: store.delete(key), f"the removal of {key}")
