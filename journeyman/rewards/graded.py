"""Rewards with a judge's grade in them: of the whole attempt, of its thoughts, of two attempts side by side."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from statistics import fmean, median

from journeyman.expressions import Count, NotNegative, Positive, Share
from journeyman.rewards.algebra import confident, weighted_sum
from journeyman.rewards.base import Group, Judge, Score, scorable
from journeyman.rewards.comparisons import trust
from journeyman.rewards.correctness import correct
from journeyman.rewards.judge import (
    Ask,
    answer_of,
    asked,
    distributions,
    grades,
    judgeable,
    numbered,
    preferences,
    question,
    quoted,
    read_numbers,
    readings,
    split_thought,
    spread,
    ticked,
    transcript,
)
from journeyman.trajectory import Trajectory

RUBRIC = (
    "Is what was asked for done, is what the answer says borne out by what the tools gave, and is nothing left out?"
)
"""What a grade is for where nothing else is said. Ours."""
OTHER_RUBRIC = "Would whoever asked be served by this, and does the answer say nothing that the tools did not show?"
"""The same in other words: a second reading of a judge. Ours."""
THINKING = (
    "Does it follow from step to step, check itself where that is needed, get by without repetition and guesses, and lead "
    "to the end it comes to?"
)
ATOM = "Is this step sound, does it do what its name says, and does it bring the task forward?"
"""What thoughts are graded for. Ours."""
HIGH = 10
"""Grades go from 0 to 10."""
GRADE = 'Write JSON, {{"score": n}} with n from 0 (worst) to {high} (best), and nothing else.'


def judged(
    group: Group | Sequence[Trajectory],
    *,
    rubric: str = RUBRIC,
    reference: bool = False,
    scale: Count = HIGH,
    votes: Count = 1,
    judge: Judge,
) -> list[Score]:
    """A judge's grade of the whole attempt, 0 to `scale`, as a share of it: LLM-as-a-judge with single answer grading
    (arXiv 2306.05685, derived).

    With several votes it is their mean. With `reference` the judge is shown the reference answer. Unscorable where no
    grade could be read.
    """
    places = judgeable(group)
    asks = [grading(group[i], rubric, high=scale, reference=reference) for i in places]
    return _alone("judged", spread(places, grades(judge, asks, high=scale, votes=votes), len(group)))


def preferred(group: Group | Sequence[Trajectory], *, rubric: str = RUBRIC, judge: Judge) -> list[Score]:
    """The share of the group's other attempts that a judge finds worse: LLM-as-a-judge by pairwise comparison
    (arXiv 2306.05685, derived).

    Each pair is shown in both orders; a judge that changes its mind with the order has seen a tie, which counts a half.
    That is n(n-1) questions. Unscorable where there is nobody to compare with.
    """
    pairs = list(combinations(judgeable(group), 2))
    asks = [(comparing(group[i], group[j], rubric), comparing(group[j], group[i], rubric)) for i, j in pairs]
    wins: dict[int, list[float]] = {}
    for (i, j), outcome in zip(pairs, preferences(judge, asks), strict=True):
        if outcome is not None:
            wins.setdefault(i, []).append(outcome)
            wins.setdefault(j, []).append(1 - outcome)
    return _alone("preferred", [fmean(wins[i]) if i in wins else None for i in range(len(group))])


def ctrl_u(
    group: Group,
    *,
    rubric: str = RUBRIC,
    other: str = OTHER_RUBRIC,
    scale: NotNegative = 1.0,
    bins: Count = 5,
    votes: Count = 8,
    judge: Judge,
) -> list[Score]:
    """Ctrl-U (#59, verified): a grade weighs less the more two readings of the judge differ, w = exp(-u) with
    u = scale * sum q log(q/p).

    There p and q are a reward model's outputs for two generations; here, ours: how `votes` grades 0..bins-1 by a rubric
    and by the same in other words are distributed, half an answer added to each bin. R is the mean of p in [0, 1]. What
    is earned is w * (R - sum wR / sum w) over the group (ours), see `confident`: centred already, so that a weight which
    all share is not lost.
    """
    places = judgeable(group)
    asks = [grading(group[i], words, high=bins - 1) for words in (rubric, other) for i in places]
    found = distributions(judge, asks, bins=bins, votes=votes)
    pairs = spread(places, list(zip(found[: len(places)], found[len(places) :], strict=True)), len(group))
    read = [(p, q) if (p := pair and pair[0]) and (q := pair and pair[1]) else None for pair in pairs]
    value = [None if pair is None else sum(i * p for i, p in enumerate(pair[0])) / max(1, bins - 1) for pair in read]
    weight = [None if pair is None else math.exp(-uncertainty(*pair, scale=scale)) for pair in read]
    return confident(_known("grade", value), _known("certainty", weight))(group)


def uncertainty(p: Sequence[float], q: Sequence[float], *, scale: float = 1.0) -> float:
    """Ctrl-U's u (#59): `scale` times the divergence of the second reading from the first, in nats. Bins of p are > 0."""
    return scale * sum(b * math.log(b / a) for a, b in zip(p, q, strict=True) if b > 0)


def trust_grpo(
    group: Group,
    *,
    weight: NotNegative = 0.3,
    decay: Positive = 500.0,
    code_variant: bool = False,
    rubric: str = THINKING,
    votes: Count = 1,
    judge: Judge,
) -> list[Score]:
    """Trust-GRPO (#104, verified): correctness plus 0.3 exp(-step/T) g R_think, with R_think a judge's grade of the
    thoughts in [0, 1] and g as in `trust`.

    T is `decay`: 500, in the authors' full run 12,000. `code_variant`: as released, R_think of a wrong answer is 0, so
    that g is 1 on nearly all groups. Needs the environment's verdict.
    """
    places = [i for i in judgeable(group) if scorable(group[i]) and not (code_variant and not group[i].correct)]
    asks = [_thinking(group[i], rubric) for i in places]
    found = spread(places, grades(judge, asks, high=HIGH, votes=votes), len(group))
    if code_variant:
        found = [0.0 if t.correct is False else grade for t, grade in zip(group, found, strict=True)]
    thinking = trust(correct, _known("thinking", found))
    return weighted_sum((1.0, correct), (weight * math.exp(-group.step / decay), thinking))(group)


def atom_searcher(
    group: Group, *, start: Share = 0.5, rubric: str = ATOM, votes: Count = 1, judge: Judge
) -> list[Score]:
    """Atom-Searcher (#91, derived): a R_atom + (1 - a) F1 with a = 0.5 (1 - t/T) where the format is right, else -1.

    R_atom is the mean of a judge's grades, in [0, 1], of the steps that a thought names itself: `<plan>...</plan>`
    inside it; a thought without any is one step (ours), and without thoughts R_atom is 0. F1 is that of words with the
    reference. The format is right where no turn was rejected and an answer was given. t and T are the stage's steps.
    """
    weight = start * (1 - group.step / group.steps)
    places = [i for i in judgeable(group) if group[i].reference]
    steps = {i: own for i in places if well_formed(group[i]) and (own := atoms(group[i]))}
    asks = [Ask(_naming(group[i], own, rubric), _read_grades(count=len(own), high=HIGH)) for i, own in steps.items()]
    found = dict(zip(steps, readings(judge, asks, votes=votes), strict=True))
    scores = [_searched(group[i], found.get(i, [[0.0]]), weight) for i in places]
    return [score or Score(total=None) for score in spread(places, scores, len(group))]


def _searched(trajectory: Trajectory, answers: Sequence[Sequence[float]], weight: float) -> Score | None:
    """`answers`: the grades of its steps, vote by vote; none: they can't be read."""
    from journeyman.environments.multihop import f1

    if not well_formed(trajectory):
        return Score(total=-1.0, parts={"well_formed": 0.0})
    if not answers:
        return None
    atom, outcome = fmean(map(fmean, answers)) / HIGH, f1(trajectory.answer or "", trajectory.reference)
    parts = {"well_formed": 1.0, "atoms": atom, "f1": outcome, "atoms_weight": weight}
    return Score(total=weight * atom + (1 - weight) * outcome, parts=parts)


def well_formed(trajectory: Trajectory) -> bool:
    """No turn was rejected, and an answer was given."""
    return trajectory.answer is not None and not any(turn.error for turn in trajectory.turns)


def atoms(trajectory: Trajectory) -> list[str]:
    """The steps that the thoughts of an attempt name themselves, `name: text`; a thought without any is one step."""
    thoughts = [thought for turn in trajectory.turns if (thought := split_thought(turn.text)[0])]
    return [step for thought in thoughts for step in _named(thought) or [thought]]


def _named(thought: str) -> list[str]:
    """`name: text` for each tag that is closed; tags inside it are its text."""
    found, at = [], 0
    while opening := _TAG.search(thought, at):
        closing = f"</{opening[1]}>"
        end = thought.find(closing, opening.end())
        at = opening.end() if end < 0 else end + len(closing)
        if end >= 0:
            found.append(f"{opening[1]}: {thought[opening.end() : end].strip()}")
    return found[:MOST_ATOMS]


_TAG = re.compile(r"<([A-Za-z][\w-]{0,30})>")
MOST_ATOMS = 50
"""Steps of one thought that are looked at. Ours."""


def hybrid(
    group: Group,
    *,
    instruction_weight: NotNegative = 0.1,
    length_weight: NotNegative = 0.1,
    reference: bool = True,
    rubric: str = RUBRIC,
    votes: Count = 1,
    judge: Judge,
) -> list[Score]:
    """Hybrid multi-aspect reward (#96, derived): c * rule + (1 - c) * model, plus 0.1 * instructions obeyed, minus 0.1 *
    length. All numbers are ours.

    The rule is the environment's verdict, its confidence c is `confidence`; the model is a judge's grade in [0, 1], which
    is asked for only where c < 1. Instructions are the problem's `constraints` (texts): the share that the answer keeps;
    without any there is no such term. Length is what an attempt is longer than the median of the group's right ones, as
    a share of it, at most 1; in learned tokens. Unscorable without a verdict.
    """
    places = [i for i in judgeable(group) if scorable(group[i])]
    sure = {i: confidence(answer_of(group[i]), group[i].reference) for i in places}
    unsure = [i for i in places if sure[i] < 1]
    asks = [grading(group[i], rubric, high=HIGH, reference=reference) for i in unsure]
    model = dict(zip(unsure, grades(judge, asks, high=HIGH, votes=votes), strict=True))
    kept = dict(zip(places, _obeyed(group, places, votes, judge), strict=True))
    excess = _excess(group)
    scores = []
    for i, t in enumerate(group):
        grade, obeyed = model.get(i, 0.0), kept.get(i)
        if i not in sure or grade is None or obeyed is None:
            scores.append(Score(total=None))
            continue
        accuracy = sure[i] * float(bool(t.correct)) + (1 - sure[i]) * grade
        parts = {"accuracy": accuracy, "confidence": sure[i], "instructions": obeyed, "excess_length": excess[i]}
        scores.append(Score(total=accuracy + instruction_weight * obeyed - length_weight * excess[i], parts=parts))
    return scores


def confidence(answer: str, reference: str) -> float:
    """How much a rule is to be trusted to compare two answers (#96, ours): 1 where both are of a closed type, a number, a
    choice, yes or no; 0.5 where one of them is; else 0."""
    return (_closed(answer) + _closed(reference)) / 2


def _closed(text: str) -> bool:
    from journeyman.graders.quantities import quantity

    plain = text.strip().rstrip(".").strip()
    return bool(_CHOICE.fullmatch(plain)) or (len(plain) <= 100 and quantity(plain) is not None)


_CHOICE = re.compile(r"\(?[A-J]\)?|yes|no|true|false", re.IGNORECASE)


def _obeyed(group: Group, places: Sequence[int], votes: int, judge: Judge) -> list[float | None]:
    """The share of the problem's constraints that each answer keeps; 0 where there are none."""
    constraints = [str(one) for one in group.data.get("constraints", ())]
    if not constraints:
        return [0.0 for _ in places]
    asks = [
        question(
            f"Which of these instructions does the answer keep?\n{numbered(constraints)}",
            asked(group[i]),
            quoted("answer", answer_of(group[i])),
            reply=f"Write a JSON list of {len(constraints)} times true or false, in order, and nothing else.",
        )
        for i in places
    ]
    return [
        None if ticks is None else fmean(ticks)
        for ticks in ticked(judge, [(a, len(constraints)) for a in asks], votes=votes)
    ]


def _excess(group: Sequence[Trajectory]) -> list[float]:
    """How much longer than the median of the right ones, as a share of it, in [0, 1]; 0 where none is right."""
    lengths = [sum(t.loss_mask) for t in group]
    right = [length for t, length in zip(group, lengths, strict=True) if t.correct and length]
    usual = median(right) if right else math.inf
    return [min(1.0, max(0.0, (length - usual) / usual)) if right else 0.0 for length in lengths]


# ---- questions


def grading(trajectory: Trajectory, rubric: str, *, high: int, reference: bool = False) -> str:
    """For a grade of the whole attempt."""
    shown = [quoted("reference answer", trajectory.reference)] if reference and trajectory.reference else []
    task = f"Grade how the assistant dealt with the request. {rubric}"
    return question(task, asked(trajectory), *shown, transcript(trajectory), reply=GRADE.format(high=high))


def _thinking(trajectory: Trajectory, rubric: str) -> str:
    thoughts = "\n\n".join(thought for turn in trajectory.turns if (thought := split_thought(turn.text)[0]))
    task = f"Grade the thinking by itself, whether or not it comes to the right end. {rubric}"
    return question(task, asked(trajectory), quoted("thinking", thoughts), reply=GRADE.format(high=HIGH))


def _naming(trajectory: Trajectory, steps: Sequence[str], rubric: str) -> str:
    shown = [quoted(f"step {number}", step) for number, step in enumerate(steps, 1)]
    reply = f"Write a JSON list of {len(steps)} numbers from 0 (worst) to {HIGH} (best), in order, and nothing else."
    return question(f"Grade each step of the thinking. {rubric}", asked(trajectory), *shown, reply=reply)


def _read_grades(*, count: int, high: float) -> Callable[[str], list[float] | None]:
    return partial(read_numbers, count=count, low=0, high=high)


def comparing(first: Trajectory, second: Trajectory, rubric: str) -> str:
    """The question which of two attempts is better, A or B."""
    shown = [f"{name}:\n{transcript(t)}" for name, t in (("A", first), ("B", second))]
    task = f"Which of two assistants dealt better with the request? {rubric}"
    return question(task, asked(first), *shown, reply="Write A, B or tie, and nothing else.")


# ---- scores


def _known(name: str, values: Sequence[float | None]) -> Callable[[Group], list[Score]]:
    """Values that were found already, as a reward of that name."""

    def known(group: Group) -> list[Score]:
        return [Score(total=value) for value in values]

    known.__name__ = name
    return known


def _alone(name: str, values: Sequence[float | None]) -> list[Score]:
    return [Score(total=value, parts={} if value is None else {name: value}) for value in values]
