"""Scored trajectories for the tests of credit: turns of so many tokens, with results of tools between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.messages import ToolCall, ToolResult
from journeyman.trajectory import Trajectory, Turn
from tests.unit.fakes import trajectory

CALL = ToolCall(name="calculator", arguments={"expression": "6*7"})
RESULT = ToolResult(name="calculator", ok=True, output="42")


def attempt(
    reward: float | None,
    *,
    turns: Sequence[int] = (3,),
    calls: Sequence[int] = (),
    results: int = 2,
    prompt: int = 2,
    ids: Sequence[int] = (),
    **earned: Any,
) -> Trajectory:
    """A trajectory: `prompt` tokens, then turns of so many learned tokens, `results` tokens after each but the last.

    `calls`: of each turn; empty: one in each but the last. `earned`: what else its score has, such as `turn_rewards`.
    """
    counts = list(calls) or [1] * (len(turns) - 1) + [0] * bool(turns)
    mask, made = [0] * prompt, []
    for place, (tokens, count) in enumerate(zip(turns, counts, strict=True)):
        start = len(mask)
        mask += [1] * tokens + [0] * (results if place < len(turns) - 1 else 0)
        calls_made = (CALL,) * count
        made.append(Turn(text="", calls=calls_made, results=(RESULT,) * count, start=start, stop=start + tokens))
    token_ids = tuple(ids) or tuple(range(len(mask)))
    logprobs = tuple(-1.0 * m for m in mask)
    whole = trajectory(turns=tuple(made), token_ids=token_ids, loss_mask=tuple(mask), logprobs=logprobs)
    return whole.scored(reward, {}, **earned)


def rewarded(*groups: Sequence[float]) -> ScoredBatch:
    """Groups of one-turn trajectories with these rewards, of 3, 4, 5, 3, ... learned tokens."""
    return ScoredBatch.of([[attempt(r, turns=(3 + i % 3,)) for i, r in enumerate(group)] for group in groups])


def each(batch: ScoredBatch, advantages_T: Floats) -> list[float]:
    """The advantage of each trajectory, which has to be the same on all its learned tokens and 0 elsewhere."""
    assert len(advantages_T) == len(batch.mask_T) and not advantages_T[~batch.mask_T].any()
    found = []
    for one, advantages in zip(batch.trajectories, batch.split(advantages_T), strict=True):
        values = set(advantages[np.array(one.loss_mask) == 1])
        assert len(values) == 1, "one advantage a trajectory"
        found.append(float(values.pop()))
    return found


def turn_by_turn(batch: ScoredBatch, advantages_T: Floats) -> list[list[float]]:
    """The advantage of each turn, which has to be the same on all its learned tokens; 0 for a turn without any."""
    assert not advantages_T[~batch.mask_T].any()
    found = []
    for one, advantages in zip(batch.trajectories, batch.split(advantages_T), strict=True):
        rows = [advantages[turn.start : turn.stop] for turn in one.turns]
        assert all(len(set(row)) <= 1 for row in rows), "one advantage a turn"
        found.append([float(row[0]) if len(row) else 0.0 for row in rows])
    return found


NUMBERS = st.floats(-10, 10).map(lambda x: round(x, 3))


@st.composite
def attempts(draw: st.DrawFn, *, paid: bool = True) -> Trajectory:
    """Some trajectory, with turn rewards where `paid`."""
    turns = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    earned = tuple(draw(st.lists(NUMBERS, min_size=len(turns), max_size=len(turns)))) if paid else ()
    return attempt(
        draw(NUMBERS),
        turns=turns,
        calls=draw(st.lists(st.integers(0, 2), min_size=len(turns), max_size=len(turns))),
        results=draw(st.integers(0, 2)),
        turn_rewards=earned,
    )


GROUPS = st.lists(st.lists(attempts(), min_size=1, max_size=4), min_size=1, max_size=3)
"""Scored groups of some trajectories, so that turns without tokens and trajectories without any come, too."""
