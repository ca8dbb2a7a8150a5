"""What an environment is: where a Problem lives, with its tools, its gold course and its verdict."""

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from journeyman.problem import Problem
from journeyman.tools.base import Tool
from journeyman.trajectory import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a worked course: a thought and the call it leads to."""

    thought: str
    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A way through a problem, as a teacher would write it: right, or with one typical mistake."""

    steps: tuple[Step, ...]
    answer: str | None = None
    """The final answer; None: the last observation, verbatim."""
    mistake: str = ""
    """Which typical mistake it contains; empty for the gold course."""


class Environment(Protocol):
    """A family of problems."""

    name: str
    phrases: tuple[str, ...]
    """Text that questions and courses repeat verbatim: a tokenizer trained on the spot makes each one token."""

    def tools(self) -> Mapping[str, Tool]:
        """The tools of this family by name."""
        ...

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold course first, then courses with one typical mistake each."""
        ...

    def verify(self, problem: Problem, answer: str) -> bool:
        """Whether an answer is right."""
        ...

    def validate(self) -> None:
        """Check problems of its own with the function of that name. Raises `ValueError` where something is off."""
        ...


@runtime_checkable
class Generator(Protocol):
    """An environment that makes problems by seed."""

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """An endless stream of problems; one that asks the same in other words has the same `data["key"]`."""
        ...


def validate(environment: Environment, problems: Iterable[Problem]) -> None:
    """Walk every course with the real tools. Raises `ValueError` with the problem and what is off.

    A gold course must work, take `min_calls` calls, and end in an accepted answer that a tool has shown. A mistaken one
    must end in an answer that is not accepted, unless it is the gold one's: the wrong aggregate of a single number is
    right by chance. Each mistake must really be one in some problem.
    """
    asyncio.run(_validate(environment, list(problems)))


async def _validate(environment: Environment, problems: Sequence[Problem]) -> None:
    wrong: dict[str, bool] = {}
    for problem in problems:
        gold, *mistaken = environment.courses(problem)
        outputs, right = await _walk(environment, gold)
        _require(not gold.mistake, problem, "the first course contains a mistake")
        _require(len(gold.steps) == problem.min_calls, problem, f"min_calls is not {len(gold.steps)}")
        _require(environment.verify(problem, right), problem, f"the gold answer {right!r} is not accepted")
        _require(any(right in output for output in outputs), problem, f"no tool shows the gold answer {right!r}")
        _require(not environment.verify(problem, ""), problem, "an empty answer is accepted")
        for course in mistaken:
            _, answer = await _walk(environment, course)
            accepted = environment.verify(problem, answer)
            _require(not accepted or same_answer(right, answer), problem, f"{course.mistake}: {answer!r} is accepted")
            wrong[course.mistake] = wrong.get(course.mistake, False) or not accepted
    if harmless := [mistake for mistake, is_wrong in wrong.items() if not is_wrong]:
        raise ValueError(f"{environment.name}: no mistake in any of {len(problems)} problems: {', '.join(harmless)}")


async def _walk(environment: Environment, course: Course) -> tuple[list[str], str]:
    """(outputs, answer) of a course; each of its calls must work."""
    tools, outputs = environment.tools(), []
    for step in course.steps:
        result = await tools[step.call.name].call(step.call.arguments)
        if not result.ok:
            raise ValueError(f"{environment.name}: {step.call} fails: {result.output}")
        outputs.append(result.output)
    return outputs, outputs[-1] if course.answer is None else course.answer


def _require(condition: bool, problem: Problem, otherwise: str) -> None:
    if not condition:
        raise ValueError(f"{problem.family} {problem.id}: {otherwise}: {problem.question}")


def same_answer(reference: str, answer: str) -> bool:
    """Equal as numbers where both are numbers, else equal but for case and surrounding space."""
    try:
        return abs(float(reference.replace(",", "")) - float(answer.replace(",", ""))) < 1e-6
    except ValueError:
        return reference.strip().casefold() == answer.strip().casefold()
