"""The Berkeley Function-Calling Leaderboard: questions, and beside them `possible_answer/` with the same file names."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from journeyman.environments.call_problems import bfcl_problem
from journeyman.errors import DataError
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of
from journeyman.formats.files import data_files, rows_of

Load = Callable[[Path], Mapping[str, Any]]
ANSWERS, DOCS = "possible_answer", "multi_turn_func_doc"
CLASSES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
    "WebSearchAPI": "web_search",
    "MemoryAPI_kv": "memory_kv",
    "MemoryAPI_vector": "memory_vector",
    "MemoryAPI_rec_sum": "memory_rec_sum",
}
"""Class of a multi-turn row to the file with the documents of its functions."""


def open_bfcl(path: Path) -> tuple[Iterator[Row], Reader]:
    """The questions of a file or folder. Raises `DataError` where there is none."""
    files = [f for f in data_files(path) if not {ANSWERS, DOCS} & set(f.relative_to(path.parent).parts[:-1])]
    if path.is_dir() and not files:
        raise DataError("no question files", place=str(path), remedy=f"give the folder that {ANSWERS}/ lies in")
    load = cache(_load)
    return (row for file in files for row in rows_of(file)), lambda row: _read(row, load)


def _read(row: Row, load: Load) -> Made:
    """A problem of a question with its ground truth. Raises `BadRow`."""
    value = object_of(row)
    if not isinstance(value.get("id"), str):
        raise BadRow("no id")
    merged = dict(value)
    answers = load(row.file.parent / ANSWERS / row.file.name)
    if "ground_truth" not in merged and value["id"] in answers:
        merged["ground_truth"] = answers[value["id"]].get("ground_truth")
    if "involved_classes" in value and "function" not in value:
        merged["function"] = _documents(row.file.parent / DOCS, value, load)
    return Made(problems=(bfcl_problem(merged, source=row.source),))


def _documents(folder: Path, value: Mapping[str, Any], load: Load) -> list[Any]:
    classes, excluded = value["involved_classes"], value.get("excluded_function") or []
    documents: list[Any] = []
    for name in classes if isinstance(classes, list) else []:
        found = load(folder / f"{CLASSES.get(str(name), name)}.json")
        if not found:
            raise BadRow("no document of a class of functions", str(name))
        documents += [one for key, one in found.items() if key not in excluded]
    return documents


def _load(file: Path) -> Mapping[str, Any]:
    """The rows of a file by their id or name; none where there is no such file."""
    if not file.is_file():
        return {}
    rows = [row.value for row in rows_of(file) if isinstance(row.value, dict)]
    return {str(row.get("id", row.get("name"))): row for row in rows}
