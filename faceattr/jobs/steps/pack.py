"""Join labels and images into training shards, split into train, val and test.

Reads label runs, or a data set with its own labels, and the images they name. Writes a run folder:
`packed/split=train/*.parquet` (likewise val and test) with encoded images and labels, a row with the reason for every
image that could not be used, lists of the splits and of conflicting copies, and `_manifest.json` once the run is
complete. The same command resumes a stopped run.

    faceattr pack --labels s3://faces/labels/run1 --output s3://faces/packed/run1
    faceattr pack --source fairface --root ./fairface --output ./packed
"""

from faceattr.config import PackConfig
from faceattr.data.runs.lease import drive
from faceattr.data.stores.open import probe_store
from faceattr.jobs.cluster.session import ray_session, stop_on_sigterm
from faceattr.jobs.pack import run as pack
from faceattr.jobs.pack.dry_run import describe_pack_preflight
from faceattr.jobs.pack.job import prepare_pack_job
from faceattr.logs import say
from faceattr.reports.pack import describe_pack, write_missing_report


def pack_images(config: PackConfig) -> int:
    """Hashes images without a hash, draws the splits, packs the rest of the rows, verifies them and publishes."""
    job = prepare_pack_job(config)
    if config.dry_run:
        with ray_session(config.ray):
            say(describe_pack_preflight(job))
        return 0
    probe_store(job.output)
    with drive(job.output):
        finished = pack.find_published(job)
        if finished is not None:
            finished.mark_published()
            write_missing_report(finished)
            text = describe_pack(finished, job.describe_old_scores(finished.record))
            say(f"nothing to do: this run is finished\n{text}")
            return 0
        with ray_session(config.ray), stop_on_sigterm():
            run = pack.begin_pack_run(job)
            version = pack.open_version(job, run)
            pack.pack_pending(job, version)
            statistics = pack.publish_pack(job, version)
        say(describe_pack(version, [*statistics.counts.problems(), *job.describe_old_scores(run)]))
    return 0
