"""Observations that a judge annotates in the background: what helps is paid turn by turn, the less the more often it comes.

A judge is asked about what a step has brought, and heard when the next step is scored. What it was asked and has not been
heard on is part of the history, so that a killed stage goes on as if it had not been killed. A judge that can't be asked
while the policy samples, such as the policy itself, is asked at once, and its answers wait for the next step as well.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from journeyman.expressions import Count, NotNegative, Positive
from journeyman.rewards.base import (
    UNSCORED,
    DeferringJudge,
    Encoder,
    Group,
    History,
    Judge,
    Score,
    TurnScores,
    per_turn,
)
from journeyman.rewards.judge import agreed, question, quoted, read_choice, read_yes_no, shortened
from journeyman.rewards.observations import array_from_json, array_to_json, embedded, forget, running, slotted
from journeyman.rewards.outcome import told
from journeyman.seeds import derive
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy as np

LABELS, WAITING = 20_000, 1_000
"""Observations whose label is known, and that wait to be asked about; beyond, the oldest go (ours)."""
DIMENSIONS = 64
"""Of an observation's vector: that of the encoder, thrown onto so many (ours)."""


def oni_retrieval(
    group: Group, *, beta: NotNegative = 3.0, batch: Count = 100, judge: Judge, history: History
) -> TurnScores:
    """ONI (#72, verified) with retrieval: a turn earns 1 / N^beta for each result that a judge has found helpful.

    N is how often the observation, with slots for ids, numbers and times, has come in the attempt so far. What has no
    label yet earns 0, as what is not helpful does. At most `batch` observations a step are asked about, those that came
    last first; an answer that can't be read is a no, as in their code. `0.1 * correct + 0.4 * oni_retrieval` are the
    authors' weights for a task with a score.

    A label belongs to a family and an observation, and is asked with the request of the attempt that brought it. The
    wording, the slots' form and temperature 0 (theirs is 0.1) are ours. The part `known` is the share of results that have a
    label. What a user says is not annotated. A reward has one `oni_retrieval`.
    """

    def learn(note: dict[str, Any], rounds: "Sequence[_Round]") -> None:
        """The labels are all there is."""

    def values(note: dict[str, Any], seen: "Sequence[_Observation]") -> Mapping[str, float]:
        return {one.key: note["labels"].get(one.key, 0.0) for one in seen}

    return _annotated("oni_retrieval", group, beta, _Annotator(judge, history, batch, _singles, learn, values))


def oni_classification(
    group: Group,
    *,
    beta: NotNegative = 3.0,
    batch: Count = 100,
    rate: Positive = 1.0,
    judge: Judge,
    encoder: Encoder,
    history: History,
) -> TurnScores:
    """ONI (#72, verified) with classification: as `oni_retrieval`, but a model that learns the labels says what is helpful.

    It is paid where the model's probability is above 0.5, so that what was never asked about is paid, too. The model is a
    logistic one over the observation's vector, with one gradient step of `rate` a label as they come in (ours: the authors
    train a network). A reward has one `oni_classification`.
    """

    def learn(note: dict[str, Any], rounds: "Sequence[_Round]") -> None:
        inputs = _inputs([one for asked in rounds for one in asked.about], encoder)
        weights = _weights(note)
        for asked in rounds:
            [one], [label] = asked.about, asked.labels()
            x = inputs[one.key]
            weights = weights + rate * (label - _sigmoid(weights, x)) * x
        note["weights"] = array_to_json(weights)

    def values(note: dict[str, Any], seen: "Sequence[_Observation]") -> Mapping[str, float]:
        weights = _weights(note)
        return {key: float(_sigmoid(weights, x) > 0.5) for key, x in _inputs(seen, encoder).items()}

    return _annotated("oni_classification", group, beta, _Annotator(judge, history, batch, _singles, learn, values))


