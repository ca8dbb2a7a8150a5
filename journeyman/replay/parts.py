"""What a replay buffer is put together from: draws, filters, and advantages anew. All work on arrays of N trajectories."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journeyman.replay.selections import SELECTIONS

Floats = NDArray[np.float64]
Draw = Callable[[Floats, int, int, float], list[int]]
"""(N advantages above 0, the oldest first; how many; seed; exponent) -> different places, the first drawn first."""

BLOCK = 2**18
"""Trajectories that are drawn from at a time: so many numbers stay in a processor's cache."""


def uniform(advantages: Floats, count: int, seed: int, exponent: float = 1.0) -> list[int]:
    """Every kept trajectory is as likely to be replayed as any other."""
    return random.Random(seed).sample(range(len(advantages)), min(count, len(advantages)))


def advantage(advantages: Floats, count: int, seed: int, exponent: float = 1.0) -> list[int]:
    """Trajectories are replayed in proportion to a power of their advantage: proportional prioritized replay
    (arXiv 1511.05952, derived) with the advantage in the place of the TD error.

    Each draw is proportional among those not drawn yet. NOT covered: the weights that undo the bias of the draw; the
    exponent is ours.
    """
    count = min(count, len(advantages))
    if not count:
        return []
    # The smallest of exponential variables with rates w is the i-th with probability w_i / sum(w).
    rng, places, arrivals = np.random.default_rng(seed), np.empty(0, dtype=np.int64), np.empty(0)
    for start in range(0, len(advantages), BLOCK):
        block = advantages[start : start + BLOCK]
        own = np.log(rng.standard_exponential(len(block))) - exponent * np.log(block)
        latest = arrivals.max() if len(arrivals) == count else math.inf
        early = np.flatnonzero(own < latest)
        places, arrivals = np.concatenate([places, early + start]), np.concatenate([arrivals, own[early]])
        if len(arrivals) > count:
            first = np.argpartition(arrivals, count - 1)[:count]
            places, arrivals = places[first], arrivals[first]
    return places[np.argsort(arrivals, kind="stable")].tolist()


def newest(advantages: Floats, count: int, seed: int, exponent: float = 1.0) -> list[int]:
    """What was sampled last is replayed first; nothing is drawn."""
    last = len(advantages) - 1
    return list(range(last, last - min(count, len(advantages)), -1))


def only_with_calls(calls: int) -> bool:
    """A trajectory of positive advantage is kept only if it calls a tool: SPEAR's self-imitation (#12, verified)."""
    return calls > 0


def one_a_problem(problems: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each problem one success is kept: WebRL (#223, verified). That it is the newest is ours.

    `problems`: N numbers, the oldest trajectory first; returns N marks.
    """
    _, from_the_end = np.unique(problems[::-1], return_index=True)
    kept = np.zeros(len(problems), dtype=bool)
    kept[len(problems) - 1 - from_the_end] = True
    return kept


def probability(token_logprobs: Sequence[float], band: tuple[float, float]) -> bool:
    """What is replayed is neither strange to the policy nor known by heart: the geometric mean of its token
    probabilities under the current policy lies above the lower bound and not above the upper one: WebRL (#223, verified).

    Nats in; a trajectory without tokens of the policy is in no band.
    """
    if not token_logprobs:
        return False
    low, high = band
    return low < math.exp(math.fsum(token_logprobs) / len(token_logprobs)) <= high


def recalibration(rewards: Floats, means: Sequence[float], deviations: Sequence[float], *, scale: bool) -> Floats:
    """Advantages of old trajectories by what groups earn now: reward minus the median of recent group means, where
    asked for over the median of their standard deviations: SPEAR (#12, verified). Only what stays above 0 is replayed.

    `means`, `deviations`: of recent groups, at least one. Ours: that the history counts groups, and that a median
    deviation of 0 divides nothing.
    """
    spread = float(np.median(deviations)) if scale else 1.0
    return (rewards - float(np.median(means))) / (spread or 1.0)


def decay(advantages: Floats, ages: NDArray[Any], factor: float) -> Floats:
    """Advantages of old trajectories fade by a factor a step: SPEAR's alternative to recalibration (#12, verified).

    `ages`: N numbers of steps, negative ones count as 0. That it is by the step is ours.
    """
    return advantages * factor ** np.maximum(ages, 0)


def seeds(step: int, steps: int) -> float:
    """Demonstrations are replayed from the first step on, and make room as the policy learns: a buffer filled by a
    heuristic that knows more (#127, derived). Their share of the batch at a step t is max(.05, .5 (1 - t / T)) (ours).

    They weigh as much as their advantage max(0, 1 - share of right attempts of the step) and have no importance ratio
    before the step's first update; both are ours. NOT covered: a value function, which would be too high on actions
    that only the heuristic took.
    """
    return max(0.05, 0.5 * (1 - step / steps))


def solutions(right: int, tried: int, below: float) -> bool:
    """A problem that is seldom solved is learned from with a solution that was found before: DeepSearch (#168,
    secondary), whose threshold is a pass rate below 25 %. The solution is compared with a few direct attempts.

    Of a group; one without attempts has no rate. Solutions are what a search has marked, and right attempts of groups
    that are seldom right. NOT covered: that such a problem's attempts are not all sampled; rewards that depend on the
    group or the step are the solution's old ones.
    """
    return tried > 0 and right / tried < below


def warmup(step: int, steps: int) -> float:
    """What replayed rows weigh at a step, (1 - cos(pi t / T)) / 2 and then 1: SPEAR's self-imitation (#12, verified)."""
    return 1.0 if step >= steps else (1 - math.cos(math.pi * step / steps)) / 2


PRIORITIES: Mapping[str, Draw] = {"uniform": uniform, "advantage": advantage, "newest": newest}
PARTS: Mapping[str, Callable[..., Any]] = {
    **PRIORITIES,
    **SELECTIONS,
    **{part.__name__: part for part in (only_with_calls, one_a_problem, probability, recalibration, decay, warmup)},
    **{part.__name__: part for part in (seeds, solutions)},
}
"""Priorities, selections and options of `replay` in pipelines.yaml."""
