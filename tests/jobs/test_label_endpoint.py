"""`pipelines/label.py --model openai:...` end to end, against a server of its own: labels, an outage, another model."""

import io
import json
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.open import open_store
from tests.fakes.chat_server import ChatServer, serve_chats

pytestmark = [pytest.mark.ray, pytest.mark.slow]
label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]
SHADES = {"a.png": 51, "b.png": 102, "c.png": 153, "d.png": 204}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, shade in SHADES.items():
        buffer = io.BytesIO()
        Image.fromarray(np.full((20, 20, 3), shade, np.uint8)).save(buffer, "PNG")
        (folder / name).write_bytes(buffer.getvalue())
    (folder / "page.png").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "questions.yaml").write_text("attributes: {bright: {questions: ['is it bright?']}}\n")
    return tmp_path


def run(folder, server, *more):
    words = ["--images", folder / "images", "--output", folder / "run", "--attributes", folder / "questions.yaml"]
    words += ["--model", server.model, "--workers.max-actors", "1"]
    return label([str(word) for word in [*words, "--max-error-share", "0.5", *more]])


@pytest.mark.long
def test_an_outage_stops_the_run_and_rejects_nothing(images, ray_local, capsys):
    with serve_chats(ChatServer()) as server:
        server.failures += [(503, {})] * 10_000
        assert run(images, server, "--storage.deadline-s", "1") == 1
        error = capsys.readouterr().err
        assert "gave no answer within 1 s (status 503: not now). No image was rejected for it" in error
        store = open_store(str(images / "run"))
        assert read_manifest(store) is None
        assert not (images / "run" / "labels").exists()
        server.failures.clear()
        server.failures += [(429, {"Retry-After": "0"})]
        assert run(images, server) == 0
        table = pa.concat_tables(read_published(store)).to_pydict()
        assert dict(zip(table["image_id"], table["status"], strict=True)) == {
            **dict.fromkeys(SHADES, "ok"),
            "page.png": "not_an_image",
        }
        np.testing.assert_allclose(table["bright_score"][:4], [0.2, 0.4, 0.6, 0.8], atol=0.003)
        np.testing.assert_allclose(table["bright_mass"][:4], [0.8] * 4, atol=0.003)
        assert table["bright"] == [0, 0, 1, 1, None]
        assert len(server.requests) == 4
        record = json.loads((images / "run" / "run.json").read_text())
        assert record["fingerprint"]["weights"] == "vllm:tiny-vlm:/models/tiny"
        assert record["notes"]["model"] == server.model
        assert record["config"]["workers"]["gpus_per_actor"] == 0.0  # though the cluster has two
        capsys.readouterr()
        # Served elsewhere it is the same run; another model is not.
        with serve_chats(ChatServer()) as elsewhere:
            assert elsewhere.port != server.port
            assert run(images, elsewhere) == 0
        assert "nothing to do: this run is finished" in capsys.readouterr().out
        server.root = "/models/other"
        assert run(images, server) == 2
        assert (
            "weights: there 'vllm:tiny-vlm:/models/tiny', here 'vllm:tiny-vlm:/models/other'" in capsys.readouterr().err
        )
