"""Builds a decoder's scorer in the process that will use it, and has it tested before its first scores are used."""

import logging

import torch

from faceattr.config import StorageConfig
from faceattr.devices import given_device
from faceattr.vqa.blip.tokens import QuestionStart
from faceattr.vqa.checkpoints import check_weights_id, resolve_checkpoint
from faceattr.vqa.compiling import CompileMode
from faceattr.vqa.decoder.checkpoint import load_decoder
from faceattr.vqa.decoder.inspect import hash_decoder
from faceattr.vqa.decoder.reference import PlainDecoder
from faceattr.vqa.decoder.scorer import DecoderScorer
from faceattr.vqa.proven import PlainHere, ProvenScorer
from faceattr.vqa.questions import QuestionSet
from faceattr.vqa.scorer import Scorer

_log = logging.getLogger(__name__)

# None: what suits the device.
_DTYPES = {"auto": None, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Absolute difference of probabilities: bfloat16, in which these models were trained, keeps 8 bits of a logit. Not
# measured on a GPU yet.
_HALF_TOLERANCE = 0.02


def build_scorer(
    *,
    model: str,
    revision: str | None,
    weights_id: str,
    questions: QuestionSet,
    engine: str,
    question_start: QuestionStart = "cls",
    batch_size: int,
    threads: int,
    on_gpu: bool,
    precision: str = "auto",
    compile_mode: CompileMode = "off",
    num_images: int = 0,
    storage: StorageConfig,
) -> Scorer:
    """Loads the checkpoint. The packed engine is compared with the plain path before it hands out its first scores.

    Arguments as in `faceattr.vqa.blip.build.build_scorer`.

    Raises:
        ModelError: the checkpoint cannot be loaded, has other weights, or its chat template cannot be used.
    """
    torch.set_num_threads(threads)
    folder = resolve_checkpoint(model, revision, storage=storage)
    check_weights_id(model, found=hash_decoder(folder), expected=weights_id)
    checkpoint, asked, device = load_decoder(folder), questions.vqa_questions(), str(given_device(on_gpu))
    if engine == "hf":
        return PlainDecoder(checkpoint, asked, device=device, batch_size=batch_size)
    scorer = DecoderScorer(checkpoint, asked, device=device, dtype=_DTYPES[precision], batch_size=batch_size)
    _log.info("scorer device=%s dtype=%s batch_size=%d", device, scorer.dtype, scorer.batch_size)
    # On the same device: on a GPU's host, with one thread, a large model would need many minutes.
    plain = PlainHere(lambda: PlainDecoder(checkpoint, asked, device=device, batch_size=2))
    return ProvenScorer(scorer, plain, half_tolerance=_HALF_TOLERANCE)
