"""The numbers of tree search: what a place is worth, and which place is grown next."""

import math
from collections.abc import Sequence

from journeyman.trajectory import Trajectory


def uct(total: float, visits: int, above: int, exploration: float) -> float:
    """Mean value and a bonus for what was seldom tried: UCB1; `above` are the visits of the node above."""
    return total / visits + exploration * math.sqrt(math.log(above) / visits)


def surprise(trajectory: Trajectory, turn: int | None = None) -> float:
    """Mean of -log p over the policy's own tokens of a turn, or of all turns: nats a token, 0 where there are none.

    What stands for the entropy H(pi(.|s)): an estimate from the one sample that there is, for samplers give no more than
    the log-probabilities of what they drew, under the distribution that they drew from.
    """
    turns = trajectory.turns if turn is None else [trajectory.turns[turn]]
    own = [trajectory.logprobs[i] for one in turns for i in range(one.start, one.stop) if trajectory.loss_mask[i]]
    return -math.fsum(own) / len(own) if own else 0.0


def frontier_score(
    above: float, entropy: float, reached: float, *, weights: tuple[float, float, float] = (0.4, 0.4, 0.01)
) -> float:
    """DeepSearch's F(s) = l1 tanh(Q of the parent) + l2 H(pi(.|s)) + l3 sqrt(d / d_T) (#168, secondary).

    `reached`: d / d_T, the depth of s as a share of the deepest that may be.
    """
    quality, uncertainty, depth = weights
    return quality * math.tanh(above) + uncertainty * entropy + depth * math.sqrt(reached)


def soft_clip(q: float, temperature: float = 1.0, most: float = 1.0) -> float:
    """DeepSearch's bounded value of a node: tanh(q / e) q_max (#168, secondary)."""
    return most * math.tanh(q / temperature)


def quality_values(remaining: Sequence[int], wrong: Sequence[bool]) -> list[float]:
    """v_1 .. v_K of a trace (#45, derived): `remaining` are the m_k, steps still needed after step k, `wrong` the r_k.

    w_k = (1 - v_{k-1}) / (m_k + 1) (1 - 2 r_k), v_k = max(v_{k-1} + w_k, 0), v_0 = 0.
    """
    values, before = list[float](), 0.0
    for needed, astray in zip(remaining, wrong, strict=True):
        before = max(before + (1 - before) / (needed + 1) * (1 - 2 * astray), 0.0)
        values.append(before)
    return values


def step_values(texts: Sequence[str], right: Sequence[Sequence[str]]) -> list[float]:
    """`quality_values` of a trace of turns, by the right traces (at least one) that were found for the same problem.

    m_k is the fewest turns that a right trace still takes from there; r_k = 1 where no right trace goes through it, whose
    m is that of the turn before. Both readings are ours.
    """
    remaining, wrong = [min(map(len, right))], list[bool]()
    for count in range(1, len(texts) + 1):
        through = [len(trace) - count for trace in right if list(trace[:count]) == list(texts[:count])]
        remaining.append(min(through, default=remaining[-1]))
        wrong.append(not through)
    return quality_values(remaining[1:], wrong)
