"""The jobs that schedules disturb: how each is started, what it consists of, and what its table has to be."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import simplejpeg

from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.store import Store
from tests.checkpoints import SIZES, save_random_checkpoint
from tests.documents import ROOT
from tests.faults.schedules.world import World
from tests.models.tiny import build_model

NUM_GOOD, NUM_BAD = 1_016, 8
NUM_ROWS = NUM_GOOD + NUM_BAD
_RAY = ("raylet/raylet", "gcs_server")
_READERS = ("faceattr.data.images.decoder_child", "MapBatches(ReadImages)", "MapBatches(DecodeImages)")
# The store is given up after this time, so that a schedule ends; then the same command starts again.
_PATIENCE_S = 12.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job.

    Attributes:
        name: of the job.
        folder: of the run in which its shards are.
        processes: patterns of command lines of what it consists of.
        num_shards: of a whole run.
        command: from the world and the address of the output.
    """

    name: str
    folder: str
    processes: tuple[str, ...]
    num_shards: int
    command: Callable[[World, str], list[str]]

    def start(self, world: World, output: str) -> "subprocess.Popen[bytes]":
        """Starts a driver, whose log goes on where the last one's ended."""
        command = [sys.executable, *self.command(world, output), "--output", output, "--ray.no-dashboard"]
        command += ["--ray.object-store-mb", "150", "--storage.deadline-s", str(_PATIENCE_S)]
        with self.log_path(world, output).open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    @staticmethod
    def log_path(world: World, output: str):
        """Where the drivers of a run write."""
        return world.folder / f"{output.rpartition('/')[2]}.log"


def prepare(world: World) -> None:
    """Uploads images, some of them broken, and writes the models."""
    store = world.store("images")
    rng = np.random.default_rng(0)
    for number in range(NUM_GOOD):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((12, 12, 1), np.uint8))
        store.put(f"{number:05d}.jpg", simplejpeg.encode_jpeg(pixels))
    for number in range(NUM_BAD):
        store.put(f"bad-{number}.jpg", b"<html>")
    names = [entry.key for entry in store.list()]
    lines = [f"{name},{number % 2},{int(number % 3 == 0)}" for number, name in enumerate(names)]
    store.put("labeled_data.csv", "\n".join(["image_path,hat,beard", *lines, ""]).encode())
    save_random_checkpoint(world.folder / "blip", **SIZES["small"])
    build_model("resnet", world.folder).save_pretrained(world.folder / "student")


def _label(world: World, output: str) -> list[str]:
    flags = ["--images", world.uri("images"), "--model", str(world.folder / "blip"), "--attributes", "clear_face"]
    return [str(ROOT / "pipelines" / "label.py"), *flags, "--workers.block-rows", "64", "--workers.max-actors", "1"]


def _predict(world: World, output: str) -> list[str]:
    flags = ["--images", world.uri("images"), "--model", str(world.folder / "student")]
    return [str(ROOT / "pipelines" / "predict.py"), *flags, "--workers.block-rows", "64", "--workers.max-actors", "1"]


def _pack(world: World, output: str) -> list[str]:
    flags = ["--source", "label_list", "--root", world.uri("images"), "--max-error-share", "0.2"]
    return [str(ROOT / "pipelines" / "pack.py"), *flags]


JOBS = {
    "label": Job(
        name="label",
        folder="labels/",
        processes=(*_RAY, *_READERS, "MapBatches(VqaActor)"),
        num_shards=-(-NUM_ROWS // 256),
        command=_label,
    ),
    "predict": Job(
        name="predict",
        folder="predictions/",
        processes=(*_RAY, *_READERS, "MapBatches(PredictActor)"),
        num_shards=-(-NUM_ROWS // 256),
        command=_predict,
    ),
    # Of splits of their own sizes: about four shards of train, one each of val and test.
    "pack": Job(name="pack", folder="packed/", processes=(*_RAY, _READERS[0], "ray::"), num_shards=6, command=_pack),
}


def read_table(store: Store) -> pa.Table:
    """The published table of a run."""
    return pa.concat_tables(read_published(store))


def find_fault(store: Store, job: Job, expected: pa.Table) -> str | None:
    """Returns what is wrong with a finished run: rows, values, or a file that a reader could take for more."""
    manifest = read_manifest(store)
    if manifest is None:
        return "nothing is published"
    published = {file.key for file in manifest.files}
    found = {entry.key for entry in store.list(job.folder)}
    if found != published:
        return f"files in {job.folder} and in the manifest differ: {sorted(found ^ published)}"
    table = read_table(store)
    ids = table["image_id"].to_pylist()
    if sorted(ids) != sorted(expected["image_id"].to_pylist()) or len(set(ids)) != len(ids):
        return f"{len(ids)} rows, {len(set(ids))} different, of {len(expected)}"
    for name in expected.schema.names:
        if pa.types.is_floating(expected.schema.field(name).type):
            close = np.allclose(table[name].to_numpy(), expected[name].to_numpy(), atol=1e-5, equal_nan=True)
        else:
            close = table[name].equals(expected[name])
        if not close:
            return f"column {name} differs from the undisturbed run's"
    return None
