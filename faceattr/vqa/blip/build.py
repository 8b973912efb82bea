"""Builds a scorer in the process that will use it, and tests it before use."""

import torch

from faceattr.config import StorageConfig
from faceattr.devices import given_device
from faceattr.errors import ModelError
from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.reference import HfScorer
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.blip.tokens import QuestionStart
from faceattr.vqa.questions import QuestionSet
from faceattr.vqa.scorer import Scorer, self_test


def build_scorer(
    *,
    model: str,
    revision: str | None,
    weights_id: str,
    questions: QuestionSet,
    engine: str,
    question_start: QuestionStart,
    batch_size: int,
    threads: int,
    on_gpu: bool,
    storage: StorageConfig,
) -> Scorer:
    """Loads the checkpoint and, for the packed engine, compares it with the plain path on two images.

    Args:
        model: hub id, local folder, folder in object storage or `tiny`.
        revision: commit of a hub checkpoint.
        weights_id: weights hash that the driver found; other weights are refused here.
        questions: the questions to ask.
        engine: `packed` or `hf`.
        question_start: `cls` or `enc`.
        batch_size: images per forward pass.
        threads: CPU threads to compute with.
        on_gpu: whether Ray gave this process a GPU, or a share of one.
        storage: how object storage is reached.

    Raises:
        ModelError: the checkpoint cannot be loaded, has other weights, or computes wrong numbers.
    """
    torch.set_num_threads(threads)
    checkpoint = load_blip(model, revision=revision, storage=storage)
    if checkpoint.weights_id != weights_id:
        raise ModelError(
            f"{model}: this node has weights {checkpoint.weights_id[:12]}, the driver {weights_id[:12]}. Use object "
            "storage or a pinned --revision, so that every node loads the same files."
        )
    asked, device = questions.vqa_questions(), str(given_device(on_gpu))
    plain = HfScorer(checkpoint, asked, device=device, question_start=question_start, batch_size=batch_size)
    if engine == "hf":
        return plain
    packed = BlipScorer(checkpoint, asked, device=device, question_start=question_start, batch_size=batch_size)
    self_test(packed, plain)
    return packed
