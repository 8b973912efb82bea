"""Creates Ray's metrics from the one list of names, `faceattr.watch.metrics`."""

import threading
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from faceattr.watch.metrics import Metric, find_metric

_REPEAT_S = 5.0


def counter(name: str) -> Counter:
    """Creates the counter of a name in the list. Ray exports it from the process that created it."""
    metric = _of_kind(name, "counter")
    return Counter(metric.name, metric.text, tag_keys=metric.tags)


def gauge(name: str) -> Gauge:
    """Creates the gauge of a name in the list."""
    metric = _of_kind(name, "gauge")
    return Gauge(metric.name, metric.text, tag_keys=metric.tags)


def histogram(name: str) -> Histogram:
    """Creates the histogram of a name in the list."""
    metric = _of_kind(name, "histogram")
    return Histogram(metric.name, metric.text, boundaries=list(metric.boundaries), tag_keys=metric.tags)


def _of_kind(name: str, kind: str) -> Metric:
    metric = find_metric(name)
    if metric.kind != kind:
        raise TypeError(f"{name} is a {metric.kind}, not a {kind}")
    return metric


class KeptGauges:
    """Gauges that keep their values: Ray drops one that is not set for about 20 s, and a stalled run must stay visible.

    A thread repeats the values until `close`.
    """

    def __init__(self, *names: str) -> None:
        self._gauges = {name: gauge(name) for name in names}
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="gauges", daemon=True)
        self._thread.start()

    def set(self, name: str, value: float, **tags: str) -> None:
        """Sets one of the gauges, and keeps repeating the value."""
        with self._lock:
            self._values[name, tuple(tags.items())] = value
            self._gauges[name].set(value, tags=tags)

    def close(self) -> None:
        """Stops repeating; must be called before Ray is shut down."""
        self._done.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._done.wait(_REPEAT_S):
            with self._lock:
                for (name, tags), value in self._values.items():
                    self._gauges[name].set(value, tags=dict(tags))


class RunRows:
    """Exports the progress of a run to Prometheus. Created by its driver, once Ray runs."""

    def __init__(self, total: int, done: int) -> None:
        self._gauges = KeptGauges("faceattr_run_rows")
        self._gauges.set("faceattr_run_rows", total, state="total")
        self._done = done
        self.add(0)

    def add(self, num_rows: int) -> None:
        """Counts rows that have arrived."""
        self._done += num_rows
        self._gauges.set("faceattr_run_rows", self._done, state="done")

    def close(self) -> None:
        """Stops the gauges when the run ends or is stopped."""
        self._gauges.close()


class TrainFigures:
    """Exports the figures of a training's last epoch to Prometheus. Created by its first worker."""

    def __init__(self) -> None:
        names = ("epoch", "images_per_second", "data_wait_share", "objective", "loss")
        self._gauges = KeptGauges(*(f"faceattr_train_{name}" for name in names))

    def show(self, record: Mapping[str, float]) -> None:
        """Shows an `EpochRecord` of `faceattr.training.loop.state`."""
        self._gauges.set("faceattr_train_epoch", record["epoch"] + 1)
        self._gauges.set("faceattr_train_images_per_second", record["images_per_s"])
        self._gauges.set("faceattr_train_data_wait_share", record["data_wait_share"])
        self._gauges.set("faceattr_train_objective", record["objective"])
        for split in ("train", "val"):
            self._gauges.set("faceattr_train_loss", record[f"{split}/loss"], split=split)

    def close(self) -> None:
        """Stops the gauges when the training ends or is stopped."""
        self._gauges.close()


class SearchFigures:
    """Exports the progress of a search to Prometheus. Created by its driver."""

    def __init__(self) -> None:
        self._gauges = KeptGauges("faceattr_search_trials", "faceattr_search_best_objective")

    def show(self, trials: Mapping[str, int], best: float | None) -> None:
        """Shows the number of trials by state, and the objective of the best finished trial."""
        for state, count in trials.items():
            self._gauges.set("faceattr_search_trials", count, state=state)
        if best is not None:
            self._gauges.set("faceattr_search_best_objective", best)

    def close(self) -> None:
        """Stops the gauges when the search ends or is stopped."""
        self._gauges.close()
