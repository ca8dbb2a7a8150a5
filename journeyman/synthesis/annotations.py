"""Demonstrations that a data set's own worked solutions give: every annotation becomes a call that is really run."""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from journeyman.config import DatasetProblems, PipelineConfig
from journeyman.environments import ENVIRONMENTS, environment_of, environment_with
from journeyman.environments.rows import Reading, RowReader
from journeyman.errors import ConfigError, DataError
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.seeds import derive
from journeyman.synthesis.courses import play
from journeyman.synthesis.problems import load_rows, split_problems
from journeyman.trajectory import Trajectory

SOURCE = "annotations"
PROGRESS_EVERY = 500


def from_dataset(
    config: PipelineConfig, observer: Observer
) -> tuple[dict[str, list[Problem]], list[Trajectory], dict[str, Any]]:
    """(problems by split, demonstrations of train problems, counts of what became of the rows).

    Raises `ConfigError` for a format that no environment reads, `DataError` for rows that can't be read.
    """
    assert isinstance(config.problems, DatasetProblems)
    reader = _reader(config)
    observer.progress(0, 1, "reading rows")
    rows = cast("Iterable[Mapping[str, Any]]", load_rows(config.problems, columns=reader.columns))
    reading = reader.read(rows)
    if not reading.problems:
        raise DataError(
            f"no row of {len(reading.apart)} can be used: {_reasons(reading)}",
            place=config.problems.path,
            remedy="check that problems.format fits the rows",
        )
    options = config.problems.worlds.get(config.problems.format, {})
    splits = split_problems(
        [replace(problem, world=options) for problem in reading.problems],
        dev=config.problems.dev,
        heldout=config.problems.heldout,
        seed=config.seed,
    )
    wanted = min(config.synthesize.demonstrations, len(splits.train))
    chosen = random.Random(derive(config.seed, "demonstrated")).sample(range(len(splits.train)), wanted)
    demonstrations = asyncio.run(demonstrate([splits.train[i] for i in sorted(chosen)], observer))
    problems = {"train": list(splits.train), "dev": list(splits.dev), "heldout": list(splits.heldout)}
    return problems, demonstrations, {"rows": reading.counts()}


async def demonstrate(problems: Sequence[Problem], observer: Observer) -> list[Trajectory]:
    """The gold course of each problem, played; the same problems give the same trajectories."""
    made = []
    for done, problem in enumerate(problems):
        for gold in environment_of(problem).courses(problem)[:1]:  # rows without a worked solution have none
            made.append(await play(problem, gold, source=SOURCE, provenance={"mistake": gold.mistake}))
        if done % PROGRESS_EVERY == 0:
            observer.progress(done, len(problems), "demonstrations")
    observer.progress(len(problems), len(problems), "demonstrations")
    return made


def _reader(config: PipelineConfig) -> RowReader:
    assert isinstance(config.problems, DatasetProblems)
    if config.synthesize.teacher != "annotations":
        raise ConfigError(
            "rows of a data set are demonstrated by their annotations",
            place="synthesize.teacher",
            remedy="set synthesize.teacher=annotations",
        )
    known = config.problems.format in ENVIRONMENTS
    made = environment_with(config.problems.format, config.problems.worlds) if known else None
    if not isinstance(made, RowReader):
        raise ConfigError(
            f"no environment reads rows of format {config.problems.format!r}",
            place="problems.format",
            remedy=f"one of {', '.join(name for name, entry in ENVIRONMENTS.items() if hasattr(entry, 'read'))}",
        )
    return made


def _reasons(reading: Reading) -> str:
    return ", ".join(f"{name.removeprefix('apart: ')} ({n})" for name, n in reading.counts().items() if ":" in name)
