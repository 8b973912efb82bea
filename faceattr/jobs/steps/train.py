"""Train one model for all attributes of some packed runs.

Reads packed runs (`pipelines/pack.py`) and writes a model folder: the model of the best epoch, its metrics, a report
and checkpoints. The same command resumes a stopped training; training survives lost workers and nodes.

    ray job submit --working-dir . -- python pipelines/train.py --data s3://faces/packed/run1 --output s3://faces/models/m1
    faceattr train --preset clear_face --data ./packed --output ./models/m1
"""

from faceattr.config.train import TrainConfig
from faceattr.data.runs.lease import drive
from faceattr.data.stores.open import probe_store
from faceattr.jobs.cluster.session import ray_session, stop_on_sigterm
from faceattr.jobs.train import run as train
from faceattr.jobs.train.computation import settle_training
from faceattr.jobs.train.report import describe_plan, finish_train_run
from faceattr.jobs.train.survey import DRAFTS
from faceattr.logs import say


def run_training(config: TrainConfig) -> int:
    """Checks everything, trains the remaining epochs, and writes the model and the report."""
    job = train.prepare_train_job(config)
    network = "" if job.finished else train.describe_network(job)
    if config.dry_run:
        with ray_session(config.ray):
            say(describe_plan(settle_training(job), network))
        return 0
    probe_store(job.output)
    with drive(job.output, drafts=DRAFTS):
        if job.finished:
            say(f"nothing to do: this model is trained\n{finish_train_run(job, train.begin_train_run(job))}")
            return 0
        train.forget_untrained(job)
        with ray_session(config.ray), stop_on_sigterm():
            train.check_room(config)
            job = settle_training(job)
            surveys = train.survey_labels(job)
            say("\n".join([network, *job.recipe]))
            record = train.begin_train_run(job)
            train.train_model(job, record, surveys)
        say(finish_train_run(job, record))
    return 0
