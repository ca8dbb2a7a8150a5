"""The command line from end to end at tiny size: real servers, real actors, a real crash."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
TINY = (
    *(
        "model.hidden_size=32",
        "model.layers=2",
        "model.head_dim=16",
        "model.feed_forward=64",
        "compute.sampler.slots=16",
    ),
    *("problems.train=60", "problems.dev=6", "problems.heldout=12", "synthesize.demonstrations=120"),
    *("sft.steps=6", "sft.batch=8", "sft.checkpoint_every=3"),
    *(
        f"rl.{block}.{option}"
        for block in ("accuracy", "efficiency")
        for option in ("problems=4", "group=2", "max_new_tokens=8")
    ),
    *("rl.accuracy.checkpoint_every=1", "rl.efficiency.steps=1", "rl.accuracy.dynamic_sampling=false"),
    *("evaluate.samples=1", "evaluate.max_turns=2", "evaluate.max_new_tokens=8", "evaluate.bootstrap=100"),
)


class Cli:
    """The console script with a home and ports of its own."""

    def __init__(self, home: Path) -> None:
        ports = {f"JOURNEYMAN_{name}_PORT": str(_free_port()) for name in ("PREFECT", "MLFLOW", "RAY")}
        self.home = home
        self.environment = {**os.environ, "JOURNEYMAN_HOME": str(home), **ports}
        for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            self.environment.pop(name, None)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "infra.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=PROJECT, env=self.environment, start_new_session=True, **pipes)

    def __call__(self, *arguments: str, expect: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=400)
        assert process.returncode == expect, f"{arguments}: {out}\n{err}"
        return out if expect == 0 else err

    def run(self, *overrides: str, expect: int = 0) -> str:
        return self("run", "quickstart", *_set([*TINY, *overrides]), expect=expect)

    def stages(self) -> dict[str, str]:
        """Stage to status, of the newest run."""
        newest = max((self.home / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return {name: stage["status"] for name, stage in json.loads(newest.read_text())["stages"].items()}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    made = Cli(tmp_path_factory.mktemp("e2e") / "home")
    yield made
    made("down")


def test_the_ladder_runs_is_cached_and_reruns_from_where_it_changed(cli: Cli) -> None:
    out = cli.run("rl.accuracy.steps=2")
    assert "rl-efficiency" in out and "http://127.0.0.1" in out and "report.html" in out
    stages = json.loads(cli("report", "--json"))["stages"]
    assert [stage["name"] for stage in stages] == ["base", "sft", "rl-accuracy", "rl-efficiency"]
    assert all(stage["problems"] == 12 and 0 <= stage["accuracy_sampled"] <= 1 for stage in stages)
    cli.run("rl.accuracy.steps=2")
    assert set(cli.stages().values()) == {"cached"}
    cli.run("rl.accuracy.steps=2", "rl.efficiency.temperature=0.9")
    done = cli.stages()
    assert [name for name, status in done.items() if status != "cached"] == ["rl-efficiency", "evaluate"]


def test_a_run_killed_in_the_middle_of_rl_leaves_nothing_and_goes_on(cli: Cli, tmp_path: Path) -> None:
    killed = Cli(tmp_path / "home")
    process = killed.start("run", "quickstart", *_set([*TINY, "rl.accuracy.steps=16"]))
    _wait(lambda: list(killed.home.glob("work/*/sampled/step-000004.parquet")), 240)
    tree = _descendants(process.pid)
    for pid in [process.pid, *tree]:
        _kill(pid)
    process.communicate()
    _wait(lambda: not [pid for pid in tree if _alive(pid)], 30)
    for name in ("PREFECT", "MLFLOW"):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(killed.environment[f"JOURNEYMAN_{name}_PORT"]))) != 0, name
    killed.run("rl.accuracy.steps=16")
    assert killed.stages()["rl-accuracy"] == "completed"
    manifests = (killed.home / "artifacts" / "rl-accuracy").glob("*/manifest.json")
    assert json.loads(next(manifests).read_text())["summary"]["resumed_at_step"] >= 3
    assert "crashed" in killed("runs")
    killed("down")


def test_what_is_wrong_is_said_and_nothing_is_begun(cli: Cli, tmp_path: Path) -> None:
    before = sorted(cli.home.glob("runs/*/run.json"))
    message = cli.run("sft.stepz=3", expect=2)
    assert "sft.stepz" in message and "did you mean `steps`" in message and "Traceback" not in message
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "q", "answer": "#### 1"}\n{"question": \n')
    message = cli("run", "gsm8k", *_set([f"problems.path={broken}"]), expect=2)
    assert "broken.jsonl:2" in message
    message = cli.run(f"model.path={tmp_path / 'nowhere'}", expect=2)
    assert "nowhere" in message
    assert len(sorted(cli.home.glob("runs/*/run.json"))) <= len(before) + 1  # the broken file is found by the stage


def _set(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


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


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
