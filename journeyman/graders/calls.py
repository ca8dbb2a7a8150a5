"""Function calls against accepted ones, in the manner of the Berkeley Function-Calling Leaderboard (BFCL).

Every accepted call names its tool and, for each parameter, the values that are right. Calls match in any order, one to
one. As in BFCL, strings are equal in a normal form without case and punctuation, an integer will do where the schema
says float, a boolean never does for a number, and an accepted value of another type than the schema's (a variable's
name, null) has to be met exactly.

Different from BFCL:

- calls are matched by a true bipartite matching, where BFCL takes the first fit and may miss the only way;
- `""` among the accepted values lets a parameter be left out even where the schema lists it as required;
- dictionaries and lists are compared at every depth, and an integer will do for a float in lists too;
- strings that are numbers have to be the same number: "1.5" is not "15", "-5" is not "5"; nor is "-" the same as "*"
  because nothing is left of both; composed and decomposed Unicode is the same;
- a tool's name has to be met exactly: BFCL lets some models write "_" for ".";
- both dialects of schemas are read: BFCL's type words and JSON Schema's, bare or in OpenAI's `{"function": ...}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.graders.grade import Grade, GradeError, identity
from journeyman.graders.values import LEFT_OUT, mismatch
from journeyman.messages import ToolCall

MAX_DEPTH = 32
"""Deepest nesting of arguments, accepted values and schemas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A right call."""

    name: str
    arguments: Mapping[str, Sequence[Any]]
    """The accepted values of each parameter; `""` among them: it may be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallItem:
    """One thing to grade."""

    id: str | int
    schemas: Mapping[str, Mapping[str, Any]]
    """The parameters' JSON Schema of each tool; empty: types are not checked."""
    predicted: tuple[ToolCall, ...]
    accepted: tuple[Accepted, ...]
    """Empty: no call is right."""
    offence: str = ""
    """Why the prediction is no list of calls at all; empty where it is one."""


def grade_calls(item: Mapping[str, Any]) -> Grade:
    """Grade `{"id", "tools", "predicted": [{"name", "arguments"}], "accepted": [{"name", "arguments": {p: [...]}}]}`.

    A prediction of any form gets a verdict. Raises `GradeError` where the item itself is wrong: its tools, its accepted
    calls.
    """
    return verdict(read_item(item))


def read_item(item: Mapping[str, Any]) -> CallItem:
    """Check an item's form. Raises `GradeError`."""
    name = identity(item)
    for key in ("tools", "predicted", "accepted"):
        if key not in item:
            raise GradeError(f"no key {key!r}")
    schemas = tool_schemas(item["tools"])
    accepted = tuple(_accepted(one, f"accepted[{n}]") for n, one in enumerate(_list(item["accepted"], "accepted")))
    for number, one in enumerate(accepted):
        if schemas and one.name not in schemas:
            raise GradeError(f"accepted[{number}] calls {one.name!r}, which is not among the tools")
    predicted, offence = _predicted(item["predicted"])
    return CallItem(id=name, schemas=schemas, predicted=predicted, accepted=accepted, offence=offence)


def verdict(item: CallItem) -> Grade:
    """The verdict on a checked item."""
    reason = item.offence or _wrong(item)
    return Grade(id=item.id, correct=not reason, reason=reason or _praise(item))


def tool_schemas(tools: Any) -> dict[str, Mapping[str, Any]]:
    """Name to the parameters' schema, from either dialect. Raises `GradeError`."""
    schemas: dict[str, Mapping[str, Any]] = {}
    for number, tool in enumerate(_list(tools, "tools")):
        place = f"tools[{number}]"
        inner = tool.get("function", tool) if isinstance(tool, dict) else tool
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise GradeError(f"{place} has no name")
        parameters = inner.get("parameters")
        parameters = {} if parameters is None else parameters
        if not isinstance(parameters, dict) or not isinstance(parameters.get("properties", {}), dict):
            raise GradeError(f"{place} ({inner['name']}): the parameters are no JSON Schema of an object")
        if not isinstance(parameters.get("required") or [], list):
            raise GradeError(f"{place} ({inner['name']}): required is not a list of names")
        _shallow(parameters, place)
        schemas[inner["name"]] = parameters
    return schemas


def call_mismatch(call: ToolCall, accepted: Accepted, schema: Mapping[str, Any]) -> str:
    """What is wrong with a call against one accepted call; empty where it is right."""
    if call.name != accepted.name:
        return f"calls {call.name!r}, not {accepted.name!r}"
    properties = schema.get("properties")
    for name in call.arguments:
        if name not in accepted.arguments or (properties is not None and name not in properties):
            return f"{call.name}: {name!r} is not a parameter of the right call"
    for name, values in accepted.arguments.items():
        if name not in call.arguments:
            if LEFT_OUT not in _texts(values):
                return f"{call.name}: parameter {name!r} is missing"
        elif reason := value_mismatch(call.arguments[name], values, schema, name):
            return f"{call.name}: {reason}"
    for name in _texts(schema.get("required") or []):
        if name not in call.arguments and name not in accepted.arguments:
            return f"{call.name}: required parameter {name!r} is missing"
    return ""


