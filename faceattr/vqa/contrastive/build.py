"""Builds a scorer in the process that will use it, and has it tested before its first scores are used."""

import logging
from typing import Any

import torch

from faceattr.config import StorageConfig
from faceattr.devices import given_device
from faceattr.vqa.checkpoints import check_weights_id, resolve_checkpoint
from faceattr.vqa.contrastive.inspect import hash_contrastive
from faceattr.vqa.contrastive.modules import load_contrastive
from faceattr.vqa.contrastive.reference import build_plain_contrastive
from faceattr.vqa.contrastive.scorer import ContrastiveScorer
from faceattr.vqa.proven import PlainHere, ProvenScorer
from faceattr.vqa.questions import QuestionSet
from faceattr.vqa.scorer import Scorer

_log = logging.getLogger(__name__)

# None: what suits the device.
_DTYPES = {"auto": None, "float32": torch.float32, "float16": torch.float16}
# Absolute, of probabilities. A scale of 100 and more, as the published models have, turns an embedding's error of 5e-3,
# which half precision makes in 12 layers, into 0.06 of a logit and 0.015 of a probability. bfloat16 is off by 7 times
# as much and therefore not offered.
_HALF_TOLERANCE = 0.03
# Images of the self-test.
_PLAIN_BATCH = 2


def build_scorer(
    *,
    model: str,
    revision: str | None,
    weights_id: str,
    questions: QuestionSet,
    engine: str,
    batch_size: int,
    threads: int,
    on_gpu: bool,
    precision: str = "auto",
    storage: StorageConfig,
    **_: Any,
) -> Scorer:
    """Loads the checkpoint. The fast engine is compared with the plain path before it hands out its first scores.

    Args:
        model: hub id, local folder or folder in object storage.
        revision: commit of a hub checkpoint.
        weights_id: weights hash that the driver found; other weights are refused here.
        questions: the attributes, whose prompts are compared with images.
        engine: `packed` or `hf`.
        batch_size: images per forward pass.
        threads: CPU threads to compute with.
        on_gpu: whether Ray gave this process a GPU, or a share of one.
        precision: `auto`, `float32` or `float16`.
        storage: how object storage is reached.
        _: what other families need.

    Raises:
        ConfigError: a prompt is too long.
        ModelError: the checkpoint cannot be loaded or has other weights.
    """
    torch.set_num_threads(threads)
    folder = resolve_checkpoint(model, revision, storage=storage)
    check_weights_id(model, found=hash_contrastive(folder), expected=weights_id)
    prompts, device = questions.answer_prompts(), given_device(on_gpu)
    if engine == "hf":
        return build_plain_contrastive(folder, prompts, device=str(device), batch_size=batch_size)
    checkpoint = load_contrastive(folder, attention="sdpa")
    scorer = ContrastiveScorer(checkpoint, prompts, device=str(device), dtype=_DTYPES[precision], batch_size=batch_size)
    _log.info("scorer device=%s dtype=%s batch_size=%d", device, scorer.dtype, scorer.batch_size)
    plain = PlainHere(lambda: build_plain_contrastive(folder, prompts, device="cpu", batch_size=_PLAIN_BATCH))
    return ProvenScorer(scorer, plain, half_tolerance=_HALF_TOLERANCE)
