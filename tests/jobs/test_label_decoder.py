"""A label run with a decoder: prepared without a cluster, and on real Ray with labels from the plain path."""

import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceattr.config import LabelConfig
from faceattr.data.runs.version import read_published
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from faceattr.jobs.images.label import prepare_label_job
from faceattr.vqa.decoder.checkpoint import load_decoder
from faceattr.vqa.decoder.reference import PlainDecoder
from faceattr.vqa.question_files import load_question_set
from tests.decoder_checkpoints import save_random_decoder

label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]
QUESTIONS = """
attributes:
  hat:
    questions:
      - is the person wearing a hat?
      - text: is the head bare?
        inverted: true
    unknown: [no idea]
  color:
    questions: ["which color?"]
    answers: [black, brown]
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with two checkpoints of one family, a question file, and twelve images."""
    folder = tmp_path_factory.mktemp("given")
    for seed, name in enumerate("ab"):
        save_random_decoder(folder / name, "smolvlm", seed=seed)
    (folder / "questions.yaml").write_text(QUESTIONS)
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(12):
        # Squares of the model's size, so that no filter stands between the file and the plain path.
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(pixels).save(folder / "images" / f"{number:02d}.png")
    return folder


def config(folder, **changes):
    fixed = {"images": str(folder / "images"), "output": str(folder / "run"), "model": str(folder / "a")}
    return LabelConfig(**{**fixed, "attributes": str(folder / "questions.yaml"), **changes})


def test_a_run_records_its_square_and_its_unknown_answers(given):
    job = prepare_label_job(config(given))
    assert job.fingerprint["size_px"] == 32
    assert job.fingerprint["resizing"] == {"size_px": 32, "mode": "lanczos", "longest_edge_px": 32}
    assert job.fingerprint["questions"]["attributes"]["hat"]["unknown"] == ["no idea"]
    assert "torchvision" in job.packages
    blip = prepare_label_job(config(given, model="tiny", attributes="clear_face"))
    assert "resizing" not in blip.fingerprint


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"precision": "fp8"}, "--precision: expected auto or float32 or float16 or bfloat16 for a smolvlm model"),
        ({"compile": "on"}, "--compile: expected auto or off for a smolvlm model"),
        ({"question_start": "enc"}, "--question-start: expected cls for a smolvlm model"),
    ],
)
def test_flags_of_blip_alone_are_refused(given, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        prepare_label_job(config(given, **changes))


@pytest.mark.ray
@pytest.mark.long
def test_labels_are_those_of_the_plain_path(given, ray_local, capsys):
    flags = ["--images", str(given / "images"), "--output", str(given / "run"), "--workers.max-actors", "1"]
    flags += ["--attributes", str(given / "questions.yaml"), "--workers.gpus-per-actor", "1"]
    assert label([*flags, "--model", str(given / "a")]) == 0
    rows = {row["image_id"]: row for row in pa.concat_tables(read_published(LocalStore(given / "run"))).to_pylist()}
    assert len(rows) == 12

    questions = load_question_set(str(given / "questions.yaml"))
    plain = PlainDecoder(load_decoder(given / "a"), questions.vqa_questions(), device="cpu")
    for number in range(12):
        name = f"{number:02d}.png"
        image = np.asarray(Image.open(given / "images" / name))
        expected = questions.compute_labels(plain.score(image[None]))
        for attribute, found in expected.items():
            row = rows[name]
            assert row[attribute] == (None if found.unknown[0] else found.label[0])
            np.testing.assert_allclose(row[f"{attribute}_mass"], found.mass[0], rtol=1e-3)
            if not found.unanswered[0]:
                np.testing.assert_allclose(row[f"{attribute}_score"], found.score[0], atol=1e-4)

    capsys.readouterr()
    assert label([*flags, "--model", str(given / "a"), "--engine", "hf"]) == 2
    assert "engine" in capsys.readouterr().err
    assert label([*flags, "--model", str(given / "b")]) == 2
    assert "weights" in capsys.readouterr().err
