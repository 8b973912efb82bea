"""Who may ask a model: with a token everyone who has it, without one this machine alone.

Only the token's SHA-256 leaves the process that was given it: Ray keeps the arguments of deployments where others may
read them. A token is random and long, so that its hash does not give it away.

Without a token, a web page could still reach a server on its reader's machine under a name of its own that resolves to
127.0.0.1 (DNS rebinding). So the Host header must then be an address or `localhost`.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from faceattr.audit.review.access import MIN_TOKEN, Access
from faceattr.errors import ConfigError
from faceattr.jobs.serve.http.requests import RefusedRequestError

TOKEN_VARIABLE = "FACEATTR_SERVE_TOKEN"  # noqa: S105 - the name of a variable, not a token
HOW_TO_GET_ONE = f"python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one for {TOKEN_VARIABLE}"


def read_token() -> str | None:
    """Returns the token of the environment; None if there is none.

    Raises:
        ConfigError: it can be guessed, or cannot be sent in a header.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token is None:
        return None
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{TOKEN_VARIABLE}: expected at least {MIN_TOKEN} ASCII characters without spaces, found {len(token)} "
            f"characters; {HOW_TO_GET_ONE}"
        )
    return token


@dataclass(frozen=True)
class Bearer:
    """The rule of one server.

    Attributes:
        digest: SHA-256 of the token; None for none.
    """

    digest: bytes | None = field(repr=False)

    @classmethod
    def of(cls, token: str | None) -> "Bearer":
        """Returns the rule for a token."""
        return cls(None if token is None else _hash(token))

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises RefusedRequestError if a request with these headers is not allowed."""
        if self.digest is None:
            host = headers.get("host", "")
            if not _THIS_MACHINE.is_ours(host):
                raise RefusedRequestError(403, "this server has no name; use the address that it printed")
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(_hash(given.strip()), self.digest):
            raise RefusedRequestError(
                401, "expected the header 'Authorization: Bearer TOKEN' with this server's token", _CHALLENGE
            )


_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_THIS_MACHINE = Access(host="localhost", token=None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
