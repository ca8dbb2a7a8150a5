"""The MLflow server, as the sender sees it. Every call may be made twice with the effect of once."""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.tracking.outbox import RunFolder
from journeyman.tracking.traces import trace_of
from journeyman.trajectory import from_row

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

UID_TAG = "journeyman.run"
METRICS_A_REQUEST = 1000
ENTRIES_A_REQUEST = 100
LONGEST_VALUE = 5000
LONGEST_DIGEST = 36

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender tries again, and knows when
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


FINAL = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
)
"""Answers of a server that understood and says no; anything else may pass."""


class Unreachable(Exception):
    """The server is down, slow or out of order: try again later."""

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered
        """It was there and failed: should it fail at the same thing again and again, that thing is at fault."""


class Refused(Exception):
    """The server will never take this: trying again is of no use."""


class Server:
    """A tracking server, or a store's URI such as sqlite:///..."""

    def __init__(self, uri: str, experiment: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self._experiment_name, self._experiment_id = experiment, ""
        self._cached: MlflowClient | None = None

    def create(self, run: RunFolder, parent_id: str) -> None:
        """Create the run, unless an earlier try did whose answer was lost."""
        with _translated():
            experiment = self._experiment()
            found = self._find(run.record.uid) if run.sent.tried else None
            run.sent.tried = True
            run.save()
            if found is None:
                tags = {**run.record.tags, UID_TAG: run.record.uid}
                if parent_id:
                    tags["mlflow.parentRunId"] = parent_id
                name, start = run.record.name, run.record.start_ms
                found = self._client().create_run(experiment, start_time=start, tags=tags, run_name=name)
        run.sent.run_id, run.sent.experiment_id = found.info.run_id, experiment
        run.save()

    def send_metrics(self, run: RunFolder, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of a spool; a row that was sent before is the same point of the series."""
        from mlflow.entities import Metric

        points = [
            Metric(key=name, value=value, timestamp=row["time_ms"], step=row["step"])
            for row in rows
            for name, value in row["values"].items()
        ]
        with _translated():
            for part in _parts(points, METRICS_A_REQUEST):
                self._client().log_batch(run.sent.run_id, metrics=part)

    def do(self, run: RunFolder, operation: Mapping[str, Any], at: int) -> None:
        """One operation of a run; `at` is its offset in the file."""
        arguments = {name: value for name, value in operation.items() if name != "operation"}
        with _translated():
            match operation["operation"]:
                case "params":
                    self._params(run, **arguments)
                case "tags":
                    self._tags(run, **arguments)
                case "metrics":
                    self.send_metrics(run, [arguments])
                case "input":
                    self._input(run, **arguments)
                case "artifacts":
                    folder = _existing(arguments["folder"])
                    self._client().log_artifacts(run.sent.run_id, folder, arguments["name"] or None)
                case "model":
                    self._model(run, at=at, **arguments)
                case "trace":
                    self._trace(run, at=at, **arguments)
                case "finish":
                    self._client().set_terminated(run.sent.run_id, arguments["status"], arguments["end_ms"])
                case other:
                    raise AssertionError(f"no operation {other}")

    def running(self, tags: Mapping[str, str]) -> list["Run"]:
        """The runs that the server calls running and that carry the tags."""
        conditions = ["attributes.status = 'RUNNING'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
        with _translated():
            return list(self._client().search_runs([self._experiment()], " and ".join(conditions)))

    def series(self, run_id: str, names: Collection[str]) -> dict[str, list[tuple[int, float]]]:
        """The metrics of these names that a run has: (step, value) in order, of a step that was logged twice the last."""
        with _translated():
            client = self._client()
            logged = client.get_run(run_id).data.metrics
            points = {name: client.get_metric_history(run_id, name) for name in names if name in logged}
        ordered = {name: sorted(found, key=lambda point: point.timestamp) for name, found in points.items()}
        return {name: sorted({p.step: p.value for p in found}.items()) for name, found in ordered.items()}

    def attach(self, run_id: str, file: Path, folder: str) -> None:
        """Add a file to a run's artifacts, over one of the same name."""
        with _translated():
            self._client().log_artifact(run_id, str(file), folder)

    def kill(self, run_id: str) -> None:
        with _translated():
            self._client().set_terminated(run_id, "KILLED")

    def _client(self) -> "MlflowClient":
        if self._cached is None:
            from mlflow import MlflowClient

            self._cached = MlflowClient(tracking_uri=self.uri)
        return self._cached

    def _experiment(self) -> str:
        if not self._experiment_id:
            found = self._client().get_experiment_by_name(self._experiment_name)
            self._experiment_id = found.experiment_id if found else self._make_experiment()
        return self._experiment_id

    def _make_experiment(self) -> str:
        from mlflow import MlflowException

        try:
            return self._client().create_experiment(self._experiment_name)
        except MlflowException as error:
            found = self._client().get_experiment_by_name(self._experiment_name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return found.experiment_id  # another process was faster

    def _find(self, uid: str) -> "Run | None":
        runs = self._client().search_runs([self._experiment()], f"tags.`{UID_TAG}` = '{uid}'", max_results=1)
        return next(iter(runs), None)

    def _params(self, run: RunFolder, *, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value[:LONGEST_VALUE]) for key, value in values.items()]
        for part in _parts(params, ENTRIES_A_REQUEST):
            self._client().log_batch(run.sent.run_id, params=part)

    def _tags(self, run: RunFolder, *, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value[:LONGEST_VALUE]) for key, value in values.items()]
        for part in _parts(tags, ENTRIES_A_REQUEST):
            self._client().log_batch(run.sent.run_id, tags=part)

    def _input(self, run: RunFolder, *, name: str, path: str, digest: str, rows: int) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:LONGEST_DIGEST],
            source_type="local",
            source=json.dumps({"uri": path}),
            profile=json.dumps({"num_rows": rows}),
        )
        context = InputTag(key="mlflow.data.context", value=name)
        self._client().log_inputs(run.sent.run_id, [DatasetInput(dataset=dataset, tags=[context])])

    def _model(self, run: RunFolder, *, folder: str, name: str, at: int) -> None:
        from mlflow.entities import LoggedModelOutput

        client = self._client()
        key = str(at)
        if key not in run.sent.models:
            model = client.create_logged_model(run.sent.experiment_id, name=name, source_run_id=run.sent.run_id)
            run.sent.models[key] = model.model_id
            run.save()
        model_id = run.sent.models[key]
        client.log_model_artifacts(model_id, _existing(folder))
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(run.sent.run_id, [LoggedModelOutput(model_id=model_id, step=0)])

    def _trace(self, run: RunFolder, *, row: Mapping[str, Any], step: int, time_ns: int, at: int) -> None:
        from mlflow.tracing.client import TracingClient

        sent = run.sent
        trace = trace_of(
            from_row(row),
            step=step,
            time_ns=time_ns,
            key=f"{run.record.uid}/{at}",
            run_id=sent.run_id,
            experiment_id=sent.experiment_id,
        )
        client = TracingClient(self.uri)
        client.start_trace(trace.info)
        client.log_spans(sent.experiment_id, trace.data.spans)


class _translated:
    """Turns what MLflow raises into `Unreachable` or `Refused`."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> None:
        from mlflow.exceptions import MlflowException, RestException
        from requests import RequestException

        if isinstance(error, MlflowException) and error.error_code in FINAL:
            raise Refused(str(error)) from error
        if isinstance(error, MlflowException):
            answered = isinstance(error, RestException) and error.error_code == "INTERNAL_ERROR"
            raise Unreachable(str(error), answered=answered) from error
        if isinstance(error, FileNotFoundError):  # an artifact's folder that is gone
            raise Refused(str(error)) from error
        if isinstance(error, RequestException | OSError):
            raise Unreachable(str(error)) from error


def _existing(folder: str) -> str:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    return folder


def _parts(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
