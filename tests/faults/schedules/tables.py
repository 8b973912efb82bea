"""Jobs whose result is a table: label, predict, pack."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import simplejpeg

from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.store import Store
from tests.checkpoints import SIZES, save_random_checkpoint
from tests.documents import ROOT
from tests.faults.schedules.job import RAY_PROCESSES, Job
from tests.faults.schedules.world import World
from tests.models.tiny import build_model

NUM_GOOD, NUM_BAD = 1_016, 8
NUM_ROWS = NUM_GOOD + NUM_BAD
_READERS = ("faceattr.data.images.decoder_child", "MapBatches(ReadImages)", "MapBatches(DecodeImages)")


@dataclass(frozen=True, kw_only=True)
class TableJob(Job):
    """A job over images.

    Attributes:
        folder: of the run in which its shards are.
        flags: from the world; the script has the job's name.
    """

    folder: str
    flags: Callable[[World], list[str]]

    def prepare(self, world: World) -> None:
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

    def command(self, world: World, output: str, *, is_begun: bool) -> list[str]:
        """See `Job`; the same command goes on."""
        return [str(ROOT / "pipelines" / f"{self.name}.py"), *self.flags(world), "--output", output]

    def count_done(self, store: Store) -> int:
        """See `Job`."""
        return sum(1 for _ in store.list(self.folder))

    def is_of_driver(self, key: str) -> bool:
        """See `Job`: actors of a killed driver may still commit shards."""
        return not key.startswith(("_probe-", self.folder))

    def read(self, store: Store) -> pa.Table:
        """The published table of a run."""
        return pa.concat_tables(read_published(store))

    def find_fault(self, store: Store, expected: pa.Table) -> str | None:
        """See `Job`: rows, values, or a file that a reader could take for more."""
        manifest = read_manifest(store)
        if manifest is None:
            return "nothing is published"
        published = {file.key for file in manifest.files}
        found = {entry.key for entry in store.list(self.folder)}
        if found != published:
            return f"files in {self.folder} and in the manifest differ: {sorted(found ^ published)}"
        table = self.read(store)
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


def _label(world: World) -> list[str]:
    flags = ["--images", world.uri("images"), "--model", str(world.folder / "blip"), "--attributes", "clear_face"]
    return [*flags, "--workers.block-rows", "64", "--workers.max-actors", "1"]


def _predict(world: World) -> list[str]:
    flags = ["--images", world.uri("images"), "--model", str(world.folder / "student")]
    return [*flags, "--workers.block-rows", "64", "--workers.max-actors", "1"]


def _pack(world: World) -> list[str]:
    return ["--source", "label_list", "--root", world.uri("images"), "--max-error-share", "0.2"]


LABEL = TableJob(
    name="label",
    folder="labels/",
    processes=(*RAY_PROCESSES, *_READERS, "MapBatches(VqaActor)"),
    num_parts=-(-NUM_ROWS // 256),
    flags=_label,
)
PREDICT = TableJob(
    name="predict",
    folder="predictions/",
    processes=(*RAY_PROCESSES, *_READERS, "MapBatches(PredictActor)"),
    num_parts=-(-NUM_ROWS // 256),
    flags=_predict,
)
# Of splits of their own sizes: about four shards of train, one each of val and test.
PACK = TableJob(
    name="pack", folder="packed/", processes=(*RAY_PROCESSES, _READERS[0], "ray::"), num_parts=6, flags=_pack
)
