"""The local services, with the real servers: one `up` and `down`, and what is left when a process is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.definitions import HOST, ROOT, Ports, answers
from infra.keeper import OWNERS, kept_file, server_file, services_folder
from infra.processes import Process, alive, descendants, free_port, identify, port_taken
from infra.services import Services

pytestmark = pytest.mark.integration

TOY = """
import subprocess, sys, time
child = "import time; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(600)
"""
"""A server that starts two children, one of which leaves its process group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """What `journeyman up` started."""

    home: Path
    ports: dict[str, int]
    shown: str
    """Its output."""
    processes: list[Process]
    """Keepers, servers and all that they started."""


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment, "JOURNEYMAN_HOME": str(home)},
        timeout=280,
        check=False,
    )


def options(ports: dict[str, int]) -> list[str]:
    return [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
    return true()


def living(processes: list[Process]) -> list[Process]:
    return [process for process in processes if alive(process.pid, process.start)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All services on free ports, started and ended by the commands."""
    home = tmp_path_factory.mktemp("services") / "home"
    ports = {name: free_port() for name in ("prefect", "mlflow", "ray")}
    try:
        done = command(home, "up", *options(ports))
        assert done.returncode == 0, done.stdout + done.stderr
        keepers = [record.pid for record in Services(home).up().values()]
        processes = [*filter(None, map(identify, keepers)), *descendants(*keepers)]
        yield Up(home=home, ports=ports, shown=done.stdout, processes=processes)
    finally:
        command(home, "down")


def test_up_starts_everything_and_prints_the_addresses(up: Up) -> None:
    assert set(Services(up.home).up()) == {"prefect", "mlflow", "ray", "worker"}
    prefect, mlflow = f"http://{HOST}:{up.ports['prefect']}", f"http://{HOST}:{up.ports['mlflow']}"
    assert prefect in up.shown and mlflow in up.shown
    assert answers(f"{prefect}/api/health") and answers(f"{mlflow}/health")


def test_up_registers_the_deployments(up: Up) -> None:
    listing = ask(f"http://{HOST}:{up.ports['prefect']}/api/deployments/filter")
    assert "quickstart" in {deployment["name"] for deployment in listing}
    assert {deployment["work_pool_name"] for deployment in listing} == {"journeyman"}


def test_whoever_has_the_settings_can_use_the_cluster(up: Up) -> None:
    code = "import ray; ray.init(log_to_driver=False); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"
    environment = {**os.environ, **Services(up.home).environment()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "42", done.stderr


def test_a_second_up_changes_nothing(up: Up) -> None:
    before = Services(up.home).up()
    with Services(up.home).hold() as hold:
        Services(up.home).start(list(before), Ports(chosen=up.ports))
        hold.keep(before)
    assert Services(up.home).up() == before


def test_another_port_for_what_is_up_is_refused(up: Up) -> None:
    done = command(up.home, "up", "--mlflow-port", str(free_port()))
    assert done.returncode == 2
    assert f"mlflow is up already, on port {up.ports['mlflow']}" in done.stderr


def test_down_leaves_nothing(up: Up) -> None:
    assert len(up.processes) > 8, "four keepers, four servers and what those started"
    done = command(up.home, "down")
    assert done.stdout == "ended: prefect, mlflow, ray, worker\n", done.stderr
    assert living(up.processes) == []
    assert not any(port_taken(port) for port in up.ports.values())
    left = {path.name for path in services_folder(up.home).iterdir()}
    assert left == {"lock", OWNERS, "prefect.log", "mlflow.log", "ray.log", "worker.log"}
    assert list((services_folder(up.home) / OWNERS).iterdir()) == []
    assert command(up.home, "down").stdout == "nothing was up\n"


@pytest.mark.parametrize("service", ["prefect", "mlflow", "ray"])
def test_a_port_that_is_taken_stops_everything_before_it_begins(service: str, tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("prefect", "mlflow", "ray")}
    with socket.create_server((HOST, 0)) as foreign:
        ports[service] = foreign.getsockname()[1]
        done = command(tmp_path, "up", *options(ports))
    assert done.returncode == 2
    assert f"port {ports[service]} is taken" in done.stderr and f"--{service}-port" in done.stderr
    assert done.stdout == "", "nothing was started"
    assert Services(tmp_path).up() == {}


def test_a_service_that_does_not_come_up_is_told_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_text("this is no database, and much longer than a header. " * 20)
    done = command(tmp_path, "run", "quickstart", *options({"prefect": free_port(), "mlflow": free_port()}))
    assert done.returncode == 1
    assert "MLflow server did not come up" in done.stderr and "file is not a database" in done.stderr
    assert Services(tmp_path).up() == {}, "Prefect, which had begun as well, is ended again"


def test_servers_end_with_the_process_that_was_killed(tmp_path: Path) -> None:
    """kill -9 of an owner: its MLflow server goes, with the process that MLflow's own command starts."""
    port = free_port()
    code = f"""
import time
from pathlib import Path
from infra.services import Ports, Services
with Services(Path({str(tmp_path)!r})).hold():
    Services(Path({str(tmp_path)!r})).start(["mlflow"], Ports(chosen={{"mlflow": {port}}}))
    print("up", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        try:
            assert owner.stdout is not None and owner.stdout.readline() == "up\n"
            processes = descendants(owner.pid)
        finally:
            owner.kill()
    assert len(processes) == 3, "keeper, MLflow's command, its server"
    assert until(lambda: not living(processes))
    assert not port_taken(port)
    assert Services(tmp_path).up() == {}


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, subprocess.Popen, Path]]:
    """An owner, the keeper of a toy server that it owns, and the services folder."""
    folder = services_folder(tmp_path)
    (folder / OWNERS).mkdir(parents=True)
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process = identify(owner.pid)
    assert process is not None
    (folder / OWNERS / process.name).touch()
    keeper = subprocess.Popen(
        [sys.executable, "-m", "infra.keeper", "toy", "--", sys.executable, "-c", TOY],
        cwd=ROOT,
        env={**os.environ, "JOURNEYMAN_HOME": str(tmp_path)},
        start_new_session=True,
    )
    try:
        assert until(lambda: len(descendants(keeper.pid)) == 3 and server_file(folder, "toy").exists())
        yield owner, keeper, folder
    finally:
        for process in (owner, keeper):
            process.kill()
            process.wait()


def test_a_killed_owner_takes_the_service_with_it(toy: tuple[subprocess.Popen, subprocess.Popen, Path]) -> None:
    owner, keeper, folder = toy
    processes = descendants(keeper.pid)
    owner.kill()
    assert until(lambda: keeper.poll() is not None)
    assert living(processes) == []
    assert not server_file(folder, "toy").exists()


def test_a_kept_service_outlives_its_owner(toy: tuple[subprocess.Popen, subprocess.Popen, Path]) -> None:
    owner, keeper, folder = toy
    processes = descendants(keeper.pid)
    kept_file(folder, "toy").touch()
    owner.kill()
    owner.wait()
    time.sleep(1)
    assert living(processes) == processes
    keeper.send_signal(signal.SIGTERM)
    assert until(lambda: keeper.poll() is not None)
    assert living(processes) == []


def test_a_killed_keeper_leaves_nothing_to_the_next_start(
    toy: tuple[subprocess.Popen, subprocess.Popen, Path], tmp_path: Path
) -> None:
    _, keeper, folder = toy
    server = json.loads(server_file(folder, "toy").read_text())
    others = [process for process in descendants(keeper.pid) if process.pid != server["pid"]]
    keeper.kill()
    keeper.wait()
    if sys.platform == "linux":
        assert until(lambda: not alive(server["pid"], server["start"])), "it dies with its keeper"
    Services(tmp_path).stop()
    assert not alive(server["pid"], server["start"])
    for process in others:  # a toy's children do not end by themselves, as those of the real servers do
        os.kill(process.pid, signal.SIGKILL)


def test_services_end_when_their_folder_is_removed(toy: tuple[subprocess.Popen, subprocess.Popen, Path]) -> None:
    _, keeper, folder = toy
    processes = descendants(keeper.pid)
    folder.rename(folder.with_name("removed"))
    assert until(lambda: keeper.poll() is not None)
    assert living(processes) == []


def ask(url: str) -> list[dict]:
    import urllib.request

    request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)
