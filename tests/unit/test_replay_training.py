"""Replay within a stage rl: which rows come again, with what weight, and that a killed run ends the same."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from journeyman.rollout.job import RolloutJob
from journeyman.trajectory import Trajectory
from tests.unit.fakes import World
from tests.unit.test_reinforce import Dying, attempt, half_right, loop, odd, run

__all__ = ["odd"]

KEPT: dict[str, Any] = {"capacity": 99, "fraction": 0.5}


def replayed(made: Any) -> float:
    return made.advance()["replay/replayed"]


def test_replayed_rows_grow_into_their_weight() -> None:
    made, learner, _ = loop(half_right, credit="group_mean", replay={**KEPT, "warmup": 2, "max_age": 99})
    for _ in range(3):
        made.advance()
    weights = [sorted({row.weight for row in rows}) for rows in learner.steps]
    assert weights == [[1.0], [0.49999999999999994, 1.0], [1.0]]  # (1 - cos(pi / 2)) / 2 at step 1


def test_metrics_tell_of_the_buffer() -> None:
    made, *_ = loop(half_right, replay=KEPT)
    first, second = made.advance(), made.advance()
    assert (first["replay/kept"], first["replay/replayed"]) == (4, 0) and "replay/age_mean" not in first
    assert (second["replay/kept"], second["replay/replayed"], second["replay/age_mean"]) == (8, 4, 1)
    plain, *_ = loop(half_right)
    assert not [name for name in plain.advance() if name.startswith("replay/")]


@pytest.mark.parametrize(("band", "count"), [([0.1, 0.2], 4), ([0.2, 0.9], 0)])
def test_the_learner_says_how_likely_what_is_replayed_is_now(band: list[float], count: int) -> None:
    made, *_ = loop(half_right, replay={**KEPT, "probability": band})  # the learner says -2: a probability of .135
    assert [replayed(made) for _ in range(2)] == [0, count]


def test_what_is_no_better_than_groups_are_now_is_not_replayed() -> None:
    def make(job: RolloutJob) -> Trajectory:
        right = job.sample == 0 if made.step == 0 else job.sample != 0
        return attempt(job, correct=right).scored(1.0 if right else 0.0, {})

    made, learner, _ = loop(make, credit="group_mean", replay={**KEPT, "recalibration": {"history": 2}})
    made.advance()
    made.advance()
    # First: 2 of 8 are right, with 1 - 1/4 = .75. Now the median of the last two groups' means is .75: 1 - .75 = .25.
    again = [row.advantages[1] for row in learner.steps[1][:]]
    assert sorted(again) == [-0.75] * 2 + [0.25] * 8


@pytest.mark.usefixtures("odd")
def test_a_killed_run_with_all_of_replay_ends_where_the_unbroken_one_ends(world: World, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "credit": "group_mean",
        "replay": {
            **{"capacity": 8, "fraction": 0.5, "max_age": 3, "max_uses": 2, "priority": "advantage", "warmup": 3},
            **{"one_a_problem": True, "probability": [0.0, 0.95], "recalibration": {"history": 6, "scale": True}},
        },
    }
    run(world, tmp_path / "unbroken", Dying(), **fields)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "broken", Dying(step=4), **fields)
    assert run(world, tmp_path / "broken", Dying(), **fields)["resumed_at_step"] == 2
    for name in ("policy/model.safetensors", "replay.parquet"):
        ours, theirs = (tmp_path / which / "out" / name for which in ("unbroken", "broken"))
        assert ours.read_bytes() == theirs.read_bytes()
    asked = f"SELECT count(*), count(DISTINCT problem_id), max(uses) FROM '{tmp_path}/broken/out/replay.parquet'"
    [(rows, problems, uses)] = duckdb.execute(asked).fetchall()
    assert rows == problems > 0 and uses > 0
