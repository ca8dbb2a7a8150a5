"""Every registered part, as `journeyman catalog` lists it: what it is, its papers, its options, where it is tested."""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, get_args

from pydantic import BaseModel

from journeyman.config import CurriculumConfig, ObjectiveConfig, SynthesizeConfig, TorchSampler, VllmSampler
from journeyman.credit import CREDITS
from journeyman.curation import RULES
from journeyman.curriculum import CURRICULA
from journeyman.environments import ENVIRONMENTS
from journeyman.formats import FORMATS
from journeyman.graders import GRADERS
from journeyman.rewards import REWARDS
from journeyman.rollout.formats import CALL_FORMATS
from journeyman.tools import TOOLS
from journeyman.training.objective import OBJECTIVES

TESTS = Path(__file__).resolve().parents[1] / "tests"
PAPER = re.compile(r"#\d+|arXiv \d{4}\.\d{4,5}")
CONFIG_OPTION = re.compile(r"\bconfig\.(?:synthesize\.)?(\w+)")

SAMPLERS: dict[str, tuple[type[BaseModel], str]] = {
    "torch": (TorchSampler, "journeyman.rollout.torch_sampler:TorchEngine"),
    "vllm": (VllmSampler, "journeyman.rollout.vllm_sampler:VllmEngine"),
}
"""Config and engine; an engine is named by text, for the catalog needs no torch."""
TEACHERS = {"scripted": "journeyman.synthesis.teacher", "annotations": "journeyman.synthesis.annotations"}
"""The module of each teacher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One part."""

    kind: str
    """tool, environment, reward, credit, objective, curriculum, curation rule, grader and so on."""
    name: str
    """What pipelines.yaml calls it."""
    doc: str
    """The first paragraph of its docstring, on one line."""
    papers: tuple[str, ...]
    """`#18` of the project's ledger of papers, or `arXiv 2402.03300`; from the docstring."""
    options: tuple[str, ...]
    """What can be set, with defaults; for a tool, what a call takes."""
    tested: tuple[str, ...]
    """Test files that use it, relative to the project; empty where there are none or no `tests/` folder."""
    module: str
    """Where it is written."""


def catalog(tests: Path = TESTS) -> list[Entry]:
    """All parts, kind by kind, in the order of their registries."""
    return [*_registered(tests), *_samplers(tests), *_teachers(tests)]


class _Named(Protocol):
    """A function or a class."""

    __name__: str
    __module__: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registry:
    kind: str
    name: str
    """The registry's own name, such as REWARDS."""
    parts: Mapping[str, Any]
    options: Callable[[Any], tuple[str, ...]]
    written: Callable[[Any], Any] = lambda part: part
    """The function or class that an entry stands for."""
    about: Callable[[Any], str | None] = inspect.getdoc
    """What it is."""
    own_module: bool = False
    """Whether a part has its module to itself: the papers that the module's docstring names are then its own."""


def _registries() -> list[_Registry]:
    return [
        _Registry(kind="tool", name="TOOLS", parts=TOOLS, options=lambda tool: _parameters(tool.run), own_module=True),
        _Registry(kind="environment", name="ENVIRONMENTS", parts=ENVIRONMENTS, options=_parameters, own_module=True),
        _Registry(kind="reward", name="REWARDS", parts=REWARDS, options=_defaults),
        _Registry(kind="credit", name="CREDITS", parts=CREDITS, options=_defaults),
        _Registry(
            kind="objective",
            name="OBJECTIVES",
            parts=OBJECTIVES,
            options=lambda part: _read_fields(part, ObjectiveConfig),
        ),
        _Registry(kind="curriculum", name="CURRICULA", parts=CURRICULA, options=lambda _: _fields(CurriculumConfig)),
        _Registry(kind="curation rule", name="RULES", parts=RULES, options=_defaults),
        _Registry(kind="grader", name="GRADERS", parts=GRADERS, options=_defaults),
        _Registry(
            kind="call format",
            name="CALL_FORMATS",
            parts=CALL_FORMATS,
            options=lambda _: (),
            written=type,
            about=inspect.getdoc,
        ),
        _Registry(
            kind="data format",
            name="FORMATS",
            parts=FORMATS,
            options=lambda _: (),
            written=lambda part: part.open,
            about=lambda part: part.about,
        ),
    ]


