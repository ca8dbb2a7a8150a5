"""How a fixed budget is best spent on demonstrations and on episodes of reinforcement learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What a budget buys."""

    demonstrations: int
    episodes: int


def splits(budget: float, counts: Sequence[int], *, demonstration: float, episode: float) -> list[Split]:
    """For each count of demonstrations the episodes that the rest of the budget pays (#94, verified: c_d n_d + c_e n_e = B).

    `demonstration`, `episode`: what one costs, in the budget's unit. Counts that it doesn't cover are left out.
    """
    left = [(count, budget - count * demonstration) for count in counts]
    return [Split(demonstrations=count, episodes=int(rest / episode + 1e-9)) for count, rest in left if rest >= 0]


def best_split(success: Mapping[Split, float]) -> float:
    """The number of demonstrations at which short trials, three or more, promise the most success.

    The vertex of the parabola that fits them best, within the tried range; where it opens upwards, the best trial. That
    success has one maximum in between is #94's finding, the parabola is ours. Raises `ValueError` for fewer trials.
    """
    import numpy as np

    if len({split.demonstrations for split in success}) < 3:
        raise ValueError("three or more splits have to be tried")
    tried = [split.demonstrations for split in success]
    a, b, _ = np.polyfit(tried, list(success.values()), 2)
    if a >= 0:
        return float(max(success, key=lambda split: success[split]).demonstrations)
    return float(np.clip(-b / (2 * a), min(tried), max(tried)))
