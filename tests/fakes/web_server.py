"""A small web server on the loopback address: images, redirects, errors, cut and slow bodies, over real sockets."""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Answer:
    """What the server says to a path.

    Attributes:
        body: the bytes that are sent.
        status: the status.
        headers: further headers; `Content-Length` replaces the true one.
        is_chunked: send the body in chunks, with no length.
        is_cut: end the connection after the body; with `is_chunked`, before the last chunk.
        pause_s: wait before the body's last byte.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    is_chunked: bool = False
    is_cut: bool = False
    pause_s: float = 0.0


@dataclass
class WebServer:
    """What the server holds, and what it was asked.

    Attributes:
        pages: path -> answer; any other path is 404.
        failures: path -> answers that come first, one for each request.
        outage: the answer to every path, if it is set.
        requests: (path, headers) of all requests.
    """

    pages: dict[str, Answer] = field(default_factory=dict)
    failures: dict[str, list[Answer]] = field(default_factory=dict)
    outage: Answer | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def host(self) -> str:
        """The value of `--storage.allow-http`."""
        return f"127.0.0.1:{self.port}"

    @property
    def root(self) -> str:
        return f"http://{self.host}"

    def answer(self, path: str) -> Answer:
        if self.outage is not None:
            return self.outage
        first = self.failures.get(path)
        return first.pop(0) if first else self.pages.get(path, Answer(b"no such page", 404))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: WebServer

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client may go at any time
            super().handle()

    def do_GET(self) -> None:
        self.held.requests.append((self.path, dict(self.headers)))
        answer = self.held.answer(self.path)
        self.send_response(answer.status)
        headers = {} if answer.is_chunked else {"Content-Length": str(len(answer.body))}
        headers |= {"Transfer-Encoding": "chunked"} if answer.is_chunked else {}
        for name, value in (headers | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if answer.is_chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(answer.body), answer.body))
                self.wfile.write(b"" if answer.is_cut else b"0\r\n\r\n")
            else:
                self.wfile.write(answer.body[:-1])
                self.wfile.flush()
                time.sleep(answer.pause_s)
                self.wfile.write(answer.body[-1:])
        self.close_connection |= answer.is_cut

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def serve_pages(certificate: Path | None = None) -> Iterator[WebServer]:
    """Runs a server for the time of the block; with a certificate and its key in one PEM file, by TLS."""
    held = WebServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"held": held}))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    held.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
