"""Rows of a user's file as Parquet: JSON Lines line by line in bounded memory, each broken line with its reason."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from journeyman.curation.engine import TEXTS, Source, kind_of
from journeyman.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST = 64 * 2**20
"""Bytes of the longest line that is read; a longer one is reported."""
EXCERPT = 2000
"""Characters of a broken line that are kept with its reason."""
BATCH = 10_000
"""Lines of a row group."""
JSON_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A file as rows."""

    source: Source
    faults: Path | None = None
    """Parquet with `position`, `reason`, `match` of the lines that could not be read; they are rows without values."""


def read_rows(path: Path, work: Path) -> Read:
    """A Parquet file or a folder of them as it lies; JSON Lines converted into `work`, unless that was done before.

    Problems have a question, and an id and an answer where there are any; a number there is taken as its text.
    Trajectories have the columns of stored ones, as far as they differ from the defaults, or OpenAI's `messages`.
    Raises `DataError` for what is no such file.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", place=str(path), remedy="give one that is there")
    if path.is_dir() or path.suffix == ".parquet":
        return Read(source=Source.of(path))
    if path.suffix not in JSON_LINES:
        raise DataError(f"can't tell what a {path.suffix or 'nameless'} file is", place=str(path), remedy=_KINDS)
    work.mkdir(parents=True, exist_ok=True)
    made, faults = work / "input.parquet", work / "faults.parquet"
    if not faults.exists():
        _convert(path, made, faults)
    return Read(source=Source.of(made, told=str(path)), faults=faults)


_KINDS = f"give JSON Lines ({', '.join(JSON_LINES)}) or Parquet (.parquet)"


def _convert(path: Path, made: Path, faults: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = _first_object(path)
    if "messages" in first:
        return _convert_messages(path, made, faults)
    kind = kind_of(list(first) + (["problem_id"] if "turns" in first else []), str(path))
    reader = _Problems(path) if kind == "problem" else _Trajectories()
    found = pa.schema([("position", pa.int64()), ("reason", pa.string()), ("match", pa.string())])
    part, position = faults.with_suffix(".part"), 0
    with pq.ParquetWriter(made, reader.schema) as rows, pq.ParquetWriter(part, found) as broken:
        for batch in _batches(path):
            table, why = _table([reader.read(line) for _, line in batch], reader.schema)
            rows.write_table(table)
            reasons = [
                {"position": position + i, "reason": f"{fault} (line {batch[i][0]})", "match": _excerpt(batch[i][1])}
                for i, fault in why.items()
            ]
            broken.write_table(pa.Table.from_pylist(reasons, schema=found))
            position += len(batch)
    part.replace(faults)


def _table(read: Sequence[tuple[Mapping[str, Any], str]], schema: "pa.Schema") -> "tuple[pa.Table, dict[int, str]]":
    """(a row for each line, those that are broken without values; number of a broken one to what is wrong)."""
    import pyarrow as pa

    values, why = [value for value, _ in read], {i: fault for i, (_, fault) in enumerate(read) if fault}
    try:
        return pa.Table.from_pylist(values, schema=schema), why
    except (ValueError, TypeError, pa.ArrowException):  # one of them has what no column holds: which?
        for i, value in enumerate(values):
            try:
                pa.Table.from_pylist([value], schema=schema)
            except (ValueError, TypeError, pa.ArrowException) as error:
                values[i], why[i] = {}, f"can't be stored: {str(error).splitlines()[0][:200]}"
        return pa.Table.from_pylist(values, schema=schema), dict(sorted(why.items()))


def _excerpt(line: bytes) -> str:
    return line[:EXCERPT].decode(errors="replace").strip()


def _convert_messages(path: Path, made: Path, faults: Path) -> None:
    """OpenAI's conversations, by the reader of `journeyman import`; rows that it keeps apart are faults."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from journeyman.formats import import_path
    from journeyman.trajectory import schema, to_row

    imported = import_path("openai", path)
    empty = dict.fromkeys(schema().names)
    rows = [*map(to_row, imported.trajectories), *(empty for _ in imported.apart)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema()), made)
    kept = len(imported.trajectories)
    broken = [
        {
            "position": kept + number,
            "reason": apart.reason,
            "match": json.dumps(dict(apart.to_json()), default=str)[:EXCERPT],
        }
        for number, apart in enumerate(imported.apart)
    ]
    found = pa.schema([("position", pa.int64()), ("reason", pa.string()), ("match", pa.string())])
    pq.write_table(pa.Table.from_pylist(broken, schema=found), faults)


