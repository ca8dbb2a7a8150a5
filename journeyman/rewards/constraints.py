"""Objectives of expectations: what a reward has to know of the whole step's means to pay a single trajectory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from threading import Lock
from typing import Literal

from journeyman.expressions import NotNegative
from journeyman.rewards.algebra import merged_parts, name_of, noted, summed
from journeyman.rewards.base import UNSCORED, Group, History, Like, Reward, Score

LEAST_MEAN = 0.01
"""Means below count as this where one is divided by (ours)."""


def constrained(reward: Reward, cost: Reward, *, limit: float, rate: NotNegative = 0.05, history: History) -> Like:
    """Lagrangian duality (#191, derived): the most reward whose mean cost stays at `limit`: (R - m c) / (1 + m).

    The multiplier m starts at 0 and moves once a step, by the mean cost of all trajectories of the step that is over:
    m <- max(0, m + rate (mean c - limit)). It is kept in the history. rate = 0.05 and the start are ours, as is dual
    ascent on a policy's rewards: the paper differentiates through a solver. The weights only mean what they say under a
    credit that doesn't normalise reward and cost apart. Who lacks the cost is None once m > 0.
    """
    means = StepMeans(f"constrained {name_of(reward)} {name_of(cost)} {limit}", ["cost"])

    def constrained_(group: Group) -> list[Score]:
        rewards, costs = reward(group), cost(group)
        with means.lock:
            if (spent := means.begin(history, group.step)) and "cost" in spent:
                moved = means.get(history, "multiplier", 0.0) + rate * (spent["cost"] - limit)
                means.set(history, "multiplier", max(0.0, moved))
            means.add(history, {"cost": costs})
            m = means.get(history, "multiplier", 0.0)
        terms = [(1 / (1 + m), name_of(reward)), (-m / (1 + m), name_of(cost))]
        return [_weighed(terms, row, multiplier=m) for row in zip(rewards, costs, strict=True)]

    constrained_.__name__ = "constrained"
    return constrained_


def outer_nonlinear(*, utility: Literal["log", "product", "min"] = "log", history: History, **rewards: Reward) -> Like:
    """The outer nonlinear objective (#90, derived): f(J_1, ..., J_n) of expected rewards, not the expectation of f.

    Its gradient weighs reward k by df/dJ_k, so a trajectory earns sum over k of that times R_k. `log`: sum of log J_k,
    1/J_k with J_k at least 0.01 (ours); `product`: the product of the others; `min`: 1 for the smallest J_k, ties
    sharing it. The J_k are means over the step before (its group's own in a first step), since a step's groups are
    scored one by one; they are kept in the history. A credit must not normalise by the spread across groups, and no
    reward can be called `utility` or `history`.
    """
    if not rewards:
        raise ValueError("it has no rewards: write name=reward")
    means = StepMeans(f"outer_nonlinear {utility} {' '.join(rewards)}", list(rewards))

    def outer_nonlinear_(group: Group) -> list[Score]:
        columns = {name: reward(group) for name, reward in rewards.items()}
        with means.lock:
            means.begin(history, group.step)
            means.add(history, columns)
            at = {name: means.before(history, name, scores) for name, scores in columns.items()}
        slopes = slopes_of(utility, at)
        terms = [(slopes[name], name) for name in columns]
        return [_weighed(terms, row) for row in zip(*columns.values(), strict=True)]

    outer_nonlinear_.__name__ = "outer_nonlinear"
    return outer_nonlinear_


def slopes_of(utility: str, means: Mapping[str, float]) -> dict[str, float]:
    """df/dJ_k at the means."""
    if utility == "log":
        return {name: 1 / max(mean, LEAST_MEAN) for name, mean in means.items()}
    if utility == "product":
        return {name: prod(mean for other, mean in means.items() if other != name) for name in means}
    smallest = [name for name, mean in means.items() if mean == min(means.values())]
    return {name: (name in smallest) / len(smallest) for name in means}


class StepMeans:
    """Running means of a step's scores, kept in a History under a name: groups come one by one, from several threads.

    A step's means are known when the next one begins; the lock is to be held around a group's reads and writes.
    """

    def __init__(self, name: str, keys: Sequence[str]) -> None:
        self._name, self._keys = name, tuple(keys)
        self.lock = Lock()

    def get(self, history: History, key: str, default: float) -> float:
        return history.get(self._name, key, default)

    def set(self, history: History, key: str, value: float) -> None:
        history.set(self._name, key, value)

    def begin(self, history: History, step: int) -> dict[str, float]:
        """The means of the step that is over, by key, where this group is the first of a new one; else nothing."""
        if self.get(history, "step", -1) == step:
            return {}
        self.set(history, "step", step)
        over: dict[str, float] = {}
        for key in self._keys:
            count = self.get(history, f"count {key}", 0.0)
            if count:
                over[key] = self.get(history, f"sum {key}", 0.0) / count
                self.set(history, f"mean {key}", over[key])
            self.set(history, f"sum {key}", 0.0)
            self.set(history, f"count {key}", 0.0)
        return over

    def add(self, history: History, columns: Mapping[str, Sequence[Score]]) -> None:
        """A group's scores, by key; those that are None don't count."""
        for key, scores in columns.items():
            known = [score.total for score in scores if score.total is not None]
            self.set(history, f"sum {key}", self.get(history, f"sum {key}", 0.0) + sum(known))
            self.set(history, f"count {key}", self.get(history, f"count {key}", 0.0) + len(known))

    def before(self, history: History, key: str, scores: Sequence[Score]) -> float:
        """The mean of the last step that is over; of these scores where there was none."""
        known = [score.total for score in scores if score.total is not None]
        return self.get(history, f"mean {key}", sum(known) / max(1, len(known)))


def _weighed(terms: Sequence[tuple[float, str]], row: Sequence[Score], **more: float) -> Score:
    operands = [(name, score) for (_, name), score in zip(terms, row, strict=True)]
    score = summed([(weight, *operand) for (weight, _), operand in zip(terms, operands, strict=True)])
    return UNSCORED if score.total is None else replace(score, parts=merged_parts([*operands, noted(**more)]))
