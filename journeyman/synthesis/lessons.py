"""Lessons chunk by chunk: taught side by side, stored when a chunk is finished, and not taught again."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from journeyman.artifacts import write_atomically
from journeyman.curation.normal_form import question_form
from journeyman.errors import InfrastructureError, UserError
from journeyman.problem import Problem
from journeyman.synthesis.base import Lesson, Strategy, Studio, refusal
from journeyman.synthesis.spending import Costs, booked, data_cost
from journeyman.trajectory import Trajectory, schema, to_row

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 64
"""Lessons that are stored together. Ours."""
OPEN_CHUNKS = 2
"""Chunks that are worked on at once: the next one begins while the last lessons of one are still taught."""
KEPT_APART = "asks what dev or held-out problems ask"


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of what was made."""

    lessons: int = 0
    taken: int = 0
    correct: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason, without what stands in brackets behind it."""
    mistakes: Counter[str] = field(default_factory=Counter)
    """Of scripted teachers, by their names."""
    strategies: Counter[str] = field(default_factory=Counter)
    """Of what was taken: the last that had a hand in it."""
    costs: Costs = field(default_factory=Costs)

    def add(self, other: "Tally") -> None:
        for name in ("lessons", "taken", "correct"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.costs.add(other.costs)

    def count(self, trajectory: Trajectory) -> None:
        told = trajectory.provenance
        if "refused" in told:
            self.refused[str(told["refused"]).partition(" (")[0]] += 1
            return
        self.taken += 1
        self.correct += bool(trajectory.correct)
        self.mistakes[told.get("mistake", "") or "none"] += 1
        self.strategies[(told.get("strategies") or ["none"])[-1]] += 1

    @property
    def accepted(self) -> float:
        """Share of what was made."""
        return self.taken / max(1, self.taken + self.refused.total())

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("lessons", "taken", "correct", *_COUNTERS)}
        return {**plain, "costs": asdict(self.costs)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Tally":
        counted = {name: Counter(row[name]) for name in _COUNTERS}
        return cls(**{**row, **counted, "costs": Costs(**row["costs"])})


_COUNTERS = ("refused", "mistakes", "strategies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What came of one problem."""

    taken: tuple[Trajectory, ...]
    refused: tuple[Trajectory, ...]
    made: tuple[Problem, ...]
    """Problems that strategies made."""
    costs: dict[str, Any]
    """A row of `costs.parquet`."""


class Report(Protocol):
    """Is told of each finished chunk; `earlier`: it was finished by an earlier try."""

    def __call__(self, chunk: Tally, *, earlier: bool) -> None: ...


class Chunks:
    """The finished chunks of a stage in its work folder: trajectories in Parquet, the rest in JSON, written last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self, number: int) -> bool:
        return self._path(number, "json").exists()

    def write(self, number: int, taught: Sequence[Taught]) -> Tally:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path(number, "json").parent.mkdir(exist_ok=True)
        tally = Tally(lessons=len(taught))
        for one in taught:
            for trajectory in (*one.taken, *one.refused):
                tally.count(trajectory)
            tally.costs.add(Costs(**{name: one.costs[name] for name in asdict(tally.costs)}))
        rows = [to_row(trajectory) for one in taught for trajectory in one.taken]
        others = [to_row(trajectory) for one in taught for trajectory in one.refused]
        table = pa.Table.from_pylist([*rows, *others], schema=schema())
        taken = pa.array([True] * len(rows) + [False] * len(others), type=pa.bool_())
        pq.write_table(table.append_column("taken", taken), self._path(number, "parquet"), compression="zstd")
        rest = {
            "tally": tally.to_json(),
            "costs": [one.costs for one in taught],
            "made": [problem.to_json() for one in taught for problem in one.made],
        }
        write_atomically(self._path(number, "json"), json.dumps(rest, ensure_ascii=False))
        return tally

    def tally(self, number: int) -> Tally:
        return Tally.from_json(self.rest(number)["tally"])

    def rest(self, number: int) -> dict[str, Any]:
        """`tally`, `costs` and `made`."""
        return json.loads(self._path(number, "json").read_text(encoding="utf-8"))

    def tables(self, number: int) -> "tuple[pa.Table, pa.Table]":
        """Trajectories that were taken, and those that were refused."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        table = pq.read_table(self._path(number, "parquet"))
        taken, plain = table.column("taken"), table.drop_columns(["taken"])
        return plain.filter(taken), plain.filter(pc.invert(taken))  # pyright: ignore[reportAttributeAccessIssue]

    def _path(self, number: int, end: str) -> Path:
        return self._folder / f"{number // 1000:04}" / f"{number:07}.{end}"


