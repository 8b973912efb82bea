"""Ranged reading of Parquet files through pyarrow: the footer and single row groups, not whole objects."""

from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs

from faceattr.data.addresses import resolve_address
from faceattr.data.storage import StorageOptions


def open_ranged(uri: str, storage: StorageOptions) -> pa.NativeFile:
    """A seekable file that reads only what is asked for.

    Raises:
        FileNotFoundError: there is no such object.
        ConfigError: the URI holds credentials.
    """
    uri = resolve_address(uri, "a file's URI")
    if uri.startswith("s3://"):
        filesystem, path = _s3(uri, storage)
    elif "://" in uri:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    else:
        filesystem, path = pyarrow.fs.LocalFileSystem(), uri
    return filesystem.open_input_file(path)


def _s3(uri: str, storage: StorageOptions) -> tuple[pyarrow.fs.FileSystem, str]:
    path = uri.removeprefix("s3://")
    if storage.endpoint_url is None:
        # Only from_uri looks at AWS_ENDPOINT_URL; the bucket alone, since a key may hold characters of a URI's own.
        return pyarrow.fs.FileSystem.from_uri(f"s3://{path.partition('/')[0]}")[0], path
    endpoint = urlsplit(storage.endpoint_url)
    filesystem = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint.netloc,
        scheme=endpoint.scheme,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=10),
    )
    return filesystem, path
