"""What an environment is: where a Problem lives, with its tools, its gold course and its verdict."""

import random
from collections.abc import Iterator, Mapping, Sequence
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
    """A family of problems. Each environment also has `validate()`, which raises where its own gold fails."""

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


@runtime_checkable
class Generator(Protocol):
    """An environment that makes problems by seed."""

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """An endless stream of problems; one that asks the same in other words has the same `data["key"]`."""
        ...


def same_answer(reference: str, answer: str) -> bool:
    """Equal as numbers where both are numbers, else equal but for case and surrounding space."""
    try:
        return abs(float(reference.replace(",", "")) - float(answer.replace(",", ""))) < 1e-6
    except ValueError:
        return reference.strip().casefold() == answer.strip().casefold()
