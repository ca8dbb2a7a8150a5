"""Shuffled parts of a text whose order is asked for: Visual Jigsaw on text (#169), with MR-RLVR's measure beside (#173).

The typical mistakes: two neighbours changed places, the order left as it was shown.
"""

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import combinations, islice
from typing import Any

from journeyman.environments.base import Course, validate
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.selftext.scores import FORMAT, TASK_FORMAT, in_order, jigsaw, read_order
from journeyman.environments.selftext.texts import SelfText, Trace, chain, dependencies, lines, only_order, sentences
from journeyman.messages import ParsedTurn
from journeyman.problem import Problem, problem_id
from journeyman.tools.base import CallContext


class Parts(StrEnum):
    """What a text is cut into."""

    SENTENCES = "sentences"
    LINES = "lines"


class Measure(StrEnum):
    """What the score is."""

    JIGSAW = "jigsaw"
    """The raw score of #169, which stays in the parts, by its highest, 1.2; never below 0."""
    INVERSIONS = "inversions"
    """Pairs in the right order (#173) and 0.1 for the format, by their highest, 1.1."""


class Ordering(SelfText):
    """Parts of a text, steps of a trace, or results of given calls, to be brought back into their order (#169, #173).

    Args:
        texts: documents; none: made on the spot, each sentence using what the one before made.
        folder: a folder of text files.
        trajectories: a Parquet file of trajectories.
        traces: traces in memory.
        parts: what a text is cut into: sentences or lines.
        length: fewest and most parts.
        causal: use only runs in which each part depends on the one before; without it any run of parts is used, and
            parts that may change places are not told apart.
        measure: what the score is: jigsaw or inversions.
    """

    name = "ordering"
    phrases: tuple[str, ...] = ("These parts are out of order.", "Give the right order as numbers with commas.")

    def __init__(
        self,
        *,
        texts: Sequence[str] = (),
        folder: str = "",
        trajectories: str = "",
        traces: Sequence[Trace] = (),
        parts: str = Parts.SENTENCES,
        length: Sequence[int] = (3, 7),
        causal: bool = True,
        measure: str = Measure.JIGSAW,
    ) -> None:
        super().__init__(texts=texts, folder=folder, trajectories=trajectories, traces=traces)
        self._cut = {Parts.SENTENCES: sentences, Parts.LINES: lines}[Parts(parts)]
        self._fewest, self._most, self._causal = min(length), max(length), causal
        self.measure = Measure(measure)

    def make(self, rng: random.Random) -> str:
        return chain(rng, rng.randint(self._fewest, self._most))

    def usable(self, document: str | Trace) -> bool:
        parts = self._parts(document)
        runs = (parts[at : at + self._fewest] for at in range(len(parts) - self._fewest + 1))
        return any(self._clear(run) for run in runs)

    def _parts(self, document: str | Trace) -> list[str]:
        if isinstance(document, str):
            return self._cut(document)
        return [f"{action.call()} -> {action.output}" for action in document.actions]

    def _clear(self, parts: Sequence[str]) -> bool:
        """Whether the parts differ, and where it is asked for have one order only."""
        return len(set(parts)) == len(parts) and (not self._causal or only_order(parts))

    def problem(self, document: str | Trace, rng: random.Random) -> Problem | None:
        parts = self._parts(document)
        count = rng.randint(self._fewest, min(self._most, len(parts)))
        at = rng.randint(0, len(parts) - count)
        run, given = parts[at : at + count], ""
        if not self._clear(run):
            return None
        pairs = sorted(dependencies(run))
        if isinstance(document, Trace):
            given = f"Asked was: {document.question}\n"
            if rng.random() < 0.5:  # the results of calls that are given
                calls = [action.call() for action in document.actions[at : at + count]]
                run = [action.output for action in document.actions[at : at + count]]
                given += "The calls, in order:\n" + "\n".join(calls) + "\nThe parts are their results.\n"
        if len(set(run)) < count:
            return None
        shown = rng.sample(range(count), count)  # label k + 1 stands before part shown[k]
        if shown == sorted(shown):
            return None
        gold = [shown.index(place) + 1 for place in range(count)]
        return self._problem(given, [run[place] for place in shown], gold, pairs)

    def _problem(
        self, given: str, shown: Sequence[str], gold: Sequence[int], pairs: Sequence[tuple[int, int]]
    ) -> Problem:
        listed = "\n".join(f"{label}. {part}" for label, part in enumerate(shown, start=1))
        asked, how = self.phrases
        question = f"{asked} {how}\n{given}{listed}"
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=_text(gold),
            data={"key": question, "pairs": [list(pair) for pair in pairs]},
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return OrderingEpisode(self, problem, context)

    def verify(self, problem: Problem, answer: str) -> bool:
        return read_order(answer) == read_order(problem.answer)

    def courses(self, problem: Problem) -> Sequence[Course]:
        gold = read_order(problem.answer) or []
        at = len(problem.question) % (len(gold) - 1)
        swapped = [*gold[:at], gold[at + 1], gold[at], *gold[at + 2 :]]
        return (
            Course(steps=(), answer=problem.answer),
            Course(steps=(), answer=_text(swapped), mistake="two neighbours change places"),
            Course(steps=(), answer=_text(sorted(gold)), mistake="leaves the order as it is"),
        )

    def validate(self) -> None:
        """Gold orders are right, others are not, and no part could stand elsewhere."""
        problems = list(islice(self.generate(random.Random(0)), 60))
        validate(self, problems)
        for problem in problems:
            count = len(read_order(problem.answer) or [])
            neighbours = {(i, i + 1) for i in range(count - 1)}
            if self._causal and not neighbours <= {tuple(pair) for pair in problem.data["pairs"]}:
                raise ValueError(f"{self.name} {problem.id}: its parts may change places")


class OrderingEpisode(Episode):
    """Keeps what was written, for the penalty on repeated lines."""

    environment: Ordering

    def __init__(self, environment: Ordering, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._written: list[str] = []

    async def step(self, turn: ParsedTurn) -> Reaction:
        self._written.append(turn.text)
        return await super().step(turn)

    async def verify(self, answer: str | None) -> Verdict:
        gold = read_order(self.problem.answer) or []
        parts = jigsaw(answer or "", gold, "\n".join(self._written))
        pairs = [(first, second) for first, second in self.problem.data["pairs"]]
        depends = in_order(answer or "", gold, pairs or combinations(range(len(gold)), 2))
        parts |= {"inversions": in_order(answer or "", gold), "dependences": depends}
        score = max(0.0, parts["raw"]) / (1 + FORMAT)
        if self.environment.measure is Measure.INVERSIONS:
            score = (TASK_FORMAT * (parts["format"] > 0) + parts["inversions"]) / (1 + TASK_FORMAT)
        return Verdict(correct=parts["order"] == 1.0, score=score, parts=parts)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "written": list(self._written)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._written = list(state["written"])


def _text(order: Sequence[int]) -> str:
    return ",".join(map(str, order))
