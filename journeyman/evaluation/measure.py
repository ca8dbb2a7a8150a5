"""Measure a policy for curation: attempts at the problems that are learned from, with tools and without."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from journeyman.config import PipelineConfig, PretrainedModel
from journeyman.config.measure import MeasureConfig
from journeyman.curation.measure import ATTEMPTS
from journeyman.errors import ConfigError, DataError
from journeyman.problem import EVALUATED, Problem
from journeyman.progress import Observer
from journeyman.rollout.job import RolloutJob, attempt_all
from journeyman.seeds import derive
from journeyman.synthesis.problems import read_problems
from journeyman.training.workers import Workers
from journeyman.trajectory import StopReason, Trajectory, schema, write_trajectories

CHUNK = 32
"""Problems whose attempts are made together, and stored before the next."""


def measured(
    config: PipelineConfig, synthesized: Path, *, out: Path, work: Path, workers: Workers, observer: Observer
) -> Path:
    """Write `out/attempts.parquet`: `curate.measure.samples` attempts a problem, and as many without tools if asked.

    Chunks are kept in `work`: a next try makes only what isn't there, and the file is the same. Attempts that failed
    through no fault of the policy are in it, unscored and counted; `curation.measure` leaves them out.
    """
    settings = config.curate.measure
    assert settings is not None, "called where there is something to measure"
    problems = problems_to_measure(config, synthesized)
    chunks = [problems[start : start + CHUNK] for start in range(0, len(problems), CHUNK)]
    files = [work / "attempts" / f"{number:06}.parquet" for number in range(len(chunks))]
    if not all(file.is_file() for file in files):
        pool = workers.samplers(policy_folder(config, work))
        for number, (chunk, file) in enumerate(zip(chunks, files, strict=True)):
            observer.progress(number, len(chunks), "measuring the policy")
            if not file.is_file():
                _write(attempt_all(pool, jobs(chunk, settings, config.seed)), file)
    _join(files, out / ATTEMPTS)
    observer.metrics(_figures(out / ATTEMPTS), step=0)
    observer.progress(len(chunks), len(chunks), f"{len(problems)} problems measured")
    return out / ATTEMPTS


def problems_to_measure(config: PipelineConfig, synthesized: Path) -> list[Problem]:
    """Of a synthesize artifact, each once, in the order of the files. Raises `DataError` where there is none."""
    settings = config.curate.measure
    assert settings is not None
    found = dict(_candidates(synthesized / "problems", settings, _demonstrated(synthesized)))
    chosen = list(found.values())
    if not chosen:
        raise DataError(
            f"none of the problems is {settings.problems}",
            place=str(synthesized / "problems"),
            remedy="measure others: curate.measure.problems=train",
        )
    if settings.most is None or settings.most >= len(chosen):
        return chosen
    places = random.Random(derive(config.seed, "measure")).sample(range(len(chosen)), settings.most)
    return [chosen[place] for place in sorted(places)]


def _candidates(folder: Path, settings: MeasureConfig, demonstrated: set[str]) -> Iterator[tuple[str, Problem]]:
    for file in sorted(folder.glob("*.parquet")):
        if file.stem in EVALUATED:
            continue
        asked = settings.problems != "demonstrated" and file.stem == "train"
        for problem in read_problems(file):
            if asked or (settings.problems != "train" and problem.id in demonstrated):
                yield problem.id, problem


def _demonstrated(synthesized: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(synthesized / "demonstrations.parquet", columns=["problem_id"])["problem_id"].to_pylist())


def policy_folder(config: PipelineConfig, work: Path) -> Path:
    """Where the model lies, fetched from the Hub where need be. Raises `ConfigError` where there is none."""
    from journeyman.training.model import make_base

    settings = config.curate.measure
    assert settings is not None
    if Path(settings.policy or "-").is_dir():
        return Path(settings.policy)
    model = PretrainedModel(path=settings.policy) if settings.policy else config.model
    if not isinstance(model, PretrainedModel):
        raise ConfigError(
            "a model from scratch solves nothing before it is trained",
            place="curate.measure.policy",
            remedy="name a model folder or a Hub name: the policy of an earlier run",
        )
    make_base(model, work / "policy", texts=(), specs=(), phrases=(), seed=config.seed)
    return work / "policy"


def jobs(problems: Sequence[Problem], settings: MeasureConfig, seed: int) -> list[RolloutJob]:
    """Problem by problem: the attempts with its tools, then those without."""
    made = []
    for problem in problems:
        without = [replace(problem, tools=())] if settings.without_tools and problem.tools else []
        for offered in (problem, *without):
            made += [
                RolloutJob(
                    problem=offered,
                    sample=sample,
                    seed=derive(seed, "measure", problem.id, "tools" if offered.tools else "none", sample),
                    temperature=settings.temperature,
                    **settings.limits(),
                )
                for sample in range(settings.samples)
            ]
    return made


def _write(trajectories: Sequence[Trajectory], file: Path) -> None:
    part = file.with_suffix(".part")
    write_trajectories(trajectories, part)
    part.replace(file)


def _join(files: Sequence[Path], out: Path) -> None:
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(out, schema(), compression="zstd") as writer:
        for file in files:
            writer.write_table(pq.read_table(file, schema=schema()))


def _figures(file: Path) -> dict[str, float]:
    import pyarrow.parquet as pq

    rows = pq.read_table(file, columns=["correct", "stop_reason"]).to_pylist()
    verdicts = [row["correct"] for row in rows if StopReason(row["stop_reason"]).scorable]
    scored = [verdict for verdict in verdicts if verdict is not None]
    accuracy = {"rollout/accuracy": sum(scored) / len(scored)} if scored else {}
    return {"rollout/unscored": len(rows) - len(scored), **accuracy}
