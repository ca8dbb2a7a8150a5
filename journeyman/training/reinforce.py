"""Stage rl: sample groups, score them, give credit, learn; with curriculum, replay and checkpoints."""

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from journeyman.config import PipelineConfig, RlConfig
from journeyman.credit import CREDITS
from journeyman.curriculum import CURRICULA
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.replay.buffer import ReplayBuffer, Replayed
from journeyman.rewards import REWARDS, apply_reward
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.training.checkpoints import Checkpoints
from journeyman.training.handle import LearnerHandle, LearnerSpec, Row
from journeyman.training.rollout_metrics import rollout_metrics
from journeyman.training.sync import sync_weights
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, read_trajectories, write_trajectories

TRACED = 4
"""Trajectories of a checkpointed step that are handed to the observer as traces."""
PROBED = 8
"""Trajectories that the sampler and the learner score after each weight sync."""


def run_rl(
    config: PipelineConfig,
    stage: RlConfig,
    *,
    policy: Path,
    problems: Path,
    out: Path,
    work: Path,
    workers: Workers,
    observer: Observer,
) -> dict[str, Any]:
    """Train the policy of a model folder on a problem set; write `out/policy` and `out/trajectories.parquet`.

    A next try with the same `work` goes on from its last checkpoint and ends where an unbroken run ends.
    """
    started = time.perf_counter()
    seed = derive(config.seed, "rl", stage.name)
    loop = ReinforceLoop(
        stage,
        read_problems(problems / "problems" / "train.parquet"),
        learner=workers.learner(_spec(stage, policy, seed)),
        samplers=workers.samplers(policy),
        seed=seed,
    )
    store = _Store(work)
    resumed_at = store.restore(loop)
    while loop.step < stage.steps:
        metrics = loop.advance()
        store.keep(loop.sampled, step=loop.step)
        observer.metrics(metrics, step=loop.step)
        observer.progress(loop.step, stage.steps, f"accuracy {metrics.get('rollout/accuracy', 0.0):.2f}")
        if loop.step % stage.checkpoint_every == 0 or loop.step == stage.steps:
            observer.trajectories(loop.sampled[:TRACED], step=loop.step)
            store.save(loop)
    loop.learner.save_model(out / "policy")
    trajectories = store.collect()
    write_trajectories(trajectories, out / "trajectories.parquet")
    return {
        "steps": stage.steps,
        "resumed_at_step": resumed_at,
        "trajectories": len(trajectories),
        "sampled_tokens": sum(sum(t.loss_mask) for t in trajectories),
        "seconds": time.perf_counter() - started,
    }


