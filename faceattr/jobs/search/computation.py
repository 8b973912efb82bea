"""How the trials of a search compute on the cluster's devices."""

from dataclasses import replace

from faceattr.jobs.cluster.machines.gpus import find_cluster_precision
from faceattr.jobs.search.job import SearchJob


def settle_search(job: SearchJob) -> SearchJob:
    """Returns the job with a precision that fits the trials' devices, and a line about it.

    Needs a Ray session if the trials use GPUs, which are asked what they are. Networks are compiled only where the
    shared settings say `on`: each trial would compile again.

    Raises:
        RunError: a node does not answer.
    """
    base = job.base
    found = find_cluster_precision(base.optim.precision, on_gpus=job.uses_gpus)
    compiles = base.workers.compile == "on"
    line = f"computation   {found.where}, {'compiled' if compiles else 'not compiled'}"
    settled = replace(
        base,
        optim=replace(base.optim, precision=found.precision),
        workers=replace(base.workers, compile="on" if compiles else "off"),
    )
    return replace(job, base=settled, recipe=(*job.recipe, line))
