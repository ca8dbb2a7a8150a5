"""A policy's attempts at a benchmark, and the report on them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from journeyman.config import PipelineConfig
from journeyman.evaluation.benchmarks.base import Questions
from journeyman.evaluation.ladder import METRIC, Attempts, build_report
from journeyman.evaluation.report import write_files
from journeyman.evaluation.stage import attempts
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.rollout.job import SamplerPool
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, write_trajectories

AT_ONCE = 64
"""Problems whose attempts are made together: what progress is told by."""


def run(
    config: PipelineConfig,
    policies: Mapping[str, Path],
    questions: Questions,
    *,
    out: Path,
    workers: Workers,
    observer: Observer,
    about: str = "",
) -> dict[str, Any]:
    """Ask every policy, sampled and greedy; writes `out/report.{json,md,html}` and `out/trajectories.parquet`.

    Args:
        config: its name is the report's title; of the rest, `evaluate` and the seed count.
        policies: name to model folder; each is compared with the one before it.
        about: what the benchmark is, for the report.
    """
    ladder, stored = [], []
    for place, (name, folder) in enumerate(policies.items()):
        started = time.monotonic()
        pool = workers.samplers(folder)
        made = _Attempts(config, pool, observer, note=f"asking {name}", share=(place, len(policies)))
        sampled, greedy = made.all(questions.problems)
        seconds = time.monotonic() - started
        observer.trajectories(sampled[:4], step=place)
        stored += [replace(t, provenance={**t.provenance, "policy": name}) for t in (*sampled, *greedy)]
        parted = [
            [replace(t, family=questions.parts.get(t.problem_id, t.family)) for t in b] for b in (sampled, greedy)
        ]
        ladder.append(Attempts(name=name, sampled=parted[0], greedy=parted[1], seconds=seconds))
    write_trajectories(stored, out / "trajectories.parquet")
    report = build_report(config, ladder, counts=questions.counts)
    samples = config.evaluate.samples
    metric = METRIC.format(temperature=config.evaluate.temperature, samples=samples)
    return write_files(replace(report, notes=tuple(filter(None, (about, metric)))), out)


class _Attempts:
    """One policy's attempts, some problems at a time."""

    def __init__(
        self, config: PipelineConfig, pool: SamplerPool, observer: Observer, *, note: str, share: tuple[int, int]
    ) -> None:
        self._config, self._pool, self._observer = config, pool, observer
        self._note, (self._place, self._policies) = note, share

    def all(self, problems: Sequence[Problem]) -> tuple[list[Trajectory], list[Trajectory]]:
        """(sampled, greedy)."""
        sampled: list[Trajectory] = []
        greedy: list[Trajectory] = []
        for start in range(0, len(problems), AT_ONCE):
            self._tell(start, len(problems))
            some = problems[start : start + AT_ONCE]
            for made, cold in ((sampled, False), (greedy, True)):
                made += attempts(self._pool, some, self._config.evaluate, seed=self._config.seed, greedy=cold)
        self._tell(len(problems), len(problems))
        return sampled, greedy

    def _tell(self, done: int, problems: int) -> None:
        total = problems * self._policies
        self._observer.progress(self._place * problems + done, total, self._note)
