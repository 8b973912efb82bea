"""Published label runs for tests, made by the real code without a model and without Ray."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK, commit_all
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.vqa.questions import AskedAttribute, QuestionSet


def write_label_run(
    uri: Any,
    names: Sequence[str],
    rows: Mapping[str, tuple[bytes | None, Mapping[str, Any]]],
    *,
    root: Any,
    bytes_column: str | None = None,
    file: str | None = None,
    decisions: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Writes a label run of binary attributes and gives its URI.

    Args:
        uri: run folder.
        names: of the attributes.
        rows: image id to its bytes (None: the image was missing) and its label columns.
        root: where the images are.
        bytes_column: for images in a Parquet file, its column with them.
        file: the Parquet file; row n of the run is row n of it.
        decisions: attribute to its `threshold` and `abstain`, where they are not the usual ones.
    """
    usual = {"questions": ("?",), "answers": ("no", "yes"), "inverted": (False,)}
    asked = [
        AskedAttribute(attribute=Attribute(name=name), **usual, **(decisions or {}).get(name, {})) for name in names
    ]
    questions = QuestionSet(name="test", asked=tuple(asked), derived=())
    store = open_store(str(uri))
    planned = [
        {"image_id": name, "uri": file or join_uri(str(root), name), "source_row": place if file else None}
        for place, name in enumerate(rows)
    ]
    table = pa.Table.from_pylist(planned, schema=plan_schema())
    source = {"kind": "packed" if file else "prefix", "root": str(root), "bytes_column": bytes_column}
    record = open_run(
        store,
        kind="label",
        fingerprint={"questions": questions.to_json(), "weights": "0" * 64},
        config={},
        versions={},
        notes={"model": "none", "revision": None},
        write_plan=lambda: (write_plan(store, [table]), source, pa.schema([])),
    )
    version = RunVersion(store, record, label_schema(questions.attributes))
    labelled = [
        {**plan_row, "row": place, **_facts(data), **labels}
        for place, (plan_row, (data, labels)) in enumerate(zip(planned, rows.values(), strict=True))
    ]
    tables = [pa.Table.from_pylist(labelled, schema=version.schema)]
    commit_all(version.committer(version.work()), tables, on_rows=lambda rows: None)
    version.publish(version.verify())
    return store.uri


def _facts(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {"status": "missing", "error": "there is no such object"}
    return {"status": OK, "sha256": hashlib.sha256(data).hexdigest()}