async def teach(
    problems: Sequence[Problem],
    studio: Studio,
    strategies: Sequence[Strategy],
    *,
    chunks: Chunks,
    report: Report,
) -> None:
    """Teach every chunk that isn't finished yet; `report` is told of each chunk, also of those that are.

    What a `UserError` or `InfrastructureError` stops, a budget that is spent or a server that is down, begins no more
    lessons, finishes and stores what it can of those that are under way, and is raised then.
    """
    work = _Work(studio, strategies, chunks, report)
    async with asyncio.TaskGroup() as group:
        for number in chunk_numbers(problems):
            if chunks.finished(number):
                report(chunks.tally(number), earlier=True)
                continue
            await work.room.acquire()
            if work.stopped is not None:
                break
            group.create_task(work.chunk(number, problems[number * CHUNK : (number + 1) * CHUNK]))
    if work.stopped is not None:
        raise work.stopped


def chunk_numbers(problems: Sequence[Problem]) -> range:
    return range(-(-len(problems) // CHUNK))


class _Work:
    """Lessons that are worked on side by side, until one is stopped from outside."""

    def __init__(self, studio: Studio, strategies: Sequence[Strategy], chunks: Chunks, report: Report) -> None:
        self._studio, self._strategies, self._chunks, self._report = studio, strategies, chunks, report
        self._turns = asyncio.Semaphore(studio.parallel)
        self._apart = {question_form(problem.question) for problem in studio.apart}
        self.room = asyncio.Semaphore(OPEN_CHUNKS)
        self.stopped: Exception | None = None

    async def chunk(self, number: int, problems: Sequence[Problem]) -> None:
        """Teach some lessons and store them, unless they were stopped before all were done; then make room."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._lesson(problem)) for problem in problems]
            done = [one for task in tasks if (one := task.result()) is not None]
            if len(done) == len(problems):
                self._report(self._chunks.write(number, done), earlier=False)
        finally:
            self.room.release()

    async def _lesson(self, problem: Problem) -> Taught | None:
        async with self._turns:
            if self.stopped is not None:
                return None
            started = time.monotonic()
            try:
                with booked() as costs:
                    lessons = await self._through_strategies(problem)
            except (UserError, InfrastructureError) as error:
                self.stopped = self.stopped or error
                return None
            return self._taught(problem, lessons, costs, time.monotonic() - started)

    async def _through_strategies(self, problem: Problem) -> list[Lesson]:
        lessons = [Lesson(problem=problem)]
        for strategy in self._strategies:
            lessons = [made for lesson in lessons for made in await strategy(lesson, self._studio)]
        return lessons

    def _taught(self, problem: Problem, lessons: Sequence[Lesson], costs: Costs, seconds: float) -> Taught:
        own = [one for one in lessons if one.problem.id == problem.id]
        others = [one for one in lessons if one.problem.id != problem.id]
        apart = [question_form(one.problem.question) in self._apart for one in others]
        clean = [one for one, is_apart in zip(others, apart, strict=True) if not is_apart]
        leaks = [one for one, is_apart in zip(others, apart, strict=True) if is_apart]
        taken = [t for one in (*own, *clean) for t in one.trajectories]
        refused = [t for one in lessons for t in one.refused]
        refused += [refusal(t, KEPT_APART) for one in leaks for t in one.trajectories]
        row = {
            "problem_id": problem.id,
            "family": problem.family,
            "taken": len(taken),
            "refused": len(refused),
            "made": len(clean),
            "kept_apart": len(leaks),
            **asdict(costs),
            "seconds": round(seconds, 6),
        }
        return Taught(
            taken=tuple(self._known(t, costs) for t in taken),
            refused=tuple(self._known(t, costs) for t in refused),
            made=tuple(one.problem for one in clean),
            costs=row,
        )

    def _known(self, trajectory: Trajectory, costs: Costs) -> Trajectory:
        """With all that provenance always says: nothing of it depends on the run."""
        verified = "none" if trajectory.correct is None else "environment"
        whole = {"lesson_cost": data_cost(costs)} if costs.requests else {}
        usual = {"teacher": self._studio.teacher.name, "verified": verified, "from": [], **whole}
        return replace(trajectory, provenance={**usual, **trajectory.provenance})
