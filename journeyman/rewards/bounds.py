"""Rewards kept within bounds: clipping, reference rewards, and step rewards whose sums cannot be inflated."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal

from journeyman.expressions import Positive, Share, Yields
from journeyman.rewards.algebra import ended, name_of, whole_of
from journeyman.rewards.base import UNSCORED, Group, Like, Reward, Score

StepReward = Annotated[Reward, Yields(frozenset({"turns"}))]
"""An operand that has to pay turn by turn."""
Turns = tuple[float, ...]

SHAPES: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda x: 0.5 * (1 + math.tanh(x / 2)),
    "tanh": math.tanh,
    "log_sigmoid": lambda x: min(x, 0.0) - math.log1p(math.exp(-abs(x))),
}


def clip(reward: Reward, *, low: float | None = None, high: float | None = None) -> Reward:
    """A total held between two bounds, either of which can be left out (what PAR, #47, verified, is compared with)."""
    if low is not None and high is not None and low > high:
        raise ValueError("`low` is above `high`")
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    return _of_total(reward, lambda total, _: min(max(total, least), most), "clip")


def bounded(
    reward: Reward,
    *,
    k: Positive = 1.0,
    reference: float | None = None,
    shape: Literal["sigmoid", "tanh", "log_sigmoid"] = "sigmoid",
) -> Reward:
    """Preference as reward (PAR, #47, verified): (1/M) sum over m of sigmoid(k (r - ref_m)).

    The M reference rewards are what attempts of the model before RL earned on the same problem: `reference` for every
    problem, or else the list `reference_rewards` of the problem's data (None where it has none). k = 1 and M <= 10 are
    the authors'; one reference is enough. `tanh` and `log_sigmoid` are the shapes that they compare it with; of those
    the polynomial one and running means are not covered.
    """

    def centred(total: float, group: Group) -> float | None:
        references = [reference] if reference is not None else _references(group)
        return sum(SHAPES[shape](k * (total - r)) for r in references) / len(references) if references else None

    return _of_total(reward, centred, "bounded")


def clip_steps(reward: StepReward, *, threshold: float) -> Like:
    """Clip (#21, derived): step reward p becomes min(p - threshold, 0), so that no step is worth making for its own sake.

    What the whole earned besides stays. The authors use it together with Delta: `delta_steps(clip_steps(...))`.
    """
    return _of_turns(reward, lambda turns: tuple(min(p - threshold, 0.0) for p in turns), "clip_steps")


def delta_steps(reward: StepReward) -> Like:
    """Delta (#21, derived): of K step rewards p, step k < K-1 gets p_k - p_(k+1), step K-1 gets p_(K-1), the last one 0.

    The undiscounted return from step k < K is then p_k itself: repeating a step adds nothing. The last step is the
    answer, which the outcome pays. What the whole earned besides stays.
    """
    return _of_turns(reward, _deltas, "delta_steps")


def shaped(potential: StepReward, *, gamma: Share = 1.0, start: float = 0.0, end_at_zero: bool = False) -> Like:
    """Potential-based shaping (Robo-Dopamine, #131, secondary): turn t earns gamma Phi_t - Phi_(t-1).

    Phi_t is the operand's step reward of turn t, Phi before the first turn is `start`. Discounted by gamma, the
    earnings add up to gamma^T Phi_T - Phi_0, so the best policy stays the best; a gain without gamma would pay for
    lingering where the return is discounted. `end_at_zero` puts Phi = 0 at the end (ours), as theory has it for
    episodes that end: at gamma = 1 all returns then shift by the same amount and only credit turn by turn sees it.
    What the whole earned besides stays.
    """

    def gains(turns: Turns) -> Turns:
        path = (start, *turns[:-1], 0.0) if end_at_zero and turns else (start, *turns)
        return tuple(gamma * after - before for before, after in pairwise(path))

    return _of_turns(potential, gains, "shaped")


def _of_total(reward: Reward, function: Callable[[float, Group], float | None], name: str) -> Reward:
    def of_total(group: Group) -> list[Score]:
        return [_changed(score, function, group, name_of(reward)) for score in reward(group)]

    of_total.__name__ = name
    return of_total


def _changed(score: Score, function: Callable[[float, Group], float | None], group: Group, name: str) -> Score:
    total = None if score.total is None else function(score.total, group)
    return UNSCORED if total is None else ended(total, [(name, score)])


def _of_turns(reward: Reward, function: Callable[[Turns], Turns], name: str) -> Reward:
    def of_turns(group: Group) -> list[Score]:
        return [_with_turns(score, function(score.turns), name) for score in reward(group)]

    of_turns.__name__ = name
    return of_turns


def _with_turns(score: Score, turns: Turns, name: str) -> Score:
    if score.total is None or not score.turns:
        return score
    total = whole_of(score) + sum(turns) + sum(span.reward for span in score.spans)
    parts, turn_parts = {**score.parts, name: sum(turns)}, {**score.turn_parts, name: turns}
    return replace(score, total=total, turns=turns, parts=parts, turn_parts=turn_parts)


def _deltas(turns: Turns) -> Turns:
    steps = turns[:-1]
    return (*(one - later for one, later in zip(steps, (*steps[1:], 0.0), strict=False)), 0.0) if turns else ()


def _references(group: Group) -> Sequence[float]:
    found: Any = group.data.get("reference_rewards", [])
    values = found if isinstance(found, list | tuple) else [found]
    return [float(value) for value in values if type(value) in (int, float)]
