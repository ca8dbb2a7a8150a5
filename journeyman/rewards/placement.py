"""Where in an attempt a reward is paid: milestones at the turns that reach them, the whole shared out over turns."""

from collections.abc import Iterator, Sequence

from journeyman.expressions import Count
from journeyman.messages import ToolCall
from journeyman.rewards.algebra import name_of
from journeyman.rewards.base import UNSCORED, Group, Like, Score, TurnScores, per_turn, scorable
from journeyman.rewards.bounds import StepReward
from journeyman.rewards.reference import reference_calls
from journeyman.trajectory import Trajectory


def milestones(group: Group) -> TurnScores:
    """Pays a turn 1 where it makes a reference call that had not been made, and the last turn of a right attempt; else 0.

    Calls are equal in tool and arguments, in any order. What a world pays for by itself is `world`. None where nobody
    knows the reference calls.
    """
    gold = reference_calls(group.problem)
    if gold is None:
        return [UNSCORED for _ in group]
    return [per_turn(t, list(_reached(t, gold)), name="milestones") if scorable(t) else UNSCORED for t in group]


def _reached(trajectory: Trajectory, gold: Sequence[ToolCall]) -> Iterator[float]:
    left = list(gold)
    for turn in trajectory.turns:
        before = len(left)
        for call in turn.calls:
            if call in left:
                left.remove(call)
        yield float(len(left) < before or (bool(trajectory.correct) and turn is trajectory.turns[-1]))


def dense(steps: StepReward, *, most: Count | None = None) -> Like:
    """Dense rewards of a practitioner's guide (#94, verified): turn k earns r_k / n, and nothing comes at the end.

    r_k is the operand's step reward. n is the number of positive ones where the attempt is right, so that a win of
    rewards 0 and 1 adds up to 1; else the most that the task has, `most`, by default one for each reference call and
    one for the answer (ours), so that a loss earns less. n is at least 1: a win without any step reward earns 0, as in
    the released code; `milestones` always pays the right answer. What the operand pays besides turns is left out.
    """

    def dense_(group: Group) -> list[Score]:
        return [_placed(t, score, most or _most(group)) for t, score in zip(group, steps(group), strict=True)]

    dense_.__name__ = f"dense_{name_of(steps)}"
    return dense_


def _placed(trajectory: Trajectory, score: Score, most: int | None) -> Score:
    if score.total is None or not scorable(trajectory):
        return UNSCORED
    n = sum(r > 0 for r in score.turns) if trajectory.correct else most
    if n is None:
        return UNSCORED
    return per_turn(trajectory, [r / max(1, n) for r in score.turns], name="dense")


def _most(group: Group) -> int | None:
    gold = reference_calls(group.problem)
    return None if gold is None else len(gold) + 1
