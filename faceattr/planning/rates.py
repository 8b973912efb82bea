"""The table of rates that plans are calculated from, and where each of its figures comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
import yaml

from faceattr.errors import ConfigError

Kind = Literal["measured", "counted", "published", "assumed"]
KINDS: tuple[Kind, ...] = ("measured", "counted", "published", "assumed")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        value: the number.
        unit: what it is a number of.
        kind: how it is known.
        source: where it comes from.
    """

    value: float
    unit: str
    kind: Kind
    source: str


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        tflops: dense fp16 peak, TFLOP/s.
        price: USD an hour, or None if no list price is known.
        price_source: whose price, and when.
    """

    tflops: float
    price: float | None
    price_source: str | None


@dataclass(frozen=True, kw_only=True)
class Rates:
    """All figures.

    Attributes:
        figures: by name.
        decode_images_per_s: pixels of an image to images a second and core.
        gpus: by name.
        prices: by name.
    """

    figures: Mapping[str, Figure]
    decode_images_per_s: Mapping[int, float]
    gpus: Mapping[str, Gpu]
    prices: Mapping[str, Figure]

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value

    def price(self, name: str) -> float:
        """USD."""
        return self.prices[name].value

    def gpu(self, name: str) -> Gpu:
        """A GPU by name. Raises ConfigError if it is not in the table."""
        if name not in self.gpus:
            raise ConfigError(f"--gpu: expected one of {', '.join(self.gpus)}, found {name!r}")
        return self.gpus[name]

    def decode_s(self, pixels: float) -> float:
        """Core seconds to decode and resize an image: linear between the measured sizes, and beyond the last one."""
        sizes = np.array(sorted(self.decode_images_per_s), float)
        seconds = np.array([1 / self.decode_images_per_s[int(size)] for size in sizes])
        if pixels > sizes[-1]:
            slope = (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2])
            return float(seconds[-1] + slope * (pixels - sizes[-1]))
        return float(np.interp(pixels, sizes, seconds))


@lru_cache(maxsize=1)
def load_rates() -> Rates:
    """The package's table."""
    content = yaml.safe_load(resources.files("faceattr.planning").joinpath("rates.yaml").read_text("utf-8"))
    return Rates(
        figures={name: Figure(**figure) for name, figure in content["figures"].items()},
        decode_images_per_s=content["decode"]["images_per_s"],
        gpus={name: Gpu(**gpu) for name, gpu in content["gpus"].items()},
        prices={name: Figure(**figure) for name, figure in content["prices"].items()},
    )
