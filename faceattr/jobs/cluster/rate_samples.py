"""Rows done over time, in few points however long a run takes."""

_FIRST_INTERVAL_S = 0.5
_MOST_POINTS = 400


class RateSamples:
    """Notes how many rows were done when; every other point goes whenever they become too many.

    Attributes:
        points: (seconds, rows done), in the order of time.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []
        self._interval_s = _FIRST_INTERVAL_S

    def add(self, seconds: float, num_rows: int, *, is_last: bool = False) -> None:
        """Takes a point if the one before is long enough ago; the first and the last in any case."""
        if self.points and not is_last and seconds - self.points[-1][0] < self._interval_s:
            return
        self.points.append((round(seconds, 2), num_rows))
        if len(self.points) > _MOST_POINTS:
            self.points = self.points[::2]
            self._interval_s *= 2
