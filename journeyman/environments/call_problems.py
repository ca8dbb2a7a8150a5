"""Problems whose solution is a list of calls, in the format of the Berkeley Function-Calling Leaderboard (BFCL)."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.environments.rows import BadRow
from journeyman.graders.calls import read_item
from journeyman.graders.grade import GradeError
from journeyman.problem import Problem, problem_id

FAMILY = "calls"
_TYPES = {
    "dict": "object",
    "dictionary": "object",
    "float": "number",
    "double": "number",
    "tuple": "array",
    "list": "array",
    "set": "array",
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "none": "null",
}
_JSON_TYPES = frozenset(("object", "number", "array", "string", "integer", "boolean", "null"))
_DEEPEST = 32

Said = Mapping[str, Any]
"""What the user says and which calls are right then: `{"user": text, "accepted": [{"name", "arguments"}]}`."""


def call_problem(
    specs: Sequence[Mapping[str, Any]],
    turns: Sequence[Said],
    *,
    opening: Sequence[Mapping[str, Any]] = (),
    source: Mapping[str, Any] | None = None,
    answer: str = "",
) -> Problem:
    """A problem of the family `calls`. Raises `BadRow`.

    Args:
        specs: the tools on offer, in OpenAI's form.
        turns: the user's words and the accepted calls, turn by turn.
        opening: messages shown first, the user's first words included; empty: those words alone.
        source: where it comes from.
        answer: the reference in words; empty: the accepted calls as JSON.
    """
    accepted = [list(turn["accepted"]) for turn in turns]
    for calls in accepted:
        try:
            read_item({"id": 0, "tools": list(specs), "predicted": [], "accepted": calls})
        except GradeError as error:
            raise BadRow("accepted calls that don't fit the tools", str(error)) from None
    data: dict[str, Any] = {"specs": list(specs), "turns": [dict(turn) for turn in turns]}
    if opening:
        data["opening"] = list(opening)
    question = turns[0]["user"]
    key = problem_id(FAMILY, question, {"turns": data["turns"]})
    return Problem(
        id=problem_id(FAMILY, question, data),
        family=FAMILY,
        question=question,
        answer=answer or json.dumps(accepted[0] if len(accepted) == 1 else accepted, ensure_ascii=False),
        tools=tuple(spec["function"]["name"] for spec in specs),
        min_calls=sum(len(calls) for calls in accepted),
        data={**data, "key": key, **({"source": dict(source)} if source else {})},
    )


def bfcl_problem(row: Mapping[str, Any], *, source: Mapping[str, Any] | None = None) -> Problem:
    """A problem of a BFCL row with its `ground_truth` beside it. Raises `BadRow`.

    Rows of the irrelevance categories have no ground truth: no call is right. Each of a multi-turn row's turns has a list of
    calls in Python's syntax; the classes that carry them out are not simulated (see `journeyman.environments.calls`).
    """
    functions, question = _json(row.get("function")), _json(row.get("question"))
    if not isinstance(functions, list) or not functions:
        raise BadRow("no functions")
    specs = [spec_of(function) for function in functions]
    turns = _conversation(question)
    truth = _json(row.get("ground_truth"))
    if truth is None and "irrelevance" in str(row.get("id")):
        truth = []
    if not isinstance(truth, list):
        raise BadRow("no ground truth")
    many = len(turns) > 1 or (bool(truth) and isinstance(truth[0], list))
    accepted = [_parsed_calls(t, specs) for t in truth] if many else [[_accepted(one) for one in truth]]
    if len(accepted) != len(turns):
        raise BadRow("a ground truth of another number of turns")
    said = [{"user": _user(turn), "accepted": calls} for turn, calls in zip(turns, accepted, strict=True)]
    opening = turns[0] if len(turns[0]) > 1 else ()
    return call_problem(specs, said, opening=opening, source={"id": row.get("id"), **(source or {})})


def _conversation(question: Any) -> list[list[dict[str, str]]]:
    """Messages turn by turn."""
    if not isinstance(question, list) or not question:
        raise BadRow("no question")
    turns = question if all(isinstance(turn, list) for turn in question) else [question]
    for turn in turns:
        for message in turn:
            if not isinstance(message, dict) or not isinstance(message.get("content"), str):
                raise BadRow("a message without text")
            if message.get("role") not in ("system", "user", "assistant"):
                raise BadRow("a role that is unknown", str(message.get("role")))
    return [[{"role": m["role"], "content": m["content"]} for m in turn] for turn in turns]


def _user(turn: Sequence[Mapping[str, str]]) -> str:
    said = [message["content"] for message in turn if message["role"] == "user"]
    if not said or not said[-1].strip():
        raise BadRow("a turn without a message of the user")
    return said[-1]


def _accepted(one: Any) -> dict[str, Any]:
    """`{name: {parameter: [values]}}` as name and arguments; a table's empty cells go."""
    named = {name: value for name, value in one.items() if value is not None} if isinstance(one, dict) else {}
    if len(named) != 1:
        raise BadRow("a ground truth that is not one call", str(one)[:100])
    [(name, arguments)] = named.items()
    if not isinstance(arguments, dict):
        raise BadRow("a ground truth without arguments", name)
    return {"name": name, "arguments": {key: values for key, values in arguments.items() if values is not None}}