def oni_ranking(
    group: Group,
    *,
    beta: NotNegative = 3.0,
    batch: Count = 100,
    rate: Positive = 1.0,
    judge: Judge,
    encoder: Encoder,
    history: History,
) -> TurnScores:
    """ONI (#72, verified) with ranking: a judge compares observations, and a turn earns their Bradley-Terry score / N^beta.

    The score is linear in the observation's vector, with one gradient step of `rate` a comparison (ours: the authors train a
    network), less its running mean, over its running standard deviation. Of a family's observations that were not compared
    yet the two that came last make a pair, then the next two, at most `batch` a step; both are asked in both orders, and a
    judge that changes its mind with the order has called it a tie (ours). A reward has one `oni_ranking`.
    """

    def learn(note: dict[str, Any], rounds: "Sequence[_Round]") -> None:
        inputs = _inputs([one for asked in rounds for one in asked.about], encoder)
        weights = _weights(note)
        for asked in rounds:
            first, second = asked.about
            if (preferred := asked.preference()) is not None:
                x = inputs[first.key] - inputs[second.key]
                weights = weights + rate * (preferred - _sigmoid(weights, x)) * x
        note["weights"] = array_to_json(weights)

    def values(note: dict[str, Any], seen: "Sequence[_Observation]") -> Mapping[str, float]:
        weights = _weights(note)
        scores = {key: float((weights * x).sum()) for key, x in _inputs(seen, encoder).items()}
        mean, spread = running(note, "scores", list(scores.values()))
        return {key: (score - mean) / spread for key, score in scores.items()}

    return _annotated("oni_ranking", group, beta, _Annotator(judge, history, batch, _pairs, learn, values))


# ---- a step


@dataclass(frozen=True, slots=True)
class _Observation:
    """What a tool has shown, with slots, and to whom."""

    family: str
    request: str
    text: str

    @property
    def key(self) -> str:
        """The same for whatever shares a label."""
        return f"{derive(self.family, self.text):016x}"


@dataclass(frozen=True, slots=True)
class _Round:
    """What a judge is asked in one go: of one observation, or of a pair in both orders."""

    about: tuple[_Observation, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...] = ()

    def labels(self) -> list[float]:
        """One for each observation; what was compared counts as known."""
        return [float(read_yes_no(self.answers[0]) is True) if len(self.about) == 1 else 1.0 for _ in self.about]

    def preference(self) -> float | None:
        """1 where the first is better; None where an answer can't be read."""
        said = [read_choice(answer, among=("a", "b", "tie")) for answer in self.answers]
        first, swapped = [[one] if one else [] for one in said]
        return agreed(first, swapped)

    @classmethod
    def from_json(cls, row: Sequence[Any]) -> "_Round":
        about, questions, answers = row
        return cls(tuple(_Observation(*one) for one in about), tuple(questions), tuple(answers))


@dataclass(frozen=True, slots=True)
class _Annotator:
    """Who is asked, and what is made of the answers."""

    judge: Judge
    history: History
    batch: int
    rounds: "Callable[[Sequence[_Observation], int], list[_Round]]"
    """What to ask, of observations of which those come first that came last."""
    learn: Callable[[dict[str, Any], Sequence[_Round]], None]
    """From rounds with answers, into the note."""
    values: Callable[[dict[str, Any], Sequence[_Observation]], Mapping[str, float]]
    """What observations are worth, by key."""


def _annotated(name: str, group: Group, beta: float, by: _Annotator) -> list[Score]:
    def step() -> list[list[Score]]:
        note = by.history.note(name)
        labels, waiting = note.setdefault("labels", {}), note.setdefault("waiting", {})
        again = note.get("step") == group.step  # greedy attempts are scored before the others
        note["step"] = group.step
        rounds = [] if again else _heard(name, by)
        labels.update({one.key: label for r in rounds for one, label in zip(r.about, r.labels(), strict=True)})
        by.learn(note, rounds)
        seen = [[_observed(t) if told(t) else [] for t in one] for one in group.groups]
        distinct = {one.key: one for part in seen for turns in part for turn in turns for one in turn}
        values = by.values(note, list(distinct.values()))
        scores = [
            [_paid(t, turns, values, labels, beta) for t, turns in zip(one, part, strict=True)]
            for one, part in zip(group.groups, seen, strict=True)
        ]
        for key, one in distinct.items():
            if key not in labels:
                waiting.pop(key, None)  # what comes again comes last
                waiting[key] = astuple(one)
        forget(waiting, WAITING)
        forget(labels, LABELS)
        if not again:
            _ask(name, by, waiting)
        return scores

    return by.history.once(name, group, step)


