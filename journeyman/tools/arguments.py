"""Tool specs and arguments held against JSON Schema, with errors in words that a model can act on."""

import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")


def spec_error(spec: Any) -> str:
    """Why something is not a tool's spec, `{"type": "function", "function": {...}}`; empty where it is one."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    function = spec.get("function") if isinstance(spec, Mapping) else None
    if not isinstance(function, Mapping):
        return "a spec has a `function`"
    if not isinstance(name := function.get("name"), str) or not _NAME.fullmatch(name):
        return f"{name!r} can't be a tool's name"
    if not isinstance(function.get("description"), str) or not function["description"].strip():
        return f"{name} has no description"
    parameters = function.get("parameters")
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        return f"the parameters of {name} are no object"
    try:
        Draft202012Validator.check_schema(parameters)
    except SchemaError as error:
        return f"the parameters of {name} are no JSON Schema: {error.message[:200]}"
    if unknown := set(parameters.get("required", ())) - set(parameters.get("properties", {})):
        return f"{name} requires {', '.join(sorted(unknown))}, which it does not have"
    return ""


def schema_error(schema: Mapping[str, Any], value: Any) -> str:
    """The first place where a value breaks a schema; empty where it fits."""
    from jsonschema import Draft202012Validator

    errors = sorted(
        Draft202012Validator(schema).iter_errors(value), key=lambda error: [str(part) for part in error.path]
    )
    if not errors:
        return ""
    place = ".".join(str(part) for part in errors[0].path)
    return f"{place}: {errors[0].message[:200]}" if place else errors[0].message[:200]


def arguments_error(spec: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Why arguments don't fit a tool's spec; empty where they do. What the spec does not name is not allowed."""
    function = spec["function"]
    schema = {"additionalProperties": False, **function.get("parameters", {"type": "object"})}
    error = schema_error(schema, dict(arguments))
    return f"{function['name']}: {error}" if error else ""
