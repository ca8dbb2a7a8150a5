"""Stage synthesize: the problems in their splits, and the cold-start demonstrations."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from journeyman.config import PipelineConfig
from journeyman.problem import Problem
from journeyman.progress import Observer
from journeyman.synthesis.lessons import Chunks, Report, Tally, chunk_numbers, teach
from journeyman.synthesis.problems import write_problems
from journeyman.synthesis.sources import Sources, generate_splits, problems_of
from journeyman.synthesis.spending import BudgetError, Meter
from journeyman.synthesis.strategies import build_strategy
from journeyman.synthesis.studio import Samplers, Supplies, studio_of
from journeyman.trajectory import schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["generate_splits", "synthesize"]

ROWS = 5000
"""Rows that are written together: a row group. Ours."""


def synthesize(
    config: PipelineConfig,
    out: Path,
    observer: Observer,
    *,
    work: Path | None = None,
    workers: Samplers | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Write the problems, the demonstrations, what was refused, and what it cost.

    `out/problems/{train,dev,heldout,taught}.parquet`, `out/demonstrations.parquet`, `out/refused.parquet` (trajectories, with
    `refused` in their provenance), `out/costs.parquet` (a row a lesson), and `out/problems/made.parquet` where
    strategies have made problems. No question of the dev or held-out split is in another split, nor the same question
    in other words.

    Args:
        work: finished lessons are kept there; a next try goes on from them. None: they go with the try.
        workers: who has samplers, for a teacher that needs them.
        cache: where answers of models are kept by content; None: `synthesize.cache`, else in `work`.

    Raises `BudgetError` where the budget is spent, `InfrastructureError` where a model can't be had; in both cases the
    next try asks nothing again that was answered.
    """
    started = time.perf_counter()
    sources = problems_of(config, observer)
    for name, problems in sources.splits.items():
        write_problems(problems, out / "problems" / f"{name}.parquet")
    write_problems(sources.taught, out / "problems" / "taught.parquet")
    with _work_folder(work, out) as folder:
        kept = cache or (Path(config.synthesize.cache).expanduser() if config.synthesize.cache else folder / "answers")
        supplies = Supplies(
            meter=Meter(config.synthesize.budget, folder / "spent.jsonl"), work=folder, cache=kept, workers=workers
        )
        chunks, total = Chunks(folder / "lessons"), _Progress(len(sources.taught), observer)
        try:
            asyncio.run(_teach(config, sources, supplies, chunks, total))
        except BudgetError:
            supplies.meter.check()  # tells of what was under way, too
            raise
        except BaseExceptionGroup as group:  # of several faults, the first tells why
            raise _first(group) from group
        made = _assemble(chunks, len(chunk_numbers(sources.taught)), out)
    observer.metrics({"data/rows_in": total.tally.taken}, step=0)
    return {**_summary(total.tally, sources), **made, "seconds": time.perf_counter() - started}


async def _teach(config: PipelineConfig, sources: Sources, supplies: Supplies, chunks: Chunks, report: Report) -> None:
    strategies = [build_strategy(text) for text in config.synthesize.strategies]
    async with studio_of(config, sources, supplies) as studio:
        await teach(sources.taught, studio, strategies, chunks=chunks, report=report)


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _work_folder(work: Path | None, out: Path) -> Iterator[Path]:
    """The folder of finished lessons; without one of the caller's, one that goes with the block."""
    if work is not None:
        yield work
        return
    with tempfile.TemporaryDirectory(dir=out, prefix=".lessons-") as folder:
        yield Path(folder)


class _Progress:
    """Tells the observer of each finished chunk."""

    def __init__(self, lessons: int, observer: Observer) -> None:
        self._lessons, self._observer = lessons, observer
        self._started, self._before = time.monotonic(), 0
        self.tally = Tally()
        observer.progress(0, lessons, "lessons")

    def __call__(self, chunk: Tally, *, earlier: bool) -> None:
        """`earlier`: it was finished by an earlier try."""
        self.tally.add(chunk)
        self._before += chunk.lessons if earlier else 0
        tally, costs = self.tally, self.tally.costs
        rate = (tally.lessons - self._before) / max(1e-9, time.monotonic() - self._started)
        spent = f", {costs.told()}" if costs.requests else ""
        note = f"lessons, {rate:.1f}/s, {tally.accepted:.0%} taken{spent}"
        self._observer.progress(tally.lessons, self._lessons, note)
        values = {
            "data/lessons": tally.lessons,
            "data/lessons_per_s": rate,
            "data/accepted_fraction": tally.accepted,
            "data/requests": costs.requests,
            "data/cached_fraction": costs.cached / max(1, costs.requests),
            "data/request_tokens": costs.tokens,
            "data/cost": costs.cost,
        }
        self._observer.metrics(values, step=tally.lessons)


def _summary(tally: Tally, sources: Sources) -> dict[str, Any]:
    return {
        "demonstrations": tally.taken,
        "demonstrations_correct": tally.correct,
        "mistakes": dict(tally.mistakes),
        "problems": {name: len(problems) for name, problems in sources.splits.items()},
        "strategies": dict(tally.strategies),
        "refused": dict(tally.refused),
        "cost": asdict(tally.costs),
        **sources.counts,
    }


def _assemble(chunks: Chunks, count: int, out: Path) -> dict[str, Any]:
    """The stage's files out of its chunks, in their order, some rows at a time; what there is to say of them."""
    import pyarrow as pa

    made: dict[str, Problem] = {}
    kept_apart = 0
    with (
        _Rows(out / "demonstrations.parquet", schema()) as taken,
        _Rows(out / "refused.parquet", schema()) as refused,
        _Rows(out / "costs.parquet", _cost_columns()) as costs,
    ):
        for number in range(count):
            for rows, table in zip((taken, refused), chunks.tables(number), strict=True):
                rows.add(table)
            rest = chunks.rest(number)
            costs.add(pa.Table.from_pylist(rest["costs"], schema=_cost_columns()))
            kept_apart += sum(row["kept_apart"] for row in rest["costs"])
            made |= {row["id"]: Problem.from_json(row) for row in rest["made"]}
    if made:
        write_problems(made.values(), out / "problems" / "made.parquet")
    return {"problems_made": len(made), "made_kept_apart": kept_apart} if made or kept_apart else {}


class _Rows:
    """A Parquet file that grows by tables, a row group at a time."""

    def __init__(self, path: Path, columns: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(path, columns, compression="zstd")
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, table: "pa.Table") -> None:
        self._waiting.append(table)
        if sum(one.num_rows for one in self._waiting) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if any(one.num_rows for one in self._waiting):
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []


def _cost_columns() -> "pa.Schema":
    import pyarrow as pa

    counts = ("taken", "refused", "made", "kept_apart", "requests", "cached", "estimated")
    return pa.schema(
        [
            ("problem_id", pa.string()),
            ("family", pa.string()),
            *((name, pa.int64()) for name in (*counts, "prompt_tokens", "completion_tokens")),
            ("cost", pa.float64()),
            ("seconds", pa.float64()),
        ]
    )
