"""Describes what a pack command would do, measured on a sample before anything is written."""

import time
from collections.abc import Iterator
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc
import ray
import yaml

from faceattr.data.packed.plan import count_splits, label_fields_of
from faceattr.data.packed.reader import packed_schema
from faceattr.data.runs.plan import choose_shard_size
from faceattr.data.sources.gather import GatheredLabels
from faceattr.data.sources.source import Rejects
from faceattr.errors import ConfigError
from faceattr.jobs.cluster.progress import format_duration
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.pack.job import PackJob
from faceattr.jobs.pack.scan import hash_images, scan_schema, source_rows, take_sample
from faceattr.jobs.pack.stages import HashImages, PackImages, mean_bytes
from faceattr.reports.pack import describe_splits


def describe_pack_preflight(job: PackJob) -> str:
    """Describes the config, the rows, their splits as far as they are known, and a measured rate with the ETA."""
    gathered = job.gathered
    if gathered is None:
        raise ConfigError(f"{job.output.uri} contains this run already; --dry-run is for a folder without one")
    rejects = Rejects()

    def read() -> Iterator[pa.Table]:
        nonlocal rejects
        rejects = Rejects()
        return source_rows(job, gathered, rejects)

    counts = count_splits(read, job.split_rules(gathered), gathered.labels.attributes)
    num_rows = sum(counts.rows.values())
    with cluster_errors():
        hash_s, pack_s, row_bytes, reasons = _measure(job, gathered, take_sample(read()))
    cpus = max(1.0, ray.cluster_resources().get("CPU", 1.0))
    total_s = num_rows * (hash_s + pack_s) / cpus
    shard_size = choose_shard_size(num_rows, row_bytes=row_bytes, max_bytes=job.config.shard_mb * 2**20)
    lines = [
        yaml.safe_dump(asdict(job.config), sort_keys=False),
        f"labels     {num_rows:,} rows from {gathered.labels.where}",
        *(f"           {line}" for line in rejects.describe().splitlines()),
        *describe_splits(counts.rows, counts.to_table(), counts.problems()),
        _describe_hashes(job, gathered),
        f"shards     about {-(-num_rows // shard_size):,} of {shard_size:,} rows, {num_rows * row_bytes / 1e9:,.2f} GB",
        f"cluster    {cpus:g} CPUs on {len(ray.nodes())} nodes",
        *(f"sample     {count} of the sampled images are unusable: {reason}" for reason, count in reasons.items()),
        f"rate       {cpus / pack_s:,.0f} images/s packed"
        + (f", {cpus / hash_s:,.0f} images/s hashed before" if hash_s else ", hashed already"),
        f"estimate   {format_duration(total_s)}. Nothing was written.",
    ]
    return "\n".join(line for line in lines if line)


def _describe_hashes(job: PackJob, gathered: GatheredLabels) -> str:
    if not gathered.hashed:
        return "(based on names: copies are found only when the images have been hashed)"
    return "" if job.near_copies is None else "(near copies are found only when the images have been hashed)"


def _measure(job: PackJob, gathered: GatheredLabels, rows: pa.Table) -> tuple[float, float, float, dict[str, int]]:
    """Measures, on a sample: seconds per image and core to hash and to pack, packed size, rejects by reason."""
    labels = gathered.labels
    fields = label_fields_of(labels.attributes, labels.scored)
    make_hashes = hash_images(job, gathered, scan_schema(job, fields))
    pack = job.pack_images(
        gathered.places, packed_schema(labels.attributes, labels.scored, faces=job.faces is not None)
    )
    hash_s, pack_s, found = ray.get(ray.remote(num_cpus=1)(_time_stages).remote(make_hashes, pack, rows))
    bad = found.filter(pc.not_equal(found["status"], "ok"))
    reasons = {each["values"]: each["counts"] for each in bad["status"].value_counts().to_pylist()}
    scanned = not gathered.hashed or job.near_copies is not None
    return (hash_s / len(rows) if scanned else 0.0), pack_s / len(rows), mean_bytes(found), reasons


def _time_stages(make_hashes: HashImages, pack: PackImages, rows: pa.Table) -> tuple[float, float, pa.Table]:
    hashed = pa.concat_tables(make_hashes(rows.slice(0, 2)))
    list(pack(hashed.drop_columns(["status", "error"])))  # warm-up: imports, connections, the decoder's child process
    times = [time.perf_counter()]
    hashed = pa.concat_tables(make_hashes(rows))
    times.append(time.perf_counter())
    packed = pa.concat_tables(pack(hashed.drop_columns(["status", "error"])))
    times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1], packed
