"""Rules over rows, one after another, out of core: what they drop stands in a database that outlives a kill."""

import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from journeyman.curation.base import Each, Kind, Rows
from journeyman.curation.rules import VOCABULARY, build_rule
from journeyman.curation.rules.sql import column, named, parquet, quoted
from journeyman.errors import ConfigError, DataError, UserError
from journeyman.expressions import ExpressionError, check
from journeyman.progress import Observer

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY_VARIABLE, THREADS_VARIABLE = "JOURNEYMAN_CURATE_MEMORY", "JOURNEYMAN_CURATE_THREADS"
"""Environment variables: what DuckDB may hold (beyond it spills to disk), and its threads. Results don't depend on them."""
MEMORY, MOST_THREADS = "1GB", 8
"""Where they are not set; every thread takes its share of the memory."""
BATCH = 2048
"""Rows written at once."""
ROW_GROUP = 20_000
"""Rows of a written row group."""
ROW_GROUP_BYTES = 64 * 2**20
"""Or less where rows are large."""
REASONS = ("rule", "reason", "match")
TEXTS = ("id", "question", "answer", "family")
"""Columns of problems that every rule can name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The rows that are curated."""

    files: Sequence[Path]
    """Parquet files of one schema; a row's position counts through them in this order."""
    kind: Kind
    told: str = ""
    """What error messages call it; empty: its first file."""

    @property
    def place(self) -> str:
        """For error messages."""
        return self.told or str(self.files[0])

    @classmethod
    def of(cls, path: Path, *, told: str = "") -> "Source":
        """Of a Parquet file, or a folder of them. Raises `DataError` for what is no problem and no trajectory."""
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise DataError("no Parquet file in the folder", place=str(path), remedy="give a file, or another folder")
        schema = _schema(files)
        kind, place = kind_of(schema.names, told or str(files[0])), told or str(files[0])
        if not _is_text(asked := schema.field("question").type):
            raise DataError(f"'question' holds {asked}, not texts", place=place, remedy="make the column texts")
        return cls(files=files, kind=kind, told=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How many rows each rule dropped."""

    rows_in: int
    rows_kept: int
    rows_dropped: int
    tokens: int
    """Token ids in the kept rows; 0 for rows that were written and not sampled, and for problems."""
    rules: tuple["Drops", ...]
    """In the order applied."""
    families: dict[str, dict[str, int]]
    """Family to `in`, `kept` and each rule's drops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops:
    """One rule of a funnel."""

    rule: str
    rows_in: int
    """Rows that the rules before have left."""
    dropped: int
    families: dict[str, int]
    reasons: dict[str, int]
    """Reason, without what belongs to the row alone, to rows."""


class Curation:
    """A database over a source. Use as a context manager.

    Args:
        source: the rows; its files are read where they lie, and must not change meanwhile.
        work: folder of the database and of what spills: a next try with it goes on after the last rule that was done.
        seed: of rules that draw.
    """

    def __init__(self, source: Source, work: Path, *, seed: int = 0) -> None:
        self.source, self._work, self._seed = source, work, seed
        self._ending = ExitStack()
        self.has_attempts = self.has_evaluation = False

    def __enter__(self) -> Self:
        self._work.mkdir(parents=True, exist_ok=True)
        spill = self._ending.enter_context(tempfile.TemporaryDirectory(dir=self._work, prefix=".spill-"))
        config: dict[str, Any] = {
            "memory_limit": os.environ.get(MEMORY_VARIABLE, MEMORY),
            "threads": os.environ.get(THREADS_VARIABLE) or min(MOST_THREADS, os.cpu_count() or 1),
            "temp_directory": spill,
        }
        try:
            self.database = _connect(self._work / "curation.duckdb", config)
            self._ending.enter_context(self.database)
            self._prepare()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import duckdb
        import pyarrow as pa

        self._ending.close()
        if error is not None and isinstance(error, duckdb.Error | pa.ArrowException | OSError):
            raise self._told(error) from error

    def _told(self, error: BaseException) -> UserError:
        """What a database or a file says, for people."""
        said = str(error).strip().splitlines()[0]
        if "No space left" in said or "max_temp_directory_size" in said:
            return UserError(
                "the disk is full; what was there before is as it was",
                place=str(self._work),
                remedy="free some space and give the same command again: it goes on after the last rule that was done",
            )
        if isinstance(error, OSError) and error.filename and Path(error.filename) not in self.source.files:
            return UserError(
                error.strerror or said, place=str(error.filename), remedy="give a folder that can be written"
            )
        return DataError(f"the rows can't be read: {said}", place=self.source.place, remedy="write the file again")

    def _prepare(self) -> None:
        """Views `source` (all rows) and `rows` (those that are left), tables `dropped`, `applied` and `evaluation`."""
        query = self.database.execute
        query("CREATE TABLE IF NOT EXISTS dropped (position BIGINT, rule VARCHAR, reason VARCHAR, match VARCHAR)")
        query("CREATE TABLE IF NOT EXISTS applied (number INTEGER, rule VARCHAR, sort VARCHAR)")
        query("CREATE OR REPLACE TABLE evaluation (source VARCHAR, id VARCHAR, question VARCHAR, answer VARCHAR)")
        query("CREATE OR REPLACE TABLE files (journeyman_file VARCHAR, journeyman_start BIGINT)")
        query(
            "CREATE OR REPLACE TABLE attempts"
            " (problem_id VARCHAR, tools BOOLEAN, correct BOOLEAN, score DOUBLE, confidence DOUBLE)"
        )
        start = 0
        for file in self.source.files:
            query("INSERT INTO files VALUES (?, ?)", [str(file), start])
            start += _length(file)
        names = ", ".join(named(file) for file in self.source.files)
        position = "journeyman_start + journeyman_row"
        query(f"""
            CREATE OR REPLACE VIEW source AS
            SELECT {shaped(self.source.files[0], position, "journeyman_file, journeyman_row, journeyman_start")}
            FROM (
                SELECT * EXCLUDE (filename, file_row_number), filename AS journeyman_file, file_row_number AS journeyman_row
                FROM read_parquet([{names}], filename = true, file_row_number = true)
            ) JOIN files USING (journeyman_file)
        """)
        query("CREATE OR REPLACE VIEW rows AS SELECT * FROM source ANTI JOIN dropped USING (position)")
        self.rows_in = start

    @property
    def columns(self) -> list[str]:
        return columns_of(self.source.files[0])

    def hold_against(self, name: str, questions: Source) -> None:
        """What must not be learned: problems, or attempts at them."""
        self.has_evaluation = True
        columns = columns_of(questions.files[0])
        answer = "answer" if questions.kind == "problem" else "reference"
        picked = ", ".join(f"{name if name in columns else 'NULL'}::VARCHAR" for name in ("id", "question", answer))
        for file in questions.files:
            self.database.execute(f"INSERT INTO evaluation SELECT ?, {picked} FROM {parquet(file)}", [name])

    def take_attempts(self, attempts: Path) -> None:
        """A policy's attempts at the problems: trajectories in Parquet."""
        from journeyman.curation.measure import attempts_sql

        kind_of(columns_of(attempts), str(attempts))
        self.database.execute(f"INSERT INTO attempts {attempts_sql(attempts)}")
        self.has_attempts = True

    def drop(self, rule: str, faults: Path) -> None:
        """Drop rows for faults that were found when they were read: Parquet with position, reason and match."""
        if not self._done(0, rule):
            self._note(0, rule, f"SELECT * FROM {parquet(faults)}")

    def take(self, rules: Sequence[str], judged: int, drops: Path) -> None:
        """What `journeyman.curation.blocks` found for the first `judged` of the rules that are then to be applied."""
        files = quoted(f"{glob.escape(str(drops))}/*.parquet")
        for number, label in enumerate(labels_of(rules)[:judged], start=1):
            if not self._done(number, label):
                found = f"SELECT position, reason FROM read_parquet({files}) WHERE number = {number}"
                self._note(number, label, f"{found} AND position NOT IN (SELECT position FROM dropped)")

    def apply(self, rules: Sequence[str], observer: Observer, *, done: int = 0, total: int = 0) -> None:
        """Apply the rules, expressions of the vocabulary, in order. Those that were done before a kill are not done again.

        `done` and `total`: steps of the whole work, where it is more than this; 0: it is these and the writing.
        """
        labels = labels_of(rules)
        for number, (text, label) in enumerate(zip(rules, labels, strict=True), start=1):
            observer.progress(done + number - 1, total or len(rules) + 1, f"rule {label}")
            if self._done(number, label):
                continue
            found = build_rule(text)(self._rows())
            if isinstance(found, Each):
                each = f"SELECT position, {found.reason} AS reason FROM rows"
                query = f"SELECT position, reason FROM ({each}) WHERE reason IS NOT NULL"
                self._note(number, label, query)
            else:
                self._note(number, label, found.query, order=found.order)
                for table in found.tables:
                    self.database.execute(f"DROP TABLE IF EXISTS {table}")

    def _rows(self) -> Rows:
        return Rows(
            kind=self.source.kind,
            columns=frozenset([*self.columns, *TEXTS, "position"]),
            database=self.database,
            seed=self._seed,
            has_attempts=self.has_attempts,
            has_evaluation=self.has_evaluation,
        )

    def _done(self, number: int, label: str) -> bool:
        return bool(self._fetch("SELECT 1 FROM applied WHERE number = ? AND rule = ?", [number, label]))

    def _note(self, number: int, label: str, query: str, order: str = "") -> None:
        """What a rule found, and that it is done: both or nothing."""
        execute = self.database.execute
        execute("CREATE OR REPLACE TABLE found (position BIGINT, reason VARCHAR, match VARCHAR)")
        execute(f"INSERT INTO found BY NAME {query}")
        assert not self._fetch("SELECT position FROM found GROUP BY position HAVING count(*) > 1 LIMIT 1"), label
        execute("BEGIN")
        execute("INSERT INTO dropped SELECT position, ?, reason, match FROM found", [label])
        execute("INSERT INTO applied VALUES (?, ?, ?)", [number, label, order])
        execute("COMMIT")
        execute("DROP TABLE found")

    def funnel(self) -> Funnel:
        """What the rules have dropped so far."""
        by_family = dict(self._fetch("SELECT coalesce(family, ''), count(*) FROM source GROUP BY 1 ORDER BY 1"))
        drops = self._fetch(
            r"""SELECT rule, coalesce(family, ''), regexp_replace(reason, ' \(.*\)$', '', 's') AS kind, count(*)
            FROM dropped JOIN source USING (position) GROUP BY ALL ORDER BY ALL"""
        )
        names = [rule for (rule,) in self._fetch("SELECT rule FROM applied ORDER BY number")]
        families = {family: {"in": rows, "kept": rows} | dict.fromkeys(names, 0) for family, rows in by_family.items()}
        rules, left = [], self.rows_in
        for name in names:
            mine = [(family, kind, rows) for rule, family, kind, rows in drops if rule == name]
            reasons: dict[str, int] = {}
            for family, kind, rows in mine:
                families[family][name] += rows
                families[family]["kept"] -= rows
                reasons[kind] = reasons.get(kind, 0) + rows
            dropped = sum(rows for *_, rows in mine)
            hit = {family: counts[name] for family, counts in families.items() if counts[name]}
            rules.append(Drops(rule=name, rows_in=left, dropped=dropped, families=hit, reasons=reasons))
            left -= dropped
        return Funnel(
            rows_in=self.rows_in,
            rows_kept=left,
            rows_dropped=self.rows_in - left,
            tokens=self._tokens(),
            rules=tuple(rules),
            families=families,
        )

    def _tokens(self) -> int:
        if "token_ids" not in self.columns:
            return 0
        [(tokens,)] = self._fetch("SELECT coalesce(sum(len(token_ids)), 0)::BIGINT FROM rows")
        return tokens

    def write(self, out: Path) -> None:
        """kept.parquet, in the order of the source or of the last rule that orders, and dropped.parquet with the reasons."""
        order = [sort for (sort,) in self._fetch("SELECT sort FROM applied WHERE sort <> '' ORDER BY number")]
        with _Parts(out, _schema(self.source.files)) as parts:
            for batch, reasons in self._with_reasons():
                parts.add(batch, reasons)
        if order:
            own = ", ".join(map(column, self.columns))
            query = f"SELECT {own} FROM rows ORDER BY {order[-1]}, position"
            self.database.sql(query).write_parquet(str(out / "kept.parquet"), compression="zstd")

    def _with_reasons(self) -> "Iterator[tuple[pa.RecordBatch, pa.Table]]":
        """The rows of the files in batches, and as many lines of (rule, reason, match): NULL where a row is kept."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self.database.cursor() as reading:
            found = reading.sql("SELECT position, rule, reason, match FROM dropped ORDER BY position").to_arrow_reader()
            waiting, start = found.schema.empty_table(), 0
            for file in self.source.files:
                for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH):
                    stop = start + batch.num_rows
                    while not len(waiting) or waiting["position"][-1].as_py() < stop:
                        try:
                            waiting = pa.concat_tables([waiting, pa.Table.from_batches([found.read_next_batch()])])
                        except StopIteration:
                            break
                    here = int(np.searchsorted(waiting["position"].to_numpy(), stop))
                    yield batch, _spread(waiting[:here], start, batch.num_rows)
                    waiting, start = waiting[here:], stop

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.database.execute(query, list(values)).fetchall()


class _Parts:
    """kept.parquet and dropped.parquet in the making: rows wait until there are enough for a row group."""

    def __init__(self, out: Path, schema: "pa.Schema") -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        more = [pa.field(name, pa.string()) for name in REASONS]
        schemas = {"kept": schema, "dropped": pa.schema([*schema, *more])}
        self._writers = {
            name: pq.ParquetWriter(out / f"{name}.parquet", s, compression="zstd") for name, s in schemas.items()
        }
        self._waiting: dict[str, list[pa.Table]] = {name: [] for name in schemas}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for name, writer in self._writers.items():
            self._flush(name)
            writer.close()

    def add(self, batch: "pa.RecordBatch", reasons: "pa.Table") -> None:
        """Rows, and as many lines of (rule, reason, match)."""
        import pyarrow as pa

        rows, kept = pa.Table.from_batches([batch]), reasons["rule"].is_null()
        dropped = pa.table([*rows.columns, *reasons.columns], names=[*rows.column_names, *reasons.column_names])
        for name, table in (("kept", rows.filter(kept)), ("dropped", dropped.filter(reasons["rule"].is_valid()))):
            self._waiting[name].append(table)
            if (
                sum(map(len, self._waiting[name])) >= ROW_GROUP
                or sum(t.nbytes for t in self._waiting[name]) >= ROW_GROUP_BYTES
            ):
                self._flush(name)

    def _flush(self, name: str) -> None:
        import pyarrow as pa

        writer, tables = self._writers[name], self._waiting[name]
        if tables and any(map(len, tables)):
            writer.write_table(pa.concat_tables(tables).cast(writer.schema))
        self._waiting[name] = []


def _spread(found: "pa.Table", start: int, count: int) -> "pa.Table":
    """Lines for `count` rows from position `start` on; NULL where none was found."""
    import numpy as np
    import pyarrow as pa

    places = np.full(count, -1)
    places[found["position"].to_numpy() - start] = np.arange(len(found))
    return found.select(REASONS).combine_chunks().take(pa.array(places, mask=places < 0))


def _connect(path: Path, config: dict[str, Any]) -> "duckdb.DuckDBPyConnection":
    import duckdb

    try:
        return duckdb.connect(str(path), config=config)
    except (duckdb.InvalidInputException, duckdb.ParserException, duckdb.SyntaxException) as error:
        raise ConfigError(
            str(error).splitlines()[0],
            place=f"{MEMORY_VARIABLE}, {THREADS_VARIABLE}",
            remedy="give a size such as 64GB, and a number of threads",
        ) from None


def kind_of(columns: Sequence[str], place: str) -> Kind:
    """What rows with these columns are. Raises `DataError`."""
    own = [name for name in (*REASONS, "position") if name in columns]
    if own:
        raise DataError(
            f"curation has a column {', '.join(map(repr, own))} of its own",
            place=place,
            remedy="rename the rows' column",
        )
    if "turns" in columns and "problem_id" in columns:
        return "trajectory"
    if "question" not in columns:
        raise DataError(
            f"neither problems nor trajectories: no column 'question'; there are {', '.join(map(repr, columns)) or 'none'}",
            place=place,
            remedy="problems have id, question and answer; trajectories are what `journeyman import` writes",
        )
    return "problem"


def shaped(file: Path, position: str, less: str) -> str:
    """SQL: the columns of a file as rules see them, but for those in `less`.

    Ids, answers and families are texts whatever they are stored as; without an id a row has its number for one.
    """
    schema = _schema([file])
    missing = {"id": f"'row ' || ({position})", "answer": "NULL::VARCHAR", "family": "''"}
    others = [name for name in missing if name in schema.names and not _is_text(schema.field(name).type)]
    casts = ", ".join(f"{name}::VARCHAR AS {name}" for name in others)
    more = "".join(f", {value} AS {name}" for name, value in missing.items() if name not in schema.names)
    return f"* EXCLUDE ({less}){f' REPLACE ({casts})' if casts else ''}, {position} AS position{more}"


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def columns_of(path: Path) -> list[str]:
    """Of a Parquet file. Raises `DataError`."""
    return _schema([path]).names


def check_rules(rules: Sequence[str], place: str) -> None:
    """Raises `ConfigError` for a rule that isn't there, or has options that it doesn't take."""
    for rule in rules:
        try:
            check(rule, VOCABULARY)
        except ExpressionError as error:
            raise ConfigError(error.fault, place=f"{place}: {rule}", remedy=error.remedy) from None


def labels_of(rules: Sequence[str]) -> list[str]:
    """What each rule is called in tables and dropped rows: its name, or all of it where the name stands twice."""
    names = [rule.partition("(")[0].strip() for rule in rules]
    return [name if names.count(name) == 1 else rule.strip() for name, rule in zip(names, rules, strict=True)]


def _schema(files: Sequence[Path]) -> "pa.Schema":
    """The one that all files have. Raises `DataError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: pa.Schema | None = None
    for file in files:
        try:
            schema = pq.read_schema(file).remove_metadata()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"not a Parquet file: {str(error).strip().splitlines()[0]}",
                place=str(file),
                remedy="write the file again",
            ) from None
        if first is not None and schema != first:
            raise DataError(
                f"other columns than {files[0].name} has", place=str(file), remedy="make the files one schema"
            )
        first = schema
    assert first is not None, "a source has files"
    return first


def _length(file: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(file).num_rows
