"""The front: one process that all requests pass, and its line to the replicas."""

import asyncio
import logging

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from faceattr.config.serving.requests import RequestLimitsConfig
from faceattr.errors import FaceattrError
from faceattr.jobs.serve.http.admission import RETRY_AFTER
from faceattr.jobs.serve.http.bearer import Bearer
from faceattr.jobs.serve.http.figures import ServeFigures
from faceattr.jobs.serve.http.requests import RefusedRequestError, Upload
from faceattr.jobs.serve.http.scored import Scored
from faceattr.jobs.serve.http.site import Site

logger = logging.getLogger(__name__)
# An image that ends every replica cannot be told from one that was in its batch by chance; so the tries are counted.
_MOST_TRIES = 3


class Replicas:
    """The replicas of the model; a `faceattr.jobs.serve.http.scored.UploadScorer`.

    Args:
        handle: Serve's handle of their deployment.
        application: the name of the application.
        deployment: the name of their deployment.
        figures: counts retries.
    """

    def __init__(self, handle: DeploymentHandle, application: str, deployment: str, figures: ServeFigures) -> None:
        self._handle = handle
        self._application = application
        self._deployment = deployment
        self._figures = figures

    async def score(self, upload: Upload, *, confidence: bool) -> Scored:
        """See `UploadScorer`. An image whose replica is lost is sent to another: predicting it twice does no harm."""
        for attempt in range(1, _MOST_TRIES + 1):
            try:
                return await self._ask(upload, confidence)
            except RayTaskError as error:  # raised by the replica
                cause = error.cause
                logger.error("replica_failed error=%r", cause)
                # Other errors may quote what is none of the client's business.
                what = str(cause) if isinstance(cause, FaceattrError) else type(cause).__name__
                raise RefusedRequestError(500, f"the model failed: {what}") from error
            except DeploymentUnavailableError as error:
                raise RefusedRequestError(503, "no replica of the model could be started", RETRY_AFTER) from error
            except RayActorError as error:
                logger.warning("replica_lost try=%d of=%d error=%s", attempt, _MOST_TRIES, type(error).__name__)
                self._figures.retries.inc()
        raise RefusedRequestError(503, f"{_MOST_TRIES} replicas were lost with this image; try again", RETRY_AFTER)

    async def _ask(self, upload: Upload, confidence: bool) -> Scored:
        response = self._handle.score.remote(upload, confidence)
        try:
            found: Scored = await response
        except asyncio.CancelledError:
            response.cancel()  # its client has left, or its time is over: it need not wait for a batch any longer
            raise
        return found

    async def is_ready(self) -> bool:
        """See `UploadScorer`."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._application)
        if application is None or self._deployment not in application.deployments:
            return False
        return application.deployments[self._deployment].replica_states.get("RUNNING", 0) > 0


class Front:
    """Ray Serve's ingress.

    Args:
        replicas: Serve's handle of the replicas.
        application: the name of the application.
        deployment: the name of the replicas' deployment.
        limits: bounds of requests.
        bearer: who may ask.
    """

    def __init__(
        self,
        replicas: DeploymentHandle,
        *,
        application: str,
        deployment: str,
        limits: RequestLimitsConfig,
        bearer: Bearer,
    ) -> None:
        figures = ServeFigures()
        self._site = Site(Replicas(replicas, application, deployment, figures), limits, bearer, figures)

    async def __call__(self, request: Request) -> Response:
        """Answers one HTTP request."""
        return await self._site.answer(request)
