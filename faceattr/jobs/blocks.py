"""Cutting the blocks of a Ray Data stream to a number of rows."""

import ray.data
from ray.data._internal.logical.operators import StreamingRepartition

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