class _Problems:
    """Reads lines of problems. Columns besides the known ones keep their type where all lines agree, else become JSON."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        kinds: dict[str, set[type]] = {}
        for _, line in _lines(path):
            row, _ = _object(line)
            for name, value in (row or {}).items():
                large = type(value) is int and abs(value) >= 2**63
                kinds.setdefault(name, set()).add(dict if large else type(value))
        types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
        self._types: dict[str, type | None] = {}
        for name, seen in kinds.items():
            seen -= {type(None)}
            plain = float if seen == {int, float} else next(iter(seen)) if len(seen) == 1 else None
            self._types[name] = str if name in TEXTS else plain if plain in types else None
        self.schema = pa.schema([(name, types.get(kind or str, pa.string())) for name, kind in self._types.items()])

    def read(self, line: bytes) -> tuple[Mapping[str, Any], str]:
        """(values, what is wrong); a broken line has no values."""
        row, fault = _object(line)
        if row is None:
            return {}, fault
        for name in ("id", "question", "answer"):
            value = row.get(name)
            needed = name == "question" or (name == "id" and name in self._types)
            if isinstance(value, list | dict | bool) or (value is None and needed):
                return {}, f"{'no ' + name if value is None else name + ' is no text'}"
        return {name: self._value(name, value) for name, value in row.items()}, ""

    def _value(self, name: str, value: Any) -> Any:
        kind = self._types[name]
        if value is None or (
            kind is not None and isinstance(value, kind) and not (kind is int and abs(value) >= 2**63)
        ):
            return value
        return str(value) if name in TEXTS else float(value) if kind is float else json.dumps(value, ensure_ascii=False)


class _Trajectories:
    """Reads lines of trajectories, filled up with what is left out."""

    def __init__(self) -> None:
        from journeyman.trajectory import schema

        self.schema = schema()

    def read(self, line: bytes) -> tuple[Mapping[str, Any], str]:
        from journeyman.trajectory import from_row, to_row

        row, fault = _object(line)
        if row is None:
            return {}, fault
        try:
            return to_row(from_row(_filled(row))), ""
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return {}, f"no trajectory: {type(error).__name__}: {str(error).splitlines()[0][:200]}"


_CALL = {"name": "", "arguments": "{}"}
_RESULT = {"name": "", "ok": True, "output": "", "seconds": 0.0, "cost": 0.0, "images": [], "fault": None}
_TURN: dict[str, Any] = {
    **{"text": "", "calls": [], "results": [], "reply": "", "reward": 0.0, "restart": "[]", "policy": ""},
    **{"start": 0, "stop": 0, "error": ""},
}
_ROW: dict[str, Any] = {
    **{"id": None, "problem_id": "", "family": "", "question": None, "reference": "", "tools": [], "min_calls": 0},
    **{
        "turns": None,
        "stop_reason": "answer",
        "answer": None,
        "source": "",
        "seed": 0,
        "sample": 0,
        "temperature": 1.0,
    },
    **{"policy_version": 0, "token_ids": [], "cuts": [], "loss_mask": [], "logprobs": [], "policy_versions": []},
    **{"opening": "[]", "specs": "[]", "correct": None, "score": None, "score_parts": "{}", "reward": None},
    **{"reward_parts": "{}", "turn_rewards": [], "turn_parts": "{}", "reward_spans": "[]", "reward_channels": "{}"},
    "provenance": "{}",
}


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is stored, from one that leaves out what is empty and has values where JSON text is stored."""
    made = {name: _stored(row.get(name, default), default) for name, default in _ROW.items()}
    made["turns"] = [
        {
            **{name: _stored(turn.get(name, default), default) for name, default in _TURN.items()},
            "calls": [{k: _stored(call.get(k, v), v) for k, v in _CALL.items()} for call in turn.get("calls", ())],
            "results": [{k: result.get(k, v) for k, v in _RESULT.items()} for result in turn.get("results", ())],
        }
        for turn in row["turns"]
    ]
    for name in ("id", "question"):
        if not isinstance(made[name], str):
            raise ValueError(f"{name} is no text")
    return made


def _stored(value: Any, default: Any) -> Any:
    """JSON text where that is what the column holds."""
    as_text = isinstance(default, str) and default in ("{}", "[]") and not isinstance(value, str)
    return json.dumps(value, ensure_ascii=False) if as_text else value


def _first_object(path: Path) -> Mapping[str, Any]:
    """The first line that can be read, which says what the others are. Raises `DataError`."""
    fault = ""
    for number, line in _lines(path):
        row, why = _object(line)
        if row is not None:
            return row
        fault = fault or f"{why} (line {number})"
    if fault:
        raise DataError(f"no line can be read: the first is {fault}", place=str(path), remedy=_KINDS)
    raise DataError("there are no rows", place=str(path), remedy="give a file that has some")


def _object(line: bytes) -> tuple[Mapping[str, Any] | None, str]:
    """(the object, what is wrong)."""
    if len(line) > LONGEST:
        return None, f"longer than {LONGEST} bytes"
    try:
        value = json.loads(line.decode())
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at column {error.colno}"
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (RecursionError, ValueError) as error:
        return None, f"not JSON: {error}"
    return (value, "") if isinstance(value, dict) else (None, "not an object")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line), without those that are empty; of one that is too long only its beginning, so much that it shows."""
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                _skip(file)
            if line.strip():
                yield number, line


def _batches(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """The lines of a file, so many at once as make a row group and fit into memory."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for number, line in _lines(path):
        batch.append((number, line))
        size += len(line)
        if len(batch) == BATCH or size > LONGEST:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _skip(file: BinaryIO) -> None:
    """Go to the next line."""
    while (rest := file.readline(LONGEST)) and not rest.endswith(b"\n"):
        pass
