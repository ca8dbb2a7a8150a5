"""Catalogues and histories from files: JSON Lines, or a SQLite database."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

from journeyman.errors import DataError

_REMEDY = "give JSON Lines, or a SQLite file with tables items(id, ...) and interactions(user, item), in order of time"


def read_catalogue(path: Path) -> list[dict[str, str]]:
    """Rows of items: of JSON Lines with `id`, `title` and attributes, or of the table `items`. Raises `DataError`."""
    if path.suffix == ".jsonl":
        return [{name: str(value) for name, value in row.items()} for row in _json_lines(path)]
    names, rows = _select(path, "select * from items")
    return [{name: str(value) for name, value in zip(names, row, strict=True)} for row in rows]


def read_histories(path: Path) -> list[list[str]]:
    """Item ids of each user, the oldest first: of JSON Lines with `items`, or of the table `interactions`."""
    if path.suffix == ".jsonl":
        return [[str(item) for item in row["items"]] for row in _json_lines(path)]
    _, rows = _select(path, "select user, item from interactions order by user, rowid")
    return [[str(item) for _, item in of_user] for _, of_user in groupby(rows, key=lambda row: row[0])]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read: {error}", place=str(path), remedy=_REMEDY) from None


def _select(path: Path, query: str) -> tuple[list[str], Sequence[tuple[Any, ...]]]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            cursor = database.execute(query)
            return [column[0] for column in cursor.description], cursor.fetchall()
    except sqlite3.Error as error:
        raise DataError(f"can't be read: {error}", place=str(path), remedy=_REMEDY) from None
