"""The page that tells how to add a tool and a world: its code is run as it stands there."""

import asyncio
import random
import re
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from journeyman.config.load import load_pipeline
from journeyman.environments import ENVIRONMENTS, environment
from journeyman.environments.base import walked
from journeyman.tools.base import CallContext
from journeyman.tools.calls import run_call

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's module of that name, run."""
    [source] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"/{name}.py" in block]
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(source, f"docs/extending.md:{name}", "exec"), made.__dict__)
    return made


def test_the_tool_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = module("dice", monkeypatch).Dice()

    def roll(seed: int = 3, **arguments: Any) -> tuple[bool, str]:
        result = asyncio.run(run_call(dice, arguments, CallContext(seed=seed)))
        return result.ok, result.output

    assert dice.spec()["function"] == {
        "name": "dice",
        "description": "Roll dice and show what they show.",
        "parameters": {
            "type": "object",
            "properties": {
                "sides": {"description": "of each die.", "type": "integer"},
                "count": {"default": 1, "description": "how many dice.", "type": "integer"},
            },
            "required": ["sides"],
        },
    }
    assert roll(sides=6, count=3) == roll(sides=6, count=3) != roll(seed=4, sides=6, count=3)
    assert roll(sides=1) == (False, "error: dice have 2 to 100 sides, and there are 1 to 20 of them")
    assert roll(sides="6") == (False, "error: sides must be a integer")
    assert roll() == (False, "error: dice takes sides, count (optional)")


def test_the_world_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = module("yahtzee", monkeypatch).Yahtzee
    world().validate()
    monkeypatch.setitem(ENVIRONMENTS, "yahtzee", world)
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    text = (ROOT / "pipelines.yaml").read_text(encoding="utf-8")
    added = re.sub(r"^pipelines:\n", "", block)
    (tmp_path / "pipelines.yaml").write_text(f"{text}\n{added}", encoding="utf-8")
    config = load_pipeline("dice", tmp_path / "pipelines.yaml")
    assert config.problems.worlds == {"yahtzee": {"dice": 6}}
    [problem] = islice(environment("yahtzee", '{"dice": 6}').generate(random.Random(0)), 1)  # type: ignore[attr-defined]
    assert len(problem.data["dice"]) == 6
    gold, wrong = world().courses(problem)
    verdicts = [asyncio.run(walked(world(), problem, course)).verdict.correct for course in (gold, wrong)]
    assert verdicts == [True, False]
