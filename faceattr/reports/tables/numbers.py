"""Figures and their intervals as text: what is undefined is a dash, or nothing, and never `nan`."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # SciPy comes with it, and every page takes its figures from here
    from faceattr.evaluation.uncertainty.intervals import Interval


def show_number(value: float, form: str = ".3f") -> str:
    """Formats a figure; a dash stands for NaN."""
    return "-" if math.isnan(value) else f"{value:{form}}"


def show_interval(interval: "Interval | None", form: str = ".3f") -> str:
    """Formats an interval as `[low, high]`; empty if there is none, or it is undefined."""
    if interval is None or math.isnan(interval.low):
        return ""
    return f"[{interval.low:{form}}, {interval.high:{form}}]"
