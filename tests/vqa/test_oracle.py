"""The plain path beside the packed engine: its own process, and what is kept of it."""

import json
import logging
import multiprocessing
import os
import stat
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from faceattr.errors import ModelError
from faceattr.vqa.blip.oracle.answer import compute_scores
from faceattr.vqa.blip.oracle.expected import OracleScores
from faceattr.vqa.blip.oracle.kept import KeptScores
from faceattr.vqa.blip.oracle.process import answer
from faceattr.vqa.blip.oracle.request import OracleRequest, Task
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.questions import VqaQuestion

QUESTIONS = (VqaQuestion("a hat ?", ("yes", "no")), VqaQuestion("what color hair ?", ("black", "light brown", "red")))


@pytest.fixture
def task(checkpoint, checkpoint_folders, tmp_path):
    """A task about the small checkpoint."""
    scorer = BlipScorer(checkpoint, QUESTIONS, device="cpu")
    request = OracleRequest(
        weights_id=checkpoint.weights_id,
        size_px=scorer.image_size_px,
        question_start="cls",
        questions=QUESTIONS,
        tokenized=scorer.questions,
    )
    return Task(request=request, folder=checkpoint_folders["small"], cache=tmp_path / "cache", threads=1)


@pytest.mark.long
def test_a_packed_scorer_leaves_transformers_alone(tmp_path):
    """From the first import to the first scores, in a fresh process, the self-test included."""
    code = """
import sys
import numpy as np
from faceattr.config.shared import StorageConfig
from faceattr.vqa.engines import inspect_checkpoint
from faceattr.vqa.blip.build import build_scorer
from faceattr.vqa.question_files import load_question_set
scorer = build_scorer(
    model="tiny", revision=None, weights_id=inspect_checkpoint("tiny").weights_id, engine="packed", batch_size=8,
    questions=load_question_set("clear_face"), question_start="cls", threads=1, on_gpu=False, storage=StorageConfig(),
)
scores = scorer.score(np.zeros((3, 96, 96, 3), np.uint8))
print(scores.shape, sorted({name.partition(".")[0] for name in sys.modules} & {"transformers", "torchvision", "timm"}))
"""
    environment = {**os.environ, "FACEATTR_CACHE": str(tmp_path)}
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert finished.stdout == "(3, 18) []\n"
    assert [path.suffix for path in sorted((tmp_path / "self-test").iterdir())] == [".json", ".lock"]


@pytest.mark.slow
def test_the_process_answers_as_the_plain_path_does_and_keeps_it(task):
    first = OracleScores(task)
    scores = first.wait()
    np.testing.assert_array_equal(scores, compute_scores(task))
    np.testing.assert_array_equal(KeptScores(task.cache, task.request).read(), scores)
    # What is kept is read: were it computed, it would not be another number.
    KeptScores(task.cache, task.request).write(scores - 1)
    second = OracleScores(task)
    np.testing.assert_array_equal(second.wait(), scores - 1)
    np.testing.assert_array_equal(answer(task), scores - 1)
    # Computed again, it replaces what was kept.
    np.testing.assert_array_equal(second.compute(), scores)
    np.testing.assert_array_equal(OracleScores(task).wait(), scores)


@pytest.mark.slow
def test_a_checkpoint_that_the_plain_path_refuses(task, tmp_path):
    expected = OracleScores(replace(task, folder=tmp_path))
    with pytest.raises(ModelError, match=r"no config\.json"):
        expected.wait()


def test_tokenizers_that_disagree(task):
    first, second = task.request.tokenized
    other = replace(first, token_ids=(*first.token_ids[:-1], 4))
    with pytest.raises(ModelError, match=r"self-test: 'a hat \?' with its answers is"):
        answer(replace(task, request=replace(task.request, tokenized=(other, second))))


@pytest.mark.slow
def test_a_process_that_dies_is_told(task):
    expected = OracleScores(replace(task, threads=-1))
    with pytest.raises(ModelError, match=r"(?s)plain path ended with exit status 1.*RuntimeError: set_num_threads"):
        expected.wait()


def test_every_field_of_the_request_is_part_of_the_key(task):
    request = task.request
    others = [
        replace(request, weights_id="0"),
        replace(request, question_start="enc"),
        replace(request, questions=request.questions[:1]),
        replace(request, tokenized=request.tokenized[:1]),
        replace(request, packages={**request.packages, "torch": "1.0"}),
        replace(request, oracle_version=0),
        replace(request, size_px=16),
    ]
    assert len({each.key for each in [request, *others]}) == 8
    assert set(request.packages) == {"torch", "transformers", "tokenizers", "numpy"}


def test_files_that_are_broken_or_of_others_are_no_answer(task, caplog):
    kept = KeptScores(task.cache, task.request)
    assert kept.read() is None
    good = np.float32([[-1, -2, -3, -4, -5]] * 2)
    kept.write(good)
    (path,) = (task.cache / "self-test").glob("*.json")
    np.testing.assert_array_equal(kept.read(), good)
    content = json.loads(path.read_text())
    assert caplog.messages == []
    for text in (
        path.read_text()[:-3],
        "[]",
        json.dumps(content | {"scores": content["scores"][:1]}),
        json.dumps(content | {"scores": [[float("nan")] * 5] * 2}),
        json.dumps(content | {"request": content["request"] | {"weights_id": "0"}}),
        json.dumps({"request": content["request"]}),
    ):
        caplog.clear()
        path.write_text(text)
        assert kept.read() is None
        assert len(caplog.messages) == 1


def test_a_folder_that_takes_no_files_is_told(task, caplog):
    task.cache.mkdir()
    (task.cache / "self-test").write_text("a file where the folder should be")
    kept = KeptScores(task.cache, task.request)
    with kept.lock(), caplog.at_level(logging.WARNING):
        kept.write(np.zeros((2, 5), np.float32))
    assert "self_test_not_kept" in caplog.text
    assert stat.S_ISREG((task.cache / "self-test").stat().st_mode)


def _hold(task, held, release):
    with KeptScores(task.cache, task.request).lock():
        held.set()
        release.wait()
        KeptScores(task.cache, task.request).write(np.float32([[-1, -2, -3, -4, -5]] * 2))


@pytest.mark.slow
def test_who_comes_second_waits_and_reads(task):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(task, held, release))
    first.start()
    assert held.wait(60)
    second = OracleScores(task)
    release.set()
    np.testing.assert_array_equal(second.wait()[0], [-1, -2, -3, -4, -5])
    first.join(60)
    assert first.exitcode == 0
