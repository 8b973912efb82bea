"""A label run with one slow stage says which one, in its session, its status and its report."""

import dataclasses
import json

import numpy as np
import pytest
import simplejpeg

from faceattr.cli import main as faceattr
from faceattr.config import LabelConfig, StorageConfig, WorkersConfig
from faceattr.data.runs.limit import describe_limit, find_limit, read_waited_for
from faceattr.data.stores.open import open_store
from faceattr.jobs.images.label import prepare_label_job, publish_labels
from faceattr.jobs.images.run import begin_run, open_version, process_pending
from faceattr.jobs.images.stage_watch import Moment
from tests.fakes.proxy import Fault, serve_faults
from tests.fakes.slow_stages import SlowJob

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_local")]
NUM_IMAGES = 240
JPEG = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))


def run(output, images: str, *, storage: StorageConfig | None = None, limit=None, **slow: float) -> tuple[dict, str]:
    """Runs a job with slow stages on one actor; its session, and the report."""
    workers = WorkersConfig(max_actors=1, gpus_per_actor=1, block_rows=16)
    config = LabelConfig(
        images=images,
        output=str(output),
        model="tiny",
        storage=storage or StorageConfig(),
        workers=workers,
        limit=limit,
    )
    usual = prepare_label_job(config)
    job = SlowJob(
        config=config,
        questions=usual.questions,
        checkpoint=usual.checkpoint,
        storage=usual.storage,
        output=usual.output,
        **slow,
    )
    record = begin_run(job)
    version = open_version(job, record)
    process_pending(job, version)
    publish_labels(job, version)
    (session,) = (json.loads(path.read_text()) for path in (output / "sessions").iterdir())
    return session, (output / "report.html").read_text()


def shown_sentence(output, capsys) -> str:
    """What `faceattr status` says of a run's speed."""
    capsys.readouterr()
    assert faceattr(["status", str(output)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("speed ")]
    return line.removeprefix("speed").strip()


def steady_limit(session: dict) -> str | None:
    """What limits the steady part of a run; how long Ray took to start its processes depends on the machine."""
    waited = read_waited_for([session])
    assert waited is not None
    return find_limit(dataclasses.replace(waited, start_up_s=0.0))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        (folder / f"{number:03d}.jpg").write_bytes(JPEG)
    return str(folder)


@pytest.mark.long
def test_a_slow_model(images, tmp_path, capsys):
    session, report = run(tmp_path / "run", images, score_s=0.03)
    assert steady_limit(session) == "the model"
    waited = read_waited_for([session])
    assert waited is not None
    assert shown_sentence(tmp_path / "run", capsys) == describe_limit(waited)
    assert f"This run was {describe_limit(waited)}." in report


@pytest.mark.long
def test_a_slow_decoder(images, tmp_path):
    """Decoding begins while the actor loads its model, and has to go on for much longer than that takes."""
    session, _ = run(tmp_path / "run", images, decode_s=0.15)
    assert steady_limit(session) == "decoding"


@pytest.mark.long
def test_a_slow_reader(s3, s3_uri, tmp_path):
    store = open_store(s3_uri)
    for number in range(NUM_IMAGES):
        store.put(f"{number:03d}.jpg", JPEG)
    with serve_faults(s3.endpoint_url) as proxy:
        proxy.add(Fault("delay", "GET", path=".jpg", times=10_000, delay_s=1.5))
        session, _ = run(tmp_path / "run", s3_uri, storage=StorageConfig(endpoint_url=proxy.url))
    assert steady_limit(session) == "reading"


@pytest.mark.long
def test_a_slow_start(images, tmp_path, capsys):
    run(tmp_path / "run", images, start_s=3.0, limit=32)
    assert shown_sentence(tmp_path / "run", capsys).startswith("limited by start-up, ")


@pytest.mark.parametrize(
    ("active", "decoding", "decoders_wanted", "reading", "expected"),
    [
        (4, True, True, True, (0, 0, 1)),  # every actor has work: what waits behind decides nothing
        (1, True, True, True, (0, 0.75, 0.25)),
        (1, True, False, True, (0.75, 0, 0.25)),  # what is read is decoded at once
        (1, True, False, False, (0, 0.75, 0.25)),  # the last images
        (1, False, False, True, (0.75, 0, 0.25)),
        (1, False, False, False, (0, 0, 0.25)),  # they are on their way
    ],
)
def test_what_a_moment_waits_for(active, decoding, decoders_wanted, reading, expected):
    moment = Moment(actors=4, active=active, decoding=decoding, decoders_wanted=decoders_wanted, reading=reading)
    assert tuple(moment.waited_for()[stage] for stage in ("reading", "decoding", "model")) == expected
