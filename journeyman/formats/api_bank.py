"""API-Bank's level 1: a dialogue with earlier calls, the documents of the tools, and the call that comes next."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from journeyman.environments.call_problems import as_accepted, call_problem, flat_schema, spec
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of, text_of
from journeyman.formats.files import rows_of

_CALL = re.compile(r"API-Request:\s*\[(\w+)\((.*)\)\](?:->(.*))?", re.DOTALL)
_ARGUMENT = re.compile(r"(\w+)='(.*?)'(?=,\s*\w+='|$)", re.DOTALL)
_SPEAKER = re.compile(r"^(User|AI|API-Request|Generate API Request):[ ]?", re.MULTILINE)
_DESCRIPTIONS = "API descriptions:"
SYSTEM = "The current year is 2023."
"""What the data set's instruction says beside the tools and the form of the answer."""


def open_api_bank(path: Path) -> tuple[Iterator[Row], Reader]:
    return rows_of(path), read_api_bank


def read_api_bank(row: Row) -> Made:
    """A problem: the dialogue so far, and the call that is right next. Raises `BadRow`."""
    value = object_of(row)
    specs = _specs(text_of(value, "instruction"))
    schemas = {one["function"]["name"]: one["function"]["parameters"]["properties"] for one in specs}
    dialogue = _dialogue(text_of(value, "input"))
    said = [message["content"] for message in dialogue if message["role"] == "user"]
    if not said:
        raise BadRow("no message of the user")
    match = _CALL.fullmatch(text_of(value, "expected_output").strip())
    if match is None:
        raise BadRow("an expected output that is no call", value["expected_output"][:100])
    if match[1] not in schemas:
        raise BadRow("a call of a tool without a document", match[1])
    arguments = {name: [as_accepted(given)] for name, given in _arguments(match[2], schemas[match[1]]).items()}
    unknown = [name for name in arguments if name not in schemas[match[1]]]
    if unknown:
        raise BadRow("a parameter that the tool doesn't have", f"{match[1]}: {unknown[0]}")
    opening = [{"role": "system", "content": SYSTEM}, *dialogue]
    turn = {"user": said[-1], "accepted": [{"name": match[1], "arguments": arguments}]}
    source = {"id": f"{value.get('file')}:{value.get('id')}", **row.source}
    return Made(problems=(call_problem(specs, [turn], opening=opening, source=source),))


def _specs(instruction: str) -> list[dict[str, Any]]:
    _, found, listed = instruction.partition(_DESCRIPTIONS)
    if not found:
        raise BadRow("no descriptions of tools")
    specs: dict[str, dict[str, Any]] = {}
    for line in listed.strip().splitlines():
        try:
            document = json.loads(line)
            name, parameters = document["name"], document["input_parameters"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadRow("a description of a tool that can't be read", line[:100]) from None
        schema = flat_schema(parameters, [])  # which ones have to be given it doesn't say
        specs[name] = spec(name, str(document.get("description") or ""), schema)
    return list(specs.values())


def _dialogue(text: str) -> list[dict[str, Any]]:
    """Messages, earlier calls with their results among them."""
    pieces = _SPEAKER.split(text)
    if pieces[0].strip():
        raise BadRow("a dialogue that doesn't begin with a speaker", pieces[0][:100])
    messages: list[dict[str, Any]] = []
    for speaker, said in zip(pieces[1::2], pieces[2::2], strict=True):
        if speaker == "API-Request":
            messages += _made(f"API-Request: {said.strip()}")
        elif speaker in ("User", "AI"):
            messages.append({"role": "user" if speaker == "User" else "assistant", "content": said.strip()})
    return messages


def _made(text: str) -> list[dict[str, Any]]:
    match = _CALL.fullmatch(text)
    if match is None:
        raise BadRow("an earlier call that can't be read", text[:100])
    call = {"name": match[1], "arguments": _arguments(match[2], {})}
    answer = {"role": "tool", "name": match[1], "content": (match[3] or "").strip()}
    return [{"role": "assistant", "content": "", "calls": [call]}, answer]


def _arguments(text: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """`key='value', ...`: values may have quotes in them; those of lists and numbers are read as such."""
    found = list(_ARGUMENT.finditer(text.strip()))
    rest = _ARGUMENT.sub("", text).replace(",", "").strip()
    if rest:
        raise BadRow("arguments that can't be read", text[:100])
    return {match[1]: _typed(match[2], schemas.get(match[1], {})) for match in found}


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    if schema.get("type") in (None, "string"):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
