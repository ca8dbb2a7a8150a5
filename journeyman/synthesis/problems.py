"""Problems on disk, and the rows of data sets that they are made from, by `datasets`."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import DatasetProblems
from journeyman.curation.normal_form import question_form
from journeyman.errors import DataError
from journeyman.problem import Problem

if TYPE_CHECKING:
    import datasets

JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet",)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Problems that share no question across splits."""

    train: tuple[Problem, ...]
    dev: tuple[Problem, ...]
    heldout: tuple[Problem, ...]


def write_problems(problems: Iterable[Problem], path: Path) -> int:
    """Write a Parquet file of problems; free-form `data` and `world` become JSON text. Returns how many."""
    import datasets

    datasets.disable_progress_bars()
    text = datasets.Value("string")
    features = datasets.Features(
        {
            **dict.fromkeys(("id", "family", "question", "answer", "data", "world"), text),
            "tools": datasets.List(text),
            "min_calls": datasets.Value("int32"),
        }
    )
    rows = [{**p.to_json(), "data": _dump(p.data), "world": _dump(p.world)} for p in problems]
    columns = {name: [row[name] for row in rows] for name in features}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
    return len(rows)


def read_problems(path: Path) -> list[Problem]:
    """Read what `write_problems` wrote. Raises `DataError`."""
    rows = _parquet(path)
    _check_columns(rows, ("id", "family", "question", "answer", "tools", "min_calls", "data", "world"), str(path))
    free = ("data", "world")
    return [Problem.from_json({**row, **{name: json.loads(row[name]) for name in free}}) for row in rows.to_list()]


def split_problems(problems: Sequence[Problem], *, dev: int, heldout: int, seed: int) -> Splits:
    """Set `heldout` and then `dev` questions aside by a seeded hash; equal questions, in normal form, stay together.

    Which questions are set aside depends on the questions and the seed alone, not on the order of the rows.
    """
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(question_form(problem.question), []).append(problem)
    if len(groups) <= dev + heldout:
        raise DataError(
            f"{len(groups)} different questions are too few for {heldout} held-out and {dev} dev problems",
            place="problems",
            remedy="lower problems.heldout or problems.dev, or give more rows",
        )
    order = sorted(groups, key=lambda form: hashlib.sha256(f"{seed}\x1f{form}".encode()).digest())
    kept_back = {form: number for number, form in enumerate(order[: heldout + dev])}
    parts: tuple[list[Problem], list[Problem], list[Problem]] = ([], [], [])
    for form, group in groups.items():
        number = kept_back.get(form, heldout + dev)
        parts[0 if number < heldout else 1 if number < heldout + dev else 2].extend(group)
    return Splits(heldout=tuple(parts[0]), dev=tuple(parts[1]), train=tuple(parts[2]))


def load_rows(config: DatasetProblems, *, columns: Sequence[str] = ()) -> "datasets.Dataset":
    """The rows of a JSON Lines or Parquet file, a folder of them, a saved data set, or a data set of the Hub.

    Raises `DataError` for what is missing or broken: it names the file and line, or the columns of `columns` that
    aren't there, and what to do.
    """
    path = Path(config.path).expanduser()
    if path.is_dir():
        rows = _folder(path, config)
    elif path.is_file():
        rows = _file(path)
    elif _looks_like_a_file(config.path):
        raise DataError("there is no such file or folder", place=str(path.absolute()), remedy=_LOCAL)
    else:
        rows = _hub(config)
    _check_columns(rows, columns, config.path)
    if not len(rows):
        raise DataError("there are no rows", place=config.path, remedy="check problems.path and problems.split")
    return rows


_LOCAL = "give a file or folder that is there: problems.path=FILE"


def _looks_like_a_file(text: str) -> bool:
    return Path(text).suffix in JSON_LINES + PARQUET or not _HUB_NAME.fullmatch(text)


