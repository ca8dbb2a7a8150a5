"""Rows of JSON Lines, JSON arrays and Parquet, each with the line where it begins."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from journeyman.errors import DataError
from journeyman.formats.base import Row

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")


def rows_of(path: Path, *, skip: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a file, or of all data files of a folder but those named in `skip`. Raises `DataError`."""
    files = data_files(path, skip=skip)
    return (row for file in files for row in _file(file))


def data_files(path: Path, *, skip: Sequence[str] = ()) -> list[Path]:
    """The data files at a path, in order. Raises `DataError` where there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", place=str(path), remedy="give one that is there")
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file() and p.name not in skip)
    if not files:
        raise DataError(f"no file of {', '.join(SUFFIXES)}", place=str(path), remedy="give a folder with data files")
    return files


def _file(path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        return _parquet(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", place=str(path), remedy="give JSON Lines, JSON or Parquet") from None
    return _array(path, text) if text.lstrip().startswith("[") and not _is_lines(path, text) else _lines(path, text)


def _is_lines(path: Path, text: str) -> bool:
    """Whether what begins with a bracket are lines: the first one is a whole value, and it isn't all of a .json file."""
    first, _, rest = text.strip().partition("\n")
    return _loads(first)[1] == "" and (bool(rest) or path.suffix != ".json")


def _lines(path: Path, text: str) -> Iterator[Row]:
    whole, error = _loads(text)
    if not error and isinstance(whole, dict):  # one object, over as many lines as it likes
        yield Row(file=path, line=1, value=whole)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            value, error = _loads(line)
            yield Row(file=path, line=number, value=line if error else value, error=error)


def _array(path: Path, text: str) -> Iterator[Row]:
    """The elements one by one, so that what stands before a broken one is kept."""
    decoder = json.JSONDecoder()
    position, counted, line = text.index("[") + 1, 0, 1
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line, counted = line + text.count("\n", counted, position), position
        if position >= len(text) or text[position] == "]":
            break
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield Row(file=path, line=line, value=text[position:], error=f"not JSON: {error}")
            return
        yield Row(file=path, line=line, value=value)
    if text[position + 1 :].strip() or position >= len(text):
        rest = text[position + 1 :].strip()
        yield Row(file=path, line=line, value=rest, error="not JSON: the list doesn't end where the file does")


def _loads(text: str) -> tuple[Any, str]:
    """(value, why it is none)."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {str(error).splitlines()[0]}", place=str(path)) from None
    for number, value in enumerate(table.to_pylist(), start=1):
        yield Row(file=path, line=number, value=value)
