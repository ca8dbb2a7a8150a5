"""Where a part is tested: found in the syntax of the test files."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Imported = frozenset[tuple[str, str]]
"""(module, name) of `from module import name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFile:
    """What a test file speaks of."""

    path: str
    imports: Imported
    words: frozenset[str]
    """Its string constants."""
    names: frozenset[str]
    """The registries and other names it reads."""
    loops: frozenset[str]
    """Names whose members it goes through: in a loop, or as a test's parameters."""
    tests: Mapping[str, frozenset[str]]
    """Test function -> the names that it reads, itself and through the file's own helpers."""


def tests_of(tests: Path, module: str, name: str, *, key: str = "", registry: str = "") -> tuple[str, ...]:
    """The test files that import a part, or take it from its registry by name, or go through the registry."""
    found = []
    for file in test_files(tests):
        imported = bool(_known_as(file, module, name))
        of_module = name == "*" and any(origin == module for origin, _ in file.imports)
        taken = registry in file.names and (key in file.words or registry in file.loops)
        if imported or of_module or taken:
            found.append(file.path)
    return tuple(found)


def test_of(tests: Path, module: str, name: str, *, key: str) -> str:
    """The node id of the test that works a part out by hand, else of the first that uses it; empty: none does."""
    found = [
        (f"test_{key}_by_hand" not in test, "by_hand" not in test, f"{file.path}::{test}")
        for file in test_files(tests)
        if _known_as(file, module, name)
        for test, names in file.tests.items()
        if name in names
    ]
    return min(found)[2] if found else ""


def _known_as(file: TestFile, module: str, name: str) -> bool:
    return bool(file.imports & {(module, name), (module.rpartition(".")[0], name)})


@cache
def test_files(tests: Path) -> Sequence[TestFile]:
    return [_read(path, tests.parent) for path in sorted(tests.rglob("test_*.py"))] if tests.is_dir() else []


def _read(path: Path, root: Path) -> TestFile:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    walked = [(statement, list(ast.walk(statement))) for statement in tree.body]
    nodes = [node for _, inner in walked for node in inner]
    imports = {(n.module or "", alias.name) for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    functions = {n.name: _names(inner) for n, inner in walked if isinstance(n, ast.FunctionDef)}
    return TestFile(
        path=str(path.relative_to(root)),
        imports=frozenset(imports),
        words=frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)),
        names=_names(nodes),
        loops=frozenset(name for node in nodes for name in _gone_through(node)),
        tests={name: _read_by(name, functions) for name in functions if name.startswith("test_")},
    )


def _names(nodes: Iterable[ast.AST]) -> frozenset[str]:
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name))


def _read_by(test: str, functions: Mapping[str, frozenset[str]]) -> frozenset[str]:
    read, waiting = set[str](), [test]
    while waiting:
        names = functions[waiting.pop()] - read
        read |= names
        waiting += [name for name in names if name in functions]
    return frozenset(read)


def _gone_through(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.For | ast.comprehension):
        over = [node.iter]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parametrize":
        over = node.args[1:]
    else:
        return
    yield from (inner.id for tree in over for inner in ast.walk(tree) if isinstance(inner, ast.Name))
