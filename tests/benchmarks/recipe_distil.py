"""Labels of a blunt teacher for `bench_recipes.py --sections distil`: the tiny BLIP, blunted in one of two ways.

scores    to the log-odds of every answer Gaussian noise is added, a part that the paraphrases of a question share and
          an equal part of its own: errors without a system
weights   to every tensor of the checkpoint Gaussian noise is added, scaled by the tensor's standard deviation; such a
          teacher leans to one answer, so the threshold of each attribute is set so that it says yes as often as is true
          of the audited faces, as one would do with a small audited sample: errors that the image decides

The noise's factor is bisected until the macro F1 of the labels of the first 500 faces, the audited ones, is 0.85. Each
seed has a teacher of its own. It is asked the questions of the set `clear_face`, three paraphrases an attribute, and
labels the training and the validation rows. Students never see the truth: their best epoch is chosen by the teacher's
labels, and only the final figures are of the truth.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceattr.data.runs.run_attributes import Decision
from faceattr.data.sources.recentring import Recentring, measure_recentrings
from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.checkpoints import TINY_MODEL, resolve_checkpoint
from faceattr.vqa.question_files import load_question_set
from faceattr.vqa.questions import AttributeLabels
from tests.benchmarks.recipe_judge import Figures, judge, mean_f1
from tests.benchmarks.recipe_sets import UNKNOWN, ImageSet

TEACHER_PX = 96
TARGET_F1 = 0.85
_AUDITED = 500
_BISECTIONS = 8
TEACHERS = {"scores": 16.0, "weights": 4.0}
"""Way to blunt a teacher -> the largest factor of its noise."""
_PARAPHRASES = 3
_WEIGHTS = "model.safetensors"
Columns = dict[str, tuple[Tensor, Tensor, Tensor]]
"""Attribute -> score, mass, and mass times agreement, float32 [n] each."""


@dataclass(frozen=True)
class Student:
    """How a student learns from the teacher.

    Attributes:
        settings: keys of the train config that differ from the defaults.
        doubts: what the weight of a score is: 1, its mass, or its mass times the agreement of the paraphrases.
        abstain: scores between these have no label.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    doubts: Literal["none", "mass", "agreement"] = "mass"
    abstain: tuple[float, float] = (0.5, 0.5)


_BAND = (0.2, 0.8)
STUDENTS = {
    "hard": Student({"loss.soft_labels": False}),
    "hard, generalised": Student({"loss.soft_labels": False, "loss.robust": "generalised"}),
    "hard, symmetric": Student({"loss.soft_labels": False, "loss.robust": "symmetric"}),
    "soft": Student(doubts="none"),
    "soft, mass": Student(),
    "soft, mass and agreement": Student(doubts="agreement"),
    "soft, generalised": Student({"loss.robust": "generalised"}),
    "soft, consistency": Student({"loss.consistency": 1.0}),
    "soft, abstained unlabelled": Student({"loss.abstained": "unlabelled"}, abstain=_BAND),
    "soft, abstained unlabelled, consistency": Student(
        {"loss.abstained": "unlabelled", "loss.consistency": 1.0}, abstain=_BAND
    ),
}


def learn_from(data: ImageSet, teacher: Path, student: Student) -> ImageSet:
    """Puts the teacher's labels in the place of the true ones, which judge the validation rows."""
    found = torch.load(teacher, weights_only=True)
    labels, scores, weights = {}, {}, {}
    low, high = student.abstain
    for split, columns in found["labels"].items():
        labels[split], scores[split], weights[split] = {}, {}, {}
        count = len(data.images[split])
        for name, column in columns.items():
            score, mass, agreeing_mass = (each[:count] for each in column)
            undecided = (score > low) & (score < high)
            labels[split][name] = torch.where(undecided, UNKNOWN, (score >= 0.5).long())
            scores[split][name] = score
            doubts = {"none": torch.ones_like(mass), "mass": mass, "agreement": agreeing_mass}
            weights[split][name] = doubts[student.doubts]
    return replace(data, labels=labels, scores=scores, weights=weights, truth=data.labels["val"])


def read_teacher_figures(data: ImageSet, teacher: Path) -> Figures:
    """Returns the figures of the teacher itself on the validation rows."""
    found = torch.load(teacher, weights_only=True)["labels"]["val"]
    return judge({name: (score - 0.5)[:, None] for name, (score, _, _) in found.items()}, data)


