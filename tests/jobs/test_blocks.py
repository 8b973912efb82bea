"""Cutting blocks claims next to nothing of a node, and a stage begins with few rows."""

import pytest
import ray.data
from ray.data import ExecutionResources

from faceattr.jobs.cluster.blocks import bundle_rows, split_blocks

pytestmark = pytest.mark.ray


def test_blocks_are_cut_where_workers_leave_a_fraction_of_a_cpu(ray_local):
    """Two of two CPUs are there; an actor holds all but 0.6 of them for good."""

    @ray.remote(num_cpus=1.4)
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()  # type: ignore[attr-defined]
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


def test_a_stage_begins_before_it_has_a_whole_batch_and_takes_larger_blocks_as_they_are(ray_local):
    class Count:
        def __call__(self, table):
            return {"rows": [len(table)]}

    def grow(table):
        """Blocks of 3, 3, 3 and 60 rows."""
        (number,) = table["x"].to_pylist()
        return {"y": [number] * (60 if number == 3 else 3)}

    made = ray.data.from_items([{"x": each} for each in range(4)], override_num_blocks=4).map_batches(
        grow, batch_size=None, batch_format="pyarrow", num_cpus=0.1
    )
    pool = ray.data.ActorPoolStrategy(size=1)
    counted = made.map_batches(Count, batch_size=256, batch_format="pyarrow", compute=pool, num_cpus=0.2)
    rows = [row["rows"] for row in bundle_rows(counted, 6).take_all()]
    assert sum(rows) == 69
    assert len(rows) > 1
