"""Function calling as a world: the calls are graded, turn by turn, with partial credit."""

import asyncio
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from journeyman.environments import environment
from journeyman.environments.base import walked
from journeyman.environments.call_problems import call_problem, parsed_call, spec, spec_of
from journeyman.environments.calls import Calls
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.rows import BadRow
from journeyman.formats import import_path
from journeyman.messages import ParsedTurn, ToolCall
from journeyman.problem import Problem
from journeyman.tools.base import CallContext

SPECS = [
    spec("go", "Go somewhere.", {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}),
    spec("rest", "Rest.", {"type": "object", "properties": {"hours": {"type": "integer", "default": 1}}}),
]


def go(to: str) -> dict[str, Any]:
    return {"name": "go", "arguments": {"to": [to]}}


REST = {"name": "rest", "arguments": {"hours": [1, ""]}}


def start(problem: Problem) -> Episode:
    return Calls().reset(problem, CallContext(trajectory="t", seed=1))


def play(episode: Episode, *turns: ParsedTurn) -> tuple[list[Reaction], Verdict]:
    async def run() -> tuple[list[Reaction], Verdict]:
        return [await episode.step(turn) for turn in turns], await episode.verify(None)

    return asyncio.run(run())


def calls(*made: tuple[str, dict[str, Any]]) -> ParsedTurn:
    return ParsedTurn(calls=tuple(ToolCall(name=name, arguments=arguments) for name, arguments in made))


SPEAK = ParsedTurn(text="Well.")


def test_one_turn_ends_with_its_calls() -> None:
    problem = call_problem(SPECS, [{"user": "To Rome, then rest.", "accepted": [go("Rome"), REST]}])
    assert problem.tools == ("go", "rest")
    assert problem.min_calls == 2
    [reaction], verdict = play(start(problem), calls(("rest", {}), ("go", {"to": "rome"})))
    assert reaction.done
    assert [result.output for result in reaction.results] == ["ok", "ok"]
    assert verdict == Verdict(
        correct=True, score=1.0, parts={"name": 1.0, "parameters": 1.0, "values": 1.0, "turns": 1.0}
    )


def test_calls_may_come_one_by_one() -> None:
    problem = call_problem(SPECS, [{"user": "To Rome, then rest.", "accepted": [go("Rome"), REST]}])
    reactions, verdict = play(start(problem), calls(("go", {"to": "Rome"})), calls(("rest", {"hours": 1})))
    assert [reaction.done for reaction in reactions] == [False, True]
    assert verdict.correct


def test_partial_credit() -> None:
    """One call of two, its value wrong. Names {go} of {go, rest}: 1/2; parameters of go 1, of rest 0; values 0 of 1.

    The score is (1/2 + 1 + 0) / (1 + 2 + 1): `hours` may be left out, and is, so that it doesn't count.
    """
    problem = call_problem(SPECS, [{"user": "To Rome, then rest.", "accepted": [go("Rome"), REST]}])
    _, verdict = play(start(problem), calls(("go", {"to": "Oslo"})), SPEAK)
    assert not verdict.correct
    assert verdict.parts == {"name": 0.5, "parameters": 0.5, "values": 0.0, "turns": 0.0}
    assert verdict.score == pytest.approx(1.5 / 4)


def test_where_no_call_is_right_speaking_is() -> None:
    problem = call_problem(SPECS, [{"user": "Sing.", "accepted": []}])
    reactions, verdict = play(start(problem), SPEAK)
    assert reactions[0].done and verdict.correct and verdict.score == 1.0
    reactions, verdict = play(start(problem), calls(("rest", {})))
    assert reactions[0].done and not verdict.correct and verdict.score == 0.0


def test_an_unknown_tool_is_an_observation_and_wrong() -> None:
    problem = call_problem(SPECS, [{"user": "To Rome.", "accepted": [go("Rome")]}])
    [reaction], verdict = play(start(problem), calls(("fly", {"to": "Rome"})))
    assert reaction.results[0].output == "error: no such tool; there are go, rest"
    assert not verdict.correct


TURNS = [
    {"user": "To Rome.", "accepted": [go("Rome")]},
    {"user": "Rest.", "accepted": [REST]},
    {"user": "Bye.", "accepted": []},
]


def test_several_turns_have_their_own_calls() -> None:
    problem = call_problem(SPECS, TURNS)
    first, rest = calls(("go", {"to": "Rome"})), calls(("rest", {}))
    reactions, verdict = play(start(problem), first, SPEAK, rest, SPEAK, SPEAK)
    assert [r.reply.content for r in reactions if r.reply] == ["Rest.", "Bye."]
    assert [r.done for r in reactions] == [False] * 4 + [True]
    assert verdict.correct
    _, verdict = play(start(problem), first, rest, SPEAK, SPEAK, SPEAK)  # both in the first turn
    assert not verdict.correct
    assert verdict.parts["turns"] == pytest.approx(1 / 3)
    _, verdict = play(start(problem), first)  # cut off: a turn that isn't reached isn't right
    assert verdict.parts["turns"] == pytest.approx(1 / 3)


