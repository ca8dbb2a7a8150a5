"""Worlds that were made by a model and put in a folder: specs, problems and `tools.py`, which only runs in the box (#5)."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from journeyman.environments.base import Course, Environment, Step, same_answer, validate
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.environments.solve_score import Goal, TurnScore, end_score, solved_goals, turn_score
from journeyman.errors import DataError
from journeyman.messages import Fault, ParsedTurn, ToolCall, ToolResult
from journeyman.problem import Problem, problem_id
from journeyman.tools.arguments import arguments_error, spec_error
from journeyman.tools.base import CallContext, Limits, Tool
from journeyman.tools.runner import Boxed, Runner, run_calls

FORMAT = 1


class BuiltTool(Tool):
    """A function of a world's `tools.py`. It keeps nothing between calls, so results are cached."""

    limits = Limits(cache=4096)

    def __init__(self, spec: Mapping[str, Any], code: str, runner: Runner) -> None:
        self.name, self._spec, self._code, self._runner = spec["function"]["name"], dict(spec), code, runner

    def spec(self) -> dict[str, Any]:
        return self._spec

    async def call(self, arguments: Mapping[str, Any], context: CallContext = CallContext()) -> ToolResult:
        if error := arguments_error(self._spec, arguments):
            return ToolResult(name=self.name, ok=False, output=f"error: {error}", fault=Fault.POLICY)
        (returned,) = await run_calls(self._runner, self._code, [(self.name, arguments)])
        if returned.error:
            fault = Fault.TOOL if returned.broke else Fault.POLICY
            return ToolResult(name=self.name, ok=False, output=f"error: {returned.error}", fault=fault)
        return ToolResult(name=self.name, ok=True, output=returned.text)


class BuiltEpisode(Episode):
    """An attempt whose turns are paid for the sub-questions that they solve, by precision and completeness."""

    def __init__(
        self, environment: Environment, problem: Problem, context: CallContext, kind: TurnScore = TurnScore.F1
    ) -> None:
        super().__init__(environment, problem, context)
        self._goals = [Goal(**goal) for goal in problem.data["goals"]]
        self._kind, self._solved, self._made = kind, [], 0

    async def step(self, turn: ParsedTurn) -> Reaction:
        reaction = await super().step(turn)
        if turn.calls:
            new = solved_goals(self._goals, self._solved, reaction.results)
            self._solved, self._made = [*self._solved, *new], self._made + len(turn.calls)
            return replace(reaction, reward=turn_score(len(new), len(turn.calls), self._kind))
        right = turn.answer is not None and self.environment.verify(self.problem, turn.answer)
        said = turn.answer if turn.answer is not None else turn.text
        left = len(self._goals) - len(self._solved)
        return replace(reaction, reward=end_score(said, right=right, broken=bool(turn.error), unsolved=left))

    async def verify(self, answer: str | None) -> Verdict:
        verdict = await super().verify(answer)
        solved = len(self._solved)
        parts = {"precision": solved / max(1, self._made), "completeness": solved / max(1, len(self._goals))}
        return replace(verdict, parts={**verdict.parts, **parts})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "solved": list(self._solved), "made": self._made}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._solved, self._made = list(state["solved"]), state["made"]


