"""Stage evaluate: every policy of the ladder on the same held-out problems, sampled and greedy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from journeyman.config import EvaluateConfig, PipelineConfig
from journeyman.evaluation.report import More, write_report
from journeyman.evaluation.robustness import attempts_under
from journeyman.evaluation.strategies import make_attempts
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.rollout.job import RolloutJob, SamplerPool, attempt_all
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.training.workers import Workers
from journeyman.trajectory import Trajectory, write_trajectories

FURTHER = {"strategy": "strategies.parquet", "condition": "robustness.parquet"}
"""What attempts beyond those at the problems as they are are told apart by, and where they go."""


def evaluate(
    config: PipelineConfig,
    policies: Mapping[str, Path],
    *,
    problems: Path,
    out: Path,
    workers: Workers,
    observer: Observer,
    seconds: Mapping[str, float],
    counts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `out/report.{json,md,html}` and `out/trajectories.parquet`; returns the report.

    Where they are asked for, `out/strategies.parquet` has what strategies of inference made and `out/robustness.parquet`
    the attempts under harder conditions.

    Args:
        policies: name to model folder, in the order of the ladder.
        problems: the synthesize artifact, whose held-out split is asked.
        seconds: how long each policy's stage took.
        counts: what the stages before counted, for the report.
    """
    heldout = read_problems(problems / "problems" / "heldout.parquet")
    sampled: dict[str, list[Trajectory]] = {}
    greedy: dict[str, list[Trajectory]] = {}
    made: dict[str, dict[str, list[Trajectory]]] = {}
    under: dict[str, dict[str, list[Trajectory]]] = {}
    settings, seed = config.evaluate, config.seed
    for number, (name, folder) in enumerate(policies.items()):
        observer.progress(number, len(policies), name)
        pool = workers.samplers(folder)
        sampled[name] = attempts(pool, heldout, settings, seed=seed, greedy=False)
        greedy[name] = attempts(pool, heldout, settings, seed=seed, greedy=True)
        if settings.strategies:
            made[name] = make_attempts(pool, heldout, sampled[name], settings, seed=seed)
        if settings.robustness:
            under[name] = attempts_under(pool, heldout, settings, seed=seed)
        observer.trajectories(sampled[name][:4], step=number)
        observer.progress(number + 1, len(policies), name)
    kept = [
        replace(trajectory, provenance={**trajectory.provenance, "policy": name})
        for attempted in (sampled, greedy)
        for name, trajectories in attempted.items()
        for trajectory in trajectories
    ]
    write_trajectories(kept, out / "trajectories.parquet")
    for sort, further in (("strategy", made), ("condition", under)):
        if any(further.values()):
            write_trajectories(_named(further, sort), out / FURTHER[sort])
    more = More(problems=heldout, made=made, under=under)
    return write_report(config, sampled=sampled, greedy=greedy, seconds=seconds, out=out, counts=counts, more=more)


def _named(further: Mapping[str, Mapping[str, Sequence[Trajectory]]], sort: str) -> list[Trajectory]:
    """The attempts, their policy and strategy or condition in their provenance."""
    return [
        replace(trajectory, provenance={**trajectory.provenance, "policy": policy, sort: name})
        for policy, by_name in further.items()
        for name, trajectories in by_name.items()
        for trajectory in trajectories
    ]


def attempts(
    pool: SamplerPool, problems: Sequence[Problem], settings: EvaluateConfig, *, seed: int, greedy: bool
) -> list[Trajectory]:
    """One greedy attempt a problem, or `settings.samples` at the evaluation's temperature; grouped by problem."""
    jobs = [
        RolloutJob(
            problem=problem,
            sample=sample,
            seed=derive(seed, "evaluate", problem.id, sample),
            temperature=0.0 if greedy else settings.temperature,
            **settings.limits(),
        )
        for problem in problems
        for sample in range(1 if greedy else settings.samples)
    ]
    return attempt_all(pool, jobs)
