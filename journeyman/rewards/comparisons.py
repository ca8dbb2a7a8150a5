"""Rewards that say how a trajectory stands among its group's others."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import Annotated, Literal

from journeyman.expressions import Yields
from journeyman.rewards.algebra import columns_of, ended, name_of, summed
from journeyman.rewards.base import UNSCORED, Group, Reward, Score

Trusted = Annotated[Reward, Yields(of_operands=("thinking",))]
EPSILON = 1e-6
_DRAW = 0.5
"""Wins and losses against somebody of strength 1 that each is given beforehand, so that nobody's strength is infinite."""
_ROUNDS = 200
Standings = Callable[[Sequence[float]], list[float]]


def hierarchy(
    *factors: Reward, margins: list[float] | None = None, how: Literal["mean", "bradley_terry"] = "mean"
) -> Reward:
    """HERON (#28, derived): attempts of a group are compared in pairs, by the first factor that decides.

    Factors come by importance. A factor decides where the two differ by more than its one of `margins` (0 where not
    given); pairs that none decides are no comparison. The authors train a reward model on the comparisons; here the
    group is ranked right away (ours): `mean` is (wins - losses) / others, `bradley_terry` the log-strength of a
    Bradley-Terry fit, with half a win and half a loss against strength 1 given beforehand (ours). Who lacks a factor
    takes no part and is None.
    """
    apart = margins or [0.0] * len(factors)
    if not factors or len(apart) != len(factors):
        raise ValueError("`margins` has one number for each factor, and there is at least one")

    def hierarchy_(group: Group) -> list[Score]:
        rows = columns_of(factors, group)
        taking_part = [i for i, row in enumerate(rows) if all(score.total is not None for _, score in row)]
        values = [[float(score.total or 0.0) for _, score in rows[i]] for i in taking_part]
        wins = [[float(_compare(one, other, apart) > 0) for other in values] for one in values]
        found = dict(zip(taking_part, _STANDINGS[how](wins), strict=True))
        return [ended(found[i], row) if i in found else UNSCORED for i, row in enumerate(rows)]

    return hierarchy_


def minmax(reward: Reward) -> Reward:
    """ToolOrchestra's normalisation (#122, derived): 0 for the group's lowest total, 1 for its highest, linear between.

    0 for all where all are equal. It blows tiny differences up to [0, 1]: let it count only behind a gate on success,
    `gate(correct, 0.3 * minmax(cost))`.
    """

    def between(values: Sequence[float]) -> list[float]:
        low, high = min(values), max(values)
        return [(value - low) / (high - low) if high > low else 0.0 for value in values]

    return _among(reward, between, "minmax")


def normalized(reward: Reward) -> Reward:
    """A reward's z-score in its group, (r - mean) / (std + 1e-6), as in HDPO (#118, verified).

    It puts rewards of different scales on one before they are added. 0 where all are equal. The std is the
    population's; that and 1e-6 are ours.
    """

    def z_scores(values: Sequence[float]) -> list[float]:
        mean, spread = fmean(values), pstdev(values)
        return [(value - mean) / (spread + EPSILON) for value in values]

    return _among(reward, z_scores, "normalized")


def trust(outcome: Reward, thinking: Reward) -> Trusted:
    """Trust-GRPO's weight (#104, verified): `thinking` times g, g = exp(mu_right - mu_wrong) where that is below 1, else 1.

    mu are the means of `thinking` over the group's attempts whose `outcome` is above 0, and over the others. In a group
    of one kind only it pays 0. The authors' whole is `correct + anneal(trust(correct, thinking), start=0.3, end=0,
    over=500, shape="exponential")`. Their code scores no thinking behind wrong answers, so that g is almost always 1;
    here the paper's form stands.
    """

    def trust_(group: Group) -> list[Score]:
        rows = columns_of([outcome, thinking], group)
        known = [(o.total > 0, t.total) for (_, o), (_, t) in rows if o.total is not None and t.total is not None]
        right, wrong = [t for is_right, t in known if is_right], [t for is_right, t in known if not is_right]
        g = min(1.0, math.exp(fmean(right) - fmean(wrong))) if right and wrong else 0.0
        return [_trusted(g, *row) for row in rows]

    return trust_


def _trusted(g: float, outcome: tuple[str, Score], thinking: tuple[str, Score]) -> Score:
    score = UNSCORED if outcome[1].total is None else summed([(g, *thinking)])
    return score if score.total is None else replace(score, parts={**score.parts, "trust": g})


def _among(reward: Reward, function: Standings, name: str) -> Reward:
    """A reward of which each total is seen among the group's others; those that are None stay out of it."""

    def among(group: Group) -> list[Score]:
        scores = reward(group)
        known = [score.total for score in scores if score.total is not None]
        found = iter(function(known) if known else [])
        return [UNSCORED if score.total is None else ended(next(found), [(name_of(reward), score)]) for score in scores]

    among.__name__ = name
    return among


def _compare(one: Sequence[float], other: Sequence[float], margins: Sequence[float]) -> int:
    """1, -1 or 0 as the first decisive factor has it."""
    for a, b, margin in zip(one, other, margins, strict=True):
        if abs(a - b) > margin:
            return 1 if a > b else -1
    return 0


def _mean_outcomes(wins: Sequence[Sequence[float]]) -> list[float]:
    losses = [sum(row[i] for row in wins) for i in range(len(wins))]
    return [(sum(row) - lost) / max(1, len(wins) - 1) for row, lost in zip(wins, losses, strict=True)]


def _log_strengths(wins: Sequence[Sequence[float]]) -> list[float]:
    """The Bradley-Terry fit by Newman's fixed point: p_i = sum_j w_ij p_j/(p_i+p_j) / sum_j w_ji/(p_i+p_j)."""
    strengths = [1.0] * len(wins)
    for _ in range(_ROUNDS):
        for i, p in enumerate(strengths):
            met = [(wins[i][j], wins[j][i], q) for j, q in enumerate(strengths) if j != i]
            met.append((_DRAW, _DRAW, 1.0))
            strengths[i] = sum(won * q / (p + q) for won, _, q in met) / sum(lost / (p + q) for _, lost, q in met)
    return [math.log(p) for p in strengths]


_STANDINGS = {"mean": _mean_outcomes, "bradley_terry": _log_strengths}
