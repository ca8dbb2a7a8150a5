"""What a benchmark is: public rows, or a world's generator, as problems that a policy is asked."""

import inspect
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from journeyman.environments.rows import BadRow, Reading
from journeyman.errors import ConfigError, DataError, nearest
from journeyman.formats import Row
from journeyman.formats.files import rows_of
from journeyman.problem import Problem
from journeyman.seeds import derive


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a benchmark asks."""

    problems: tuple[Problem, ...]
    """Each once, in the order of the rows."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """Rows read, problems made of them, and rows kept apart by reason."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Id of a problem to the part of the benchmark it belongs to: a category, a level. Empty: its family."""


Benchmark = Callable[..., Questions]
"""A path (or None) and keyword-only options to questions. Raises `UserError`."""


def load(benchmark: Benchmark, path: Path | None, options: Mapping[str, str]) -> Questions:
    """A benchmark's questions; options come as text. Raises `ConfigError` for options that it doesn't take."""
    known = {name: p for name, p in inspect.signature(benchmark).parameters.items() if p.kind is p.KEYWORD_ONLY}
    hints = get_type_hints(benchmark, include_extras=True)
    values: dict[str, Any] = {}
    for name, text in options.items():
        place = f"--option {name}={text}"
        if name not in known:
            raise ConfigError(f"`{name}` is not an option", place=place, remedy=nearest(name, list(known)))
        try:
            values[name] = _value(TypeAdapter(hints[name]), text)
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
            raise ConfigError(fault, place=place, remedy=f"give {known[name]}; mappings as JSON") from None
    return _each_once(benchmark(path, **values))


def _value(adapter: TypeAdapter[Any], text: str) -> Any:
    """A text as it stands, or as the JSON that it is. Raises `ValidationError`."""
    try:
        return adapter.validate_python(text)
    except ValidationError as error:
        try:
            return adapter.validate_json(text)
        except ValidationError:
            raise error from None


def _each_once(questions: Questions) -> Questions:
    problems = tuple({problem.id: problem for problem in questions.problems}.values())
    repeated = len(questions.problems) - len(problems)
    counts = {**questions.counts, **({"repeated": repeated} if repeated else {})}
    return Questions(problems=problems, counts=counts, parts=questions.parts)


def drawn(problems: Sequence[Problem], limit: int | None, *, seed: int) -> tuple[Problem, ...]:
    """A seeded sample of so many, in their order; all of them where there are no more."""
    if limit is None or limit >= len(problems):
        return tuple(problems)
    places = random.Random(derive(seed, "benchmark")).sample(range(len(problems)), limit)
    return tuple(problems[place] for place in sorted(places))


def required(path: Path | None, what: str) -> Path:
    """The path, where one was given. Raises `DataError`."""
    if path is None:
        raise DataError("this benchmark reads a file", place="--path", remedy=f"give {what}")
    return path


def read_rows(path: Path, read: Callable[[Iterable[Mapping[str, Any]]], Reading]) -> Questions:
    """Problems of all rows of a file or folder. Raises `DataError` where not one of them can be used."""
    problems: list[Problem] = []
    apart: list[tuple[Row, str, str]] = []
    for row in rows_of(path):
        try:
            problems += _read_row(row, read)
        except BadRow as bad:
            apart.append((row, bad.reason, bad.detail))
    if not problems:
        if not apart:
            raise DataError("there are no rows", place=str(path), remedy="give a file with some")
        row, reason, detail = apart[0]
        message = f"{reason}: {detail}" if detail else reason
        raise DataError(message, place=f"{row.file}:{row.line}", remedy="mend the rows: not one of them can be used")
    return Questions(problems=tuple(problems), counts=_counts(len(problems), [reason for _, reason, _ in apart]))


def _read_row(row: Row, read: Callable[[Iterable[Mapping[str, Any]]], Reading]) -> tuple[Problem, ...]:
    if row.error:
        raise BadRow("not JSON", row.error.removeprefix("not JSON: "))
    if not isinstance(row.value, dict):
        raise BadRow("not an object")
    reading = read([row.value])
    for apart in reading.apart:
        raise BadRow(apart.reason, apart.detail)
    return reading.problems


def _counts(problems: int, reasons: Sequence[str]) -> dict[str, Any]:
    found = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    counts = {"rows": problems + len(reasons), "problems": problems, "apart": len(reasons)}
    return counts | ({"reasons": found} if found else {})
