"""SALT: worked-out advantages, a plain loop, and what merging leaves as it was."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.graphs import Moves, salt
from journeyman.credit.readings import moves
from tests.unit.credit_batches import by_turn, scored, z

Path = Sequence[tuple[int, int]]
"""(state, action) of each turn."""


def credit(function: Callable[..., Floats], *groups: Sequence[tuple[float, Path]], **options: Any) -> list[list[float]]:
    flat = [pair for group in groups for _, path in group for pair in path]
    batch, _ = scored(*[[(reward, [0.0] * len(path)) for reward, path in group] for group in groups])
    states, actions = np.array(flat, np.int64).reshape(-1, 2).T
    return by_turn(batch, function(batch, moves=Moves(state_U=states, action_U=actions), **options))


def test_salt_by_hand() -> None:
    # rewards 1, 0, 0: mean 1/3, std .4714: 1.41421, -.70711, -.70711. The first two share their first step:
    # (1.41421 - .70711) / 2 = .35355; then they part.
    group = [(1.0, [(0, 0), (1, 1)]), (0.0, [(0, 0), (1, 2)]), (0.0, [(0, 9)])]
    assert credit(salt, group) == [
        pytest.approx(row, abs=1e-4) for row in ([0.35355, 1.41421], [0.35355, -0.70711], [-0.70711])
    ]
    # The same step that leads elsewhere is another one.
    elsewhere = [(1.0, [(0, 0), (1, 1)]), (0.0, [(0, 0), (2, 1)])]
    assert credit(salt, elsewhere) == [pytest.approx(row, abs=1e-4) for row in ([1, 1], [-1, -1])]
    # Two that go the same way to the end have nothing between them; other groups are other graphs.
    same = [(1.0, [(0, 0), (1, 1)]), (0.0, [(0, 0), (1, 1)])]
    assert credit(salt, same, elsewhere)[:2] == [pytest.approx([0, 0], abs=1e-9)] * 2


def test_how_much_history_has_to_agree() -> None:
    # The third steps agree, and so do the second ones; the first ones differ.
    group = [(1.0, [(0, 5), (1, 1), (2, 2)]), (0.0, [(0, 6), (1, 1), (2, 2)])]
    assert credit(salt, group)[0] == pytest.approx([1, 1, 0], abs=1e-4)
    assert credit(salt, group, history=2)[0] == pytest.approx([1, 1, 1], abs=1e-4)


def test_the_number_of_a_turn_does_not_matter_beyond_its_history() -> None:
    group = [(1.0, [(7, 7), (0, 0), (1, 1), (2, 2)]), (0.0, [(0, 0), (1, 1), (2, 2)])]
    # (2, 2) after (1, 1) is one step; (1, 1) after (0, 0) too; the first of the second has no history
    assert credit(salt, group) == [pytest.approx(row, abs=1e-4) for row in ([1, 1, 0, 0], [-1, 0, 0])]


PATH = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1).map(float), PATH), min_size=1, max_size=5), st.integers(1, 2))
def test_salt_against_a_plain_loop(group: list[Any], history: int) -> None:
    whole = z([reward for reward, _ in group])
    members: dict[Any, list[float]] = defaultdict(list)

    def edge(path: Path, t: int) -> Any:
        leads = path[t + 1][0] if t + 1 < len(path) else None
        return (path[t], leads, tuple(path[max(0, t - history) : t]))

    for value, (_, path) in zip(whole, group, strict=True):
        for t in range(len(path)):
            members[edge(path, t)].append(value)
    expected = [[np.mean(members[edge(path, t)]) for t in range(len(path))] for _, path in group]
    found = credit(salt, group, history=history)
    assert found == [pytest.approx(row, abs=1e-9) for row in expected]
    # Averages over members keep the sum over all turns.
    assert sum(map(sum, found)) == pytest.approx(
        sum(value * len(path) for value, (_, path) in zip(whole, group, strict=True)), abs=1e-9
    )


def test_degenerate_groups() -> None:
    assert credit(salt, [(0.3, [(0, 0)])]) == [[0]]
    assert credit(salt, [(1.0, [(0, 0)])] * 3) == [pytest.approx([0], abs=1e-9)] * 3
    empty = ScoredBatch.of([])
    assert len(salt(empty, moves=moves(empty), history=5)) == 0
    assert credit(salt, [(1.0, [(0, 0)]), (0.0, [(0, 1)])], history=9) == [
        pytest.approx([1], abs=1e-4),
        pytest.approx([-1], abs=1e-4),
    ]
