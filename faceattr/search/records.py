"""The files of every trial: one small JSON file when it begins, one when it has ended, and a table of all trials.

    trials/t0003/trial.json             number and settings, before the trial starts
    trials/t0003/model/progress.json    judgements of the epochs so far, beside a checkpoint
    trials/t0003/record.json            how it ended; absent while it runs
    trials.parquet                      all of them, one row per trial

A search resumes from these files alone. The processes of trials report the same records to the driver.
"""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

from faceattr.data.formats.json_files import damage_named, decode_versioned, encode_versioned
from faceattr.data.formats.json_text import encode_json
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import Store
from faceattr.search.distributions import Choice, RandInt
from faceattr.search.space import Space

TrialStatus = Literal["finished", "stopped", "failed"]
# Version 2 has draws and bounds.
_SCHEMA_VERSION = 2
JUDGEMENTS_KEY = "progress.json"
"""Path in the folder of a trial's model."""
_FOLDER = "trials/"


def trial_id(number: int) -> str:
    """Returns the name of a trial."""
    return f"t{number:04d}"


def trial_folder(number: int) -> str:
    """Returns the folder of a trial, relative to the folder of the search."""
    return f"{_FOLDER}{trial_id(number)}"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The figures of a trial at one epoch.

    Attributes:
        objective: larger is better.
        auxiliary: mean over all attributes but the main one; None without a main one or without others.
        by_attribute: attribute -> its figure.
        thresholds: binary attribute -> cut on its score, chosen on all of validation.
        draws: the objective on resampled validation rows, the same rows for all trials (`comparison.draws`); empty in
            records of earlier versions.
    """

    objective: float
    auxiliary: float | None
    by_attribute: Mapping[str, float]
    thresholds: Mapping[str, float]
    draws: tuple[float, ...] = ()

    @property
    def standard_error(self) -> float:
        """How much the objective depends on which images are in validation; NaN without draws."""
        return deviate(self.draws)


def deviate(draws: Sequence[float]) -> float:
    """Returns the standard deviation of draws, without undefined ones; NaN of fewer than two."""
    defined = [each for each in draws if math.isfinite(each)]
    return statistics.stdev(defined) if len(defined) > 1 else math.nan


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial that has ended.

    Attributes:
        number: from 0, in the order of drawing.
        values: settings of the trial, key -> value.
        status: `finished`; `stopped` before its last epoch, because others were better; `failed`.
        judgement: judgement of its best epoch; None if it failed before the first.
        best_epoch: number of the best epoch, from 0, as the train config's `select` chooses it.
        num_epochs: number of epochs that it trained.
        figures: validation figures of the best epoch, as in pipelines/train.py.
        history: objective of each judged epoch.
        bounds: lower and upper bound of each of them; empty for stacks and in records of earlier versions.
        seconds: from start to end; for a stacked trial, its share.
        inputs: `images`, or `features before block 9` with a cache; and the reason.
        stacked: whether it trained in one process with others.
        error: why it failed.
    """

    number: int
    values: Mapping[str, Any]
    status: TrialStatus
    judgement: Judgement | None = None
    best_epoch: int = -1
    num_epochs: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    history: tuple[float, ...] = ()
    bounds: tuple[tuple[float, float], ...] = ()
    seconds: float = 0.0
    inputs: str = ""
    stacked: bool = False
    error: str | None = None

    @property
    def name(self) -> str:
        """The name of the trial, such as t0003."""
        return trial_id(self.number)


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """The report of a process that trains trials: about one trial after every epoch, about a stack at its end.

    Attributes:
        records: records of its trials, as they are to be kept if this report is the last: a trial that still runs has
            the status `stopped`.
        state: `running` while epochs are left, then `over`; or `failed`, for the reason in every record.
    """

    records: tuple[TrialRecord, ...]
    state: Literal["running", "over", "failed"]

    def encode(self) -> str:
        """Encodes as JSON text, because Tune and its loggers inspect everything else that is reported."""
        return encode_json({"state": self.state, "records": [asdict(each) for each in self.records]})

    @classmethod
    def decode(cls, text: str) -> "TrialReport":
        """Decodes the text of `encode`."""
        value = json.loads(text)
        return cls(records=tuple(map(_decode_record, value["records"])), state=value["state"])


def begin_trial(store: Store, number: int, values: Mapping[str, Any]) -> None:
    """Stores the settings of a trial before it starts."""
    store.put(f"{trial_folder(number)}/trial.json", encode_versioned({"number": number, "values": dict(values)}))


def end_trial(store: Store, record: TrialRecord) -> None:
    """Stores how a trial ended."""
    store.put(f"{trial_folder(record.number)}/record.json", _encode(asdict(record)))


def read_begun(store: Store) -> dict[int, dict[str, Any]]:
    """Reads number -> settings of all trials that were ever begun."""
    found = {}
    for key in _keys(store, "trial.json"):
        with damage_named(where := join_uri(store.uri, key)):
            value = decode_versioned(store.get(key), where)
            found[int(value["number"])] = dict(value["values"])
    return dict(sorted(found.items()))


def read_records(store: Store) -> list[TrialRecord]:
    """Reads the records of all trials that have ended, by number."""
    return sorted((_read(store, key) for key in _keys(store, "record.json")), key=lambda each: each.number)


