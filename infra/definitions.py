"""What each local service is: its command, settings, address, and how its health is told."""

import hashlib
import json
import os
import secrets
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.processes import free_port
from journeyman.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
"""The project: prefect.yaml and the flows are there."""
HOST = "127.0.0.1"
POOL = "journeyman"
PREFECT, MLFLOW, RAY, WORKER = "prefect", "mlflow", "ray", "worker"
DEFAULT_PORTS = {PREFECT: 4200, MLFLOW: 5000, RAY: 6379}
GIB = 2**30
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business with 127.0.0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the services listen."""

    chosen: Mapping[str, int] = field(default_factory=dict)
    """Service to port, as far as the user gave one."""

    @classmethod
    def chosen_by(cls, **ports: int | None) -> "Ports":
        """From options; None: not given."""
        return cls(chosen={name: port for name, port in ports.items() if port is not None})

    def of(self, name: str) -> int:
        """0 for a service that listens on no port."""
        return self.chosen.get(name) or DEFAULT_PORTS.get(name, 0)

    @staticmethod
    def option(name: str) -> tuple[str, str]:
        """The option and the environment variable that set a service's port."""
        return f"--{name}-port", f"JOURNEYMAN_{name.upper()}_PORT"

    def agree_with(self, running: Mapping[str, int]) -> None:
        """Raise `UserError` where a port was asked for and the service is up on another."""
        for name, port in running.items():
            if self.chosen.get(name, port) != port:
                message = f"{name} is up already, on port {port}"
                remedy = f"leave {self.option(name)[0]} away, or end the services first: journeyman down"
                raise UserError(message, place=f"{self.option(name)[0]} {self.chosen[name]}", remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, ready to be started."""

    name: str
    title: str
    """For people."""
    command: tuple[str, ...]
    environment: Mapping[str, str]
    healthy: Callable[[Path], bool]
    """Given its log."""
    address: str = ""
    port: int = 0
    needs: tuple[str, ...] = ()
    """Services that must be healthy before it is started."""


def define(home: Path, ports: Ports, names: Iterable[str], running: Mapping[str, str]) -> dict[str, Service]:
    """The services of these names. `running`: addresses of those that are up and keep theirs."""
    addresses = {
        PREFECT: f"http://{HOST}:{ports.of(PREFECT)}",
        MLFLOW: f"http://{HOST}:{ports.of(MLFLOW)}",
        RAY: f"{HOST}:{ports.of(RAY)}",
        **running,
    }
    builders: dict[str, Callable[[], Service]] = {
        PREFECT: lambda: _prefect(home, ports.of(PREFECT), addresses[PREFECT]),
        MLFLOW: lambda: _mlflow(home, ports.of(MLFLOW), addresses[MLFLOW]),
        RAY: lambda: _ray(home, ports.of(RAY), addresses[RAY]),
        WORKER: lambda: _worker(addresses[PREFECT], client_environment(home, addresses)),
    }
    return {name: builders[name]() for name in names}


def client_environment(home: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    """Settings of a process that uses the services at these addresses."""
    settings = {
        "JOURNEYMAN_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Warnings, such as those of monitors, belong on the stage's page; those of other threads have no page.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "journeyman,tasks",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"])),
    }
    if PREFECT in addresses:
        settings["PREFECT_API_URL"] = f"{addresses[PREFECT]}/api"
    if MLFLOW in addresses:
        settings["MLFLOW_TRACKING_URI"] = addresses[MLFLOW]
    if RAY in addresses:
        settings |= {"RAY_ADDRESS": addresses[RAY], **_ray_token(home)}
    return settings


def ray_folder(home: Path) -> Path:
    """Ray's sockets and logs. Short, and so not in `home`: a socket's path may have 107 characters."""
    return Path("/tmp") / f"ray-journeyman-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    return _ask(url) is not None


def _prefect(home: Path, port: int, address: str) -> Service:
    settings = {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect' / 'prefect.db'}",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    return Service(
        name=PREFECT,
        title="Prefect server",
        command=(sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        environment={**client_environment(home, {PREFECT: address}), **settings},
        healthy=lambda log: answers(f"{address}/api/health"),
        address=address,
        port=port,
    )


def _mlflow(home: Path, port: int, address: str) -> Service:
    folder = home / "mlflow"
    settings = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 14 processes and 2 GB that nothing here uses
        "MLFLOW_SERVER_ALLOWED_HOSTS": os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS", f"{HOST}:*,localhost:*"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1")
    return Service(
        name=MLFLOW,
        title="MLflow server",
        command=command,
        environment={**client_environment(home, {}), **settings},
        healthy=lambda log: answers(f"{address}/health"),
        address=address,
        port=port,
    )


def _ray(home: Path, port: int, address: str) -> Service:
    command = (
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address", HOST, "--port", str(port), "--temp-dir", str(ray_folder(home))),
        *("--num-cpus", str(max(os.cpu_count() or 1, 2)), "--object-store-memory", str(_object_store())),
        *("--include-dashboard", "false", "--ray-client-server-port", str(free_port())),
        # 0: any free port, so that two Ray heads on a machine don't meet
        *("--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"),
    )
    return Service(
        name=RAY,
        title="Ray",
        command=command,
        environment={
            **client_environment(home, {}),
            **_ray_token(home),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_worker_niceness": "0",  # by default actors give way to everything else on the machine
        },
        healthy=lambda log: "Ray runtime started" in log.read_text(errors="replace") and _listens(port),
        address=address,
        port=port,
    )


def _object_store() -> int:
    """Bytes. Ray writes all over its object store before it uses a place twice: its size is memory spent."""
    beyond = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") - 32 * GIB
    return max(200 * 2**20, beyond // 10)


def _worker(prefect: str, environment: Mapping[str, str]) -> Service:
    name = f"{POOL}-{socket.gethostname()}"
    return Service(
        name=WORKER,
        title="Prefect worker",
        command=(
            *(sys.executable, "-m", "prefect", "worker", "start"),
            *("--pool", POOL, "--type", "process", "--name", name),
        ),
        environment=environment,
        healthy=lambda log: _worker_online(prefect, name),
        address=f"pool {POOL}",
        needs=(PREFECT, RAY),  # it hands Ray's address on to the flows that it starts
    )


def _worker_online(prefect: str, name: str) -> bool:
    answer = _ask(f"{prefect}/api/work_pools/{POOL}/workers/filter", data=b"{}")
    return any(row["name"] == name and row["status"] == "ONLINE" for row in json.loads(answer or b"[]"))


def _ray_token(home: Path) -> dict[str, str]:
    """Whoever reaches a Ray head can run code on it: only who can read this file may."""
    path = home / "services" / "ray.token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _ask(url: str, data: bytes | None = None) -> bytes | None:
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with _direct.open(request, timeout=5) as answer:
            return answer.read()
    except OSError:  # URLError and HTTPError are among these
        return None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