def _observed(trajectory: Trajectory) -> list[list[_Observation]]:
    """What each turn's calls have shown."""
    at = (trajectory.family, shortened(trajectory.question))
    return [[_Observation(*at, slotted(result.output)) for result in turn.results] for turn in trajectory.turns]


def _paid(
    trajectory: Trajectory,
    turns: Sequence[Sequence[_Observation]],
    values: Mapping[str, float],
    labels: Mapping[str, float],
    beta: float,
) -> Score:
    if not told(trajectory):
        return UNSCORED
    counts, paid = Counter[str](), []
    for turn in turns:
        paid.append(0.0)
        for one in turn:
            counts[one.key] += 1
            paid[-1] += values[one.key] / counts[one.key] ** beta
    score = per_turn(trajectory, paid, name="annotations")
    keys = [one.key for turn in turns for one in turn]
    known = sum(key in labels for key in keys) / max(1, len(keys))
    return replace(score, parts={**score.parts, "known": known})


# ---- asking and hearing


def _ask(name: str, by: _Annotator, waiting: dict[str, Any]) -> None:
    """Ask about what came last; it waits no longer."""
    newest = [_Observation(*row) for row in reversed(waiting.values())]
    rounds = by.rounds(newest, by.batch)
    for one in (one for asked in rounds for one in asked.about):
        del waiting[one.key]
    if not rounds:
        return
    questions = [text for asked in rounds for text in asked.questions]
    if isinstance(by.judge, DeferringJudge):
        by.history.awaited[name] = by.judge.ask_later(questions)
    else:
        rounds = _answered(rounds, by.judge.ask(questions))
    by.history.note(name)["asked"] = [astuple(asked) for asked in rounds]


def _heard(name: str, by: _Annotator) -> list[_Round]:
    """The rounds of the step before with their answers; asked again where a kill came between."""
    rounds = [_Round.from_json(row) for row in by.history.note(name).pop("asked", ())]
    awaited = by.history.awaited.pop(name, None)
    if not rounds or rounds[0].answers:
        return rounds
    return _answered(rounds, awaited() if awaited else by.judge.ask([q for r in rounds for q in r.questions]))


def _answered(rounds: Sequence[_Round], replies: Sequence[Sequence[str]]) -> list[_Round]:
    left = iter(replies)
    return [replace(asked, answers=tuple(next(left)[0] for _ in asked.questions)) for asked in rounds]


def _singles(newest: Sequence[_Observation], most: int) -> list[_Round]:
    return [_Round((one,), (_helps(one),)) for one in newest[:most]]


def _pairs(newest: Sequence[_Observation], most: int) -> list[_Round]:
    """Neighbours of a family."""
    alone, made = dict[str, _Observation](), list[_Round]()
    for one in newest:
        other = alone.pop(one.family, None)
        if other is None:
            alone[one.family] = one
        elif len(made) < most:
            made.append(_Round((other, one), (_better(other, one), _better(one, other))))
    return made


def _helps(one: _Observation) -> str:
    return question(
        "An assistant works on a request with tools. Does this result of a tool show that it has come nearer to fulfilling "
        "the request? Ids, numbers and times are left out.",
        quoted("request", one.request),
        quoted("result", one.text),
        reply="Reply with one word, yes or no.",
    )


def _better(a: _Observation, b: _Observation) -> str:
    return question(
        "Assistants work on requests with tools. Which result of a tool shows more progress with its request? Ids, numbers "
        "and times are left out.",
        *(quoted("request of A", a.request), quoted("A", a.text)),
        *(quoted("request of B", b.request), quoted("B", b.text)),
        reply="Reply with one word: A, B or tie.",
    )


# ---- small models


def _inputs(seen: Sequence[_Observation], encoder: Encoder) -> "dict[str, np.ndarray]":
    """Vectors by key, with a 1 behind."""
    import numpy as np

    vectors = embedded([one.text for one in seen], encoder, DIMENSIONS)
    return {one.key: np.append(vectors[one.text], 1.0) for one in seen}


def _weights(note: Mapping[str, Any]) -> "np.ndarray":
    """Those learned so far; before, a 0 for all."""
    import numpy as np

    return array_from_json(note["weights"]) if "weights" in note else np.zeros(1)


def _sigmoid(weights: "np.ndarray", x: "np.ndarray") -> float:
    return (1 + math.tanh(float((weights * x).sum()) / 2)) / 2