def test_a_fork_goes_on_by_itself() -> None:
    episode = start(call_problem(SPECS, TURNS))
    play(episode, calls(("go", {"to": "Rome"})), SPEAK)
    other = episode.fork(CallContext(trajectory="u", seed=2))
    assert other.state_dict() == episode.state_dict()
    assert play(other, calls(("rest", {})), SPEAK, SPEAK)[1].correct
    assert not play(episode, SPEAK, SPEAK)[1].correct


def test_the_opening_may_be_a_dialogue() -> None:
    history = [
        {"role": "system", "content": "It is 2023."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "", "calls": [{"name": "rest", "arguments": {}}]},
        {"role": "tool", "name": "rest", "content": "rested"},
        {"role": "user", "content": "To Rome."},
    ]
    problem = call_problem(SPECS, [{"user": "To Rome.", "accepted": [go("Rome")]}], opening=history)
    opening = start(problem).opening()
    assert [message.role for message in opening] == ["system", "user", "assistant", "tool", "user"]
    assert opening[2].calls == (ToolCall(name="rest", arguments={}),)
    assert opening[3].name == "rest"


def test_calls_in_pythons_syntax() -> None:
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in SPECS}
    assert parsed_call("go('Rome')", schemas) == go("Rome")
    assert parsed_call("rest()", schemas) == REST  # the default may be said
    for text in ("go(", "go('a', 'b')", "fly()", "go(x)", "1", "go(**{})"):
        with pytest.raises(BadRow):
            parsed_call(text, schemas)


def test_schemas_get_json_schemas_words() -> None:
    function = {
        "name": "f",
        "parameters": {
            "type": "dict",
            "properties": {
                "a": {"type": "float"},
                "b": {"type": "tuple", "items": {"type": "dict", "properties": {"c": {"type": "any"}}}},
                "d": {"type": "list(str)"},
                "type": {"type": "string"},
            },
        },
    }
    assert spec_of(function)["function"]["parameters"]["properties"] == {
        "a": {"type": "number"},
        "b": {"type": "array", "items": {"type": "object", "properties": {"c": {}}}},
        "d": {"type": "array", "items": {"type": "string"}},
        "type": {"type": "string"},
    }


def test_rows_are_read_or_kept_apart() -> None:
    question = [[{"role": "user", "content": "To Rome."}]]
    functions = [one["function"] for one in SPECS]
    truth = [{"go": {"to": ["Rome"], "by": None}}]  # a table's empty cell
    reading = Calls().read(
        [
            {"id": "a", "question": question, "function": functions, "ground_truth": truth},
            {"id": "irrelevance_1", "question": question, "function": functions},
            {"id": "b", "question": question, "function": functions},
            {"id": "c", "question": [], "function": functions, "ground_truth": truth},
            {"id": "d", "question": question, "function": functions, "ground_truth": [{"fly": {}}]},
        ]
    )
    assert [problem.min_calls for problem in reading.problems] == [1, 0]
    assert [(apart.row, apart.reason) for apart in reading.apart] == [
        (2, "no ground truth"),
        (3, "no question"),
        (4, "accepted calls that don't fit the tools"),
    ]


def test_the_family_is_registered_and_its_problems_hold() -> None:
    environment("calls").validate()


def test_problems_follow_from_the_seed_and_come_in_all_kinds() -> None:
    first, again = (list(islice(Calls().generate(random.Random(3)), 60)) for _ in range(2))
    assert first == again
    kinds = Counter((len(problem.data["turns"]), problem.min_calls) for problem in first)
    assert set(kinds) == {(1, 0), (1, 1), (1, 2), (2, 2)}


def test_gold_courses_of_bfcl_are_right_and_mistaken_ones_wrong(shared_data: Path) -> None:
    world, outcomes = Calls(), Counter()
    problems = import_path("bfcl", shared_data / "bfcl").problems

    async def check(problem: Problem) -> None:
        gold, *mistaken = world.courses(problem)
        verdict = (await walked(world, problem, gold)).verdict
        assert verdict.correct and verdict.score == 1.0, problem
        outcomes["right"] += 1
        for course in mistaken:
            verdict = (await walked(world, problem, course)).verdict
            wrong = not verdict.correct and (verdict.score or 0) < 1
            outcomes[course.mistake if wrong else f"{course.mistake}: right"] += 1

    async def run() -> None:
        for problem in problems[::10]:
            await check(problem)

    asyncio.run(run())
    assert outcomes["right"] == 124
    assert outcomes["makes no call"] + outcomes["calls a tool that doesn't fit"] == 124
    assert outcomes["takes another value: right"] < 10  # a call without arguments has no value to change
