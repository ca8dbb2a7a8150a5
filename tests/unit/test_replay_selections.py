"""Which trajectories of a group are compared, worked out by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.errors import ConfigError
from journeyman.replay import SELECTIONS, determination
from journeyman.replay.selections import Selection, best, best_random, best_worst, consistent, contrastive
from journeyman.trajectory import Trajectory
from tests.unit.fakes import trajectory


def earning(reward: float, tokens: int = 4, *, correct: bool = True, **parts: float) -> Trajectory:
    return trajectory(tokens=tokens, correct=correct).scored(reward, parts)


def group_of(*rewards: float) -> list[Trajectory]:
    return [earning(reward) for reward in rewards]


def test_contrastive_by_hand() -> None:
    group = [earning(1, 9), earning(0, 3), earning(1, 5), earning(0, 8), earning(1, 7), earning(0.5, 4)]
    # Rewards 1 by length: places 2 (5 tokens), 4 (7), 0 (9); then .5: 5; rewards 0 by length: 1 (3), 3 (8).
    assert contrastive(group, 4) == [2, 4, 1, 3]
    assert contrastive(group, 3) == [2, 4, 3]  # the odd one is a best one


def test_best_by_hand() -> None:
    assert best(group_of(0.1, 0.9, 0.5, 0.9), 3) == [1, 3, 2]


def test_best_random_by_hand() -> None:
    group = group_of(0.1, 0.9, 0.5, 0.7, 0.2)
    drawn = [best_random(group, 3, seed) for seed in range(60)]
    assert {tuple(one[:2]) for one in drawn} == {(1, 3)}  # two of three are the best
    assert {one[2] for one in drawn} == {0, 2, 4}  # the third is any of the others
    assert best_random(group, 3, 7) == best_random(group, 3, 7)


def test_best_worst_by_hand() -> None:
    assert best_worst(group_of(0.1, 0.9, 0.5, 0.7, 0.2), 4) == [1, 3, 4, 0]
    assert best_worst(group_of(0.1, 0.9, 0.5, 0.7, 0.2), 3) == [1, 3, 0]


def test_consistent_by_hand() -> None:
    right, wrong = (0.9, 0.2, 0.6, 0.4), (0.3, 0.8)
    group = [earning(1, steps=rating) for rating in right] + [
        earning(0, correct=False, steps=rating) for rating in wrong
    ]
    # Four of six are left, two of each side: the right ones rated .9 and .6, and both wrong ones.
    assert consistent(group, 4, 0, "steps") == [0, 2, 4, 5]
    # Three: two right ones, and the wrong one rated .3.
    assert consistent(group, 3, 0, "steps") == [0, 2, 4]
    # Five: the wrong side has no more than two, so three right ones.
    assert consistent(group, 5, 0, "steps") == [0, 2, 3, 4, 5]
    assert consistent(group[:4], 2, 0, "steps") == [0, 2]  # nothing is wrong


def test_steps_are_rated_by_their_mean() -> None:
    def rated(turns: Sequence[float]) -> Trajectory:
        return trajectory(calls=len(turns) - 1).scored(
            1.0, {"steps": sum(turns)}, turn_rewards=turns, turn_parts={"steps": turns}
        )

    # Sums 1.2 and .9, means .4 and .9: the many steps of the first are no merit.
    assert consistent([rated((0.4, 0.4, 0.4)), rated((0.9,))], 1, 0, "steps") == [1]


def test_a_part_that_the_reward_does_not_have_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"replay\.selection\.part: the reward has no part `stpes`(.|\n)*it has steps"
    ):
        consistent([earning(1, steps=0.5), earning(0, steps=0.5)], 2, 0, "stpes")


@pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS)
@given(
    rewards=st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=3, max_size=9),
    data=st.data(),
)
def test_every_selection_leaves_as_many_as_asked_for(
    select: Selection, rewards: list[tuple[float, bool]], data: st.DataObject
) -> None:
    group = [earning(reward, correct=right, steps=reward) for reward, right in rewards]
    keep = data.draw(st.integers(2, len(group) - 1))
    kept = select(group, keep, 5, "steps")
    assert len(kept) == len(set(kept)) == keep and set(kept) <= set(range(len(group)))


def test_determination_by_hand() -> None:
    # x: -1 0 1 (mean 2), y: -1/3 -1/3 2/3; x.y = 1, x.x = 2, y.y = 6/9: 1 / (2 * 2/3) = .75
    assert determination([1, 2, 3], [0, 0, 1]) == pytest.approx(0.75)
    assert determination([0.2, 0.4], [1, 0]) == pytest.approx(1)
    assert determination([1, 1], [0, 1]) == determination([1, 2], [1, 1]) == determination([1], [1]) == 0
