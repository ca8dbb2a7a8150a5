"""Blocks whose parts don't go together are refused when a pipeline is loaded, with the key and the remedy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from journeyman.config.load import load_pipeline
from journeyman.credit import CREDITS, ScoredBatch
from journeyman.errors import ConfigError
from journeyman.rewards import REWARDS, Score
from journeyman.rewards.base import Judge, Scores, TurnScores
from journeyman.training.fit import misfits
from journeyman.trajectory import Trajectory


def stepwise(group: Sequence[Trajectory]) -> TurnScores:
    return [Score(total=1.0, turns=(1.0,)) for _ in group]


def asked(group: Sequence[Trajectory], *, judge: Judge) -> Scores:
    return [Score(total=1.0) for _ in group]


def by_turn(batch: ScoredBatch, *, turn_rewards_U: Any) -> Any:
    return np.zeros(len(batch.mask_T))


def by_value(batch: ScoredBatch, *, values_T: Any) -> Any:
    return values_T


def by_fork(batch: ScoredBatch, *, forks_U: Any) -> Any:
    return forks_U


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reward in {"stepwise": stepwise, "asked": asked}.items():
        monkeypatch.setitem(REWARDS, name, reward)
    for name, credit in {"by_turn": by_turn, "by_value": by_value, "by_fork": by_fork}.items():
        monkeypatch.setitem(CREDITS, name, credit)


def keys(**block: Any) -> list[str]:
    return [key for key, _, _ in misfits({"reward": "correct", "credit": "group", **block})]


def test_what_goes_together_is_no_misfit() -> None:
    assert keys() == []
    assert keys(reward="correct + 0.1 * stepwise", credit="group + by_turn") == []
    assert keys(credit="by_value", critic={}) == []
    assert keys(credit="by_fork", rollout={"type": "tree"}) == []
    assert keys(credit="deepsearch", rollout={"type": "search", "direct": 4}, group=8) == []
    assert keys(reward="asked", judge={}) == []
    assert keys(reward="channels(a=correct, b=otc, weights={'a': 2.0})", credit="slim(weights={'b': 2.0})") == []


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ({"credit": "by_turn"}, "credit"),
        (
            {"credit": "0.5 * group + 0.5 * by_turn", "reward": "correct * stepwise"},
            "credit",
        ),  # a product pays at the end
        ({"credit": "by_value"}, "credit"),
        ({"credit": "by_fork"}, "credit"),
        ({"reward": "asked"}, "reward"),
        ({"critic": {}}, "critic"),
        ({"judge": {}}, "judge"),
        ({"process": {}}, "process"),
        ({"rollout": {"type": "tree"}, "program": "a:b"}, "rollout"),
        ({"rollout": {"type": "search", "direct": 4}, "program": "a:b", "group": 8}, "rollout"),
        ({"rollout": {"type": "value_search", "direct": 4}, "group": 4}, "rollout"),
        ({"credit": "deepsearch"}, "credit"),
        ({"rollout": {"type": "tree", "roots": 5}, "group": 4}, "rollout"),
        ({"rollout": {"type": "tree"}, "replay": {"solutions": {}}}, "replay.solutions"),
        (
            {"rollout": {"type": "tree"}, "group": 4, "replay": {"selection": {"by": "best", "keep": 2}}},
            "replay.selection",
        ),
        ({"group": 4, "replay": {"selection": {"by": "best", "keep": 4}}}, "replay.selection"),
        ({"reward": "channels(a=correct, b=otc)", "credit": "per_channel(weights={'a': 1.0, 'c': 2.0})"}, "credit"),
    ],
)
def test_what_does_not_go_together_is_told_by_its_key(block: dict[str, Any], key: str) -> None:
    assert keys(**block) == [key]


def test_an_expression_that_cannot_be_read_is_left_to_its_own_check() -> None:
    assert keys(reward="correct +") == keys(credit="nothing_like_it") == keys(reward=7) == []


def test_a_misfit_is_an_error_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        load_pipeline("quickstart", overrides=["rl.accuracy.credit=by_turn"])
    assert caught.value.place == "override `rl.accuracy.credit=by_turn`"
    assert "rl.accuracy.credit: by_turn has nothing to go by" in caught.value.message
    assert "tool_success" in caught.value.remedy
