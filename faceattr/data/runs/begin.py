"""Begins a run in a folder, or finds the run that is there and compares its settings with the command."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from faceattr.data.formats.json_text import encode_json
from faceattr.data.runs.differences import describe_differences
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import RUN_KEY, RunRecord, decode_record, read_record
from faceattr.data.stores.addresses import with_addresses
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError


def open_run(
    store: Store,
    *,
    kind: str,
    fingerprint: dict[str, Any],
    config: dict[str, Any],
    versions: dict[str, str],
    notes: dict[str, Any],
    write_plan: Callable[[], tuple[Plan, dict[str, Any], pa.Schema]],
) -> RunRecord:
    """Returns the run of this folder: the existing one, else a new one.

    Args:
        store: the run folder.
        kind: kind of job.
        fingerprint: everything that decides the rows.
        config: config to record.
        versions: package versions to record.
        notes: notes to record.
        write_plan: writes the plan's parts and returns the plan, the record's `source` and the schema of the carried
            columns; called only for a new run.

    Raises:
        ConfigError: the folder contains another run.
    """
    record = read_record(store)
    if record is None:
        plan, source, carried = write_plan()
        record = RunRecord(
            run_id=uuid.uuid4().hex,
            kind=kind,
            fingerprint=fingerprint,
            config=config,
            plan=plan,
            source=source,
            carried=carried.serialize().to_pybytes().hex(),
            versions=versions,
            notes=notes,
        )
        value = json.loads(record.encode())
        del value["schema_version"]
        record = decode_record(value, RUN_KEY)  # as every later start reads it: tuples are lists
        if not store.put_if_absent(RUN_KEY, record.encode()):
            # Our own lost acknowledgement, or a driver that started at the same moment: the existing record counts.
            record = read_record(store) or record
        # Parts of attempts that failed before run.json. Only now is it certain that no run.json will ever name them.
        named = {part.key for part in record.plan.parts}
        for leftover in [entry.key for entry in store.list("plan/") if entry.key not in named]:
            store.delete(leftover)
    check_fingerprint(store, record, kind=kind, fingerprint=fingerprint)
    return record


def check_fingerprint(store: Store, record: RunRecord, *, kind: str, fingerprint: dict[str, Any]) -> None:
    """Raises ConfigError, with the differences, if this command would not make the folder's run."""
    if record.kind != kind:
        raise ConfigError(f"{store.uri} holds a {record.kind} run, not a {kind} run: use another --output")
    here = json.loads(encode_json(fingerprint))
    differences = describe_differences(with_addresses(record.fingerprint), with_addresses(here))
    if differences:
        raise ConfigError(
            f"{store.uri} holds a run with other settings. Use another --output, or the settings of that run:\n  "
            + "\n  ".join(differences)
        )
