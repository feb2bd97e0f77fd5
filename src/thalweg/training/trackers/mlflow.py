"""MLflow."""

import importlib
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self, final

from typing_extensions import override

from thalweg.training.trackers.base import About, AbstractTracker

EXPERIMENT: Final = "thalweg"  # unless MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID names another
LONGEST, AT_ONCE = 500, 100  # characters of a parameter, and parameters of a call, that every server takes
_STATUS: Final = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


@final
class MLflow(AbstractTracker):
    """A run of an experiment, on the server or in the files that MLFLOW_TRACKING_URI names."""

    package: ClassVar[str] = "mlflow"

    def __init__(self, client: Any, identity: str, last: int) -> None:
        self._client, self._identity = client, identity
        self._last = last  # a run that goes on keeps its figures of the steps before

    @classmethod
    @override
    def open(cls, about: About) -> Self:
        mlflow: Any = importlib.import_module("mlflow")
        client = mlflow.tracking.MlflowClient()
        if about.known:
            client.update_run(about.known, status="RUNNING")
            had = client.get_metric_history(about.known, "train/loss")
            return cls(client, about.known, 1 + max((one.step for one in had), default=-1))
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
            mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run(run_name=about.name) as run:
            identity = run.info.run_id
            params = [(name, str(value)[:LONGEST]) for name, value in about.options.items()]
            for first in range(0, len(params), AT_ONCE):
                mlflow.log_params(dict(params[first : first + AT_ONCE]))
        client.update_run(identity, status="RUNNING")
        return cls(client, identity, 0)

    @property
    @override
    def identity(self) -> str:
        return self._identity

    @override
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if step >= self._last:
            self._last = step
            for name, value in figures.items():
                self._client.log_metric(self._identity, name, value, step=step)

    @override
    def go_back(self, step: int) -> None:
        """Do nothing: what it has is never changed, and steps that come again are left out."""

    @override
    def close(self, step: int, figures: Mapping[str, float], status: str) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._identity, name, value, step=step)
        self._client.set_terminated(self._identity, _STATUS[status])
