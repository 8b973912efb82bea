"""Builds a scorer in the process that will use it, and has it tested before its first scores are used."""

import logging
import pkgutil

import torch

from faceattr.config import StorageConfig
from faceattr.data.model_folders import cache_folder
from faceattr.devices import given_device
from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.inspect import compute_weights_id
from faceattr.vqa.blip.network.fp8 import FP8, check_fp8
from faceattr.vqa.blip.oracle.expected import OracleScores
from faceattr.vqa.blip.oracle.request import OracleRequest, Task
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.blip.tokens import QuestionStart
from faceattr.vqa.checkpoints import check_weights_id, resolve_checkpoint
from faceattr.vqa.compiling import CompileMode, pays_to_compile
from faceattr.vqa.proven import ProvenScorer
from faceattr.vqa.questions import QuestionSet
from faceattr.vqa.scorer import Scorer

_log = logging.getLogger(__name__)

# None: what suits the device.
_DTYPES = {
    "auto": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8": FP8,
}

# By name: importing it imports transformers.
_PLAIN = "faceattr.vqa.blip.oracle.reference:build_plain"


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
    precision: str = "auto",
    compile_mode: CompileMode = "off",
    num_images: int = 0,
    storage: StorageConfig,
) -> Scorer:
    """Loads the checkpoint. The packed engine is compared with the plain path before it hands out its first scores.

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
        precision: `auto`, `float32`, `float16`, `bfloat16` or `fp8`.
        compile_mode: whether to compile the packed engine's network; see `pays_to_compile`.
        num_images: images that this process will score, about.
        storage: how object storage is reached.

    Raises:
        ConfigError: the device does not have the precision.
        ModelError: the checkpoint cannot be loaded or has other weights.
    """
    torch.set_num_threads(threads)
    folder = resolve_checkpoint(model, revision, storage=storage)
    check_weights_id(model, found=compute_weights_id(folder), expected=weights_id)
    asked, device = questions.vqa_questions(), given_device(on_gpu)
    if engine == "hf":
        plain: Scorer = pkgutil.resolve_name(_PLAIN)(
            folder, asked, device=str(device), question_start=question_start, batch_size=batch_size
        )
        return plain
    dtype = _DTYPES[precision]
    if dtype == FP8:
        check_fp8(device)
    compiles = pays_to_compile(compile_mode, num_images=num_images, device=device)
    scorer = BlipScorer(
        load_blip(str(folder)),
        asked,
        device=str(device),
        dtype=dtype,
        question_start=question_start,
        batch_size=batch_size,
        compile_in=cache_folder() if compiles else None,
    )
    _log.info("scorer device=%s dtype=%s batch_size=%d compiled=%s", device, scorer.dtype, scorer.batch_size, compiles)
    request = OracleRequest(
        weights_id=weights_id,
        size_px=scorer.image_size_px,
        question_start=question_start,
        questions=tuple(asked),
        tokenized=scorer.questions,
    )
    task = Task(request=request, folder=folder, cache=cache_folder(), threads=threads)
    return ProvenScorer(scorer, OracleScores(task))
