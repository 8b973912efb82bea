"""The review server: a few files, three addresses of JSON and pictures, on aiohttp.

aiohttp, because `ray[default]` has brought it along for its dashboard: a well-kept server without a new dependency.

    GET  /                   the page; /review.css, /review.js, /icon.svg; /sign-in if there is a token
    GET  /api/review         ?reviewer=NAME -> `ReviewSession.describe`; {"reviewer": null} if nobody is named
    POST /api/judgements     {"audit", "item", "answer", "reviewer"} -> {"table"}; the answer is on disk by then
    GET  /api/pictures/ITEM  JPEG; 422 {"reason", "detail"} if the image cannot be used
"""

import asyncio
import functools
import json
import logging
import signal
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from faceattr.audit.review.access import SIGN_IN_PATH, Access, add_headers, build_guard
from faceattr.audit.review.pictures import ItemPictures
from faceattr.audit.review.session import ReviewSession, check_reviewer
from faceattr.data.stores.patience import leave, stay
from faceattr.errors import ConfigError, ImageError, RunError, StorageError

_PAGES = {
    "/": "index.html",
    "/review.css": "review.css",
    "/review.js": "review.js",
    "/icon.svg": "icon.svg",
    SIGN_IN_PATH: "sign_in.html",
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_JUDGED = frozenset(["audit", "item", "answer", "reviewer"])
# A judgement is a few dozen bytes.
_MAX_BODY_BYTES = 4_096
logger = logging.getLogger(__name__)


def build_server(session: ReviewSession, pictures: ItemPictures, access: Access, reviewer: str | None) -> web.AppRunner:
    """Builds the server; it does not listen yet.

    Args:
        session: the audit.
        pictures: the audit's pictures.
        access: who may use it.
        reviewer: the only reviewer; None if the page asks for the name.
    """
    handlers = _Handlers(session, pictures, access, reviewer)
    app = web.Application(middlewares=[build_guard(access), _describe_errors], client_max_size=_MAX_BODY_BYTES)
    app.on_response_prepare.append(add_headers)
    for path in _PAGES:
        app.router.add_get(path, handlers.get_page)
    app.router.add_post(SIGN_IN_PATH, handlers.post_sign_in)
    app.router.add_get("/api/review", handlers.get_review)
    app.router.add_post("/api/judgements", handlers.post_judgement)
    app.router.add_get(r"/api/pictures/{item:\d{1,9}}", handlers.get_picture)
    logger.addFilter(_is_no_quote)
    return web.AppRunner(app, access_log=None, logger=logger)


def _is_no_quote(record: logging.LogRecord) -> bool:
    """Keeps aiohttp's complaints about bad requests out of the log: they quote the request, maybe with the token."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def run_server(runner: web.AppRunner, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Listens until SIGINT or SIGTERM; then waits for a store end at once.

    Args:
        runner: the server.
        host: name or address to listen at.
        port: port to listen at; 0 for any free one.
        on_ready: receives the server's address once it listens.

    Raises:
        ConfigError: the address cannot be used.
    """
    try:
        asyncio.run(_serve(runner, host, port, on_ready))
    finally:
        stay()


async def _serve(runner: web.AppRunner, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, shutdown_timeout=2.0).start()
        except OSError as error:
            raise ConfigError(f"cannot listen at --host {host} --port {port}: {error.strerror}") from error
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            leave()  # threads that read pictures may wait for a store
            stopped.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        shown = f"[{host}]" if ":" in host else host
        on_ready(f"http://{shown}:{runner.addresses[0][1]}/")
        await stopped.wait()
    finally:
        await runner.cleanup()


class _Handlers:
    def __init__(self, session: ReviewSession, pictures: ItemPictures, access: Access, reviewer: str | None) -> None:
        self._session = session
        self._pictures = pictures
        self._access = access
        self._reviewer = reviewer
        folder = files("faceattr.audit.review") / "page"
        self._pages = {path: (folder / name).read_bytes() for path, name in _PAGES.items()}

    async def get_page(self, request: web.Request) -> web.Response:
        kind = _TYPES[_PAGES[request.path].rpartition(".")[2]]
        page = self._pages[request.path]
        if request.path == SIGN_IN_PATH and "wrong" in request.query:
            page = page.replace(b' role="alert" hidden>', b' role="alert">')
        return web.Response(body=page, content_type=kind, charset="utf-8")

    async def post_sign_in(self, request: web.Request) -> web.Response:
        return self._access.sign_in(request, str((await request.post()).get("token", "")))

    async def get_review(self, request: web.Request) -> web.Response:
        name = self._reviewer or request.query.get("reviewer")
        if name is None:
            return web.json_response({"reviewer": None})
        found = await asyncio.to_thread(self._session.describe, check_reviewer(name))
        return web.json_response({**found, "folder": self._session.store.uri, "fixed": self._reviewer is not None})

    async def post_judgement(self, request: web.Request) -> web.Response:
        body = await _read_object(request)
        judged = {**body, "reviewer": self._reviewer or body["reviewer"]}
        table = await asyncio.to_thread(functools.partial(self._session.judge, **judged))
        return web.json_response({"table": table})

    async def get_picture(self, request: web.Request) -> web.Response:
        item = int(request.match_info["item"])
        if item >= self._session.num_items:
            raise ConfigError(f"there is no item {item}")
        return web.Response(body=await asyncio.to_thread(self._pictures.load, item), content_type="image/jpeg")


async def _read_object(request: web.Request) -> dict[str, Any]:
    """Returns the JSON object of a judgement; its values are checked where they are used."""
    if request.content_type != "application/json":
        raise ConfigError("expected application/json")
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError) as error:
        raise ConfigError("the body is no JSON in UTF-8") from error
    if not isinstance(body, dict) or set(body) != _JUDGED or type(body["reviewer"]) is not str:
        raise ConfigError(f"expected an object with {', '.join(sorted(_JUDGED))}")
    return body


@web.middleware
async def _describe_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns errors into JSON for the page: what is wrong with an image, with a request, or with the store."""
    try:
        return await handler(request)
    except ImageError as error:
        return web.json_response({"reason": error.reason, "detail": error.detail}, status=422)
    except ConfigError as error:
        return web.json_response({"error": str(error)}, status=400)
    except (RunError, StorageError) as error:
        return web.json_response({"error": str(error)}, status=503)
    except OSError as error:
        return web.json_response({"error": f"cannot write the answer: {error.strerror}"}, status=507)
