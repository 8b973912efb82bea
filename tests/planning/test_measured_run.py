"""The planner's rate against that of a real run on Ray, whose model takes a known time and no CPU, as a GPU would."""

import json
import time
from dataclasses import dataclass

import numpy as np
import pytest

from faceattr.config import LabelConfig
from faceattr.data.images import ImageLimits
from faceattr.data.run_status import read_run_status
from faceattr.data.runs import commit_all
from faceattr.demo.faces import write_faces
from faceattr.jobs import image_run, label
from faceattr.jobs.progress import Progress
from faceattr.jobs.session import ActorPlan
from faceattr.jobs.stream import ImageStream, stream_rows
from faceattr.jobs.vqa_actor import VqaActor
from faceattr.planning.label_plan import LabelPlan, estimate_label
from faceattr.planning.rates import load_rates

pytestmark = [pytest.mark.ray, pytest.mark.slow]
NUM_IMAGES, NUM_ACTORS, SECONDS = 240, 2, 0.1


@dataclass(frozen=True)
class SleepingScorer:
    """Answers nothing much, after a fixed time for each image."""

    image_size_px: int = 96

    def __call__(self):
        return self

    def score(self, images):
        time.sleep(SECONDS * len(images))
        return np.full((len(images), 18), -1.0, np.float32)


def test_the_rate_of_a_real_run_is_the_planned_one(ray_local, tmp_path):
    write_faces(tmp_path / "images", 24, 3_000_000)
    for number in range(24, NUM_IMAGES):
        (tmp_path / "images" / f"copy-{number:04d}.jpg").write_bytes(
            (sorted((tmp_path / "images").glob("*.jpg"))[number % 24]).read_bytes()
        )
    job = label.prepare_label_job(
        LabelConfig(images=str(tmp_path / "images"), output=str(tmp_path / "run"), model="tiny")
    )
    record = image_run.begin_run(job)
    version = image_run.open_version(job, record)
    work = version.work()
    stream = stream_rows(
        work,
        ImageStream(
            run_uri=job.output.uri,
            root=record.source["root"],
            bytes_column=None,
            storage=job.storage,
            limits=ImageLimits(),
            decode_timeout_s=60,
            resizer=job.resizer,
        ),
        actor=VqaActor,
        actor_kwargs={"build_scorer": SleepingScorer(), "questions": job.questions, "schema": version.schema},
        actors=ActorPlan(min_actors=2, max_actors=2, gpus=1, cpus=0, threads=1, batch_size=8),
        block_rows=8,
        wait_s=120,
        name="planned",
    )
    progress = Progress(record.plan.num_rows, 0)
    arrivals: list[tuple[float, int]] = []

    def on_rows(rows):
        progress.add(rows)
        arrivals.append((progress.elapsed_s, progress.num_rows))

    started = time.time()
    commit_all(version.committer(work), stream, on_rows=on_rows)
    progress.close()
    session = {"started": started, "version": 1, "samples": progress.samples, "rows": progress.num_rows}
    job.output.put(f"sessions/{started:.3f}.json", json.dumps(session).encode())  # as the job notes it
    # The first and the last blocks come while not all actors work; between them is the steady state.
    low, high = (next(each for each in arrivals if each[1] >= share * NUM_IMAGES) for share in (0.3, 0.8))
    measured = (high[1] - low[1]) / (high[0] - low[0])

    plan = LabelPlan(
        num_images=NUM_IMAGES,
        pixels=178 * 218,
        image_bytes=6_000,
        gpu="h200",
        num_gpus=NUM_ACTORS,
        num_cores=2,
        gpu_rate=1 / SECONDS,
        block_rows=8,
    )
    planned = estimate_label(plan, load_rates()).bottleneck
    assert (planned.name, planned.rate) == ("GPUs", pytest.approx(20.0))
    assert 0.75 * planned.rate < measured < 1.15 * planned.rate
    # What the run folder tells afterwards includes its slow ends.
    noted = read_run_status(job.output).rate
    assert 0.4 * planned.rate < noted < 1.15 * planned.rate
