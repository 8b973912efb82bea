"""The evaluation: packed rows -> model actors -> figures; fitted on validation, judged on test, once."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import faceattr
from faceattr.attributes import AttributeSet
from faceattr.config import EvalConfig
from faceattr.data.formats.json_text import encode_json
from faceattr.data.formats.pair_lists import ImagePair, read_pairs
from faceattr.data.images.face_view import describe_other_view
from faceattr.data.packed.reader import PackedData, open_packed
from faceattr.data.runs.commit import OK
from faceattr.data.sources.layouts.label_list import detect_layout
from faceattr.data.stores.open import open_output
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError, RunError
from faceattr.evaluation.evaluate import Difference, Evaluation, Fitted, compare, evaluate, fit_on_validation
from faceattr.evaluation.groups import read_groups
from faceattr.evaluation.judged import check_disjoint
from faceattr.jobs.cluster.machines.gpus import find_cluster_precision
from faceattr.jobs.cluster.session import plan_actors
from faceattr.jobs.evaluate.samples import draw_sample_grid
from faceattr.jobs.evaluate.score import score_splits
from faceattr.jobs.evaluate.verify import EMBEDDING, describe_verification, find_pairs, verify_pairs, write_verification
from faceattr.models.inspect import SavedModelInfo, hash_files, inspect_saved_model
from faceattr.models.saved_config import CONFIG_FILE, WEIGHTS_FILE
from faceattr.reports.evaluation import render_report
from faceattr.reports.model_card import write_model_card
from faceattr.reports.tables.evaluation import (
    DONE_KEY,
    OWN_KEYS,
    draw_pictures,
    predict_rows,
    write_pictures,
    write_summary,
    write_tables,
)
from faceattr.reports.tables.numbers import show_interval, show_number
from faceattr.reports.tables.performance import write_performance_report
from faceattr.reports.tables.submissions import PLAIN_LAYOUT, write_label_lines, write_submission

logger = logging.getLogger(__name__)
FIT_SPLIT = "val"
# The sample grid is left out of the page, which may be passed on.
_PICTURE_TITLES = {
    "confusion_matrices.png": "Confusions",
    "precision_recall.png": "Precision and recall",
    "reliability.png": "Reliability of scores",
}


@dataclass(frozen=True, kw_only=True)
class EvalJob:
    """A checked evaluation command.

    Attributes:
        config: the config as given.
        model: the model that is judged.
        second: the model it is compared with.
        packed: the data.
        output: where the results are written.
        layout: layout of test_labels.txt.
        pairs: pairs of images that are compared.
    """

    config: EvalConfig
    model: SavedModelInfo
    second: SavedModelInfo | None
    packed: PackedData
    output: Store
    layout: Any = field(default=PLAIN_LAYOUT)
    pairs: tuple[ImagePair, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether thresholds and calibration are fitted on validation: only where test is judged."""
        return self.config.split == "test"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What was judged on which data."""
        return {
            "weights": self.model.weights_id,
            "second": self.second.weights_id if self.second is not None else None,
            "data": self.packed.fingerprint,
            "precision": self.config.precision,
            **({"flip": True} if self.config.flip else {}),
            "versions": {name: metadata.version(name) for name in ("torch", "scikit-learn", "fairlearn", "numpy")}
            | {"faceattr": faceattr.__version__},
        }


def prepare_eval_job(config: EvalConfig) -> EvalJob:
    """Checks a command as far as possible without a cluster.

    Raises:
        ConfigError, ModelError: the command cannot run as given.
    """
    storage = config.storage
    output = open_output(config.output, storage)
    there = {entry.key for entry in output.list() if not entry.key.startswith("_lease/")}
    # Files of an interrupted evaluation are overwritten; a finished one, and files that are not ours, stay as they are.
    if DONE_KEY in there or not there <= OWN_KEYS:
        raise ConfigError(f"--output {config.output}: holds files already, and nothing is overwritten; choose another")

    model = inspect_saved_model(config.model, revision=config.revision, storage=storage)
    second = inspect_saved_model(config.compare, storage=storage) if config.compare is not None else None
    needs = ("val", "test") if config.split == "test" else (config.split,)
    packed = open_packed(config.data, storage, needs=needs)
    for source, each in ((config.model, model), (config.compare, second)):
        if each is not None:
            _check_attributes(each, packed)
            warning = describe_other_view(each.faces, packed.faces)
            if warning is not None:
                logger.warning("%s: %s", source, warning)
    read_groups(packed.schema.empty_table(), _by_name(packed.attributes), config.groups)
    layout = PLAIN_LAYOUT
    if config.label_list is not None:
        layout = detect_layout(config.label_list, storage)
    pairs: tuple[ImagePair, ...] = ()
    if config.pairs is not None:
        pairs = tuple(read_pairs(config.pairs, storage))
        ids = [
            each for table in packed.iter_split(config.split, ["image_id"]) for each in table["image_id"].to_pylist()
        ]
        find_pairs(ids, pairs, name=config.pairs)
    return EvalJob(config=config, model=model, second=second, packed=packed, output=output, layout=layout, pairs=pairs)


def settle_precision(job: EvalJob) -> EvalJob:
    """Returns the job with a precision that fits the cluster's devices; needs a Ray session.

    Raises:
        RunError: a node does not answer.
    """
    config = job.config
    found = find_cluster_precision(config.precision, on_gpus=plan_actors(config.workers).gpus > 0)
    return replace(job, config=replace(config, precision=found.precision))


def _check_attributes(model: SavedModelInfo, packed: PackedData) -> None:
    known = _by_name(packed.attributes)
    shared = [each for each in model.attributes.attributes if each.name in known]
    if not shared:
        raise ConfigError(
            f"--data: has labels of {', '.join(known)}, the model predicts {', '.join(model.attributes.names)}; none "
            "of them can be judged"
        )
    for each in shared:
        theirs = known[each.name]
        if theirs != each:
            raise ConfigError(
                f"--data: {each.name!r} is {theirs.kind} of {list(theirs.classes)[:12]} there, {each.kind} of "
                f"{list(each.classes)[:12]} in the model; pack the data with the model's classes, in its order"
            )


def score(job: EvalJob) -> tuple[pa.Table, pa.Table | None]:
    """Scores all rows that are needed by the model, and by the second model."""
    splits = [FIT_SPLIT, job.config.split] if job.fits else [job.config.split]
    embed = job.config.pairs is not None
    first = score_splits(job.config, job.packed, splits, source=job.config.model, model=job.model, embed=embed)
    second = None
    if job.second is not None:
        source = str(job.config.compare)
        second = score_splits(job.config, job.packed, splits, source=source, model=job.second)
    return first, second


def verify(job: EvalJob, first: pa.Table) -> tuple[pa.Table, list[str]]:
    """Judges and writes the verification of --pairs; returns the rows without embeddings, and lines for the user.

    Raises:
        ConfigError: no pair can be judged.
    """
    pairs = job.config.pairs
    if pairs is None:
        return first, []
    figures, num_missing = verify_pairs(_of_split(first, job.config.split), job.pairs, name=pairs)
    write_verification(job.output, figures, num_missing=num_missing, pairs=pairs)
    return first.drop_columns([EMBEDDING]), describe_verification(figures, num_missing)


def judge_splits(job: EvalJob, first: pa.Table, second: pa.Table | None) -> tuple[Evaluation, list[Difference]]:
    """Fits, judges, and writes all results.

    Returns:
        The evaluation, and its differences from that of the second model, none without one.

    Raises:
        RunError: validation, training and test share an image, or nothing can be judged.
    """
    _check_replaced(job.model)
    check_train_is_apart(job, _of_split(first, job.config.split))
    evaluation = _evaluate(job, first, job.model)
    differences: list[Difference] = []
    if second is not None and job.second is not None:
        other = _evaluate(job, second, job.second)
        bootstrap = job.config.bootstrap
        differences = compare(other, evaluation, resamples=bootstrap.resamples, seed=bootstrap.seed)
    _write(job, first, evaluation, differences)
    return evaluation, differences


def _check_replaced(model: SavedModelInfo) -> None:
    """Refuses to write figures beside a model that is not the one that was judged."""
    files = (model.folder / CONFIG_FILE, model.folder / WEIGHTS_FILE)
    if model.unfinished is not None and hash_files(*files) != model.weights_id:
        raise RunError(
            f"{model.folder}: its training has replaced the model while it was evaluated; evaluate it after the "
            "training has ended, or a copy of it"
        )


def check_train_is_apart(job: EvalJob, judged: pa.Table) -> None:
    """Raises RunError if a judged image is, byte for byte, also in the training split of the same data."""
    if job.config.split == "train":
        return
    digests = pa.concat_tables(
        [pa.table({"sha256": pa.array([], pa.string())}), *job.packed.iter_split("train", ["sha256"])]
    )
    # Rows of other files, so they can match by content only.
    rows = {"run": pa.array([-1] * len(digests), pa.int32()), "row": pa.array(range(len(digests)), pa.int64())}
    train = pa.table({**rows, "sha256": digests["sha256"]})
    check_disjoint(judged, train, judged_name=job.config.split, others_name="train")


def _evaluate(job: EvalJob, scored: pa.Table, model: SavedModelInfo) -> Evaluation:
    config = job.config
    attributes = _labelled(model.attributes, job.packed)
    stored = Fitted(calibration=model.calibration, thresholds=model.thresholds)
    fit_table = _of_split(scored, FIT_SPLIT) if job.fits else None
    fitted = stored
    if fit_table is not None:
        fitted = _fit(config, fit_table, attributes, stored)
    judged = _of_split(scored, config.split)
    return evaluate(
        judged,
        attributes,
        fitted,
        split=config.split,
        fit_table=fit_table,
        groups=read_groups(judged, _by_name(job.packed.attributes), config.groups),
        min_group=config.min_group,
        resamples=config.bootstrap.resamples,
        seed=config.bootstrap.seed,
    )


def _fit(config: EvalConfig, table: pa.Table, attributes: AttributeSet, stored: Fitted) -> Fitted:
    criterion = config.thresholds.to_criterion()
    method = config.calibration
    if method == "keep":
        # The stored calibration stays; thresholds are chosen on the calibrated scores.
        fitted = fit_on_validation(table, attributes, method="none", criterion=criterion, stored=stored, keep=True)
    else:
        fitted = fit_on_validation(table, attributes, method=method, criterion=criterion, stored=stored)
    return fitted


def _write(job: EvalJob, scored: pa.Table, evaluation: Evaluation, differences: Sequence[Difference]) -> None:
    config, store = job.config, job.output
    attributes = job.model.attributes
    good = _only_good(scored)
    predicted, labels = predict_rows(good, attributes, evaluation.fitted)
    write_tables(store, evaluation, predicted, differences)
    pictures = draw_pictures(evaluation)
    if config.samples:
        limits = config.decode
        shown = _labelled(attributes, job.packed)
        pictures["sample_grid.png"] = draw_sample_grid(job.packed, predicted, shown, split=config.split, limits=limits)
    write_pictures(store, pictures)
    counts = {split: _of_split(scored, split).num_rows for split in dict.fromkeys((FIT_SPLIT, config.split))}
    counts = {split: count for split, count in counts.items() if count}
    text = write_performance_report(
        evaluation, model=config.model, data=config.data, differences=differences, compared=config.compare
    )
    store.put("performance_report.txt", text.encode())
    page = render_report(
        evaluation,
        model=config.model,
        weights_id=job.model.weights_id,
        data=config.data,
        counts=counts,
        rejected=_count_rejects(scored),
        figures={_PICTURE_TITLES[key]: figure for key, figure in pictures.items() if key in _PICTURE_TITLES},
        differences=differences,
        compared=config.compare,
    )
    store.put("report.html", page.encode())
    card = write_model_card(
        evaluation,
        model=config.model,
        backbone=job.model.backbone,
        weights_id=job.model.weights_id,
        data=config.data,
        counts={split: job.packed.num_rows(split) for split in job.packed.splits},
        versions=job.fingerprint["versions"],
    )
    store.put("MODEL_CARD.md", card.encode())
    _write_lists(job, good, labels)
    if job.fits:
        _write_model(job, evaluation)
    write_summary(store, evaluation, config=asdict(config), fingerprint=job.fingerprint)


def _write_lists(job: EvalJob, table: pa.Table, labels: dict[str, np.ndarray]) -> None:
    """Writes test_labels.txt and submission.csv, if the model has the attributes that they need."""
    mine = np.flatnonzero(pc.equal(table["split"], job.config.split).to_numpy(zero_copy_only=False))
    image_ids = table["image_id"].take(mine).to_pylist()
    attributes = job.model.attributes
    binary = {each.name: labels[each.name][mine] for each in attributes.attributes if each.is_yes_no}
    if job.config.label_list is not None or "label" in binary:
        job.output.put("test_labels.txt", write_label_lines(image_ids, binary, job.layout).encode())
    submission = write_submission(image_ids, attributes, {name: each[mine] for name, each in labels.items()})
    if submission is not None:
        job.output.put("submission.csv", submission.encode())


def _write_model(job: EvalJob, evaluation: Evaluation) -> None:
    """Writes the model's files, the fitted values in its config; attributes without labels here stay as they were."""
    fitted = evaluation.fitted
    config = json.loads((job.model.folder / CONFIG_FILE).read_text("utf-8"))
    config["thresholds"] = {**config["thresholds"], **fitted.thresholds}
    kept = {name: each for name, each in config["calibration"].items() if name not in job.packed.attributes.names}
    config["calibration"] = {**kept, **{name: dict(each) for name, each in fitted.calibration.items()}}
    job.output.put(f"model/{WEIGHTS_FILE}", (job.model.folder / WEIGHTS_FILE).read_bytes())
    job.output.put(f"model/{CONFIG_FILE}", (encode_json(config, indent=2) + "\n").encode())


