"""Stage rl: sample groups, score them, give credit, learn; with curriculum, replay and checkpoints."""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from journeyman.config import OptimizerConfig, PipelineConfig, RlConfig
from journeyman.config.judge import SamplerJudge
from journeyman.config.proposals import WrittenProposals
from journeyman.curriculum import CURRICULA
from journeyman.curriculum.base import Shown, Tempered
from journeyman.errors import PausedError
from journeyman.problem import EVALUATED, Problem, train_files
from journeyman.progress import Observer
from journeyman.rollout.job import SamplerPool
from journeyman.rollout.sampler_judge import build_judge
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.training.checkpoints import Checkpoints
from journeyman.training.crediting import Crediting
from journeyman.training.endings import Endings
from journeyman.training.handle import LearnerHandle, LearnerSpec, Row
from journeyman.training.inheritance import HANDED_ON, hand_on, take_over
from journeyman.training.mismatch import mismatch
from journeyman.training.process import ProcessModel
from journeyman.training.proposing import ForProposals, Proposing
from journeyman.training.replaying import Replaying
from journeyman.training.rollout_metrics import rollout_metrics
from journeyman.training.rows import by_temperature, minibatches, rows_of
from journeyman.training.sampling import Sampled, Sampling
from journeyman.training.scoring import Scorer, for_rewards
from journeyman.training.supplies import Supplies
from journeyman.training.sync import sync_weights
from journeyman.training.watch import Unwatched, Watch
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, read_trajectories, write_trajectories

TRACED = 4
"""Trajectories of a checkpointed step that are handed to the observer as traces."""
KEPT = "kept.parquet"
"""Where an artifact of curate has the demonstrations."""
WEIGHT = "weight"
"""Key of a problem's data: what its rows weigh in the loss, such as more for the hard ones (#125)."""
PAUSED = "look at its metrics and traces; started again with the same config, it goes on from this step's checkpoint"
PROBED = 8
"""Trajectories that the sampler and the learner score after each weight sync."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Folders that an rl stage reads."""

    policy: Path
    """What it begins with (Hugging Face format)."""
    problems: Path
    """The artifact with the problem sets."""
    demonstrations: Path | None = None
    """The artifact with the kept demonstrations; only where the block makes use of them."""
    taught: Path | None = None
    """The artifact with the problems that were demonstrated, and those that are evaluated on; where they are needed."""
    reference: Path | None = None
    """What the objective holds the policy against; None: `policy`."""
    before: Path | None = None
    """What the rl block before has handed on; only where this one inherits."""


