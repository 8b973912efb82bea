"""The application that Ray Serve runs: the front and the replicas, with what each may take.

`faceattr serve` builds it from flags; a Ray Serve config file names `faceattr.jobs.serve.application:build_service` and
gives the same settings as `args` (cluster/kuberay/rayservice.yaml).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import serve

from faceattr.config.serving.serve import ServeConfig
from faceattr.data.images.face_view import FaceView, choose_view, describe_other_view
from faceattr.data.model_folders import absolute_name
from faceattr.errors import ConfigError
from faceattr.inference.faces import FaceFinder
from faceattr.jobs.cluster.recipe import ActorRecipe
from faceattr.jobs.serve.arguments import read_arguments
from faceattr.jobs.serve.front import Front
from faceattr.jobs.serve.http.bearer import TOKEN_VARIABLE, Bearer, read_token
from faceattr.jobs.serve.layout import ReplicaLayout, fix_layout
from faceattr.jobs.serve.replica import ModelReplica
from faceattr.models.inspect import SavedModelInfo, inspect_saved_model

logger = logging.getLogger(__name__)
APPLICATION = "faceattr"
_REPLICAS = "ModelReplica"
# A dead replica is seen at once by whoever asks it; the controller, which starts another, asks in this period.
_HEALTH_CHECK_S = 2.0
# A model that cannot be loaded is an error soon; a store that fails once is none.
_MOST_STARTS = 3
# The front takes more requests than its queue has room for: so it is the one that refuses them, with its words.
_REFUSED_AT_A_TIME = 256


@dataclass(frozen=True, kw_only=True)
class CheckedModel:
    """A checked model.

    Attributes:
        facts: what its folder says.
        view: what it is shown of an image; None for all of it.
    """

    facts: SavedModelInfo
    view: FaceView | None


def check_model(config: ServeConfig) -> CheckedModel:
    """Checks the model, without a cluster.

    Raises:
        ConfigError, ModelError: it cannot be found, or cannot be shown what was asked for.
    """
    facts = inspect_saved_model(config.model, revision=config.revision, storage=config.storage)
    view = choose_view(facts.faces, faces=config.faces, margin=config.faces_margin, missing=config.faces_missing)
    if view is not None:
        FaceFinder(view)  # the extra is installed, or the command ends here
    if warning := describe_other_view(facts.faces, view):
        logger.warning("%s", warning)
    return CheckedModel(facts=facts, view=view)


def build_application(
    config: ServeConfig, checked: CheckedModel, layout: ReplicaLayout, bearer: Bearer
) -> serve.Application:
    """Returns what Serve deploys."""
    recipe = ActorRecipe(
        "faceattr.inference.build:build_predictor",
        {
            "model": absolute_name(config.model),
            "revision": checked.facts.revision,
            "weights_id": checked.facts.weights_id,
            "precision": config.precision,
            "batch_size": layout.batch_size,
            "threads": layout.threads,
            "on_gpu": layout.gpus > 0,
            "storage": config.storage,
            "faces": checked.view,
        },
    )
    limits = config.limits
    replicas = serve.deployment(
        ModelReplica,
        name=_REPLICAS,
        num_replicas=layout.replicas,
        ray_actor_options={"num_cpus": layout.cpus, "num_gpus": layout.gpus},
        # One batch is computed while the next one gathers; the rest waits in the front, for whichever is free first.
        max_ongoing_requests=2 * layout.batch_size,
        health_check_period_s=_HEALTH_CHECK_S,
        max_constructor_retry_count=_MOST_STARTS,
        graceful_shutdown_timeout_s=limits.timeout_s,
        graceful_shutdown_wait_loop_s=0.1,
    )
    front = serve.deployment(
        Front,
        name="Front",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=limits.max_queue + _REFUSED_AT_A_TIME,
        health_check_period_s=_HEALTH_CHECK_S,
        max_constructor_retry_count=_MOST_STARTS,
        graceful_shutdown_timeout_s=limits.timeout_s,
        graceful_shutdown_wait_loop_s=0.1,
    )
    bound = replicas.bind(
        recipe, config.decode, batch_size=layout.batch_size, batch_wait_s=config.batch_wait_ms / 1_000
    )
    return front.bind(bound, application=APPLICATION, deployment=_REPLICAS, limits=limits, bearer=bearer)


def build_service(arguments: Mapping[str, Any]) -> serve.Application:
    """Returns the application for a Ray Serve config file, whose proxies other machines reach.

    Args:
        arguments: the fields of `ServeConfig` by name; `replicas` and `gpus_per_replica` must be among them, since a
            cluster that grows from nothing does not say what there will be.

    Raises:
        ConfigError, ModelError: a setting is wrong, the model cannot be found, or the environment has no token.
    """
    config = read_arguments(ServeConfig, arguments)
    if config.replicas is None or config.gpus_per_replica is None:
        raise ConfigError("args: replicas and gpus_per_replica are needed: this cluster may have no machine yet")
    token = read_token()
    if token is None:
        raise ConfigError(f"the environment has no {TOKEN_VARIABLE}; take it from a Secret, as rayservice.yaml does")
    layout = fix_layout(config, replicas=config.replicas, gpus=config.gpus_per_replica)
    return build_application(config, check_model(config), layout, Bearer.of(token))
