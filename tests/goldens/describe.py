"""Files as JSON values that do not depend on when and where a run was made: all names and types, and many values."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch

from faceattr.data.stores.store import Store

# Times, rates, random words, names of machines and versions, and the hashes and sizes of files that hold such.
_VOLATILE = {
    *("run_id", "host", "machine", "pid", "token", "beats", "code", "library_versions", "versions"),
    *("started", "ended", "written", "seconds", "samples", "images_per_s", "data_wait_share", "train_s", "val_s"),
    *("sha256", "footer_sha256", "num_bytes", "size_bytes", "hashes", "faceattr"),
}
# Settings; in all else a number with a fraction is a result, whose last digits follow the CPU.
_SETTINGS = {"config", "fingerprint", "notes", "values"}
_ATTEMPT = re.compile(r"^(.*plan/)[0-9a-f]{8}-")
_SESSION = re.compile(r"sessions/[0-9.]+\.json")
_EVENTS = re.compile(r"events\.out\.tfevents\..*")


def describe_store(store: Store) -> dict[str, Any]:
    """Key -> what the file holds, for every file of a folder."""
    keys = sorted(entry.key for entry in store.list() if not entry.key.startswith("_probe-"))
    return {_plain_key(key): describe_file(key, store.get(key)) for key in keys}


def describe_file(key: str, data: bytes) -> Any:
    """What a file holds: values of JSON, the schema of a table, names and shapes of tensors, the header of a CSV."""
    match key.rpartition(".")[2]:
        case "json":
            return describe_json(json.loads(data))
        case "jsonl":
            return [describe_json(json.loads(line)) for line in data.splitlines()]
        case "parquet":
            return describe_schema(pq.read_schema(pa.BufferReader(data)))
        case "arrow":
            return describe_schema(pa.ipc.open_file(pa.BufferReader(data)).schema)
        case "safetensors":
            return {name: _tensor(each) for name, each in sorted(safetensors.torch.load(data).items())}
        case "pt":
            return describe_json(torch.load(io.BytesIO(data), weights_only=True))
        case "csv":
            return data.decode().splitlines()[0]
        case _:
            return "a file"


def describe_json(value: Any, *, settings: bool = False) -> Any:
    """The value with all that differs between two runs replaced by its type.

    Args:
        value: of JSON, or with tensors in it.
        settings: whether numbers with a fraction are settings, and stay.
    """
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, dict):
        return {str(name): _describe_item(str(name), item, settings) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [describe_json(item, settings=settings) for item in value]
        alike = len(items) > 1 and all(item == items[0] for item in items) and not settings
        return [items[0], f"{len(items)} times"] if alike else items
    return value if settings or not isinstance(value, float) else "<number>"


def _describe_item(name: str, item: Any, settings: bool) -> Any:
    if name == "carried" and isinstance(item, str):
        return describe_schema(pa.ipc.read_schema(pa.BufferReader(bytes.fromhex(item))))
    if name == "key" and isinstance(item, str):
        return _plain_key(item)
    if name == "draws":  # whether one of them is defined follows the CPU, as its last digits do
        return f"<{len(item)} numbers>"
    if name in _VOLATILE:
        return _types(item)
    return describe_json(item, settings=settings or name in _SETTINGS)


def _types(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: _types(each) for name, each in item.items()}
    if isinstance(item, list):
        return [_types(item[0])] if item else []
    return f"<{'number' if isinstance(item, int | float) else 'text' if isinstance(item, str) else item}>"


def describe_schema(schema: pa.Schema) -> dict[str, Any]:
    """Columns with type, whether they may be null, and metadata; and the metadata of the table."""
    columns = {}
    for field in schema:
        metadata = dict(_metadata(field.metadata))
        columns[field.name] = [
            str(field.type),
            *([] if field.nullable else ["not null"]),
            *([metadata] if metadata else []),
        ]
    return {"columns": columns, "metadata": dict(_metadata(schema.metadata))}


def _metadata(metadata: dict[bytes, bytes] | None) -> Iterator[tuple[str, Any]]:
    for key, value in (metadata or {}).items():
        if not key.startswith(b"PARQUET:"):
            text = value.decode()
            yield key.decode(), describe_json(json.loads(text)) if text.startswith(("{", "[")) else text


def _tensor(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _plain_key(key: str) -> str:
    key = _EVENTS.sub("events.out.tfevents", key)
    return _SESSION.sub("sessions/TIME.json", _ATTEMPT.sub(r"\1ATTEMPT-", key))
