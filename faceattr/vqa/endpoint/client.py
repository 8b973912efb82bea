"""Requests to a server with OpenAI's API: retried until a deadline, as reads of a store are.

urllib3, which boto3 has brought along: connections that several threads share, and nothing hidden. Its own retries are
off, because the deadline, and a process that was told to stop, end ours (`faceattr.data.stores.patience`).

    429, 408, 5xx, no connection, no answer in time    tried again, after `Retry-After` if the server names it
    401, 403                                           the key is missing or wrong
    any other status                                   the request is wrong: the server's words are shown

The key comes from the environment alone. It is sent as a header, never logged, and cut out of what a server says.
"""

import json
import os
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader

from faceattr.data.formats.json_text import encode_json
from faceattr.data.stores.patience import Patience
from faceattr.errors import ConfigError, EndpointError, ModelError
from faceattr.vqa.endpoint.address import EndpointAddress

KEY_VARIABLE = "OPENAI_API_KEY"
_AGAIN = frozenset([408, 425, 429])
_CONNECT_S = 10.0
_READ_S = 120.0
_MOST_WORDS = 300


class EndpointClient:
    """Requests to one server. Any number of threads may use it.

    Args:
        address: the server and the model.
        deadline_s: how long one request is retried, in seconds.
        connections: largest number of requests at a time.
    """

    def __init__(self, address: EndpointAddress, *, deadline_s: float, connections: int = 1) -> None:
        self.address = address
        self._deadline_s = deadline_s
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        timeout = urllib3.Timeout(connect=min(_CONNECT_S, deadline_s), read=min(_READ_S, deadline_s))
        self._pool = urllib3.PoolManager(
            maxsize=connections, block=True, headers=headers, timeout=timeout, retries=False
        )

    def list_models(self) -> list[dict[str, Any]]:
        """Returns what the server says of its models (`GET /models`)."""
        found = self._request("GET", "/models").get("data")
        if not isinstance(found, list) or not all(isinstance(each, dict) and "id" in each for each in found):
            raise ModelError(
                f"{self.address.url}/models: expected a list of models under `data`; is this the API's base?"
            )
        return found

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Sends a chat (`POST /chat/completions`) and returns the answer."""
        return self._request("POST", "/chat/completions", body)

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the JSON object that the server answers.

        Raises:
            EndpointError: it gave no usable answer until the deadline.
            ConfigError: it wants another key.
            ModelError: it refuses the request, or its answer is not JSON.
        """
        url = f"{self.address.url}{path}"
        data = None if body is None else encode_json(body).encode()
        patience = Patience(self._deadline_s)
        while True:
            wait_s = 0.0
            try:
                # No redirects: the key is for this server alone.
                answer = self._pool.request(method, url, body=data, redirect=False)
            except HTTPError as error:
                problem = self._clean(f"{type(error).__name__}: {error}")
            else:
                if answer.status == 200:
                    return self._decode(answer.data, url)
                problem = f"status {answer.status}: {self._words(answer.data)}"
                self._refuse(answer.status, url, problem)
                wait_s = _retry_after(answer.headers.get("Retry-After"))
            if not patience.pause(wait_s):
                raise EndpointError(
                    f"{url} gave no answer within {self._deadline_s:g} s ({problem}). No image was rejected for "
                    "it, and what is committed stays: start the server and run the same command again"
                )

    def _refuse(self, status: int, url: str, problem: str) -> None:
        if status in (401, 403):
            state = "does not accept it" if self._key else "it is not set"
            raise ConfigError(f"{url}: {problem}. The key comes from {KEY_VARIABLE}: {state}")
        if status not in _AGAIN and status < 500:
            raise ModelError(f"{url}: {problem}")

    def _decode(self, data: bytes, url: str) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ModelError(f"{url}: expected a JSON object, found {self._words(data)!r}; is this the API's base?")
        return value

    def _words(self, data: bytes) -> str:
        """Returns the beginning of what the server says, its own message if there is one."""
        text = data.decode(errors="replace")
        try:
            value = json.loads(text)
            found = value.get("error", value)  # vLLM has it under `error`, SGLang at the top
            text = str(found.get("message", text) if isinstance(found, dict) else found)
        except (ValueError, AttributeError):
            pass
        return self._clean(" ".join(text.split()))[:_MOST_WORDS]

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _retry_after(value: str | None) -> float:
    """Returns the seconds of a Retry-After header, a number or a date; 0 without one."""
    if value is None:
        return 0.0
    try:
        return urllib3.Retry().parse_retry_after(value)
    except InvalidHeader:
        return 0.0
