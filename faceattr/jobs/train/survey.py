"""Reads all labels of a training's data once, by Ray tasks: counts them, and lists the images of each split.

survey.json             the counts
splits/train-00000.csv  image_id, group, labels of some files; likewise val and test
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import ray.data

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.formats.csv_cells import neutralise_table
from faceattr.data.formats.json_files import damage_named
from faceattr.data.formats.json_text import encode_json
from faceattr.data.packed.reader import PackedData
from faceattr.data.packed.splits import SPLITS
from faceattr.data.runs.status import PROGRESS_KEY
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.training.label_survey import (
    FileSurvey,
    SplitSurvey,
    decode_surveys,
    encode_surveys,
    join_surveys,
    survey_file,
)

SURVEY_KEY = "survey.json"
DRAFTS = (SURVEY_KEY, "splits/", PROGRESS_KEY)
"""The files in the output folder if a training was refused after its labels had been read."""
_CPUS = 0.5
_FILES_PER_TASK = 32
# As many as there are splits: each has files for one task at most.
_FEW_TASKS = 3


@dataclass(frozen=True, kw_only=True)
class SurveyFiles:
    """Numbers of files -> the survey of each file, as JSON; writes the list of their images.

    Attributes:
        data: the packed runs.
        attributes: the attributes to learn.
        balance: attributes whose combinations are counted.
        output_uri: the model folder, or None to write nothing.
        storage: how the model folder is accessed.
    """

    data: PackedData
    attributes: AttributeSet
    balance: tuple[str, ...]
    output_uri: str | None
    storage: StorageConfig

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Returns one row per file: split, place, survey."""
        found = []
        for part in parts.to_pylist():
            tables = []
            for place in part["places"]:
                survey, table = survey_file(
                    self.data, part["split"], place, attributes=self.attributes, balance=self.balance
                )
                tables.append(table)
                found.append({"split": part["split"], "place": place, "survey": encode_json(asdict(survey))})
            self._write_list(f"splits/{part['split']}-{part['number']:05d}.csv", pa.concat_tables(tables))
        return pa.Table.from_pylist(found)

    def _write_list(self, key: str, table: pa.Table) -> None:
        if self.output_uri is None:
            return
        flat = [each.name for each in table.schema if not pa.types.is_list(each.type)]
        buffer = io.BytesIO()
        pyarrow.csv.write_csv(neutralise_table(table.select(flat)), buffer)
        open_store(self.output_uri, self.storage).put(key, buffer.getvalue())


def _run_tasks(stage: SurveyFiles, items: list[dict[str, Any]]) -> Iterable[pa.Table]:
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        stage, batch_size=None, batch_format="pyarrow", num_cpus=_CPUS
    )
    dataset.set_name("faceattr_survey")
    return dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def load_surveys(output: Store) -> dict[str, SplitSurvey] | None:
    """Loads the surveys that an earlier start of the same training wrote; None without any."""
    try:
        data = output.get(SURVEY_KEY)
    except MissingObjectError:
        return None
    with damage_named(where := join_uri(output.uri, SURVEY_KEY)):
        return decode_surveys(data, where)


def survey_data(
    data: PackedData, attributes: AttributeSet, balance: Sequence[str], output: Store | None, storage: StorageConfig
) -> dict[str, SplitSurvey]:
    """Surveys every split that has images.

    Args:
        data: the packed runs.
        attributes: the attributes to learn.
        balance: attributes whose combinations are counted.
        output: the model folder, where the surveys are stored; None writes nothing.
        storage: how the model folder is accessed.

    Raises:
        RunError, StorageError: a file is damaged, or cannot be read.
    """
    if output is not None:
        for entry in list(output.list("splits/")):  # left by an attempt that was refused
            output.delete(entry.key)
    items = [
        {"split": split, "number": number, "places": list(range(start, min(start + _FILES_PER_TASK, len(files))))}
        for split, files in ((name, data.splits[name]) for name in SPLITS)
        for number, start in enumerate(range(0, len(files), _FILES_PER_TASK))
    ]
    stage = SurveyFiles(
        data=data,
        attributes=attributes,
        balance=tuple(balance),
        output_uri=None if output is None else output.uri,
        storage=storage,
    )
    # A few files are read faster by this process, which has torch, than a worker imports it.
    tables = [stage(pa.Table.from_pylist(items))] if len(items) <= _FEW_TASKS else _run_tasks(stage, items)
    rows = sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["place"])
    surveys = {
        split: join_surveys(FileSurvey(**json.loads(row["survey"])) for row in rows if row["split"] == split)
        for split in SPLITS
        if data.splits[split]
    }
    if output is not None:
        output.put(SURVEY_KEY, encode_surveys(surveys))
    return surveys
