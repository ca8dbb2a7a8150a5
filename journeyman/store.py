"""All artifacts of a home folder as tables, asked in SQL: read-only, and nothing outside of the store can be read."""

import glob
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.artifacts import MARKER, Artifact, ArtifactStore
from journeyman.errors import DataError, UserError, nearest
from journeyman.runs import RunRecord, RunStore

if TYPE_CHECKING:
    import duckdb

MEMORY = "2GB"
"""What a query may hold; beyond it spills to disk."""
WHERE = ("stage", "artifact", "run", "file")
"""Columns that every row gets: the stage and the key of its artifact, the run that made that, the file without ending.

Of problems the file is called `split`.
"""
_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A Parquet file of an artifact."""

    path: Path
    artifact: Artifact
    columns: Mapping[str, str]
    rows: int

    @property
    def view(self) -> str:
        """`problems`; `rollouts` and `evaluations`: the trajectories of rl and evaluate; else the name of the file."""
        stage, name = self.artifact.stage, self.path.stem
        if self.path.parent.name == "problems":
            return "dropped_problems" if name == "dropped" else "problems"
        if name == "trajectories":
            return "evaluations" if stage == "evaluate" else "rollouts"
        return _WORD.sub("_", name.lower()).strip("_") or "rows"

    @property
    def is_of_trajectories(self) -> bool:
        return {"problem_id", "turns", "stop_reason"} <= self.columns.keys() and "rule" not in self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One table that can be asked."""

    name: str
    rows: int
    columns: tuple[tuple[str, str], ...]
    """(name, SQL type)."""


class Store:
    """A connection to the artifacts; `opened` makes it."""

    def __init__(self, database: "duckdb.DuckDBPyConnection", rows: Mapping[str, int]) -> None:
        self._database, self._rows = database, rows

    def views(self) -> list[View]:
        return [View(name=name, rows=rows, columns=self._columns(name)) for name, rows in self._rows.items()]

    def ask(self, query: str) -> "duckdb.DuckDBPyRelation":
        """One SELECT. Raises `UserError`, with the nearest view or column, for what can't be asked."""
        import duckdb

        try:
            statements = self._database.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UserError("not one SELECT", place="query", remedy="the store is read-only: ask one SELECT")
            return self._database.sql(query)
        except duckdb.Error as error:
            raise self.told(error) from None

    def told(self, error: "duckdb.Error") -> UserError:
        """An error of the database for the user. Also for what is raised while rows are fetched."""
        message = str(error).strip()
        remedy = "`journeyman sql` alone lists the views and their columns"
        if found := re.search(r"Table with name (\S+) does not exist", message):
            message, remedy = f"there is no view `{found[1]}`", nearest(found[1], list(self._rows))
        elif found := re.search(r'column "([^"]+)" not found', message):
            message, remedy = f"there is no column `{found[1]}` in what is asked", self._column_like(found[1])
        return UserError(message.split("\n\nLINE")[0], place="query", remedy=remedy)

    def _column_like(self, word: str) -> str:
        places: dict[str, list[str]] = {}
        for view in self._rows:
            for name, _ in self._columns(view):
                places.setdefault(name, []).append(view)
        remedy = nearest(word, list(places))
        if not remedy.startswith("did you mean"):
            return "`journeyman sql` alone lists the views and their columns"
        return f"{remedy} It is in {', '.join(places[remedy.split('`')[1]])}"

    def _columns(self, view: str) -> tuple[tuple[str, str], ...]:
        return tuple((name, kind) for name, kind, *_ in self._database.execute(f'DESCRIBE "{view}"').fetchall())


@contextmanager
def opened(home: Path, *, run: str = "") -> Iterator[Store]:
    """The store of a home folder; `run`: the artifacts of one run alone (an id, a pipeline's name, `latest`).

    Only committed artifacts are read; their bytes are not checked. Raises `DataError` where there is none.
    """
    import duckdb

    records = [RunStore(home).find(run)] if run else RunStore(home).all()
    parts = [part for artifact in committed(home, records if run else None) for part in parts_of(artifact)]
    if not parts:
        remedy = "let one run first: journeyman run quickstart"
        raise DataError("there is no artifact with rows", place=str(home / "artifacts"), remedy=remedy)
    with tempfile.TemporaryDirectory(prefix="journeyman-sql-") as spill:
        limits: Any = {"memory_limit": MEMORY, "temp_directory": spill, "python_enable_replacements": "false"}
        with duckdb.connect(":memory:", config=limits) as database:
            try:
                yield Store(database, _fill(database, parts, records))
            except duckdb.Error as error:
                message = str(error).strip().splitlines()[0]
                remedy = "a damaged artifact is made again by a run: journeyman run"
                raise DataError(f"can't be read: {message}", place=str(home), remedy=remedy) from error


