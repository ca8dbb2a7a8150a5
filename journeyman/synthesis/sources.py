"""The problems of a stage: made by seed, or read from a data set; in their splits, and those that are taught."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from journeyman.config import DatasetProblems, GeneratedProblems, PipelineConfig
from journeyman.environments import ENVIRONMENTS, Environment, Generator, environment_with
from journeyman.environments.rows import Reading, RowReader
from journeyman.errors import ConfigError, DataError
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.seeds import derive
from journeyman.synthesis.problems import load_rows, split_problems

MOST_MISSES = 5000
"""Draws in a row without a new problem before a family is called exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a stage works on."""

    splits: Mapping[str, Sequence[Problem]]
    """`train`, `dev`, `heldout`: for rl and evaluation."""
    taught: Sequence[Problem]
    """To demonstrate; of a data set they are train problems, generated ones are others."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What became of the rows."""


def problems_of(config: PipelineConfig, observer: Observer) -> Sources:
    """The problems that the config describes. Raises `ConfigError` and `DataError`."""
    if isinstance(config.problems, DatasetProblems):
        return from_dataset(config.problems, config.synthesize.demonstrations, config.seed, observer)
    splits, taught = generate_splits(config.problems, config.synthesize.demonstrations, config.seed)
    return Sources(splits=splits, taught=taught)


def generate_splits(
    config: GeneratedProblems, demonstrations: int, seed: int
) -> tuple[dict[str, list[Problem]], list[Problem]]:
    """(train, dev and heldout problems for rl and evaluation; problems to demonstrate)."""
    makers = {family: environment_with(family, config.worlds) for family in config.families}
    tools = tuple(dict.fromkeys(name for maker in makers.values() for name in maker.tools()))
    sizes = {"heldout": config.heldout, "dev": config.dev, "train": config.train, "demonstrated": demonstrations}
    made: dict[str, list[Problem]] = {name: [] for name in sizes}
    for family, share in config.families.items():
        stream = _stream(makers[family], derive(seed, "problems", family))
        world = config.worlds.get(family, {})
        kept_apart: set[str] = set()
        for split, size in sizes.items():
            count = round(size * share / sum(config.families.values()))
            drawn = _draw(stream, count, kept_apart, family)
            if split in ("heldout", "dev"):
                kept_apart |= {problem.data["key"] for problem in drawn}
            made[split] += [replace(problem, tools=tools, world=world) for problem in drawn]
    for split, problems in made.items():
        random.Random(derive(seed, "order", split)).shuffle(problems)
    return {name: made[name] for name in ("train", "dev", "heldout")}, made["demonstrated"]


def _stream(maker: Environment, seed: int) -> Iterator[Problem]:
    if not isinstance(maker, Generator):
        raise ConfigError(f"{maker.name} does not generate problems", place="problems.families")
    return maker.generate(random.Random(seed))


def _draw(stream: Iterator[Problem], count: int, kept_apart: set[str], family: str) -> list[Problem]:
    """`count` problems that differ from each other, and whose keys are not among those kept apart."""
    drawn: dict[str, Problem] = {}
    misses = 0
    while len(drawn) < count:
        problem = next(stream)
        if problem.data["key"] not in kept_apart and problem.id not in drawn:
            drawn[problem.id], misses = problem, 0
        elif (misses := misses + 1) == MOST_MISSES:
            raise ConfigError(
                f"{family} has only {len(drawn)} different problems where {count} are asked for",
                place="problems.train and synthesize.demonstrations",
                remedy="ask for fewer, or lower the family's share",
            )
    return list(drawn.values())


def from_dataset(config: DatasetProblems, demonstrations: int, seed: int, observer: Observer) -> Sources:
    """Problems of the rows. Raises `ConfigError` for a format that nothing reads, `DataError` for unreadable rows."""
    reader = _reader(config)
    observer.progress(0, 1, "reading rows")
    rows = cast("Iterable[Mapping[str, Any]]", load_rows(config, columns=reader.columns))
    reading = reader.read(rows)
    if not reading.problems:
        raise DataError(
            f"no row of {len(reading.apart)} can be used: {_reasons(reading)}",
            place=config.path,
            remedy="check that problems.format fits the rows",
        )
    options = config.worlds.get(config.format, {})
    splits = split_problems(
        [replace(problem, world=options) for problem in reading.problems],
        dev=config.dev,
        heldout=config.heldout,
        seed=seed,
    )
    wanted = min(demonstrations, len(splits.train))
    chosen = random.Random(derive(seed, "demonstrated")).sample(range(len(splits.train)), wanted)
    return Sources(
        splits={"train": splits.train, "dev": splits.dev, "heldout": splits.heldout},
        taught=[splits.train[i] for i in sorted(chosen)],
        counts={"rows": reading.counts()},
    )


def _reader(config: DatasetProblems) -> RowReader:
    known = config.format in ENVIRONMENTS
    made = environment_with(config.format, config.worlds) if known else None
    if not isinstance(made, RowReader):
        raise ConfigError(
            f"no environment reads rows of format {config.format!r}",
            place="problems.format",
            remedy=f"one of {', '.join(name for name, entry in ENVIRONMENTS.items() if hasattr(entry, 'read'))}",
        )
    return made


def _reasons(reading: Reading) -> str:
    return ", ".join(f"{name.removeprefix('apart: ')} ({n})" for name, n in reading.counts().items() if ":" in name)
