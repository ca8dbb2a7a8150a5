"""One argument against its accepted values, with the types of BFCL's and JSON Schema's dialects."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

LEFT_OUT = ""
"""Among the accepted values: the parameter may be left out."""
_KINDS = {
    "string": "string",
    "str": "string",
    "integer": "integer",
    "int": "integer",
    "float": "number",
    "double": "number",
    "number": "number",
    "boolean": "boolean",
    "bool": "boolean",
    "array": "array",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "dict": "object",
    "object": "object",
    "null": "null",
    "none": "null",
}
"""Type words of both dialects; any other word (`any`) says nothing."""
_DROPPED = re.compile(r"[ ,./\-_*^]")
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})")


def mismatch(value: Any, accepted: Sequence[Any], schema: Any, place: str) -> str:
    """What is wrong with a value; empty where it is one of the accepted. `schema` is the parameter's own."""
    if any(_same(value, one, schema) for one in accepted):
        return ""
    kind = kind_of(value)
    expected = {kind_of(one) for one in accepted if one != LEFT_OUT}
    if not fits(value, schema) and kind not in expected:
        return f"{place!r} is {_article(kind)}, not {_article(_kinds_said(schema))}"
    shown = [one for one in accepted if one != LEFT_OUT] or list(accepted)
    return f"{place!r} is {_short(value)}, not {' or '.join(_short(one) for one in shown[:3]) or 'to be given'}"


def fits(value: Any, schema: Any) -> bool:
    """Whether a value is of the type that the schema says; a schema that says none takes any."""
    kinds = _kinds(schema)
    if not kinds:
        return True
    kind = kind_of(value)
    return kind in kinds or (kind == "integer" and "number" in kinds)


def kind_of(value: Any) -> str:
    """JSON's name for a value's type; `integer` and `number` apart."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "unknown")


def normal_string(text: str) -> str:
    """BFCL's normal form: without spaces and `,./-_*^`, in lower case, quotes all double."""
    return _DROPPED.sub("", unicodedata.normalize("NFC", text)).casefold().replace("'", '"')


def _same(value: Any, accepted: Any, schema: Any) -> bool:
    if isinstance(accepted, str) and isinstance(value, str):
        return same_text(value, accepted) if fits(accepted, schema) else value == accepted
    if isinstance(accepted, bool) or isinstance(value, bool):
        return value is accepted
    if not fits(accepted, schema):  # a variable, or null for a default: to be met exactly, type included
        return kind_of(value) == kind_of(accepted) and _same(value, accepted, {})
    if not fits(value, schema):
        return False
    if isinstance(accepted, list):
        return isinstance(value, list) and _same_list(value, accepted, schema)
    if isinstance(accepted, dict):
        return isinstance(value, dict) and _same_object(value, accepted, schema)
    return not isinstance(value, list | dict) and value == accepted


def same_text(one: str, other: str) -> bool:
    """Equal in normal form; as numbers too where both are numbers; exactly where nothing is left of both."""
    form = normal_string(one)
    if form != normal_string(other):
        return False
    if not form:
        return one.strip() == other.strip()
    if _NUMBER.fullmatch(one.strip()) and _NUMBER.fullmatch(other.strip()):
        return Decimal(one.strip()) == Decimal(other.strip())
    return True


def _same_list(value: Sequence[Any], accepted: Sequence[Any], schema: Any) -> bool:
    items = schema.get("items", {}) if isinstance(schema, Mapping) else {}
    return len(value) == len(accepted) and all(_same(v, a, items) for v, a in zip(value, accepted, strict=True))


def _same_object(value: Mapping[str, Any], accepted: Mapping[str, Any], schema: Any) -> bool:
    """Objects in accepted values hold a list of accepted values for each key."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    inner = properties if isinstance(properties, Mapping) else {}
    if any(key not in accepted for key in value):
        return False
    for key, values in accepted.items():
        if key not in value:
            if not any(isinstance(one, str) and one == LEFT_OUT for one in values):
                return False
        elif not any(_same(value[key], one, inner.get(key, {})) for one in values):
            return False
    return True


def _kinds(schema: Any) -> set[str]:
    """Type names that a schema takes; empty: any."""
    if not isinstance(schema, Mapping):
        return set()
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            parts = [_kinds(part) for part in schema[key]]
            return set().union(*parts) if all(parts) else set()
    said = schema.get("type")
    words = said if isinstance(said, list) else [said]
    kinds = {_KINDS.get(word.lower()) if isinstance(word, str) else None for word in words}
    if None in kinds:
        return set()
    return {kind for kind in kinds if kind} | ({"null"} if schema.get("nullable") is True else set())


def _kinds_said(schema: Any) -> str:
    return " or ".join(sorted(_kinds(schema))) or "what is accepted"


def _article(kind: str) -> str:
    return kind if kind in ("null", "what is accepted") else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of too many digits to be written
        return "a huge number"
    return text if len(text) <= 80 else text[:77] + "..."
