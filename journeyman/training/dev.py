"""Which of a stage's policies is the best: greedy attempts at dev problems between its steps."""

import os
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from journeyman.config import PipelineConfig
from journeyman.errors import DataError
from journeyman.problem import Problem
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.training.handle import LearnerHandle
from journeyman.training.sync import sync_weights

PROBED = 8
"""Rows that sampler and learner both score after each hand-over of weights."""
ACCURACY = "dev/accuracy_greedy"


class DevSet:
    """Held-out problems, and the best policy so far in a folder of its own; of equals the earlier is kept.

    A policy is judged by its own attempts, not by its loss on others' text. The state belongs to a checkpoint: policies
    are written to `step-N` folders, and others than its best are removed only once it is saved.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        limits: Mapping[str, Any],
        *,
        folder: Path,
        samplers: SamplerPool,
        probe: Sequence[Sequence[int]],
    ) -> None:
        """`limits`: of the attempts; `probe`: rows of token ids on which the sampler's weights are checked."""
        self._problems, self._limits, self._folder = problems, limits, folder
        self._samplers, self._probe = samplers, probe[:PROBED]
        self._step, self._accuracy = 0, -1.0
        self._curve: dict[str, float] = {}

    @classmethod
    def read(
        cls, path: Path, config: PipelineConfig, *, folder: Path, samplers: SamplerPool, probe: Sequence[Sequence[int]]
    ) -> Self:
        """As many problems of a file as the config wants, drawn by its seed. Raises `DataError` where there are none."""
        there = read_problems(path)
        if not there:
            raise DataError("there are no dev problems", place=str(path), remedy="raise problems.dev")
        count = min(config.sft.dev_problems, len(there))
        chosen = random.Random(derive(config.seed, "sft", "dev")).sample(there, count)
        return cls(chosen, config.evaluate.limits(), folder=folder, samplers=samplers, probe=probe)

    def evaluate(self, learner: LearnerHandle, *, step: int) -> dict[str, float]:
        """One greedy attempt a problem; the policy is kept where it is the best. What was not verified doesn't count."""
        sync_weights(learner, self._samplers, version=step, probe=self._probe, tolerance=0.0)
        jobs = [RolloutJob(problem=problem, temperature=0.0, **self._limits) for problem in self._problems]
        verdicts = [t.correct for t in attempt_all(self._samplers, jobs) if t.correct is not None]
        if not verdicts:
            raise DataError("no attempt at a dev problem could be verified", remedy="leave sft.evaluate_every empty")
        accuracy = fmean(verdicts)
        self._curve[str(step)] = accuracy
        if accuracy > self._accuracy:
            self._keep(learner, step)
            self._step, self._accuracy = step, accuracy
        return {ACCURACY: accuracy}

    def _keep(self, learner: LearnerHandle, step: int) -> None:
        """A reader sees all of it or nothing."""
        fresh, final = self._folder / f".step-{step}-{os.getpid()}", self._folder / f"step-{step}"
        for left_over in [*self._folder.glob(".step-*"), final]:
            shutil.rmtree(left_over, ignore_errors=True)
        learner.save_model(fresh)
        os.replace(fresh, final)

    @property
    def best(self) -> Path:
        """Model folder of the best policy."""
        assert self._step, "evaluated before"
        return self._folder / f"step-{self._step}"

    def forget_others(self) -> None:
        """Only what the state names is still needed."""
        for folder in self._folder.glob("step-*"):
            if folder.name != f"step-{self._step}":
                shutil.rmtree(folder)

    def summary(self) -> dict[str, Any]:
        return {"best_step": self._step, "dev_accuracy_greedy": self._accuracy, "dev_curve": dict(self._curve)}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "accuracy": self._accuracy, "curve": dict(self._curve)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._accuracy, self._curve = state["step"], state["accuracy"], dict(state["curve"])
