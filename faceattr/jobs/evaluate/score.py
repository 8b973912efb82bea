"""Packed rows through a trained model: read -> decode -> model actors; every row once, collected in the driver."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import ray.data

from faceattr.config import EvalConfig
from faceattr.data.packed.reader import PackedData, PackedFile
from faceattr.data.runs.commit import OK
from faceattr.data.stores.open import open_store
from faceattr.errors import RunError
from faceattr.jobs.cluster.blocks import split_blocks
from faceattr.jobs.cluster.progress import Progress
from faceattr.jobs.cluster.session import cluster_errors, plan_actors
from faceattr.jobs.images.actors.predict_actor import OutputActor
from faceattr.jobs.images.decode import DecodeImages
from faceattr.jobs.images.pipeline import DECODE_CPUS, IMAGE_READ_CPUS, map_on_actors
from faceattr.jobs.images.predict import model_resizer, predictor_recipe
from faceattr.jobs.images.read import append_columns
from faceattr.models.inspect import SavedModelInfo


@dataclass(frozen=True)
class ReadPacked:
    """Places in a list of (number of the run, packed file) -> their rows, encoded images in `data`."""

    packed: PackedData
    files: tuple[tuple[int, PackedFile], ...]

    def __call__(self, places: pa.Table) -> Iterator[pa.Table]:
        """Yields one table per row group of the files whose places are in the column `file`."""
        columns = ["row", "image_id", "sha256", "group", "split", *self.packed.label_columns, "image"]
        for place in places["file"].to_pylist():
            run, file = self.files[place]
            for rows in self.packed.iter_rows(file, columns):
                yield append_columns(
                    rows.drop_columns(["image"]),
                    run=pa.array([run] * len(rows), pa.int32()),
                    data=rows["image"].cast(pa.large_binary()),
                    status=pa.array([OK] * len(rows)),
                    error=pa.nulls(len(rows), pa.string()),
                )


def score_splits(
    config: EvalConfig,
    packed: PackedData,
    splits: Sequence[str],
    *,
    source: str,
    model: SavedModelInfo,
    embed: bool = False,
) -> pa.Table:
    """Scores all rows of some splits with the model, sorted by run and row.

    Args:
        config: settings of workers and decoding.
        packed: the data.
        splits: names of the splits to score.
        source: where the actors find the model.
        model: facts about the model.
        embed: whether to add the column `embedding`.

    Raises:
        RunError: a row is missing or duplicated, or the cluster failed.
    """
    storage = packed.storage
    roots = [f"{open_store(uri, storage).uri.rstrip('/')}/" for uri in packed.uris]
    files = tuple(
        (next(run for run, root in enumerate(roots) if file.uri.startswith(root)), file)
        for split in splits
        for file in packed.splits[split]
    )
    total = sum(file.num_rows for _, file in files)
    actors = plan_actors(config.workers)
    block_rows = actors.block_rows(total, config.workers.block_rows)
    ray.data.DataContext.get_current().wait_for_min_actors_s = int(config.workers.wait_s)
    limits = config.decode
    read = ray.data.from_items([{"file": place} for place in range(len(files))], override_num_blocks=len(files))
    read = read.map_batches(
        ReadPacked(packed, files), batch_size=None, batch_format="pyarrow", num_cpus=IMAGE_READ_CPUS
    )
    dataset = split_blocks(read, block_rows).map_batches(
        DecodeImages(limits, config.decode.timeout_s, model_resizer(model)),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=DECODE_CPUS,
    )
    recipe = predictor_recipe(source, model, config.precision, actors, storage, flip=config.flip)
    dataset = map_on_actors(dataset, OutputActor, {"build_predictor": recipe, "embed": embed}, actors, block_rows)
    dataset.set_name("faceattr_eval")
    progress = Progress(total, 0)
    tables = []
    try:
        with cluster_errors():
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
                progress.add(table)
                tables.append(table)
    finally:
        progress.close()
    scored = pa.concat_tables(tables).sort_by([("run", "ascending"), ("row", "ascending")])
    unique = len(scored.group_by(["run", "row"]).aggregate([]))
    if len(scored) != total or unique != total:
        raise RunError(f"expected {total} scored rows, found {len(scored)}, {unique} of them distinct; evaluate again")
    return scored
