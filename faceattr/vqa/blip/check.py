"""Whether a checkpoint can be asked questions, found out by its tokenizer alone: before a run begins, without torch."""

from pathlib import Path

from faceattr.vqa.blip.inspect import check_folder
from faceattr.vqa.blip.network.architecture import read_architecture
from faceattr.vqa.blip.tokenizer import load_tokenizer
from faceattr.vqa.blip.tokens import QuestionStart, tokenize_questions
from faceattr.vqa.checkpoints import CHECKPOINT_CONFIG
from faceattr.vqa.questions import QuestionSet


def check_questions(folder: Path, questions: QuestionSet, question_start: QuestionStart) -> None:
    """Checks questions and answers as the scorer does.

    Args:
        folder: of the checkpoint.
        questions: the questions to ask.
        question_start: first token of a question.

    Raises:
        ConfigError: a question or answer is empty, too long or unknown to the vocabulary, or an answer is given twice.
        ModelError: the folder has no tokenizer that fits the model.
    """
    architecture = read_architecture(check_folder(folder), folder / CHECKPOINT_CONFIG)
    tokenizer = load_tokenizer(folder, architecture)
    max_positions = architecture.max_positions
    tokenize_questions(tokenizer, questions.vqa_questions(), question_start=question_start, max_positions=max_positions)