def _spec(stage: RlConfig, policy: Path, seed: int) -> LearnerSpec:
    updates = -(-stage.problems * stage.group // stage.minibatch)
    return LearnerSpec(
        model=policy,
        optimizer=stage.optimizer,
        total_steps=stage.steps * updates,
        microbatch_tokens=stage.microbatch_tokens,
        seed=seed,
    )


class ReinforceLoop:
    """The state of one rl stage. `advance` is one step; everything random follows from (seed, step)."""

    def __init__(
        self,
        stage: RlConfig,
        problems: Sequence[Problem],
        *,
        learner: LearnerHandle,
        samplers: SamplerPool,
        seed: int,
    ) -> None:
        self.stage, self.learner, self._samplers, self._seed = stage, learner, samplers, seed
        self.step = 0
        self.sampled: list[Trajectory] = []
        """The last step's trajectories, scored."""
        self.curriculum = CURRICULA[stage.curriculum.type](problems, derive(seed, "curriculum"))
        self.replay = ReplayBuffer(stage.replay.capacity, stage.replay.max_age, seed)

    def advance(self) -> dict[str, float]:
        """Sample, score, learn, sync. Returns the step's metrics."""
        started = time.perf_counter()
        groups = self._score(self._rollout())
        self.sampled = [t for group in groups for t in group]
        self.curriculum.update(self.sampled)
        rolled_out = time.perf_counter()
        metrics = rollout_metrics(self.sampled) | self._learn(groups)
        learned = time.perf_counter()
        self.step += 1
        difference = self.sync()
        tokens = sum(sum(t.loss_mask) for t in self.sampled)
        return metrics | {
            "policy/version": float(self.step),
            "sync/logprob_difference_max": difference,
            "time/rollout_s": rolled_out - started,
            "time/learn_s": learned - rolled_out,
            "time/sync_s": time.perf_counter() - learned,
            "throughput/sampled_tokens_per_s": tokens / (rolled_out - started),
        }

    def _rollout(self) -> list[Trajectory]:
        stage = self.stage
        jobs = [
            RolloutJob(
                problem=problem,
                sample=sample,
                seed=derive(self._seed, self.step, place, sample),
                temperature=stage.temperature,
                **stage.limits(),
            )
            for place, problem in enumerate(self.curriculum.choose(stage.problems, step=self.step))
            for sample in range(stage.group)
        ]
        return attempt_all(self._samplers, jobs)

    def _score(self, trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
        """The step's groups, with their rewards."""
        size = self.stage.group
        groups = [trajectories[i : i + size] for i in range(0, len(trajectories), size)]
        return [apply_reward(REWARDS[self.stage.reward], group) for group in groups]

    def _learn(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Learn from the step's groups and from the buffer, minibatch after minibatch."""
        credited = [pair for group in groups for pair in self._credit(group)]
        used = len({trajectory.problem_id for trajectory, _ in credited})
        rows = [row for trajectory, advantages in credited for row in _rows(trajectory, advantages)]
        replayed = self.replay.sample(round(self.stage.replay.fraction * len(rows)), step=self.step)
        rows += [
            row for r in replayed for row in _rows(r.trajectory, [r.advantage * m for m in r.trajectory.loss_mask])
        ]
        if self.stage.replay.capacity:
            fresh = [Replayed(trajectory=t, advantage=_mean_advantage(t, a)) for t, a in credited]
            self.replay.add(fresh, version=self.step)
        return {"rollout/groups_used_fraction": used / len(groups), **self._update(rows)}

    def _credit(self, group: Sequence[Trajectory]) -> "list[tuple[Trajectory, tuple[float, ...]]]":
        """(trajectory, advantages) of a group; nothing where dynamic sampling finds nothing to compare."""
        scored = [t for t in group if t.reward is not None]
        if len(scored) < 2 or (self.stage.dynamic_sampling and len({t.reward for t in scored}) == 1):
            return []
        pairs = zip(scored, CREDITS[self.stage.credit](scored), strict=True)
        return [(t, advantages) for t, advantages in pairs if any(advantages)]

    def _update(self, rows: list[Row]) -> dict[str, float]:
        random.Random(derive(self._seed, "minibatches", self.step)).shuffle(rows)
        if self.stage.recompute_logprobs:
            rows = self._with_old_logprobs(rows)
        size = self.stage.minibatch
        found = [self.learner.step(rows[i : i + size], self.stage.objective) for i in range(0, len(rows), size)]
        names = {name for metrics in found for name in metrics}
        return {name: fmean([metrics[name] for metrics in found if name in metrics]) for name in names}

    def _with_old_logprobs(self, rows: Sequence[Row]) -> list[Row]:
        scores = self.learner.score([row.token_ids for row in rows], self.stage.temperature)
        return [replace(row, old_logprobs=(0.0, *score)) for row, score in zip(rows, scores, strict=True)]

    def sync(self) -> float:
        """Give the sampler the learner's weights; returns the probe's largest difference."""
        # Without a turn there is only a prompt, and it was too long for the model.
        seen = {t.token_ids[sample] for t in self.sampled if t.turns for sample in t.samples()}
        longest_first = sorted(seen, key=len, reverse=True)
        return sync_weights(
            self.learner,
            self._samplers,
            version=self.step,
            probe=longest_first[:PROBED],
            tolerance=self.stage.sync_tolerance,
        )


def _rows(trajectory: Trajectory, advantages: Sequence[float]) -> list[Row]:
    """A row for each context in which the policy sampled."""
    return [
        Row(
            token_ids=trajectory.token_ids[sample],
            mask=trajectory.loss_mask[sample],
            advantages=tuple(advantages[sample]),
            logprobs=trajectory.logprobs[sample],
            temperature=trajectory.temperature,
        )
        for sample in trajectory.samples()
        if any(trajectory.loss_mask[sample])
    ]


def _mean_advantage(trajectory: Trajectory, advantages: Sequence[float]) -> float:
    return sum(advantages) / max(1, sum(trajectory.loss_mask))


class _Store:
    """What an rl stage keeps on disk while it is unfinished."""

    def __init__(self, work: Path) -> None:
        self._checkpoints, self._sampled = Checkpoints(work), work / "sampled"

    def keep(self, trajectories: Sequence[Trajectory], *, step: int) -> None:
        write_trajectories(trajectories, self._sampled / f"step-{step:06d}.parquet")

    def save(self, loop: ReinforceLoop) -> None:
        def write(folder: Path) -> None:
            loop.learner.save_checkpoint(folder)
            loop.replay.save(folder)

        self._checkpoints.save(loop.step, write, {"curriculum": loop.curriculum.state_dict()})

    def restore(self, loop: ReinforceLoop) -> int:
        """Bring a fresh loop to the last checkpoint; returns its step, 0 where there is none."""
        found = self._checkpoints.last()
        if found is None:
            shutil.rmtree(self._sampled, ignore_errors=True)
            return 0
        folder, state = found
        loop.learner.load_checkpoint(folder)
        loop.replay.load(folder)
        loop.curriculum.load_state_dict(state["curriculum"])
        loop.step = state["step"]
        for path in self._files():
            if int(path.stem.removeprefix("step-")) > loop.step:
                path.unlink()
        loop.sampled = read_trajectories(self._files()[-1])
        loop.sync()
        return loop.step

    def collect(self) -> list[Trajectory]:
        return [t for path in self._files() for t in read_trajectories(path)]

    def _files(self) -> list[Path]:
        return sorted(self._sampled.glob("step-*.parquet"))
