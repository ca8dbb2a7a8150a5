"""Stage rl: sample groups, score them, give credit, learn; with curriculum, replay and checkpoints."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from journeyman.config import OptimizerConfig, PipelineConfig, RlConfig, TreeRollouts
from journeyman.credit.base import Floats
from journeyman.curriculum import CURRICULA
from journeyman.errors import PausedError
from journeyman.problem import Problem, train_files
from journeyman.progress import Observer
from journeyman.replay import ReplayBuffer, Replayed
from journeyman.replay.parts import warmup
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.training.checkpoints import Checkpoints
from journeyman.training.crediting import Crediting, contexts
from journeyman.training.handle import LearnerHandle, LearnerSpec, Row
from journeyman.training.mismatch import mismatch
from journeyman.training.process import ProcessModel
from journeyman.training.rollout_metrics import rollout_metrics
from journeyman.training.rows import minibatches, rows_of
from journeyman.training.scoring import Scorer, for_rewards
from journeyman.training.supplies import Supplies
from journeyman.training.sync import sync_weights
from journeyman.training.watch import Unwatched, Watch
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, read_trajectories, write_trajectories

TRACED = 4
"""Trajectories of a checkpointed step that are handed to the observer as traces."""
WEIGHT = "weight"
"""Key of a problem's data: what its rows weigh in the loss, such as more for the hard ones (#125)."""
PAUSED = "look at its metrics and traces; started again with the same config, it goes on from this step's checkpoint"
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
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train the policy of a model folder on a problem set; write `out/policy` and `out/trajectories.parquet`.

    A next try with the same `work` goes on from its last checkpoint and ends where an unbroken run ends.
    Raises `PausedError` where the watch wants it: a next try goes on from there, too.
    """
    started = time.perf_counter()
    seed = derive(config.seed, "rl", stage.name)
    learner, samplers = workers.learner(_spec(stage, policy, seed)), workers.samplers(policy)
    loop = ReinforceLoop(
        stage,
        [problem for file in train_files(problems) for problem in read_problems(file)],
        learner=learner,
        samplers=samplers,
        seed=seed,
        for_rewards=for_rewards(
            stage,
            policy=policy,
            learner=learner,
            samplers=samplers,
            compute=config.compute,
            seed=seed,
            folder=work / "judged",
        ),
        watch=watch,
        for_credits=Supplies(stage, learner, process=_process(stage, policy, seed, workers), policy=policy),
        replayed=work / "replayed",
    )
    store = _Store(work)
    resumed_at = store.restore(loop)
    while loop.step < stage.steps and not loop.watch.stopped:
        metrics = loop.advance()
        store.keep(loop.sampled, step=loop.step)
        observer.metrics(metrics, step=loop.step)
        observer.progress(loop.step, stage.steps, f"accuracy {metrics.get('rollout/accuracy', 0.0):.2f}")
        ends = loop.step == stage.steps or loop.watch.stopped or loop.watch.paused
        if ends or loop.step % stage.checkpoint_every == 0:
            observer.trajectories(loop.sampled[:TRACED], step=loop.step)
            store.save(loop)
        if loop.watch.paused:
            raise PausedError(loop.watch.paused, place=f"rl-{stage.name}", remedy=PAUSED)
    loop.learner.save_model(out / "policy")
    trajectories = store.collect()
    write_trajectories(trajectories, out / "trajectories.parquet")
    if stage.replay.capacity:
        loop.replay.export(out / "replay.parquet")
    return {
        "steps": loop.step,
        **({"stopped": loop.watch.stopped} if loop.watch.stopped else {}),
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
        packing=stage.packing,
        lora=stage.lora,
    )


def _process(stage: RlConfig, policy: Path, seed: int, workers: Workers) -> ProcessModel | None:
    """The process reward model of the block: it begins as the policy does."""
    if stage.process is None:
        return None
    optimizer = OptimizerConfig(learning_rate=stage.process.learning_rate, decay_fraction=0.0)
    spec = replace(_spec(stage, policy, seed), optimizer=optimizer, total_steps=stage.steps)
    return ProcessModel(stage.process, workers.learner(spec, "process"))


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
        for_rewards: Mapping[str, Any] | None = None,
        for_credits: Supplies | None = None,
        watch: Watch | None = None,
        replayed: Path | None = None,
    ) -> None:
        """`for_rewards`: what they may need besides their history, by name; `replayed`: folder of the replay buffer."""
        self.stage, self.learner, self._samplers, self._seed = stage, learner, samplers, seed
        self.step = 0
        self.sampled: list[Trajectory] = []
        """The last step's trajectories, scored."""
        self.scorer = Scorer(stage, for_rewards or {})
        self.watch = watch or Unwatched()
        self.supplies = for_credits or Supplies(stage, learner)
        self._crediting = Crediting(stage, self.supplies.arrays())
        self.curriculum = CURRICULA[stage.curriculum.type](problems, derive(seed, "curriculum"), stage.curriculum)
        self.replay = ReplayBuffer(stage.replay, seed, replayed)

    def advance(self) -> dict[str, float]:
        """Sample, score, learn, sync. Returns the step's metrics."""
        started = time.perf_counter()
        problems = self.curriculum.choose(self.stage.problems, step=self.step)
        groups = self.scorer.score(self._rollout(problems), problems, step=self.step)
        self.sampled = [t for group in groups for t in group]
        self.curriculum.update(self.sampled)
        rolled_out = time.perf_counter()
        metrics = rollout_metrics(self.sampled) | self._learn(groups, problems)
        learned = time.perf_counter()
        self.step += 1
        metrics |= self.watch.look(groups, metrics, step=self.step)
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

    def _rollout(self, problems: Sequence[Problem]) -> list[list[Trajectory]]:
        """A group of attempts at each problem. Where credit compares with it, a greedy one besides."""
        stage = self.stage
        jobs = [
            replace(self._job(problem, place, sample, stage.temperature), branches=branches)
            for place, problem in enumerate(problems)
            for sample, branches in self._begun()
        ]
        if "greedy_rewards_P" in self.supplies.needs:
            jobs += [self._job(problem, place, stage.group, 0.0) for place, problem in enumerate(problems)]
        made = attempt_all(self._samplers, jobs)
        whole = len(problems) * stage.group
        if made[whole:]:
            self._score_greedy(made[whole:], problems)
        return [made[i : i + stage.group] for i in range(0, whole, stage.group)]

    def _begun(self) -> list[tuple[int, int]]:
        """(sample, how many others fork from it) of each attempt of a group that begins anew."""
        if not isinstance(self.stage.rollout, TreeRollouts):
            return [(sample, 0) for sample in range(self.stage.group)]
        roots = min(self.stage.rollout.roots, self.stage.group)
        ends = [self.stage.group * (root + 1) // roots for root in range(roots)]
        return [(start, end - start - 1) for start, end in zip([0, *ends], ends, strict=False)]

    def _job(self, problem: Problem, place: int, sample: int, temperature: float) -> RolloutJob:
        return RolloutJob(
            problem=problem,
            sample=sample,
            seed=derive(self._seed, self.step, place, sample),
            temperature=temperature,
            **self.stage.limits(),
        )

    def _score_greedy(self, made: Sequence[Trajectory], problems: Sequence[Problem]) -> None:
        scored = self.scorer.score([[one] for one in made], problems, step=self.step)
        self.supplies.compare_with([one for group in scored for one in group])

    def _learn(self, groups: Sequence[Sequence[Trajectory]], problems: Sequence[Problem]) -> dict[str, float]:
        """Learn from the step's groups and from the buffer, minibatch after minibatch."""
        credited = self._crediting(groups)
        along = self.supplies.learn(credited.batch)
        pairs = credited.pairs(whole_groups=self.stage.objective.whole_groups)
        used = len({group for _, _, group in pairs})
        weight = {problem.id: float(problem.data.get(WEIGHT, 1.0)) for problem in problems}
        rows = [
            row
            for t, advantages, group in pairs
            for row in rows_of(
                t, advantages, group, weight=weight[t.problem_id], weights=self.supplies.token_weights(t)
            )
        ]
        metrics = {"rollout/groups_used_fraction": used / len(groups), **along}
        if self.stage.replay.capacity:
            self.replay.observe([[t.reward for t in group if t.reward is not None] for group in groups])
            count = round(self.stage.replay.fraction * len(rows))
            replayed = self.replay.sample(count, step=self.step, score=self._score_learned)
            rows += self._rows_again(replayed, len(groups))
            fresh = [Replayed(trajectory=t, advantage=_mean_advantage(t, a)) for t, a, _ in pairs]
            self.replay.add(fresh, version=self.step)
            metrics |= _replay_metrics(self.replay, replayed, step=self.step)
        return {**metrics, **self._update(rows)}

    def _rows_again(self, replayed: Sequence[Replayed], first_group: int) -> list[Row]:
        weight = warmup(self.step, self.stage.replay.warmup)
        return [
            row
            for number, r in enumerate(replayed, first_group)
            for row in rows_of(r.trajectory, r.advantage * np.array(r.trajectory.loss_mask), number, weight=weight)
        ]

    def _score_learned(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """Log-probabilities of the tokens that each trajectory learns from, as the learner is now."""
        places = contexts(trajectories)
        scores = self.learner.score([trajectories[i].token_ids[s] for i, s in places], self.stage.temperature)
        learned: list[list[float]] = [[] for _ in trajectories]
        for (i, s), score in zip(places, scores, strict=True):
            mask = trajectories[i].loss_mask[s][1:]
            learned[i] += [logprob for logprob, m in zip(score, mask, strict=True) if m]
        return learned

    def _update(self, rows: Sequence[Row]) -> dict[str, float]:
        stage = self.stage
        batches = minibatches(
            rows,
            stage.minibatch,
            derive(self._seed, "minibatches", self.step),
            whole_groups=stage.objective.whole_groups,
        )
        if stage.recompute_logprobs:
            batches = [self._with_old_logprobs(batch) for batch in batches]
        apart = mismatch([row for batch in batches for row in batch])
        found = [self.learner.step(batch, stage.objective) for batch in batches]
        names = {name for metrics in found for name in metrics}
        return {name: fmean([metrics[name] for metrics in found if name in metrics]) for name in names} | apart

    def _with_old_logprobs(self, rows: Sequence[Row]) -> list[Row]:
        """With what the learner says before its first update: log-probabilities, and their means where those are asked for."""
        ids = [row.token_ids for row in rows]
        scores = self.learner.score(ids, self.stage.temperature)
        known = [replace(row, old_logprobs=(0.0, *score)) for row, score in zip(rows, scores, strict=True)]
        if self.stage.objective.type != "rover":
            return known
        means = self.learner.score_means(ids, self.stage.temperature)
        return [replace(row, old_means=(0.0, *mean)) for row, mean in zip(known, means, strict=True)]

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

    def state_dict(self) -> dict[str, Any]:
        """What JSON holds of it; the learner and the buffer write files of their own."""
        return {
            "curriculum": self.curriculum.state_dict(),
            "history": self.scorer.history.state_dict(),
            "supplies": self.supplies.state_dict(),
            "watch": self.watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.curriculum.load_state_dict(state["curriculum"])
        self.scorer.history.load_state_dict(state["history"])
        self.supplies.load_state_dict(state["supplies"])
        self.watch.load_state_dict(state["watch"])
        self.step = state["step"]


def _mean_advantage(trajectory: Trajectory, advantages: Floats) -> float:
    return float(advantages.sum()) / max(1, sum(trajectory.loss_mask))


def _replay_metrics(buffer: ReplayBuffer, replayed: Sequence[Replayed], *, step: int) -> dict[str, float]:
    ages = [step - r.trajectory.policy_version for r in replayed]
    found = {"replay/kept": float(len(buffer)), "replay/replayed": float(len(replayed))}
    return found | ({"replay/age_mean": fmean(ages)} if ages else {})


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
            loop.supplies.save(folder)

        self._checkpoints.save(loop.step, write, loop.state_dict())

    def restore(self, loop: ReinforceLoop) -> int:
        """Bring a fresh loop to the last checkpoint; returns its step, 0 where there is none."""
        found = self._checkpoints.last()
        if found is None:
            shutil.rmtree(self._sampled, ignore_errors=True)
            return 0
        folder, state = found
        loop.learner.load_checkpoint(folder)
        loop.replay.load(folder)
        loop.supplies.load(folder)
        loop.load_state_dict(state)
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
