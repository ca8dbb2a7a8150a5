"""GSM8K: grade-school word problems with a calculator. Cobbe et al. 2021, arXiv 2110.14168.

A row is `question` and `answer`, the answer a worked solution with calculator annotations, `<<48/2=24>>`, and the final
result behind `####`. The annotations become calls; the words before each become the thought that leads to it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from journeyman.environments.base import Course, Environment, Step
from journeyman.environments.rows import BadRow, Reading, read_each
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import Tool, ToolError
from journeyman.tools.calculator import Calculator, calculate
from journeyman.trajectory import ToolCall

_ANNOTATION = re.compile(r"<<(.*?)>>", re.DOTALL)
_NUMBER = re.compile(r"-?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
TOLERANCE = Decimal("1e-6")

EXAMPLES: Sequence[Mapping[str, str]] = (
    {
        "question": "Ida bakes 6 trays of 12 rolls and sells 30 of them. How many rolls are left?",
        "answer": "She bakes 6*12 = <<6*12=72>>72 rolls.\nThen 72-30 = <<72-30=42>>42 rolls are left.\n#### 42",
    },
    {
        "question": "A tram ticket costs $1.50. What do 1,000 tickets cost?",
        "answer": "They cost 1000 x $1.50 = $<<1000*1.5=1500>>1,500.\n#### $1,500",
    },
)
"""Made-up rows that `validate` falls back to."""


class Gsm8k(Environment):
    """Word problems read from rows."""

    name = "gsm8k"
    phrases = ()
    columns: Sequence[str] = ("question", "answer")

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {"calculator": Calculator()}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row whose annotations compute what they say; the other rows are kept apart."""
        return read_each(rows, self._problem)

    def _problem(self, row: Mapping[str, Any]) -> Problem:
        question, solution = row["question"], row["answer"]
        if not isinstance(question, str) or not question.strip():
            raise BadRow("no question")
        if not isinstance(solution, str) or solution.count("####") != 1:
            raise BadRow("not exactly one #### before the final answer")
        worked, final = solution.split("####")
        data = {"steps": read_steps(worked)}
        return Problem(
            id=problem_id(self.name, question, data),
            family=self.name,
            question=question.strip(),
            answer=_reference(final),
            tools=("calculator",),
            min_calls=len(data["steps"]),
            data=data,
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        """The gold course alone: a call for each annotation, then the row's final answer."""
        steps = tuple(
            Step(
                thought=step["thought"],
                call=ToolCall(name="calculator", arguments={"expression": step["expression"]}),
            )
            for step in problem.data["steps"]
        )
        return (Course(steps=steps, answer=problem.answer),)

    def verify(self, problem: Problem, answer: str) -> bool:
        """Equal as numbers. Currency and percent signs, thousands' commas and a closing point don't count."""
        given, reference = number(answer), number(problem.answer)
        return given is not None and reference is not None and abs(given - reference) <= TOLERANCE

    def validate(self, rows: Iterable[Mapping[str, Any]] = EXAMPLES) -> None:
        """Raise `ValueError` where a gold course isn't right, or a known-wrong answer is."""
        for problem in self.read(rows).problems:
            [gold] = self.courses(problem)
            for said in problem.data["steps"]:
                if not agrees(calculate(said["expression"]), said["result"]):
                    raise ValueError(f"{problem.id}: {said['expression']} is not {said['result']}")
            if not self.verify(problem, gold.answer or ""):
                raise ValueError(f"{problem.id}: the gold answer {gold.answer!r} is not accepted")
            for wrong in known_wrong(problem):
                if self.verify(problem, wrong):
                    raise ValueError(f"{problem.id}: the wrong answer {wrong!r} is accepted")


def known_wrong(problem: Problem) -> tuple[str, ...]:
    """Answers that must not pass: near ones, ten times as much, none, and the right one with another beside it."""
    value = Decimal(problem.answer)
    others = (value + 1, value - 1, -value - 1, value * 10 + 1, value + Decimal("0.01"))
    return (*map(str, others), "", "none", "nan", f"{value} or {value + 1}", f"not {value}")


def number(text: str) -> Decimal | None:
    """A number as people write it, `$1,200.50` or `15%`; None for anything else."""
    text = _THOUSANDS.sub("", text.strip())
    text = re.sub(r"^(-?)\s*[$€£]\s*", r"\1", text)
    text = re.sub(r"\s*[%$€£]?\.?$", "", text)
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def read_steps(worked: str) -> list[dict[str, str]]:
    """Thought, expression and result of each annotation; one that repeats an earlier expression is no new step.

    Raises `BadRow` where there is none or where one doesn't compute what it says.
    """
    pieces = _ANNOTATION.split(worked)  # words, annotation, words, annotation, ..., words
    if len(pieces) == 1:
        raise BadRow("no calculator annotation")
    steps: dict[str, dict[str, str]] = {}
    for words, annotation in zip(pieces[0::2], pieces[1::2], strict=False):
        expression, result = _computed(annotation)
        steps.setdefault(expression, {"thought": _thought(words), "expression": expression, "result": result})
    return list(steps.values())


def _thought(words: str) -> str:
    """The words that lead to an annotation: not the rest of the line that the one before stands in."""
    _, newline, after = words.partition("\n")
    text = " ".join((after if newline else words).split())
    return re.sub(r"[\s=$€£]+$", "", text) or "I calculate."


def _computed(annotation: str) -> tuple[str, str]:
    """(expression, result), checked against the calculator."""
    expression, equals, said = annotation.replace(" ", "").rpartition("=")
    expression = _THOUSANDS.sub("", expression)
    if not equals or not expression or number(said) is None:
        raise BadRow("an annotation that is not EXPRESSION=NUMBER", annotation)
    try:
        value = calculate(expression)
    except ToolError as error:
        raise BadRow("an annotation that the calculator can't read", f"{annotation}: {error}") from None
    if not agrees(value, said):
        raise BadRow("an annotation that doesn't compute what it says", f"{annotation}, but it is {value}")
    return expression, said


def agrees(value: str, said: str) -> bool:
    """Whether a computed value is what was said, to the decimals that were said (none: exactly)."""
    given = number(said)
    assert given is not None
    decimals = -int(given.as_tuple().exponent)
    margin = Decimal(5).scaleb(-decimals - 1) if decimals > 0 else Decimal(0)
    return abs(Decimal(value) - given) <= max(margin, TOLERANCE)


def _reference(final: str) -> str:
    value = number(final)
    if value is None:
        raise BadRow("a final answer that is not a number", final.strip())
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
