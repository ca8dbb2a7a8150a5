"""What a model-made tool is, and what can be told of its code and tests without running them (#22)."""

import ast
import hashlib
import keyword
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from journeyman.tools.base import ToolError

MAX_CODE = 20_000
"""Most characters of code, and of tests (ours)."""
MAX_DEPTH = 150
"""Deepest nesting of source: what reads it here calls itself at each level (ours)."""
_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
}


class ToolState(StrEnum):
    """How far a made tool has come."""

    PROPOSED = "proposed"
    EXECUTABLE = "executable"
    """Its code runs."""
    VERIFIED = "verified"
    """Its tests pass, mean something, and all held-out examples come out right."""
    KEPT = "kept"
    """In the library."""
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A call with the value that it must give."""

    arguments: Mapping[str, Any]
    expected: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Asserts:
    """Asserts about a function, under the name that they call it by: merged tools keep their tests."""

    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeTool:
    """A tool that a model wrote."""

    name: str
    code: str
    asserts: tuple[Asserts, ...]
    state: ToolState = ToolState.PROPOSED
    uses: int = 0
    wins: int = 0
    """Uses in attempts that were right."""
    made_at: int = 0
    """Count of tasks when it was made."""
    used_at: int = 0
    """Count of tasks at its last use."""
    merged_into: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        parts = [self.code, *(f"{each.name}\x1e{each.source}" for each in self.asserts)]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]

    @property
    def spec(self) -> dict[str, Any]:
        return spec_of(self.name, self.code)

    @property
    def arity(self) -> int:
        return len(self.spec["function"]["parameters"]["properties"])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "asserts": [asdict(each) for each in self.asserts], "state": str(self.state)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "MadeTool":
        asserts = tuple(Asserts(**each) for each in row["asserts"])
        return cls(**{**row, "asserts": asserts, "state": ToolState(row["state"])})


def spec_of(name: str, code: str) -> dict[str, Any]:
    """The spec of a function, read off its source; nothing is run.

    Raises `ToolError` where the source is no Python, has no such function, or one without types and a docstring.
    """
    function = _function(name, code)
    if not (described := ast.get_docstring(function)):
        raise ToolError(f"{name} needs a docstring that says what it does")
    arguments = function.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        raise ToolError(f"{name} must take its parameters by name")
    parameters = [*arguments.args, *arguments.kwonlyargs]
    optional = len([*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)])
    required = [p.arg for p in arguments.args[: len(arguments.args) - len(arguments.defaults)]]
    required += [p.arg for p, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is None]
    assert len(required) + optional == len(parameters), "a parameter is required or has a default"
    schema = {
        "type": "object",
        "properties": {parameter.arg: _schema(name, parameter) for parameter in parameters},
        "required": required,
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": described, "parameters": schema}}


def renamed(tool: MadeTool, name: str) -> MadeTool:
    """The same tool under another name; its tests go on to call it by the old one."""

    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            return ast.Name(id=name, ctx=node.ctx) if node.id == tool.name else node

    tree = Rename().visit(_parse(tool.code, "code"))
    next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == tool.name).name = name
    return replace(tool, name=name, code=ast.unparse(ast.fix_missing_locations(tree)))


def top_level_names(code: str) -> set[str]:
    """What code defines at its top: functions, classes and variables; imports may be shared."""
    names: set[str] = set()
    for node in _parse(code, "code").body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def _function(name: str, code: str) -> ast.FunctionDef:
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ToolError(f"{name!r} can't be a function's name")
    for node in _parse(code, "code").body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise ToolError(f"the code defines no function {name}")


def _parse(source: str, what: str) -> ast.Module:
    if len(source) > MAX_CODE:
        raise ToolError(f"the {what} has more than {MAX_CODE} characters")
    try:
        with warnings.catch_warnings(action="ignore"):  # an odd escape in a string is no reason to refuse
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError(f"the {what} is not Python: {str(error)[:200]}") from None
    if _depth(tree) > MAX_DEPTH:
        raise ToolError(f"the {what} is nested too deeply")
    return tree


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _schema(name: str, parameter: ast.arg) -> dict[str, Any]:
    kind = parameter.annotation
    if isinstance(kind, ast.Subscript) and isinstance(kind.slice, ast.Name) and ast.unparse(kind.value) == "list":
        return {"type": "array", "items": _SCHEMAS.get(kind.slice.id, {})}
    if isinstance(kind, ast.Subscript):
        kind = kind.value
    if not isinstance(kind, ast.Name) or kind.id not in _SCHEMAS:
        raise ToolError(f"{name}: parameter {parameter.arg} needs one of the types {', '.join(_SCHEMAS)}")
    return dict(_SCHEMAS[kind.id])


def check_tests(name: str, tests: str, answers: Sequence[Any] = ()) -> None:
    """Raises `ToolError` unless the tests assert something about what the function returns.

    With held-out `answers` there must be an assert for each that compares with it (#22, count ours). An assert is
    counted where it always runs, calls the function, and is not true of everything; whether a function that returns
    nothing would pass too is for `Workshop` to try.
    """
    tree = _parse(tests, "test code")
    if any(isinstance(node, ast.Try) for node in ast.walk(tree)):
        raise ToolError("the tests must not catch errors")
    if any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree)):
        raise ToolError(f"the tests must not define {name} again")
    held = _holders(name, tree)
    good = [node for node in _asserts(tree.body) if _says_something(node.test, name, held)]
    if not good:
        raise ToolError(f"the tests need at least one assert that compares what {name} returns with a value")
    for answer in answers:
        if not any(_same(constant, answer) for node in good for constant in _constants(node.test)):
            raise ToolError(f"no assert compares with the answer {answer!r}")


def _asserts(body: Sequence[ast.stmt]) -> Iterator[ast.Assert]:
    """Those that run whatever happens: at the top, in loops, in functions named `test_...` without parameters."""
    for node in body:
        if isinstance(node, ast.Assert):
            yield node
        elif isinstance(node, ast.For | ast.With) or (
            isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not node.args.args
        ):
            yield from _asserts(node.body)


def _holders(name: str, tree: ast.Module) -> set[str]:
    """Variables that hold what the function returned."""
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and _calls(node.value, name)]
    return {t.id for node in assigned for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name)}


def _calls(node: ast.AST, name: str) -> bool:
    return any(
        isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == name
        for part in ast.walk(node)
    )


def _says_something(test: ast.expr, name: str, held: set[str]) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return all(_says_something(value, name, held) for value in test.values)
    if not _calls(test, name) and not any(isinstance(part, ast.Name) and part.id in held for part in ast.walk(test)):
        return False
    if isinstance(test, ast.Compare):
        sides = [ast.dump(side) for side in (test.left, *test.comparators)]
        return len(set(sides)) == len(sides) and not isinstance(test.ops[0], ast.Is | ast.IsNot)
    return not (isinstance(test, ast.Call) and ast.unparse(test.func) in ("isinstance", "callable", "type"))


def _constants(node: ast.AST) -> Iterator[Any]:
    for part in ast.walk(node):
        if isinstance(part, ast.expr):
            try:
                yield ast.literal_eval(part)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue


def _same(one: Any, other: Any) -> bool:
    """Equal, and of one kind: True is not 1, but 2.0 is 2."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