def committed(home: Path, records: Sequence[RunRecord] | None = None) -> list[Artifact]:
    """The artifacts that are whole by their marker; those of some runs alone where these are given."""
    store = ArtifactStore(home)
    keys = None if records is None else {stage.key for record in records for stage in record.stages.values()}
    folders = sorted(marker.parent for marker in (home / "artifacts").glob(f"[!.]*/[!.]*/{MARKER}"))
    found = [store.peek(folder.parent.name, folder.name) for folder in folders if keys is None or folder.name in keys]
    return [artifact for artifact in found if artifact]


def parts_of(artifact: Artifact) -> list[Part]:
    return [
        Part(path=artifact.path / name, artifact=artifact, columns=file.columns, rows=file.rows or 0)
        for name, file in artifact.manifest.files.items()
        if file.columns
    ]


def _fill(database: "duckdb.DuckDBPyConnection", parts: Sequence[Part], records: Sequence[RunRecord]) -> dict[str, int]:
    """Make the views, then shut the door behind them; returns how many rows each has."""
    groups: dict[str, list[Part]] = {"trajectories": [part for part in parts if part.is_of_trajectories]}
    for part in parts:
        groups.setdefault(part.view, []).append(part)
    rows = {name: sum(part.rows for part in group) for name, group in groups.items() if group}
    paths = [str(part.path) for part in parts]
    files = _list([*paths, *map(glob.escape, paths)])  # a pattern is checked before the file that it finds
    database.execute(f"SET allowed_paths = {files}")
    database.execute("CREATE TABLE _files (path VARCHAR, stage VARCHAR, artifact VARCHAR, run VARCHAR, file VARCHAR)")
    database.executemany("INSERT INTO _files VALUES (?, ?, ?, ?, ?)", [_place(part) for part in parts])
    for name in rows:
        _view(database, name, groups[name])
    rows |= _tables(database, parts, records)
    for setting in ("enable_external_access = false", "lock_configuration = true"):
        database.execute(f"SET {setting}")
    return rows


def _place(part: Part) -> tuple[str, ...]:
    made_by = part.artifact.manifest.made_by.get("run", "")
    return str(part.path), part.artifact.stage, part.artifact.key, made_by, part.path.stem


def _view(database: "duckdb.DuckDBPyConnection", name: str, group: Sequence[Part]) -> None:
    files = _list([glob.escape(str(part.path)) for part in group])
    taken = {column for part in group for column in part.columns}
    names = {column: "split" if (name, column) == ("problems", "file") else column for column in WHERE}
    columns = ", ".join(f"_files.{column} AS {shown}" for column, shown in names.items() if shown not in taken)
    database.execute(f"""
        CREATE VIEW "{name}" AS SELECT {columns}, read.* EXCLUDE (filename)
        FROM read_parquet({files}, union_by_name = true, filename = true) AS read
        JOIN _files ON read.filename = _files.path
    """)


def _tables(
    database: "duckdb.DuckDBPyConnection", parts: Sequence[Part], records: Sequence[RunRecord]
) -> dict[str, int]:
    """What no Parquet file has: runs, the stages of runs, the figures of reports."""
    runs = [
        (r.id, r.pipeline, str(r.status), r.seed, r.started, r.seconds, r.from_run, json.dumps(r.config))
        for r in records
    ]
    stages = [
        (record.id, name, str(stage.status), stage.key, stage.seconds, stage.inherited)
        for record in records
        for name, stage in record.stages.items()
    ]
    reports = [
        row for artifact in {part.artifact.path: part.artifact for part in parts}.values() for row in _report(artifact)
    ]
    made = {
        "runs": (_RUNS, runs),
        "stages": (_STAGES, stages),
        "reports": (_REPORTS, reports),
    }
    for name, (columns, rows) in made.items():
        database.execute(f"CREATE TABLE {name} ({columns})")
        if rows:
            database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return {name: len(rows) for name, (_, rows) in made.items()}


_RUNS = (
    "run VARCHAR, pipeline VARCHAR, status VARCHAR, seed BIGINT, started TIMESTAMPTZ, seconds DOUBLE, "
    "from_run VARCHAR, config JSON"
)
_STAGES = "run VARCHAR, stage VARCHAR, status VARCHAR, artifact VARCHAR, seconds DOUBLE, inherited BOOLEAN"
_FIGURES = (
    *("accuracy_sampled", "accuracy_greedy", "tool_calls_per_problem", "needless_calls_per_solved"),
    *("pass_at_samples", "problems", "samples", "unscored", "seconds"),
)
_REPORTS = "artifact VARCHAR, run VARCHAR, policy VARCHAR, " + ", ".join(f"{name} DOUBLE" for name in _FIGURES)


def _report(artifact: Artifact) -> Iterator[tuple[Any, ...]]:
    path = artifact.path / "report.json"
    if "report.json" not in artifact.manifest.files or not path.is_file():
        return
    for row in json.loads(path.read_text(encoding="utf-8"))["stages"]:
        made_by = artifact.manifest.made_by.get("run", "")
        yield artifact.key, made_by, row["name"], *(row.get(name) for name in _FIGURES)


def _list(texts: Sequence[str]) -> str:
    """A list of texts in SQL."""
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"
