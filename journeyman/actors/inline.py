"""Learner and sampler in this process, without Ray."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from journeyman.config import ComputeConfig
from journeyman.rollout.job import RolloutJob
from journeyman.rollout.worker import RolloutWorker
from journeyman.training.handle import LearnerHandle, LearnerSpec
from journeyman.training.learner import Learner
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import torch


class InlineWorkers:
    """The same in this process, one sampler, without Ray: for tests, notebooks and debuggers."""

    def __init__(self, compute: ComputeConfig, *, max_length: int) -> None:
        self._compute, self._max_length = compute, max_length
        self._pool: InlinePool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def learner(self, spec: LearnerSpec, role: str = "policy") -> LearnerHandle:
        return Learner(spec, self._compute)

    def samplers(self, model: Path) -> "InlinePool":
        self.__exit__()
        self._pool = InlinePool(RolloutWorker(model, self._compute, self._max_length))
        return self._pool


class InlinePool:
    """One rollout worker behind the SamplerPool protocol, with an event loop of its own."""

    def __init__(self, worker: RolloutWorker) -> None:
        self._worker = worker
        self._runner = asyncio.Runner()

    def rollout(self, jobs: Sequence[RolloutJob]) -> list[Trajectory]:
        return self._runner.run(self._worker.rollout(jobs))

    def load_weights(self, weights: "Mapping[str, torch.Tensor]", version: int) -> None:
        self._runner.run(self._worker.load_weights(weights, version))

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return self._runner.run(self._worker.score(rows))

    def close(self) -> None:
        self._runner.run(self._worker.close())
        self._runner.close()
