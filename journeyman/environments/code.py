"""Sums, counts and simulations that want a small program (#2). Typical mistakes: a bound left out, the wrong start."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import comb, lcm
from string import Template
from typing import Any

from journeyman.environments.base import Course, Environment, Step, same_answer, validate
from journeyman.messages import ToolCall
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import Tool
from journeyman.tools.python import BOUNDS, Python
from journeyman.tools.sandbox import require_sandbox

Numbers = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """A kind of problem. Its answer comes from other arithmetic than its program: `validate` compares the two."""

    wordings: tuple[str, ...]
    """With the numbers' names in braces."""
    draw: Callable[[random.Random], dict[str, int]]
    solve: Callable[[Numbers], int]
    gold: tuple[tuple[str, str], ...]
    """(thought, program) for each call; `$name` in a program is a number."""
    mistakes: Mapping[str, tuple[str, str]]
    """Mistake -> (text in the gold programs, what stands there instead)."""


def _multiples(n: Numbers) -> int:
    def below(limit: int) -> int:
        return limit // n["p"] + limit // n["q"] - limit // lcm(n["p"], n["q"])

    return below(n["b"]) - below(n["a"] - 1)


def _digit_sums(n: Numbers) -> int:
    """Numbers of d digits, leading zeros allowed, by inclusion and exclusion over digits above 9."""
    digits, total = n["d"], n["s"]
    return sum(
        (-1) ** k * comb(digits, k) * comb(total - 10 * k + digits - 1, digits - 1)
        for k in range(digits + 1)
        if total >= 10 * k
    )


def _primes(n: Numbers) -> int:
    sieve = [True] * (n["b"] + 1)
    sieve[:2] = [False, False]
    for i in range(2, n["b"] + 1):
        if sieve[i]:
            sieve[2 * i :: i] = [False] * len(sieve[2 * i :: i])
    return sum(i for i in range(n["a"], n["b"] + 1) if sieve[i])


