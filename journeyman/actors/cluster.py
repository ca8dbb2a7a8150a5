"""The Ray cluster that a stage's actors run on."""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from journeyman.actors.guard import raylet_of
from journeyman.config import ComputeConfig
from journeyman.errors import InfrastructureError

CONNECT_S = 10.0
"""A cluster's address must take a connection within this time."""
PROBE_S = 60.0
"""An actor that does nothing must answer within this time, or the cluster is broken."""
GUARD_S = 10.0
"""The guard must have ended within this time after it was told to."""
GIB = 2**30


class Connection:
    """This process's connection to Ray, and the local cluster if one was started for it."""

    def __init__(self, compute: ComputeConfig, *, namespace: str) -> None:
        self._compute, self._namespace = compute, namespace
        self._ours = False
        self._guard: subprocess.Popen | None = None

    def open(self) -> None:
        """Join the cluster that the config or RAY_ADDRESS names, else start a local one; keep a connection there is.

        Raises `InfrastructureError` where that fails or where the cluster takes no actors.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if not ray.is_initialized():
            self._ours = True
            self._init(self._compute.address or os.environ.get("RAY_ADDRESS") or "local")
        _check_actors()

    def _init(self, address: str) -> None:
        import ray

        options: dict[str, Any] = {"namespace": self._namespace, "log_to_driver": False}
        if address == "local":
            options |= _local_options(self._compute)
        else:
            _check_reachable(address)
        try:
            with _termination_handler_kept():
                ray.init(address=address, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises bare ones: when its node takes too long to start, say
            if address == "local":
                raise InfrastructureError(f"cannot start a local Ray cluster: {error}") from error
            raise InfrastructureError(
                f"cannot join the Ray cluster at {address}: {error}\n  remedy: where it asks for a token, set "
                "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, and see that both sides have the same Ray and Python"
            ) from error
        if address == "local" and sys.platform == "linux":
            self._guard = _start_guard()

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here. Safe after an `open` that failed halfway."""
        import ray

        if self._ours:
            ray.shutdown()
            self._ours = False
        if self._guard is not None:
            self._guard.communicate(timeout=GUARD_S)
            self._guard = None


def _local_options(compute: ComputeConfig) -> dict[str, Any]:
    """A small cluster of this machine, for this process alone."""
    asked = compute.learner_cpus + compute.samplers * compute.sampler_cpus
    beyond = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") - 32 * GIB
    return {
        "num_cpus": max(os.cpu_count() or 1, math.ceil(asked)),
        "include_dashboard": False,
        # Ray writes all over it before it uses a place twice, so its size is memory spent.
        "object_store_memory": max(200 * 2**20, beyond // 10),
        "_system_config": {
            "prestart_worker_first_driver": False,  # 47 MiB for each CPU
            "worker_niceness": 0,  # by default 15: the actors would get what everybody else leaves over
        },
    }


def _start_guard() -> subprocess.Popen | None:
    """None where the raylet is gone already. It is named here: once its owner is killed, nobody can tell whose it was."""
    raylet = raylet_of(os.getpid())
    if not raylet:
        return None
    guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), raylet]
    return subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)


def _check_reachable(address: str) -> None:
    """Ray itself goes on trying for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return  # a word such as `auto`
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise InfrastructureError(
            f"there is no Ray cluster at {address}: {error}\n  remedy: start it (make up), or mend or unset "
            "compute.address and RAY_ADDRESS"
        ) from error


@contextmanager
def _termination_handler_kept() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; give it back to whoever had it, such as Prefect, which cancels with it.

    Where nobody had it, Ray's stays, which leaves the `with` blocks in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = signal.getsignal(signal.SIGTERM)
    owned = owner not in (None, signal.SIG_DFL)
    try:
        yield
    except SystemExit:
        if owned:  # the signal came meanwhile, and was the owner's
            signal.signal(signal.SIGTERM, owner)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        # Set anew in any case: beneath Python, Ray has put a handler in front that prints a stack.
        signal.signal(signal.SIGTERM, owner if owned else signal.getsignal(signal.SIGTERM))


class _Probe:
    def answer(self) -> bool:
        return True


def _check_actors() -> None:
    """A cluster can be up and yet refuse every new actor: say so before anything heavy starts."""
    import ray
    from ray.exceptions import RayError

    probe: Any = ray.remote(_Probe).options(num_cpus=0).remote()
    try:
        probe.answer.remote().future().result(PROBE_S)
    except (TimeoutError, RayError) as error:
        raise InfrastructureError(
            f"the Ray cluster takes no new actors ({type(error).__name__} within {PROBE_S:g} s)\n"
            "  remedy: restart it (make down; make up), and look at memory and disk space and at the logs in /tmp/ray"
        ) from error
    finally:
        ray.kill(probe)
