"""`faceattr push` against a server with the hub's endpoints, and the data set folder, read by the real `datasets`."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceattr.cli import main as faceattr
from faceattr.models.multitask import MultiAttributeModel
from faceattr.reports.hub_cards import without_local_paths
from tests.fakes.hub_server import serve_hub
from tests.label_runs import write_label_run
from tests.models.tiny import ATTRIBUTES, build_model

# The client reads its environment when it is imported, so that each upload is a process of its own.
CODE = "import sys; from faceattr.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def hub():
    with serve_hub() as server:
        yield server


@pytest.fixture(scope="module")
def jpeg():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera of a person"  # turned by a quarter, and the maker
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory, jpeg):
    folder = tmp_path_factory.mktemp("push")
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(jpeg)
    (folder / "photos" / "b.jpg").write_bytes(jpeg)
    rows = {
        "a.jpg": (jpeg, {"hat": 1, "hat_score": 0.75, "hat_mass": 1.0}),
        "b.jpg": (jpeg, {"hat": None, "hat_score": None}),
        "c.jpg": (None, {}),
    }
    return write_label_run(folder / "run", ["hat", "glasses"], rows, root=folder / "photos")


def push(hub, tmp_path, *words):
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {**hub.environment, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-c", CODE, "push", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_a_folder_that_the_datasets_library_reads(run, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "dataset"
    assert faceattr(["export", "labels", run, "--format", "dataset", "--images", "--output", str(folder)]) == 0
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "README.md",
        "data/train-00000.parquet",
    ]
    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["hat"].names == ["no", "yes"]
    assert found["hat"][:] == [1, None, None]
    assert found["image_id"][:] == ["a.jpg", "b.jpg", "c.jpg"]
    assert found["status"][:] == ["ok", "ok", "missing"]
    first, _, missing = found["image"][:]
    assert missing is None
    assert first.size == (8, 16)  # upright
    assert not first.getexif()
    assert "uri" not in found.column_names  # paths of this machine


def test_images_stay_where_they_are_unless_asked_for(run, tmp_path):
    folder = tmp_path / "dataset"
    words = ["export", "labels", run, "--format", "dataset", "--attributes", "hat", "--where", "hat == 1"]
    assert faceattr([*words, "--output", str(folder)]) == 0
    table = pq.read_table(folder / "data")
    assert table.column_names == [
        *("row", "image_id", "hat", "hat_score", "hat_mass"),
        *("sha256", "width_px", "height_px", "status", "error"),
    ]
    assert len(table) == 1
    assert str(tmp_path.parent) not in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--images"], "--images: only --format dataset has images"),
        (["--format", "dataset", "--scores"], "--format dataset has both"),
    ],
)
def test_flags_that_do_not_fit_the_format(run, words, problem, capsys):
    assert faceattr(["export", "labels", run, *words]) == 2
    assert problem in capsys.readouterr().err


def test_nothing_is_overwritten(run, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert faceattr(["export", "labels", run, "--format", "dataset", "--output", str(tmp_path)]) == 2
    assert "expected a folder that is empty" in capsys.readouterr().err


def test_labels_are_pushed_into_a_new_private_repository(hub, run, tmp_path):
    ended = push(hub, tmp_path, "labels", run, "me/faces")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert hub.token not in ended.stdout
    assert "/datasets/me/faces/commit/1" in ended.stdout
    assert hub.repos["datasets/me/faces"] is True
    files = hub.files["datasets/me/faces"]
    assert set(files) == {"README.md", "data/train-00000.parquet"}
    assert "image" not in pq.read_table(io.BytesIO(files["data/train-00000.parquet"])).column_names
    assert 'load_dataset("me/faces"' in files["README.md"].decode()

    files["data/train-00001.parquet"] = b"of an earlier push, when there were more rows"
    assert push(hub, tmp_path, "labels", run, "me/faces").returncode == 0
    assert set(files) == {"README.md", "data/train-00000.parquet"}


@pytest.mark.long
def test_a_model_is_pushed_with_its_thresholds_and_the_card_of_its_evaluation(hub, tmp_path):
    build_model("vit", None).save_pretrained(tmp_path / "eval" / "model")
    card = f"---\nlibrary_name: faceattr\n---\n# Card\n{tmp_path}/packed: train 3; F1 1/2, s3://b/packed/run1\n"
    (tmp_path / "eval" / "MODEL_CARD.md").write_text(card)
    ended = push(hub, tmp_path, "model", tmp_path / "eval" / "model", "me/m1")
    assert (ended.returncode, ended.stderr) == (0, "")
    files = hub.files["models/me/m1"]
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert files["README.md"].decode().endswith("# Card\npacked: train 3; F1 1/2, s3://b/packed/run1\n")
    for name in ("config.json", "model.safetensors"):
        assert files[name] == (tmp_path / "eval" / "model" / name).read_bytes()

    (tmp_path / "back").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "back" / name).write_bytes(files[name])
    assert MultiAttributeModel.from_pretrained(tmp_path / "back").attributes == ATTRIBUTES


@pytest.mark.long
def test_a_dry_run_sends_nothing_and_needs_no_token(hub, tmp_path, run):
    before = dict(hub.repos)
    folder = tmp_path / "m2"
    build_model("vit", None).save_pretrained(folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [sys.executable, "-c", CODE, "push", "model", str(folder), "me/m2", "--dry-run"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**env, "HF_HOME": str(tmp_path / "hf")}
    )
    assert ended.stdout.splitlines()[-1] == "Nothing was sent."
    assert "model.safetensors" in ended.stdout
    assert "no MODEL_CARD.md beside the model" in ended.stdout
    assert hub.repos == before


@pytest.mark.long
def test_what_the_hub_refuses_is_one_line(hub, run, tmp_path):
    hub.repos["datasets/me/open"] = False
    public = push(hub, tmp_path, "labels", run, "me/open")
    assert (public.returncode, "exists and is public" in public.stderr) == (2, True)
    assert push(hub, tmp_path, "labels", run, "me/open", "--no-private").returncode == 0

    wrong = push(hub, tmp_path, "labels", run, "not-a-repository")
    assert (wrong.returncode, "`owner/name`" in wrong.stderr) == (2, True)

    token, hub.token = hub.token, "hf_another"
    env = dict(hub.environment)
    hub.token = token
    refused = subprocess.run(
        [sys.executable, "-c", CODE, "push", "labels", run, "me/faces"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env, "HF_HOME": str(tmp_path / "hf")},
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "the hub answered 401" in refused.stderr
    assert "hf_another" not in refused.stderr

    nobody = push(hub, tmp_path / "x", "labels", run, "me/faces", "--dry-run")
    assert nobody.returncode == 0


def test_local_paths_are_their_last_name():
    text = "/home/me/packed and ~/m1, s3://b/run/1, 1/2, https://a.example/b/c, ./x/y"
    assert without_local_paths(text) == "packed and m1, s3://b/run/1, 1/2, https://a.example/b/c, ./x/y"


def test_the_header_of_the_card_and_the_features_are_what_the_hub_reads(run, tmp_path):
    import yaml

    folder = tmp_path / "dataset"
    assert faceattr(["export", "labels", run, "--format", "dataset", "--output", str(folder)]) == 0
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    features = json.loads(pq.read_schema(folder / "data" / "train-00000.parquet").metadata[b"huggingface"])
    assert features["info"]["features"]["glasses"] == {"names": ["no", "yes"], "_type": "ClassLabel"}
