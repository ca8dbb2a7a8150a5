"""A real crash of a run, at tiny size: nothing is left, and the next one goes on."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cli import TINY, Cli, set_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_run_killed_in_the_middle_of_rl_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    killed = Cli(tmp_path / "home")
    process = killed.start("run", "quickstart", *set_([*TINY, "rl.accuracy.steps=16"]))
    _wait(lambda: list(killed.home.glob("work/*/sampled/step-000004.parquet")), 240)
    tree = _descendants(process.pid)
    for pid in [process.pid, *tree]:
        _kill(pid)
    process.communicate()
    _wait(lambda: not [pid for pid in tree if _alive(pid)], 30)
    # What a server was just starting may hold its port a little longer.
    _wait(
        lambda: not any(_served(int(killed.environment[f"JOURNEYMAN_{name}_PORT"])) for name in ("PREFECT", "MLFLOW")),
        30,
    )
    killed.run("rl.accuracy.steps=16")
    assert killed.stages()["rl-accuracy"] == "completed"
    manifests = (killed.home / "artifacts" / "rl-accuracy").glob("*/manifest.json")
    assert json.loads(next(manifests).read_text())["summary"]["resumed_at_step"] >= 3
    assert "crashed" in killed("runs")
    killed("down")


def _wait(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def _descendants(pid: int) -> list[int]:
    """Every process below one, whatever its session."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    found, front = [], [pid]
    while front:
        front = [child for child, parent in parents.items() if parent in front]
        found += front
    return found


def _served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
