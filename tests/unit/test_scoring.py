"""A step's groups: who is scored with whom, what credit is given, and for what."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from journeyman.config import RlConfig
from journeyman.credit import CREDITS, ScoredBatch
from journeyman.rewards import REWARDS, Group, History, Score
from journeyman.rewards.base import Judge, Scores, TurnScores
from journeyman.training.crediting import Crediting, all_equal, per_token
from journeyman.training.scoring import Scorer
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import problem, trajectory
from tests.unit.supplies import RuleJudge


def seen(group: Group, *, history: History) -> Scores:
    """How many trajectories the reward was shown, and how many the whole step has."""
    history.set("seen", str(group.step), len(group))
    return [Score(total=float(len(group)), parts={"step": float(sum(map(len, group.groups)))}) for _ in group]


def told(group: Sequence[Trajectory], *, judge: Judge) -> Scores:
    answers = judge.ask([t.question for t in group])
    return [Score(total=float(one == "yes")) for [one] in answers]


def paid_first(group: Sequence[Trajectory]) -> TurnScores:
    return [Score(total=1.0, turns=(float(t.sample), *[0.0] * (len(t.turns) - 1))) for t in group]


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reward in {"seen": seen, "told": told, "paid_first": paid_first}.items():
        monkeypatch.setitem(REWARDS, name, reward)


def block(**fields: Any) -> RlConfig:
    return RlConfig.model_validate({"name": "test", "steps": 7, **fields})


BROKEN = trajectory(correct=None, stop_reason=StopReason.INFRASTRUCTURE)


def test_a_reward_never_sees_what_failed_through_no_fault_of_the_policy() -> None:
    groups = [[trajectory(), BROKEN, trajectory(correct=False)], [trajectory()]]
    scorer = Scorer(block(reward="seen"), {})
    first, second = scorer.score(groups, [problem(), problem("2?")], step=3)
    assert [t.reward for t in first] == [2.0, None, 2.0] and [t.reward for t in second] == [1.0]
    assert {t.reward_parts["step"] for t in (*first, *second) if t.reward is not None} == {3.0}
    assert scorer.history.get("seen", "3", 0) == 1  # the last group's


def test_history_is_kept_and_restored() -> None:
    scorer, other = Scorer(block(reward="seen"), {}), Scorer(block(reward="seen"), {})
    scorer.score([[trajectory()]], [problem()], step=0)
    other.history.load_state_dict(scorer.history.state_dict())
    assert other.history.get("seen", "0", 0) == 1
    history = History()
    assert [history.least("n", "p", value) for value in (3, 5, None, 2)] == [3, 3, 3, 2]
    assert history.window("w", [1, 2], 3) == [1, 2] and history.window("w", [3, 4], 3) == [2, 3, 4]


def test_a_judge_is_asked_for_every_group() -> None:
    judge = RuleJudge(lambda question: "yes" if "1" in question else "no")
    groups = [[replace(trajectory(), question=f"{i}?")] * 2 for i in range(3)]
    scored = Scorer(block(reward="told"), {"judge": judge}).score(groups, [problem()] * 3, step=0)
    assert [[t.reward for t in group] for group in scored] == [[0, 0], [1, 1], [0, 0]] and len(judge.asked) == 6


def scored(*rewards: float | None) -> list[Trajectory]:
    return [replace(trajectory(), sample=i).scored(r, {}) for i, r in enumerate(rewards)]


def test_credit_goes_to_groups_that_have_something_to_compare() -> None:
    groups = [scored(1, 0), scored(1, 1), scored(1, None), scored(None, None)]
    found = Crediting(block(credit="group_mean"), {})(groups).pairs()
    assert [(t.reward, max(a, key=abs), group) for t, a, group in found] == [(1, 0.5, 0), (0, -0.5, 0)]
    assert Crediting(block(), {})([]).pairs() == [] == Crediting(block(), {})([scored(None)]).pairs()
    kept = Crediting(block(credit="best", dynamic_sampling=False), {})(groups)
    assert [group for _, _, group in kept.pairs()] == [0, 1, 1]  # the right one of the first group, both of the second


def test_equal_totals_are_not_equal_where_turns_or_channels_differ() -> None:
    assert all_equal(scored(1, 1)) and not all_equal(scored(1, 0))
    one, other = scored(1, 1)
    assert not all_equal([replace(one, turn_rewards=(1.0, 0.0)), replace(other, turn_rewards=(0.0, 1.0))])
    assert not all_equal([replace(one, reward_channels={"a": 1.0}), replace(other, reward_channels={"a": None})])


def test_what_a_credit_needs_is_read_or_supplied(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(batch: ScoredBatch, *, turn_rewards_U: Any, values_T: Any) -> Any:
        return batch.from_turns(turn_rewards_U) + values_T * batch.mask_T

    monkeypatch.setitem(CREDITS, "own", own)
    stage = block(reward="paid_first", credit="own", critic={})
    [group] = Scorer(stage, {}).score([[replace(trajectory(calls=0), sample=i) for i in (1, 2)]], [problem()], step=0)
    found = Crediting(stage, {"values_T": lambda batch: np.full(len(batch.mask_T), 0.5)})([group])
    assert [a.tolist() for a in found.advantages] == [[0, 1.5, 1.5, 1.5], [0, 2.5, 2.5, 2.5]]


def test_numbers_of_rows_are_put_where_their_tokens_stand() -> None:
    cut = trajectory(tokens=5, cuts=(2,), loss_mask=(0, 1, 0, 1, 1)).scored(1.0, {})
    batch = ScoredBatch.of([[trajectory(tokens=3).scored(0.0, {}), cut]])
    asked: list[list[tuple[int, ...]]] = []

    def score(rows: list[tuple[int, ...]]) -> list[list[float]]:
        asked.append(rows)
        return [[10.0 * len(row) + i for i in range(1, len(row))] for row in rows]

    assert per_token(batch, score).tolist() == [0, 31, 32, 0, 21, 0, 31, 32]
    assert asked == [[(0, 1, 2), (0, 1), (2, 3, 4)]]
