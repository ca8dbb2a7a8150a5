"""How rewards are put together: the result of every combinator is again a reward.

`+`, `-` and a number before `*` keep what was earned turn by turn; where a combination is not linear, everything is
earned by the whole. What can't be scored stays so: an operand that is None makes the sum None, unless the operand has
no say in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median, pstdev
from typing import Annotated, Literal

from journeyman.expressions import NotNegative, Yields
from journeyman.rewards.base import UNSCORED, Group, Like, Reward, Score
from journeyman.trajectory import Trajectory

Term = tuple[float, str, Score]
"""(weight, name, score)."""
Channels = Annotated[Reward, Yields(frozenset({"channels"}), of_operands=True)]


def weighted_sum(*terms: tuple[float, Reward]) -> Like:
    """The sum of rewards, each times its weight. Step rewards, spans and channels are summed likewise."""

    def sum_(group: Group) -> list[Score]:
        columns = [(weight, name_of(reward), reward(group)) for weight, reward in terms]
        return [summed([(weight, name, scores[i]) for weight, name, scores in columns]) for i in range(len(group))]

    sum_.__name__ = name_of(terms[0][1]) if len(terms) == 1 else "sum"
    return sum_


def product(first: Reward, second: Reward) -> Reward:
    """The product of two rewards (CaRL's form, #93, verified). A 0 that is sure makes it 0 whatever the other is."""

    def product_(group: Group) -> list[Score]:
        return [_product(operands) for operands in columns_of([first, second], group)]

    product_.__name__ = "product"
    return product_


def constant(value: float) -> Reward:
    """The same for every trajectory: the 1 in `1 - late`."""

    def constant_(group: Sequence[Trajectory]) -> list[Score]:
        return [Score(total=value) for _ in group]

    return constant_


def channels(*, weights: dict[str, float] | None = None, **rewards: Reward) -> Channels:
    """Rewards that get an advantage each, by name (HDPO, #118, verified; SLIM, #68, secondary).

    `Score.channels` holds each reward's own total; None, as `when` makes it: no part in that comparison. `weights`
    (1 where not given) only weigh the total, which is logged and drives whatever asks for one number; a credit that
    works on channels has its own. A trajectory can be scored as long as one channel could. No channel can be called
    `weights`.
    """
    given = weights or {}
    if not rewards:
        raise ValueError("it has no channels: write name=reward")
    if unknown := sorted(given.keys() - rewards.keys()):
        raise ValueError(f"`weights` names `{unknown[0]}`, which is no channel")

    def channels_(group: Group) -> list[Score]:
        columns = [(given.get(name, 1.0), name, reward(group)) for name, reward in rewards.items()]
        return [_channelled([(w, name, scores[i]) for w, name, scores in columns]) for i in range(len(group))]

    return channels_


def ensemble(
    *rewards: Reward,
    how: Literal["mean", "median", "min", "mean_minus_std"] = "mean",
    k: NotNegative = 1.0,
) -> Reward:
    """Reward model ensembles (#34, derived): mean, median, least, or mean - k * std of several rewards.

    The std is the population's. Members that could not score a trajectory are left out; None where none could.
    k = 1 is ours. It does not remove errors that the members share.
    """
    if not rewards:
        raise ValueError("it has no members")

    def ensemble_(group: Group) -> list[Score]:
        return [_ensemble(members, how, k) for members in columns_of(rewards, group)]

    return ensemble_


def geometric(*rewards: Reward, floor: NotNegative = 1e-3) -> Reward:
    """Lucy-SKG's kinesthetic reward combination (#85, secondary): s * (prod |R_i|)^(1/n), s = 1 if all R_i > 0 else -1.

    Any component that is not above 0 makes the result negative, so two negatives are no positive. With utilities
    above 0 it is GTAlign's mutual welfare (#106, verified: the root of two; more than two are ours). |R_i| is at least
    `floor` (1e-3, ours), lest one 0 hide all others; 0 is the authors' form. The authors' terms lie in [-1, 1].
    """
    if not rewards:
        raise ValueError("it has no factors")

    def geometric_(group: Group) -> list[Score]:
        return [_geometric(factors, floor) for factors in columns_of(rewards, group)]

    return geometric_


def confident(reward: Reward, confidence: Reward) -> Reward:
    """A reward counted by how sure it is (Ctrl-U, #59, verified): w * (R - sum(w R) / sum(w)), centred in the group.

    w is the total of `confidence`, 0 where it is below: exp(-u) of an uncertainty u, or a share of agreement (URPA #152,
    secondary). Centring within the group is ours: without it, a w that the whole group shares is lost in the credit's
    own centring. A credit that divides by the spread loses it all the same, so take `group_mean`.
    """

    def confident_(group: Group) -> list[Score]:
        rows = columns_of([reward, confidence], group)
        pairs = [_values(row) for row in rows]
        known = [(r, max(0.0, w)) for r, w in filter(None, pairs)]
        weight = sum(w for _, w in known)
        mean = sum(r * w for r, w in known) / weight if weight > 0 else 0.0
        return [
            UNSCORED if pair is None else ended(max(0.0, pair[1]) * (pair[0] - mean), row)
            for pair, row in zip(pairs, rows, strict=True)
        ]

    return confident_


def name_of(reward: Reward) -> str:
    """What a reward is called among the parts of a combination."""
    return getattr(reward, "__name__", "reward").rstrip("_")


def columns_of(rewards: Sequence[Reward], group: Group) -> list[list[tuple[str, Score]]]:
    """For each trajectory the scores that several rewards give it, with the rewards' names."""
    columns = [(name_of(reward), reward(group)) for reward in rewards]
    return [[(name, scores[i]) for name, scores in columns] for i in range(len(group))]


def ended(total: float, operands: Sequence[tuple[str, Score]], **more: float) -> Score:
    """A score that was earned by the whole, with the parts of what it was made of and `more`."""
    return Score(total=total, parts=merged_parts([*operands, noted(**more)]))


def noted(**parts: float) -> tuple[str, Score]:
    """What is to be logged besides, as `merged_parts` takes it."""
    return "", Score(total=None, parts=parts)


def whole_of(score: Score) -> float:
    """What of a total was earned neither turn by turn nor by stretches of text."""
    assert score.total is not None
    return score.total - sum(score.turns) - sum(span.reward for span in score.spans)


def merged_parts(operands: Sequence[tuple[str, Score]]) -> dict[str, float]:
    """The parts of several scores under one roof, and each operand's total under its own name.

    Where two operands give different values to one name, the later one's is numbered.
    """
    parts: dict[str, float] = {}
    for name, score in operands:
        own = {name: score.total} if score.total is not None and name != "constant" else {}
        for key, value in {**own, **score.parts}.items():
            parts[_free(parts, key, value)] = value
    return parts


def summed(terms: Sequence[Term]) -> Score:
    """The sum of scores, each times its weight; None where one that has a say is None."""
    weighty = [score for weight, _, score in terms if weight != 0]
    if any(score.total is None for score in weighty):
        return UNSCORED
    return Score(
        total=sum(weight * score.total for weight, _, score in terms if score.total is not None),
        parts=merged_parts([(name, score) for _, name, score in terms]),
        turns=_added([tuple(weight * r for r in score.turns) for weight, _, score in terms]),
        turn_parts=_merged_turns([score for _, _, score in terms]),
        spans=tuple(replace(span, reward=weight * span.reward) for weight, _, score in terms for span in score.spans),
        channels={
            key: None if value is None else weight * value
            for weight, _, score in terms
            for key, value in score.channels.items()
        },
    )


def _channelled(terms: Sequence[Term]) -> Score:
    known = [term for term in terms if term[2].total is not None]
    if not known:
        return UNSCORED
    return replace(summed(known), channels={name: score.total for _, name, score in terms})


def _product(operands: Sequence[tuple[str, Score]]) -> Score:
    if any(score.total == 0 for _, score in operands):
        return ended(0.0, operands)
    values = _values(operands)
    return UNSCORED if values is None else ended(math.prod(values), operands)


def _ensemble(members: Sequence[tuple[str, Score]], how: str, k: float) -> Score:
    known = [score.total for _, score in members if score.total is not None]
    if not known:
        return UNSCORED
    spread = pstdev(known)
    found = {
        "mean": fmean(known),
        "median": median(known),
        "min": min(known),
        "mean_minus_std": fmean(known) - k * spread,
    }
    return ended(found[how], members, spread=spread)


def _geometric(factors: Sequence[tuple[str, Score]], floor: float) -> Score:
    values = _values(factors)
    if values is None:
        return UNSCORED
    size = math.prod(max(abs(value), floor) ** (1 / len(values)) for value in values)
    return ended(size if all(value > 0 for value in values) else -size, factors)


def _values(operands: Sequence[tuple[str, Score]]) -> list[float] | None:
    """The totals; None where one is."""
    known = [score.total for _, score in operands if score.total is not None]
    return known if len(known) == len(operands) else None


def _free(taken: Mapping[str, object], key: str, value: object) -> str:
    free, number = key, 2
    while free in taken and taken[free] != value:
        free, number = f"{key}_{number}", number + 1
    return free


def _merged_turns(scores: Sequence[Score]) -> dict[str, tuple[float, ...]]:
    parts: dict[str, tuple[float, ...]] = {}
    for score in scores:
        for key, values in score.turn_parts.items():
            parts[_free(parts, key, values)] = values
    return parts


def _added(columns: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    filled = [column for column in columns if column]
    return tuple(sum(values) for values in zip(*filled, strict=True))
