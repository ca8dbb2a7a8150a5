"""What comes next in a text, or between two pieces of it: RLPT's next and middle segments (#185).

The typical mistakes: writing nothing, saying the segment before again, the right call with other arguments.
"""

import json
import random
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import Any

from journeyman.environments.base import Course, validate
from journeyman.environments.episode import Episode, Verdict
from journeyman.environments.selftext.scores import continues, same_call
from journeyman.environments.selftext.texts import SelfText, Trace, schedule, sentences, stock_trace
from journeyman.errors import InfrastructureError
from journeyman.llm import Chat
from journeyman.messages import Message
from journeyman.problem import Problem, problem_id
from journeyman.seeds import derive
from journeyman.tools.base import CallContext

LONGEST = 250
_JUDGE = (
    "Does the prediction say the same as the beginning of the true continuation? Say yes or no only.\n"
    "True continuation: {truth}\nPrediction: {prediction}"
)


class Kind(StrEnum):
    """What is asked for."""

    NEXT = "next"
    """The segment after a beginning (ASR)."""
    MIDDLE = "middle"
    """The segment between a beginning and what follows it (MSR)."""
    CALL = "call"
    """The call that leads from one observation to the next: MSR on a trace."""


class Segments(SelfText):
    """The next segment of a text, the one in the middle, or the call between two observations (#185).

    A call is right as JSON, name and arguments. Prose is right by `continues`, or by what a judge says.

    Args:
        texts: documents; none: made on the spot, logs by a rule and traces.
        folder: a folder of text files.
        trajectories: a Parquet file of trajectories.
        traces: traces in memory.
        kinds: what is asked for of texts: next, middle or both. Of traces it is always calls.
        segment: sentences of a segment.
        before: fewest segments that a beginning has.
        words: fewest words of a segment: shorter ones are boilerplate.
        longest: most words of a text; longer ones are cut into passages.
        judge: a model that compares prose; empty predictions never reach it.
    """

    name = "segments"
    phrases: tuple[str, ...] = (
        "Write the next sentence of this text, as it says it:",
        "Write the sentence that is missing, as the text would say it:",
        'Which call leads from the first observation to the second? Give it as JSON, {"name": ..., "arguments": {...}}.',
    )

    def __init__(
        self,
        *,
        texts: Sequence[str] = (),
        folder: str = "",
        trajectories: str = "",
        traces: Sequence[Trace] = (),
        kinds: Sequence[str] = (Kind.NEXT, Kind.MIDDLE),
        segment: int = 1,
        before: int = 3,
        words: int = 4,
        longest: int = LONGEST,
        judge: Chat | None = None,
    ) -> None:
        super().__init__(texts=texts, folder=folder, trajectories=trajectories, traces=traces, longest=longest)
        self._kinds, self._segment, self._before, self._words = [Kind(kind) for kind in kinds], segment, before, words
        self.judge = judge

    def make(self, rng: random.Random) -> str | Trace:
        if rng.random() < 0.6:
            return schedule(rng, (self._before + 2) * self._segment + rng.randint(0, 3))
        return stock_trace(rng, rng.randint(2, 4))

    def usable(self, document: str | Trace) -> bool:
        if isinstance(document, Trace):
            return len(document.actions) > 1
        return bool(self._places(self._segments(document)))

    def _segments(self, text: str) -> list[list[str]]:
        parts = sentences(text)
        return [parts[at : at + self._segment] for at in range(0, len(parts), self._segment)]

    def _places(self, segments: Sequence[Sequence[str]]) -> list[int]:
        """Which segments can be asked for: with enough before, one after, and enough words in them."""
        return [
            at
            for at in range(self._before, len(segments) - 1)
            if sum(len(sentence.split()) for sentence in segments[at]) >= self._words
        ]

    def problem(self, document: str | Trace, rng: random.Random) -> Problem | None:
        if isinstance(document, Trace):
            return self._call_problem(document, rng.randrange(1, len(document.actions)))
        segments = self._segments(document)
        at, kind = rng.choice(self._places(segments)), rng.choice(self._kinds)
        before = " ".join(sentence for segment in segments[:at] for sentence in segment)
        if kind is Kind.NEXT:
            question = f"{self.phrases[0]}\n{before}"
        else:
            question = f"{self.phrases[1]}\n{before} (...) {' '.join(segments[at + 1])}"
        # By the prefix rule a prediction may also go on beyond the segment that was asked for.
        truth = [*segments[at], *(segments[at + 1] if kind is Kind.NEXT else ())]
        answer = " ".join(segments[at])
        return self._problem(question, answer, {"kind": kind, "truth": truth, "last": " ".join(segments[at - 1])})

    def _call_problem(self, trace: Trace, at: int) -> Problem:
        before, action = trace.actions[at - 1], trace.actions[at]
        question = (
            f"{self.phrases[2]}\nTools: {', '.join(trace.tools)}\nAsked was: {trace.question}\n"
            f"First call: {before.call()}\nFirst observation: {before.output}\nSecond observation: {action.output}"
        )
        wrong = {"name": action.name, "arguments": {**action.arguments, "other": 1}}
        data = {"kind": Kind.CALL, "name": action.name, "arguments": dict(action.arguments), "last": json.dumps(wrong)}
        return self._problem(question, action.call(), data)

    def _problem(self, question: str, answer: str, data: dict[str, Any]) -> Problem:
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=answer,
            data={"key": question, **data},
        )

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return SegmentsEpisode(self, problem, context)

    def verify(self, problem: Problem, answer: str) -> bool:
        """Without a judge."""
        data = problem.data
        if data["kind"] == Kind.CALL:
            return same_call(answer, data["name"], data["arguments"])
        return continues(answer, data["truth"])

    def courses(self, problem: Problem) -> Sequence[Course]:
        mistake = "other arguments" if problem.data["kind"] == Kind.CALL else "says the segment before again"
        return (
            Course(steps=(), answer=problem.answer),
            Course(steps=(), answer=problem.data["last"], mistake=mistake),
            Course(steps=(), answer="And so it goes on.", mistake="says nothing in particular"),
        )

    def validate(self) -> None:
        """True segments are right; empty, generic and repeated ones are not."""
        validate(self, islice(self.generate(random.Random(0)), 60))


class SegmentsEpisode(Episode):
    """Asks the judge, where there is one and the segment is prose."""

    environment: Segments

    async def verify(self, answer: str | None) -> Verdict:
        judge, data = self.environment.judge, self.problem.data
        if judge is None or data["kind"] == Kind.CALL or not (answer or "").strip():
            return Verdict.of(self.environment.verify(self.problem, answer or ""))
        asked = _JUDGE.format(truth=" ".join(data["truth"]), prediction=answer)
        seed = derive("segments judge", self.context.seed)
        said = await judge.complete([Message(role="user", content=asked)], seed=seed, max_tokens=8)
        word = said.strip().casefold()[:3].rstrip(".,!")
        if word not in ("yes", "no"):
            raise InfrastructureError(f"the judge said neither yes nor no: {said[:80]!r}")
        return Verdict.of(word == "yes", judged=1.0)