def summarise_evaluation(
    job: EvalJob, evaluation: Evaluation, differences: Sequence[Difference] = (), verified: Sequence[str] = ()
) -> str:
    """Returns the text that the user reads at the end; `verified` are the lines of `verify`."""
    mirrored = ", mean with mirror images" if job.config.flip else ""
    lines = [f"judged on {evaluation.split}, computed in {job.config.precision}{mirrored}"]
    shown = {}
    for name, judged in evaluation.judged.items():
        figures = evaluation.figures[name]
        figure = shown[name] = next(
            each for each in (judged.attribute.main_figure, "range_accuracy", "coarse_accuracy") if each in figures
        )
        bounds = show_interval(evaluation.intervals[name].get(figure))
        value = f"{show_number(figures[figure].value)} {bounds}".rstrip()
        lines.append(f"  {name:20} {figure:14} {value}  {figures[figure].count:,} rows")
    if differences:
        lines.append(f"this minus {job.config.compare}")
    for each in differences:
        if shown.get(each.attribute) == each.name:
            gap = f"{show_number(each.second - each.first, '+.3f')} {show_interval(each.interval, '+.3f')}".rstrip()
            lines.append(f"  {each.attribute:20} {each.name:14} {gap}")
    lines += verified
    lines += [f"note: {note}" for note in evaluation.fitted.notes]
    lines.append(f"report  {job.output.uri}/report.html, performance_report.txt, MODEL_CARD.md, {DONE_KEY}")
    if job.fits:
        lines.append(f"model   {job.output.uri}/model, with these thresholds and this calibration")
    return "\n".join(lines)


def _labelled(attributes: AttributeSet, packed: PackedData) -> AttributeSet:
    """Returns the model's attributes that the data has labels for."""
    known = set(packed.attributes.names)
    return AttributeSet(attributes=tuple(each for each in attributes.attributes if each.name in known))


def _by_name(attributes: AttributeSet) -> dict[str, Any]:
    return {each.name: each for each in attributes.attributes}


def _of_split(scored: pa.Table, split: str) -> pa.Table:
    return _only_good(scored.filter(pc.equal(scored["split"], split)))


def _only_good(scored: pa.Table) -> pa.Table:
    return scored.filter(pc.equal(scored["status"], OK))


def _count_rejects(scored: pa.Table) -> dict[str, int]:
    bad = scored.filter(pc.not_equal(scored["status"], OK))
    return {entry["values"]: entry["counts"] for entry in bad["status"].value_counts().to_pylist()}
