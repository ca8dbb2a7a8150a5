"""Replay within a stage rl: which rows come again, with what weight, and that a killed run ends the same."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from journeyman.rollout.job import RolloutJob
from journeyman.trajectory import SOLUTION, Trajectory
from tests.unit.fakes import World
from tests.unit.test_reinforce import Dying, attempt, half_right, loop, run

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


def of_step(job: RolloutJob, step: int, *, correct: bool, **fields: Any) -> Trajectory:
    return attempt(job, correct=correct, id=f"{job.problem.id}.{step}.{job.sample}", **fields)


def solved_once(made: list[Any], **provenance: bool) -> Any:
    """At step 0 the first of eight attempts is right, later none."""

    def make(job: RolloutJob) -> Trajectory:
        step = made[0].step if made else 0
        right = step == 0 and job.sample == 0
        return of_step(job, step, correct=right, token_ids=(step, 1, 2, 3), provenance=provenance if right else {})

    return make


@pytest.mark.parametrize(("direct", "others"), [(None, 7), (3, 3)])
def test_a_known_solution_joins_a_group_that_fails(direct: int | None, others: int) -> None:
    made: list[Any] = []
    options: dict[str, Any] = {"problems": 6, "group": 8, "credit": "group_mean"}
    one, learner, _ = loop(solved_once(made), replay={"solutions": {"direct": direct}, **KEPT}, **options)
    made.append(one)
    first, second = one.advance(), one.advance()
    # 1 of 8 is below a quarter: kept, and nothing to join with yet.
    assert (first["replay/solutions"], first["replay/solutions_kept"]) == (0, 6)
    assert (second["replay/solutions"], second["replay/solutions_kept"], second["rollout/accuracy"]) == (6, 6, 0)
    own = [row for row in learner.steps[1] if row.group < 6]
    # One right of 1 + n: the others have -1 / (n + 1), it has n / (n + 1); it has the tokens of step 0.
    assert len(own) == 6 * (others + 1)
    share = 1 / (others + 1)
    assert sorted((row.token_ids[0], round(row.advantages[1], 6)) for row in own) == sorted(
        [(0, round(1 - share, 6))] * 6 + [(1, round(-share, 6))] * 6 * others
    )
    assert second["replay/kept"] == first["replay/kept"] == 6  # a solution is no success of the step


@pytest.mark.parametrize(("below", "marked", "kept"), [(0.25, False, 0), (0.26, False, 2), (0.25, True, 2)])
def test_solutions_are_of_seldom_solved_problems_or_marked_by_a_search(below: float, marked: bool, kept: int) -> None:
    made, *_ = loop(solved_once([], **{SOLUTION: marked}), replay={"solutions": {"below": below}})  # 1 of 4
    assert made.advance()["replay/solutions_kept"] == kept


def test_of_a_group_what_a_selection_leaves_is_compared() -> None:
    def make(job: RolloutJob) -> Trajectory:
        return of_step(job, 0, correct=job.sample in (1, 2, 3), tokens=4 + job.sample)

    made, learner, _ = loop(
        make, group=6, credit="group_mean", replay={**KEPT, "selection": {"by": "contrastive", "keep": 3}}
    )
    metrics = made.advance()
    # The shortest two right ones (5 and 6 tokens) and the longest wrong one (9): mean 2/3.
    assert sorted((len(row.token_ids), round(row.advantages[1], 4)) for row in learner.steps[0]) == sorted(
        [(5, 0.3333), (6, 0.3333), (9, -0.6667)] * 2
    )
    assert metrics["rollout/accuracy"] == 0.5 and metrics["replay/kept"] == 4
    assert (metrics["replay/selected_fraction"], metrics["replay/reward_determination"]) == (0.5, pytest.approx(1))


def test_known_solutions_survive_a_kill_and_are_handed_on(tmp_path: Path) -> None:
    made: list[Any] = []
    options: dict[str, Any] = {"problems": 6, "replay": {"solutions": {"below": 0.5}}}
    one, *_ = loop(solved_once(made), **options)
    made.append(one)
    one.advance()
    one.replaying.save(tmp_path)
    for load in (lambda replaying: replaying.load(tmp_path), lambda replaying: replaying.take_over(tmp_path, 1)):
        other, *_ = loop(lambda job: of_step(job, 7, correct=False), **options)
        load(other.replaying)
        assert other.advance()["replay/solutions"] == 6
