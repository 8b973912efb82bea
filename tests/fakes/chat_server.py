"""A small HTTP server that speaks the chat API of vLLM or SGLang: the fields that they document, over real sockets.

Its model knows one thing about an image, how bright it is, and says yes, or the letter of an answer, by it. It can be
told to be busy, to fail, to want a key, and to leave out what it should say.
"""

import base64
import contextlib
import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import simplejpeg


@dataclass
class ChatServer:
    """What the server does, and what it was asked.

    Attributes:
        kind: `vllm` or `sglang`.
        name: of the model.
        root: checkpoint that it says it has loaded.
        key: that a request must have; None for any.
        failures: (status, headers) of the next answers, before it answers as it should.
        requests: bodies of the chats that it was sent.
        others: share of the probability of tokens that are no answer, before the choices are enforced.
        without_logprobs: leave the logprobs out.
        most_at_once: largest number of chats that were open at a time.
    """

    kind: str = "vllm"
    name: str = "tiny-vlm"
    root: str = "/models/tiny"
    key: str | None = None
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[dict] = field(default_factory=list)
    others: float = 0.2
    without_logprobs: bool = False
    most_at_once: int = 0
    port: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def model(self) -> str:
        """The value of `--model`."""
        return f"openai:http://127.0.0.1:{self.port}/v1#{self.name}"

    def answer(self, body: dict) -> dict:
        """The answer to a chat: the probability of each token by the brightness of the image."""
        (image,) = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
        (text,) = [part["text"] for part in body["messages"][0]["content"] if part["type"] == "text"]
        assert image.startswith("data:image/jpeg;base64,")
        pixels = simplejpeg.decode_jpeg(base64.b64decode(image.partition(",")[2]))
        bright = float(np.clip(pixels.mean() / 255, 0.01, 0.99))
        letters = re.findall(r"^([A-Z])\. ", text, re.MULTILINE)
        if letters:  # the first answer by the brightness, the others share the rest
            shares = dict(
                zip(letters, [bright] + [(1 - bright) / (len(letters) - 1)] * (len(letters) - 1), strict=True)
            )
        else:  # two spellings of yes
            shares = {"Yes": bright * 0.75, " yes": bright * 0.25, "No": 1 - bright}
        if self.kind == "vllm":
            assert "regex" not in body
            choices = body["structured_outputs"]["choice"]
            tokens = {**{token: share * (1 - self.others) for token, share in shares.items()}, "The": self.others}
        else:
            assert "structured_outputs" not in body
            choices = re.fullmatch(r"\((.*)\)", body["regex"])[1].split("|")
            kept = {token: shares.get(token, 0.0) for token in choices}
            tokens = {**{token: share / sum(kept.values()) for token, share in kept.items()}, "The": 0.0}
        listed = sorted(tokens.items(), key=lambda each: -each[1])[: body["top_logprobs"]]
        said = max(choices, key=lambda token: tokens.get(token, 0.0))
        entry = {
            "token": said,
            "logprob": math.log(tokens[said]),
            "bytes": list(said.encode()),
            "top_logprobs": [
                {"token": token, "logprob": math.log(p) if p else None, "bytes": list(token.encode())}
                for token, p in listed
            ],
        }
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": self.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": said},
                    "logprobs": None if self.without_logprobs else {"content": [entry]},
                    "finish_reason": "length",
                }
            ],
        }


@contextlib.contextmanager
def serve_chats(server: ChatServer) -> Iterator[ChatServer]:
    """Serves on a port of the loopback device: that of the server, or a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body are two packets: with Nagle's algorithm each answer would wait for an acknowledgement.
        disable_nagle_algorithm = True

        def do_GET(self):
            if self.path == "/v1/models":
                card = {"id": server.name, "object": "model", "owned_by": server.kind, "root": server.root}
                self.reply({"object": "list", "data": [card]})
            else:
                self.reply({"message": "Not Found"}, 404)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server._lock:
                server._open += 1
                server.most_at_once = max(server.most_at_once, server._open)
                failure = server.failures.pop(0) if server.failures else None
                if failure is None:
                    server.requests.append(body)
            if failure is not None:
                self.reply({"error": {"message": "not now", "code": failure[0]}}, *failure)
            elif self.path == "/v1/chat/completions" and body["model"] == server.name:
                self.reply(server.answer(body))
            else:
                self.reply({"error": {"message": f"no such thing: {self.path}"}}, 404)
            with server._lock:
                server._open -= 1

        def reply(self, value, status=200, headers=None):
            sent = self.headers.get("Authorization", "")
            if server.key is not None and sent != f"Bearer {server.key}":
                status, value = 401, {"error": {"message": f"wrong key: {sent}"}}
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, content in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, content)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", server.port), Handler) as http:
        http.daemon_threads = True
        server.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
