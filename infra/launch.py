"""A run from the terminal: starts what it needs, shows how far it is, and leaves nothing behind if it is killed."""

import atexit
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from infra.definitions import MLFLOW, PREFECT, Ports, answers
from infra.display import Display
from infra.services import Services
from journeyman.errors import UserError

EXTERNAL = {PREFECT: ("PREFECT_API_URL", "/health"), MLFLOW: ("MLFLOW_TRACKING_URI", "/health")}
"""A server that the environment names is used as it is, and none of ours is started in its place."""


class RunFailed(RuntimeError):
    """The run ended in an error that is not the user's; the whole of it is in the log."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(f"{message}\n  the whole of it: {log}")


def launch(home: Path, ports: Ports, start: Callable[[], str]) -> str:
    """Run a flow in this process with the display; returns the run's id.

    Servers that are up are used, missing ones are started; those stay when the run has come to its end, and go with
    this process when it fails or dies. Raises `UserError`, `InfrastructureError` or `RunFailed`.

    Args:
        start: imports the flow and calls it. Imports of Prefect read the environment, so they must not come earlier.
    """
    services = Services(home, announce=lambda text: print(f"{text} ...", flush=True))
    with services.hold() as hold:
        wanted = [name for name in (PREFECT, MLFLOW) if not _external(name)]
        services.start(wanted, ports)
        os.environ.update(services.environment())
        run = _show(home, start)
        hold.keep(services.up())
    return run


def _show(home: Path, start: Callable[[], str]) -> str:
    log = home / "runs" / f".{os.getpid()}.log"
    with _output_in(log) as terminal:
        display = Display(home, pid=os.getpid(), terminal=terminal)
        try:
            with display:
                return start()
        except UserError:
            raise
        except Exception as error:  # whatever else a stage may raise: told in one line, in full in the log
            traceback.print_exc()
            raise RunFailed(f"the run failed: {_first_line(error)}", _place(home, log, display.run)) from error
        finally:
            _settle(home, log, display.run)
            atexit.register(_hush)


@contextmanager
def _output_in(log: Path) -> Iterator[IO[str]]:
    """Send standard output and error of this process and its children to a file; yields the terminal meanwhile."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(1), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _place(home: Path, log: Path, run: str | None) -> Path:
    """Where the log ends up: beside the run's record."""
    return log if run is None else home / "runs" / run / "log.txt"


def _settle(home: Path, log: Path, run: str | None) -> None:
    failed = sys.exc_info()[1]
    if run is None and (failed is None or isinstance(failed, UserError)):
        log.unlink()  # nothing began that it could tell of
    else:
        log.replace(_place(home, log, run))


def _hush() -> None:
    """Close standard error for good: DuckDB's binding lists its own leaks there when the interpreter goes."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _external(name: str) -> bool:
    """Whether the environment names a server of the user's. Raises `UserError` where that doesn't answer."""
    variable, health = EXTERNAL[name]
    address = os.environ.get(variable, "")
    if address.startswith("http") and not answers(address.rstrip("/") + health):
        remedy = f"start it, or unset {variable}: then `journeyman run` starts one of its own"
        raise UserError(f"no server answers at {address}", place=variable, remedy=remedy)
    return bool(address)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
