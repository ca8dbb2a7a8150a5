"""Formats that problems and trajectories come in. To add one: a module here, a test, a line in `FORMATS`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from journeyman.formats.api_bank import open_api_bank
from journeyman.formats.base import Apart, BadRow, Format, Imported, Made, Reader, Row
from journeyman.formats.bfcl import open_bfcl
from journeyman.formats.openai import open_openai, write_openai
from journeyman.formats.plans import open_plans
from journeyman.formats.rlla import open_rlla
from journeyman.formats.seal_tools import open_seal_tools
from journeyman.formats.sharegpt import open_sharegpt
from journeyman.formats.tasks import open_gsm8k, open_tau2

_ALL = (
    Format(name="api-bank", about="API-Bank level 1: the next call in a dialogue", open=open_api_bank),
    Format(name="bfcl", about="BFCL questions with possible_answer/ beside them", open=open_bfcl),
    Format(name="glaive", about="the same as sharegpt", open=open_sharegpt),
    Format(name="gsm8k", about="grade-school word problems", open=open_gsm8k),
    Format(name="openai", about="chat messages with tool_calls", open=open_openai),
    Format(name="plan-rewardbench", about="a chosen and a rejected trajectory a row", open=open_plans),
    Format(name="rlla", about="ToolRL's prompts with a gold turn", open=open_rlla),
    Format(name="seal-tools", about="queries with calls, tool.jsonl beside them", open=open_seal_tools),
    Format(name="sharegpt", about="conversations with human, gpt, function_call, observation", open=open_sharegpt),
    Format(name="tau2", about="tasks of a service desk's domain folder", open=open_tau2),
)
FORMATS: dict[str, Format] = {one.name: one for one in _ALL}
_NOT_STORED = "a value that can't be stored"


def import_path(name: str, path: Path) -> Imported:
    """Read all rows of a file or folder. Raises `KeyError` for an unknown format, `DataError` for a wrong path."""
    rows, read = FORMATS[name].open(path)
    made: list[Made] = []
    apart: list[Apart] = []
    for row in rows:
        try:
            made.append(read_row(row, read))
        except BadRow as bad:
            apart.append(Apart(row=row, reason=bad.reason, detail=bad.detail))
    return Imported(
        rows=len(made) + len(apart),
        problems=tuple(problem for one in made for problem in one.problems),
        trajectories=tuple(trajectory for one in made for trajectory in one.trajectories),
        apart=tuple(apart),
    )


def read_row(row: Row, read: Reader) -> Made:
    """What a row gives. Raises `BadRow`, also for what can be read but not stored."""
    if row.error:
        raise BadRow("not JSON", row.error)
    try:
        made = read(row)
    except UnicodeEncodeError as error:
        raise BadRow(_NOT_STORED, str(error)[:100]) from None
    values: list[Any] = [problem.to_json() for problem in made.problems]
    values += [write_openai(trajectory, trajectory.specs) for trajectory in made.trajectories]
    try:  # half of a surrogate pair, NaN, infinity
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRow(_NOT_STORED, str(error)[:100]) from None
    return made


def counts(imported: Imported) -> dict[str, Any]:
    """Rows read, what was made of them, and rows kept apart, in all and by reason."""
    reasons = Counter(apart.reason for apart in imported.apart)
    return {
        "rows": imported.rows,
        "problems": len(imported.problems),
        "trajectories": len(imported.trajectories),
        "apart": len(imported.apart),
        "reasons": dict(sorted(reasons.items())),
    }


__all__ = ["FORMATS", "Format", "Imported", "Row", "counts", "import_path", "read_row", "write_openai"]
