"""Marks on config fields whose values are checked when a pipeline is loaded, against the registries and the disk.

A mark names its registry by text, for the config knows no layer above it; the module is imported when a value is
checked, not when the models are.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from journeyman.errors import nearest
from journeyman.metrics import METRICS, of_a_step


@runtime_checkable
class Check(Protocol):
    """A mark in a field's `Annotated`."""

    def fault(self, value: Any) -> tuple[str, str] | None:
        """What is wrong with a value, and the remedy; None where nothing is."""
        ...


class PlacedError(ValueError):
    """For validators that look at a whole model: what is wrong somewhere in it, with the keys that lead there."""

    def __init__(self, path: tuple[str | int, ...], fault: str, remedy: str) -> None:
        self.path, self.fault, self.remedy = path, fault, remedy
        super().__init__(f"{'.'.join(map(str, path))}: {fault}; {remedy}")


@dataclass(frozen=True, slots=True)
class MeasuredByStep:
    """The value is a metric that steps of rl have (`journeyman.metrics`)."""

    def fault(self, value: Any) -> tuple[str, str] | None:
        if not isinstance(value, str) or of_a_step(value):
            return None
        names = [name for name in METRICS if of_a_step(name)]
        alike = [name for name in names if name.partition("/")[0] == value.partition("/")[0]]
        usual = [name for name in names if name.startswith("rollout/")]
        return f"no step has a metric `{value}`", nearest(value, alike or usual)


@dataclass(frozen=True, slots=True)
class Registered:
    """The value is a key of a registry, written `module:NAME`."""

    registry: str
    able: str = ""
    """A method that the entry must have; empty: any entry will do."""

    def names(self) -> list[str]:
        module, _, attribute = self.registry.partition(":")
        registry: Mapping[str, Any] = vars(import_module(module)).get(attribute, {})
        return [name for name, entry in registry.items() if not self.able or hasattr(entry, self.able)]

    def fault(self, value: Any) -> tuple[str, str] | None:
        if not isinstance(value, str) or value in self.names():
            return None
        place = self.registry.replace(":", ".")
        able = f" with `{self.able}`" if self.able else ""
        return f"`{value}` is not a key of {place}{able}", nearest(value, self.names())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Forms and editors offer the names as a choice."""
        return {**handler(schema), "enum": self.names()}


@dataclass(frozen=True, slots=True)
class Expressed:
    """The value is an expression over a vocabulary, written `module:NAME` (`journeyman.expressions`)."""

    vocabulary: str

    def fault(self, value: Any) -> tuple[str, str] | None:
        from journeyman.expressions import ExpressionError, check

        if not isinstance(value, str):
            return None
        try:
            check(value, _named(self.vocabulary))
        except ExpressionError as error:
            return error.fault, error.remedy
        return None


@dataclass(frozen=True, slots=True)
class Fitting:
    """The parts of a block go together; `module:function` tells of a block (plain data) which don't."""

    judge: str

    def misfits(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """(key, fault, remedy) of each part that lacks what it needs, or that nothing makes use of."""
        return _named(self.judge)(block)


def _named(text: str) -> Any:
    module, _, attribute = text.partition(":")
    return vars(import_module(module))[attribute]


@dataclass(frozen=True, slots=True)
class OptionsOf:
    """The value maps keys of a registry, written `module:NAME`, to keyword arguments of their entries."""

    registry: str

    def fault(self, value: Any) -> tuple[str, str] | None:
        module, _, attribute = self.registry.partition(":")
        registry: Mapping[str, Any] = vars(import_module(module)).get(attribute, {})
        for name, options in value.items() if isinstance(value, dict) else ():
            if name not in registry:
                return f"`{name}` is not a key of {module}.{attribute}", nearest(str(name), list(registry))
            known = [option for option in inspect.signature(registry[name]).parameters if option != "self"]
            for option in options if isinstance(options, dict) else ():
                if option not in known:
                    return f"`{option}` is not an option of {name}", nearest(str(option), known)
        return None


@dataclass(frozen=True, slots=True)
class HubOrLocal:
    """The value is a Hub name, or a path that exists.

    What starts with `.`, `/` or `~`, or has more than one `/`, can only be a path.
    """

    folder: bool = False
    """Whether a path has to be a folder with a model in it."""

    def fault(self, value: Any) -> tuple[str, str] | None:
        if not isinstance(value, str) or not (value.startswith((".", "/", "~")) or value.count("/") > 1):
            return None
        path = Path(value).expanduser()
        remedy = f"give a path that exists (looked in {Path.cwd()}) or a Hub name such as owner/name"
        if self.folder and not path.is_dir():
            return f"no folder `{value}`", remedy
        if self.folder and not (path / "config.json").is_file():
            return f"folder `{value}` has no config.json", "give a folder in the Hugging Face format"
        return None if path.exists() else (f"no file or folder `{value}`", remedy)


def expand_home(path: str) -> str:
    """For field validators: `~` becomes the home folder."""
    return str(Path(path).expanduser()) if path.startswith("~") else path
