"""Label a bucket of images with a visual question answering model.

Reads images (a prefix, a manifest, Parquet or tar files) and writes a run folder: `labels/*.parquet` with a label, a
score and the answer mass per image and attribute, a row with the reason for every image that could not be used, and
`_manifest.json` once the run is complete. The same command resumes a stopped run.

    ray job submit --working-dir . -- python pipelines/label.py --images s3://faces/raw/ --output s3://faces/labels/run1
    faceattr label --images ./photos --output ./labels --attributes clear_face

With thresholds from `faceattr audit apply`, a published run is labelled again from its scores, without the model:

    faceattr label --rethreshold ./labels --thresholds ./audit/thresholds.yaml
"""

from faceattr.config import LabelConfig
from faceattr.jobs.images import label
from faceattr.jobs.images.command import run_images
from faceattr.jobs.images.rethreshold import rethreshold
from faceattr.logs import say


def label_images(config: LabelConfig) -> int:
    """Labels the images that have no committed row yet, and publishes; or labels a published run again."""
    if config.rethreshold is not None:
        say(rethreshold(config))
        return 0
    job = label.prepare_label_job(config)
    say(run_images(job, publish=label.publish_labels, summarise=label.summarise_labels))
    return 0
