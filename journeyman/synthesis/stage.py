"""Stage synthesize: the problems in their splits, and the cold-start demonstrations."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from journeyman.config import DatasetProblems, GeneratedProblems, PipelineConfig
from journeyman.environments import Environment, Generator, environment_with
from journeyman.errors import ConfigError
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.seeds import derive
from journeyman.synthesis.problems import write_problems
from journeyman.synthesis.teacher import demonstrate
from journeyman.trajectory import Trajectory, write_trajectories

MOST_MISSES = 5000
"""Draws in a row without a new problem before a family is called exhausted."""


def synthesize(config: PipelineConfig, out: Path, observer: Observer) -> dict[str, Any]:
    """Write `out/problems/{train,dev,heldout}.parquet` and `out/demonstrations.parquet`.

    No question of the dev or held-out split is in another split, nor the same question in other words.
    """
    started = time.perf_counter()
    if isinstance(config.problems, DatasetProblems):
        from journeyman.synthesis.annotations import from_dataset

        splits, demonstrations, counts = from_dataset(config, observer)
    else:
        splits, sources = generate_splits(config.problems, config.synthesize.demonstrations, config.seed)
        demonstrations = asyncio.run(_demonstrate_all(sources, splits["heldout"], config, observer))
        counts = {}
    for name, problems in splits.items():
        write_problems(problems, out / "problems" / f"{name}.parquet")
    write_trajectories(demonstrations, out / "demonstrations.parquet")
    observer.metrics({"data/rows_in": len(demonstrations)}, step=0)
    return {
        "demonstrations": len(demonstrations),
        "demonstrations_correct": sum(bool(d.correct) for d in demonstrations),
        "mistakes": dict(Counter(d.provenance.get("mistake", "") or "none" for d in demonstrations)),
        "problems": {name: len(problems) for name, problems in splits.items()},
        **counts,
        "seconds": time.perf_counter() - started,
    }


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


async def _demonstrate_all(
    problems: list[Problem], leaked: list[Problem], config: PipelineConfig, observer: Observer
) -> list[Trajectory]:
    made: list[Trajectory] = []
    for number, problem in enumerate(problems):
        made += await demonstrate(problem, config.synthesize, seed=config.seed, leaked=leaked)
        if number % 200 == 0:
            observer.progress(number, len(problems), "demonstrations")
    observer.progress(len(problems), len(problems), "demonstrations")
    return made
