"""`--model openai:http://127.0.0.1:8000/v1#NAME`: a server, and the model that is asked there."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from faceattr.data.stores.addresses import check_no_credentials
from faceattr.errors import ConfigError

ENDPOINT = "openai"
"""`model_type` of a served model; a model that begins with it and a colon is an endpoint."""


@dataclass(frozen=True, kw_only=True)
class EndpointAddress:
    """Where a model is served.

    Attributes:
        url: base of the API without a slash at its end, such as `http://127.0.0.1:8000/v1`.
        model: name of the model, as the server lists it.
    """

    url: str
    model: str


def is_endpoint(model: str) -> bool:
    """Whether a model is an address of this kind."""
    return model.startswith(f"{ENDPOINT}:")


def parse_endpoint(model: str) -> EndpointAddress:
    """Parses an address.

    Raises:
        ConfigError: it is none, or contains credentials.
    """
    check_no_credentials(model, "--model")
    url, _, name = model.removeprefix(f"{ENDPOINT}:").partition("#")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or not name:
        raise ConfigError(
            f"--model {model}: expected {ENDPOINT}:http://HOST:PORT/v1#NAME with the name of a model that the server "
            "lists under /v1/models"
        )
    return EndpointAddress(url=url.rstrip("/"), model=name)
