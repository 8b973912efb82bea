"""Describes what a run over images would do, measured on a sample before anything is written."""

import math
import time
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import yaml

from faceattr.data.inputs.folder_files import describe_files
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.plan import choose_shard_size
from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.version import read_record
from faceattr.errors import RunError
from faceattr.jobs.cluster.progress import format_duration
from faceattr.jobs.cluster.session import ActorLayout, cluster_errors, plan_actors
from faceattr.jobs.images.decode import DecodeImages
from faceattr.jobs.images.read import ReadImages
from faceattr.jobs.images.run import ImageJob, open_images

_SAMPLE_ROWS = 64
# Reading waits for the network: this many readers share a core.
_READERS_PER_CORE = 4
# A few more cores than needed keep the queues in front of the model full.
_CORE_HEADROOM = 1.1


def describe_preflight(job: ImageJob) -> str:
    """Describes the resolved config, the images, the resources and a measured rate with the ETA; writes nothing."""
    images = open_images(job)
    num_rows = num_bytes = 0
    sample: list[pa.Table] = []
    for table in images.tables:
        if sum(map(len, sample)) < _SAMPLE_ROWS:
            sample.append(table.slice(0, _SAMPLE_ROWS))
        num_rows += len(table)
        num_bytes += sum(value or 0 for value in table["num_bytes"].to_pylist())
        if job.config.limit is not None and num_rows >= job.config.limit:
            num_rows = job.config.limit
            break
    if not num_rows:
        raise RunError("the input lists no image")
    rows = pa.concat_tables(sample).slice(0, min(_SAMPLE_ROWS, num_rows))
    rows = rows.add_column(0, "row", pa.array(range(len(rows)), pa.int64()))
    actors = plan_actors(job.config.workers, num_images=num_rows, gflop_image=job.gflop_image)
    with cluster_errors():
        read_s, decode_s, score_s = _measure(job, images, rows, actors)
    cluster = ray.cluster_resources()
    cpus = max(1.0, cluster.get("CPU", 1.0))
    rates = {
        "read and decode": cpus / (read_s / _READERS_PER_CORE + decode_s),
        "model": actors.max_actors / score_s,
    }
    slowest = min(rates, key=lambda stage: rates[stage])
    eta = format_duration(num_rows / rates[slowest])
    shard_size = choose_shard_size(num_rows)
    lines = [
        yaml.safe_dump(asdict(job.config), sort_keys=False),
        f"images     {num_rows:,} below {images.root} ({images.kind}), {num_bytes / 1e9:,.2f} GB listed",
        *describe_files(images.files.to_json() if images.files else None),
        f"shards     {-(-num_rows // shard_size):,} of {shard_size:,} rows",
        f"cluster    {cluster.get('CPU', 0):g} CPUs, {cluster.get('GPU', 0):g} GPUs on {len(ray.nodes())} nodes",
        f"actors     {actors.min_actors} to {actors.max_actors}, each {actors.gpus:g} GPUs, {actors.threads} threads",
        f"model      {job.task}",
        *(f"{stage:16} {rate:,.1f} images/s, measured on {len(rows)} images" for stage, rate in rates.items()),
        f"advice     {advise_workers(actors, cpus, read_s=read_s, decode_s=decode_s, score_s=score_s)}",
        *_describe_done(job),
        f"estimate   {eta} for all, limited by: {slowest}. Nothing was written.",
    ]
    return "\n".join(lines)


def advise_workers(actors: ActorLayout, cpus: float, *, read_s: float, decode_s: float, score_s: float) -> str:
    """Returns one sentence: how many actors and cores fit each other.

    Args:
        actors: the actors as planned.
        cpus: cores of the cluster.
        read_s: seconds to read an image.
        decode_s: seconds to decode and resize it on one core.
        score_s: seconds that one actor needs for it.
    """
    # Cores that keep one actor busy.
    cores = _CORE_HEADROOM * (read_s / _READERS_PER_CORE + decode_s) / score_s
    if not actors.gpus:
        most = max(1, int(cpus / (actors.threads + cores)))
        return (
            f"--workers.max-actors {most}: an actor computes on {actors.threads} cores and keeps {cores:,.1f} busy "
            f"with reading and decoding, of the {cpus:g} cores there are"
        )
    needed = math.ceil(actors.max_actors * cores)
    if needed <= cpus:
        return f"{needed:,} of the {cpus:g} cores keep {actors.max_actors} actors busy with images"
    fed = max(1, int(cpus / cores))
    return (
        f"{needed:,} cores would keep {actors.max_actors} actors busy with images, the cluster has {cpus:g}: add "
        f"cores, or --workers.max-actors {fed} is as fast"
    )


def _describe_done(job: ImageJob) -> list[str]:
    """Describes what the output already contains of such a run; the estimate does not subtract it."""
    if read_record(job.output) is None:
        return []
    status = read_run_status(job.output, storage=job.storage)
    num_rejected = sum((status.rejects or {}).values())
    if job.config.retry_failed and status.state == "published":
        rest = f"only these {num_rejected:,}"
    elif job.config.update and status.state == "published":
        rest = "only images that are new or changed"
    else:
        rest = "only the rest"
    rejected = "" if status.rejects is None else f", {num_rejected:,} of them rejected"
    return [f"there      {status.num_committed:,} of {status.num_rows:,} rows{rejected}; {rest} will be done"]


def _measure(job: ImageJob, images: ImageInput, rows: pa.Table, actors: ActorLayout) -> tuple[float, float, float]:
    """Measures the seconds per image of reading, decoding and scoring, on the cluster and after a warm-up."""
    limits = job.config.decode
    read = ReadImages(images.root, job.storage, limits, images.bytes_column)
    decode = DecodeImages(limits, job.config.decode.timeout_s, job.resizer)
    decoded, read_s, decode_s = ray.get(ray.remote(num_cpus=1)(_prepare).remote(read, decode, rows))
    actor = job.actor(actors, label_schema(job.attributes, images.carried))
    score = ray.remote(num_gpus=actors.gpus, num_cpus=actors.cpus)(_score)
    score_s = ray.get(score.remote(*actor, decoded, actors.batch_size))
    return read_s / len(rows), decode_s / len(rows), score_s / len(rows)


def _prepare(read: ReadImages, decode: DecodeImages, rows: pa.Table) -> tuple[pa.Table, float, float]:
    for table in read(rows.slice(0, 2)):  # warm-up: imports, connections, the decoder's child process
        list(decode(table))
    read_s = decode_s = 0.0
    decoded: list[pa.Table] = []
    tables = read(rows)
    while True:
        started = time.perf_counter()
        table = next(tables, None)
        read_s += time.perf_counter() - started
        if table is None:
            return pa.concat_tables(decoded), read_s, decode_s
        started = time.perf_counter()
        decoded += decode(table)
        decode_s += time.perf_counter() - started


def _score(actor_class: type, actor_kwargs: dict[str, Any], rows: pa.Table, batch_size: int) -> float:
    actor = actor_class(**actor_kwargs)
    actor(rows.slice(0, batch_size))
    started = time.perf_counter()
    actor(rows)
    return time.perf_counter() - started
