"""Rewards that look at the group as a set: how varied its successes are, how near a failure came to one."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from journeyman.rewards.base import UNSCORED, Encoder, Score, Scores, scorable
from journeyman.trajectory import StopReason, Trajectory, Turn

if TYPE_CHECKING:
    import numpy as np

MOST, STEEPNESS, MIDDLE = 0.6, 10.0, 0.5
"""SRPO's constants: a failure earns 0.6 sigmoid(10 (0.5 - d))."""
LEAST_RANGE = 1e-6
DIGEST = 400
"""Characters of a tool's result that stand for it (ours)."""


def diversity(group: Sequence[Trajectory], *, encoder: Encoder) -> Scores:
    """DRAGON's Vendi reward (#36, secondary), as each success's contribution: V(S) - V(S without it).

    S are the group's right trajectories, V = exp(-sum of l log l) over the eigenvalues l of K/n, K the cosines of the
    embedded turns' texts: n equal texts have 1, n that have nothing in common n. Leave-one-out credit, and paying
    successes alone (others get 0), are ours: diversity by itself pays for nonsense. The sets D+ and D- of the paper's
    own loss, its exemplars and the Frechet distance are not covered.
    """
    right = [i for i, t in enumerate(group) if scorable(t) and t.correct]
    texts = ["\n".join(turn.text for turn in group[i].turns) for i in right]
    shares = dict(zip(right, contributions(encoder.embed(texts)), strict=True)) if right else {}
    return [_diversity(t, shares.get(i, 0.0)) for i, t in enumerate(group)]


def vendi(rows: "np.ndarray") -> float:
    """The effective number of different rows: n x d, of length 1. 0 for none."""
    import numpy as np

    if not len(rows):
        return 0.0
    values = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-np.sum(values * np.log(values))))


def contributions(rows: "np.ndarray") -> list[float]:
    """What the Vendi score loses without each row."""
    import numpy as np

    whole = vendi(rows)
    return [whole - vendi(np.delete(rows, i, axis=0)) for i in range(len(rows))]


def _diversity(trajectory: Trajectory, share: float) -> Score:
    return Score(total=share, parts={"diversity": share}) if scorable(trajectory) else UNSCORED


def srpo(group: Sequence[Trajectory], *, absolute: bool = False, encoder: Encoder) -> Scores:
    """SRPO's self-referential progress (#105, verified): success 1; failure 0.6 sigmoid(10 (0.5 - d)), by distance to success.

    d is min-max scaled over the group's failures (0.5 where they are equally far); with `absolute` (ours) it is taken
    as it is. In text (ours): turns with calls, each embedded with its results, are aligned to those of a success
    without changing their order; d is 1 minus the best share of any success's turns that is covered. Failures that were
    cut off or broke the format earn 0 and are not scaled with. In a group without both kinds it is 0 or 1. The
    authors' clusters of video embeddings and their buffer of earlier successes are not covered.
    """
    right = [t for t in group if scorable(t) and t.correct]
    near = [i for i, t in enumerate(group) if scorable(t) and not t.correct and _ended(t)]
    found: dict[int, float] = {}
    if right and near:
        successes = _embedded(right, encoder)
        failures = _embedded([group[i] for i in near], encoder)
        distances = [1 - max(coverage(own, other) for other in successes) for own in failures]
        found = dict(zip(near, failure_rewards(distances if absolute else scaled(distances)), strict=True))
    return [_srpo(t, found.get(i, 0.0)) for i, t in enumerate(group)]


def coverage(rows: "np.ndarray", others: "np.ndarray") -> float:
    """How much of `others` the best alignment of `rows` covers, order kept: in [0, 1]; rows are of length 1."""
    import numpy as np

    if not len(rows) or not len(others):
        return 0.0
    alike = np.maximum(rows @ others.T, 0.0)
    best = np.zeros(len(others) + 1)
    for row in alike:
        taken = best[:-1] + row
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], taken))
    return min(1.0, float(best[-1]) / len(others))


def scaled(distances: Sequence[float]) -> list[float]:
    low, high = min(distances), max(distances)
    if high - low < LEAST_RANGE:
        return [0.5] * len(distances)
    return [(d - low) / (high - low) for d in distances]


def failure_rewards(distances: Sequence[float]) -> list[float]:
    return [MOST / (1 + math.exp(-STEEPNESS * (MIDDLE - d))) for d in distances]


def _ended(trajectory: Trajectory) -> bool:
    return trajectory.stop_reason in (StopReason.ANSWER, StopReason.DONE)


def _embedded(trajectories: Sequence[Trajectory], encoder: Encoder) -> "list[np.ndarray]":
    """The rows of each trajectory's turns with calls."""
    import numpy as np

    texts = [[_turn_text(turn) for turn in t.turns if turn.calls] for t in trajectories]
    flat = [text for own in texts for text in own]
    rows = encoder.embed(flat) if flat else np.empty((0, 1))
    return np.split(rows, np.cumsum([len(own) for own in texts])[:-1])


def _turn_text(turn: Turn) -> str:
    calls = [f"{call.name} {json.dumps(call.arguments, sort_keys=True, default=str)}" for call in turn.calls]
    return "\n".join([*calls, *(result.output[:DIGEST] for result in turn.results)])


def _srpo(trajectory: Trajectory, near: float) -> Score:
    if not scorable(trajectory):
        return UNSCORED
    total = 1.0 if trajectory.correct else near
    return Score(total=total, parts={"correct": float(bool(trajectory.correct)), "srpo": total})
