"""The application that Ray Serve runs: the front and the replicas, with what each may take.

`faceattr serve` builds it from flags; a Ray Serve config file names `faceattr.jobs.serve.application:build_service` and
gives the same settings as `args` (cluster/kuberay/rayservice.yaml).
"""

import dataclasses
import difflib
import logging
import typing
from collections.abc import Mapping
from typing import Any

from ray import serve

from faceattr.config.serving.serve import ServeConfig
from faceattr.data.images.face_view import choose_view, describe_other_view
from faceattr.data.model_folders import absolute_name
from faceattr.errors import ConfigError
from faceattr.inference.faces import FaceFinder
from faceattr.jobs.cluster.recipe import ActorRecipe
from faceattr.jobs.serve.bearer import TOKEN_VARIABLE, Bearer, read_token
from faceattr.jobs.serve.front import Front
from faceattr.jobs.serve.layout import ReplicaLayout, fix_layout
from faceattr.jobs.serve.replica import ModelReplica
from faceattr.models.inspect import inspect_saved_model

logger = logging.getLogger(__name__)
APPLICATION = "faceattr"
_REPLICAS = "ModelReplica"
# A dead replica is seen at once by whoever asks it; the controller, which starts another, asks in this period.
_HEALTH_CHECK_S = 2.0
# The front takes more requests than its queue has room for: so it is the one that refuses them, with its words.
_REFUSED_AT_A_TIME = 256


def build_application(config: ServeConfig, layout: ReplicaLayout, bearer: Bearer) -> serve.Application:
    """Checks the model and returns what Serve deploys.

    Raises:
        ConfigError, ModelError: the model cannot be found, or cannot be shown what was asked for.
    """
    facts = inspect_saved_model(config.model, revision=config.revision, storage=config.storage)
    view = choose_view(facts.faces, faces=config.faces, margin=config.faces_margin, missing=config.faces_missing)
    if view is not None:
        FaceFinder(view)  # the extra is installed, or the command ends here
    if warning := describe_other_view(facts.faces, view):
        logger.warning("%s", warning)
    recipe = ActorRecipe(
        "faceattr.inference.build:build_predictor",
        {
            "model": absolute_name(config.model),
            "revision": facts.revision,
            "weights_id": facts.weights_id,
            "precision": config.precision,
            "batch_size": layout.batch_size,
            "threads": layout.threads,
            "on_gpu": layout.gpus > 0,
            "storage": config.storage,
            "faces": view,
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
        ConfigError: a setting is wrong, or the environment has no token.
    """
    config = read_arguments(ServeConfig, arguments)
    if config.replicas is None or config.gpus_per_replica is None:
        raise ConfigError("args: replicas and gpus_per_replica are needed: this cluster may have no machine yet")
    token = read_token()
    if token is None:
        raise ConfigError(f"the environment has no {TOKEN_VARIABLE}; take it from a Secret, as rayservice.yaml does")
    layout = fix_layout(config, replicas=config.replicas, gpus=config.gpus_per_replica)
    return build_application(config, layout, Bearer.of(token))


_Config = typing.TypeVar("_Config")


def read_arguments(config_class: type[_Config], arguments: Mapping[str, Any], group: str = "args") -> _Config:
    """Returns a config with these values, groups included.

    Raises:
        ConfigError: a name is unknown, or a value has another type or is out of range.
    """
    hints = typing.get_type_hints(config_class)
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ConfigError(f"{group}: unknown key {name!r}; {hint}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{group}: {name!r} is a group; expected keys below it, found {value!r}")
            values[name] = read_arguments(typing.cast(type, kind), value, f"{group}.{name}")
        elif _fits(value, kind):
            values[name] = value
        else:
            raise ConfigError(f"{group}: {name!r}: expected {kind}, found {value!r}")
    try:
        return config_class(**values)
    except TypeError as error:  # a key without a default is missing
        raise ConfigError(f"{group}: {error}") from error


def _fits(value: Any, kind: Any) -> bool:
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return value in choices
    if choices:
        return any(_fits(value, each) for each in choices)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind
