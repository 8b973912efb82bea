"""The blocks of a Ray Data stream: cuts them to N rows, and sets how many rows a task waits for."""

import ray.data
from ray.data._internal.logical.operators import MapBatches, StreamingRepartition

# No neighbouring stage claims as much, or Ray Data would fuse the two into one task.
SPLIT_CPUS = 0.05


def split_blocks(dataset: ray.data.Dataset, num_rows: int) -> ray.data.Dataset:
    """Cuts a stream into blocks of `num_rows` rows; the last piece of each input block may have fewer.

    `Dataset.repartition` has no argument for the CPUs of its tasks: each claims a whole CPU, although it only cuts.
    Where workers hold almost all CPUs of every node permanently, such tasks are never scheduled, and the stream hangs
    without a message. So the claim is set on the operator (Ray 2.60; a test checks this).
    """
    dataset = dataset.repartition(target_num_rows_per_block=num_rows)
    operator = dataset._logical_plan.dag
    assert isinstance(operator, StreamingRepartition), operator
    operator.ray_remote_args["num_cpus"] = SPLIT_CPUS
    return dataset


def bundle_rows(dataset: ray.data.Dataset, num_rows: int) -> ray.data.Dataset:
    """Lets the last stage, `map_batches`, start with `num_rows` rows, and accept larger blocks as they are.

    Ray Data waits for as many rows as the stage's `batch_size`, which is required where GPUs are claimed. Blocks of
    large images have few rows, and waiting for many of them delays the first rows of a run by minutes (Ray 2.60;
    a test checks this).
    """
    operator = dataset._logical_plan.dag
    assert isinstance(operator, MapBatches), operator
    object.__setattr__(operator, "min_rows_per_bundled_input", num_rows)  # a frozen dataclass
    return dataset
