"""Rewards that count only where others are high enough: gates, levels, ordered tiers, qualifying sets."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from journeyman.expressions import Yields
from journeyman.rewards.algebra import columns_of, ended, merged_parts, name_of, noted, summed
from journeyman.rewards.base import UNSCORED, Group, Like, Reward, Score

Gated = Annotated[Reward, Yields(of_operands=("then",))]
Qualified = Annotated[Reward, Yields(of_operands=("reward",))]


def gate(condition: Reward, then: Reward, *, at: float = 1.0, otherwise: float = 0.0) -> Gated:
    """G-RA (#67, secondary), its gate: `then` where the total of `condition` is at least `at`, else `otherwise`.

    The authors' whole is `high + gate(high, low)`, with step rewards as `low`. at = 1 is ours: a right answer. A
    condition that is None leaves the result None; `then` is asked only where the gate is open.
    """

    def gate_(group: Group) -> list[Score]:
        return [_gated(condition_, then_, at, otherwise) for condition_, then_ in columns_of([condition, then], group)]

    return gate_


def levels(*rewards: Reward, weights: list[float] | None = None, at: list[float] | None = None) -> Like:
    """ChatShopBuddy's hierarchical reward model (#134, derived): r1 + 1[r1 >= t1] (w2 r2 + 1[r2 >= t2] w3 r3).

    Any number of levels: one of `weights` for each, the first's too, and one of `at` for each but the last; all of
    them are 1 where not given (ours). A level that is reached and None leaves the result None. Step rewards of the
    levels that were reached are kept.
    """
    return _tiers(rewards, weights or [1.0] * len(rewards), at or [1.0] * (len(rewards) - 1), "levels", "at")


def lexicographic(*tiers: Reward, passes: list[float] | None = None) -> Like:
    """OptiAgent's ordered tiers (#139, derived): sum over l of w_l r_l prod over j < l of 1[r_j passes].

    For tiers in [0, 1]. w_l = 2^(n-l) / (2^n - 1), the most important tier being l = 1 (ours): one pass outweighs all
    lower tiers together, and the best is 1. `passes` holds what a tier but the last has to reach; 1 where not given.
    """
    n = len(tiers)
    weights = [2.0 ** (n - 1 - i) / (2**n - 1) for i in range(n)]
    return _tiers(tiers, weights, passes or [1.0] * (n - 1), "lexicographic", "passes")


def when(condition: Reward, reward: Reward) -> Qualified:
    """HDPO's qualifying set (#118, verified): `reward` where the total of `condition` is above 0, else None.

    As a channel, `channels(accuracy=correct, thrift=when(correct, few_calls))`, those outside the set take no part in
    that comparison. Anywhere else a trajectory without it can't be scored.
    """

    def when_(group: Group) -> list[Score]:
        scores = zip(condition(group), reward(group), strict=True)
        return [score if asked.total is not None and asked.total > 0 else UNSCORED for asked, score in scores]

    when_.__name__ = name_of(reward)
    return when_


def _gated(condition: tuple[str, Score], then: tuple[str, Score], at: float, otherwise: float) -> Score:
    if condition[1].total is None:
        return UNSCORED
    if condition[1].total < at:
        return ended(otherwise, [condition, then], gate_open=0.0)
    if then[1].total is None:
        return UNSCORED
    return replace(then[1], parts=merged_parts([condition, then, noted(gate_open=1.0)]))


def _tiers(rewards: Sequence[Reward], weights: Sequence[float], at: Sequence[float], name: str, option: str) -> Reward:
    if not rewards:
        raise ValueError("it has no rewards")
    if len(weights) != len(rewards) or len(at) != len(rewards) - 1:
        raise ValueError(
            f"of {len(rewards)} rewards, `weights` has one number each and `{option}` one for each but the last"
        )

    def tiers_(group: Group) -> list[Score]:
        return [_reached(row, weights, at) for row in columns_of(rewards, group)]

    tiers_.__name__ = name
    return tiers_


def _reached(row: Sequence[tuple[str, Score]], weights: Sequence[float], at: Sequence[float]) -> Score:
    reached = 1
    while reached < len(row) and (total := row[reached - 1][1].total) is not None and total >= at[reached - 1]:
        reached += 1
    score = summed([(weights[i], *row[i]) for i in range(reached)])
    return score if score.total is None else replace(score, parts={**merged_parts(row), "levels": float(reached)})