class Built(Environment):
    """The world of a folder, made by a model (#5); without one, a small world that comes along.

    The typical mistake: the answer of another question.
    """

    name = "built"
    columns = ("question", "answer", "calls", "goals")

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        runner: Runner | None = None,
        turn_score: TurnScore | str = TurnScore.F1,
    ) -> None:
        """Raises `DataError` for a folder that holds no world, or one that was changed."""
        self._runner, self._kind = runner or Boxed(), TurnScore(turn_score)
        self._specs, self._rows, self._code = _sample() if folder is None else read_world(Path(folder))

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        made = [BuiltTool(spec, self._code, self._runner) for spec in self._specs]
        return {tool.name: tool for tool in made}

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """All problems of the world. Raises `DataError` for one that can't be read."""
        reading = self.read(self._rows)
        for apart in reading.apart:
            raise DataError(f"row {apart.row}: {apart.reason}", place="problems.jsonl", remedy="make the world again")
        return reading.problems

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def reset(self, problem: Problem, context: CallContext) -> BuiltEpisode:
        return BuiltEpisode(self, problem, context, self._kind)

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row of a world's `problems.jsonl`: `calls` and `goals` are JSON text there."""
        return read_each(rows, self._usable)

    def _usable(self, row: Mapping[str, Any]) -> Problem:
        try:
            return self._problem(row)
        except (KeyError, TypeError, ValueError) as error:
            raise BadRow("not a problem of a built world", str(error)[:200]) from error

    def _problem(self, row: Mapping[str, Any]) -> Problem:
        calls, goals = json.loads(row["calls"]), json.loads(row["goals"])
        for call in calls:
            if error := arguments_error(self._tools[call["name"]].spec(), call["arguments"]):
                raise ValueError(error)
        question, answer = str(row["question"]), str(row["answer"])
        data = {"calls": calls, "goals": [{"tool": goal["tool"], "answer": goal["answer"]} for goal in goals]}
        made = problem_id(self.name, question, data)
        return Problem(
            id=made,
            family=self.name,
            question=question,
            answer=answer,
            tools=tuple(self._tools),
            min_calls=len(calls),
            data={**data, "key": made},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        steps = tuple(
            Step(thought=f"I need {call['name']}.", call=ToolCall(name=call["name"], arguments=call["arguments"]))
            for call in problem.data["calls"]
        )
        gold = Course(steps=steps, answer=problem.answer)
        others = [other.answer for other in self.problems if not same_answer(problem.answer, other.answer)]
        if not others:
            return (gold,)
        return gold, Course(steps=steps[:1], answer=others[0], mistake="answers another question")

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        """Specs are sound, gold calls solve every sub-question and show the answer, other answers are refused."""
        for spec in self._specs:
            if error := spec_error(spec):
                raise ValueError(f"{self.name}: {error}")
        if not self.problems:
            raise ValueError(f"{self.name}: no problem")
        validate(self, self.problems)


def write_world(folder: Path, world: Mapping[str, Any], problems: Sequence[Mapping[str, Any]], code: str) -> None:
    """Write a world; `world` has `name`, `scenario`, `specs`, `provenance`. `world.json` comes last.

    `problems.jsonl` is a data set of its own: `path: .../problems.jsonl, format: built` in a pipeline, with
    `worlds: {built: {folder: ...}}`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Columns of one type whatever the tools take: a reader of data sets would fill in arguments of other rows.
    rows = [{**row, "calls": json.dumps(row["calls"]), "goals": json.dumps(row["goals"])} for row in problems]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    stamped = {"format": FORMAT, **world, "digests": {"tools.py": _digest(code), "problems.jsonl": _digest(lines)}}
    text = json.dumps(stamped, ensure_ascii=False, indent=1)
    for name, content in (("tools.py", code), ("problems.jsonl", lines), ("world.json", text)):
        part = folder / f"{name}.part"
        part.write_text(content, encoding="utf-8")
        part.replace(folder / name)


def read_world(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """(specs, rows of problems, code). Nothing is run. Raises `DataError`."""
    remedy = "make the world again"
    try:
        world = json.loads((folder / "world.json").read_text(encoding="utf-8"))
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in ("tools.py", "problems.jsonl")}
    except (OSError, ValueError) as error:
        raise DataError(f"no world: {error}", place=str(folder), remedy=remedy) from error
    if not isinstance(world, dict) or world.get("format") != FORMAT or not isinstance(world.get("specs"), list):
        raise DataError(f"not a world of format {FORMAT}", place=str(folder / "world.json"), remedy=remedy)
    for name, text in texts.items():
        if world.get("digests", {}).get(name) != _digest(text):
            raise DataError("it is not what the world was made with", place=str(folder / name), remedy=remedy)
    return world["specs"], [json.loads(line) for line in texts["problems.jsonl"].splitlines()], texts["tools.py"]


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _sample() -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    from journeyman.tools.made import spec_of

    rows = [_sample_problem(kind, days) for kind in _KINDS for days in (3, 8)]
    return [spec_of(name, _SAMPLE) for name in ("loan_days", "late_fee", "opening_hour")], rows, _SAMPLE


def _sample_problem(kind: str, days: int) -> dict[str, Any]:
    allowed, fee = _KINDS[kind]
    late = str(fee * days)
    calls = [
        {"name": "loan_days", "arguments": {"kind": kind}},
        {"name": "late_fee", "arguments": {"kind": kind, "days": days}},
    ]
    return {
        "question": f"Someone kept a {kind} for {allowed + days} days. What is the late fee in cents?",
        "answer": late,
        "calls": json.dumps(calls),
        "goals": json.dumps([{"tool": "loan_days", "answer": str(allowed)}, {"tool": "late_fee", "answer": late}]),
    }


_KINDS = {"book": (28, 20), "film": (7, 55), "map": (14, 35)}
"""Of the sample: what can be borrowed -> days allowed, cents a day after."""
_SAMPLE = f'''
KINDS = {_KINDS!r}


def loan_days(kind: str) -> int:
    """How many days a kind of thing (book, film, map) can be borrowed for."""
    return KINDS[kind][0]


def late_fee(kind: str, days: int) -> int:
    """The fee in cents for bringing a kind of thing back so many days late."""
    if days < 0:
        raise ValueError("days can't be negative")
    return KINDS[kind][1] * days


def opening_hour(day: str) -> int:
    """The hour at which the library opens on a day of the week."""
    return 12 if day.lower() in ("saturday", "sunday") else 9
'''
