"""Arithmetic in words, with a calculator. The typical mistake: the wrong operator."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from journeyman.environments.base import Course, Environment, Step, same_answer, validate
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import Tool
from journeyman.tools.calculator import Calculator, calculate
from journeyman.trajectory import ToolCall

WORDINGS: Mapping[str, Sequence[str]] = {
    "+": ("What is {a} plus {b}?", "What is the sum of {a} and {b}?"),
    "-": ("What is {a} minus {b}?", "What is the difference of {a} and {b}?"),
    "*": ("What is {a} times {b}?", "What is the product of {a} and {b}?"),
}
THOUGHTS = {"+": "add", "-": "subtract", "*": "multiply"}
CONFUSED = {"+": "*", "-": "+", "*": "-"}
"""The operator that a hasty teacher takes instead."""


class Arithmetic(Environment):
    """One operation on two numbers of two or three digits."""

    name = "arithmetic"
    phrases: tuple[str, ...] = (
        "What is ",
        "the sum of ",
        "the difference of ",
        "the product of ",
        " plus ",
        " minus ",
        " times ",
        " and ",
    )

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {"calculator": Calculator()}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            operator = rng.choice(list(WORDINGS))
            a, b = rng.randrange(10, 1000), rng.randrange(10, 100)
            a, b = max(a, b), min(a, b)
            yield self._problem(operator, a, b, rng.choice(WORDINGS[operator]))

    def _problem(self, operator: str, a: int, b: int, wording: str) -> Problem:
        question = wording.format(a=a, b=b)
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=calculate(f"{a}{operator}{b}"),
            min_calls=1,
            data={"key": f"{a}{operator}{b}", "a": a, "b": b, "operator": operator},
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        operator = problem.data["operator"]
        right = Course(steps=(self._step(problem, operator),))
        wrong = Course(steps=(self._step(problem, CONFUSED[operator]),), mistake="wrong operator")
        return right, wrong

    def _step(self, problem: Problem, operator: str) -> Step:
        expression = f"{problem.data['a']}{operator}{problem.data['b']}"
        return Step(thought=THOUGHTS[operator], call=ToolCall(name="calculator", arguments={"expression": expression}))

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 60))
