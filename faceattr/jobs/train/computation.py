"""How a training computes on the cluster's devices: its precision, and whether its network is compiled."""

from dataclasses import replace

from faceattr.config.train import TrainConfig
from faceattr.jobs.cluster.machines.gpus import find_cluster_precision
from faceattr.jobs.train.run import TrainJob
from faceattr.training.assembly import build_untrained
from faceattr.training.loop.compiled import choose_compile, find_graph_break


def settle_training(job: TrainJob) -> TrainJob:
    """Returns the job with a precision and a choice of compilation that fit the devices, and a line about them.

    Needs a Ray session if the workers use GPUs, which are asked what they are.

    Raises:
        RunError: a node does not answer.
    """
    config = job.config
    workers = config.workers
    found = find_cluster_precision(config.optim.precision, on_gpus=workers.use_gpu)
    num_images = count_stage_images(config, job.data.num_rows("train"))
    compiles, why = choose_compile(
        workers.compile, capability=found.capability, num_workers=workers.num_workers, num_images=num_images
    )
    if compiles and workers.compile == "auto":
        broken = find_graph_break(build_untrained(config, job.attributes, storage=job.storage))
        if broken is not None:
            compiles, why = False, f"auto: not one graph, {broken}"
    settled = replace(
        config,
        optim=replace(config.optim, precision=found.precision),
        workers=replace(workers, compile="on" if compiles else "off"),
    )
    line = f"computation   {found.where}, {'compiled' if compiles else 'not compiled'} ({why})"
    return replace(job, config=settled, recipe=(*job.recipe, line))


def count_stage_images(config: TrainConfig, num_rows: int) -> int:
    """Counts the images of the longest stage, each once an epoch; a `gradual` schedule counts as one epoch."""
    match config.freeze.schedule:
        case "constant":
            epochs = config.optim.epochs
        case "two-stage":
            epochs = max(config.freeze.head_epochs, config.optim.epochs - config.freeze.head_epochs)
        case "gradual":
            epochs = 1
    return epochs * num_rows
