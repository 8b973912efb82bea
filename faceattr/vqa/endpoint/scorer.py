"""Scores images by asking a server, several requests at a time."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from faceattr.config import StorageConfig
from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.endpoint.address import parse_endpoint
from faceattr.vqa.endpoint.client import EndpointClient
from faceattr.vqa.endpoint.facts import SIZE_PX, ServedModel, find_served
from faceattr.vqa.endpoint.request import MOST_ANSWERS, build_request, encode_image, read_likelihoods
from faceattr.vqa.questions import QuestionSet, VqaQuestion, compute_answer_slices
from faceattr.vqa.scorer import check_images

_log = logging.getLogger(__name__)


class EndpointScorer:
    """Asks every question about every image in a request of its own.

    The questions of one image follow each other, since a server keeps the image's part of a prompt.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
    """

    def __init__(
        self, client: EndpointClient, served: ServedModel, questions: Sequence[VqaQuestion], *, requests: int
    ) -> None:
        """Sends nothing yet.

        Args:
            client: the server.
            served: what it said of its model.
            questions: the questions.
            requests: requests at a time.

        Raises:
            ConfigError: a question has too many answers.
        """
        for question in questions:
            if len(question.answers) > MOST_ANSWERS:
                raise ConfigError(
                    f"--attributes: {question.text!r} has {len(question.answers)} answers; an endpoint takes "
                    f"{MOST_ANSWERS} at most, since servers give no more likelihoods"
                )
        self.image_size_px = SIZE_PX
        self.answer_slices = compute_answer_slices(questions)
        self._client = client
        self._served = served
        self._questions = tuple(questions)
        self._threads = ThreadPoolExecutor(requests, thread_name_prefix="endpoint")

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3] -> float32 [n, total answers], natural logarithms of the answers' probabilities.

        Raises:
            EndpointError: the server does not answer.
            ConfigError, ModelError: it refuses, or answers with something else.
        """
        check_images(images, self.image_size_px)
        urls = [encode_image(image) for image in images]
        pairs = [(url, question) for url in urls for question in self._questions]
        found = list(self._threads.map(self._ask, *zip(*pairs, strict=True))) if pairs else []
        total = sum(len(each.answers) for each in self._questions)
        return np.concatenate([np.empty(0, np.float32), *found]).reshape(len(images), total)

    def _ask(self, url: str, question: VqaQuestion) -> np.ndarray:
        address = self._client.address
        answer = self._client.complete(build_request(address.model, url, question, self._served.server))
        said = answer.get("model", address.model)
        if said != address.model:
            raise ModelError(f"{address.url}: expected an answer of {address.model!r}, found one of {said!r}")
        return read_likelihoods(answer, question, address.url)


def build_scorer(
    *, model: str, weights_id: str, questions: QuestionSet, batch_size: int, storage: StorageConfig, **_: Any
) -> EndpointScorer:
    """Connects to the server, which must serve the model that the driver found.

    Args:
        model: address of the endpoint.
        weights_id: what the driver was told of the model.
        questions: the questions.
        batch_size: requests at a time.
        storage: how long a request is retried.
        _: what other engines need.

    Raises:
        EndpointError: the server does not answer.
        ConfigError, ModelError: it refuses, or serves another model now.
    """
    client = EndpointClient(parse_endpoint(model), deadline_s=storage.deadline_s, connections=batch_size)
    served = find_served(client)
    if served.identity != weights_id:
        raise ModelError(f"{client.address.url}: the run began with {weights_id}, the server now has {served.identity}")
    _log.info("scorer endpoint=%s model=%s requests=%d", client.address.url, served.identity, batch_size)
    return EndpointScorer(client, served, questions.vqa_questions(), requests=batch_size)
