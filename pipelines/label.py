#!/usr/bin/env python
"""Label a bucket of images with a visual question answering model.

Reads images (a prefix, a manifest or packed Parquet) and writes a run folder: `labels/*.parquet` with a label, a score
and the answer mass for every image and attribute, a row with a reason for every image that could not be used, and
`_manifest.json` when all is there. The same command goes on where an earlier one was stopped.

    ray job submit --working-dir . -- python pipelines/label.py --images s3://faces/raw/ --output s3://faces/labels/run1
    python pipelines/label.py --images ./photos --output ./labels --attributes clear_face
"""

import sys
from collections.abc import Sequence

from faceattr.cli import run_job
from faceattr.config import LabelConfig
from faceattr.data.runs import probe_store
from faceattr.jobs import image_run, label
from faceattr.jobs.preflight import describe_preflight
from faceattr.jobs.session import drive, ray_session, stop_on_sigterm


def label_images(config: LabelConfig) -> int:
    """Plans, labels what is not done, proves that nothing is lost or twice, publishes."""
    job = label.prepare_label_job(config)
    if config.dry_run:
        with ray_session(config.ray):
            print(describe_preflight(job))
        return 0
    probe_store(job.output)
    with drive(job.output):
        run = image_run.begin_run(job)
        version = image_run.open_version(job, run)
        if version.published is not None:
            print(f"nothing to do: this run is finished\n{label.summarise(job, version.published)}")
            return 0
        with ray_session(config.ray), stop_on_sigterm():
            image_run.process_pending(job, run, version)
        print(label.summarise(job, label.publish_labels(job, version)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 the run failed, 2 the command is wrong, 130 stopped."""
    return run_job(LabelConfig, label_images, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
