"""From a Python signature and docstring to a JSON Schema, and arguments checked against it."""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

_ARGUMENT = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


class ToolError(ValueError):
    """The model's mistake: its text becomes the observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a function takes from the model."""

    description: str
    """The docstring without its `Args:`."""
    schema: dict[str, Any]
    """JSON Schema of the arguments."""
    hidden: str
    """Name of the parameter that the model is not shown; empty where there is none."""
    model: type[BaseModel]

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, function: Callable[..., Any], *, hidden: type) -> "Signature":
        """Of a function or a method. Raises `TypeError` where a parameter has no annotation, or for `*args`."""
        hints = get_type_hints(function, include_extras=True)
        description, explained = _read_docstring(inspect.getdoc(function) or "")
        fields: dict[str, Any] = {}
        concealed = ""
        for name, parameter in inspect.signature(function).parameters.items():
            if name == "self":
                continue
            if name not in hints or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{function.__qualname__}: parameter {name} has no type of its own")
            if hints[name] is hidden:
                concealed = name
                continue
            default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints[name], FieldInfo(default=default, description=explained.get(name)))
        config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=())
        model = create_model("Arguments", __config__=config, **fields)
        return cls(description=description, schema=_schema(model), hidden=concealed, model=model)

    def check(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them. Raises `ToolError` in words that a model can act on."""
        try:
            text = json.dumps(dict(arguments), ensure_ascii=False).encode()
            made = self.model.model_validate_json(text)
        except UnicodeEncodeError:
            broken = next(name for name, value in arguments.items() if not _is_text(f"{name}{value}"))
            raise ToolError(f"{broken} has half of a surrogate pair in it") from None
        except (TypeError, RecursionError):
            raise ToolError("the arguments are not JSON") from None
        except ValidationError as error:
            raise ToolError(self._told(tool, error.errors(include_url=False)[0])) from None
        return {name: getattr(made, name) for name in self.model.model_fields}

    def _told(self, tool: str, error: ErrorDetails) -> str:
        path = ".".join(str(part) for part in error["loc"])
        if error["type"] in ("missing", "extra_forbidden") and len(error["loc"]) == 1:
            return f"{tool} takes {', '.join(self._parameters()) or 'no arguments'}"
        if kind := _KINDS.get(error["type"]):
            return f"{path} must be a {kind}"
        return f"{path}: {error['msg'][:1].lower()}{error['msg'][1:]}"

    def _parameters(self) -> list[str]:
        required = self.schema["required"]
        return [name if name in required else f"{name} (optional)" for name in self.model.model_fields]


_KINDS = {
    **{f"{kind}_type": kind for kind in ("string", "list")},
    "int_type": "integer",
    "int_from_float": "integer",
    "float_type": "number",
    "bool_type": "boolean",
    "dict_type": "object",
}
"""pydantic's error types in JSON Schema's words."""


def _is_text(value: str) -> bool:
    """Whether a string is Unicode text. Escapes of JSON can write what no text holds: half a pair of surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    made = _without_titles(model.model_json_schema())
    rest = {name: value for name, value in made.items() if name == "$defs"}
    return {"type": "object", "properties": made.get("properties", {}), "required": made.get("required", []), **rest}


def _without_titles(value: Any, *, names: bool = False) -> Any:
    """A schema without pydantic's titles; `names`: the keys are names of properties."""
    if isinstance(value, list):
        return [_without_titles(one) for one in value]
    if not isinstance(value, dict):
        return value
    keep = {key: one for key, one in value.items() if names or key != "title"}
    return {key: _without_titles(one, names=not names and key in ("properties", "$defs")) for key, one in keep.items()}


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """(description, parameter -> what it is) of a docstring with Google-style sections."""
    head, _, rest = text.partition("\nArgs:\n")
    explained: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break  # another section
        if found := _ARGUMENT.match(line.strip()):
            name, explained[found[1]] = found[1], found[2]
        elif name and line.strip():
            explained[name] += f" {line.strip()}"
    return head.strip(), explained
