"""Mathematics with a final answer that can be compared: rows of MATH, AIME and their like."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from journeyman.environments.base import Course, Environment
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.graders.answers import compare_answers
from journeyman.graders.finals import final
from journeyman.messages import ParsedTurn
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.calculator import Calculator
from journeyman.tools.python import Python

EXAMPLES: Sequence[Mapping[str, Any]] = (
    {"problem": "What is $\\frac{1}{2} + \\frac{1}{3}$?", "solution": "It is $\\boxed{\\frac{5}{6}}$."},
    {"question": "How many primes are below 20?", "answer": 8},
)
"""Made-up rows that `validate` falls back to."""


class MathsEpisode(Episode):
    """An attempt; what the last turn marks as its answer counts where no answer stands between tags."""

    def __init__(self, environment: Environment, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._said = ""

    async def step(self, turn: ParsedTurn) -> Reaction:
        self._said = "" if turn.calls else turn.text  # it ends the attempt: no fork needs to know of it
        return await super().step(turn)

    async def verify(self, answer: str | None) -> Verdict:
        if answer is None and (found := final(self._said)).marked:
            answer = found.text
        # In a thread: a formula may take its time.
        return Verdict.of(answer is not None and await asyncio.to_thread(_right, self.problem, answer))


def _right(problem: Problem, answer: str) -> bool:
    return compare_answers(problem.answer, answer)[0]


class Maths(Environment):
    """Mathematics problems read from rows; formulas, numbers, intervals and sets are compared by value.

    A row has `problem` or `question`, and `answer`, or a `solution` whose final answer is marked (`\\boxed{}`, `####`).
    `level` and `subject` (or `type`) are kept. There are no worked courses but the answer itself.

    Args:
        python: whether the policy has an interpreter (in the box) instead of a calculator.
    """

    name = "maths"

    def __init__(self, *, python: bool = False) -> None:
        tool: Tool = Python() if python else Calculator()
        self._tools = {tool.name: tool}
        self._world = {"python": True} if python else {}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return MathsEpisode(self, problem, context)

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row with a question and a final answer; the other rows are kept apart."""
        return read_each(rows, self._problem)

    def _problem(self, row: Mapping[str, Any]) -> Problem:
        question = row.get("problem") or row.get("question")
        if not isinstance(question, str) or not question.strip():
            raise BadRow("no question")
        kept = {"level": row.get("level"), "subject": row.get("subject") or row.get("type")}
        data = {"key": question, **{name: str(value) for name, value in kept.items() if value is not None}}
        return Problem(
            id=problem_id(self.name, question, data),
            family=self.name,
            question=question.strip(),
            answer=_reference(row),
            tools=tuple(self._tools),
            data=data,
            world=self._world,
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        return (Course(steps=(), answer=problem.answer),)

    def verify(self, problem: Problem, answer: str) -> bool:
        return _right(problem, answer)

    def validate(self, rows: Iterable[Mapping[str, Any]] = EXAMPLES) -> None:
        """Raise `ValueError` where a row's own answer is not accepted, or a known-wrong one is."""
        for problem in self.read(rows).problems:
            if not self.verify(problem, problem.answer):
                raise ValueError(f"{self.name} {problem.id}: its own answer {problem.answer!r} is not accepted")
            for wrong in ("", "none of these", f"not {problem.answer}"):
                if self.verify(problem, wrong):
                    raise ValueError(f"{self.name} {problem.id}: {wrong!r} is accepted")


def _reference(row: Mapping[str, Any]) -> str:
    """The `answer`, else the marked final answer of the `solution`. Raises `BadRow`."""
    given, solution = row.get("answer"), row.get("solution")
    if isinstance(given, str | int | float) and not isinstance(given, bool) and str(given).strip():
        found = final(str(given))
        return found.text if found.marked else str(given).strip()
    found = final(solution) if isinstance(solution, str) else None
    if found is None or not found.marked or not found.text:
        raise BadRow("no final answer")
    return found.text
