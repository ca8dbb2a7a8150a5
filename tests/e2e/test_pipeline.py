"""The command line from end to end at tiny size: real servers, real actors."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, set_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


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
    cli.run("rl.accuracy.steps=2", "evaluate.samples=2")
    done = cli.stages()
    assert [name for name, status in done.items() if status != "cached"] == ["evaluate"]


def test_what_is_wrong_is_said_and_nothing_is_begun(cli: Cli, tmp_path: Path) -> None:
    before = sorted(cli.home.glob("runs/*/run.json"))
    message = cli.run("sft.stepz=3", expect=2)
    assert "sft.stepz" in message and "did you mean `steps`" in message and "Traceback" not in message
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "q", "answer": "#### 1"}\n{"question": \n')
    message = cli("run", "gsm8k", *set_([f"problems.path={broken}"]), expect=2)
    assert "broken.jsonl:2" in message
    message = cli.run(f"model.path={tmp_path / 'nowhere'}", expect=2)
    assert "nowhere" in message
    assert len(sorted(cli.home.glob("runs/*/run.json"))) <= len(before) + 1  # the broken file is found by the stage
