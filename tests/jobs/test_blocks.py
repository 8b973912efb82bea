"""Cutting blocks claims next to nothing of a node."""

import pytest
import ray.data
from ray.data import ExecutionResources

from faceattr.jobs.blocks import split_blocks

pytestmark = pytest.mark.ray


def test_blocks_are_cut_where_workers_leave_a_fraction_of_a_cpu(ray_local):
    """Two of two CPUs are there; an actor holds all but 0.6 of them for good."""

    @ray.remote(num_cpus=1.4)
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()
    try:
        assert ray.get(holder.ready.remote(), timeout=60)
        context = ray.data.DataContext.get_current().copy()
        context.execution_options.resource_limits = ExecutionResources.for_limits(cpu=0.6)
        with ray.data.DataContext.current(context):
            made = ray.data.from_items([{"x": each} for each in range(10)], override_num_blocks=1).map_batches(
                lambda table: table, batch_size=None, batch_format="pyarrow", num_cpus=0.1
            )
            blocks = [
                table["x"].to_pylist()
                for table in split_blocks(made, 4).iter_batches(batch_size=None, batch_format="pyarrow")
            ]
        assert sorted(map(len, blocks)) == [2, 4, 4]
        assert sorted(value for block in blocks for value in block) == list(range(10))
    finally:
        ray.kill(holder)
