"""Runs the application on this machine's Ray, or on the cluster of RAY_ADDRESS, until Ctrl-C."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from faceattr.config import RayConfig
from faceattr.config.serving.serve import ServeConfig
from faceattr.errors import ConfigError, RunError
from faceattr.jobs.cluster.session import cluster_errors, find_own_error, ray_session, stop_on_sigterm
from faceattr.jobs.serve.application import APPLICATION, build_application, check_model
from faceattr.jobs.serve.http.bearer import Bearer
from faceattr.jobs.serve.http.site import PREDICT_PATH
from faceattr.jobs.serve.layout import ReplicaLayout, plan_replicas

logger = logging.getLogger(__name__)
# What the proxy waits longer than the front, which then answers in its own words.
_PROXY_GRACE_S = 10.0


def serve_model(
    config: ServeConfig, *, host: str, port: int, token: str | None, ray_config: RayConfig, tell: Callable[[str], None]
) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        config: the model and its limits.
        host: name or address to listen at; see `faceattr.jobs.serve.http.address`.
        port: port to listen at.
        token: what clients send; None for none.
        ray_config: the Ray session.
        tell: receives text for the user, once the server answers.

    Raises:
        ConfigError, ModelError: the command cannot run as given.
        RunError: the cluster failed.
    """
    checked = check_model(config)
    is_ours = not ray.is_initialized() and not os.environ.get("RAY_ADDRESS")
    with ray_session(ray_config), stop_on_sigterm(), cluster_errors():
        layout = plan_replicas(config, ray.cluster_resources())
        application = build_application(config, checked, layout, Bearer.of(token))
        with serving(application, config, host, port, is_ours):
            tell(_describe(config, layout, host, port))
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            tell("stopping: requests that have begun are answered")


@contextlib.contextmanager
def serving(application: serve.Application, config: ServeConfig, host: str, port: int, is_ours: bool) -> Iterator[None]:
    """Serves in the block, once the replicas are ready, and waits at its end for requests that have begun.

    Args:
        application: what Serve runs.
        config: its settings.
        host: name or address to listen at.
        port: port to listen at.
        is_ours: whether the Ray session ends with this one; else Serve is shut down at the end of the block.

    Raises:
        ConfigError, ModelError, RunError: Serve already runs in the session, or the application cannot start.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().applications:
        raise ConfigError(
            "Ray Serve already runs in this cluster, at an address of its own: unset RAY_ADDRESS to start a Ray of "
            "your own, or add this application to the config file of that one (docs/serving.md)"
        )
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    options = HTTPOptions(host=host, port=port, request_timeout_s=config.limits.timeout_s + _PROXY_GRACE_S)
    try:
        serve.start(proxy_location="HeadOnly", http_options=options, logging_config=quiet)
        try:
            serve.run(application, name=APPLICATION, route_prefix="/", logging_config=quiet)
        except RuntimeError as error:  # Serve's for an application that does not start
            found = find_own_error(str(error))
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            raise found or RunError(f"the model cannot be served: {' '.join(last)}") from error
        yield
        serve.delete(APPLICATION)  # waits for the requests that have begun
    finally:
        if not is_ours:  # ours ends with all its processes; `serve.shutdown` makes Ray print an error that is none
            serve.shutdown()


def _describe(config: ServeConfig, layout: ReplicaLayout, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    on = f"{layout.gpus:g} GPU" if layout.gpus else f"{layout.threads} CPU thread{'s' if layout.threads > 1 else ''}"
    copies = "1 replica" if layout.replicas == 1 else f"{layout.replicas} replicas"
    return (
        f"{config.model} answers at http://{shown}:{port}{PREDICT_PATH} ({copies} with {on} each, batches of up to "
        f"{layout.batch_size}; process {os.getpid()}; Ctrl-C ends it)"
    )
