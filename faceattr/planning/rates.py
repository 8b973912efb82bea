"""The table of rates that estimates are calculated from, with the source of each figure.

Capacity: how fast a stream of images can pass through resources that each image occupies for some time.

If an image occupies one unit of resource r for `s_r` seconds, and there are `n_r` units of it, no run is faster than

    rate <= min over r of n_r / s_r

and a run with deep enough queues comes close. Stages that share a resource add up in its `s_r`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
import yaml

from faceattr.errors import ConfigError

RateKind = Literal["measured", "counted", "published", "assumed"]
KINDS: tuple[RateKind, ...] = ("measured", "counted", "published", "assumed")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One figure.

    Attributes:
        value: the number.
        unit: its unit.
        kind: how it is known.
        source: where it comes from.
    """

    value: float
    unit: str
    kind: RateKind
    source: str


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        tflops: dense fp16 peak, TFLOP/s.
        price: USD per hour, or None if no list price is known.
        price_source: whose price, and when.
        images_per_s: number of questions to images per second of the scorer; None if this kind was never measured.
        rate_source: where these rates come from.
    """

    tflops: float
    price: float | None
    price_source: str | None
    images_per_s: Mapping[int, float] | None = None
    rate_source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rates:
    """All figures.

    Attributes:
        figures: figures by name.
        decode_images_per_s: pixels of an image to images per second and core.
        gpus: kinds of GPU by name.
        prices: prices by name.
    """

    figures: Mapping[str, Rate]
    decode_images_per_s: Mapping[int, float]
    gpus: Mapping[str, Gpu]
    prices: Mapping[str, Rate]

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value

    def price(self, name: str) -> float:
        """Returns a price in USD."""
        return self.prices[name].value

    def gpu(self, name: str) -> Gpu:
        """Returns a GPU by name. Raises ConfigError if it is not in the table."""
        if name not in self.gpus:
            raise ConfigError(f"--gpu: expected one of {', '.join(self.gpus)}, found {name!r}")
        return self.gpus[name]

    def decode_s(self, pixels: float) -> float:
        """Returns core seconds to decode and resize an image; linear between measured sizes and beyond the last."""
        return seconds_between(self.decode_images_per_s, pixels)


def seconds_between(images_per_s: Mapping[int, float], place: float) -> float:
    """Returns seconds per image at a place between measured rates: linear there and beyond the last, level before."""
    places = np.array(sorted(images_per_s), float)
    seconds = np.array([1 / images_per_s[int(each)] for each in places])
    if place > places[-1]:
        slope = (seconds[-1] - seconds[-2]) / (places[-1] - places[-2])
        return float(seconds[-1] + slope * (place - places[-1]))
    return float(np.interp(place, places, seconds))


@lru_cache(maxsize=1)
def load_rates() -> Rates:
    """Reads the package's table."""
    content = yaml.safe_load(resources.files("faceattr.planning").joinpath("rates.yaml").read_text("utf-8"))
    return Rates(
        figures={name: Rate(**figure) for name, figure in content["figures"].items()},
        decode_images_per_s=content["decode"]["images_per_s"],
        gpus={name: Gpu(**gpu) for name, gpu in content["gpus"].items()},
        prices={name: Rate(**figure) for name, figure in content["prices"].items()},
    )


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource with limited capacity.

    Attributes:
        units: number of units: cores, GPUs, 1 for a single driver.
        demand_s: seconds for which one image occupies a unit, by stage.
    """

    units: float
    demand_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Images per second that the resource can serve; infinite if nothing uses it."""
        total = sum(self.demand_s.values())
        return self.units / total if total else float("inf")


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """What limits a stream.

    Attributes:
        rate: images per second.
        name: name of the limiting resource.
        use: resource to the share of time that it is busy at this rate, 0 to 1.
    """

    rate: float
    name: str
    use: Mapping[str, float]


def find_bottleneck(resources: Mapping[str, Resource]) -> Bottleneck:
    """Returns the slowest of some resources, and how busy the others are at its rate."""
    name = min(resources, key=lambda each: resources[each].rate)
    rate = resources[name].rate
    return Bottleneck(rate=rate, name=name, use={each: rate / resource.rate for each, resource in resources.items()})
