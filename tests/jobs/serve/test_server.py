"""A model on Ray Serve answers as `faceattr predict --json` does."""

import json
import socket

import numpy as np
import pytest
import urllib3
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.cli import main as faceattr
from faceattr.config import DecodeConfig
from faceattr.config.serving.serve import ServeConfig
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES
from faceattr.errors import ConfigError, ModelError
from faceattr.jobs.serve.http.bearer import TOKEN_VARIABLE
from tests.models.tiny import build_model

# Long: it starts a server of its own, which nothing else of the suite shares.
pytestmark = [pytest.mark.ray, pytest.mark.long]
ATTRIBUTES = AttributeSet(
    attributes=(Attribute(name="hat"), FACE_ATTRIBUTES["age"], FACE_ATTRIBUTES["age_group"]),
    derived=(DerivedAttribute(name="bare", rule="not hat"),),
)
MAX_PIXELS = 20_000
BATCH_SIZE = 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def photos(tmp_path):
    """Files by name: three good ones of several formats and sizes, four that cannot be used."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"a.jpg": (60, 44), "c.png": (31, 90), "e.webp": (100, 120), "large.jpg": (201, 100)}.items():
        pixels = np.kron(
            rng.integers(0, 256, (5, 5, 3), np.uint8), np.ones((size[1] // 5 + 1, size[0] // 5 + 1, 1), "u1")
        )
        Image.fromarray(pixels[: size[1], : size[0]]).save(folder / name)
    (folder / "b.jpg").write_bytes(b"<!DOCTYPE html><html></html>")
    (folder / "d.jpg").write_bytes(b"")
    (folder / "f.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-200])
    return folder


def close_to(found, expected):
    """Equal, but for the last bits of numbers, which the size of a batch may change."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-4)
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(close_to(found[key], expected[key]) for key in expected)
    return found == expected


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a random model."""
    folder = tmp_path_factory.mktemp("model")
    build_model("vit", folder, ATTRIBUTES, thresholds={"hat": 0.4}).save_pretrained(folder / "saved")
    return folder / "saved"


def test_answers_are_those_of_predict(ray_local, model, photos, capsys):
    # Late: only this process needs them, and they take seconds.
    import ray

    from faceattr.jobs.serve.application import build_application, check_model
    from faceattr.jobs.serve.http.bearer import Bearer
    from faceattr.jobs.serve.layout import plan_replicas
    from faceattr.jobs.serve.server import serving

    words = ["predict", "--model", str(model), "--input", str(photos), "--json", "--confidence"]
    assert faceattr([*words, "--device", "cpu", "--decode.max-pixels", str(MAX_PIXELS)]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [{**each, "path": each["path"].rpartition("/")[2]} for each in expected]
    assert [each["path"] for each in expected if "error" in each] == ["b.jpg", "d.jpg", "f.jpg", "large.jpg"]
    config = ServeConfig(
        model=str(model),
        replicas=1,
        gpus_per_replica=0.5,
        batch_size=BATCH_SIZE,
        batch_wait_ms=500,
        decode=DecodeConfig(max_pixels=MAX_PIXELS),
    )
    layout = plan_replicas(config, ray.cluster_resources())
    application = build_application(config, check_model(config), layout, Bearer.of(None))
    port = free_port()
    with serving(application, config, "127.0.0.1", port, is_ours=False), urllib3.PoolManager() as http:
        url = f"http://127.0.0.1:{port}"
        fields = [("image", (each["path"], (photos / each["path"]).read_bytes())) for each in expected]
        several = http.request("POST", f"{url}/predict?confidence=true", fields=fields)
        assert several.status == 200
        found = several.json()
        assert all(close_to(one, other) for one, other in zip(found, expected, strict=True)), found
        body, kind = (photos / "a.jpg").read_bytes(), {"Content-Type": "image/jpeg"}
        one = http.request("POST", f"{url}/predict?confidence=true", body=body, headers=kind).json()
        assert close_to(one, {**expected[0], "path": "-"})
        assert http.request("GET", f"{url}/readyz").status == 200
        text = http.request("GET", f"{url}/metrics").data.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    batches = {
        sample.labels.get("le", sample.name): sample.value for sample in samples if "_batch_images" in sample.name
    }
    assert batches["faceattr_serve_batch_images_sum"] == len(expected) + 1
    # Images share batches, and no batch is larger than it may be.
    assert batches["faceattr_serve_batch_images_count"] <= len(expected)
    assert batches["4.0"] == batches["faceattr_serve_batch_images_count"]
    assert batches["1.0"] < batches["4.0"]


def test_a_config_file_needs_a_token_and_says_what_it_takes(model, monkeypatch):
    from faceattr.jobs.serve.application import build_service

    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    arguments = {"model": str(model), "replicas": 2, "gpus_per_replica": 0.5}
    with pytest.raises(ConfigError, match=f"no {TOKEN_VARIABLE}"):
        build_service(arguments)
    monkeypatch.setenv(TOKEN_VARIABLE, "0123456789abcdef-secret")
    with pytest.raises(ConfigError, match="replicas and gpus_per_replica are needed"):
        build_service({"model": str(model), "replicas": 2})
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        build_service({**arguments, "batchsize": 8})
    with pytest.raises(ModelError):
        build_service({**arguments, "model": str(model.parent)})
    build_service(arguments)
