"""A small HTTP server that speaks the endpoints of the Hugging Face hub that an upload needs, over real sockets."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class HubServer:
    """What the server holds, and what it was asked.

    Attributes:
        token: that a request must have.
        repos: `models/owner/name` or `datasets/owner/name` -> whether it is private.
        files: the same -> path -> content.
        created: bodies of the requests that made a repository.
        status: of all answers to uploads; 200 lets them through.
    """

    token: str = "hf_" + "x" * 34
    repos: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    created: list[dict] = field(default_factory=list)
    status: int = 200
    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """By which the client finds the server, and nothing else."""
        return {"HF_ENDPOINT": f"http://127.0.0.1:{self.port}", "HF_TOKEN": self.token, "HF_HUB_DISABLE_XET": "1"}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object, dict[str, str]]:
        """The (status, JSON, headers) of an answer."""
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            self.created.append(asked)
            kind = f"{asked.get('type') or 'model'}s"
            name = f"{kind}/{asked['organization']}/{asked['name']}"
            self.repos[name] = asked.get("private", asked.get("visibility") == "private")
            return 200, {"url": f"http://127.0.0.1:{self.port}/{name.removeprefix('models/')}"}, {}
        if parts[:2] == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}, {}
        name = "/".join(parts[1:4])
        if name not in self.repos:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        files = self.files.setdefault(name, {})
        match parts[4:]:
            case [] | ["revision", _]:
                siblings = [{"rfilename": path} for path in files]
                shown = {"id": name, "private": self.repos[name], "siblings": siblings, "sha": "0" * 40, "tags": []}
                return 200, shown, {}
            case ["tree", *_]:
                return 200, [{"type": "file", "path": path, "size": len(files[path]), "oid": "0"} for path in files], {}
            case ["preupload", _]:
                asked = [each["path"] for each in json.loads(body)["files"]]
                return (
                    200,
                    {"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in asked]},
                    {},
                )
            case ["commit", _]:
                if self.status != 200:
                    return self.status, {"error": "no"}, {}
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "deletedFile":
                        del files[line["value"]["path"]]
                url = f"http://127.0.0.1:{self.port}/{name}/commit/1"
                return 200, {"success": True, "commitOid": "1", "commitUrl": url, "hookOutput": ""}, {}
        raise AssertionError(f"{method} {path}: not an endpoint of this server")


@contextlib.contextmanager
def serve_hub() -> Iterator[HubServer]:
    """A running server."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                status, value, headers = 401, {"error": "Invalid credentials"}, {}
            else:
                status, value, headers = hub.answer(self.command, self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, each in {**headers, "Content-Type": "application/json", "Content-Length": len(data)}.items():
                self.send_header(name, str(each))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815 - the name that the server calls

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
