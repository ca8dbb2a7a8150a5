"""What an attempt cost: calls, turns, money, seconds, and rewards that weigh it against the outcome.

The plain amounts are to be subtracted: `correct - 0.05 * calls`.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Annotated

from pydantic import Field

from journeyman.expressions import Count, Share
from journeyman.rewards.base import UNSCORED, Group, History, Score, Scores, scorable
from journeyman.rewards.outcome import answer_f1, is_well_formed, plain, told
from journeyman.trajectory import Trajectory

Percent = Annotated[int, Field(ge=1, le=99)]


def calls(group: Sequence[Trajectory]) -> Scores:
    """How many tool calls it made."""
    return [plain("calls", float(len(t.calls))) if told(t) else UNSCORED for t in group]


def needless_calls(group: Sequence[Trajectory]) -> Scores:
    """Calls beyond those that the shortest correct course needs, as the problem says."""
    return [plain("needless_calls", float(t.needless_calls)) if told(t) else UNSCORED for t in group]


def turns(group: Sequence[Trajectory]) -> Scores:
    """How many turns it took."""
    return [plain("turns", float(len(t.turns))) if told(t) else UNSCORED for t in group]


def call_cost(group: Sequence[Trajectory]) -> Scores:
    """What its calls cost together, in the tools' own unit."""
    return [plain("call_cost", cost_of(t)) if told(t) else UNSCORED for t in group]


def seconds(group: Sequence[Trajectory]) -> Scores:
    """Seconds that its calls took together; the policy's own sampling is not timed."""
    return [plain("seconds", seconds_of(t)) if told(t) else UNSCORED for t in group]


def cost_of(trajectory: Trajectory) -> float:
    return math.fsum(result.cost for turn in trajectory.turns for result in turn.results)


def seconds_of(trajectory: Trajectory) -> float:
    return math.fsum(result.seconds for turn in trajectory.turns for result in turn.results)


def router_r1(
    group: Sequence[Trajectory],
    *,
    weight: Share = 0.0,
    window: Count = 1000,
    low: Percent = 5,
    high: Percent = 95,
    history: History,
) -> Scores:
    """Router-R1 (#56, verified): (1 - a) (outcome + format) + a R_cost, a = `weight`; -1 for bad form, 0 for no F1.

    R_cost = 1 - clip((sqrt(c) - q_lo) / (q_hi - q_lo), 0, 1), where c is what the calls cost and the q are percentiles
    of sqrt(c) over the last `window` attempts, this group's own with them; 0.5 where they are equal. The script's
    a = 0 leaves the cost out; its README suggests to try 0.9. The window's length and both percentiles are ours.
    Format is -1 or 0: the milder negatives of the authors' are not covered. The cost is a rank among recent attempts,
    so that the reward drifts with the policy.
    """
    roots = {i: math.sqrt(max(0.0, cost_of(t))) for i, t in enumerate(group) if told(t)}
    recent = history.window("router_r1", list(roots.values()), window)
    return [
        _routed(t, answer_f1(t, group), _cheap(roots[i], recent, low, high), weight) if i in roots else UNSCORED
        for i, t in enumerate(group)
    ]


def _cheap(root: float, recent: Sequence[float], low: int, high: int) -> float:
    if len(recent) < 2:
        return 0.5
    cuts = quantiles(recent, n=100, method="inclusive")
    least, most = cuts[low - 1], cuts[high - 1]
    return 0.5 if most <= least else 1 - min(1.0, max(0.0, (root - least) / (most - least)))


def _routed(trajectory: Trajectory, f1: float, cheap: float, weight: float) -> Score:
    if not is_well_formed(trajectory):
        return Score(total=-1.0, parts={"f1": 0.0, "cheapness": cheap})
    total = (1 - weight) * f1 + weight * cheap if f1 > 0 else 0.0
    return Score(total=total, parts={"f1": f1, "cheapness": cheap})


def orchestra(group: Group, *, preferences: dict[str, float] | None = None) -> Scores:
    """ToolOrchestra (#122, derived): what the user prefers, times how far each wish was met, if the answer is right.

    M = calls of each tool, the outcome, minus the cost, minus the seconds; each coordinate is scaled to [0, 1] by its
    least and greatest value in the group, 0 where they are equal. R = M . P, and 0 for a wrong answer. P maps tools'
    names, `outcome`, `cost` and `seconds` to weights: the problem's own `preferences` where it has them, else the
    option; without either `outcome`, `cost` and `seconds` weigh 1 (ours). The scaling magnifies tiny differences.
    Dropping groups of little spread is not covered.
    """
    weights = group.data.get("preferences") or preferences or {"outcome": 1.0, "cost": 1.0, "seconds": 1.0}
    rated = {i: _features(t, weights) for i, t in enumerate(group) if scorable(t)}
    scaled = _scaled(list(rated.values()))
    scores = dict(zip(rated, scaled, strict=True))
    return [_preferred(t, scores[i], weights) if i in scores else UNSCORED for i, t in enumerate(group)]


def _features(trajectory: Trajectory, weights: Mapping[str, float]) -> dict[str, float]:
    known = {
        "outcome": float(bool(trajectory.correct)),
        "cost": -cost_of(trajectory),
        "seconds": -seconds_of(trajectory),
    }
    made = [call.name for call in trajectory.calls]
    return {name: known[name] if name in known else float(made.count(name)) for name in weights}


def _scaled(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Each coordinate by its least and greatest value."""
    ends = {name: (min(r[name] for r in rows), max(r[name] for r in rows)) for name in (rows[0] if rows else ())}
    return [
        {name: (row[name] - low) / (high - low) if high > low else 0.0 for name, (low, high) in ends.items()}
        for row in rows
    ]


def _preferred(trajectory: Trajectory, met: Mapping[str, float], weights: Mapping[str, float]) -> Score:
    total = math.fsum(weights[name] * met[name] for name in met) if trajectory.correct else 0.0
    return Score(
        total=total, parts={f"met_{name}": met[name] for name in ("outcome", "cost", "seconds") if name in met}
    )