def _recurrence(n: Numbers) -> int:
    """By powers of the 2 x 2 matrix of one step."""
    modulus = n["m"]

    def times(x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
        (a, b, c, d), (e, f, g, h) = x, y
        return (
            (a * e + b * g) % modulus,
            (a * f + b * h) % modulus,
            (c * e + d * g) % modulus,
            (c * f + d * h) % modulus,
        )

    power, base, left = (1, 0, 0, 1), (n["p"], n["q"], 1, 0), n["n"] - 1
    while left:
        power = times(power, base) if left & 1 else power
        base, left = times(base, base), left >> 1
    return (power[0] * n["y"] + power[1] * n["x"]) % modulus


def _circle(n: Numbers) -> int:
    survivor = 0
    for size in range(2, n["n"] + 1):
        survivor = (survivor + n["k"]) % size
    return survivor + 1


def _coins(n: Numbers) -> int:
    return sum(
        (n["s"] - n["z"] * k - n["y"] * j) % n["x"] == 0
        for k in range(n["s"] // n["z"] + 1)
        for j in range((n["s"] - n["z"] * k) // n["y"] + 1)
    )


def _steps(n: Numbers) -> int:
    value, steps = n["n"], 0
    while value != 1:
        value, steps = (3 * value + 1, steps + 1) if value % 2 else (value // 2, steps + 1)
    return steps


def _pairs(n: Numbers) -> int:
    """Pairs x < y whose sum m divides, from the count of each remainder."""
    modulus, counts = n["m"], [0] * n["m"]
    for x in range(1, n["n"] + 1):
        counts[x % modulus] += 1
    ordered = sum(counts[r] * counts[-r % modulus] for r in range(modulus))
    with_itself = sum(counts[r] for r in range(modulus) if 2 * r % modulus == 0)
    return (ordered - with_itself) // 2


PUZZLES: Mapping[str, Puzzle] = {
    "multiples": Puzzle(
        wordings=(
            "How many whole numbers from {a} to {b}, both included, are divisible by {p} or by {q}?",
            "Count the multiples of {p} or {q} among the whole numbers from {a} to {b}, both included.",
        ),
        draw=lambda rng: {
            "a": rng.randrange(100, 900),
            "b": rng.randrange(1_000, 9_000),
            **dict(zip("pq", rng.sample(range(3, 20), 2), strict=True)),
        },
        solve=_multiples,
        gold=(("count them", "sum(1 for x in range($a, $b + 1) if x % $p == 0 or x % $q == 0)"),),
        mistakes={"both instead of either": (" or ", " and ")},
    ),
    "digit sums": Puzzle(
        wordings=(
            "How many whole numbers from 0 to 10^{d} - 1 have digits that add up to {s}?",
            "Count the whole numbers below 10^{d} whose digit sum is {s}.",
        ),
        draw=lambda rng: {"d": rng.randrange(3, 6), "s": rng.randrange(5, 25)},
        solve=_digit_sums,
        gold=(("try all", "sum(1 for x in range(10 ** $d) if sum(map(int, str(x))) == $s)"),),
        mistakes={"wrong power": ("10 ** $d", "10 ** ($d - 1)")},
    ),
    "primes": Puzzle(
        wordings=(
            "What is the sum of all primes from {a} to {b}?",
            "Add up the prime numbers that are at least {a} and at most {b}. What is the sum?",
        ),
        draw=lambda rng: {"a": rng.randrange(2, 100), "b": rng.randrange(150, 2_000)},
        solve=_primes,
        gold=(
            (
                "a test for primes",
                "def is_prime(n):\n    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))",
            ),
            ("add them up", "sum(n for n in range($a, $b + 1) if is_prime(n))"),
        ),
        mistakes={"squares of primes pass": ("int(n ** 0.5) + 1", "int(n ** 0.5)")},
    ),
    "recurrence": Puzzle(
        wordings=(
            "A sequence begins with a(0) = {x} and a(1) = {y}. Every later term is {p} times the one before it plus {q} times "
            "the one before that. What is the remainder of a({n}) divided by {m}?",
            "Let a(0) = {x}, a(1) = {y} and a(k) = {p} a(k-1) + {q} a(k-2). What is a({n}) modulo {m}?",
        ),
        draw=lambda rng: {
            "x": rng.randrange(10),
            "y": rng.randrange(1, 10),
            "p": rng.randrange(1, 6),
            "q": rng.randrange(1, 6),
            "n": rng.randrange(20, 500),
            "m": rng.randrange(50, 1_000),
        },
        solve=_recurrence,
        gold=(
            (
                "follow it step by step",
                "a, b = $x, $y\nfor _ in range($n - 1):\n    a, b = b, ($p * b + $q * a) % $m\nb % $m",
            ),
        ),
        mistakes={"one step too many": ("range($n - 1)", "range($n)")},
    ),
    "circle": Puzzle(
        wordings=(
            "{n} people stand in a circle, numbered from 1. Counting begins at number 1 and every {k}th person leaves until "
            "one is left. Which number is left?",
            "In a circle of {n} people with numbers 1 to {n}, each {k}th of those still there goes out, counted from number 1. "
            "What is the number of the last one?",
        ),
        draw=lambda rng: {"n": rng.randrange(10, 300), "k": rng.randrange(4, 12)},
        solve=_circle,
        gold=(
            (
                "play it through",
                "people, at = list(range(1, $n + 1)), 0\nwhile len(people) > 1:\n    at = (at + $k - 1) % len(people)\n"
                "    people.pop(at)\npeople[0]",
            ),
        ),
        mistakes={"one too far each time": ("at + $k - 1", "at + $k"), "numbered from zero": ("1, $n + 1", "$n")},
    ),
    "coins": Puzzle(
        wordings=(
            "In how many ways can {s} cents be paid with coins of {x}, {y} and {z} cents, in any number of each?",
            "Coins are worth {x}, {y} and {z} cents. How many different handfuls of them are worth {s} cents?",
        ),
        draw=lambda rng: {
            "s": rng.randrange(50, 400),
            **dict(zip("xyz", sorted(rng.sample(range(2, 26), 3)), strict=True)),
        },
        solve=_coins,
        gold=(
            (
                "one coin after another, so that order doesn't count",
                "ways = [1] + [0] * $s\nfor coin in ($x, $y, $z):\n    for total in range(coin, $s + 1):\n"
                "        ways[total] += ways[total - coin]\nways[$s]",
            ),
        ),
        mistakes={"each coin only once": ("range(coin, $s + 1)", "range($s, coin - 1, -1)")},
    ),
    "steps": Puzzle(
        wordings=(
            "Start with {n}. An even number is halved, an odd one is tripled and increased by 1. After how many steps is it 1 "
            "for the first time?",
            "Take {n}; halve it when it is even, else replace it by three times itself plus 1. How many steps lead to 1?",
        ),
        draw=lambda rng: {"n": rng.randrange(30, 100_000)},
        solve=_steps,
        gold=(
            (
                "count the steps",
                "n, steps = $n, 0\nwhile n != 1:\n    n = n // 2 if n % 2 == 0 else 3 * n + 1\n    steps += 1\nsteps",
            ),
        ),
        mistakes={"the start counts as a step": ("$n, 0", "$n, 1")},
    ),
    "pairs": Puzzle(
        wordings=(
            "How many pairs of whole numbers x < y from 1 to {n} have a sum that is divisible by {m}?",
            "From the whole numbers 1 to {n} two different ones are taken; order doesn't count. For how many choices does {m} "
            "divide the sum?",
        ),
        draw=lambda rng: {"n": rng.randrange(20, 300), "m": rng.randrange(3, 30)},
        solve=_pairs,
        gold=(
            (
                "try all pairs",
                "sum(1 for y in range(1, $n + 1) for x in range(1, y) if (x + y) % $m == 0)",
            ),
        ),
        mistakes={"a number with itself": ("range(1, y)", "range(1, y + 1)")},
    ),
}


class Code(Environment):
    """Problems by seed, without end, that a few lines of Python answer.

    Args:
        packages: installed distributions that the model's code can import beside the standard library.
        seconds: the longest that one call may take.
    """

    name = "code"
    phrases = (
        "range(",
        "sum(1 for ",
        " for x in ",
        "while ",
        " + 1)",
        " % ",
        " == 0",
        "\n    ",
        "How many whole numbers ",
    )

    def __init__(self, packages: Sequence[str] = (), seconds: float = BOUNDS.seconds) -> None:
        self._tools: dict[str, Tool] = {"python": Python(replace(BOUNDS, seconds=seconds), packages=packages)}

    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        """Problems without end. Raises `UserError` at once where code can't be run safely on this machine."""
        require_sandbox()
        return self._generate(rng)

    def _generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            kind = rng.choice(list(PUZZLES))
            numbers = PUZZLES[kind].draw(rng)
            yield self._problem(kind, numbers, rng.choice(PUZZLES[kind].wordings))

    def _problem(self, kind: str, numbers: dict[str, int], wording: str) -> Problem:
        puzzle, question = PUZZLES[kind], wording.format(**numbers)
        data: dict[str, Any] = {"key": f"{kind}:{numbers}", "kind": kind, "numbers": numbers}
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=str(puzzle.solve(numbers)),
            tools=("python",),
            min_calls=len(puzzle.gold),
            data=data,
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        puzzle = PUZZLES[problem.data["kind"]]
        gold = Course(steps=self._steps(problem, puzzle.gold))
        mistaken = [
            Course(
                steps=self._steps(problem, [(thought, code.replace(right, wrong)) for thought, code in puzzle.gold]),
                mistake=mistake,
            )
            for mistake, (right, wrong) in puzzle.mistakes.items()
        ]
        return [gold, *mistaken]

    def _steps(self, problem: Problem, written: Sequence[tuple[str, str]]) -> tuple[Step, ...]:
        numbers = problem.data["numbers"]
        return tuple(
            Step(
                thought=thought,
                call=ToolCall(name="python", arguments={"code": Template(code).substitute(numbers)}),
            )
            for thought, code in written
        )

    def verify(self, problem: Problem, answer: str) -> bool:
        return same_answer(problem.answer, answer)

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 24))
