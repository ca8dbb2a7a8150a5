"""`journeyman sql`: a question to everything that runs have made."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journeyman.errors import UserError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from journeyman.store import Store

SHOWN = 40
"""Rows of a table on the terminal."""
WIDEST = 60
"""Characters of a cell there."""
AT_ONCE = 10_000
"""Rows in memory."""


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT (DuckDB). [none: the views and their columns]")] = "",
    run: Annotated[
        str, typer.Option(help="The artifacts of one run: its id, a pipeline's name (its latest run), or latest.")
    ] = "",
    rows: Annotated[int | None, typer.Option(help=f"Most rows. [{SHOWN} on a terminal, else all]", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV; nested values as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a Parquet file.", metavar="FILE.parquet")] = None,
) -> None:
    """Ask all trajectories, problems, runs and reports in SQL. Nothing can be changed.

    journeyman sql "select stage, avg(correct::int) from trajectories group by stage"
    """
    from journeyman.artifacts import home
    from journeyman.store import opened

    if as_json + as_csv + (out is not None) > 1:
        raise UserError("several kinds of output", place="sql", remedy="choose one of --json, --csv and --out")
    with opened(home(), run=run) as store:
        if not query.strip():
            _print_views(store, as_json)
            return
        answer = _Answer(store, store.ask(query), rows)
        if out is not None:
            print(f"{answer.write(out)} rows written to {out}")
        elif as_json:
            answer.print_json()
        elif as_csv:
            answer.print_csv()
        else:
            answer.print_table()


class _Answer:
    """What a query yields, row by row."""

    def __init__(self, store: "Store", relation: "duckdb.DuckDBPyRelation", most: int | None) -> None:
        self._store, self._columns = store, relation.columns
        self._relation, self._most = relation, most

    @contextmanager
    def _batches(self, most: int | None) -> "Iterator[pa.RecordBatchReader]":
        import duckdb

        try:
            asked = self._relation if most is None else self._relation.limit(most)
            with asked.to_arrow_reader(AT_ONCE) as reader:
                yield reader
        except duckdb.Error as error:
            raise self._store.told(error) from None

    def _rows(self, most: int | None) -> Iterator[tuple[Any, ...]]:
        with self._batches(most) as batches:
            for batch in batches:
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _objects(self) -> Iterator[Mapping[str, Any]]:
        return (dict(zip(self._columns, row, strict=True)) for row in self._rows(self._most))

    def print_json(self) -> None:
        """A list, an object a line."""
        separator = "["
        for found in self._objects():
            print(f"{separator}\n {_json(found)}", end="")
            separator = ","
        print("\n]" if separator == "," else "[]")

    def print_csv(self) -> None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(self._columns)
        for row in self._rows(self._most):
            writer.writerow([_json(value) if isinstance(value, list | dict) else value for value in row])

    def print_table(self) -> None:
        from rich.table import Table

        from infra.tables import console

        most = self._most or SHOWN
        found = list(self._rows(most + 1))
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in self._columns:
            table.add_column(column, overflow="fold")
        for row in found[:most]:
            table.add_row(*map(_cell, row))
        console().print(table)
        if len(found) > most:
            print(f"the first {most} rows; more by --rows, all by --json, --csv or --out")

    def write(self, path: Path) -> int:
        """As Parquet, written batch by batch here: the database itself may not write. Returns how many rows."""
        import pyarrow.parquet as pq

        if path.suffix != ".parquet":
            raise UserError("not the name of a Parquet file", place=str(path), remedy="let it end with .parquet")
        part, written = path.with_suffix(".part"), 0
        try:
            with self._batches(self._most) as batches, pq.ParquetWriter(part, batches.schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    written += batch.num_rows
            part.replace(path)
        except OSError as error:
            remedy = "give a folder that is there and can be written"
            raise UserError(error.strerror or str(error), place=str(path), remedy=remedy) from None
        finally:
            part.unlink(missing_ok=True)
        return written


def _print_views(store: "Store", as_json: bool) -> None:
    views = store.views()
    if as_json:
        listed = [{"view": view.name, "rows": view.rows, "columns": dict(view.columns)} for view in views]
        print(json.dumps(listed, indent=1))
        return
    from rich.table import Table

    from infra.tables import console

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("view", "rows", "columns"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for view in views:
        table.add_row(view.name, f"{view.rows:,}", ", ".join(name for name, _ in view.columns))
    console().print(table)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no word for; DuckDB's sums of whole numbers are decimals."""
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _cell(value: Any) -> str:
    """Printable, on one line, and not too wide."""
    if value is None:
        return "-"
    text = (
        _json(value) if isinstance(value, list | dict) else f"{value:.6g}" if isinstance(value, float) else str(value)
    )
    shown = "".join(c if c.isprintable() else " " for c in text[: WIDEST + 1])
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 1]}…"
