"""MLflow: an experiment per study, on the server that MLFLOW_TRACKING_URI names or in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from layover.trackers.tracker import Run, TrackerError

KEY = "layover.key"
AT_ONCE = {"metrics": 900, "params": 90, "tags": 90}  # a server takes 1000, 100 and 100 in one request
LONGEST = 500  # characters of a parameter that every version of a server takes

T = TypeVar("T")


@dataclass(frozen=True)
class MLflow:
    """An experiment; `client` is MLflow's own."""

    client: Any
    experiment: str
    place: str
    kind: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    @classmethod
    def at(cls, study: str, out: Path) -> MLflow:
        """The experiment called like the study; made where there is none."""
        where = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not where:
            where = out.resolve().as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs packages of the whole MLflow
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing about a study goes anywhere else
        with _told():
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=where)
            found = client.get_experiment_by_name(study)
            return cls(client, found.experiment_id if found else client.create_experiment(study), where)

    def sent(self) -> set[str]:
        """The keys of the runs that were sent to their end."""
        return {run.data.tags[KEY] for run in self._runs("attributes.status = 'FINISHED'") if KEY in run.data.tags}

    def send(self, run: Run) -> None:
        """Make a run, fill it, and end it; what an earlier attempt at it left goes."""
        from mlflow.entities import Metric, Param, RunTag

        at = round(1000 * run.ended)
        points = [(name, value, step) for step, point in run.curve for name, value in point.items()]
        points += [(name, value, run.last_step) for name, value in run.scores.items()]
        content = {
            "metrics": [Metric(name, value, at, step) for name, value, step in points],
            "params": [Param(name, str(value)[:LONGEST]) for name, value in run.params.items()],
            "tags": [RunTag(name, value) for name, value in run.tags.items()],
        }
        with _told():
            for old in self._runs(f"tags.`{KEY}` = '{run.key}'"):
                self.client.delete_run(old.info.run_id)
            made = self.client.create_run(self.experiment, at, {KEY: run.key}, run.label).info.run_id
            for name, items in content.items():
                for part in _parts(items, AT_ONCE[name]):
                    self.client.log_batch(made, **{name: part})
            self.client.set_terminated(made, "FINISHED", at)

    def _runs(self, words: str) -> list[Any]:
        """The runs of the experiment for which this holds."""
        found, token = [], None
        with _told():
            while True:
                page = self.client.search_runs([self.experiment], words, max_results=1000, page_token=token)
                found, token = [*found, *page], page.token
                if not token:
                    return found


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[first : first + size] for first in range(0, len(items), size))


@contextmanager
def _told() -> Iterator[None]:
    """Turn what MLflow says is wrong into an error of ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackerError(f"MLflow: {error}") from error
