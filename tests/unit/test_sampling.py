"""Sampling ahead of learning: what a step is given, how old that may be, and that a resume keeps to it."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from journeyman.config import RlConfig
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob
from journeyman.training.sampling import Sampled, Sampling
from journeyman.trajectory import Trajectory
from tests.unit.fakes import World, problem, trajectory
from tests.unit.test_reinforce import Dying, run

PROBLEMS = [problem(f"{i}?") for i in range(40)]
SIZE = 3


class VersionedPool:
    """Attempts say which weights made them. Those at a question that is held back wait until it is let go."""

    def __init__(self) -> None:
        self.version, self.seeds = 0, list[int]()
        self.gates: dict[str, threading.Event] = {}

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        made = []
        for job in jobs:
            version = self.version
            if gate := self.gates.get(job.problem.question):
                assert gate.wait(20)
            self.seeds.append(job.seed)
            made.append(trajectory(id=str(job.seed), problem_id=job.problem.id, policy_version=version))
        return made

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        self.version = version

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return []


def choose(step: int) -> list[Problem]:
    return PROBLEMS[step * SIZE : (step + 1) * SIZE]


def sampling(pool: VersionedPool, *, steps: int = 6, **asynchrony: Any) -> Sampling:
    stage = RlConfig.model_validate(
        {"name": "test", "problems": SIZE, "group": 2, "steps": steps, "asynchrony": asynchrony}
    )
    return Sampling(stage, pool, 7, choose=choose)


def lived(made: Sampling, pool: VersionedPool, steps: range) -> list[Sampled]:
    """Steps as the loop takes them: groups, then new weights."""
    found = []
    for step in steps:
        found.append(made.take(step))
        made.settle()
        pool.load_weights({}, step + 1)
    return found


def versions(found: Sequence[Sampled]) -> list[set[int]]:
    return [{t.policy_version for group in one.groups for t in group} for one in found]


@pytest.mark.parametrize("staleness", [0, 1, 2, 5])
def test_whole_steps_are_as_old_as_their_staleness(staleness: int) -> None:
    pool = VersionedPool()
    found = lived(sampling(pool, staleness=staleness), pool, range(6))
    assert versions(found) == [{max(0, step - staleness)} for step in range(6)]
    assert [one.problems for one in found] == [choose(step) for step in range(6)]
    assert all(
        [t.problem_id for t in group] == [p.id] * 2
        for one in found
        for p, group in zip(one.problems, one.groups, strict=True)
    )
    assert len(pool.seeds) == 6 * SIZE * 2  # nothing beyond the last step


def test_seeds_do_not_depend_on_how_far_sampling_runs_ahead() -> None:
    found = []
    for asynchrony in ({}, {"staleness": 2}, {"staleness": 0, "partial": True}):
        pool = VersionedPool()
        ids = [t.id for one in lived(sampling(pool, **asynchrony), pool, range(6)) for g in one.groups for t in g]
        found.append(ids)
    assert found[0] == found[1] == found[2]


def test_without_staleness_partial_rollouts_are_the_synchronous_ones() -> None:
    both = []
    for asynchrony in ({}, {"staleness": 0, "partial": True}):
        pool = VersionedPool()
        both.append(lived(sampling(pool, **asynchrony), pool, range(6)))
    assert both[0] == both[1]


def test_a_step_takes_the_groups_that_are_done_and_waits_for_those_that_may_not_be_older() -> None:
    pool = VersionedPool()
    slow = PROBLEMS[0].question
    pool.gates[slow] = threading.Event()
    made = sampling(pool, staleness=1, partial=True)
    first = made.take(0)  # of six groups that are begun, three others than the slow one
    assert slow not in [p.question for p in first.problems] and len(first.groups) == SIZE
    pool.load_weights({}, 1)
    threading.Timer(0.2, pool.gates[slow].set).start()
    second = made.take(1)  # version 0 may not be older than one step: the slow one is waited for
    assert slow in [p.question for p in second.problems]
    made.close()


@pytest.mark.parametrize("staleness", [1, 3])
def test_no_group_is_older_than_the_bound(staleness: int) -> None:
    pool = VersionedPool()
    found = lived(made := sampling(pool, staleness=staleness, partial=True, steps=10), pool, range(10))
    made.close()
    for step, of_step in enumerate(versions(found)):
        assert min(of_step) >= step - staleness
    asked = [p.id for one in found for p in one.problems]
    assert sorted(asked) == sorted(p.id for p in PROBLEMS[: 10 * SIZE])  # each group is taken once


@pytest.mark.parametrize("asynchrony", [{"staleness": 2}, {"staleness": 2, "partial": True}])
def test_the_bound_holds_after_a_resume(asynchrony: dict[str, Any], tmp_path: Path) -> None:
    pool = VersionedPool()
    first = sampling(pool, **asynchrony)
    if first._partial:
        pool.gates[PROBLEMS[4].question] = threading.Event()  # still under way when the process dies
    before = lived(first, pool, range(2))
    state = first.state_dict()
    first.save(tmp_path)
    first.close()
    for gate in pool.gates.values():
        gate.set()
    pool.gates.clear()
    again, second = VersionedPool(), sampling(VersionedPool(), **asynchrony)
    second._pool = again
    second.load(state, tmp_path)
    again.load_weights({}, 2)
    after = [second.take(2)]
    again.load_weights({}, 3)
    after += lived(second, again, range(3, 6))
    second.close()
    assert all(min(of_step) >= step - 2 for step, of_step in enumerate(versions([*before, *after])))
    asked = [p.id for one in [*before, *after] for p in one.problems]
    assert sorted(asked) == sorted(p.id for p in PROBLEMS[: 6 * SIZE])
    if not first._partial:
        assert versions(after) == [{0}, {1}, {2}, {3}]


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("staleness", [1, 2])
def test_a_killed_run_that_samples_ahead_ends_where_the_unbroken_one_ends(
    world: World, tmp_path: Path, staleness: int
) -> None:
    fields: dict[str, Any] = {"asynchrony": {"staleness": staleness}, "curriculum": {"type": "weakest"}}
    unbroken, resumed = Dying(), Dying()
    run(world, tmp_path / "unbroken", unbroken, **fields)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "broken", Dying(step=4), **fields)
    assert run(world, tmp_path / "broken", resumed, **fields)["resumed_at_step"] == 2
    for step in (3, 4):
        timeless = {k: v for k, v in unbroken.seen[step].items() if k.split("/")[0] not in ("time", "throughput")}
        assert timeless == {name: resumed.seen[step][name] for name in timeless}
    ours, theirs = (tmp_path / name / "out" / "policy" / "model.safetensors" for name in ("unbroken", "broken"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.usefixtures("odd")
def test_attempts_go_on_under_new_weights_within_the_bound(world: World, tmp_path: Path) -> None:
    from journeyman.trajectory import read_trajectories

    run(world, tmp_path, Dying(), asynchrony={"staleness": 1, "partial": True}, steps=6)
    made = read_trajectories(tmp_path / "out" / "trajectories.parquet")
    assert len(made) == 6 * 3 * 4
    for place, t in enumerate(made):
        assert place // 12 - 1 <= t.policy_version <= place // 12
