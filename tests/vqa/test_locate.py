import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from faceattr.data.model_folders import find_hub_commit
from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.checkpoints import resolve_checkpoint
from tests.stores import upload_folder


def test_a_uri_is_fetched(tmp_path, s3_uri, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "blip").mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors", "readme.md"):
        (tmp_path / "blip" / name).write_text(name)
    upload_folder(tmp_path / "blip", s3_uri)
    copy = resolve_checkpoint(s3_uri)
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model-00001-of-00002.safetensors"]


def test_a_revision_belongs_to_a_hub_id(tmp_path):
    for model in (str(tmp_path), "tiny", "s3://models/blip"):
        with pytest.raises(ConfigError, match="for hub ids only"):
            resolve_checkpoint(model, "main")


def test_tiny_lies_inside_the_package():
    assert resolve_checkpoint("tiny").parts[-4:] == ("faceattr", "demo", "assets", "tiny-blip")


@pytest.mark.parametrize("model", ["/nowhere/blip", "./blip", "a/b/c", "../x", "-"])
def test_neither_folder_nor_hub_id(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder, and not the form of a Hugging Face hub id"):
        resolve_checkpoint(model)


def test_hub_commit(tmp_path):
    commit = "0123456789" * 4
    assert find_hub_commit(tmp_path / "models--a--b" / "snapshots" / commit) == commit
    assert find_hub_commit(tmp_path / "blip") is None


class _Hub(BaseHTTPRequestHandler):
    """A hub that knows one model, with a single revision that nobody asks for."""

    def do_GET(self):
        if "/down/model" in self.path:
            self.send_response(503)
        else:
            self.send_response(404)
            known = "/known/model" in self.path
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


# huggingface_hub reads its settings when it is imported, so the hub's answers are tried in a process of their own.
_ASK_HUB = """
import json, sys, time
from faceattr.errors import ModelError
from faceattr.vqa.checkpoints import resolve_checkpoint
answers = []
for model, revision in json.loads(sys.argv[1]):
    start = time.monotonic()
    try:
        answer = str(resolve_checkpoint(model, revision))
    except ModelError as error:
        answer = str(error)
    answers.append([answer, time.monotonic() - start])
print(json.dumps(answers))
"""


def ask_hub(cache, questions, **environment):
    """Answers of `resolve_checkpoint` per (model, revision) and the seconds each took."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    command = [sys.executable, "-c", _ASK_HUB, json.dumps(questions)]
    process = subprocess.run(
        command,
        check=False,
        env=inherited | {"HF_HOME": str(cache)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_a_hub_that_cannot_be_reached(tmp_path):
    commit = "0123456789" * 4
    cached = tmp_path / "hub" / "models--my--cached"
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    questions = [("Salesforce/blip-vqa-base", None), ("Salesforce/blip-vqa-base", "main"), ("my/cached", None)]
    # Nothing listens on port 9.
    unreachable, with_revision, from_cache = ask_hub(tmp_path, questions, HF_ENDPOINT="http://127.0.0.1:9")
    assert unreachable[0] == (
        "model 'Salesforce/blip-vqa-base': no local folder of this name, the Hugging Face hub cannot be reached, and "
        "its cache on this machine does not hold the model. Download it on a machine with network access and give its "
        "folder in place of the id, point HF_HOME at a cache that holds it, or use `tiny` for a dry run."
    )
    assert "at revision 'main': no local folder" in with_revision[0]
    assert from_cache[0] == str(cached / "snapshots" / commit)
    assert max(seconds for _, seconds in (unreachable, with_revision, from_cache)) < 10


def test_offline_mode_says_the_same(tmp_path):
    ((answer, _),) = ask_hub(tmp_path, [("Salesforce/blip-vqa-base", None)], HF_HUB_OFFLINE="1")
    assert "cannot be reached" in answer


def test_a_hub_that_answers_no(tmp_path, hub):
    questions = [("no/model", None), ("known/model", "v9"), ("down/model", None)]
    no_model, no_revision, down = ask_hub(tmp_path, questions, HF_ENDPOINT=hub)
    assert "the Hugging Face hub has no such public model" in no_model[0]
    assert "has the model but not this revision" in no_revision[0]
    assert "cannot be reached" in down[0]
    assert max(seconds for _, seconds in (no_model, no_revision, down)) < 10
