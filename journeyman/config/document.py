"""YAML in which every value knows where it was written."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from journeyman.config.shape import Path as KeyPath
from journeyman.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A YAML value with the place of its key (of the item, in a list)."""

    place: str
    """`pipelines.yaml:12`, or the override that set it."""
    value: Any
    """A scalar, or a `dict[str, Located]`, or a `list[Located]`."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return [item.plain() for item in self.value] if isinstance(self.value, list) else self.value

    def place_of(self, path: KeyPath) -> str:
        """Where a path was written; where it wasn't, the place of the nearest thing above it."""
        node = self
        for key in path:
            inside = node.value
            if isinstance(inside, dict) and key in inside:
                node = inside[str(key)]
            elif isinstance(inside, list) and isinstance(key, int) and key < len(inside):
                node = inside[key]
            else:
                break
        return node.place


def placed(value: Any, place: str) -> Located:
    """Plain data, all of it from one place."""
    if isinstance(value, dict):
        return Located(place=place, value={key: placed(item, place) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return Located(place=place, value=[placed(item, place) for item in value])
    return Located(place=place, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a config."""

    place: str
    key: str
    """Dotted path of the key, empty for the file as a whole."""
    fault: str
    remedy: str = ""

    def error(self) -> ConfigError:
        return ConfigError(
            f"{self.key}: {self.fault}" if self.key else self.fault, place=self.place, remedy=self.remedy
        )

    def line(self) -> str:
        text = f"{self.place}: {self.key}: {self.fault}" if self.key else f"{self.place}: {self.fault}"
        return f"{text} ({self.remedy})" if self.remedy else text


def complain(problems: Iterable[Problem]) -> None:
    """Raise one `ConfigError` that tells of all problems, in the file's order, each with its place."""
    found = sorted(dict.fromkeys(problems), key=_order)
    if len(found) == 1:
        raise found[0].error()
    if found:
        first = found[0]
        text = "\n".join([f"{first.key}: {first.fault} ({first.remedy})", *(one.line() for one in found[1:])])
        raise ConfigError(text, place=first.place, remedy=f"mend these {len(found)} problems")


def _order(problem: Problem) -> tuple[bool, int]:
    """By line; overrides last, as they were given."""
    line = problem.place.rpartition(":")[2]
    return (False, int(line)) if line.isdecimal() else (True, 0)


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads `5e-4` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_document(file: Path) -> Located:
    """Read a YAML file. Raises `ConfigError` for a missing or broken one and for duplicate keys, all of them."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("isn't UTF-8 text", place=str(file), remedy="save the file as UTF-8") from error
    except OSError as error:
        remedy = "run in the project's folder, or name the file with --file"
        raise ConfigError(f"cannot be read: {error.strerror}", place=str(file), remedy=remedy) from error
    return parse_document(text, lambda line: f"{file}:{line}")


def parse_document(text: str, place: Callable[[int], str]) -> Located:
    """Read YAML text; `place` turns a line number, from 1, into words."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return Located(place=place(1), value=None)
        builder = _Builder(loader, place)
        located = builder.build(root, place(root.start_mark.line + 1))
    except yaml.MarkedYAMLError as error:
        raise _broken(error, place) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"broken YAML: {error}", place=place(1), remedy="remove that character") from error
    finally:
        loader.dispose()
    complain(builder.problems)
    return located


def _broken(error: yaml.MarkedYAMLError, place: Callable[[int], str]) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where, column = (place(mark.line + 1), f", column {mark.column + 1}") if mark else (place(1), "")
    reason = " ".join(part for part in (error.context, error.problem) if part)
    return ConfigError(f"broken YAML{column}: {reason}", place=where, remedy="look at this line and the one above it")


_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Builder:
    """Turns YAML nodes into `Located` values and collects what is wrong with keys and scalars."""

    def __init__(self, loader: _Loader, place: Callable[[int], str]) -> None:
        self.problems: list[Problem] = []
        self._loader, self._place = loader, place
        self._open: list[yaml.Node] = []
        self._flat: set[int] = set()
        """Ids of mappings whose merge keys are replaced by what they bring; an anchored one is met again at each alias."""

    def build(self, node: yaml.Node, place: str) -> Located:
        if any(node is one for one in self._open):
            self._note(node, "", "an alias that contains itself")
            return Located(place=place, value=None)
        self._open.append(node)
        try:
            return Located(place=place, value=self._value(node))
        finally:
            self._open.pop()

    def _value(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            self._note(node, "", f"a value of type {node.tag}", "write a plain mapping or list")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, self._at(item)) for item in node.value]
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # a date such as 2020-99-99
            self._note(node, "", f"`{node.value}` cannot be read: {error}")
            return None

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Located]:
        if id(node) not in self._flat:
            self._find_duplicates(node)
            self._loader.flatten_mapping(node)  # merge keys: what they bring comes first, so that own keys win
            self._flat.add(id(node))
        found: dict[str, Located] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag == "tag:yaml.org,2002:str":
                found[key_node.value] = self.build(value_node, self._at(key_node))
            else:
                self._note(key_node, "", "a key must be text", "put it in quotes")
        return found

    def _find_duplicates(self, node: yaml.MappingNode) -> None:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if lines.setdefault((key.tag, key.value), line) != line:
                first = lines[key.tag, key.value]
                self._note(key, str(key.value), f"stands twice, first in line {first}", "keep one of them")

    def _note(self, node: yaml.Node, key: str, fault: str, remedy: str = "") -> None:
        self.problems.append(Problem(place=self._at(node), key=key, fault=fault, remedy=remedy))

    def _at(self, node: yaml.Node) -> str:
        return self._place(node.start_mark.line + 1)
