"""A label run any stage of which can be slow: its decoder and its model take the time that they are told."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.actors.label_actor import VqaActor
from faceattr.jobs.images.decode import Resizer
from faceattr.jobs.images.label import LabelJob

SIZE_PX = 8


def slow_resize(image: np.ndarray, seconds: float) -> np.ndarray:
    """Gives a black image, some time later."""
    time.sleep(seconds)
    return np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)


@dataclass(frozen=True)
class SlowScorer:
    """Takes fixed times to be built and for an image, and no CPU, as a GPU would."""

    start_s: float
    seconds_per_image: float
    num_answers: int
    image_size_px: int = SIZE_PX

    def __call__(self) -> "SlowScorer":
        time.sleep(self.start_s)
        return self

    def score(self, images: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds_per_image * len(images))
        return np.full((len(images), self.num_answers), -1.0, np.float32)


@dataclass(frozen=True, kw_only=True)
class SlowJob(LabelJob):
    """A label job whose stages take the given seconds: the actor to start, and decoder and model for an image."""

    start_s: float = 0.0
    decode_s: float = 0.0
    score_s: float = 0.0

    @property
    def resizer(self) -> Resizer:
        return Resizer("tests.fakes.slow_stages:slow_resize", self.decode_s, size_px=SIZE_PX)

    def actor(self, actors: ActorLayout, schema: pa.Schema) -> tuple[type, dict[str, Any]]:
        num_answers = sum(len(each.answers) for each in self.questions.vqa_questions())
        scorer = SlowScorer(self.start_s, self.score_s, num_answers)
        return VqaActor, {"build_scorer": scorer, "questions": self.questions, "schema": schema}
