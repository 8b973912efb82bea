"""The actor that holds the model: rows with pixels in, label rows out."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from ray.util.metrics import Counter, Histogram

from faceattr.data.commit import OK
from faceattr.data.fetch import fetch_folder
from faceattr.data.storage import StorageOptions
from faceattr.errors import ModelError
from faceattr.jobs.decode_stage import pixels_from_arrow
from faceattr.vqa.blip import BlipScorer
from faceattr.vqa.checkpoint import load_blip
from faceattr.vqa.hf_oracle import HfScorer
from faceattr.vqa.questions import AttributeLabels, QuestionSet
from faceattr.vqa.scorer import Scorer, self_test
from faceattr.vqa.tokens import QuestionStart


@dataclass(frozen=True, kw_only=True)
class BuildScorer:
    """Recipe of a scorer, made in the actor; picklable.

    Attributes:
        model: hub id, local folder, object-storage folder or `tiny`.
        revision: commit of a hub checkpoint.
        weights_id: what the driver found; another one here is refused.
        questions: what is asked.
        engine: `packed` or `hf`.
        question_start: `cls` or `enc`.
        batch_size: images in a forward pass.
        storage: how object storage is reached.
    """

    model: str
    revision: str | None
    weights_id: str
    questions: QuestionSet
    engine: str
    question_start: QuestionStart
    batch_size: int
    storage: StorageOptions

    def __call__(self) -> Scorer:
        """Loads the checkpoint and, for the packed engine, proves it against the plain path on two images."""
        checkpoint = load_blip(
            self.model, revision=self.revision, fetch_remote=lambda uri: fetch_folder(uri, self.storage)
        )
        if checkpoint.weights_id != self.weights_id:
            raise ModelError(
                f"{self.model}: this node has weights {checkpoint.weights_id[:12]}, the driver {self.weights_id[:12]}. "
                "Use object storage or a pinned --revision, so that every node loads the same files."
            )
        asked = self.questions.vqa_questions()
        plain = HfScorer(checkpoint, asked, question_start=self.question_start, batch_size=self.batch_size)
        if self.engine == "hf":
            return plain
        packed = BlipScorer(checkpoint, asked, question_start=self.question_start, batch_size=self.batch_size)
        self_test(packed, plain)
        return packed


class VqaActor:
    """Scores blocks of images. One per GPU, or per fraction of one.

    Args:
        build_scorer: makes the scorer in this process.
        questions: how answers become labels.
        schema: of the label rows.
        threads: CPU threads to compute with.
    """

    def __init__(
        self, build_scorer: Callable[[], Scorer], questions: QuestionSet, schema: pa.Schema, threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self._scorer = build_scorer()
        self._questions = questions
        self._schema = schema
        self._labelled = Counter("faceattr_images_labelled_total", "Images that got labels.")
        self._rejected = Counter("faceattr_images_rejected_total", "Images that got a reason.", tag_keys=("reason",))
        self._seconds = Histogram(
            "faceattr_inference_seconds",
            "Seconds an actor computes for one block.",
            boundaries=[0.05, 0.2, 1, 5, 20, 60],
        )
        self._batch = Histogram(
            "faceattr_block_images", "Images in one block.", boundaries=[1, 8, 32, 64, 128, 256, 512]
        )

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Label rows in the run's schema, one for each row given."""
        status = np.array(rows["status"].to_pylist(), object)
        good = np.flatnonzero(status == OK)
        pixels = pixels_from_arrow(rows["pixels"], self._scorer.image_size_px)
        started = time.perf_counter()
        labels = self._questions.compute_labels(self._scorer.score(pixels if len(good) == len(rows) else pixels[good]))
        self._count(status, len(good), time.perf_counter() - started)
        columns = {name: rows[name] for name in self._schema.names if name in rows.column_names}
        for asked in self._questions.asked:
            name = asked.attribute.name
            columns |= _label_columns(name, labels[name], good, len(rows))
        for rule in self._questions.derived:
            inputs = [columns[name].to_pylist() for name in rule.inputs]
            values = [rule.evaluate(dict(zip(rule.inputs, row, strict=True))) for row in zip(*inputs, strict=True)]
            columns[rule.name] = pa.array(values, pa.int8())
        return pa.table({name: columns[name] for name in self._schema.names}).cast(self._schema)

    def _count(self, status: np.ndarray, num_good: int, seconds: float) -> None:
        if num_good:
            self._labelled.inc(num_good)
            self._seconds.observe(seconds)
            self._batch.observe(num_good)
        for reason, count in zip(*np.unique(status[status != OK].astype(str), return_counts=True), strict=True):
            self._rejected.inc(int(count), tags={"reason": str(reason)})


def _label_columns(name: str, labels: AttributeLabels, good: np.ndarray, num_rows: int) -> dict[str, pa.Array]:
    """Columns of one attribute over all rows; rows that were not scored are null."""
    bad = np.ones(num_rows, bool)
    bad[good] = False
    null_label = bad.copy()
    null_label[good] = labels.unknown

    def spread(values: np.ndarray) -> np.ndarray:
        full = np.zeros((num_rows, *values.shape[1:]), values.dtype)
        full[good] = values
        return full

    score = spread(labels.score)
    if score.ndim == 1:
        score_column = pa.array(score, pa.float32(), mask=bad)
    else:
        lists = [None if is_bad else row.tolist() for row, is_bad in zip(score, bad, strict=True)]
        score_column = pa.array(lists, pa.list_(pa.float32()))
    return {
        name: pa.array(spread(labels.label), pa.int8(), mask=null_label),
        f"{name}_score": score_column,
        f"{name}_mass": pa.array(spread(labels.mass), pa.float32(), mask=bad),
    }
