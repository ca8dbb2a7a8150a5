"""The local services: Prefect server, MLflow server, Ray head, Prefect worker. Each has a keeper of its own.

What is up stands in `services/services.json` of the home folder; logs lie beside it. A service is held by owners and by
its file `NAME.kept` (see `infra.keeper`): who starts services owns them, and says in the end that they are to stay.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.definitions import POOL, ROOT, Ports, Service, client_environment, define, ray_folder
from infra.keeper import GRACE_S, OWNERS, held, kept_file, owner_alive, server_file, services_folder
from infra.processes import Process, alive, descendants, identify, port_taken, send, this_process
from journeyman.artifacts import write_atomically
from journeyman.errors import InfrastructureError, UserError

HEALTHY_WITHIN_S = 240.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A service that was started, as services.json tells it."""

    name: str
    pid: int
    """Of its keeper."""
    start: str
    port: int
    """0: it listens on none."""
    address: str

    @property
    def alive(self) -> bool:
        return alive(self.pid, self.start)


class Services:
    """The services of one home folder.

    Args:
        home: the home folder.
        announce: is told, in a few words, what is being done.
    """

    def __init__(self, home: Path, announce: Callable[[str], None] = lambda text: None) -> None:
        self._home, self.folder, self._announce = home, services_folder(home), announce

    def up(self) -> dict[str, Record]:
        """The services whose keepers live, by name."""
        path = self.folder / "services.json"
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return {row["name"]: record for row in rows if (record := Record(**row)).alive}

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use what is up."""
        return client_environment(self._home, {name: record.address for name, record in self.up().items()})

    def start(self, names: Sequence[str], ports: Ports) -> None:
        """Start those of `names` that are not up, and return when each is healthy.

        Raises `UserError`, before anything is started, where a port is taken, and `InfrastructureError` where a
        service does not come up. Call it as an owner (`with hold(...)`): what nobody holds is ended by its keeper.
        """
        with self._lock():
            running = self.up()
            ports.agree_with({name: record.port for name, record in running.items() if record.port})
            self._end_orphans(running)
            missing = [name for name in names if name not in running]
            for name in missing:
                _require_free(name, ports)
            addresses = {name: record.address for name, record in running.items()}
            services = define(self._home, ports, names, addresses)
            self._start_all([services[name] for name in missing])
        for name in set(names) & set(running):
            self._await(services[name])

    def stop(self) -> list[str]:
        """End every service that was started from this folder; returns their names."""
        with self._lock():
            running = self.up()
            self._end(list(running.values()))
            return list(running)

    @contextmanager
    def hold(self) -> Iterator["Hold"]:
        """Own the services for a while; those that were not kept are ended when the last owner leaves."""
        hold = Hold(self.folder)
        try:
            with hold:
                yield hold
        finally:
            with self._lock():
                left = [record for record in self.up().values() if not held(self.folder, record.name)]
                self._await_end(left)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start_all(self, services: Sequence[Service]) -> None:
        """Start at once what needs nothing that is not up, then the rest; all or nothing."""
        waiting, started = list(services), []
        try:
            while waiting:
                missing = {service.name for service in waiting}
                ready = [service for service in waiting if not missing & set(service.needs)]
                for service in ready:
                    self._announce(f"starting {service.title}")
                    started.append(self._spawn(service))
                for service in ready:
                    self._await(service)
                waiting = [service for service in waiting if service not in ready]
        finally:
            if waiting:
                self._end(started)

    def _spawn(self, service: Service) -> Record:
        log = self.log(service.name)
        kept_file(self.folder, service.name).unlink(missing_ok=True)
        command = [sys.executable, "-m", "infra.keeper", service.name, "--", *service.command]
        with log.open("wb") as output:
            keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **service.environment},
                cwd=ROOT,
            )
        process = identify(keeper.pid)
        if process is None:
            raise self._failed(service)
        record = Record(
            name=service.name, pid=keeper.pid, start=process.start, port=service.port, address=service.address
        )
        self._save({**self.up(), service.name: record})
        return record

    def _await(self, service: Service) -> None:
        """Wait until a service is healthy."""
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while not service.healthy(self.log(service.name)):
            if service.name not in self.up() or time.monotonic() > deadline:
                raise self._failed(service)
            time.sleep(POLL_S)

    def _failed(self, service: Service) -> InfrastructureError:
        tail = _tail(self.log(service.name))
        return InfrastructureError(f"{service.title} did not come up; the end of {self.log(service.name)}:\n{tail}")

    def _save(self, records: Mapping[str, Record]) -> None:
        rows = [asdict(record) for record in records.values()]
        write_atomically(self.folder / "services.json", json.dumps(rows, indent=2))

    def _end(self, records: Sequence[Record]) -> None:
        for record in records:
            send(_keeper(record), signal.SIGTERM)
        self._await_end(records)

    def _await_end(self, records: Sequence[Record]) -> None:
        """Wait for keepers to end their services; a keeper that hangs is ended with all that it has."""
        deadline = time.monotonic() + 3 * GRACE_S
        while any(record.alive for record in records) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for record in records:
            _kill_tree(_keeper(record))
        running = self.up()
        self._end_orphans(running)
        if not running:
            self._tidy()

    def _end_orphans(self, running: Mapping[str, Record]) -> None:
        """End servers whose keeper was killed before it could."""
        for file in self.folder.glob(server_file(self.folder, "*").name):
            if file.stem not in running:
                server = json.loads(file.read_text())
                _kill_tree(Process(pid=server["pid"], start=server["start"], parent=0))
                file.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Leave nothing but the logs."""
        for file in (self.folder / OWNERS).glob("*-*"):
            if not owner_alive(file):
                file.unlink(missing_ok=True)
        for name in ("services.json", "ray.token"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(ray_folder(self._home), ignore_errors=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time starts or stops services."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


class Hold:
    """One owner's claim on the services of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / OWNERS / this_process().name

    def keep(self, names: Iterable[str]) -> None:
        """Let services stay when all owners are gone, until `stop`."""
        for name in names:
            kept_file(self._folder, name).touch()

    def __enter__(self) -> Self:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.unlink(missing_ok=True)


def register_deployments(environment: Mapping[str, str]) -> None:
    """Register the flows' deployments with the Prefect server that the environment names."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise InfrastructureError(f"the deployments could not be registered in pool {POOL}:\n{tail}")


def _require_free(name: str, ports: Ports) -> None:
    port = ports.of(name)
    if port and port_taken(port):
        option, variable = ports.option(name)
        remedy = (
            f"end what listens there (`journeyman down`, if it is ours), or choose another port: {option} or {variable}"
        )
        raise UserError(f"port {port} is taken ({name}, {option})", place=f"127.0.0.1:{port}", remedy=remedy)


def _keeper(record: Record) -> Process:
    return Process(pid=record.pid, start=record.start, parent=0)


def _kill_tree(process: Process) -> None:
    if alive(process.pid, process.start):
        for one in [*descendants(process.pid), process]:
            send(one, signal.SIGKILL)


def _tail(path: Path, lines: int = 15) -> str:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