def run_rl(
    config: PipelineConfig,
    stage: RlConfig,
    inputs: Inputs,
    *,
    out: Path,
    work: Path,
    workers: Workers,
    observer: Observer,
    watch: Watch | None = None,
    hands_on: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a policy on a problem set; write `out/policy` and `out/trajectories.parquet`.

    A next try with the same `work` goes on from its last checkpoint and ends where an unbroken run ends.
    `hands_on`: the state that the block behind inherits, written to `out/handed_on`.
    Raises `PausedError` where the watch wants it: a next try goes on from there, too.
    """
    started = time.perf_counter()
    seed, policy = derive(config.seed, "rl", stage.name), inputs.policy
    learner, samplers = workers.learner(_spec(stage, inputs, seed)), workers.samplers(policy)
    supplied = for_rewards(
        stage,
        policy=policy,
        learner=learner,
        samplers=samplers,
        compute=config.compute,
        seed=seed,
        folder=work / "judged",
    )
    demonstrations = read_trajectories(inputs.demonstrations / KEPT) if inputs.demonstrations else ()
    loop = ReinforceLoop(
        stage,
        [problem for file in train_files(inputs.problems) for problem in read_problems(file)],
        learner=learner,
        samplers=samplers,
        seed=seed,
        for_rewards=supplied,
        watch=watch,
        for_credits=Supplies(stage, learner, process=_process(stage, inputs, seed, workers), policy=policy),
        replayed=work / "replayed",
        demonstrations=demonstrations,
        demonstrated=_demonstrated(inputs.taught) if inputs.taught else (),
        for_proposals=_for_proposals(config, stage, inputs, samplers, work) if stage.proposals else None,
    )
    writer = build_judge(SamplerJudge(), pool=samplers, compute=config.compute, seed=seed)
    loop.watch.meet(
        {**supplied, "writer": writer, "learner": learner, "problems": loop.problems, "reward": loop.rescored}
    )
    store = _Store(work)
    resumed_at = store.restore(loop)
    if not resumed_at:
        loop.replaying.begin(demonstrations, policy, config.model.max_length)
        if inputs.before:
            take_over(loop, inputs.before, stage.inherits)
    with closing(loop):
        while loop.step < stage.steps and not loop.ended:
            _advance(loop, store, observer)
    loop.learner.save_model(out / "policy")
    if hands_on:
        hand_on(loop, out / HANDED_ON, hands_on)
    trajectories = store.collect()
    write_trajectories(trajectories, out / "trajectories.parquet")
    if stage.replay.keeps:
        loop.replaying.export(out / "replay.parquet")
    return {
        "steps": loop.step,
        **({"stopped": loop.watch.stopped} if loop.watch.stopped else {}),
        **({"ended": loop.endings.reason} if loop.endings.reason else {}),
        **({"warnings": dict(loop.watch.warnings)} if loop.watch.warnings else {}),
        **({"inherited": ", ".join(stage.inherits)} if stage.inherits else {}),
        "resumed_at_step": resumed_at,
        "trajectories": len(trajectories),
        "sampled_tokens": sum(sum(t.loss_mask) for t in trajectories),
        "seconds": time.perf_counter() - started,
    }


def _advance(loop: "ReinforceLoop", store: "_Store", observer: Observer) -> None:
    """A step, told and kept. Raises `PausedError`."""
    stage, metrics = loop.stage, loop.advance()
    store.keep(loop.sampled, step=loop.step)
    observer.metrics(metrics, step=loop.step)
    why = f", ended: {loop.endings.reason or loop.watch.stopped}" if loop.ended else ""
    total = loop.step if loop.ended else stage.steps
    observer.progress(loop.step, total, f"accuracy {metrics.get('rollout/accuracy', 0.0):.2f}{why}")
    ends = loop.step == stage.steps or loop.ended or loop.watch.paused
    if ends or loop.step % stage.checkpoint_every == 0:
        observer.trajectories(loop.sampled[:TRACED], step=loop.step)
        store.save(loop)
    if loop.watch.paused:
        raise PausedError(loop.watch.paused, place=f"rl-{stage.name}", remedy=PAUSED)


def _demonstrated(artifact: Path) -> list[Problem]:
    """The problems of a synthesize artifact that demonstrations can be of."""
    files = [artifact / "problems" / "taught.parquet", *train_files(artifact)]
    return [problem for file in files for problem in read_problems(file)]


def _for_proposals(
    config: PipelineConfig, stage: RlConfig, inputs: Inputs, samplers: SamplerPool, work: Path
) -> ForProposals:
    """What proposals must stay apart from, and who writes them; a writer's answers are kept while the stage is unfinished."""
    assert inputs.taught is not None, "where problems are proposed"
    apart = [p for split in EVALUATED for p in read_problems(inputs.taught / "problems" / f"{split}.parquet")]
    if not isinstance(stage.proposals, WrittenProposals):
        return ForProposals(apart=apart)
    seed, judge = derive(config.seed, "rl", stage.name, "writer"), stage.proposals.writer
    if not isinstance(judge, SamplerJudge) and not judge.cache:
        judge = judge.model_copy(update={"cache": str(work / "written")})
    return ForProposals(apart=apart, writer=build_judge(judge, pool=samplers, compute=config.compute, seed=seed))


def _spec(stage: RlConfig, inputs: Inputs, seed: int) -> LearnerSpec:
    updates = -(-stage.problems * stage.group // stage.minibatch)
    return LearnerSpec(
        model=inputs.policy,
        reference=inputs.reference,
        optimizer=stage.optimizer,
        total_steps=stage.steps * updates,
        microbatch_tokens=stage.microbatch_tokens,
        seed=seed,
        packing=stage.packing,
        lora=stage.lora,
    )


def _process(stage: RlConfig, inputs: Inputs, seed: int, workers: Workers) -> ProcessModel | None:
    """The process reward model of the block: it begins as the policy does."""
    if stage.process is None:
        return None
    optimizer = OptimizerConfig(learning_rate=stage.process.learning_rate, decay_fraction=0.0)
    spec = replace(_spec(stage, inputs, seed), reference=None, optimizer=optimizer, total_steps=stage.steps)
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
        demonstrations: Sequence[Trajectory] = (),
        demonstrated: Sequence[Problem] = (),
        for_proposals: ForProposals | None = None,
    ) -> None:
        """`for_rewards`: what they may need besides their history, by name; `replayed`: folder of the replay buffer.

        `demonstrated`: the problems of the demonstrations.
        """
        self.stage, self.learner, self._samplers, self._seed = stage, learner, samplers, seed
        self.step = 0
        self.sampled: list[Trajectory] = []
        """The last step's trajectories, scored."""
        self._for_rewards = for_rewards or {}
        self.scorer = Scorer(stage, self._for_rewards)
        self.watch = watch or Unwatched()
        self.supplies = for_credits or Supplies(stage, learner)
        self.problems = problems
        self._crediting = Crediting(stage, self.supplies.arrays())
        curriculum = stage.curriculum.within(stage.steps)
        self.curriculum = CURRICULA[curriculum.type](problems, derive(seed, "curriculum"), curriculum)
        if demonstrations and isinstance(self.curriculum, Shown):
            self.curriculum.show(demonstrations, demonstrated)
        self.proposing = Proposing(
            stage,
            problems,
            self.curriculum,
            pool=samplers,
            learner=learner,
            seed=seed,
            supplies=for_proposals or ForProposals(),
        )
        self.replaying = Replaying(stage, learner, seed, replayed)
        self.endings = Endings(stage.ends)
        self.sampling = Sampling(
            stage,
            samplers,
            seed,
            choose=lambda step: self.curriculum.choose(stage.problems, step=step),
            temperature=self._temperature,
            greedy="greedy_rewards_P" in self.supplies.needs,
        )

    def _temperature(self, step: int) -> float | None:
        return self.curriculum.temperature(step) if isinstance(self.curriculum, Tempered) else None

    @property
    def ended(self) -> bool:
        """Whether the stage has reached what it was for, or its monitors end it."""
        return bool(self.endings.reason or self.watch.stopped)

    def advance(self) -> dict[str, float]:
        """Sample, score, learn, sync. Returns the step's metrics."""
        started = time.perf_counter()
        found = self.sampling.take(self.step)
        groups = self._scored(found)
        self.sampled = [t for group in groups for t in group]
        self.curriculum.update(self.sampled)
        rolled_out = time.perf_counter()
        metrics = rollout_metrics(self.sampled) | self._learn(groups, found.problems)
        learned = time.perf_counter()
        self.step += 1
        self.sampling.settle()
        metrics |= self.watch.look(groups, metrics, step=self.step)
        difference = self.sync()
        metrics |= self.proposing.advance(self.sampled, step=self.step)
        tokens = sum(sum(t.loss_mask) for t in self.sampled)
        self.endings.look(metrics, tokens=tokens, seconds=time.perf_counter() - started)
        return metrics | {
            "policy/version": float(self.step),
            "sync/logprob_difference_max": difference,
            "time/rollout_s": rolled_out - started,
            "time/learn_s": learned - rolled_out,
            "time/sync_s": time.perf_counter() - learned,
            "throughput/sampled_tokens_per_s": tokens / (rolled_out - started),
        }

    def rescored(
        self, groups: Sequence[Sequence[Trajectory]], problems: Sequence[Problem], expression: str
    ) -> list[list[Trajectory]]:
        """Groups scored by another reward than the block's, with what the block's rewards are supplied with."""
        scorer = Scorer(self.stage.model_copy(update={"reward": expression}), self._for_rewards)
        return scorer.score(groups, problems, step=self.step)

    def _scored(self, found: Sampled) -> list[list[Trajectory]]:
        if found.greedy:
            greedy = self.scorer.score([[one] for one in found.greedy], found.problems, step=self.step)
            self.supplies.compare_with([one for group in greedy for one in group])
        return self.scorer.score(found.groups, found.problems, step=self.step)

    def _learn(self, groups: Sequence[Sequence[Trajectory]], problems: Sequence[Problem]) -> dict[str, float]:
        """Learn from the step's groups and from the buffer, minibatch after minibatch."""
        compared = self.replaying.compared(groups, step=self.step)
        credited = self._crediting(compared)
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
        again, replayed = self.replaying.rows(groups, compared, pairs, fresh=len(rows), step=self.step)
        return {"rollout/groups_used_fraction": used / len(groups), **along, **replayed, **self._update(rows + again)}

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
        ids, temperatures = [row.token_ids for row in rows], [row.temperature for row in rows]
        scores = by_temperature(ids, temperatures, self.learner.score)
        known = [replace(row, old_logprobs=(0.0, *score)) for row, score in zip(rows, scores, strict=True)]
        if self.stage.objective.type != "rover":
            return known
        means = by_temperature(ids, temperatures, self.learner.score_means)
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
        """What JSON holds of it; the learner, the buffer and what was sampled ahead have files of their own."""
        return {
            "endings": self.endings.state_dict(),
            "sampling": self.sampling.state_dict(),
            "proposing": self.proposing.state_dict(),
            "curriculum": self.curriculum.state_dict(),
            "history": self.scorer.history.state_dict(),
            "supplies": self.supplies.state_dict(),
            "watch": self.watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.proposing.load_state_dict(state["proposing"])
        self.curriculum.load_state_dict(state["curriculum"])
        self.scorer.history.load_state_dict(state["history"])
        self.supplies.load_state_dict(state["supplies"])
        self.watch.load_state_dict(state["watch"])
        self.endings.load_state_dict(state["endings"])
        self.step = state["step"]

    def save(self, folder: Path) -> None:
        """What JSON doesn't hold."""
        self.learner.save_checkpoint(folder)
        self.replaying.save(folder)
        self.supplies.save(folder)
        self.sampling.save(folder)

    def load(self, folder: Path, state: Mapping[str, Any]) -> None:
        """The inverse of `save` and `state_dict`."""
        self.learner.load_checkpoint(folder)
        self.replaying.load(folder)
        self.supplies.load(folder)
        self.sampling.load(state["sampling"], folder)
        self.load_state_dict(state)

    def close(self) -> None:
        """Sample nothing more."""
        self.sampling.close()


class _Store:
    """What an rl stage keeps on disk while it is unfinished."""

    def __init__(self, work: Path) -> None:
        self._checkpoints, self._sampled = Checkpoints(work), work / "sampled"

    def keep(self, trajectories: Sequence[Trajectory], *, step: int) -> None:
        write_trajectories(trajectories, self._sampled / f"step-{step:06d}.parquet")

    def save(self, loop: ReinforceLoop) -> None:
        self._checkpoints.save(loop.step, loop.save, loop.state_dict())

    def restore(self, loop: ReinforceLoop) -> int:
        """Bring a fresh loop to the last checkpoint; returns its step, 0 where there is none."""
        found = self._checkpoints.last()
        if found is None:
            shutil.rmtree(self._sampled, ignore_errors=True)
            return 0
        loop.load(*found)
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
