"""Stage sft: the base model learns from the kept trajectories, on the tokens that a model would have written."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from journeyman.config import NllObjective, ObjectiveConfig, PipelineConfig
from journeyman.config.objective import DistillObjective
from journeyman.environments import environment, specs_of
from journeyman.errors import DataError
from journeyman.progress import Observer
from journeyman.seeds import derive
from journeyman.training.checkpoints import Checkpoints
from journeyman.training.dev import DevSet
from journeyman.training.handle import LearnerHandle, LearnerSpec
from journeyman.training.lessons import Lessons, encode_lessons
from journeyman.training.merging import scale_by_depth
from journeyman.training.mixture import Batches
from journeyman.training.model import make_base
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, read_trajectories

OBJECTIVE = NllObjective()
REPORT_EVERY = 10
"""Steps between reports of metrics and progress."""


def run_sft(
    config: PipelineConfig,
    curated: Path,
    *,
    out: Path,
    work: Path,
    workers: Workers,
    observer: Observer,
    problems: Path | None = None,
) -> dict[str, Any]:
    """Write `out/base` and `out/policy`, model folders. A next try with the same `work` goes on from its checkpoint.

    `problems`: the synthesize artifact, whose dev split is attempted where the config says so.
    """
    started = time.perf_counter()
    demonstrations = read_trajectories(curated / "kept.parquet")
    base = out / "base"
    observer.progress(0, config.sft.steps, "tokenizer and base model")
    make_base(
        config.model,
        base,
        texts=[text for t in demonstrations for text in _texts(t)],
        specs=_specs(demonstrations),
        phrases=_phrases(demonstrations),
        seed=derive(config.seed, "base"),
    )
    lessons = encode_lessons(demonstrations, base, config.model.max_length, weighing=config.sft.key_tokens)
    plan = _plan(config, lessons)
    learner = workers.learner(_spec(config, base, plan.steps))
    dev = _dev_set(config, problems, base, work, workers, lessons)
    metrics = _Training(config, plan, learner, Checkpoints(work), dev).run(observer)
    _write_policy(config, learner, dev, base=base, out=out / "policy", work=work)
    return {
        "steps": plan.steps,
        "demonstrations": len(lessons.rows),
        "kinds": dict(Counter(lessons.kinds)),
        "phases": plan.batches.phases,
        "too_long": lessons.too_long,
        "learned_tokens": sum(sum(row.mask) for row in lessons.rows),
        "loss": metrics.get("loss/total"),
        **(dev.summary() if dev else {}),
        "seconds": time.perf_counter() - started,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    steps: int
    batches: Batches
    objective: ObjectiveConfig


def _plan(config: PipelineConfig, lessons: Lessons) -> _Plan:
    settings, steps = config.sft, config.sft.steps
    if settings.epochs:
        steps = settings.epochs * math.ceil(len(lessons.rows) / settings.batch)
    batches = Batches(
        lessons.rows,
        lessons.kinds,
        settings.stretches(),
        steps=steps,
        size=settings.batch,
        seed=derive(config.seed, "sft", "batches"),
    )
    objective: ObjectiveConfig = OBJECTIVE
    if settings.distill:
        objective = DistillObjective(weight=settings.distill.weight, temperature=settings.distill.temperature)
    return _Plan(steps=steps, batches=batches, objective=objective)


def _spec(config: PipelineConfig, base: Path, steps: int) -> LearnerSpec:
    settings = config.sft
    return LearnerSpec(
        model=base,
        optimizer=settings.optimizer,
        total_steps=steps,
        microbatch_tokens=settings.microbatch_tokens,
        seed=derive(config.seed, "sft"),
        packing=settings.packing,
        lora=settings.lora,
        reference=Path(settings.distill.teacher) if settings.distill else None,
    )


def _dev_set(
    config: PipelineConfig, problems: Path | None, base: Path, work: Path, workers: Workers, lessons: Lessons
) -> DevSet | None:
    if config.sft.evaluate_every is None:
        return None
    if problems is None:
        raise DataError("there are no dev problems", place="sft.evaluate_every", remedy="give run_sft the problems")
    return DevSet.read(
        problems / "problems" / "dev.parquet",
        config,
        folder=work / "best",
        samplers=workers.samplers(base),
        probe=sorted({row.token_ids for row in lessons.rows}, key=len, reverse=True),
    )


class _Training:
    """The steps, from the last checkpoint on."""

    def __init__(
        self,
        config: PipelineConfig,
        plan: _Plan,
        learner: LearnerHandle,
        checkpoints: Checkpoints,
        dev: DevSet | None,
    ) -> None:
        self._settings, self._plan = config.sft, plan
        self._learner, self._checkpoints, self._dev = learner, checkpoints, dev

    def run(self, observer: Observer) -> dict[str, float]:
        """The last step's metrics."""
        metrics: dict[str, float] = {}
        for step in range(self._restore(), self._plan.steps):
            metrics = self._learner.step(self._plan.batches[step], self._plan.objective)
            found = self._evaluate(step + 1)
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == self._plan.steps or found:
                observer.metrics(metrics | found, step=step + 1)
                observer.progress(step + 1, self._plan.steps, _told(metrics | found))
            if (step + 1) % self._settings.checkpoint_every == 0:
                self._save(step + 1)
        return metrics

    def _evaluate(self, done: int) -> dict[str, float]:
        every = self._settings.evaluate_every
        if self._dev is None or every is None or (done % every and done != self._plan.steps):
            return {}
        return self._dev.evaluate(self._learner, step=done)

    def _save(self, done: int) -> None:
        self._checkpoints.save(
            done, self._learner.save_checkpoint, {"dev": self._dev.state_dict()} if self._dev else {}
        )
        if self._dev:
            self._dev.forget_others()

    def _restore(self) -> int:
        found = self._checkpoints.last()
        if found is None:
            return 0
        folder, state = found
        self._learner.load_checkpoint(folder)
        if self._dev:
            self._dev.load_state_dict(state["dev"])
        return state["step"]


def _told(metrics: dict[str, float]) -> str:
    dev = metrics.get("dev/accuracy_greedy")
    return f"loss {metrics['loss/total']:.3f}" + ("" if dev is None else f", dev accuracy {dev:.2f}")


def _write_policy(
    config: PipelineConfig, learner: LearnerHandle, dev: DevSet | None, *, base: Path, out: Path, work: Path
) -> None:
    """The best policy, or the last one where none was chosen; scaled by depth only now, and not judged after it."""
    if config.sft.lines is None and dev is None:
        return learner.save_model(out)
    chosen = dev.best if dev else work / "last"
    if dev is None:
        learner.save_model(chosen)
    if config.sft.lines:
        scale_by_depth(base, chosen, out, config.sft.lines)
    else:
        shutil.copytree(chosen, out, dirs_exist_ok=True)
    return None


def _texts(trajectory: Trajectory) -> list[str]:
    seen = [text for turn in trajectory.turns for text in turn.outputs()]
    shown = [message.content for message in trajectory.opening] or [trajectory.question]
    return [*shown, *(turn.text for turn in trajectory.turns), *seen]


def _phrases(demonstrations: Sequence[Trajectory]) -> list[str]:
    families = sorted({t.family for t in demonstrations})
    return list(dict.fromkeys(phrase for family in families for phrase in environment(family).phrases))


def _specs(demonstrations: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """The tools of the first demonstration that has any: their boilerplate a new tokenizer takes in."""
    with_tools = (trajectory for trajectory in demonstrations if trajectory.tools or trajectory.specs)
    return [spec for trajectory in islice(with_tools, 1) for spec in specs_of(trajectory)]
