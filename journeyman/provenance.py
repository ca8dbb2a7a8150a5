"""What an artifact's key is made of besides the config: the sources that a stage runs, the files that it reads."""

import ast
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from journeyman.artifacts import digest_of_file

PACKAGE = "journeyman"
BESIDE_THE_RESULT = ("config", "errors", "progress", "metrics", "artifacts", "runs", "provenance", "tracking")
"""Modules that no stage's output depends on: the values of the config are in the key themselves."""


@cache
def code_version(*modules: str) -> str:
    """Digest of the code of these modules and of all of ours that they import; layout and comments don't count."""
    digests = sorted((name, _module(name).digest) for name in sources(*modules))
    return hashlib.sha256(repr(digests).encode()).hexdigest()[:16]


def sources(*modules: str) -> dict[str, Path]:
    """These modules and all of ours that they import, however deep and however late, that outputs depend on.

    A package that is imported counts whole, for its registry may name any of its modules.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name.split(".")[1] in BESIDE_THE_RESULT:
            continue
        path = found[name] = _module(name).path
        waiting += _module(name).imports
        if path.name == "__init__.py":
            waiting += [f"{name}.{module.stem}" for module in path.parent.glob("*.py") if module != path]
    return found


def syntax_digest(source: bytes) -> str:
    return _tree_digest(ast.parse(source))


def _tree_digest(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    path: Path
    digest: str
    imports: tuple[str, ...]


@cache
def _module(name: str) -> _Module:
    """Read once in a process, however many stages run it."""
    path = _source(name)
    tree = ast.parse(path.read_bytes())
    return _Module(path=path, digest=_tree_digest(tree), imports=tuple(_imported(tree)))


def content_digest(path: Path) -> str:
    """Digest of a file, or of a folder's files with their names."""
    if path.is_file():
        return digest_of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = [(str(file.relative_to(path)), digest_of_file(file)) for file in files]
    return hashlib.sha256(repr(names).encode()).hexdigest()


def git_commit() -> str:
    """The commit of the sources, `-dirty` where they differ from it; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _source(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} has no source"
    return Path(spec.origin)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names of our modules that a module imports, at its head or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [node.module, *(name for name in inner if _is_module(name))]
        else:
            continue
        yield from (name for name in names if name.startswith(f"{PACKAGE}."))


def _is_module(name: str) -> bool:
    if not name.startswith(f"{PACKAGE}."):
        return False
    parent, _, leaf = name.rpartition(".")
    source = _source(parent)
    return source.name == "__init__.py" and any((source.parent / end).exists() for end in (f"{leaf}.py", leaf))
