"""Answers a self-test's request with the plain path."""

import numpy as np
import torch

from faceattr.errors import ModelError
from faceattr.vqa.blip.oracle.modules import load_hf_blip
from faceattr.vqa.blip.oracle.reference import HfScorer
from faceattr.vqa.blip.oracle.request import Task
from faceattr.vqa.blip.tokens import tokenize_questions
from faceattr.vqa.scorer import draw_noise


def compute_scores(task: Task) -> np.ndarray:
    """Returns the plain path's scores of `draw_noise`, float32 [2, total answers], computed on the CPU in float32.

    Raises:
        ModelError: the checkpoint cannot be loaded, or the tokenizers disagree.
    """
    request = task.request
    torch.set_num_threads(task.threads)
    blip = load_hf_blip(str(task.folder))
    theirs = tokenize_questions(
        blip.tokenizer,
        request.questions,
        question_start=request.question_start,
        max_positions=blip.model.config.text_config.max_position_embeddings,
    )
    for question, ours, other in zip(request.questions, request.tokenized, theirs, strict=True):
        if ours != other:
            raise ModelError(
                f"{task.folder}: self-test: {question.text!r} with its answers is {ours} to the packed engine's "
                f"tokenizer and {other} to transformers'. Run with `--engine hf` and report this"
            )
    scorer = HfScorer(blip, request.questions, device="cpu", question_start=request.question_start)
    return scorer.score(draw_noise(request.size_px))
