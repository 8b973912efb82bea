"""Capacity: how fast a stream of images can go through resources that each image needs for some time.

With `s_r` the seconds that an image keeps one unit of resource r busy, and `n_r` units of it, no run is faster than

    rate <= min over r of n_r / s_r

and a run with deep enough queues comes close. Stages that share a resource add up in its `s_r`.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Something of which there is only so much.

    Attributes:
        units: how many there are: cores, GPUs, 1 for a single driver.
        demand_s: seconds that one image keeps a unit busy, by what it is busy with.
    """

    units: float
    demand_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Images a second that the resource can serve, infinite if nothing is asked of it."""
        total = sum(self.demand_s.values())
        return self.units / total if total else float("inf")


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """What limits a stream.

    Attributes:
        rate: images a second.
        name: of the resource that sets it.
        use: resource to the share of its time that it is busy at this rate, 0 to 1.
    """

    rate: float
    name: str
    use: Mapping[str, float]


def find_bottleneck(resources: Mapping[str, Resource]) -> Bottleneck:
    """The slowest of some resources, and how busy the others are beside it."""
    name = min(resources, key=lambda each: resources[each].rate)
    rate = resources[name].rate
    return Bottleneck(rate=rate, name=name, use={each: rate / resource.rate for each, resource in resources.items()})
