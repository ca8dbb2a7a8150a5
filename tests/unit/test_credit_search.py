"""Credit in searched trees: worked out by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from journeyman.credit.base import ScoredBatch
from journeyman.credit.group import group_mean
from journeyman.credit.readings import searched
from journeyman.credit.search import deepsearch, rest_mcts
from journeyman.trajectory import Trajectory, Turn
from tests.unit.credit_batches import by_turn
from tests.unit.fakes import trajectory


def leaf(reward: float, turns: int, **record: Any) -> Trajectory:
    """An attempt of so many turns, a token each, after a prompt of one token; `record` is what its search says."""
    made = trajectory(
        tokens=turns + 1,
        turns=tuple(Turn(text="", start=i + 1, stop=i + 2) for i in range(turns)),
        provenance={"search": {"mean": None, "learned": True, **record}} if record else {},
    )
    return made.scored(reward, {})


def credited(function: Any, *groups: Sequence[Trajectory]) -> list[list[float]]:
    batch = ScoredBatch.of(groups)
    return by_turn(batch, function(batch, searched=searched(batch)))


def test_deepsearch_by_hand() -> None:
    group = [
        leaf(0, 1),  # direct: -1 - (-.5)
        leaf(1, 2, nodes=[1, 3], values=[0.6, 1.0], mean=-0.5),
        leaf(0, 2, nodes=[1, 4], values=[0.6, -1.0], mean=-0.5),
        leaf(0, 2, nodes=[1, 5], values=[0.6, -1.0], mean=-0.5, learned=False),
    ]
    # Turn 1 is shared by two leaves that are learned from: (.6 + .5) / 2 each.
    assert credited(deepsearch, group) == [
        pytest.approx([-0.5]),
        pytest.approx([0.55, 1.5]),
        pytest.approx([0.55, -0.5]),
        [0.0, 0.0],
    ]
    # The same numbers in another group are other turns.
    assert credited(deepsearch, group, group)[4:] == [pytest.approx(row) for row in credited(deepsearch, group)]


def test_rest_mcts_by_hand() -> None:
    group = [
        leaf(1, 2, nodes=[1, -7], values=[0.5, 1.0]),
        leaf(0, 2, nodes=[1, -9], values=[0.5, 0.25]),
        leaf(0, 1, nodes=[3], values=[0.0]),
        leaf(0, 2),  # direct: 0 - 1/4
    ]
    # -7 and -9 are turns of one attempt alone
    assert credited(rest_mcts, group) == [
        pytest.approx([0.25, 0.5]),
        pytest.approx([0.25, -0.25]),
        [0.0],
        pytest.approx([-0.25, -0.25]),
    ]


def test_without_a_search_they_compare_with_the_mean() -> None:
    group = [leaf(1, 2), leaf(0, 1), leaf(0, 3)]
    batch = ScoredBatch.of([group])
    plain = group_mean(batch)
    assert np.allclose(rest_mcts(batch, searched=searched(batch)), plain)
    assert np.allclose(deepsearch(batch, searched=searched(batch)), 2 * plain)


def test_what_was_not_searched_is_held_against_the_tree_of_its_group() -> None:
    found = leaf(1, 1, nodes=[1], values=[1.0], mean=-0.5)
    assert credited(deepsearch, [found, leaf(1, 2), leaf(0, 1)]) == [[1.5], [1.5, 1.5], [-0.5]]
    assert credited(deepsearch, [leaf(1, 1), leaf(0, 1)]) == [[1.0], [-1.0]]


def test_an_empty_step() -> None:
    batch = ScoredBatch.of([])
    assert len(deepsearch(batch, searched=searched(batch))) == len(rest_mcts(batch, searched=searched(batch))) == 0


def test_a_trajectory_without_turns() -> None:
    batch = ScoredBatch.of([[trajectory(turns=(), tokens=1).scored(0.0, {}), leaf(1, 1)]])
    assert np.isfinite(deepsearch(batch, searched=searched(batch))).all()
