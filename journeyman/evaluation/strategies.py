"""Strategies of inference held against each other at equal total tokens (#209), between a floor and a ceiling.

A budget is tokens a problem, on average over the problems: what the policy writes and what tools return, prompts left
out. A strategy that selects has the first n attempts at every problem, n the most that the budget pays for; one that
makes its attempts is shown at what it took. The floor is `random`, the ceiling `pass@n`: whether any of the n is right.
Attempts without a verdict are left out, and cost nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from journeyman.config.evaluate import EvaluateConfig
from journeyman.evaluation.inference import MAKE, SCORES, SELECT, tokens
from journeyman.evaluation.measures import Measure, grouped, is_right, measures, voted
from journeyman.evaluation.statistics import Ratio
from journeyman.problem import Problem
from journeyman.rollout.job import SamplerPool
from journeyman.trajectory import Trajectory

FLOOR = "random"
Groups = Mapping[str, Sequence[Trajectory]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyRow:
    """A strategy at a budget."""

    strategy: str
    """Key of `INFERENCE`, or `pass@n`."""
    budget: float
    """Tokens a problem that it may take, on average."""
    tokens: float
    """What it took."""
    samples: int | None
    """Attempts a problem that it selected from; None for those it made."""
    accuracy: Measure | None
    """Expected share of right answers, compared with `random` at the same budget."""


def make_attempts(
    pool: SamplerPool,
    problems: Sequence[Problem],
    sampled: Sequence[Trajectory],
    settings: EvaluateConfig,
    *,
    seed: int,
) -> dict[str, list[Trajectory]]:
    """By strategy what it makes, for those that `settings.strategies` asks for; `sampled` are the attempts there are."""
    first = {name: group[0] for name, group in grouped(sampled).items()}
    asked = [name for name in MAKE if settings.strategies and getattr(settings.strategies, name)]
    return {name: MAKE[name](pool, problems, first, settings, seed=seed) for name in asked}


def strategy_rows(
    sampled: Sequence[Trajectory],
    made: Mapping[str, Sequence[Trajectory]],
    settings: EvaluateConfig,
    *,
    seed: int = 0,
) -> tuple[StrategyRow, ...]:
    """Budget by budget, from the smallest; empty where `settings.strategies` is."""
    if settings.strategies is None:
        return ()
    groups = grouped(sampled)
    most = max(map(len, groups.values()), default=0)
    costs = [_cost({name: group[:n] for name, group in groups.items()}) for n in range(1, most + 1)]
    asked = settings.strategies.budgets or [costs[k - 1] for k in sorted(set(settings.k)) if k <= most]
    made_groups = {name: grouped(trajectories) for name, trajectories in made.items()}
    budgets = sorted({*map(float, asked), *(_cost(group) for group in made_groups.values() if group)})
    rows: list[StrategyRow] = []
    for budget in budgets:
        n = sum(cost <= budget for cost in costs)
        paid = {name: group[:n] for name, group in groups.items()} if n else {}
        cost = costs[n - 1] if n else 0.0
        taken = {name: (right, cost, n) for name, right in _selected(paid, settings.strategies.score)}
        taken |= {name: (_right(group), budget, None) for name, group in made_groups.items() if _cost(group) == budget}
        floor = taken[FLOOR][0] if FLOOR in taken else {}
        for name, (right, cost, samples) in taken.items():
            before = {name: floor} if name != FLOOR else None
            [accuracy] = measures({name: right}, before, resamples=settings.bootstrap, seed=seed).values()
            rows.append(
                StrategyRow(
                    strategy=name, budget=round(budget, 3), tokens=round(cost, 3), samples=samples, accuracy=accuracy
                )
            )
    return tuple(rows)


def _selected(groups: Groups, score: str) -> Iterator[tuple[str, dict[str, Ratio]]]:
    """Of each strategy that selects, and of the ceiling, the expected verdict by problem."""
    if not groups:
        return
    scores = {name: [SCORES[score](trajectory) for trajectory in group] for name, group in groups.items()}
    for strategy, select in SELECT.items():
        expected = {}
        for name, group in groups.items():
            chances = select(group, scores[name], voted)
            expected[name] = (sum(c for c, t in zip(chances, group, strict=True) if is_right(t)), 1.0)
        yield strategy, expected
    n = max(map(len, groups.values()))
    yield f"pass@{n}", _right(groups)


def _right(groups: Groups) -> dict[str, Ratio]:
    """Whether any attempt of the problem is right."""
    return {name: (float(any(map(is_right, group))), 1.0) for name, group in groups.items()}


def _cost(groups: Groups) -> float:
    """Tokens a problem."""
    return fmean(sum(map(tokens, group)) for group in groups.values()) if groups else 0.0
