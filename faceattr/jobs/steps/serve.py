"""`faceattr serve`: a trained model behind HTTP, on Ray Serve."""

import importlib.util
from dataclasses import dataclass, field

import tyro

from faceattr.config.checks import check
from faceattr.config.serving.serve import ServeConfig
from faceattr.config.shared import RayConfig
from faceattr.errors import ConfigError
from faceattr.jobs.serve.http.address import check_free, check_host
from faceattr.jobs.serve.http.bearer import read_token
from faceattr.logs import say

_EXTRA = ("fastapi", "starlette", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class Serve(ServeConfig):
    """Answers images that are sent by HTTP with a trained model's predictions, until Ctrl-C.

    The environment variable FACEATTR_SERVE_TOKEN is the token that clients must send, if it is set.
    """

    model: tyro.conf.Positional[str]
    """A trained model: a local folder, s3://bucket/folder, or a hub id."""
    host: str = "127.0.0.1"
    """Name or address to listen at. One that other machines can reach needs a token in the environment variable
    FACEATTR_SERVE_TOKEN, and is not encrypted."""
    port: int = 8000
    """Port to listen at."""
    ray: RayConfig = field(default_factory=lambda: RayConfig(dashboard=False))

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.port <= 65_535, "port", self.port, "1 to 65535")

    def __call__(self) -> int:
        """Serves; returns once it was stopped and nothing is left running."""
        missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"faceattr serve needs {', '.join(missing)}, of an optional extra; install it: pip install "
                "'faceattr[serve]'"
            )
        token = read_token()
        check_host(self.host, token)
        check_free(self.host, self.port)
        # Late: the packages of the extra, and torch.
        from faceattr.jobs.serve.server import serve_model  # noqa: PLC0415

        serve_model(self, host=self.host, port=self.port, token=token, ray_config=self.ray, tell=say)
        return 0
