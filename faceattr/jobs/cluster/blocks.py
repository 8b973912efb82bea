"""The blocks of a Ray Data stream: cut to a number of rows, and how many of them a task waits for."""

import ray.data
from ray.data._internal.logical.operators import MapBatches, StreamingRepartition

# No stage beside it claims as much, or Ray Data would fuse the two into one task.
SPLIT_CPUS = 0.05


def split_blocks(dataset: ray.data.Dataset, num_rows: int) -> ray.data.Dataset:
    """Blocks of `num_rows` rows, but the last of each block given, which may have fewer.

    `Dataset.repartition` has no argument for what its tasks claim: a whole CPU each, although they only cut. Where
    workers hold all but a fraction of every node's CPUs for good, such tasks are never placed, and the stream waits for
    ever without a word. So the claim is set on the operator (Ray 2.60; a test holds it).
    """
    dataset = dataset.repartition(target_num_rows_per_block=num_rows)
    operator = dataset._logical_plan.dag
    assert isinstance(operator, StreamingRepartition), operator
    operator.ray_remote_args["num_cpus"] = SPLIT_CPUS
    return dataset


def bundle_rows(dataset: ray.data.Dataset, num_rows: int) -> ray.data.Dataset:
    """The last stage, `map_batches`, begins with `num_rows` rows and takes larger blocks as they are.

    Ray Data waits for as many rows as the stage's `batch_size`, which has to be given where GPUs are claimed. Blocks of
    large images have few rows, and waiting for many of them holds the first rows of a run back for minutes (Ray 2.60;
    a test holds it).
    """
    operator = dataset._logical_plan.dag
    assert isinstance(operator, MapBatches), operator
    object.__setattr__(operator, "min_rows_per_bundled_input", num_rows)  # a frozen dataclass
    return dataset
