"""A run from the terminal: starts what it needs, shows how far it is, and leaves nothing behind if it is killed."""

import atexit
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

from infra.definitions import MLFLOW, PREFECT, Ports, answers
from infra.display import Display
from infra.services import Services
from journeyman.errors import UserError
from journeyman.runs import RunStore

EXTERNAL = {PREFECT: "PREFECT_API_URL", MLFLOW: "MLFLOW_TRACKING_URI"}
"""The servers that a run needs. One that the environment names is used as it is; else ours is."""


class RunFailed(RuntimeError):
    """The run ended in an error that is not the user's; the whole of it is in the log."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(f"{message}\n  the whole of it: {log}")


@dataclass(slots=True)
class Log:
    """Where the output goes meanwhile."""

    path: Path

    def move(self, path: Path) -> None:
        """It goes on in the same file, under another name."""
        self.path = self.path.replace(path)


def launch(home: Path, ports: Ports, start: Callable[[], str]) -> str:
    """Run a flow in this process with the display; returns the run's id.

    Servers that are up are used, missing ones are started; those stay when the run has come to its end, and go with
    this process when it fails or dies. Raises `UserError`, `InfrastructureError` or `RunFailed`.

    Args:
        start: imports the flow and calls it. Imports of Prefect read the environment, so they must not come earlier.
    """
    services = Services(home, announce=lambda text: print(f"{text} ...", flush=True))
    with services.hold() as hold:
        external = [name for name in EXTERNAL if _external(name)]
        services.start([name for name in EXTERNAL if name not in external], ports)
        os.environ.update(_settings(services.environment(), external))
        print("starting the run ...", flush=True)
        with _output_in(home / "runs" / f".{os.getpid()}.log") as (terminal, log):
            run = _show(home, start, terminal, log)
        hold.keep(services.up())
    return run


def _show(home: Path, start: Callable[[], str], terminal: IO[str], log: Log) -> str:
    display = Display(home, pid=os.getpid(), terminal=terminal, found=lambda folder: log.move(folder / "log.txt"))
    try:
        with display:
            return start()
    except KeyboardInterrupt:
        if display.run is not None and (flow_run_id := RunStore(home).load(display.run).flow_run_id):
            _cancel_in_prefect(flow_run_id)
        raise
    except UserError:
        raise
    except Exception as error:  # whatever else a stage may raise: told in one line, in full in the log
        traceback.print_exc()
        raise RunFailed(f"the run failed: {_first_line(error)}", log.path) from error
    finally:
        _drain_prefect()
        atexit.register(_hush)


@contextmanager
def _output_in(path: Path) -> Iterator[tuple[IO[str], Log]]:
    """Send standard output and error of this process and its children to a file; yields the terminal meanwhile.

    The file goes where the output tells of nothing: no run began, and the error says it all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    log = Log(path)
    with path.open("wb") as file, os.fdopen(os.dup(1), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal, log
        except UserError:
            path.unlink(missing_ok=True)
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _cancel_in_prefect(flow_run_id: str) -> None:
    """Prefect calls a flow that was interrupted from the keyboard crashed: say that it was cancelled."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId
    from prefect.states import Cancelled

    wanted = [UUID(flow_run_id)]
    with get_client(sync_client=True) as client:
        for run in [
            *client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=wanted))),
            *client.read_flow_runs(
                flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=wanted))
            ),
        ]:
            if run.state is None or run.state.is_crashed() or not run.state.is_final():
                client.set_flow_run_state(run.id, Cancelled(message="Interrupted from the keyboard."), force=True)


def _drain_prefect() -> None:
    """Let Prefect send what waits while its server is up: at exit it would try for a minute to reach it."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(at_exit=False)
        EventsWorker.drain_all(at_exit=False)


def _hush() -> None:
    """Close standard error for good: DuckDB's binding lists its own leaks there when the interpreter goes."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _external(name: str) -> bool:
    """Whether the environment names a server of the user's. Raises `UserError` where that doesn't answer."""
    variable = EXTERNAL[name]
    address = os.environ.get(variable, "")
    if address.startswith("http") and not answers(f"{address.rstrip('/')}/health"):
        remedy = f"start it, or unset {variable}: then `journeyman run` starts one of its own"
        raise UserError(f"no server answers at {address}", place=variable, remedy=remedy)
    return bool(address)


def _settings(ours: Mapping[str, str], external: Sequence[str]) -> dict[str, str]:
    """Settings for the servers of ours that are used; those for a server of the user's are the user's."""
    return {
        variable: value
        for variable, value in ours.items()
        if not any(variable.startswith(EXTERNAL[name].partition("_")[0]) for name in external)
    }


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
