"""What the terms of a reward do before and during training, as plain data to be drawn (Lucy-SKG's reward analysis, #85)."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from journeyman.rewards.algebra import constant
from journeyman.rewards.base import Group, Reward
from journeyman.trajectory import StopReason, Trajectory

_NOBODY = Trajectory(
    id="",
    problem_id="",
    family="",
    question="",
    reference="",
    tools=(),
    min_calls=0,
    turns=(),
    stop_reason=StopReason.ANSWER,
)


def reward_grid(
    combine: Callable[[Reward, Reward], Reward], *, low: float = -1.0, high: float = 1.0, points: int = 21
) -> dict[str, Any]:
    """The total of a combination of two rewards wherever they may stand: `values[i][j]` at (axis[i], axis[j])."""
    axis = [low + (high - low) * i / (points - 1) for i in range(points)]
    group = Group(trajectories=(_NOBODY,))
    values = [[combine(constant(x), constant(y))(group)[0].total for y in axis] for x in axis]
    return {"axis": axis, "values": values}


def reward_plot(terms: Mapping[str, Reward], groups: Sequence[Group], *, bins: int = 10) -> dict[str, dict[str, Any]]:
    """Of each term over a batch: `edges` and `counts` of a histogram, `mean`, `std`, and `decides`.

    `decides` is the share of rollouts that the term decides: those where it lies furthest from its group's mean of all
    terms, ties shared (ours). Shares add up to what of the batch any term tells apart. Give terms with the weights they
    count with, `{"accuracy": weighted_sum((0.9, correct))}`. What a term could not score is left out.
    """
    totals = {name: [[score.total for score in reward(group)] for group in groups] for name, reward in terms.items()}
    apart = {name: [_deviations(column) for column in columns] for name, columns in totals.items()}
    shares = dict.fromkeys(terms, 0.0)
    rollouts = sum(len(group) for group in groups)
    for g, group in enumerate(groups):
        for i in range(len(group)):
            sizes = {name: apart[name][g][i] for name in terms}
            widest = [name for name, size in sizes.items() if size == max(sizes.values()) > 0]
            for name in widest:
                shares[name] += 1 / len(widest) / rollouts
    return {name: {**_histogram(columns, bins), "decides": shares[name]} for name, columns in totals.items()}


def _deviations(column: Sequence[float | None]) -> list[float]:
    known = [value for value in column if value is not None]
    mean = fmean(known) if known else 0.0
    apart = [0.0 if value is None else abs(value - mean) for value in column]
    return [size if size > 1e-12 else 0.0 for size in apart]


def _histogram(columns: Sequence[Sequence[float | None]], bins: int) -> dict[str, Any]:
    values = [value for column in columns for value in column if value is not None]
    if not values:
        return {"edges": [], "counts": [], "mean": None, "std": None}
    low, high = min(values), max(values)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    edges = [low + width * i for i in range(bins + 1)]
    return {"edges": edges, "counts": counts, "mean": fmean(values), "std": pstdev(values)}
