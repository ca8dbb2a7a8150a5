"""Problems of ToolRL's rows (rlla, #4): a system message with the tools, the dialogue in one message, the gold turn."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.environments.call_problems import as_accepted, call_problem, flat_schema, spec
from journeyman.environments.rows import BadRow
from journeyman.problem import Problem

_TOOL = re.compile(r"^\d+\. Name: (.*)\nDescription:(.*(?:\n(?!Parameters:).*)*)\nParameters: (.*)$", re.MULTILINE)
_COUNT = re.compile(r"^\d+\. Name: ", re.MULTILINE)
_PART = re.compile(r"<(user|think|tool_call|obs|response)>(.*?)</\1>", re.DOTALL)
_HEAD = "**Dialogue Records History**"


def rlla_problem(row: Mapping[str, Any], *, source: Mapping[str, Any] | None = None) -> Problem:
    """The dialogue so far; the gold calls, or none where the gold turn only responds. Raises `BadRow`."""
    prompt, gold = row.get("prompt"), row.get("reward_model")
    if not isinstance(prompt, list) or [_role(m) for m in prompt] != ["system", "user"]:
        raise BadRow("a prompt that is not a system and a user message")
    truth = gold.get("ground_truth") if isinstance(gold, dict) else None
    if not isinstance(truth, str):
        raise BadRow("no ground truth")
    specs = _specs(prompt[0]["content"])
    opening = _dialogue(prompt[1]["content"])
    said = [message["content"] for message in opening if message["role"] == "user"]
    if not said:
        raise BadRow("no message of the user")
    parts = {name: body.strip() for name, body in _PART.findall(truth)}
    if not parts.keys() & {"tool_call", "response"}:
        raise BadRow("a ground truth with neither a call nor a response")
    accepted = [_accepted(call, specs) for call in _calls(parts.get("tool_call", ""))]
    answer = "" if accepted else parts.get("response", "")
    opening = () if len(opening) == 1 else opening
    turn = {"user": said[-1], "accepted": accepted}
    return call_problem(specs, [turn], opening=opening, source=source, answer=answer)


def _role(message: Any) -> str:
    return str(message.get("role")) if isinstance(message, dict) and isinstance(message.get("content"), str) else ""


def _specs(text: str) -> list[dict[str, Any]]:
    found = _TOOL.findall(text)
    if not found or len(found) != len(_COUNT.findall(text)):
        raise BadRow("a list of tools that can't be read")
    specs: dict[str, dict[str, Any]] = {}
    for name, about, parameters in found:
        try:
            listed = json.loads(parameters)
        except (ValueError, RecursionError):
            raise BadRow("a tool whose parameters are not JSON", name) from None
        if not isinstance(listed, dict) or not all(isinstance(one, dict) for one in listed.values()):
            raise BadRow("a tool whose parameters are no schema", name)
        specs[name.strip()] = spec(name.strip(), about.strip(), flat_schema(listed, []))
    return list(specs.values())


def _dialogue(text: str) -> list[dict[str, Any]]:
    """The history as messages; thoughts are left out, an observation lists the results of the calls before it."""
    body = text.strip().removeprefix(_HEAD)
    if _PART.sub("", body).strip():
        raise BadRow("a dialogue with text outside of its tags", _PART.sub("", body).strip()[:100])
    messages: list[dict[str, Any]] = []
    for name, inner in _PART.findall(body):
        if name == "user":
            messages.append({"role": "user", "content": inner.strip()})
        elif name == "response":
            messages.append({"role": "assistant", "content": inner.strip()})
        elif name == "tool_call":
            messages.append({"role": "assistant", "content": "", "calls": _calls(inner)})
        elif name == "obs":
            messages += _results(inner.strip(), messages[-1].get("calls", ()) if messages else ())
    return messages


def _calls(text: str) -> list[dict[str, Any]]:
    calls = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            call = json.loads(line)
            calls.append({"name": call["name"].strip(), "arguments": call["parameters"]})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadRow("a call that can't be read", line[:100]) from None
    return calls


def _results(text: str, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not calls:
        raise BadRow("an observation without a call")
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or len(listed) != len(calls):
        listed = [text, *([""] * (len(calls) - 1))]
    outputs = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in listed]
    return [{"role": "tool", "name": c["name"], "content": o} for c, o in zip(calls, outputs, strict=True)]


def _accepted(call: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The gold values; a number that the gold has as text counts as a number too, a default may be left out."""
    schemas = {one["function"]["name"]: one["function"]["parameters"]["properties"] for one in specs}
    if call["name"] not in schemas:
        raise BadRow("a call of a tool that is not on offer", str(call["name"]))
    if not isinstance(call["arguments"], dict):
        raise BadRow("arguments that are no object", str(call["name"]))
    arguments: dict[str, Any] = {}
    for name, given in call["arguments"].items():
        if name not in schemas[call["name"]]:
            raise BadRow("a parameter that the tool doesn't have", f"{call['name']}: {name}")
        schema = schemas[call["name"]][name]
        values = [as_accepted(given), *_number(given, schema)]
        default = schema.get("default")
        arguments[name] = [*values, *([""] if default not in ("", None) and default in (given, str(given)) else [])]
    return {"name": call["name"], "arguments": arguments}


def _number(given: Any, schema: Mapping[str, Any]) -> list[Any]:
    if not isinstance(given, str) or schema.get("type") not in ("integer", "number", "boolean", "array", "object"):
        return []
    try:
        return [as_accepted(json.loads(given))]
    except (ValueError, RecursionError):
        return []
