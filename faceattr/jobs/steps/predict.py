"""Predict the attributes of a bucket of images with a trained model.

Reads a model folder and images (a prefix, a manifest, Parquet or tar files). Writes a run folder:
`predictions/*.parquet` in the schema of labels, so that the next model can be trained on them, with the reason for
every image that could not be used, `report.html`, and `_manifest.json` once the run is complete. The same command
resumes a stopped run.

    ray job submit --working-dir . -- python pipelines/predict.py --model s3://faces/models/m1 --images s3://faces/raw/
        --output s3://faces/predictions/m1 --labels s3://faces/labels/run1
    faceattr predict bucket --model ./models/m1 --images ./photos --output ./predictions
"""

from faceattr.config import PredictConfig
from faceattr.jobs.images import predict
from faceattr.jobs.images.command import run_images
from faceattr.logs import say


def predict_images(config: PredictConfig) -> int:
    """Predicts the images that have no committed row yet, publishes, and compares with labels."""
    job = predict.prepare_predict_job(config)
    say(run_images(job, publish=predict.publish_predictions, summarise=predict.summarise_predictions))
    return 0
