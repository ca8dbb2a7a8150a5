"""Expressions in pipelines.yaml: `correct * 0.9 + 0.1 * well_formed(strict=True)`.

The grammar is a small part of Python's: names of a vocabulary, calls with keyword options, numbers, `+`, `-`, `*` and
parentheses. Nothing is executed: Python's parser makes the tree, and only what stands in the vocabulary is looked up.
"""

import ast
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from journeyman.errors import nearest

LONGEST, DEEPEST = 10_000, 100
"""Characters of an expression, and levels of its tree (a sum of n terms has n): what is beyond is refused."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
"""Types of options: what lies outside is refused when a pipeline is loaded."""


class ExpressionError(ValueError):
    """An expression that can't be read or doesn't fit its vocabulary."""

    def __init__(self, fault: str, remedy: str = "") -> None:
        super().__init__(f"{fault} ({remedy})" if remedy else fault)
        self.fault, self.remedy = fault, remedy


@dataclass(frozen=True, slots=True)
class Yields:
    """A mark on a part's return annotation: what it hands on besides the plain value."""

    what: frozenset[str] = frozenset()
    of_operands: bool | tuple[str, ...] = False
    """Whether it also hands on what its operands hand on; or the parameters of those whose it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What an expression can name."""

    kind: str
    """`reward`, `credit`: what error messages call its parts."""
    parts: Mapping[str, Callable[..., Any]]
    """Functions of the thing to be judged; keyword-only parameters are options or needs."""
    combinators: Mapping[str, Callable[..., Any]]
    """Functions of parts that return a part; keyword-only parameters are options or needs."""
    add: Callable[..., Any] | None
    """Of (weight, part) pairs: what `+` and `-` make; None: nothing can be added."""
    multiply: Callable[..., Any] | None
    """Of parts: what `*` between parts makes; None: only a number can stand before a `*`."""
    constant: Callable[[float], Any] | None
    """A number as a part; None: a number alone is no part."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Keyword-only parameters that the pipeline supplies, each with what it takes to have it."""


