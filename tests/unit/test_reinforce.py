"""Stage rl: what is learned from, that it learns, that the sampler follows, and that a killed run ends the same."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from journeyman.actors import InlineWorkers
from journeyman.actors.inline import InlinePool
from journeyman.config import ObjectiveConfig, OptimizerConfig, PipelineConfig, RlConfig
from journeyman.errors import InfrastructureError, WeightSyncError
from journeyman.metrics import known
from journeyman.progress import Silent
from journeyman.rewards import REWARDS, Score
from journeyman.rollout.job import RolloutJob, attempt_all
from journeyman.rollout.worker import RolloutWorker
from journeyman.training.handle import LearnerSpec, Row
from journeyman.training.learner import Learner
from journeyman.training.reinforce import Inputs, ReinforceLoop, run_rl
from journeyman.training.rollout_metrics import rollout_metrics
from journeyman.training.sync import sync_weights
from journeyman.trajectory import StopReason, ToolCall, ToolResult, Trajectory, Turn, read_trajectories
from tests.unit.fakes import COMPUTE, MAX_LENGTH, World, problem, trajectory

PROBLEMS = [problem(f"{i}?") for i in range(6)]


class NotingLearner:
    """A LearnerHandle that learns nothing and notes what it is given. Every token has log-probability -2."""

    def __init__(self) -> None:
        self.steps: list[list[Row]] = []

    def step(self, rows: Sequence[Row], objective: ObjectiveConfig) -> dict[str, float]:
        self.steps.append(list(rows))
        return {"loss/total": float(len(rows))}

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        return [[-2.0] * (len(row) - 1) for row in rows]

    def score_reference(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        return self.score(rows)

    def score_means(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        return self.score(rows)

    def values(
        self, rows: Sequence[Sequence[int]], heads: Sequence[str] = ("value",), *, slow: bool = False
    ) -> dict[str, list[list[float]]]:
        return {name: [[0.0] * (len(row) + 1) for row in rows] for name in heads}

    def fit_values(
        self, rows: Sequence[Sequence[int]], targets: Mapping[str, Sequence[Sequence[float]]], **how: float
    ) -> dict[str, float]:
        return {}

    def hidden_ranks(self, rows: Sequence[Row], stride: int) -> list[tuple[float, float, float]]:
        return [(0.0, 0.0, 0.0)] * len(rows)

    def sampler_precision(self) -> str:
        return "float32"

    def weights(self) -> Mapping[str, torch.Tensor]:
        return {}

    def save_model(self, folder: Path) -> None: ...

    def save_checkpoint(self, folder: Path) -> None: ...

    def load_checkpoint(self, folder: Path) -> None: ...

    def save_optimizer(self, folder: Path) -> None: ...

    def load_optimizer(self, folder: Path) -> None: ...


class ScriptedPool:
    """A SamplerPool whose attempts a function makes."""

    def __init__(self, make: Callable[[RolloutJob], Trajectory], logprob: float = -2.0) -> None:
        self._make, self._logprob = make, logprob
        self.jobs: list[list[RolloutJob]] = []
        self.versions: list[int] = []

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        self.jobs.append(list(jobs))
        return [self._make(job) for job in jobs]

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None:
        self.versions.append(version)

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[self._logprob] * (len(row) - 1) for row in rows]


def attempt(job: RolloutJob, *, correct: bool | None, **fields: Any) -> Trajectory:
    stop = StopReason.INFRASTRUCTURE if correct is None else StopReason.ANSWER
    return trajectory(
        **{"problem_id": job.problem.id, "sample": job.sample, "correct": correct, "stop_reason": stop, **fields}
    )


def stage(**fields: Any) -> RlConfig:
    return RlConfig.model_validate({"name": "test", "problems": 2, "group": 4, "minibatch": 100, **fields})


def loop(make: Callable[[RolloutJob], Trajectory], **fields: Any) -> tuple[ReinforceLoop, NotingLearner, ScriptedPool]:
    learner, pool = NotingLearner(), ScriptedPool(make)
    return ReinforceLoop(stage(**fields), PROBLEMS, learner=learner, samplers=pool, seed=0), learner, pool


def half_right(job: RolloutJob) -> Trajectory:
    return attempt(job, correct=job.sample % 2 == 0)


def test_a_step_asks_for_groups_and_learns_from_them() -> None:
    made, learner, pool = loop(half_right, temperature=0.5, max_turns=3, max_new_tokens=7)
    metrics = made.advance()
    [jobs] = pool.jobs
    assert [(job.problem, job.sample) for job in jobs] == [(jobs[i].problem, s) for i in (0, 4) for s in range(4)]
    assert jobs[0].problem != jobs[4].problem and len({job.seed for job in jobs}) == 8
    assert {(job.temperature, job.max_turns, job.max_new_tokens) for job in jobs} == {(0.5, 3, 7)}
    [rows] = learner.steps
    # Two right and two wrong: mean 1/2, deviation 1/2, so 1 and -1.
    assert sorted(row.advantages[1] for row in rows) == pytest.approx([-1] * 4 + [1] * 4, abs=1e-5)
    for row in rows:
        assert (row.token_ids, row.mask, row.logprobs) == ((0, 1, 2, 3), (0, 1, 1, 1), (0, -1, -1, -1))
        assert row.advantages == (0, *[row.advantages[1]] * 3)
        assert row.old_logprobs == (0, -2, -2, -2)  # the learner's, aligned with the tokens
    assert (metrics["rollout/accuracy"], metrics["rollout/groups_used_fraction"]) == (0.5, 1)
    assert metrics["loss/total"] == 8 and metrics["policy/version"] == 1 == made.step
    assert pool.versions == [1] and metrics["sync/logprob_difference_max"] == 0
    assert all(known(name) for name in metrics)


def test_without_recomputing_the_samplers_log_probabilities_stand_in() -> None:
    made, learner, _ = loop(half_right, recompute_logprobs=False)
    made.advance()
    assert {row.old_logprobs for row in learner.steps[0]} == {()}


@pytest.mark.parametrize("dynamic", [True, False])
def test_dynamic_sampling_drops_groups_of_equals(dynamic: bool) -> None:
    def make(job: RolloutJob) -> Trajectory:
        solved = job.problem.id in {p.id for p in PROBLEMS[:3]}
        return attempt(job, correct=solved or job.sample == 0)

    made, learner, _ = loop(make, problems=6, dynamic_sampling=dynamic, credit="best")
    metrics = made.advance()
    # `best` gives a group of equally right ones 1 each: only dynamic sampling drops it.
    used = {row.token_ids: None for rows in learner.steps for row in rows}
    assert len(used) == 1 and sum(len(rows) for rows in learner.steps) == (3 if dynamic else 15)
    assert metrics["rollout/groups_used_fraction"] == (0.5 if dynamic else 1)
    assert metrics["rollout/accuracy"] == pytest.approx((3 * 4 + 3) / 24)


def test_a_step_without_anything_to_learn_still_counts() -> None:
    made, learner, pool = loop(lambda job: attempt(job, correct=True))
    metrics = made.advance()
    assert learner.steps == [] and made.step == 1 and pool.versions == [1]
    assert (metrics["rollout/groups_used_fraction"], metrics["rollout/accuracy"]) == (0, 1)
    assert "loss/total" not in metrics


def test_what_could_not_be_scored_is_counted_and_left_out() -> None:
    def make(job: RolloutJob) -> Trajectory:
        return attempt(job, correct=(True, False, None, None)[job.sample])

    made, learner, pool = loop(make)
    metrics = made.advance()
    assert metrics["rollout/unscored"] == 4 and metrics["rollout/accuracy"] == 0.5
    assert [len(rows) for rows in learner.steps] == [4]
    # The group of the two that were scored: 1 and -1, as if there had been no others.
    assert sorted(row.advantages[1] for row in learner.steps[0]) == pytest.approx([-1, -1, 1, 1], abs=1e-5)
    assert [len(jobs) for jobs in pool.jobs] == [8, 4]  # the failed ones were tried again


def test_a_group_with_one_scored_member_has_nothing_to_compare() -> None:
    made, learner, _ = loop(lambda job: attempt(job, correct=True if job.sample == 0 else None))
    assert made.advance()["rollout/groups_used_fraction"] == 0 and learner.steps == []


def test_failed_attempts_are_dispatched_once_more() -> None:
    tries: dict[int, int] = {}

    def make(job: RolloutJob) -> Trajectory:
        tries[job.sample] = tries.get(job.sample, 0) + 1
        return attempt(job, correct=None if job.sample in (1, 3) and tries[job.sample] == 1 else True)

    made = attempt_all(ScriptedPool(make), [RolloutJob(problem=PROBLEMS[0], sample=s) for s in range(4)])
    assert [t.sample for t in made] == [0, 1, 2, 3] and all(t.correct for t in made)
    assert tries == {0: 1, 1: 2, 2: 1, 3: 2}
    assert attempt_all(ScriptedPool(make), []) == []


def test_a_step_in_which_everything_failed_stops_the_run() -> None:
    why = {"failure": "no electricity"}
    made, *_ = loop(lambda job: attempt(job, correct=None, provenance=why))
    with pytest.raises(InfrastructureError, match="all 8 attempts failed: infrastructure: no electricity"):
        made.advance()


def test_minibatches_hold_every_row_once_in_a_seeded_order() -> None:
    def make(job: RolloutJob) -> Trajectory:
        made = attempt(job, correct=job.sample % 2 == 0)
        number = PROBLEMS.index(job.problem) * 10 + job.sample
        return replace(made, token_ids=(number, 1, 2, 3))

    orders = []
    for _ in range(2):
        made, learner, _ = loop(make, problems=3, minibatch=5)
        made.advance()
        assert [len(rows) for rows in learner.steps] == [5, 5, 2]
        orders.append([row.token_ids[0] for rows in learner.steps for row in rows])
    assert orders[0] == orders[1] != sorted(orders[0]) and len(set(orders[0])) == 12


def test_replay_adds_a_share_of_earlier_successes() -> None:
    made, learner, _ = loop(half_right, credit="group_mean", replay={"capacity": 8, "fraction": 0.5, "max_age": 2})
    made.advance()
    assert len(learner.steps[0]) == 8  # nothing to replay yet
    assert len(made.replaying.buffer) == 4  # the right ones
    made.advance()
    rows = learner.steps[1]
    assert len(rows) == 12  # 8 fresh ones and half as many again
    assert sorted(row.advantages[1] for row in rows) == [-0.5] * 4 + [0.5] * 8
    assert all(row.advantages[0] == 0 for row in rows)


def test_rollout_metrics_are_means_over_trajectories() -> None:
    failed = ToolResult(name="calculator", ok=False, output="error", seconds=2.0, cost=4.0)
    call = ToolCall(name="calculator", arguments={"expression": "6*"})
    batch = [
        trajectory(calls=3, tokens=10).scored(1.0, {"correct": 1.0, "tool_efficiency": 0.5}),
        trajectory(calls=1, tokens=20, family="lookup").scored(0.5, {"correct": 1.0, "tool_efficiency": 0.7}),
        trajectory(
            correct=False,
            family="lookup",
            stop_reason=StopReason.FORMAT_ERROR,
            turns=(Turn(text="", calls=(call,), results=(failed,)), Turn(text="")),
        ).scored(0.0, {"correct": 0.0}),
        trajectory(calls=0, tokens=6, correct=None, stop_reason=StopReason.INFRASTRUCTURE),
    ]
    assert rollout_metrics(batch) == pytest.approx(
        {
            "rollout/reward_mean": 0.5,  # (1 + .5 + 0) / 3
            "rollout/reward_mean/correct": 2 / 3,
            "rollout/reward_mean/tool_efficiency": 0.6,
            "rollout/accuracy": 2 / 3,
            "rollout/accuracy/arithmetic": 1,
            "rollout/accuracy/lookup": 0.5,
            "rollout/calls_per_problem": 1.25,  # (3 + 1 + 1 + 0) / 4
            "rollout/needless_calls_per_solved": 1,  # (2 + 0) / 2
            "rollout/length_tokens": 10,  # (10 + 20 + 4 + 6) / 4
            "rollout/format_error_fraction": 0.25,
            "rollout/tool_error_fraction": 0.2,  # 1 of 5 calls
            "rollout/call_cost_per_problem": 1,  # 4 / 4
            "rollout/call_seconds_mean": 0.4,  # 2 / 5
            "rollout/stop_fraction/answer": 0.5,
            "rollout/stop_fraction/format_error": 0.25,
            "rollout/stop_fraction/infrastructure": 0.25,
            "rollout/unscored": 1,
        }
    )
    assert all(known(name) for name in rollout_metrics(batch))


def test_a_sampler_that_computes_with_other_weights_stops_the_run() -> None:
    learner = NotingLearner()
    probe = [(1, 2, 3), (4, 5)]

    def sync(logprob: float, tolerance: float = 0.0) -> float:
        pool = ScriptedPool(half_right, logprob)
        return sync_weights(learner, pool, version=3, probe=probe, tolerance=tolerance)

    assert sync(-2.0) == 0
    assert sync(-2.0005) == pytest.approx(5e-4)
    with pytest.raises(WeightSyncError, match=r"after weight sync 3 .* differ from the learner's by 0\.1 nats"):
        sync(-2.1)
    assert sync(-2.1, tolerance=0.2) == pytest.approx(0.1)
    for broken in (math.nan, -math.inf):
        with pytest.raises(WeightSyncError):
            sync(broken, tolerance=100)


def test_a_step_whose_prompts_are_all_too_long_has_nothing_to_probe_with() -> None:
    made, learner, _ = loop(lambda job: attempt(job, correct=False, turns=(), stop_reason=StopReason.MAX_TOKENS))
    assert made.advance()["sync/logprob_difference_max"] == 0
    assert learner.steps == []


def test_one_stale_worker_among_several_is_found_wherever_it_stands() -> None:
    class TwoWorkers(ScriptedPool):
        def __init__(self, first: float, second: float) -> None:
            super().__init__(half_right)
            self._both = first, second

        def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
            return [[logprob] * (len(row) - 1) for logprob in self._both for row in rows]

    def sync(*both: float) -> float:
        return sync_weights(NotingLearner(), TwoWorkers(*both), version=1, probe=[(1, 2, 3)], tolerance=0)

    assert sync(-2.0, -2.0) == 0
    for both in ((-2.0, -2.1), (-2.1, -2.0), (-2.0, math.nan), (math.nan, -2.0)):
        with pytest.raises(WeightSyncError):
            sync(*both)


class Deaf(InlinePool):
    """Says that it took the weights, and goes on with its own."""

    def load_weights(self, weights: Mapping[str, torch.Tensor], version: int) -> None: ...


class DeafWorkers(InlineWorkers):
    def samplers(self, model: Path) -> InlinePool:
        self._pool = Deaf(RolloutWorker(model, COMPUTE, MAX_LENGTH))
        return self._pool


FAST = {"learning_rate": 3e-3, "warmup_steps": 0}
TINY: dict[str, Any] = {
    **{"reward": "odd", "steps": 4, "problems": 3, "group": 4, "minibatch": 7, "checkpoint_every": 2},
    **{"max_turns": 2, "max_new_tokens": 12, "optimizer": FAST},
}


class Dying(Silent):
    """Notes what it is told, and dies at a step."""

    def __init__(self, step: int | None = None) -> None:
        self._step = step
        self.seen: dict[int, Mapping[str, float]] = {}
        self.traced: list[int] = []
        self.told: list[tuple[float, float, str]] = []

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.told.append((done, total, note))

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        if step == self._step:
            raise KeyboardInterrupt
        self.seen[step] = values

    def trajectories(self, batch: Sequence[Trajectory], *, step: int) -> None:
        assert batch
        self.traced.append(step)


def run(
    world: World, folder: Path, observer: Silent, workers: type[InlineWorkers] = InlineWorkers, **fields: Any
) -> dict[str, Any]:
    config: PipelineConfig = world.config
    with workers(COMPUTE, max_length=MAX_LENGTH) as made:
        return run_rl(
            config,
            stage(**{**TINY, **fields}),
            Inputs(policy=world.model, problems=world.synthesized),
            out=folder / "out",
            work=folder / "work",
            workers=made,
            observer=observer,
        )


ALL_STATE = {
    "curriculum": {"type": "weakest"},
    "replay": {"capacity": 8, "fraction": 0.5, "max_age": 3},
    "credit": "group_mean",
    "temperature": 0.7,
}


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("fields", [{}, ALL_STATE], ids=["plain", "everything stateful"])
def test_a_killed_run_goes_on_and_ends_where_the_unbroken_one_ends(
    world: World, tmp_path: Path, fields: dict[str, Any]
) -> None:
    unbroken = Dying()
    summary = run(world, tmp_path / "unbroken", unbroken, **fields)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "broken", Dying(step=4), **fields)
    assert not (tmp_path / "broken" / "out").exists()
    resumed = Dying()
    again = run(world, tmp_path / "broken", resumed, **fields)
    assert (summary["resumed_at_step"], again["resumed_at_step"]) == (0, 2)
    assert list(unbroken.seen) == [1, 2, 3, 4] and list(resumed.seen) == [3, 4]
    assert (unbroken.traced, resumed.traced) == ([2, 4], [4])
    for step in (3, 4):
        timeless = {k: v for k, v in unbroken.seen[step].items() if k.split("/")[0] not in ("time", "throughput")}
        assert timeless == {name: resumed.seen[step][name] for name in timeless}
    ours, theirs = (tmp_path / name / "out" / "policy" / "model.safetensors" for name in ("unbroken", "broken"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.read_bytes() != (world.model / "model.safetensors").read_bytes()
    ours, theirs = (
        [
            replace(t, turns=tuple(replace(u, results=()) for u in t.turns))  # results know how long they took
            for t in read_trajectories(tmp_path / name / "out" / "trajectories.parquet")
        ]
        for name in ("unbroken", "broken")
    )
    assert ours == theirs and len(ours) == 4 * 3 * 4 == summary["trajectories"]
    assert [t.policy_version for t in ours[::12]] == [0, 1, 2, 3]
    assert all(t.reward is not None and t.source == "policy" for t in ours)
    assert summary["sampled_tokens"] == sum(sum(t.loss_mask) for t in ours)


@pytest.mark.usefixtures("odd")
def test_a_killed_run_without_a_checkpoint_starts_again(world: World, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path, Dying(step=2), steps=2)
    assert run(world, tmp_path, Dying(), steps=2)["resumed_at_step"] == 0
    assert len(read_trajectories(tmp_path / "out" / "trajectories.parquet")) == 24


@pytest.mark.usefixtures("odd")
def test_sampler_and_learner_agree_before_and_after_learning(world: World, tmp_path: Path) -> None:
    observer = Dying()
    run(world, tmp_path, observer, minibatch=100, steps=3)
    for metrics in observer.seen.values():
        # One update a batch: the learner's probabilities are still those that sampled.
        assert metrics["policy/importance_ratio_mean"] == pytest.approx(1, abs=1e-4)
        assert metrics["policy/clip_fraction"] == metrics["policy/truncated_fraction"] == 0
        assert metrics["sync/logprob_difference_max"] < 1e-4
        assert metrics["rollout/groups_used_fraction"] == 1
        assert all(known(name) and math.isfinite(value) for name, value in metrics.items())


@pytest.mark.usefixtures("odd")
def test_a_sampler_that_ignores_the_weights_stops_the_run(world: World, tmp_path: Path) -> None:
    with pytest.raises(WeightSyncError, match="after weight sync 1"):
        run(world, tmp_path, Dying(), workers=DeafWorkers)
    assert not (tmp_path / "out").exists()


def test_reward_rises(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bandit: the turn has a digit in it. From chance to nearly always."""

    def digit(group: Sequence[Trajectory]) -> list[Score]:
        return [Score(total=float(any(c in "0123456789" for c in t.turns[0].text))) for t in group]

    monkeypatch.setitem(REWARDS, "digit", digit)
    settings = stage(
        reward="digit",
        problems=8,
        group=8,
        minibatch=32,
        max_turns=1,
        max_new_tokens=8,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0, decay_fraction=0),
    )
    spec = LearnerSpec(model=world.model, optimizer=settings.optimizer, total_steps=99, microbatch_tokens=4096, seed=0)
    with InlineWorkers(COMPUTE, max_length=MAX_LENGTH) as workers:
        made = ReinforceLoop(
            settings, world.train, learner=Learner(spec, COMPUTE), samplers=workers.samplers(world.model), seed=0
        )
        rates = [made.advance()["rollout/reward_mean"] for _ in range(18)]
    assert rates[0] < 0.45 and min(rates[-3:]) > 0.9, rates


@pytest.mark.usefixtures("odd")
def test_packed_rows_take_the_same_step(world: World, tmp_path: Path) -> None:
    padded, packed = Dying(), Dying()
    run(world, tmp_path / "padded", padded, steps=1)
    run(world, tmp_path / "packed", packed, steps=1, packing=True)
    for name in ("loss/total", "loss/gradient_norm", "policy/entropy_nats", "policy/importance_ratio_mean"):
        assert packed.seen[1][name] == pytest.approx(padded.seen[1][name], rel=1e-4, abs=1e-6), name
