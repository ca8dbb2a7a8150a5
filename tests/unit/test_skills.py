"""Four skills scored apart: plans, choices, second tries, answers; and the eighteen tools they are tried on."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from journeyman.environments.base import validate
from journeyman.environments.episode import Verdict
from journeyman.environments.skills import INSTRUCTIONS, Skills, adjusted, decomposed, selected
from journeyman.environments.skills_tools import FUNCTIONS, TOWNS, make_tools
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.loop import Agent
from journeyman.rollout.parse import render_call
from journeyman.tools.base import CallContext
from journeyman.tools.calls import run_call
from tests.unit.fakes import ScriptedSampler, World

WORLD = Skills()


def goal(name: str, *objects: str, tool: str = "", after: Sequence[int] = ()) -> dict[str, Any]:
    return {"cues": [name], "objects": list(objects), "tool": tool or name, "after": list(after)}


def problems(environment: Skills, count: int, seed: int = 0) -> list[Problem]:
    return list(islice(environment.generate(random.Random(seed)), count))


def played(
    environment: Skills, problem: Problem, calls: Sequence[ToolCall], plan: str = "", answer: str | None = None
) -> Verdict:
    offered = replace(problem, tools=tuple(environment.tools()))

    async def run() -> Verdict:
        episode = environment.reset(offered, CallContext(trajectory="t", seed=1))
        await episode.step(ParsedTurn(text=plan, calls=tuple(calls[:1])))
        fork = episode.fork(CallContext(trajectory="fork", seed=2))  # plan, calls and failures are part of the state
        for call in calls[1:]:
            await fork.step(ParsedTurn(calls=(call,)))
        return await fork.verify(answer)

    return asyncio.run(run())


def gold_calls(problem: Problem) -> list[ToolCall]:
    return [ToolCall(name=goal["tool"], arguments=goal["arguments"]) for goal in problem.data["goals"]]


# Decompose


def test_a_plan_by_hand() -> None:
    # #16's example: sub-goals A, B, C; the plan names A, C, D: 2 of 3 found, 2 of 3 right, F1 2 * 2 / (3 + 3).
    parts = decomposed(["first alpha", "then gamma", "then delta"], [goal("alpha"), goal("beta"), goal("gamma")])
    assert parts == pytest.approx({"decompose": 2 / 3, "decompose_recall": 2 / 3, "decompose_precision": 2 / 3})
    assert decomposed([], [goal("alpha")]) == {"decompose": 0.0, "decompose_recall": 0.0, "decompose_precision": 0.0}


def test_a_line_counts_for_one_sub_goal_and_needs_its_objects() -> None:
    prices = [goal("price", "lamp"), goal("price", "rope")]
    assert decomposed(["look up prices of lamp and rope"], prices)["decompose_recall"] == 0.5
    assert decomposed(["price of the rope", "price of the lamp"], prices)["decompose"] == 1.0
    assert decomposed(["price of the kettle"], prices)["decompose"] == 0.0
    # The first line fits both, the second only the first sub-goal: matching must not take it greedily.
    assert decomposed(["price of rope, lamp", "price of lamp"], prices)["decompose_recall"] == 1.0
    assert decomposed(["the weather in Old Karden"], [goal("weather", "Karden")])["decompose"] == 1.0
    assert decomposed(["the weather in Kardenburg"], [goal("weather", "Karden")])["decompose"] == 0.0


# Select


@pytest.mark.parametrize(
    ("made", "share"),
    [
        ([("books", "ok"), ("clock", "ok")], 1.0),
        ([("units", "ok"), ("books", "ok"), ("clock", "ok")], 0.5),  # strayed before the first
        ([("books", "ok"), ("books", "ok"), ("clock", "ok")], 0.5),  # once more than needed
        ([("clock", "ok"), ("books", "ok"), ("clock", "ok")], 0.5),  # before what it needs
        ([("books", "failed"), ("books", "ok"), ("clock", "ok")], 1.0),  # trying again is no straying
        ([("books", "ok")], 0.5),
        ([], 0.0),
    ],
)
def test_tools_are_chosen_where_a_sub_goal_waits(made: list[tuple[str, str]], share: float) -> None:
    assert selected(made, [goal("books"), goal("clock", after=[0])]) == share


def test_independent_sub_goals_may_come_in_any_order() -> None:
    goals = [goal("trains"), goal("books"), goal("clock", after=[0, 1])]
    assert selected([("books", "ok"), ("trains", "ok"), ("clock", "ok")], goals) == 1.0
    every = [(name, "ok") for name in FUNCTIONS] * 3
    assert selected(every, goals) < 0.5  # calling all tools is no way


# Adjust


def test_who_tries_again_adjusts_and_who_goes_on_does_not() -> None:
    environment = Skills(failures=1.0)
    for problem in problems(environment, 10):
        calls, fail = gold_calls(problem), problem.data["fail"]
        at = next(i for i, call in enumerate(calls) if call.name == fail)
        retry = [*calls[: at + 1], calls[at], *calls[at + 1 :]]
        assert played(environment, problem, retry, answer=problem.answer).parts["adjust"] == 1.0
        assert played(environment, problem, calls, answer=problem.answer).parts["adjust"] == 0.0
        assert problem.min_calls == len(retry)


def test_adjust_is_absent_where_nothing_failed() -> None:
    assert adjusted([("table", "ok"), ("table", "refused")], [goal("table")]) == {}
    twice = [goal("table", "lamp"), goal("table", "rope")]
    assert adjusted([("table", "failed"), ("table", "ok")], twice) == {"adjust": 0.0}  # one price is missing
    assert adjusted([("table", "failed"), ("table", "ok"), ("table", "ok")], twice) == {"adjust": 1.0}
    assert "adjust" not in played(WORLD, problems(WORLD, 1)[0], [], answer="x").parts


# Conquer, and all together


def test_the_verdict_has_the_four_skills() -> None:
    problem = next(p for p in problems(WORLD, 50) if len(p.data["goals"]) == 3)
    plan = "<plan>\n" + "\n".join(goal["says"] for goal in problem.data["goals"]) + "\n</plan>"
    good = played(WORLD, problem, gold_calls(problem), plan, problem.answer)
    assert good.correct and good.score == 1.0
    assert {good.parts[name] for name in ("decompose", "select", "conquer")} == {1.0}
    guessed = played(WORLD, problem, gold_calls(problem)[:1], "", "about 12")
    assert not guessed.correct and guessed.score == 0.0
    assert guessed.parts["select"] == pytest.approx(1 / 3) and guessed.parts["decompose"] == 0.0
    weighted = Skills(weights={"conquer": 1.0, "select": 1.0, "adjust": 2.0})
    made = played(weighted, problem, gold_calls(problem)[:1], plan, "about 12")
    assert made.score == pytest.approx(1 / 6)  # (0 + 1/3) / 2: nothing failed, so `adjust` has no weight
    with pytest.raises(ValueError, match="weights are of"):
        Skills(weights={"charm": 1.0})


def test_a_plan_is_asked_for_unless_it_is_not_wanted() -> None:
    problem = problems(WORLD, 1)[0]
    for environment, ending in ((WORLD, INSTRUCTIONS), (Skills(plan=False), problem.question)):
        [message] = environment.reset(replace(problem, tools=("units",)), CallContext()).opening()
        assert message.content.startswith(problem.question) and message.content.endswith(ending)
    verdict = played(Skills(plan=False), problem, gold_calls(problem), "", problem.answer)
    assert verdict.parts.keys() == {"select", "conquer"}


def test_the_loop_records_the_parts(world: World) -> None:
    problem = next(p for p in problems(Skills(), 50) if p.min_calls == 2)
    problem = replace(problem, tools=tuple(goal["tool"] for goal in problem.data["goals"]))
    first, second = (render_call(call) for call in gold_calls(problem))
    texts = [f"<plan>{problem.data['goals'][0]['says']}</plan>\n{first}", second, f"<answer>{problem.answer}</answer>"]
    agent = Agent(ScriptedSampler(world.chat, texts), world.chat, max_length=4096)
    made = asyncio.run(agent.attempt(RolloutJob(problem=problem, max_new_tokens=2048)))
    assert made.correct and INSTRUCTIONS in made.opening[0].content
    assert made.score_parts["select"] == 1.0 and made.score_parts["decompose"] == pytest.approx(2 / 3)


# The tools


def test_all_eighteen_tools_are_needed_somewhere() -> None:
    assert len(make_tools()) == 18
    assert {goal["tool"] for p in problems(WORLD, 400) for goal in p.data["goals"]} == FUNCTIONS.keys()


@pytest.mark.parametrize(
    ("name", "arguments", "output"),
    [
        ("calculator", {"expression": "6*7"}, "42"),
        ("units", {"value": 100.0, "source": "celsius", "target": "fahrenheit"}, "212"),
        ("units", {"value": 10, "source": "Kilometres", "target": "miles"}, "6.21"),
        ("currency", {"amount": 7.0, "source": "crowns", "target": "talers"}, "0.8"),  # 7 / 3.5 * 0.4
        ("calendar", {"day": "2031-05-17", "days": 1}, "Sunday"),  # the 17th of May 2031 is a Saturday
        ("statistics", {"numbers": [1, 2, 6], "measure": "mean"}, "3"),
        ("statistics", {"numbers": [1, 2, 6], "measure": "median"}, "2"),
        ("sort", {"numbers": [1, 9, 4], "place": 2}, "4"),
        ("letters", {"word": "rye cake"}, "7"),
        ("distance", {"start": "Karden", "end": "karden"}, "0"),
        ("search", {"query": "who rules?"}, "nothing found"),
    ],
)
def test_what_tools_say(name: str, arguments: dict[str, Any], output: str) -> None:
    assert asyncio.run(run_call(make_tools()[name], arguments)).output == output


def test_records_are_the_same_whoever_asks() -> None:
    for town in TOWNS:
        assert FUNCTIONS["weather"](town, "Monday") == FUNCTIONS["weather"](town.upper(), "monday")
        assert FUNCTIONS["distance"](town, "Ostra") == FUNCTIONS["distance"]("Ostra", town)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("weather", {"town": "Paris", "day": "Monday"}, "no town 'Paris'; there are Karden"),
        ("calendar", {"day": "soon", "days": 1}, "written like 2031-05-17"),
        ("calendar", {"day": "9999-12-31", "days": 1}, "beyond the calendar"),
        ("calendar", {"day": "2031-05-17", "days": 10**9}, "at most 100000"),
        ("units", {"value": 1, "source": "miles", "target": "hours"}, "it converts celsius to fahrenheit"),
        ("statistics", {"numbers": [], "measure": "mean"}, "1 to 100 numbers"),
        ("sort", {"numbers": [1], "place": 2}, "the place is one of the list"),
        ("translate", {"word": "two words"}, "single words"),
        ("table", {"item": "lamp", "column": "colour"}, "error"),
    ],
)
def test_mistakes_are_observations(name: str, arguments: dict[str, Any], message: str) -> None:
    result = asyncio.run(run_call(make_tools()[name], arguments))
    assert not result.ok and message in result.output


def test_the_world_is_valid_and_follows_its_seed() -> None:
    WORLD.validate()
    validate(WORLD, problems(WORLD, 100, seed=5))
    assert problems(WORLD, 40, 1) == problems(WORLD, 40, 1) != problems(WORLD, 40, 2)
