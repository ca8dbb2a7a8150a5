"""Gaps in derivations and tool traces, to be filled: MR-RLVR's masked-then-fill (#173).

The typical mistakes: copying another number of the text, leaving the gaps open.
"""

import json
import random
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, validate
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.selftext.scores import TASK_FORMAT, filled, read_list
from journeyman.environments.selftext.texts import SelfText, Trace, stock_trace, sums
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext

LONGEST = 250
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-])")


def gap(number: int) -> str:
    """What stands in place of the n-th masked value."""
    return f"[MASK {number}]"


class Masking(SelfText):
    """Numbers of a text, argument values or tool names of a trace, left out and to be found again (#173).

    What is left out stands nowhere else in what is shown: no gap can be filled by copying.

    Args:
        texts: documents; none: made on the spot, small calculations and traces.
        folder: a folder of text files.
        trajectories: a Parquet file of trajectories.
        traces: traces in memory.
        masks: fewest and most gaps.
        longest: most words of a text; longer ones are cut into passages.
    """

    name = "masking"
    phrases: tuple[str, ...] = ("Fill the gaps. Give what they hide as a JSON list, in order.",)

    def __init__(
        self,
        *,
        texts: Sequence[str] = (),
        folder: str = "",
        trajectories: str = "",
        traces: Sequence[Trace] = (),
        masks: Sequence[int] = (1, 3),
        longest: int = LONGEST,
    ) -> None:
        super().__init__(texts=texts, folder=folder, trajectories=trajectories, traces=traces, longest=longest)
        self._fewest, self._most = min(masks), max(masks)

    def make(self, rng: random.Random) -> str | Trace:
        if rng.random() < 0.5:
            return sums(rng, rng.randint(self._fewest, self._most + 1))
        return stock_trace(rng, rng.randint(self._fewest + 1, self._most + 2))

    def usable(self, document: str | Trace) -> bool:
        found = _of_text(document) if isinstance(document, str) else _of_trace(document)
        return len(found) >= self._fewest

    def problem(self, document: str | Trace, rng: random.Random) -> Problem | None:
        found = _of_text(document) if isinstance(document, str) else _of_trace(document)
        if len(found) < self._fewest:
            return None
        if isinstance(document, str) and not self.given:
            found = [one for one in found if _is_result(document, one[0])] or found
        count = rng.randint(self._fewest, max(self._fewest, min(self._most, len(found))))
        if len(found) < count:
            return None
        chosen = sorted(rng.sample(found, count), key=lambda one: one[0])
        shown = document if isinstance(document, str) else _rendered(document)
        for number, (start, stop, _) in reversed(list(enumerate(chosen, start=1))):
            shown = f"{shown[:start]}{gap(number)}{shown[stop:]}"
        values = [value for _, _, value in chosen]
        question = f"{self.phrases[0]}\n{shown}"
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=json.dumps(values, ensure_ascii=False),
            data={"key": question, "masks": count},
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return MaskingEpisode(self, problem, context)

    def verify(self, problem: Problem, answer: str) -> bool:
        return fill_parts(problem, answer)["fill"] == 1.0

    def courses(self, problem: Problem) -> Sequence[Course]:
        values = json.loads(problem.answer)
        other = _NUMBER.findall(problem.question.replace("[MASK", "[")) or ["0"]
        return (
            Course(steps=(), answer=problem.answer),
            Course(steps=(), answer=json.dumps([other[-1], *values[1:]]), mistake="copies another number"),
            Course(steps=(), answer=json.dumps(["unknown"] * len(values)), mistake="leaves the gaps open"),
        )

    def validate(self) -> None:
        """Gold fillings are right, copies are not."""
        validate(self, islice(self.generate(random.Random(0)), 60))


def fill_parts(problem: Problem, answer: str) -> dict[str, float]:
    """`format`: a list of as many values as there are gaps; `fill`: the share of the gaps that are right."""
    wanted = json.loads(problem.answer)
    given = read_list(answer, len(wanted))
    return {"format": float(given is not None), "fill": filled(given, wanted) if given else 0.0}


class MaskingEpisode(Episode):
    """Scores every gap: 0.1 for the format and the share of the gaps, by their highest, 1.1."""

    async def verify(self, answer: str | None) -> Verdict:
        parts = fill_parts(self.problem, answer or "")
        parts["raw"] = TASK_FORMAT * parts["format"] + parts["fill"]
        return Verdict(correct=parts["fill"] == 1.0, score=parts["raw"] / (1 + TASK_FORMAT), parts=parts)


Span = tuple[int, int, Any]
"""Where a value stands in what is shown, and the value."""


def _of_text(text: str) -> list[Span]:
    """Numbers that stand only once."""
    return [
        (found.start(), found.end(), found.group())
        for found in _NUMBER.finditer(text)
        if len(re.findall(rf"(?<!\d){re.escape(found.group())}(?!\d)", text)) == 1
    ]


def _is_result(text: str, at: int) -> bool:
    """Whether a number of a made text follows from others, rather than being given."""
    return text[:at].endswith(("That makes ", "Now there are "))


def _rendered(trace: Trace) -> str:
    steps = "\n".join(f"call: {action.call()}\nresult: {action.output}" for action in trace.actions)
    return f"Tools: {', '.join(trace.tools)}\nAsked was: {trace.question}\n{steps}"


def _of_trace(trace: Trace) -> list[Span]:
    """Tool names, to be chosen among those on offer, and plain argument values that stand nowhere else."""
    shown, at, found = _rendered(trace), 0, []
    for action in trace.actions:
        call = action.call()
        at = shown.index(call, at)
        start = at + len('{"name": ')
        if len(trace.tools) > 1:
            found.append((start, start + len(json.dumps(action.name)), action.name))
        inside = start + len(json.dumps(action.name))
        for key, value in action.arguments.items():
            key_at = call.index(f"{json.dumps(key, ensure_ascii=False)}: ", inside - at) + at
            start = key_at + len(json.dumps(key, ensure_ascii=False)) + 2
            text = json.dumps(value, ensure_ascii=False)
            inside = start + len(text)
            elsewhere = f"{shown[:start]} {shown[inside:]}"
            if not isinstance(value, bool | dict | list | None) and not _stands(str(value), elsewhere):
                found.append((start, inside, value))
        at += len(call)
    return found


def _stands(value: str, text: str) -> bool:
    """Whether a value can be copied from a text."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, flags=re.IGNORECASE) is not None