def _registered(tests: Path) -> Iterator[Entry]:
    for registry in _registries():
        for name, part in registry.parts.items():
            named = cast("_Named", registry.written(part))
            yield _entry(
                registry.kind,
                name,
                text=registry.about(part) or "",
                more=(sys.modules[named.__module__].__doc__ or "") if registry.own_module else "",
                options=registry.options(part),
                tested=_tests_of(tests, named.__module__, named.__name__, key=name, registry=registry.name),
                module=named.__module__,
            )


def _samplers(tests: Path) -> Iterator[Entry]:
    for name, (config, engine) in SAMPLERS.items():
        module, _, attribute = engine.partition(":")
        text = inspect.getdoc(config) or ""
        tested = _tests_of(tests, module, attribute)
        yield _entry("sampler", name, text=text, options=_fields(config), tested=tested, module=module)


def _teachers(tests: Path) -> Iterator[Entry]:
    known = get_args(SynthesizeConfig.model_fields["teacher"].annotation)
    assert set(known) == set(TEACHERS), f"{known} in the config, {set(TEACHERS)} in the catalog"
    for name in known:
        module = import_module(TEACHERS[name])
        options = _read_fields(module, SynthesizeConfig)
        tested = _tests_of(tests, module.__name__, "*")
        yield _entry("teacher", name, text=module.__doc__ or "", options=options, tested=tested, module=module.__name__)


def _entry(
    kind: str, name: str, *, text: str, options: tuple[str, ...], tested: tuple[str, ...], module: str, more: str = ""
) -> Entry:
    """`more`: text that names papers of the part, too."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    papers = tuple(dict.fromkeys(PAPER.findall(f"{text} {more}")))
    return Entry(kind=kind, name=name, doc=paragraph, papers=papers, options=options, tested=tested, module=module)


def _parameters(function: Callable) -> tuple[str, ...]:
    """`query: str`, `results: int = 1`, ... without what the model is not shown."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(_without_quotes(parameter) for parameter in parameters if parameter.name not in ("self", "context"))


def _defaults(function: Callable) -> tuple[str, ...]:
    """The parameters that have defaults: the others are what every such part is given."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(_without_quotes(p) for p in parameters if p.default is not inspect.Parameter.empty)


def _without_quotes(parameter: inspect.Parameter) -> str:
    return str(parameter).replace("'", "")


def _fields(config: type[BaseModel], but: Sequence[str] = ("type",)) -> tuple[str, ...]:
    fields = config.model_fields.items()
    return tuple(f"{name} = {field.default}" for name, field in fields if name not in but)


def _read_fields(part: Any, config: type[BaseModel]) -> tuple[str, ...]:
    """Those fields of a config that a part's source reads."""
    read = set(CONFIG_OPTION.findall(inspect.getsource(part)))
    return tuple(option for option in _fields(config, but=("type", "teacher")) if option.split(" = ")[0] in read)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TestFile:
    """What a test file speaks of."""

    path: str
    imports: frozenset[tuple[str, str]]
    """(module, name) of `from module import name`."""
    words: frozenset[str]
    """Its string constants."""
    names: frozenset[str]
    """The registries and other names it reads."""
    loops: frozenset[str]
    """Names whose members it goes through: in a loop, or as a test's parameters."""


def _tests_of(tests: Path, module: str, name: str, *, key: str = "", registry: str = "") -> tuple[str, ...]:
    """The test files that import a part, or take it from its registry by name, or go through the registry."""
    package = module.rpartition(".")[0]
    wanted = {(module, name), (package, name)}
    found = []
    for file in _test_files(tests):
        imported = bool(file.imports & wanted)
        of_module = name == "*" and any(origin == module for origin, _ in file.imports)
        taken = registry in file.names and (key in file.words or registry in file.loops)
        if imported or of_module or taken:
            found.append(file.path)
    return tuple(found)


@cache
def _test_files(tests: Path) -> Sequence[_TestFile]:
    return [_read(path, tests.parent) for path in sorted(tests.rglob("test_*.py"))] if tests.is_dir() else []


def _read(path: Path, root: Path) -> _TestFile:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imports = {(n.module or "", alias.name) for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    return _TestFile(
        path=str(path.relative_to(root)),
        imports=frozenset(imports),
        words=frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)),
        names=frozenset(n.id for n in nodes if isinstance(n, ast.Name)),
        loops=frozenset(name for node in nodes for name in _gone_through(node)),
    )


def _gone_through(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.For | ast.comprehension):
        over = [node.iter]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parametrize":
        over = node.args[1:]
    else:
        return
    yield from (inner.id for tree in over for inner in ast.walk(tree) if isinstance(inner, ast.Name))
