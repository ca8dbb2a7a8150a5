"""Tools that are found, made or built, in whole attempts of the agent loop."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from journeyman.environments import ENVIRONMENTS, specs_of
from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.base import Environment
from journeyman.environments.built import Built
from journeyman.environments.gateway import ToolMode, gold_tools
from journeyman.environments.lending import Lending
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.tools.maker import MakeTool
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import ScriptedSampler, World, problem, some
from tests.unit.trusted import Trusted


def call(name: str, /, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def attempt(world: World, asked: Problem, *texts: str) -> Trajectory:
    agent = Agent(ScriptedSampler(world.chat, texts), world.chat, 8192)
    return asyncio.run(agent.attempt(RolloutJob(problem=asked, max_new_tokens=600, max_turns=8)))


def test_tools_are_searched_for_and_called(world: World) -> None:
    asked = next(made for made in some("toolbox", 20) if len(made.data["parts"]) == 1)
    [name], [[value, _]] = gold_tools(asked), asked.data["parts"]
    made = attempt(
        world,
        asked,
        call("search_tools", query=name.replace("_", " "), count=2),
        call("call_tool", name=name, arguments={"value": value}) + call(name, value=value),
        f"<answer>{asked.answer}</answer>",
    )
    assert made.stop_reason is StopReason.ANSWER and made.correct, made.turns
    first, again = made.turns[1].results
    assert first.output == again.output == asked.answer and name in made.turns[0].results[0].output
    assert dict(made.score_parts) == {"tool_recall": 1.0, "calls_unfound": 0.0}
    assert {spec["function"]["name"] for spec in specs_of(made)} >= {"search_tools", "call_tool"}


def test_the_oracle_shows_the_right_tools_alone(world: World) -> None:
    asked = replace(some("toolbox", 1)[0], world={"mode": str(ToolMode.ORACLE)})
    made = attempt(world, asked, "<answer>0</answer>")
    assert {spec["function"]["name"] for spec in made.specs} == set(gold_tools(asked)) and not made.correct


def test_a_tool_is_made_in_one_turn_and_used_in_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lending() -> Environment:
        return Lending(Arithmetic(), {"make_tool": MakeTool(Trusted())})

    monkeypatch.setitem(ENVIRONMENTS, "lending", lending)
    code = 'def times(a: int, b: int) -> int:\n    "Product."\n    return a * b'
    made = attempt(
        world,
        problem(family="lending", tools=("make_tool",)),
        call("make_tool", name="times", code=code, tests="assert times(2, 3) == 6"),
        call("times", a=6, b=7),
        "<answer>42</answer>",
    )
    assert [result.output for turn in made.turns for result in turn.results][1:] == ["42"] and made.correct
    assert [spec["function"]["name"] for spec in made.specs] == ["make_tool"]


def test_a_built_world_pays_each_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "trusted", lambda: Built(runner=Trusted()))
    asked = replace(Built(runner=Trusted()).problems[0], family="trusted")
    days, fee = (call(each["name"], **each["arguments"]) for each in asked.data["calls"])
    made = attempt(world, asked, days + call("opening_hour", day="monday"), fee, f"<answer>{asked.answer}</answer>")
    assert made.correct and [turn.reward for turn in made.turns] == pytest.approx([2 / 3, 1.0, 1.0])
    assert dict(made.score_parts) == pytest.approx({"precision": 2 / 3, "completeness": 1.0})
