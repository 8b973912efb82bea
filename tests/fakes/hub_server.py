"""A small HTTP server that speaks the endpoints of the Hugging Face hub that faceattr needs, over real sockets."""

import base64
import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath


@dataclass
class HubServer:
    """What the server holds, and what it was asked.

    Attributes:
        token: that a request must have.
        repos: `models/owner/name` or `datasets/owner/name` -> whether it is private.
        files: the same -> path -> content.
        commits: the same -> name of the newest commit; of those that are not named, 40 zeros.
        reads: (path of the address, range) of every read of a file.
        created: bodies of the requests that made a repository.
        status: of all answers to uploads and reads of files; 200 lets them through.
    """

    token: str = "hf_" + "x" * 34
    repos: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    reads: list[tuple[str, str | None]] = field(default_factory=list)
    created: list[dict] = field(default_factory=list)
    status: int = 200
    port: int = 0

    def read(self, path: str, part: str | None) -> tuple[int, bytes]:
        """The (status, content) of a file that is read, or of a range of it, `bytes=FIRST-LAST`."""
        kind, owner, name, resolve, commit, *key = urllib.parse.unquote(path).strip("/").split("/")
        self.reads.append((f"{resolve}/{commit}/{'/'.join(key)}", part))
        content = self.files.get(f"{kind}/{owner}/{name}", {}).get("/".join(key))
        if content is None or self.status != 200:
            return (404 if self.status == 200 else self.status), b""
        if part is None:
            return 200, content
        first, last = map(int, part.removeprefix("bytes=").split("-"))
        return (206, content[first : last + 1]) if first < len(content) else (416, b"")

    @property
    def environment(self) -> dict[str, str]:
        """By which the client finds the server, and nothing else."""
        return {"HF_ENDPOINT": f"http://127.0.0.1:{self.port}", "HF_TOKEN": self.token, "HF_HUB_DISABLE_XET": "1"}

    def answer(self, path: str, body: bytes) -> tuple[int, object, dict[str, str]]:
        """The (status, JSON, headers) of an answer of the interface."""
        parts = urllib.parse.unquote(path.partition("?")[0]).strip("/").split("/")
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
        commit = self.commits.get(name, "0" * 40)
        if parts[4:5] == ["revision"] and len(parts) == 6 and parts[5] != "main" and len(parts[5]) != len(commit):
            return 404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"}
        return self._answer_of(name, parts[4:], path, body)

    def _answer_of(self, name: str, parts: list[str], path: str, body: bytes) -> tuple[int, object, dict[str, str]]:
        """An answer about a repository that exists."""
        files, commit = self.files.setdefault(name, {}), self.commits.get(name, "0" * 40)
        match parts:
            case [] | ["revision", _]:
                siblings = [{"rfilename": path} for path in files]
                shown = {"id": name, "private": self.repos[name], "siblings": siblings, "sha": commit, "tags": []}
                return 200, shown, {}
            case ["tree", _, *folder]:
                return 200, list_tree(files, folder, recursive="recursive=true" in path.lower()), {}
            case ["paths-info", _]:
                asked = [each for each in urllib.parse.parse_qs(body.decode())["paths"] if each in files]
                return 200, [{"type": "file", "path": path, "size": len(files[path]), "oid": "0"} for path in asked], {}
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
        raise AssertionError(f"{path}: not an endpoint of this server")


def list_tree(files: dict[str, bytes], folder: list[str], *, recursive: bool) -> list[dict]:
    """What the hub lists of a folder."""
    start = "".join(f"{each}/" for each in folder)
    found = [path for path in files if path.startswith(start)]
    if not recursive:
        below = [path.removeprefix(start) for path in found]
        folders = {path.partition("/")[0] for path in below if "/" in path}
        found = [path for path in found if "/" not in path.removeprefix(start)]
    else:
        folders = {str(each)[len(start) :] for path in found for each in PurePosixPath(path).parents}
    shown = [{"type": "directory", "path": start + each, "oid": "0"} for each in sorted(folders - {"", "."})]
    return shown + [{"type": "file", "path": path, "size": len(files[path]), "oid": "0"} for path in found]


@contextlib.contextmanager
def serve_hub() -> Iterator[HubServer]:
    """A running server."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                status, value, headers = 401, {"error": "Invalid credentials"}, {}
            elif not self.path.startswith("/api/"):
                status, value = hub.read(self.path, self.headers.get("Range"))
                headers = {}
            else:
                status, value, headers = hub.answer(self.path, body)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
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
