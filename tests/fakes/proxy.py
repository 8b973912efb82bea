"""A proxy between a client and an HTTP server that spoils what it is told to: a bad network, on demand.

Requests go through with their Host header unchanged, so S3 signatures stay valid. Every connection carries one request.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote, urlsplit

FaultKind = Literal["error", "delay", "reset", "lost_ack", "cut", "short", "flip"]
_ERROR_BODY = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>made up</Message></Error>"


@dataclass
class Fault:
    """What happens to the next `times` requests that a rule fits.

    Attributes:
        kind: `error`: answered with `status` and never forwarded; `delay`: forwarded after `delay_s`; `reset`: the
            connection is reset instead; `lost_ack`: forwarded, then reset; `cut`: half of the answer's body;
            `short`: half of it, with headers that agree, and without a checksum; `flip`: one bit of the answer's body
            is another.
        method: HTTP method.
        path: stands somewhere in the path or query, unquoted.
        times: how often.
        body: of an `error`; default is an S3 error document with `code`.
    """

    kind: FaultKind
    method: str
    path: str = ""
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    body: bytes | None = None
    delay_s: float = 0.2


class FaultProxy:
    """A running proxy; see `serve_faults`.

    Attributes:
        url: where clients connect to.
        outage: while true, every connection is reset.
        requests: (method, path) of all that came, in order.
    """

    def __init__(self, upstream_url: str) -> None:
        upstream = urlsplit(upstream_url)
        self._upstream = (upstream.hostname, upstream.port)
        self.url = ""
        self.outage = False
        self.requests: list[tuple[str, str]] = []
        self._faults: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        """Adds faults; the first that fits is taken."""
        self._faults.extend(replace(fault) for fault in faults)

    @property
    def pending(self) -> list[Fault]:
        """Faults that have not happened as often as they should."""
        return [fault for fault in self._faults if fault.times]

    def count(self, method: str, path: str) -> int:
        """How many requests of a method had `path` in theirs."""
        return sum(1 for each_method, each_path in self.requests if each_method == method and path in each_path)

    def reset(self) -> None:
        """Forgets faults and requests."""
        self._faults.clear()
        self.requests.clear()
        self.outage = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        try:
            if self.outage:
                _reset(writer)
                return
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = lines[0].split(" ")
            self.requests.append((method, unquote(target)))
            await self._answer(self._next_fault(method, unquote(target)), lines, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away, or the store did
        finally:
            writer.close()

    def _next_fault(self, method: str, target: str) -> Fault | None:
        for fault in self.pending:
            if fault.method == method and fault.path in target:
                fault.times -= 1
                return fault
        return None

    async def _answer(self, fault: Fault | None, lines: list[str], body: bytes, writer: asyncio.StreamWriter) -> None:
        kind = fault.kind if fault else None
        if kind == "reset":
            _reset(writer)
            return
        if kind == "error":
            text = _ERROR_BODY % fault.code.encode() if fault.body is None else fault.body
            head = f"HTTP/1.1 {fault.status} Fault\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + text)
            await writer.drain()
            return
        if kind == "delay":
            await asyncio.sleep(fault.delay_s)
        answer = await self._forward(lines, body)
        if kind == "lost_ack":
            _reset(writer)
            return
        start = answer.index(b"\r\n\r\n") + 4
        middle = start + (len(answer) - start) // 2
        if kind == "cut":
            answer = answer[:middle]
        elif kind == "short":
            answer = _shorten(answer[: start - 4], answer[start:middle])
        elif kind == "flip":
            answer = answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1 :]
        writer.write(answer)
        await writer.drain()

    async def _forward(self, lines: list[str], body: bytes) -> bytes:
        kept = [line for line in lines if line and not line.lower().startswith(("connection:", "expect:"))]
        reader, writer = await asyncio.open_connection(*self._upstream)
        writer.write("\r\n".join([*kept, "Connection: close", "", ""]).encode("latin-1") + body)
        answer = await reader.read()
        writer.close()
        if b"\r\n\r\n" not in answer:
            raise ConnectionError("the store was killed before it had answered")
        return answer


def _shorten(head: bytes, body: bytes) -> bytes:
    lines = [
        line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length:", b"x-amz-checksum"))
    ]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST: zero lingering drops what was not sent."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def serve_faults(upstream_url: str) -> Iterator[FaultProxy]:
    """Runs a proxy on loopback, in a thread, until the block ends."""
    proxy = FaultProxy(upstream_url)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.handle, "127.0.0.1", 0))
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