def value_mismatch(value: Any, accepted: Sequence[Any], schema: Mapping[str, Any], name: str) -> str:
    """What is wrong with a parameter's value; empty where it is an accepted one. `schema` is the tool's."""
    properties = schema.get("properties") or {}
    return mismatch(value, accepted, properties.get(name, {}), name)


def _wrong(item: CallItem) -> str:
    predicted, accepted = item.predicted, item.accepted
    if not accepted:
        return f"calls {predicted[0].name!r} where no call is right" if predicted else ""
    if not predicted:
        return "no call is made"
    if len(predicted) != len(accepted):
        return f"{_calls(len(predicted))} made where {len(accepted)} {'is' if len(accepted) == 1 else 'are'} right"
    reasons = [[call_mismatch(p, a, item.schemas.get(a.name, {})) for p in predicted] for a in accepted]
    if len(accepted) == 1:
        return reasons[0][0]
    unmatched = _unmatched([[not reason for reason in row] for row in reasons])
    if unmatched is None:
        return ""
    row = reasons[unmatched]
    nearest = min(row, key=lambda reason: reason.startswith("calls "))
    if not nearest:
        return f"accepted[{unmatched}] ({accepted[unmatched].name}): the call that fits it is needed for another"
    return f"no call fits accepted[{unmatched}] ({accepted[unmatched].name}): {nearest}"


def _unmatched(fits: Sequence[Sequence[bool]]) -> int | None:
    """A row that is left over in a largest one-to-one matching of rows to columns; None where there is none.

    Augmenting paths (Kuhn): each row takes a free column, or one whose row can move to another.
    """
    row_of: dict[int, int] = {}
    for start in range(len(fits)):
        came_from: dict[int, int] = {}  # column -> row from which it was reached
        queue, free = [start], None
        while queue and free is None:
            row = queue.pop(0)
            for column, fit in enumerate(fits[row]):
                if not fit or column in came_from:
                    continue
                came_from[column] = row
                if column not in row_of:
                    free = column
                    break
                queue.append(row_of[column])
        if free is None:
            return start
        _augment(row_of, came_from, free, start)
    return None


def _augment(row_of: dict[int, int], came_from: Mapping[int, int], free: int, start: int) -> None:
    column = free
    while True:
        row = came_from[column]
        before = next((c for c, r in row_of.items() if r == row), None)
        row_of[column] = row
        if row == start or before is None:
            return
        column = before


def _praise(item: CallItem) -> str:
    return f"{_calls(len(item.accepted))} as accepted" if item.accepted else "no call, as accepted"


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _predicted(value: Any) -> tuple[tuple[ToolCall, ...], str]:
    """(the calls, why it is no list of calls)."""
    if not isinstance(value, list):
        return (), "the prediction is not a list of calls"
    calls = []
    for number, one in enumerate(value):
        inner = one.get("function", one) if isinstance(one, dict) else one
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return (), f"predicted[{number}] has no name"
        arguments = _arguments(inner.get("arguments", {}))
        if arguments is None:
            return (), f"predicted[{number}] ({inner['name']}): the arguments are not an object"
        if too_deep(arguments):
            return (), f"predicted[{number}] ({inner['name']}): nested deeper than {MAX_DEPTH}"
        calls.append(ToolCall(name=inner["name"], arguments=arguments))
    return tuple(calls), ""


def _arguments(value: Any) -> dict[str, Any] | None:
    """An object, or the JSON text of one, as in OpenAI's messages."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _accepted(value: Any, place: str) -> Accepted:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise GradeError(f"{place} has no name")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise GradeError(f"{place}.arguments is not an object of lists of accepted values")
    _shallow(arguments, place)
    _check_lists(arguments, f"{place}.arguments")
    return Accepted(name=value["name"], arguments=arguments)


def _check_lists(accepted: Mapping[str, Any], place: str) -> None:
    """Every key of an object, at every depth, holds the list of its accepted values."""
    for key, values in accepted.items():
        if not isinstance(values, list):
            raise GradeError(f"{place}.{key} is not a list of accepted values")
        for value in values:
            _check_inner(value, f"{place}.{key}")


def _check_inner(value: Any, place: str) -> None:
    if isinstance(value, dict):
        _check_lists(value, place)
    elif isinstance(value, list):
        for one in value:
            _check_inner(one, place)


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise GradeError(f"{place} is not a list")
    return value


def _texts(values: Sequence[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _shallow(value: Any, place: str) -> None:
    if too_deep(value):
        raise GradeError(f"{place} is nested deeper than {MAX_DEPTH}")


def too_deep(value: Any) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects stand in each other."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