def parse(text: str) -> ast.expr:
    """The tree of an expression. Raises `ExpressionError`."""
    if len(text) > LONGEST:
        raise ExpressionError(f"an expression of {len(text)} characters", f"at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python would warn of, such as `1or 2`, is refused later on
            node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise ExpressionError(
            f"`{_short(text)}` cannot be read{where}", "write it like `a + 0.5 * b(option=1)`"
        ) from None
    if not _shallow(node):
        raise ExpressionError(f"`{_short(text)}` is nested too deeply", f"at most {DEEPEST} levels or terms")
    return node


def _shallow(node: ast.AST) -> bool:
    level: list[ast.AST] = [node]
    for _ in range(DEEPEST + 1):
        level = [child for parent in level for child in ast.iter_child_nodes(parent)]
    return not level


def render(node: ast.expr) -> str:
    """The expression on one line; `parse` reads it back to the same tree."""
    return ast.unparse(node)


def check(text: str, vocabulary: Vocabulary) -> None:
    """Raises `ExpressionError` where an expression can't be built, whatever the pipeline supplies."""
    build(text, vocabulary, dict.fromkeys(vocabulary.needs))


def build(text: str | ast.expr, vocabulary: Vocabulary, supplied: Mapping[str, Any] | None = None) -> Any:
    """The part that an expression stands for, with what it needs bound from `supplied`. Raises `ExpressionError`."""
    node = parse(text) if isinstance(text, str) else text
    return _Builder(vocabulary, supplied or {}).build(node)


def names(text: str | ast.expr, vocabulary: Vocabulary) -> list[str]:
    """The parts and combinators that an expression names, each once, in order."""
    node = parse(text) if isinstance(text, str) else text
    known = {**vocabulary.parts, **vocabulary.combinators}
    return list(dict.fromkeys(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in known))


def needs(text: str | ast.expr, vocabulary: Vocabulary) -> dict[str, str]:
    """What the pipeline has to supply for an expression: the need to the first part that has it."""
    known = {**vocabulary.parts, **vocabulary.combinators}
    found: dict[str, str] = {}
    for name in names(text, vocabulary):
        for need in needs_of(known[name], vocabulary):
            found.setdefault(need, name)
    return found


def yields(text: str | ast.expr, vocabulary: Vocabulary) -> frozenset[str]:
    """What an expression hands on besides the plain value."""
    node = parse(text) if isinstance(text, str) else text
    return frozenset(_yields(node, vocabulary))


def needs_of(part: Callable[..., Any], vocabulary: Vocabulary) -> list[str]:
    return [name for name in inspect.signature(part).parameters if name in vocabulary.needs]


def options_of(part: Callable[..., Any], vocabulary: Vocabulary) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a part that an expression can set."""
    parameters = inspect.signature(part).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY and name not in vocabulary.needs}


def _yields(node: ast.expr, vocabulary: Vocabulary) -> Iterator[str]:
    match node:
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            if is_number(left) or is_number(right):  # two parts multiplied are earned at the end
                yield from _yields(right if is_number(left) else left, vocabulary)
        case ast.BinOp(left=left, right=right):
            yield from _yields(left, vocabulary)
            yield from _yields(right, vocabulary)
        case ast.UnaryOp(operand=operand):
            yield from _yields(operand, vocabulary)
        case ast.Name(id=name) if name in vocabulary.parts:
            yield from _mark(vocabulary.parts[name]).what
        case ast.Call(func=ast.Name(id=name)):
            mark = _mark({**vocabulary.parts, **vocabulary.combinators}[name])
            yield from mark.what
            for parameter, operand in _operands(vocabulary.combinators.get(name), node):
                if mark.of_operands is True or (mark.of_operands and parameter in mark.of_operands):
                    yield from _yields(operand, vocabulary)


def _operands(combinator: Callable[..., Any] | None, node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """The operands of a call, each with the parameter that takes it."""
    parameters = inspect.signature(combinator).parameters.values() if combinator else ()
    places = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
    named = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    for i, operand in enumerate(node.args):
        yield places[i] if i < len(places) else rest, operand
    yield from ((named, keyword.value) for keyword in node.keywords if named and keyword.arg not in options)


@cache
def _mark(part: Callable[..., Any], of: str = "return") -> Yields:
    hint = get_type_hints(part, include_extras=True).get(of)
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Yields)), Yields())


class _Builder:
    def __init__(self, vocabulary: Vocabulary, supplied: Mapping[str, Any]) -> None:
        self._words, self._supplied = vocabulary, supplied

    def build(self, node: ast.expr) -> Any:
        match node:
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return self._sum(*self._terms(node, 1.0))
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                return self._product(left, right)
            case ast.UnaryOp(op=ast.USub(), operand=operand) if not is_number(node):
                return self._sum((-1.0, self.build(operand)))
            case ast.Name(id=name):
                return self._named(name, node, (), {})
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                return self._named(name, node, tuple(arguments), self._keywords(name, keywords))
        if is_number(node) and self._words.constant is not None:
            return self._words.constant(_factor(node))
        raise ExpressionError(
            f"`{_short(render(node))}` is no {self._words.kind}", "only names, calls, numbers, +, - and *"
        )

    def _sum(self, *terms: tuple[float, Any]) -> Any:
        if self._words.add is None:
            raise ExpressionError(f"a {self._words.kind} is not added, subtracted or weighed", "list them one by one")
        return self._words.add(*terms)

    def _terms(self, node: ast.expr, sign: float) -> list[tuple[float, Any]]:
        """A sum as (weight, part) pairs: `a - 0.5 * b` is [(1, a), (-0.5, b)]."""
        match node:
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._terms(left, sign) + self._terms(right, sign)
            case ast.BinOp(op=ast.Sub(), left=left, right=right):
                return self._terms(left, sign) + self._terms(right, -sign)
            case ast.BinOp(op=ast.Mult(), left=left, right=right) if is_number(left) != is_number(right):
                factor, part = (left, right) if is_number(left) else (right, left)
                return [(sign * _factor(factor), self.build(part))]
        return [(sign, self.build(node))]

    def _product(self, left: ast.expr, right: ast.expr) -> Any:
        if is_number(left) or is_number(right):
            factor, part = (left, right) if is_number(left) else (right, left)
            return self._sum((_factor(factor), self.build(part)))
        if self._words.multiply is None:
            raise ExpressionError(f"two {self._words.kind}s cannot be multiplied", "write a number before the `*`")
        return self._words.multiply(self.build(left), self.build(right))

    def _keywords(self, name: str, keywords: list[ast.keyword]) -> dict[str, ast.expr]:
        if any(keyword.arg is None for keyword in keywords):
            raise ExpressionError(f"`**` stands in {name}", "write the options one by one: name=value")
        twice = [str(k.arg) for i, k in enumerate(keywords) if k.arg in {before.arg for before in keywords[:i]}]
        if twice:
            raise ExpressionError(f"{name}: `{twice[0]}` is given twice", "remove one of them")
        return {str(keyword.arg): keyword.value for keyword in keywords}

    def _named(
        self, name: str, node: ast.expr, arguments: tuple[ast.expr, ...], keywords: Mapping[str, ast.expr]
    ) -> Any:
        known = {**self._words.parts, **self._words.combinators}
        if name not in known:
            raise ExpressionError(f"there is no {self._words.kind} `{name}`", nearest(name, list(known)))
        part = known[name]
        options = self._options(name, part, keywords)
        if name in self._words.parts:
            if arguments:
                raise ExpressionError(f"{name} takes options by name only", _takes(name, part, self._words))
            return bound(part, options | self._needs(name, part))
        operands = [self.build(argument) for argument in arguments]
        named = {key: self.build(value) for key, value in keywords.items() if key not in options}
        if own := sorted(named.keys() & set(needs_of(part, self._words))):
            raise ExpressionError(f"{name} has `{own[0]}` supplied by the pipeline", "choose another name")
        self._check_operands(name, part, node)
        try:
            inspect.signature(part).bind(*operands, **named, **options, **self._needs(name, part))
            return part(*operands, **named, **options, **self._needs(name, part))
        except TypeError as error:
            raise ExpressionError(f"`{_short(render(node))}`: {error}", _takes(name, part, self._words)) from None
        except ExpressionError:
            raise
        except ValueError as error:
            raise ExpressionError(f"{name}: {error}", _takes(name, part, self._words)) from None

    def _check_operands(self, name: str, combinator: Callable[..., Any], node: ast.expr) -> None:
        """Whether operands hand on what the combinator makes something of."""
        for parameter, operand in _operands(combinator, node) if isinstance(node, ast.Call) else ():
            wanted = _mark(combinator, parameter).what
            if wanted and not wanted <= yields(operand, self._words):
                raise ExpressionError(
                    f"{name} works on {' and '.join(sorted(wanted))}, and `{_short(render(operand))}` has none",
                    f"take a {self._words.kind} that has",
                )

    def _options(self, name: str, part: Callable[..., Any], keywords: Mapping[str, ast.expr]) -> dict[str, Any]:
        known = options_of(part, self._words)
        takes_parts = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(part).parameters.values())
        found: dict[str, Any] = {}
        for key, value in keywords.items():
            if key in known:
                found[key] = self._option(name, part, key, value)
            elif not takes_parts:
                remedy = nearest(key, list(known)) if known else f"{name} has no options"
                raise ExpressionError(f"`{key}` is not an option of {name}", remedy)
        for key, parameter in known.items():
            if parameter.default is parameter.empty and key not in found:
                raise ExpressionError(f"{name} needs its option `{key}`", _takes(name, part, self._words))
        return found

    def _option(self, name: str, part: Callable[..., Any], key: str, value: ast.expr) -> Any:
        try:
            plain = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ExpressionError(f"{name}: `{key}` is no plain value", "numbers, texts, lists and mappings") from None
        if not _finite(plain):
            raise ExpressionError(f"{name}: `{key}` is too large a number", "leave it out, or take a smaller one")
        try:
            return _adapter(part, key).validate_python(plain)
        except ValidationError as error:
            fault = error.errors()[0]["msg"].removeprefix("Input ").removeprefix("Value error, ")
            raise ExpressionError(
                f"{name}: `{key}` {fault[0].lower()}{fault[1:]}, is {_short(repr(plain))}",
                _takes(name, part, self._words),
            ) from None

    def _needs(self, name: str, part: Callable[..., Any]) -> dict[str, Any]:
        found = {}
        for need in needs_of(part, self._words):
            if need not in self._supplied:
                raise ExpressionError(f"{name} needs {need}", self._words.needs[need])
            found[need] = self._supplied[need]
        return found


def bound(part: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """A part with its keyword arguments filled in; it keeps its name."""
    if not options:
        return part

    def filled(*arguments: Any) -> Any:
        return part(*arguments, **options)

    filled.__name__ = filled.__qualname__ = part.__name__
    return filled


@cache
def _adapter(part: Callable[..., Any], option: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(part, include_extras=True).get(option, Any))


def is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return is_number(node.operand)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def number(node: ast.expr) -> float:
    """Raises `OverflowError` for a whole number that no float can hold."""
    if isinstance(node, ast.UnaryOp):
        return -number(node.operand)
    assert isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return float(node.value)


def _factor(node: ast.expr) -> float:
    try:
        found = number(node)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ExpressionError(f"`{_short(render(node))}` is too large a number", "take a smaller one")
    return found


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_finite(inner) for inner in value.values())
    if isinstance(value, list | tuple | set):
        return all(_finite(inner) for inner in value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, float) or math.isfinite(value)


def _takes(name: str, part: Callable[..., Any], vocabulary: Vocabulary) -> str:
    shown = []
    for p in inspect.signature(part).parameters.values():
        if p.name in vocabulary.needs or (name in vocabulary.parts and p.kind is not p.KEYWORD_ONLY):
            continue
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        shown.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={p.default!r}"))
    return f"it is {name}({', '.join(shown)})"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
