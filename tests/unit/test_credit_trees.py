"""Credit in trees of tokens and of forked attempts: worked out by hand, and against plain loops."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.group import group_normalized
from journeyman.credit.readings import forks_U, prefixes, turn_rewards_U
from journeyman.credit.trees import portool, tempo
from journeyman.trajectory import Trajectory, Turn
from tests.unit.credit_batches import by_turn, scored, z
from tests.unit.fakes import trajectory


def sampled(ids: Sequence[int], reward: float, mask: Sequence[int] = ()) -> Trajectory:
    """A trajectory of a prompt of one token (0) and these; all of them are learned unless a mask says otherwise."""
    learned = (0, *(mask or [1] * len(ids)))
    return trajectory(tokens=len(learned), token_ids=(0, *ids), loss_mask=learned).scored(reward, {})


def grown(function: Callable[..., Floats], *groups: Sequence[Trajectory]) -> list[list[float]]:
    batch = ScoredBatch.of(groups)
    return [list(map(float, values)) for values in batch.split(function(batch, prefixes=prefixes(batch)))]


def test_tempo_by_hand() -> None:
    x, y, a, b = 1, 2, 3, 4
    group = [sampled([x, a], 1), sampled([x, b], 1), sampled([x, b], 0), sampled([y, a], 0)]
    # V of the prompt 1/2, of x 2/3, of y 0, of xa 1, of xb 1/2, of ya 0; mean 1/2, std 1/2
    assert grown(tempo, group) == [
        pytest.approx([0, (1 / 2 + 1 / 6) / 0.5, (1 / 2 + 1 / 3) / 0.5], abs=1e-4),
        pytest.approx([0, (1 / 2 + 1 / 6) / 0.5, (1 / 2 - 1 / 6) / 0.5], abs=1e-4),
        pytest.approx([0, (-1 / 2 + 1 / 6) / 0.5, (-1 / 2 - 1 / 6) / 0.5], abs=1e-4),
        pytest.approx([0, (-1 / 2 - 1 / 2) / 0.5, -1], abs=1e-4),  # nobody else comes by y: nothing parts there
    ]
    # another group's trajectories are other states, whatever their tokens
    other = [sampled([x, a], 0), sampled([x, a], 5)]
    assert grown(tempo, group, other)[:4] == [pytest.approx(row) for row in grown(tempo, group)]


def test_partings_in_what_tools_answer_are_no_tokens_doing() -> None:
    group = [sampled([1, 8, 2], 1, mask=[1, 0, 1]), sampled([1, 9, 2], 0, mask=[1, 0, 1])]
    assert grown(tempo, group) == [pytest.approx([0, 1, 0, 1], abs=1e-4), pytest.approx([0, -1, 0, -1], abs=1e-4)]


IDS = st.lists(st.integers(1, 2), min_size=1, max_size=5)


@settings(max_examples=60)
@given(st.lists(st.tuples(IDS, st.integers(0, 1)), min_size=1, max_size=6))
def test_tempo_against_a_plain_loop(group: list[Any]) -> None:
    def value(prefix: list[int]) -> float:
        below = [reward for ids, reward in group if ids[: len(prefix)] == prefix]
        return sum(below) / len(below)

    rewards = [reward for _, reward in group]
    mean = sum(rewards) / len(rewards)
    std = (sum((r - mean) ** 2 for r in rewards) / len(rewards)) ** 0.5 + 1e-6
    for (ids, reward), found in zip(group, grown(tempo, [sampled(ids, reward) for ids, reward in group]), strict=True):
        rises = [value(ids[: t + 1]) - value(ids[:t]) for t in range(len(ids))]
        assert found == pytest.approx([0, *((reward - mean + rise) / std for rise in rises)], abs=1e-6)


def test_without_shared_tokens_tempo_adds_the_first_tokens_rise_alone() -> None:
    batch = ScoredBatch.of([[sampled([i, i, i], i % 2) for i in range(4)]])
    rest = tempo(batch, prefixes=prefixes(batch)) - group_normalized(batch)
    assert [list(row) for row in batch.split(rest)] == [
        pytest.approx([0, (-1) ** (i + 1), 0, 0], abs=1e-4) for i in range(4)
    ]


def climbed(
    function: Callable[..., Floats],
    rewards: Sequence[tuple[float, Sequence[float]]],
    forks: Sequence[int],
    **options: Any,
) -> list[list[float]]:
    batch, turn_rewards = scored(rewards)
    values: Floats = function(batch, forks_U=np.array(forks), turn_rewards_U=turn_rewards, **options)
    return by_turn(batch, values)


def test_portool_by_hand() -> None:
    # Two attempts share their first step and part at 1; a third takes another step at 0 and is done.
    leaves, forks = [(1.0, [0.0, 0.0]), (0.0, [0.0, 0.0]), (1.0, [0.0])], [0, 1, 0, 1, 0]
    # gamma 1/2: the shared step (1/2 + 0) / 2 = .25, the third's 1: z -1, 1. At 1: 1 and 0: z 1, -1.
    assert climbed(portool, leaves, forks, gamma=0.5, trajectory=0.0) == [
        pytest.approx(row, abs=1e-4) for row in ([-1, 1], [-1, -1], [1])
    ]
    # rewards 1, 0, 1: mean 2/3, std .4714: .70711, -1.41421, .70711
    assert climbed(portool, leaves, forks, gamma=0.5) == [
        pytest.approx(row, abs=1e-4) for row in ([-0.29289, 1.70711], [-2.41421, -2.41421], [1.70711])
    ]
    # The shared step's calls worked, worth 1 more: .25 + 1 against 1.
    worked = [(2.0, [1.0, 0.0]), (1.0, [1.0, 0.0]), (1.0, [0.0])]
    assert climbed(portool, worked, forks, gamma=0.5, trajectory=0.0) == [
        pytest.approx(row, abs=1e-4) for row in ([1, 1], [1, -1], [-1])
    ]
    # gamma .95 by default: (.95 + 0) / 2 = .475, still below 1
    assert climbed(portool, leaves, forks, trajectory=0.0, fork=2.0)[0] == pytest.approx([-2, 2], abs=1e-4)


def test_steps_without_siblings_get_the_trajectorys_part_alone() -> None:
    chain = [(1.0, [0.0, 0.0]), (0.0, [0.0])]
    assert climbed(portool, chain, [0, 1, 0], trajectory=0.0)[0][1] == 0
    assert climbed(portool, [(1.0, [0.5, 0.0])], [0, 1]) == [[0, 0]]


def forked(rewards: Sequence[float], paths: Sequence[Sequence[int]]) -> ScoredBatch:
    """Attempts whose turns are a token each, after a prompt of one token."""
    return ScoredBatch.of(
        [
            [
                trajectory(
                    tokens=len(path) + 1,
                    token_ids=(0, *path),
                    turns=tuple(Turn(text="", start=i + 1, stop=i + 2) for i in range(len(path))),
                ).scored(reward, {})
                for reward, path in zip(rewards, paths, strict=True)
            ]
        ]
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(IDS, st.integers(0, 1)), min_size=1, max_size=6))
def test_portool_against_a_plain_loop(group: list[Any]) -> None:
    paths, rewards = [ids for ids, _ in group], [float(reward) for _, reward in group]
    batch = forked(rewards, paths)
    found = by_turn(batch, portool(batch, forks_U=forks_U(batch), turn_rewards_U=turn_rewards_U(batch)))

    def step(i: int, t: int) -> tuple[Any, ...]:
        """A step is shared by those that go on after it together; a last one is its attempt's own."""
        return (tuple(paths[i][: t + 1]), i if t + 1 == len(paths[i]) else -1)

    def value(key: tuple[Any, ...]) -> float:
        depth = len(key[0])
        below = [i for i in range(len(paths)) if len(paths[i]) >= depth and step(i, depth - 1) == key]
        return sum(0.95 ** (len(paths[i]) - depth) * rewards[i] for i in below) / len(below)

    whole = z(rewards)
    for i, path in enumerate(paths):
        for t in range(len(path)):
            same_place = [j for j in range(len(paths)) if len(paths[j]) > t and paths[j][:t] == path[:t]]
            siblings = list(dict.fromkeys(step(j, t) for j in same_place))
            relative = z([value(key) for key in siblings])[siblings.index(step(i, t))]
            assert found[i][t] == pytest.approx(whole[i] + relative, abs=1e-6)


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.1]])
def test_equals_have_nothing_to_compare(rewards: list[float]) -> None:
    assert grown(tempo, [sampled([1, 2], reward) for reward in rewards]) == [pytest.approx([0, 0, 0], abs=1e-6)] * len(
        rewards
    )
    batch = forked(rewards, [[1, 2]] * len(rewards))
    assert portool(batch, forks_U=forks_U(batch), turn_rewards_U=turn_rewards_U(batch)) == pytest.approx(0, abs=1e-6)


def test_an_empty_step() -> None:
    batch = ScoredBatch.of([])
    assert len(tempo(batch, prefixes=prefixes(batch))) == 0
    assert len(portool(batch, forks_U=forks_U(batch), turn_rewards_U=turn_rewards_U(batch))) == 0
