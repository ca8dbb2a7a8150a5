"""Seal-Tools: a query and the calls that it needs; the tools' documents lie beside in `tool.jsonl`.

The data set leaves it to a retriever which tools are on offer; here it is those that are needed and others of the same
fields, drawn by the query. What a call is to take from another's result has no value that could be compared, so that
such rows are kept apart.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from journeyman.environments.call_problems import as_accepted, call_problem, flat_schema, spec
from journeyman.errors import DataError
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of, text_of
from journeyman.formats.files import rows_of
from journeyman.seeds import derive

TOOLS = "tool.jsonl"
OFFERED = 8
"""Tools on offer in a problem, unless more are needed (ours)."""
_RESULT = re.compile(r"API_call_[0-9]+")


def open_seal_tools(path: Path) -> tuple[Iterator[Row], Reader]:
    """The queries of a file or folder. Raises `DataError` where the tools' documents are missing."""
    rows = rows_of(path, skip=(TOOLS,))
    documents = (path if path.is_dir() else path.parent) / TOOLS
    if not documents.is_file():
        raise DataError(f"no {TOOLS} with the tools' documents", place=str(documents.parent), remedy="put it there")
    shelf = _Shelf([row.value for row in rows_of(documents) if _is_document(row.value)])
    return rows, lambda row: _read(row, shelf)


class _Shelf:
    """The tools' documents, by name and by field."""

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self.tools = {one["api_name"]: one for one in documents}
        self._fields: dict[str, list[str]] = {}
        for name in self.tools:
            self._fields.setdefault(self._field(name), []).append(name)

    def offered(self, needed: Sequence[str], query: str) -> list[str]:
        """Those that are needed and others of their fields, in an order drawn by the query."""
        rng = random.Random(derive("seal-tools", query))
        names = list(dict.fromkeys(needed))
        fields = sorted({self._field(name) for name in names})
        near = [name for field in fields for name in self._fields[field] if name not in names]
        names += rng.sample(near, min(len(near), max(0, OFFERED - len(names))))
        rng.shuffle(names)
        return names

    def _field(self, name: str) -> str:
        return str(self.tools[name].get("field")).split("/")[0]


def _is_document(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("api_name"), str) and isinstance(value.get("parameters"), dict)
    )


def _read(row: Row, shelf: _Shelf) -> Made:
    value = object_of(row)
    query, calling = text_of(value, "query"), value.get("calling")
    if not isinstance(calling, list) or not calling:
        raise BadRow("no calls")
    accepted = [_accepted(call, shelf.tools) for call in calling]
    offered = shelf.offered([one["name"] for one in accepted], query)
    specs = [_spec(shelf.tools[name]) for name in offered]
    source = {"id": value.get("id"), **row.source}
    return Made(problems=(call_problem(specs, [{"user": query, "accepted": accepted}], source=source),))


def _accepted(call: Any, tools: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if not isinstance(call, dict) or not isinstance(call.get("parameters"), dict):
        raise BadRow("a call without parameters")
    name = str(call.get("api"))
    if name not in tools:
        raise BadRow("a call of a tool without a document", name)
    for key, given in call["parameters"].items():
        if key not in tools[name]["parameters"]:
            raise BadRow("a parameter that the tool doesn't have", f"{name}: {key}")
        if isinstance(given, str) and _RESULT.fullmatch(given.strip()):
            raise BadRow("a value that is another call's result", f"{name}: {key}={given}")
    missing = [key for key in tools[name].get("required") or [] if key not in call["parameters"]]
    if missing:
        raise BadRow("a required parameter that the call doesn't give", f"{name}: {missing[0]}")
    return {"name": name, "arguments": {key: [as_accepted(given)] for key, given in call["parameters"].items()}}


def _spec(document: Mapping[str, Any]) -> dict[str, Any]:
    schema = flat_schema(document["parameters"], document.get("required") or [])
    return spec(document["api_name"], str(document.get("api_description") or ""), schema)
