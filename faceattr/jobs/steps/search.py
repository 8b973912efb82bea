r"""Search for training settings: loss weights, freeze depth, heads, learning rates, thresholds.

Reads packed runs (`pipelines/pack.py`) and writes a folder with all trials, the best settings (`best.yaml`, which
`pipelines/train.py --config` reads), the best model and a report. `--resume` resumes a stopped search.

    ray job submit --working-dir . -- python tune/search.py --data s3://faces/packed/run1 \
        --output s3://faces/search/s1 --space clear_face --num-samples 64 --trials.gpus 1
    faceattr search --data ./packed --output ./search --num-samples 16
    faceattr search --resume ./search
"""

from contextlib import nullcontext

from faceattr.config.search import SearchConfig
from faceattr.data.runs.lease import drive
from faceattr.data.stores.open import probe_store
from faceattr.jobs.cluster.session import ray_session, stop_on_sigterm
from faceattr.jobs.search import job as search_job
from faceattr.jobs.search import run as search
from faceattr.jobs.search.computation import settle_search
from faceattr.jobs.search.finish import finish_search
from faceattr.jobs.train.survey import DRAFTS
from faceattr.logs import say


def search_settings(config: SearchConfig) -> int:
    """Checks everything, computes what trials share, runs the unfinished trials, and writes the results."""
    job = search_job.prepare_search_job(config)
    search_job.check_weights(job)
    with ray_session(job.config.ray) if job.uses_gpus else nullcontext():  # GPUs are asked what they are
        job = settle_search(job)
        say(search_job.describe_search(job))
        return 0 if config.dry_run else _run_trials(job)


def _run_trials(job: search_job.SearchJob) -> int:
    probe_store(job.output)
    with drive(job.output, drafts=DRAFTS), ray_session(job.config.ray), stop_on_sigterm():
        plan = search.plan_search(job, search.survey_search(job))
        record = search_job.begin_search_run(job)
        if plan.caches.boundaries:
            say(f"computed activations of {search.fill_caches(job, plan):,} images")
        trials = search.run_search(job, plan)
        repeats = search.repeat_best(job, plan, trials)
        say(finish_search(job, record, plan, trials, repeats))
    return 0
