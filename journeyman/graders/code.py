"""Whether code does what tests ask of it. The verdict is made here, never in the box where the code runs.

The code is given inputs and hands out results; what is expected stays outside. It can end its process, replace `assert`,
print "passed" or forge a reply: what it hands out must still be the right result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.graders.grade import Grade
from journeyman.tools.sandbox import Bounds, Interpreter, run_program

BOUNDS = Bounds(seconds=5.0, cpu_seconds=30)
POOL = "graders"
"""Graders don't wait for the interpreters of attempts, which wait for their graders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTest:
    """A run of the whole program."""

    stdin: str
    stdout: str
    """What it must print; space at the ends of lines and of the text doesn't count. It must end with exit code 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """A call of a function that the code defines."""

    function: str
    arguments: Sequence[Any]
    """JSON values, by position."""
    expected: Any
    """JSON; a tuple that the function gives is a list here. Numbers may be off by 1e-9 of their size (ours)."""


async def grade_code(
    code: str, tests: Sequence[ProgramTest | CallTest], *, id: str | int = "", bounds: Bounds = BOUNDS
) -> Grade:
    """Run code against all tests, up to the first that fails.

    `bounds.seconds` holds for each test. Raises `ValueError` where there is no test, `UserError` where boxes can't be
    used on this machine and `InfrastructureError` where one couldn't be made.
    """
    if not tests:
        raise ValueError("no tests: any code would pass")
    numbered = list(enumerate(tests, 1))
    programs = [(number, test) for number, test in numbered if isinstance(test, ProgramTest)]
    calls = [(number, test) for number, test in numbered if isinstance(test, CallTest)]
    for number, test in programs:
        if wrong := await _program_fails(code, test, bounds):
            return Grade(id=id, correct=False, reason=f"test {number}: {wrong}")
    if calls and (wrong := await _calls_fail(code, calls, bounds)):
        return Grade(id=id, correct=False, reason=wrong)
    return Grade(id=id, correct=True, reason=f"{len(tests)} tests pass")


async def _program_fails(code: str, test: ProgramTest, bounds: Bounds) -> str:
    """What is wrong; empty where nothing is."""
    outcome = await run_program(code, stdin=test.stdin, limits=bounds)
    if outcome.killed:
        return f"stopped: too much {outcome.killed}"
    if outcome.exit_code:
        return f"exit code {outcome.exit_code}: {_last_line(outcome.stderr)}"
    return "" if _plain(outcome.stdout) == _plain(test.stdout) else "another output"


async def _calls_fail(code: str, tests: Sequence[tuple[int, CallTest]], bounds: Bounds) -> str:
    interpreter = await Interpreter.start(bounds, pool=POOL)
    try:
        await interpreter.run("__name__ = 'solution'")  # what stands behind a guard for "__main__" isn't run
        answer = await interpreter.run(code)
        if not answer.ok or not answer.alive:
            return f"the code itself fails: {answer.killed or _last_line(answer.output)}"
        for number, test in tests:
            answer = await interpreter.call(test.function, test.arguments)
            if not answer.ok:
                return f"test {number}: {answer.killed or _last_line(answer.output)}"
            if not same_json(test.expected, answer.value):
                return f"test {number}: another result"
            if not answer.alive and number != tests[-1][0]:
                return f"test {number}: the code has ended its interpreter"
    finally:
        await interpreter.close()
    return ""


def same_json(expected: Any, value: Any) -> bool:
    """Whether two JSON values are equal: true is not 1, 2 is 2.0, floats may be off by rounding."""
    match expected:
        case bool() | None | str():
            return type(value) is type(expected) and value == expected
        case int() | float():
            if not isinstance(value, int | float) or isinstance(value, bool):
                return False
            if isinstance(value, int) and isinstance(expected, int):
                return value == expected
            try:
                return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)
            except OverflowError:  # a whole number that no float holds
                return False
        case list() | tuple():
            if not isinstance(value, list) or len(value) != len(expected):
                return False
            return all(map(same_json, expected, value))
        case dict():
            if not isinstance(value, dict) or value.keys() != expected.keys():
                return False
            return all(same_json(expected[key], value[key]) for key in expected)
    raise ValueError(f"a test expects {expected!r}, which is no JSON value")


def _plain(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "it ended without a word"
