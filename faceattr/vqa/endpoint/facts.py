"""What a server says of the model that it serves: found by the driver, and found again by every actor."""

from dataclasses import dataclass

from faceattr.config import StorageConfig
from faceattr.data.model_folders import refuse_revision
from faceattr.errors import ModelError
from faceattr.vqa.checkpoints import CheckpointFacts
from faceattr.vqa.endpoint.address import ENDPOINT, parse_endpoint
from faceattr.vqa.endpoint.client import EndpointClient

SIZE_PX = 448
"""Side of the images that are sent, in pixels; the server makes of them what its model takes."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model at a server, by its entry under /models.

    Attributes:
        server: `owned_by`: `vllm` or `sglang`, or whatever the server says.
        identity: server, name, and the checkpoint that it was loaded from as far as it is told (`root`).
    """

    server: str
    identity: str


def find_served(client: EndpointClient) -> ServedModel:
    """Asks the server for its model.

    Raises:
        EndpointError: it does not answer.
        ModelError: it has no such model.
    """
    name = client.address.model
    models = {str(each["id"]): each for each in client.list_models()}
    if name not in models:
        raise ModelError(f"{client.address.url}: serves no model {name!r}; it serves {', '.join(models) or 'none'}")
    found = models[name]
    server, root = str(found.get("owned_by", "unknown")), str(found.get("root") or name)
    return ServedModel(server=server, identity=f"{server}:{name}" + (f":{root}" if root != name else ""))


def inspect_endpoint(model: str, revision: str | None, storage: StorageConfig | None) -> CheckpointFacts:
    """Returns the facts of an endpoint.

    A server cannot prove its weights, so that `weights_id` is what it says of its model. The address is no part of it:
    the same model may be served elsewhere when a run is resumed.
    """
    refuse_revision(model, revision)
    client = EndpointClient(parse_endpoint(model), deadline_s=(storage or StorageConfig()).deadline_s)
    return CheckpointFacts(
        model_type=ENDPOINT,
        revision=None,
        weights_id=find_served(client).identity,
        size_px=SIZE_PX,
        resizing=SIZE_PX,
        gflop_image=0.0,
        gflop_question=0.0,
    )
