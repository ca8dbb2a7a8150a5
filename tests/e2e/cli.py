"""The console script as a user starts it, at tiny size: with a home and ports of its own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
        return self("run", "quickstart", *set_([*TINY, *overrides]), expect=expect)

    def stages(self) -> dict[str, str]:
        """Stage to status, of the newest run."""
        newest = max((self.home / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return {name: stage["status"] for name, stage in json.loads(newest.read_text())["stages"].items()}


def set_(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
