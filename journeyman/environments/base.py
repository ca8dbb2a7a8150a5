"""What an environment is: where a Problem lives, with its tools, its gold course and its verdict."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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
    """A family of problems. `tools` offered are named in the problem."""

    name: str

    def tools(self) -> Mapping[str, Tool]:
        """The tools of this family by name."""
        ...

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold course first, then courses with one typical mistake each."""
        ...

    def verify(self, problem: Problem, answer: str) -> bool:
        """Whether an answer is right."""
        ...


class Generator(Protocol):
    """An environment that makes problems by seed."""

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """An endless stream of problems."""
        ...
