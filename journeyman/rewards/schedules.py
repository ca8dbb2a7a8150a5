"""Rewards that change as training goes on. Steps are those of the stage, from 0."""

import math
from dataclasses import replace
from typing import Literal

from journeyman.expressions import Count
from journeyman.rewards.algebra import name_of, summed
from journeyman.rewards.base import Group, Like, Reward, Score


def anneal(
    reward: Reward,
    *,
    start: float = 1.0,
    end: float = 0.0,
    over: Count | None = None,
    shape: Literal["linear", "cosine", "exponential"] = "linear",
) -> Like:
    """A reward whose weight goes from `start` to `end` over so many steps, the whole stage where `over` is not given.

    `linear`: Atom-Searcher's schedule (#91, derived), 0.5 (1 - t/T); ToolRL's smooth one (#4, verified). `cosine`: the
    intrinsic reward of SPEAR (#12, verified), (1 + cos(pi t/T)) / 2, flat after T. `exponential`: exp(-t/T), as Trust-GRPO
    (#104, verified) has it, which comes near `end` but never reaches it.
    """

    def anneal_(group: Group) -> list[Score]:
        weight = end + (start - end) * _left(shape, group.step / (over or group.steps))
        scores = [summed([(weight, name_of(reward), score)]) for score in reward(group)]
        return [_noted(score, f"{name_of(reward)}_weight", weight) for score in scores]

    anneal_.__name__ = name_of(reward)
    return anneal_


def two_stage(first: Reward, second: Reward, *, at: Count) -> Like:
    """One reward before step `at` and another from there on (ToolRL's two-stage variant, #4, verified, with at = 30)."""

    def two_stage_(group: Group) -> list[Score]:
        return (first if group.step < at else second)(group)

    return two_stage_


def _left(shape: str, share: float) -> float:
    """What is left of the start after a share of the steps: 1 at 0."""
    if shape == "exponential":
        return math.exp(-share)
    share = min(share, 1.0)
    return 1 - share if shape == "linear" else (1 + math.cos(math.pi * share)) / 2


def _noted(score: Score, name: str, value: float) -> Score:
    return score if score.total is None else replace(score, parts={**score.parts, name: value})
