"""What credits read from trajectories: equal things get equal names, and only those."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.credit.base import NEEDS, ScoredBatch
from journeyman.credit.readings import READINGS, channels, forks_U, moves, prefix_names, prefixes, turn_rewards_U
from journeyman.messages import Message
from journeyman.trajectory import ToolCall, ToolResult, Trajectory, Turn
from tests.unit.fakes import trajectory


def batch(*groups: Sequence[Trajectory]) -> ScoredBatch:
    return ScoredBatch.of([[t.scored(0.0, {}) if t.reward is None else t for t in group] for group in groups])


def test_turn_rewards_and_channels() -> None:
    paid = trajectory(calls=1).scored(1.0, {}, turn_rewards=(0.25, 0.5), reward_channels={"safe": 1.0, "short": None})
    plain = trajectory(calls=2).scored(1.0, {}, reward_channels={"safe": 0.0})
    made = batch([paid, plain])
    assert turn_rewards_U(made).tolist() == [0.25, 0.5, 0, 0, 0]
    found = channels(made)
    assert found["safe"].tolist() == [1, 0] and np.isnan(found["short"]).all()
    assert channels(batch([])) == {} and turn_rewards_U(batch([])).tolist() == []


ROWS = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=6)


@settings(max_examples=60)
@given(ROWS)
def test_prefixes_have_one_name_each(rows: list[list[int]]) -> None:
    ids = np.array([i for row in rows for i in row], np.uint64)
    names = prefix_names(ids, np.array([len(row) for row in rows], np.int64))
    texts = [tuple(row[: t + 1]) for row in rows for t in range(len(row))]
    known: dict[tuple[int, ...], int] = {}
    for text, name in zip(texts, names.tolist(), strict=True):
        assert known.setdefault(text, name) == name
    assert len(set(known.values())) == len(known)


def sampled(ids: Sequence[int], *turns: tuple[int, int]) -> Trajectory:
    made = tuple(Turn(text="", start=start, stop=stop) for start, stop in turns)
    return trajectory(tokens=len(ids), token_ids=tuple(ids), loss_mask=(0,) * len(ids), turns=made)


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=3))
def test_states_before_and_after_tokens(groups: list[list[list[int]]]) -> None:
    found = prefixes(batch(*[[sampled(row) for row in group] for group in groups]))
    keys = [
        ((number, *row[:t]), (number, *row[: t + 1]))
        for number, group in enumerate(groups)
        for row in group
        for t in range(len(row))
    ]
    names = {key: name for pair, pairs in zip(keys, zip(found.before_T, found.after_T, strict=True), strict=True)
             for key, name in zip(pair, pairs, strict=True)}  # fmt: skip
    assert len(set(names.values())) == len(names)
    for (before, after), b, a in zip(keys, found.before_T, found.after_T, strict=True):
        assert names[before] == b and names[after] == a


def test_turns_that_start_from_the_same_place_share_a_number() -> None:
    one = sampled([0, 1, 9, 2], (1, 2), (3, 4))
    same = sampled([0, 1, 9, 3], (1, 2), (3, 4))
    other = sampled([0, 1, 8, 2], (1, 2), (3, 4))
    shorter = sampled([0, 5], (1, 2))
    found = forks_U(batch([one, same, other, shorter], [one])).tolist()
    first = [found[0], found[2], found[4], found[6]]
    assert len(set(first)) == 1  # all begin after the prompt
    assert found[1] == found[3] != found[5]  # another answer of the tool leads elsewhere
    assert found[7] not in found[:7] and found[8] not in found[:7]  # another group
    assert forks_U(batch([trajectory(turns=()), trajectory(calls=1)])).tolist() == [0, 0, 0]  # nothing was sampled
    assert forks_U(batch([])).tolist() == []


def called(thought: str, output: str, **arguments: Any) -> Turn:
    call = ToolCall(name="calculator", arguments=arguments)
    return Turn(text=thought, calls=(call,), results=(ToolResult(name="calculator", ok=True, output=output),))


def test_moves_are_what_was_shown_and_what_was_done() -> None:
    answer = Turn(text="<think>x</think><answer>42</answer>")
    one = trajectory(turns=(called("so", "42", a=1, b=2), answer))
    other = trajectory(turns=(called("well", "42", b=2, a=1), Turn(text="<answer> 42</answer>")))
    wrong = trajectory(turns=(called("so", "41", a=1, b=2), Turn(text="no idea")), answer=None)
    folded = trajectory(
        turns=(
            Turn(text="I ask", reply="yes"),
            Turn(text="I ask", restart=(Message(role="user", content="anew"),)),
            answer,
        )
    )
    found = moves(batch([one, other, wrong, folded, trajectory(turns=())]))
    states, actions = found.state_U.tolist(), found.action_U.tolist()
    opening, shown = states[0], states[1]
    assert states[2] == states[4] == states[6] == states[9] == opening
    assert states[3] == shown != states[5]
    assert actions[0] == actions[2] == actions[4]  # what was thought, and in which order arguments stand, is no matter
    assert actions[1] == actions[3] == actions[8]  # the same answer
    assert actions[5] not in (actions[0], actions[1]) and actions[6] == actions[7]
    assert len({opening, shown, states[5], states[7], states[8]}) == 5
    assert moves(batch([])).state_U.tolist() == []


def test_every_reading_is_of_a_need() -> None:
    assert set(READINGS) <= set(NEEDS)


@pytest.mark.parametrize("need", ["turn_rewards_U", "forks_U"])
def test_readings_have_a_number_a_turn(need: str) -> None:
    made = batch([trajectory(calls=2), trajectory(calls=0)], [trajectory(calls=1)])
    assert READINGS[need](made).shape == (3 + 1 + 2,)