def prepare_teacher(path: Path, data: ImageSet, *, kind: str, seed: int) -> Path:
    """Blunts a teacher and stores its labels; `data` has images of TEACHER_PX."""
    folder = path.with_suffix("")
    tensors = load_file(_copy_checkpoint(folder) / _WEIGHTS)
    truth = {name: values[:_AUDITED] for name, values in data.labels["train"].items()}
    audited = replace(data, images={"val": data.images["train"][:_AUDITED]}, labels={"val": truth})
    low, high = 0.0, TEACHERS[kind]
    for _ in range(_BISECTIONS):
        factor = (low + high) / 2
        if kind == "weights":
            _write_noisy(folder, tensors, factor=factor, seed=seed)
        noise = factor if kind == "scores" else 0.0
        columns = _ask(folder, audited.images["val"], noise=noise, seed=seed)
        cuts = {name: _find_cut(columns[name][0], truth[name]) if kind == "weights" else 0.5 for name in columns}
        columns = _recentre(columns, _measure(columns, cuts))
        figures = judge({name: (each[0] - 0.5)[:, None] for name, each in columns.items()}, audited)
        low, high = (factor, high) if mean_f1(figures) > TARGET_F1 else (low, factor)
    asked = {
        split: _ask(folder, images, noise=noise, seed=seed + 1000 * number)
        for number, (split, images) in enumerate(data.images.items())
    }
    recentrings = _measure(asked["train"], cuts)
    labels = {split: _recentre(columns, recentrings) for split, columns in asked.items()}
    torch.save({"factor": factor, "cuts": cuts, "labels": labels}, path)
    return path


def _find_cut(score: Tensor, truth: Tensor) -> float:
    """Returns the score that as many rows reach as are truly yes."""
    return float(score.double().quantile(1 - truth.double().mean()))


def _measure(columns: Columns, cuts: Mapping[str, float]) -> dict[str, Recentring]:
    """Measures what pack.py would measure on a run with these scores and thresholds."""
    decisions = {name: Decision(threshold=cut) for name, cut in cuts.items()}
    return measure_recentrings([_to_table(columns, cuts)], decisions)


def _recentre(columns: Columns, recentrings: Mapping[str, Recentring]) -> Columns:
    """Moves scores so that 0.5 is the threshold, as pack.py does."""
    table = _to_table(columns, {name: each.threshold for name, each in recentrings.items()})
    return {
        name: (torch.from_numpy(each.apply(table[f"{name}_score"], table[name]).to_numpy()), *columns[name][1:])
        for name, each in recentrings.items()
    }


def _to_table(columns: Columns, cuts: Mapping[str, float]) -> pa.Table:
    scores = {name: score.numpy() for name, (score, _, _) in columns.items()}
    labels = {name: (score >= cuts[name]).astype(np.int8) for name, score in scores.items()}
    return pa.table(labels | {f"{name}_score": score for name, score in scores.items()})


def _copy_checkpoint(folder: Path) -> Path:
    return Path(shutil.copytree(resolve_checkpoint(TINY_MODEL, None), folder, dirs_exist_ok=True))


def _write_noisy(folder: Path, tensors: Mapping[str, Tensor], *, factor: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    noisy = {}
    for name, tensor in sorted(tensors.items()):
        noise = torch.randn(tensor.shape, generator=generator)
        scale = tensor.float().std() if tensor.numel() > 1 else torch.tensor(0.0)
        noisy[name] = (tensor.float() + factor * scale * noise).to(tensor.dtype)
    save_file(noisy, folder / _WEIGHTS, metadata={"format": "pt"})


def _ask(folder: Path, images: Tensor, *, noise: float, seed: int) -> Columns:
    """Asks the checkpoint in a folder about uint8 [n, 3, 96, 96]."""
    questions = load_question_set("clear_face")
    scorer = BlipScorer(load_blip(str(folder)), questions.vqa_questions(), device="cpu")
    pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    likelihoods = np.concatenate([scorer.score(part) for part in np.array_split(pixels, max(1, len(pixels) // 256))])
    likelihoods = _disturb(likelihoods, noise=noise, seed=seed)
    plain = questions.compute_labels(likelihoods)
    agreeing = replace(questions, weighs_agreement=True).compute_labels(likelihoods)
    return {name: _to_tensors(plain[name], agreeing[name]) for name in plain}


def _disturb(likelihoods: np.ndarray, *, noise: float, seed: int) -> np.ndarray:
    """Adds noise to the log-odds of yes; the mass of each question stays what it was."""
    answers = likelihoods.reshape(len(likelihoods), -1, _PARAPHRASES, 2)
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=answers.shape[:2])[..., None], rng.normal(size=answers.shape[:3])
    moved = answers.astype(np.float64)
    moved[..., 1] += noise * (shared + own)
    moved += np.logaddexp.reduce(answers, axis=-1, keepdims=True) - np.logaddexp.reduce(moved, axis=-1, keepdims=True)
    return moved.reshape(likelihoods.shape).astype(np.float32)


def _to_tensors(plain: AttributeLabels, agreeing: AttributeLabels) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(plain.score), torch.from_numpy(plain.mass), torch.from_numpy(agreeing.mass)
