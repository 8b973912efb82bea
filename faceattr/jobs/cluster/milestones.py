"""Milestones of a job's processes on the cluster: workers put them where the driver finds them.

They stand in the key-value store of Ray's control service, which every process is connected to: a worker's output goes
to a log file of its node, and an actor for them would itself take a second to start. Each costs one request of a
millisecond, once a process.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator

import ray
from ray.experimental import internal_kv

from faceattr import timeline
from faceattr.data.formats.json_text import encode_json
from faceattr.timeline import Milestone

_NAMESPACE = "faceattr_milestones"


@functools.cache
def reach(process: str, name: str) -> None:
    """Notes, the first time it is called in this process, that it has reached a milestone; without Ray does nothing.

    Args:
        process: what the process does, such as `decoder`; a process of Ray may do several things.
        name: what it has reached.
    """
    if ray.is_initialized():
        found = Milestone(process=process, name=name)
        internal_kv._internal_kv_put(
            f"{_job()}/{process}/{name}/{found.pid}", encode_json(dataclasses.asdict(found)), namespace=_NAMESPACE
        )


def is_reached(process: str, name: str) -> bool:
    """Whether any process of this job has reached a milestone."""
    return bool(internal_kv._internal_kv_list(f"{_job()}/{process}/{name}/", namespace=_NAMESPACE))


def gather_milestones() -> None:
    """Moves the milestones of this job's workers into the driver's timeline."""
    if timeline.is_logged():
        timeline.add(_read())
    internal_kv._internal_kv_del(f"{_job()}/", del_by_prefix=True, namespace=_NAMESPACE)


def _read() -> Iterator[Milestone]:
    for key in internal_kv._internal_kv_list(f"{_job()}/", namespace=_NAMESPACE):
        yield Milestone(**json.loads(internal_kv._internal_kv_get(key, namespace=_NAMESPACE)))


def _job() -> str:
    return str(ray.get_runtime_context().get_job_id())
