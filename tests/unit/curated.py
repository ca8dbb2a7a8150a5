"""What the tests of curation share: rows of problems and trajectories, and a rule's verdicts on them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from journeyman.curation.engine import Curation, Source
from journeyman.progress import Silent
from journeyman.trajectory import Trajectory, write_trajectories


def questions(path: Path, texts: Sequence[str], **columns: Any) -> Path:
    """A Parquet file of problems with these questions; ids are q0, q1, ..."""
    table = {
        "id": [f"q{number}" for number in range(len(texts))],
        "question": list(texts),
        "answer": ["1"] * len(texts),
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def verdicts(
    folder: Path, rows: Sequence[str] | Sequence[Trajectory], *rules: str, against: Sequence[str] = ()
) -> dict[int, tuple[str, str]]:
    """Position to (reason, match) of the rows that the rules drop."""
    path = folder / "rows.parquet"
    if rows and isinstance(rows[0], Trajectory):
        write_trajectories(rows, path)  # pyright: ignore[reportArgumentType]
    else:
        questions(path, rows)  # pyright: ignore[reportArgumentType]
    with Curation(Source.of(path), folder / "work") as curation:
        if against:
            curation.hold_against("exam", Source.of(questions(folder / "exam.parquet", against)))
        curation.apply(rules, Silent())
        found = curation.database.execute("SELECT position, reason, match FROM dropped").fetchall()
    return {position: (reason, match) for position, reason, match in found}


def dropped_rows(out: Path) -> list[dict[str, Any]]:
    """dropped.parquet as rows."""
    return duckdb.sql(f"SELECT * FROM '{out / 'dropped.parquet'}'").to_arrow_table().to_pylist()


def kept_ids(out: Path) -> list[str]:
    return [row[0] for row in duckdb.sql(f"SELECT id FROM '{out / 'kept.parquet'}'").fetchall()]


def json_lines(path: Path, rows: Sequence[Any]) -> Path:
    """A line a row; bytes and texts as they are."""
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path
