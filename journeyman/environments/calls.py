"""Function calling in BFCL's format: the calls themselves are the answer; nothing is carried out.

A problem has its own tools. In a problem of one turn the attempt ends when as many calls are made as are right, over
one message or several, or when the model speaks without a call. In a problem of several turns a message without a call
hands over to the user, and each of the user's turns has its own accepted calls. This is a variant of BFCL's multi-turn
categories without state: BFCL carries the calls out on small Python classes and compares the states at the end, so that
other ways to the same state count; here the calls of the ground truth alone do, in any order within a turn, and tools
only acknowledge.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from journeyman.environments.base import Course, Environment, Step, validate
from journeyman.environments.call_drafts import draft
from journeyman.environments.call_problems import FAMILY, as_call, bfcl_problem
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.rlla_rows import rlla_problem
from journeyman.environments.rows import Reading, read_each
from journeyman.graders.calls import CallItem, read_item, verdict
from journeyman.graders.partial import partial_match
from journeyman.messages import Message, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem
from journeyman.tools.base import CallContext, Tool

ACKNOWLEDGED = "ok"
DONE, REFUSED = "Done.", "None of the tools fits."
"""What the gold course says."""
COLUMNS: Mapping[str, Sequence[str]] = {"bfcl": ("id", "question", "function"), "rlla": ("prompt", "reward_model")}
"""Whose rows -> columns that every one must have."""


class Declared(Tool):
    """A tool that is only declared: a call of it is acknowledged."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec, self.name = dict(spec), spec["function"]["name"]

    def spec(self) -> dict[str, Any]:
        return self._spec

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        return ToolResult(name=self.name, ok=True, output=ACKNOWLEDGED)


class Calls(Environment):
    """Which calls to make, with which arguments, or none: problems read from rows, or a few made-up ones.

    Args:
        rows: whose they are: BFCL's, or ToolRL's, `rlla` (#4).
    """

    name = FAMILY
    phrases = (ACKNOWLEDGED, DONE, REFUSED)

    def __init__(self, *, rows: Literal["bfcl", "rlla"] = "bfcl") -> None:
        if rows not in COLUMNS:
            raise ValueError(f"rows are one of {', '.join(COLUMNS)}, not {rows}")
        self._rows = rows
        self.columns: Sequence[str] = COLUMNS[rows]

    def reset(self, problem: Problem, context: CallContext) -> "CallsEpisode":
        return CallsEpisode(self, problem, context)

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row; BFCL's have their `ground_truth` beside them (nested values may be JSON text)."""
        return read_each(rows, rlla_problem if self._rows == "rlla" else bfcl_problem)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """Made-up problems: one call, several, none, several turns."""
        while True:
            yield draft(rng)

    def courses(self, problem: Problem) -> Sequence[Course]:
        gold = _course(problem, "")
        if not problem.min_calls:
            return gold, _course(problem, "calls a tool that doesn't fit")
        doubled = [_course(problem, "makes a call twice")] if problem.min_calls > 1 else []
        return (
            gold,
            _course(problem, "makes no call"),
            _course(problem, "takes another value"),
            _course(problem, "leaves a parameter out"),
            *doubled,
        )

    def verify(self, problem: Problem, answer: str) -> bool:
        """No answer is right by itself: the calls decide."""
        return False

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 80))


def _course(problem: Problem, mistake: str) -> Course:
    steps: list[Step] = []
    for number, turn in enumerate(problem.data["turns"]):
        calls = [as_call(one) for one in turn["accepted"]]
        if number == 0:
            calls = _mistaken(problem, calls, mistake)
        steps += [Step(thought=c["name"], call=ToolCall(name=c["name"], arguments=c["arguments"])) for c in calls]
        steps.append(Step(thought="answer", say=DONE if calls else REFUSED))
    return Course(steps=tuple(steps), mistake=mistake)


def _mistaken(problem: Problem, calls: list[dict[str, Any]], mistake: str) -> list[dict[str, Any]]:
    if mistake == "calls a tool that doesn't fit":
        return [{"name": problem.data["specs"][0]["function"]["name"], "arguments": {}}]
    if mistake == "makes no call" or not calls:
        return []
    first, *rest = calls
    arguments = dict(first["arguments"])
    if mistake == "makes a call twice":
        return [first, first, *rest[1:]]
    if mistake == "takes another value" and arguments:
        arguments[next(iter(arguments))] = "something else"
    if mistake == "leaves a parameter out" and arguments:
        arguments.pop(next(iter(arguments)))
    return [{"name": first["name"], "arguments": arguments}, *rest]


class CallsEpisode(Episode):
    """An attempt: the calls are noted and acknowledged."""

    def __init__(self, environment: Environment, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._turns: Sequence[Mapping[str, Any]] = problem.data["turns"]
        self._made: list[list[ToolCall]] = [[]]

    def offered(self) -> Mapping[str, Tool]:
        return {spec["function"]["name"]: Declared(spec) for spec in self.problem.data["specs"]}

    def opening(self) -> tuple[Message, ...]:
        shown = self.problem.data.get("opening") or ({"role": "user", "content": self.problem.question},)
        return tuple(_message(row) for row in shown)

    async def step(self, turn: ParsedTurn) -> Reaction:
        """Note the calls, or let the user go on where there are none."""
        if turn.calls:
            self._made[-1] += turn.calls
            enough = len(self._turns) == 1 and len(self._made[-1]) >= max(1, len(self._turns[0]["accepted"]))
            return Reaction(results=await self.run(turn.calls), done=enough)
        if len(self._made) == len(self._turns):
            return Reaction(done=True)
        self._made.append([])
        return Reaction(reply=Message(role="user", content=self._turns[len(self._made) - 1]["user"]))

    async def verify(self, answer: str | None) -> Verdict:
        """Right where the calls of every turn are; parts and score are means over the turns (#4)."""
        grades = [await asyncio.to_thread(_graded, item) for item in self._items()]
        count = len(grades)
        parts = {name: sum(part[name] for _, part in grades) / count for name in ("name", "parameters", "values")}
        right = [correct for correct, _ in grades]
        return Verdict(
            correct=all(right),
            score=sum(part["score"] for _, part in grades) / count,
            parts={**parts, "turns": sum(right) / count},
        )

    def _items(self) -> Iterator[CallItem]:
        for number, turn in enumerate(self._turns):
            made = self._made[number] if number < len(self._made) else []
            reached = number < len(self._made)
            yield read_item(
                {
                    "id": number,
                    "tools": self.problem.data["specs"],
                    "predicted": [{"name": c.name, "arguments": dict(c.arguments)} for c in made] if reached else None,
                    "accepted": turn["accepted"],
                }
            )

    def state_dict(self) -> dict[str, Any]:
        made = [[{"name": call.name, "arguments": dict(call.arguments)} for call in calls] for calls in self._made]
        return {**super().state_dict(), "made": made}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._made = [[ToolCall(**call) for call in calls] for calls in state["made"]]


def _graded(item: CallItem) -> tuple[bool, dict[str, float]]:
    part = partial_match(item)
    shares = {"name": part.name, "parameters": part.parameters, "values": part.values, "score": part.score}
    return verdict(item).correct, shares


def _message(row: Mapping[str, Any]) -> Message:
    calls = tuple(ToolCall(name=call["name"], arguments=call["arguments"]) for call in row.get("calls", ()))
    return Message(role=row["role"], content=row["content"], calls=calls, name=row.get("name", ""))