def save_judgements(store: Store, judgements: Sequence[Judgement]) -> None:
    """Stores the judgements of the epochs so far; `store` is the folder of the trial's model."""
    store.put(JUDGEMENTS_KEY, _encode({"judgements": [asdict(each) for each in judgements]}))


def load_judgements(store: Store, num_epochs: int) -> list[Judgement]:
    """Loads the judgements of a checkpoint's epochs, the first ones; `store` is the folder of the trial's model."""
    with damage_named(where := join_uri(store.uri, JUDGEMENTS_KEY)):
        data = store.get(JUDGEMENTS_KEY)
        # Before formats had versions, the file contained only the list.
        found = json.loads(data) if data.startswith(b"[") else _decode(data, where)["judgements"]
        return [_decode_judgement(each) for each in found[:num_epochs]]


def _keys(store: Store, name: str) -> list[str]:
    return [entry.key for entry in store.list(_FOLDER) if entry.key.count("/") == 2 and entry.key.endswith(f"/{name}")]


def _read(store: Store, key: str) -> TrialRecord:
    with damage_named(where := join_uri(store.uri, key)):
        return _decode_record(_decode(store.get(key), where))


def _encode(value: Mapping[str, Any]) -> bytes:
    return encode_versioned(value, version=_SCHEMA_VERSION)


def _decode(data: bytes, where: str) -> dict[str, Any]:
    return decode_versioned(data, where, version=_SCHEMA_VERSION)


def _decode_record(value: dict[str, Any]) -> TrialRecord:
    """Decodes a record from its JSON values; null figures are NaN, as `encode_json` wrote them."""
    judgement = value.pop("judgement")
    return TrialRecord(
        **{
            **value,
            "history": tuple(map(_number_or_nan, value["history"])),
            "bounds": tuple((_number_or_nan(low), _number_or_nan(high)) for low, high in value.get("bounds", ())),
            "figures": {name: _number_or_nan(each) for name, each in value["figures"].items()},
        },
        judgement=None if judgement is None else _decode_judgement(judgement),
    )


def _decode_judgement(value: Mapping[str, Any]) -> Judgement:
    """Decodes a judgement from its JSON values."""
    by_attribute = {name: _number_or_nan(each) for name, each in value["by_attribute"].items()}
    draws = tuple(map(_number_or_nan, value.get("draws", ())))
    numbers = {"objective": _number_or_nan(value["objective"]), "by_attribute": by_attribute, "draws": draws}
    return Judgement(**{**value, **numbers})


def _number_or_nan(value: float | None) -> float:
    """Returns the number that our JSON has: null is NaN."""
    return math.nan if value is None else value


def best_trial(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """Returns the finished trial with the best objective; on a tie the first. None if none has finished."""
    finished = [record for record in records if record.status == "finished" and record.judgement is not None]
    return max(finished, key=lambda each: (each.judgement.objective, -each.number), default=None)  # type: ignore[union-attr]


def tabulate(records: Iterable[TrialRecord], space: Space, attributes: Iterable[str]) -> pa.Table:
    """Returns one row per trial: what it was, how it ended, its settings under their keys, value/<attribute>,
    threshold/<attribute>.
    """
    rows = list(records)
    judged = [record.judgement for record in rows]
    columns: dict[str, pa.Array] = {
        "trial": pa.array([record.name for record in rows], pa.string()),
        "status": pa.array([record.status for record in rows], pa.string()),
        "objective": pa.array([each and each.objective for each in judged], pa.float64()),
        "standard_error": pa.array([_standard_error(each) for each in judged], pa.float64()),
        "auxiliary": pa.array([each and each.auxiliary for each in judged], pa.float64()),
        "best_epoch": pa.array([record.best_epoch if record.best_epoch >= 0 else None for record in rows], pa.int32()),
        "num_epochs": pa.array([record.num_epochs for record in rows], pa.int32()),
        "seconds": pa.array([record.seconds for record in rows], pa.float64()),
        "inputs": pa.array([record.inputs for record in rows], pa.string()),
        "stacked": pa.array([record.stacked for record in rows], pa.bool_()),
        "error": pa.array([record.error for record in rows], pa.string()),
    }
    for key in space.searched:
        columns[key] = _setting_column(key, rows, space)
    for name in attributes:
        columns[f"value/{name}"] = pa.array([each and each.by_attribute.get(name) for each in judged], pa.float64())
        cuts = [each and each.thresholds.get(name) for each in judged]
        columns[f"threshold/{name}"] = pa.array(cuts, pa.float64())
    return pa.table(columns)


def _standard_error(judgement: Judgement | None) -> float | None:
    error = math.nan if judgement is None else judgement.standard_error
    return None if math.isnan(error) else error


def _setting_column(key: str, rows: list[TrialRecord], space: Space) -> pa.Array:
    values = [record.values.get(key) for record in rows]
    match space.searched[key].distribution:
        case Choice():
            return pa.array([None if value is None else str(value) for value in values], pa.string())
        case RandInt():
            return pa.array(values, pa.int64())
        case _:
            return pa.array(values, pa.float64())
