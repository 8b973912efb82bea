"""How the samples were made, by faceattr 0.1.0 at fc57b2a: `python -m tests.goldens.make_samples`.

Each is what its command left; of the unfinished ones, what a session that was stopped on its way leaves:

    labels_unfinished   without the second shard and the manifest
    model_unfinished    without the second epoch, and with the note of progress that is there during an epoch
    search_unfinished   two trials are over; a third, of a session with --num-samples 3, was stopped in its second epoch

Reports and pictures are left out, since nothing reads them; so are, to save room, the checkpoint of the first epoch of
the finished training, and, in the leases, what names the machine.
"""

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import ray
import torch
from PIL import Image

from faceattr.config.search import SearchConfig
from faceattr.data.stores.store import Store
from faceattr.demo.faces import build_face_rng, draw_face
from faceattr.demo.store import serve_s3
from faceattr.jobs.search.job import prepare_search_job
from faceattr.jobs.search.run import plan_search, survey_search
from faceattr.jobs.search.trial import train_trial
from faceattr.search.records import begin_trial
from faceattr.training.history import ProgressNote
from faceattr.training.loop.ranks import Ranks
from tests.conftest import environment
from tests.goldens.bucket import COMMANDS, GOLDENS, NUM_FACES, SAMPLES, open_sample, place_images, run

_LEFT_OUT = ("report.html", ".png", "tensorboard/", "_probe-", "/model/checkpoints/epoch-00001")
_OWNER = {"host": "elsewhere", "machine": "none", "pid": 1, "started": "0", "token": "none"}


class Stopped(Exception):  # noqa: N818 - no error
    """The session was stopped here."""


def draw_faces(folder: Path) -> None:
    """32 drawn faces, a file that is no image, and a table with labels of all other kinds."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(NUM_FACES):
        buffer = io.BytesIO()
        Image.fromarray(draw_face(build_face_rng(77, number), 96).image).save(buffer, "JPEG", quality=75)
        (folder / f"{number:03d}.jpg").write_bytes(buffer.getvalue())
        years = int(rng.integers(1, 80))
        rows.append(
            {
                "path": f"{number:03d}.jpg",
                "tone": ("dark", "middle", "light", "dark|middle", "")[number % 5],
                "years": str(years) if number % 3 else f"{years // 10 * 10}-{years // 10 * 10 + 9}",
                "who": f"p{number % 3}",
            }
        )
    (folder / "page.jpg").write_bytes(b"<html>")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def stop_label_run(store: Store) -> None:
    """Leaves what a label run leaves that was killed between its two shards."""
    for key in [entry.key for entry in store.list("sessions/")]:
        store.delete(key)
    for key in ("labels/shard-00000001.parquet", "_manifest.json"):
        store.get(key)
        store.delete(key)


def stop_training(store: Store) -> None:
    """Leaves what a training leaves that was killed in its second epoch."""
    first, _ = store.get("metrics.jsonl").splitlines()
    store.put("metrics.jsonl", first + b"\n")
    for key in ("model.safetensors", "config.json", "metrics.csv"):
        store.delete(key)
    store.get("checkpoints/epoch-00001.checkpoint.json")
    for key in [entry.key for entry in store.list("checkpoints/epoch-00002")]:
        store.delete(key)
    note = ProgressNote(store, num_epochs=2, num_batches=4)
    list(note.follow([[None] * 4], epoch=1, world_size=1))


def stop_search(uri: str) -> None:
    """Leaves what a search leaves that resumes with a third trial and is killed in its second epoch."""
    job = prepare_search_job(SearchConfig(resume=uri, num_samples=3))
    plan = plan_search(job, survey_search(job))
    values = {"optim.lr": 0.02, "loss.aux_weight": 0.5}
    begin_trial(job.output, 2, values)

    def stop(found: dict[str, object]) -> None:
        if found["epoch"] == 2:
            raise Stopped

    try:
        train_trial(plan, 2, values, stop, ranks=Ranks(device=torch.device("cpu")))
    except Stopped:
        return
    raise AssertionError("the trial was not stopped")


def save(name: str, folder: Path) -> None:
    """Copies a run folder out of the bucket."""
    store = open_sample(name)
    for key in [entry.key for entry in store.list()]:
        if any(word in f"/{name}/{key}" for word in _LEFT_OUT):
            continue
        data = store.get(key)
        if key.startswith("_lease/"):
            data = json.dumps({**json.loads(data), "owner": _OWNER, "released": True}).encode()
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def main() -> None:
    """Makes all samples. Refuses if there are some."""
    draw_faces(SAMPLES / "faces")
    with tempfile.TemporaryDirectory() as scratch, serve_s3(Path(scratch)) as s3, environment(s3.environment):
        ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=200 * 2**20)
        try:
            place_images()
            for name in COMMANDS:
                assert run(name) == 0, name
            stop_label_run(open_sample("labels_unfinished"))
            stop_training(open_sample("model_unfinished"))
            stop_search(f"{GOLDENS}/search_unfinished")
            for name in COMMANDS:
                save(name, SAMPLES / name)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