def _folder(path: Path, config: DatasetProblems) -> "datasets.Dataset":
    """A folder as `save_to_disk` left it, or its data files that belong to the split."""
    import datasets

    saved = path / config.split if (path / "dataset_dict.json").exists() else path
    if (saved / "state.json").exists():
        return datasets.Dataset.load_from_disk(str(saved))
    found = sorted(p for p in (*path.glob("*"), *path.glob("data/*")) if p.suffix in JSON_LINES + PARQUET)
    files = [p for p in found if re.match(rf"{re.escape(config.split)}(?![A-Za-z0-9])", p.name)]
    if not files:
        has = ", ".join(str(p.relative_to(path)) for p in found) or "no JSON Lines or Parquet file"
        raise DataError(
            f"no data file of split {config.split!r} in the folder; it has {has}",
            place=str(path),
            remedy="set problems.split, or give the file itself: problems.path=FILE",
        )
    return datasets.concatenate_datasets([_file(p) for p in files])


def _file(path: Path) -> "datasets.Dataset":
    if path.suffix in PARQUET:
        return _parquet(path)
    if path.suffix in JSON_LINES:
        return _json_lines(path)
    kinds = ", ".join(JSON_LINES + PARQUET)
    raise DataError(
        f"can't tell what {path.suffix or 'a file without an ending'} is", place=str(path), remedy=f"use {kinds}"
    )


def _parquet(path: Path) -> "datasets.Dataset":
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return datasets.Dataset(pq.read_table(path))
    except FileNotFoundError:
        raise DataError("there is no such file", place=str(path), remedy=_LOCAL) from None
    except (pa.ArrowException, OSError) as error:
        message = str(error).strip().splitlines()[0]
        raise DataError(f"not a Parquet file: {message}", place=str(path), remedy="write the file again") from None


def _json_lines(path: Path) -> "datasets.Dataset":
    """Every line is checked here, because the errors of `datasets` don't name it; empty lines are skipped."""
    import datasets
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    kinds: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            row = _json_line(line, path, number)
            _check_kinds(row, kinds, path, number)
            rows.append(row)
    try:
        return datasets.Dataset.from_dict({name: [row.get(name) for row in rows] for name in kinds})
    except (pa.ArrowException, OverflowError) as error:
        message = str(error).strip().splitlines()[0]
        raise DataError(f"no table: {message}", place=str(path), remedy="make each column one type") from None


def _json_line(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} at column {error.colno}"
    except (UnicodeDecodeError, RecursionError) as error:
        problem = f"not JSON: {error}"
    else:
        if isinstance(row, dict):
            return row
        problem = f'a {_kind(row)}, where each line must be an object like {{"question": ...}}'
    raise DataError(problem, place=f"{path}:{number}", remedy="mend or remove the line")


def _check_kinds(row: Mapping[str, Any], kinds: dict[str, tuple[str, int]], path: Path, number: int) -> None:
    """A column has one type all through: the first line that has a value decides."""
    for name, value in row.items():
        kind = _kind(value)
        first, line = kinds.setdefault(name, (kind, number))
        if first == "null":
            kinds[name] = (kind, number)
        elif kind not in (first, "null"):
            raise DataError(
                f"{name!r} is a {kind} here and a {first} in line {line}",
                place=f"{path}:{number}",
                remedy="make the column one type",
            )


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return names.get(type(value), "null")


def _hub(config: DatasetProblems) -> "datasets.Dataset":
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    datasets.disable_progress_bars()
    place = f"data set {config.path}"
    try:
        return datasets.load_dataset(config.path, config.name, split=config.split)  # type: ignore[return-value]
    except DatasetNotFoundError as error:
        problem, remedy = f"neither a file or folder here nor on the Hub: {error}", _LOCAL
    except OSError as error:
        problem, remedy = f"the Hub can't be reached: {error}", f"try again when it can, or {_LOCAL}"
    except (ValueError, RuntimeError, DatasetsError) as error:
        problem, remedy = str(error), "check problems.name and problems.split"
    raise DataError(problem.strip().splitlines()[0], place=place, remedy=remedy)


def _check_columns(rows: "datasets.Dataset", columns: Sequence[str], place: str) -> None:
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise DataError(
            f"no column {', '.join(map(repr, missing))}; there are {', '.join(map(repr, rows.column_names)) or 'none'}",
            place=place,
            remedy="rename the columns, or set problems.format to the format that the rows have",
        )


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
