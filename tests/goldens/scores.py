"""What the tiny BLIP gives for a dozen drawn faces, and the labels that follow."""

from typing import Any

import numpy as np

from faceattr.config.shared import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decode import decode_image
from faceattr.vqa.blip.build import build_scorer
from faceattr.vqa.blip.preprocess import resize_rgb
from faceattr.vqa.engines import inspect_checkpoint
from faceattr.vqa.question_files import load_question_set
from tests.goldens.bucket import SAMPLES

NUM_SCORED = 12
# Absolute; other CPUs add in another order. Those with AVX-512, AVX2 or SSE differ by 5.4e-7.
TOLERANCE = 1e-6


def collect_scores() -> dict[str, Any]:
    """Attribute of the default question set -> label, score and mass of each face."""
    questions = load_question_set("clear_face")
    facts = inspect_checkpoint("tiny")
    scorer = build_scorer(
        model="tiny",
        revision=None,
        weights_id=facts.weights_id,
        questions=questions,
        engine="packed",
        question_start="cls",
        batch_size=8,
        threads=1,
        on_gpu=False,
        storage=StorageConfig(),
    )
    files = [SAMPLES / "faces" / f"{number:03d}.jpg" for number in range(NUM_SCORED)]
    limits = ImageLimitsConfig(max_bytes=2**20, max_pixels=2**20)
    images = [resize_rgb(decode_image(path.read_bytes(), limits), scorer.image_size_px) for path in files]
    found = questions.compute_labels(scorer.score(np.stack(images)))
    return {
        name: {"label": each.label.tolist(), "score": each.score.tolist(), "mass": each.mass.tolist()}
        for name, each in found.items()
    }
