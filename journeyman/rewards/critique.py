"""Rewards that a judge's critique of the single turns decides: steps graded, wrong steps named, steps labelled."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from statistics import fmean
from typing import Literal

from journeyman.expressions import Count, NotNegative, Share
from journeyman.rewards.base import Group, Judge, Score, TurnScores, per_turn, scorable
from journeyman.rewards.graded import HIGH
from journeyman.rewards.judge import (
    Ask,
    asked,
    numbered,
    question,
    quoted,
    read_numbers,
    read_places,
    readings,
    ticked,
    transcript,
)
from journeyman.trajectory import Trajectory

PRINCIPLES = (
    "The step is well formed, and does what its own reasoning says.",
    "It looks for something that is needed and not known yet, or uses what was found.",
    "What it states is borne out by what the tools gave.",
)
"""What steps are graded by where the problem says nothing. Ours."""


def ppr(
    group: Group, *, mu: float = 1.0, principles: tuple[str, ...] = (), votes: Count = 1, judge: Judge
) -> TurnScores:
    """PPR with ReNorm (#51, secondary): each turn earns r_p + r_o - mu, r_p in [0, 1] a judge's grade of the turn by
    principles, r_o the verdict, mu = 1.

    So no turn of a wrong attempt earns more than 0, and none of a right one less. The authors' judge is trained for it,
    and their credit is GAE. The principles are those of the option, of `data["principles"]`, or `PRINCIPLES`. All turns
    of an attempt are graded in one answer (ours). Unscorable without a verdict.
    """
    chosen = [*principles, *group.data.get("principles", ())] or PRINCIPLES
    places = [i for i, t in enumerate(group) if scorable(t) and t.turns]
    asks = [Ask(_grading(group[i], chosen), _read_grades(group[i])) for i in places]
    found = dict(zip(places, readings(judge, asks, votes=votes), strict=True))
    return [_renormed(t, found.get(i, []), mu) for i, t in enumerate(group)]


def _renormed(trajectory: Trajectory, answers: Sequence[Sequence[float]], mu: float) -> Score:
    if not answers:
        return Score(total=None)
    steps = [fmean(column) / HIGH for column in zip(*answers, strict=True)]
    return per_turn(trajectory, [step + float(bool(trajectory.correct)) - mu for step in steps])


def capo(
    group: Sequence[Trajectory],
    *,
    right: NotNegative = 2.0,
    wrong: NotNegative = 1.0,
    critiques: Count = 4,
    vote: Literal["intersection", "majority"] = "intersection",
    judge: Judge,
) -> TurnScores:
    """CAPO (#210, secondary): each turn earns C * [the attempt is right] - P * [the turn is wrong], C = 2, P = 1.

    A judge who knows the reference lists the wrong turns in one pass, K = 4 times; a turn is wrong if all critiques name
    it, or more than half of them. Critiques that can't be read have no vote; without any the attempt is unscorable, as
    without a verdict. The authors pay tokens and normalise over the group's tokens; here a turn is their step (ours).
    """
    places = [i for i, t in enumerate(group) if scorable(t) and t.turns]
    asks = [Ask(_fault_finding(group[i]), partial(read_places, count=len(group[i].turns))) for i in places]
    found = dict(zip(places, readings(judge, asks, votes=critiques), strict=True))
    scores = []
    for i, t in enumerate(group):
        if not found.get(i):
            scores.append(Score(total=None))
            continue
        faulty = agreed(found[i], vote)
        outcome = right * float(bool(t.correct))
        scores.append(per_turn(t, [outcome - wrong * (turn in faulty) for turn in range(len(t.turns))]))
    return scores


def agreed(critiques: Sequence[Sequence[int]], vote: Literal["intersection", "majority"]) -> set[int]:
    """The steps that all critiques name, or more than half of them."""
    named = [step for critique in critiques for step in set(critique)]
    needed = len(critiques) if vote == "intersection" else len(critiques) // 2 + 1
    return {step for step in named if named.count(step) >= needed}


def tp_grpo(
    group: Sequence[Trajectory],
    *,
    weight: NotNegative = 0.5,
    threshold: Share = 0.5,
    votes: Count = 1,
    judge: Judge,
) -> TurnScores:
    """TP-GRPO (#42, derived): the verdict, and for each run of turns of one label, a thought, +1 if it is right and -1 if
    wrong; wrong ones cost nothing while the group solves less than `threshold` of its attempts, so that it may explore.

    A judge labels the turns by what the attempt itself shows, corrections and contradictions, without the reference. A
    thought's due is divided by the number of thoughts, weighted, and earned by its last turn; these, the weight and the
    threshold are ours, and so is a step at the threshold where the paper balances. Unscorable without a verdict.
    """
    verdicts = [float(bool(t.correct)) for t in group if scorable(t)]
    punish = bool(verdicts) and fmean(verdicts) >= threshold
    places = [i for i, t in enumerate(group) if scorable(t) and t.turns]
    asks = [(_labelling(group[i]), len(group[i].turns)) for i in places]
    labels = dict(zip(places, ticked(judge, asks, votes=votes), strict=True))
    scores = []
    for i, t in enumerate(group):
        own = labels.get(i)
        if own is None:
            scores.append(Score(total=None))
        else:
            dues = [weight * due for due in thought_rewards(own, punish=punish)]
            scores.append(per_turn(t, dues, end=float(bool(t.correct)), name="thoughts"))
    return scores


def thought_rewards(right: Sequence[bool], *, punish: bool) -> list[float]:
    """What each turn earns of its labels (#42): at the end of a run of equal ones, +-1 / #runs; -1 only to `punish`."""
    runs = [(label, len(list(run))) for label, run in groupby(right)]
    due: list[float] = []
    for label, length in runs:
        paid = 1.0 if label else -float(punish)
        due += [*[0.0] * (length - 1), paid / len(runs)]
    return due


# ---- questions


def _grading(trajectory: Trajectory, principles: Sequence[str]) -> str:
    count = len(trajectory.turns)
    return question(
        f"Grade each turn of the assistant by these principles:\n{numbered(principles)}",
        asked(trajectory),
        transcript(trajectory),
        reply=f"Write a JSON list of {count} numbers from 0 (worst) to {HIGH} (best), in order, and nothing else.",
    )


def _read_grades(trajectory: Trajectory) -> partial[list[float] | None]:
    return partial(read_numbers, count=len(trajectory.turns), low=0, high=HIGH)


def _fault_finding(trajectory: Trajectory) -> str:
    return question(
        "Which turns of the assistant are wrong: a false statement, a wrong conclusion, a call that can't help? Go through "
        "all of them.",
        asked(trajectory),
        *([quoted("reference answer", trajectory.reference)] if trajectory.reference else []),
        transcript(trajectory),
        reply="Write a JSON list of the numbers of the wrong turns, [] for none, and nothing else.",
    )


def _labelling(trajectory: Trajectory) -> str:
    return question(
        "Is each turn of the assistant right? Go by what the attempt itself shows: a step that is corrected later on, that "
        "contradicts another one or what a tool gave, is wrong.",
        asked(trajectory),
        transcript(trajectory),
        reply=f"Write a JSON list of {len(trajectory.turns)} times true or false, in order, and nothing else.",
    )
