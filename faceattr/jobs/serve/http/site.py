"""The addresses of a server.

    POST /predict   images -> as `faceattr predict --json`: an object for an image, a list of them for a form
    GET  /healthz   200 while this process answers (liveness)
    GET  /readyz    200 if a replica could predict now, else 503 (readiness)
    GET  /metrics   figures for Prometheus

`/predict` and `/metrics` ask for the token, if there is one. Every other answer is `{"error": text}`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from faceattr.config.serving.requests import RequestLimitsConfig
from faceattr.data.formats.json_text import encode_json
from faceattr.jobs.serve.http.admission import RETRY_AFTER, Admission
from faceattr.jobs.serve.http.bearer import Bearer
from faceattr.jobs.serve.http.figures import CONTENT_TYPE, ServeFigures
from faceattr.jobs.serve.http.requests import (
    RefusedRequestError,
    Upload,
    read_body,
    read_length,
    read_query,
    split_uploads,
)
from faceattr.jobs.serve.http.scored import Scored, UploadScorer

PREDICT_PATH = "/predict"
_Handler = Callable[[Request], Awaitable[Response]]
_READ = ("GET", "HEAD")
_GONE = 499  # as nginx counts requests whose client has left; nobody reads the answer


class Site:
    """Answers requests.

    Args:
        scorer: predicts images.
        limits: bounds of requests.
        bearer: who may ask.
        figures: counts.
    """

    def __init__(
        self, scorer: UploadScorer, limits: RequestLimitsConfig, bearer: Bearer, figures: ServeFigures
    ) -> None:
        self._scorer = scorer
        self._limits = limits
        self._bearer = bearer
        self._figures = figures
        self._queue = Admission(limits)
        figures.queue.set_function(lambda: self._queue.images)
        self._routes: Mapping[str, tuple[tuple[str, ...], _Handler]] = {
            PREDICT_PATH: (("POST",), self._predict),
            "/healthz": (_READ, self._tell_health),
            "/readyz": (_READ, self._tell_readiness),
            "/metrics": (_READ, self._tell_figures),
        }

    async def answer(self, request: Request) -> Response:
        """Answers one request; never raises for what a client sent."""
        path = request.scope["path"]
        started_s = time.perf_counter()
        try:
            response = await self._dispatch(path, request)
        except RefusedRequestError as refused:
            response = _json({"error": str(refused)}, status=refused.status, headers=refused.headers)
        except ClientDisconnect:
            response = _json({"error": "the client has left"}, status=_GONE)
        if path == PREDICT_PATH:
            self._figures.seconds.observe(time.perf_counter() - started_s)
        known = path if path in self._routes else "other"
        self._figures.requests.labels(path=known, status=response.status_code).inc()
        return response

    async def _dispatch(self, path: str, request: Request) -> Response:
        if path not in self._routes:
            raise RefusedRequestError(404, f"no such address; there are {', '.join(self._routes)}")
        methods, handler = self._routes[path]
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise RefusedRequestError(405, f"{request.method} {path}: expected {allowed}", {"Allow": allowed})
        return await handler(request)

    async def _predict(self, request: Request) -> Response:
        self._bearer.check(request.headers)
        confidence = read_query(request.query_params)
        with self._queue.admit(read_length(request.headers, self._limits)) as place:
            deadline_s = asyncio.get_running_loop().time() + self._limits.timeout_s
            async with self._until(deadline_s, 408, "the body did not arrive"):
                body = await read_body(request.stream(), self._limits)
            content_type = request.headers.get("content-type", "")
            uploads = split_uploads(content_type, body, self._limits)
            place.take(images=len(uploads) - 1)
            async with self._until(deadline_s, 503, "there was no answer"):
                found = await self._score_all(uploads, confidence)
        values = [each.values for each in found]
        return _json(values if content_type.lower().startswith("multipart/") else values[0])

    async def _score_all(self, uploads: list[Upload], confidence: bool) -> list[Scored]:
        tasks = [asyncio.ensure_future(self._score(each, confidence)) for each in uploads]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _score(self, upload: Upload, confidence: bool) -> Scored:
        scored = await self._scorer.score(upload, confidence=confidence)
        if scored.reason is None:
            self._figures.images.inc()
        else:
            self._figures.rejected.labels(reason=scored.reason).inc()
        if scored.batch_images:
            self._figures.batches.observe(scored.batch_images)
            self._figures.batch_seconds.observe(scored.batch_s)
        return scored

    @contextlib.asynccontextmanager
    async def _until(self, deadline_s: float, status: int, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline_s):
                yield
        except TimeoutError as error:
            text = f"{what} within {self._limits.timeout_s:g} s (--limits.timeout-s); try again"
            raise RefusedRequestError(status, text, RETRY_AFTER) from error

    async def _tell_health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _tell_readiness(self, request: Request) -> Response:
        if not await self._scorer.is_ready():
            raise RefusedRequestError(503, "no replica of the model is running", RETRY_AFTER)
        return _json({"status": "ready"})

    async def _tell_figures(self, request: Request) -> Response:
        self._bearer.check(request.headers)
        return Response(self._figures.encode(), headers={"Content-Type": CONTENT_TYPE})


def _json(values: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = encode_json(values) + "\n"
    return Response(text, status, headers=headers, media_type="application/json")
