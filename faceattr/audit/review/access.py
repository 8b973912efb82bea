"""Who may use the review server: requests by its own name, from its own page, and signed in if there is a token.

Three attacks on a local server, and what stops them. A foreign page whose name was made to resolve to this machine
(DNS rebinding) sends its own name as Host: only names that cannot be another's are answered. A foreign page that sends
a form or a request here (CSRF) has another Origin. On a network, anyone can connect: then a token is needed. It is sent
once, in the body of a form, and exchanged for a random cookie, so that it is in no address, history or log.
"""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from faceattr.errors import ConfigError

SIGN_IN_PATH = "/sign-in"
MIN_TOKEN = 16
"""Least characters of a token, so that it cannot be guessed."""
_LOOPBACK_NAMES = frozenset(["localhost", "127.0.0.1", "::1"])
_OPEN_PATHS = frozenset([SIGN_IN_PATH, "/review.css", "/icon.svg"])
_SAFE_METHODS = frozenset([hdrs.METH_GET, hdrs.METH_HEAD])
_HEADERS = {
    # Nothing but this server's own files and the pictures that the page received.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with that, browsers send `Origin: null` to this server too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Pictures of people stay out of the browser's files.
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a server that listens at this name or address can be reached from this machine alone."""
    return host in _LOOPBACK_NAMES or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def check_access(host: str, token: str | None) -> None:
    """Checks before a server starts that nobody else can use it without a token.

    Args:
        host: name or address to listen at.
        token: what reviewers enter; None for no sign-in.

    Raises:
        ConfigError: the host can be reached from other machines and there is no token, or the token is short.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines, so it needs a --token. Or leave both out and forward "
            "the port: ssh -L 8642:localhost:8642 THIS_MACHINE"
        )
    if token is not None and len(token) < MIN_TOKEN:
        raise ConfigError(f"--token: expected at least {MIN_TOKEN} characters, found {len(token)}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Access:
    """The rules of one running server.

    Attributes:
        host: name or address at which it listens.
        token: what reviewers enter; None for no sign-in.
        cookie: value of a signed-in browser's cookie.
    """

    host: str
    token: str | None
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def is_ours(self, host_header: str) -> bool:
        """Whether a Host header names this server: an address (which no DNS answer can move), localhost, or `host`."""
        name = urlsplit(f"//{host_header}").hostname or ""
        return name in (self.host, "localhost") or _is_address(name)

    def is_signed_in(self, request: web.Request) -> bool:
        """Whether the request's browser has entered the token, or there is none."""
        given = request.cookies.get(_cookie_name(request), "")
        return self.token is None or hmac.compare_digest(given.encode(), self.cookie.encode())

    def sign_in(self, request: web.Request, given: str) -> web.Response:
        """Returns the redirect to the page with the cookie, if the token is right; else back to the form."""
        if self.token is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            return web.Response(status=303, headers={hdrs.LOCATION: f"{SIGN_IN_PATH}?wrong"})
        response = web.Response(status=303, headers={hdrs.LOCATION: "/"})
        response.set_cookie(_cookie_name(request), self.cookie, httponly=True, samesite="Strict")
        return response


def _cookie_name(request: web.Request) -> str:
    # Browsers send a machine's cookies to all its ports: two servers must not overwrite each other's.
    return f"faceattr-review-{urlsplit(f'//{request.host}').port or 80}"


def build_guard(access: Access) -> Middleware:
    """Returns the middleware that refuses what is not allowed."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not access.is_ours(request.headers.get(hdrs.HOST, "")):
            raise web.HTTPForbidden(text="this server does not have that name; use the address that it printed\n")
        if request.method not in _SAFE_METHODS and not _is_same_origin(request):
            raise web.HTTPForbidden(text="expected a request from this server's own page\n")
        if request.path not in _OPEN_PATHS and not access.is_signed_in(request):
            if request.path == "/":
                raise web.HTTPSeeOther(SIGN_IN_PATH)
            raise web.HTTPUnauthorized(text="sign in first\n")
        return await handler(request)

    return guard


def _is_same_origin(request: web.Request) -> bool:
    origin = urlsplit(request.headers.get(hdrs.ORIGIN, "")).netloc
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return origin != "" and origin == request.host and site == "same-origin"


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers of every answer; a signal of aiohttp."""
    response.headers.update(_HEADERS)
