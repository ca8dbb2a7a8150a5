"""Sampling ahead of learning: what a step is given, how old that may be, and that a resume keeps to it."""

import asyncio
import math
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from journeyman.actors.inline import InlinePool
from journeyman.config import RlConfig
from journeyman.errors import InfrastructureError
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob, attempt_all
from journeyman.training.reinforce import ReinforceLoop
from journeyman.training.sampling import Sampled, Sampling
from journeyman.training.watch import Unwatched
from journeyman.trajectory import StopReason, Trajectory
from tests.unit.fakes import World, problem, trajectory
from tests.unit.test_reinforce import Dying, NotingLearner, ScriptedPool, half_right, loop, run, stage

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


@pytest.mark.parametrize("seed", range(6))
def test_steps_are_whole_and_within_the_bound_in_whatever_order_groups_are_done(seed: int) -> None:
    pool, steps, staleness = VersionedPool(), 6, 2 + seed % 2
    questions = [p.question for p in PROBLEMS[: steps * SIZE]]
    pool.gates = {question: threading.Event() for question in questions}

    def release() -> None:
        for question in random.Random(seed).sample(questions, len(questions)):
            pool.gates[question].set()
            time.sleep(0.005)

    releasing = threading.Thread(target=release)
    releasing.start()
    made = sampling(pool, staleness=staleness, partial=True, steps=steps)
    found = lived(made, pool, range(steps))
    releasing.join()
    made.close()
    assert [len(one.groups) for one in found] == [SIZE] * steps
    assert all(min(of_step) >= step - staleness for step, of_step in enumerate(versions(found)))


def test_old_groups_are_waited_for_where_later_steps_could_not_take_them_all() -> None:
    pool = VersionedPool()
    slow = [p.question for p in PROBLEMS[SIZE : 3 * SIZE]]
    pool.gates = {question: threading.Event() for question in slow}
    made = sampling(pool, staleness=2, partial=True)
    made.take(0)  # of nine groups of version 0 the three that are done
    pool.load_weights({}, 1)
    # Step 2 takes three of version 0, so that step 1 takes the other three, though three of version 1 are done.
    threading.Timer(0.2, lambda: [pool.gates[question].set() for question in slow]).start()
    first = made.take(1)
    pool.load_weights({}, 2)
    second = made.take(2)
    assert sorted(p.question for one in (first, second) for p in one.problems) == sorted(slow)
    made.close()


class FailingPool(VersionedPool):
    """Its `fails`-th call of `rollout` does."""

    def __init__(self, fails: int) -> None:
        super().__init__()
        self.calls, self._fails = 0, fails

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.calls += 1
        if self.calls == self._fails:
            raise InfrastructureError("the sampler is gone")
        return super().rollout(jobs)


@pytest.mark.parametrize("asynchrony", [{"staleness": 2}, {"staleness": 2, "partial": True}])
def test_what_fails_ahead_is_told_before_the_next_weights_and_a_checkpoint_leaves_it_out(
    asynchrony: dict[str, Any], tmp_path: Path
) -> None:
    pool = FailingPool(fails=3)
    made = sampling(pool, **asynchrony)
    with pytest.raises(InfrastructureError, match="the sampler is gone"):
        made.take(0)
        made.settle()
    made.save(tmp_path)  # what came through
    made.close()
    assert len(list((tmp_path / "ahead").glob("*"))) == len([lot for lot in made._lots if lot.done]) - 1


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


class Moving(NotingLearner):
    """Each update takes one nat from every token."""

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        return [[-1.0 - len(self.steps)] * (len(row) - 1) for row in rows]


@pytest.mark.parametrize("recompute", [True, False])
def test_stale_rows_are_weighed_against_the_policy_that_learns_from_them(recompute: bool) -> None:
    learner = Moving()
    fields = {"asynchrony": {"staleness": 1}, "recompute_logprobs": recompute, "steps": 3}
    made = ReinforceLoop(
        stage(**fields), PROBLEMS, learner=learner, samplers=ScriptedPool(half_right, logprob=-1.0), seed=0
    )
    made.sync = lambda: 0.0  # such a learner is no model: the probe would not agree
    told = [made.advance() for _ in range(2)]
    made.close()
    first, second = learner.steps
    assert {row.logprobs for row in (*first, *second)} == {(0.0, -1.0, -1.0, -1.0)}  # version 0 sampled both
    if not recompute:
        assert {row.old_logprobs for row in (*first, *second)} == {()}  # rho is then the ratio to the sampler
        return
    assert {row.old_logprobs for row in first} == {(0.0, -1.0, -1.0, -1.0)}
    assert {row.old_logprobs for row in second} == {(0.0, -2.0, -2.0, -2.0)}  # so w = exp(-2 + 1)
    # exp(d) - 1 - d at d = 0 and d = -1
    assert [one["policy/sampler_kl_nats"] for one in told] == pytest.approx([0, math.exp(-1)])


class Stuck:
    """A worker whose attempts end, as failed ones, when it is closed."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    async def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        await self._closed.wait()
        return [trajectory(stop_reason=StopReason.INFRASTRUCTURE, correct=None) for _ in jobs]

    async def close(self) -> None:
        self._closed.set()


def test_no_thread_is_left_behind_when_the_samplers_end() -> None:
    for _ in range(20):  # failed attempts are made once more: those calls come when the event loop is about to end
        pool = InlinePool(Stuck())  # type: ignore[arg-type]
        with ThreadPoolExecutor(8) as threads:
            made = [threads.submit(attempt_all, pool, [RolloutJob(problem=PROBLEMS[0])]) for _ in range(8)]
            pool.close()
            for one in made:
                with pytest.raises(InfrastructureError):
                    one.result(timeout=10)


class Asking(Unwatched):
    """Notes whether attempts are under way when it looks."""

    def __init__(self, loop: ReinforceLoop) -> None:
        self._loop, self.under_way = loop, list[bool]()

    def look(self, groups: Any, metrics: Any, *, step: int) -> dict[str, float]:
        self.under_way.append(any(not lot.done for lot in self._loop.sampling._lots))
        return {}


def test_who_watches_can_ask_the_policy_without_meeting_attempts_under_way() -> None:
    def make(job: RolloutJob) -> Trajectory:
        time.sleep(0.02)
        return half_right(job)

    made, _, _ = loop(make, asynchrony={"staleness": 2}, steps=4)
    watch = made.watch = Asking(made)
    for _ in range(3):
        made.advance()
    made.close()
    assert watch.under_way == [False] * 3


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
