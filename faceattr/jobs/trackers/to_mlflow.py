"""MLflow, as its library is set up: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and its credentials."""

import logging
import os
import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from faceattr.errors import ConfigError, RunError
from faceattr.jobs.trackers.tracked import TrackedRun
from faceattr.logs import is_debugging

logger = logging.getLogger(__name__)
_TAG = "faceattr_run_id"
# Most parameters of one request, and longest value, of MLflow's REST API.
_BATCH = 100
_LONGEST = 500


class MlflowTracker:
    """Logs into one run after the other; see `Tracker`."""

    def __init__(self) -> None:
        if not is_debugging():  # a new store would tell of each of its tables
            logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "faceattr"
        try:
            self._client = MlflowClient()
            self._found = self._client.get_experiment_by_name(self._name)
        except (MlflowException, ImportError, OSError) as error:
            raise ConfigError(
                f"--loggers mlflow: cannot look for the experiment {self._name!r} at MLFLOW_TRACKING_URI "
                f"{os.environ.get('MLFLOW_TRACKING_URI', '(not set)').rpartition('@')[2]}: {str(error).splitlines()[0]}"
            ) from error
        self._run_id: str | None = None

    def begin(self, run: TrackedRun) -> None:
        """Opens a run. Raises RunError if the server does not take it."""
        try:
            self._open(run)
        except MlflowException as error:
            raise RunError(f"--loggers mlflow: the server took no run: {str(error).splitlines()[0]}") from error

    def _open(self, run: TrackedRun) -> None:
        experiment = self._found.experiment_id if self._found else self._client.create_experiment(self._name)
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.run_id}'")
        if found:
            self._run_id = found[0].info.run_id
            self._client.set_terminated(self._run_id, "RUNNING")
            return
        tags = {_TAG: run.run_id, "mlflow.runName": run.name} | ({"group": run.group} if run.group else {})
        self._run_id = self._client.create_run(experiment, tags=tags).info.run_id
        params = [Param(name, str(value)[:_LONGEST]) for name, value in run.settings.items()]
        for start in range(0, len(params), _BATCH):
            self._client.log_batch(self._run_id, params=params[start : start + _BATCH])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics."""
        assert self._run_id is not None, "begin comes first"
        now_ms = int(time.time() * 1000)
        values = [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        try:
            self._client.log_batch(self._run_id, metrics=values)
        except MlflowException as error:  # the training itself counts, and its own files have the numbers
            logger.warning("mlflow did not take step %d: %s", step, str(error).splitlines()[0])

    def end(self, *, failed: bool) -> None:
        """Closes the run."""
        assert self._run_id is not None, "begin comes first"
        try:
            self._client.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")
        except MlflowException as error:
            logger.warning("mlflow did not take the end of the run: %s", str(error).splitlines()[0])
        self._run_id = None
