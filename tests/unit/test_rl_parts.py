"""Every credit and every objective in a real rl stage: a tiny model, a real sampler, two steps."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from journeyman.config import ObjectiveConfig
from journeyman.credit import CREDITS
from journeyman.credit import VOCABULARY as CREDIT_VOCABULARY
from journeyman.expressions import needs
from journeyman.metrics import known
from journeyman.rewards import REWARDS, Score
from journeyman.rewards.base import SpanScores, TurnScores
from journeyman.training.fit import misfits
from journeyman.trajectory import Span, Trajectory
from tests.unit.fakes import World, oddness
from tests.unit.test_reinforce import Dying, run, stage

OBJECTIVES = [arm.model_fields["type"].default for arm in get_args(get_args(ObjectiveConfig)[0])]


def odd_turns(group: Sequence[Trajectory]) -> TurnScores:
    """Half of the oddness in the first turn."""
    return [
        replace(score, turns=(0.5 * (score.total or 0), *[0.0] * (len(t.turns) - 1)))
        for score, t in zip(oddness(group), group, strict=True)
    ]


def odd_spans(group: Sequence[Trajectory]) -> SpanScores:
    """All of the oddness in the first characters that the policy wrote."""
    return [
        replace(score, spans=(Span(turn=0, start=0, stop=2, reward=score.total or 0, kind="item"),))
        for score in oddness(group)
    ]


def odd_verdict(group: Sequence[Trajectory]) -> list[Score]:
    """Whether there is more oddness than in the middle of the group."""
    totals = [score.total or 0.0 for score in oddness(group)]
    return [Score(total=float(total > sorted(totals)[len(totals) // 2 - 1])) for total in totals]


@pytest.fixture(autouse=True)
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"odd": oddness, "odd_turns": odd_turns, "odd_spans": odd_spans, "odd_verdict": odd_verdict}
    for name, reward in made.items():
        monkeypatch.setitem(REWARDS, name, reward)


def block_for(credit: str) -> dict[str, Any]:
    """The rest of a block that a credit can work in."""
    wanted = needs(credit, CREDIT_VOCABULARY)
    reward = next(
        (
            reward
            for need, reward in {
                "channels": "channels(odd=odd, correct=odd_verdict)",
                "spans": "odd_spans",
                "turn_rewards_U": "odd_turns",
            }.items()
            if need in wanted
        ),
        "odd",
    )
    return {
        "reward": reward,
        "credit": credit,
        **({"critic": {}} if {"values_T", "values_U", "q_values_U"} & {*wanted} else {}),
        **({"process": {"loss": "pairs" if "oprl" in credit else "outcome"}} if "process_T" in wanted else {}),
        **({"rollout": {"type": "tree", "roots": 2}} if "forks_U" in wanted else {}),
        **({"rollout": {"type": "search", "direct": 1, "width": 2}} if "searched" in wanted else {}),
    }


@pytest.mark.parametrize("credit", [*CREDITS, "effective_rank(group)", "0.5 * group + 0.5 * turn_group"])
def test_every_credit_works_in_a_stage(world: World, tmp_path: Path, credit: str) -> None:
    block = block_for(credit)
    assert list(misfits(stage(**block).model_dump())) == []
    seen = Dying()
    summary = run(world, tmp_path, seen, **{**block, "steps": 2})
    assert summary["trajectories"] == 2 * 3 * 4
    for metrics in seen.seen.values():
        assert all(known(name) and math.isfinite(value) for name, value in metrics.items()), metrics
    assert any(metrics.get("loss/gradient_norm", 0) > 0 for metrics in seen.seen.values()), "nothing was learned"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_works_in_a_stage(world: World, tmp_path: Path, objective: str) -> None:
    seen = Dying()
    run(world, tmp_path, seen, reward="odd_verdict", objective={"type": objective}, steps=2)
    assert all(known(name) and math.isfinite(value) for m in seen.seen.values() for name, value in m.items())
    assert all(metrics["loss/gradient_norm"] > 0 for metrics in seen.seen.values())


@pytest.mark.parametrize("credit", ["gae", "archer", "prime", "effective_rank(group_mean)"])
def test_what_is_trained_along_survives_a_kill(world: World, tmp_path: Path, credit: str) -> None:
    block = block_for(credit)
    run(world, tmp_path / "unbroken", Dying(), **block)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "broken", Dying(step=4), **block)
    assert run(world, tmp_path / "broken", Dying(), **block)["resumed_at_step"] == 2
    ours, theirs = (tmp_path / name / "out" / "policy" / "model.safetensors" for name in ("unbroken", "broken"))
    assert ours.read_bytes() == theirs.read_bytes()
