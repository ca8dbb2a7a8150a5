"""Which tools of a numbered catalogue do a task: PhysToolBench as text (#57). Nothing is called; the answer is numbers.

Recognition: one tool does it. Understanding: the obvious one is there, but can't in its present state, and another can.
Creation: no tool does it alone, two together do. Typical mistakes: the obvious tool whatever its state, the first of two
alone, and one tool too many.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, Environment, validate
from journeyman.problem import Problem, problem_id

THINGS = ("scan", "letter", "table", "chart", "speech", "song", "photo", "map", "film", "list")
VERBS = ("turns", "makes", "converts")
FLAWS = ("its quota is spent", "it is read-only", "its index is stale", "it is being repaired", "its key has expired")
LEVELS = ("recognition", "understanding", "creation")
_NUMBER = re.compile(r"\b[0-9]{1,6}\b")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tool of the catalogue."""

    source: str
    target: str
    flaw: str = ""

    def line(self, number: int, verb: str) -> str:
        state = self.flaw or "it is ready"
        return f"{number}. {verb} a {self.source} into a {self.target}; {state}"


class ToolChoice(Environment):
    """Tasks over a numbered catalogue of tools, in three levels: PhysToolBench (#57, verified) as text.

    A problem's `data["tool_set"]` has its level and the numbers; an answer is right where it names exactly these, in any
    order. The catalogues and their words are ours; the authors show pictures of things.

    Args:
        entries: tools in a catalogue.
        levels: which levels there are.
    """

    name = "tool_choice"
    phrases = ("Which of these tools are needed to turn a ", "Answer with their numbers and commas.", *FLAWS)

    def __init__(self, *, entries: int = 6, levels: Sequence[str] = LEVELS) -> None:
        if not 4 <= entries <= 20 or not levels or not set(levels) <= set(LEVELS):
            raise ValueError(f"entries must be from 4 to 20, levels among {', '.join(LEVELS)}")
        self._entries, self._levels = entries, tuple(levels)

    def generate(self, rng: random.Random) -> Iterator[Problem]:
        while True:
            yield self._problem(rng.choice(self._levels), rng)

    def _problem(self, level: str, rng: random.Random) -> Problem:
        source, middle, target, *others = rng.sample(THINGS, len(THINGS))
        needed = {
            "recognition": [_Entry(source, target)],
            "understanding": [_Entry(source, target)],
            "creation": [_Entry(source, middle), _Entry(middle, target)],
        }[level]
        obvious = [_Entry(source, target, rng.choice(FLAWS))] if level == "understanding" else []
        # What begins at the source ends elsewhere, and nothing leads from there to the target: no other way is left.
        misleading = [_Entry(source, others[0]), _Entry(others[1], target), _Entry(others[2], source)]
        entries = [*needed, *obvious, *misleading]
        while len(entries) < self._entries:
            first, second = rng.sample(others[3:], 2)
            entries.append(_Entry(first, second, rng.choice(("", *FLAWS))))
        shown = rng.sample(entries[: self._entries], self._entries)
        gold = sorted(shown.index(entry) + 1 for entry in needed)
        extra = shown.index(misleading[0]) + 1 if misleading[0] in shown else 0
        numbers = {"level": level, "tools": gold}
        wrong = {"obvious": [shown.index(entry) + 1 for entry in obvious], "extra": [extra] if extra else []}
        return self._asked(
            f"{source} into a {target}", [e.line(n, rng.choice(VERBS)) for n, e in enumerate(shown, 1)], numbers, wrong
        )

    def _asked(
        self, task: str, lines: Sequence[str], numbers: Mapping[str, Any], wrong: Mapping[str, Sequence[int]]
    ) -> Problem:
        asked, how = self.phrases[:2]
        question = f"{asked}{task}? {how}\n" + "\n".join(lines)
        data = {"tool_set": dict(numbers), "wrong": dict(wrong), "key": question}
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=_written(numbers["tools"]),
            data=data,
        )

    def courses(self, problem: Problem) -> Sequence[Course]:
        gold, wrong = problem.data["tool_set"]["tools"], problem.data["wrong"]
        mistaken = {
            "takes the obvious tool": wrong["obvious"],
            "stops after the first": gold[:1] if len(gold) > 1 else [],
            "takes one too many": [*gold, *wrong["extra"]] if wrong["extra"] else [],
        }
        right = Course(steps=(), answer=_written(gold))
        return [right, *(Course(steps=(), answer=_written(n), mistake=m) for m, n in mistaken.items() if n)]

    def verify(self, problem: Problem, answer: str) -> bool:
        return named(answer) == set(problem.data["tool_set"]["tools"])

    def validate(self) -> None:
        validate(self, islice(self.generate(random.Random(0)), 60))


def named(answer: str) -> set[int]:
    """The numbers in an answer."""
    return {int(number) for number in _NUMBER.findall(answer)}


def _written(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
