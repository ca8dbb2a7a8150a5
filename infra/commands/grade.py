"""`journeyman grade`: a file of items in, a verdict a line out."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from journeyman.errors import DataError

app = typer.Typer(help="Grade a JSON Lines file: a verdict a line, then the summary, all JSON.", no_args_is_help=True)

Items = Annotated[Path, typer.Argument(help="JSON Lines, an item a line.", metavar="FILE", show_default=False)]


@app.command()
def calls(file: Items) -> None:
    """Function calls: lines of {"id", "tools", "predicted": [{"name", "arguments"}], "accepted": [...]}.

    An accepted call has a list of accepted values for each parameter; "" among them: it may be left out.
    """
    _grade("calls", file)


@app.command()
def answers(file: Items) -> None:
    """Final answers: lines of {"id", "prediction", "reference"}."""
    _grade("answers", file)


def _grade(name: str, file: Path) -> None:
    from journeyman.graders import GRADERS, GradeError

    items = list(read_items(file))  # a broken line is found before anything is printed
    grades = []
    for number, item in items:
        try:
            grades.append(GRADERS[name](item))
        except GradeError as error:
            raise DataError(str(error), place=f"{file}:{number}", remedy="mend or remove the line") from None
    for grade in grades:
        print(json.dumps({"id": grade.id, "correct": grade.correct, "reason": grade.reason}))
    correct = sum(grade.correct for grade in grades)
    summary = {"items": len(grades), "correct": correct, "accuracy": correct / len(grades) if grades else None}
    print(json.dumps({"summary": summary}))


def read_items(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, object) of a JSON Lines file; empty lines are skipped. Raises `DataError` with the line."""
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(
            error.strerror or "can't be read", place=str(file), remedy="give a file that is there"
        ) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(line, f"{file}:{number}")


def _object(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)  # NaN too: a model may say it, and it is wrong then
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON: {error}"
    else:
        if isinstance(value, dict):
            return value
        problem = "not an object"
    raise DataError(problem, place=place, remedy="mend or remove the line")
