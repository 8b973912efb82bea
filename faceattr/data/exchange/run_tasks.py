"""The rows of a published label run as tasks for a labelling tool."""

from collections.abc import Iterator, Mapping
from typing import Any

from faceattr.attributes import Attribute
from faceattr.data.exchange.tasks import ImageTask, PredictedClass
from faceattr.data.exports import read_label_record, read_run_rows
from faceattr.data.row_filter import RowFilter
from faceattr.data.runs.commit import OK
from faceattr.data.runs.plan import IN_FILES
from faceattr.data.runs.run_attributes import scored_attributes
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError


def read_run_tasks(
    store: Store,
    attributes: Mapping[str, Attribute],
    *,
    where: RowFilter | None = None,
    limit: int | None = None,
    verify: bool = True,
) -> Iterator[ImageTask]:
    """Yields the rows of a run in row order, without those whose image was rejected: there is nothing to look at.

    Args:
        store: the run folder.
        attributes: attributes of the run, by name.
        where: which rows; None for all.
        limit: most tasks; None for all.
        verify: see `read_published`.

    Raises:
        ConfigError: this is no label run, or its images are parts of Parquet or tar files, which no tool can open.
        RunError: a file is damaged.
    """
    record = read_label_record(store)
    if record.source.get("kind") in IN_FILES:
        raise not_files(store.uri)
    scored = [name for name in scored_attributes(record) if name in attributes and attributes[name].has_score]
    columns = ["row", "image_id", "uri", "width_px", "height_px", "status", *attributes]
    columns += [f"{name}_score" for name in scored]
    num_left = limit
    # The limit is that of tasks, not of rows.
    for row in read_run_rows(store, columns, where=where, limit=None, verify=verify):
        if num_left == 0:
            return
        if row["status"] == OK:
            num_left = None if num_left is None else num_left - 1
            yield _build_task(row, attributes, scored)


def not_files(where: str) -> ConfigError:
    """Returns the error of images that are parts of files."""
    return ConfigError(
        f"{where}: its images are parts of Parquet or tar files, which labelling tools cannot open; sample them with "
        "copies (faceattr audit sample --copy-images) and export the audit"
    )


def _build_task(row: Mapping[str, Any], attributes: Mapping[str, Attribute], scored: list[str]) -> ImageTask:
    scores = {name: row[f"{name}_score"] for name in scored}
    predictions = {
        name: PredictedClass(label=row[name], confidence=confidence_of(attribute, row[name], scores.get(name)))
        for name, attribute in attributes.items()
        if row[name] is not None
    }
    facts: dict[str, float | int | str | None] = {"row": row["row"]}
    for name, score in scores.items():
        facts[f"{name}_score"] = max(score) if isinstance(score, list) else score
    return ImageTask(
        image_id=row["image_id"],
        uri=row["uri"],
        size_px=None if row["width_px"] is None else (row["width_px"], row["height_px"]),
        predictions=predictions,
        facts=facts,
    )


def confidence_of(attribute: Attribute, label: int, score: float | list[float] | None) -> float | None:
    """Returns the probability of a label from its score: P(yes), or one probability for each class."""
    if isinstance(score, list):
        return score[label]
    return 1.0 - score if score is not None and attribute.is_yes_no and label == 0 else score