def _parsed_calls(texts: Any, specs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(texts, list):
        raise BadRow("a ground truth that is no list of calls")
    schemas = {spec["function"]["name"]: spec["function"]["parameters"] for spec in specs}
    return [parsed_call(text, schemas) for text in texts]


def parsed_call(text: Any, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`name(1, key=2)` as an accepted call. Raises `BadRow`.

    Arguments by position are named in the order of the schema; a default that isn't given may be given.
    """
    try:
        tree = ast.parse(str(text).strip(), mode="eval").body
        if not isinstance(tree, ast.Call):
            raise ValueError("not a call")
        name = ast.unparse(tree.func)
        positional = [ast.literal_eval(one) for one in tree.args]
        if any(one.arg is None for one in tree.keywords):
            raise ValueError("** in a call")
        named = {str(one.arg): ast.literal_eval(one.value) for one in tree.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadRow("a call that can't be read", f"{str(text)[:100]}: {error}") from None
    if name not in schemas:
        raise BadRow("a call of a tool that is not on offer", name)
    properties = schemas[name].get("properties", {})
    if len(positional) > len(properties):
        raise BadRow("a call with too many arguments", str(text)[:100])
    given = dict(zip(properties, positional, strict=False)) | named
    accepted = {key: [as_accepted(value)] for key, value in given.items()}
    for key, schema in properties.items():
        if key not in given and key not in schemas[name].get("required", ()):
            accepted[key] = [*([as_accepted(schema["default"])] if "default" in schema else []), ""]
    return {"name": name, "arguments": accepted}


def as_accepted(value: Any) -> Any:
    """A plain value as the one that is accepted: objects hold a list of values for each key."""
    if isinstance(value, dict):
        return {str(key): [as_accepted(inner)] for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_accepted(inner) for inner in value]
    return value


def as_call(accepted: Mapping[str, Any]) -> dict[str, Any]:
    """The first way of an accepted call: name and plain arguments."""
    return {"name": accepted["name"], "arguments": _first_values(accepted["arguments"])}


def _first_values(values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    chosen = {key: next((one for one in accepted if one != ""), "") for key, accepted in values.items()}
    return {key: _plain(one) for key, one in chosen.items() if one != ""}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _first_values(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _json(value: Any) -> Any:
    """Tables keep nested values as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadRow("a value that is not JSON", value[:100]) from None


def spec_of(tool: Any) -> dict[str, Any]:
    """A tool in BFCL's, glaive's or OpenAI's form as OpenAI's, with JSON Schema's type words. Raises `BadRow`."""
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise BadRow("a tool without a name")
    parameters = inner.get("parameters") or {}
    schema = {"type": "object", "properties": {}, **json_schema(parameters, inner["name"])}
    return spec(inner["name"], str(inner.get("description") or ""), schema)


def spec(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's form."""
    function = {"name": name, "description": description, "parameters": dict(parameters)}
    return {"type": "function", "function": function}


def flat_schema(parameters: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """The schema of parameters that are listed with type and description alone. Raises `BadRow`."""
    properties = {name: json_schema(about, name) for name, about in parameters.items()}
    return {"type": "object", "properties": properties, "required": list(required)}


def json_schema(schema: Any, place: str, levels: int = _DEEPEST) -> dict[str, Any]:
    """A schema with JSON Schema's type words; an unknown word says nothing and goes. Raises `BadRow`."""
    if not isinstance(schema, Mapping) or not levels:
        raise BadRow("a tool whose parameters are no schema", place)
    made = {key: value for key, value in schema.items() if value is not None}
    if "type" in made:
        made |= _typed(made.pop("type"))
    if isinstance(made.get("properties"), Mapping):
        inner = {name: one for name, one in made["properties"].items() if one is not None}
        made["properties"] = {name: json_schema(one, place, levels - 1) for name, one in inner.items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = json_schema(made["items"], place, levels - 1)
    return made


def _typed(said: Any) -> dict[str, Any]:
    """The part of a schema that says the type. `list(str)` is a list of texts."""
    if isinstance(said, list):
        words = [_TYPES.get(word, word) for word in said if isinstance(word, str)]
        return {"type": words} if words and set(words) <= _JSON_TYPES else {}
    if not isinstance(said, str):
        return {}
    word, _, inner = said.strip().lower().partition("(")
    word = word.partition(",")[0].strip()
    kind = _TYPES.get(word, word)
    if kind not in _JSON_TYPES:
        return {}
    items = _typed(inner.rstrip(")")) if kind == "array" and inner else {}
    return {"type": kind, **({"items": items} if items else {})}
