"""Every registered part, as `journeyman catalog` lists it: what it is, its papers, its options, where it is tested."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Protocol, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from journeyman import credit, rewards
from journeyman.catalog.tested import test_of, tests_of
from journeyman.config import (
    CurriculumConfig,
    MonitorsConfig,
    ObjectiveConfig,
    TeacherConfig,
    TorchSampler,
    VllmSampler,
)
from journeyman.config.evaluate import BeamConfig, RefinementConfig
from journeyman.config.monitors import LEVELS
from journeyman.config.proposals import ProposalsConfig
from journeyman.config.rollout import RolloutConfig
from journeyman.config.shape import arms
from journeyman.curation import VOCABULARY as CURATION_VOCABULARY
from journeyman.curriculum import CURRICULA
from journeyman.environments import ENVIRONMENTS
from journeyman.evaluation.benchmarks import BENCHMARKS
from journeyman.evaluation.inference import INFERENCE
from journeyman.evaluation.judging.measures import JUDGE_MEASURES
from journeyman.evaluation.robustness import ROBUSTNESS
from journeyman.evaluation.tool_use import TOOL_MEASURES
from journeyman.expressions import Vocabulary, needs_of, options_of
from journeyman.formats import FORMATS
from journeyman.graders import GRADERS
from journeyman.monitors import MONITORS
from journeyman.replay import PARTS as REPLAY_PARTS
from journeyman.rollout.formats import CALL_FORMATS
from journeyman.synthesis.strategies import VOCABULARY as STRATEGY_VOCABULARY
from journeyman.synthesis.strategies import WRITES
from journeyman.tools import TOOLS
from journeyman.training.merging import MERGES
from journeyman.training.objectives import OBJECTIVES
from journeyman.training.proposing import PROPOSALS

TESTS = Path(__file__).resolve().parents[2] / "tests"
PAPER = re.compile(r"#\d+|arXiv \d{4}\.\d{4,5}")
STATUS = re.compile(r"(#\d+|arXiv \d{4}\.\d{4,5}),? (verified|secondary|derived)")
"""How surely what a part does is known to be what its source says: `#18, verified`."""
BIAS = re.compile(r"\bBias: (.*?)(?:\n\n|$)", re.DOTALL)

SAMPLERS: dict[str, tuple[type[BaseModel], str]] = {
    "torch": (TorchSampler, "journeyman.rollout.torch_sampler:TorchEngine"),
    "vllm": (VllmSampler, "journeyman.rollout.vllm_sampler:VllmEngine"),
}
"""Config and engine; an engine is named by text, for the catalog needs no torch."""
TEACHERS = {
    "scripted": "journeyman.synthesis.scripted:ScriptedTeacher",
    "annotations": "journeyman.synthesis.scripted:annotations_teacher",
    "endpoint": "journeyman.synthesis.teachers:ChatTeacher",
    "model": "journeyman.synthesis.teachers:PoolTeacher",
    "policy": "journeyman.synthesis.teachers:PoolTeacher",
}
"""What plays each teacher of the config."""
ROLLOUTS = {
    "independent": "journeyman.rollout.loop:Agent",
    "tree": "journeyman.rollout.tree:grow",
    "search": "journeyman.rollout.search:frontier_search",
    "value_search": "journeyman.rollout.search:value_search",
}
"""What makes the attempts of each rollout of the config."""
MADE = {"beam": BeamConfig, "refinement": RefinementConfig}
"""Options of the strategies of inference that make attempts."""


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
    source: Mapping[str, str]
    """Paper -> `verified` (read in the authors' own code), `secondary` (in others' accounts) or `derived` (from the
    abstract and general knowledge)."""
    bias: str
    """Of a credit: whether its gradient is unbiased, and under what condition."""
    options: tuple[str, ...]
    """What can be set, with defaults; for a tool, what a call takes."""
    needs: tuple[str, ...]
    """What the pipeline has to supply."""
    test: str
    """Node id of a test that works it out; empty where there is none."""
    tested: tuple[str, ...]
    """Test files that use it, relative to the project; empty where there are none or no `tests/` folder."""
    module: str
    """Where it is written."""


def catalog(tests: Path = TESTS) -> list[Entry]:
    """All parts, kind by kind, in the order of their registries."""
    chosen = [("teacher", TeacherConfig, TEACHERS), ("rollout", RolloutConfig, ROLLOUTS)]
    return [*_registered(tests), *_samplers(tests), *(one for kind in chosen for one in _chosen(tests, *kind))]


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
    needs: Callable[[Any], tuple[str, ...]] = lambda part: ()
    own_module: bool = False
    """Whether a part has its module to itself: the papers that the module's docstring names are then its own."""


def _registries() -> list[_Registry]:
    return [
        _Registry(kind="tool", name="TOOLS", parts=TOOLS, options=lambda tool: _parameters(tool.run), own_module=True),
        _Registry(kind="environment", name="ENVIRONMENTS", parts=ENVIRONMENTS, options=_parameters, own_module=True),
        *_of_vocabulary(rewards.VOCABULARY, "REWARDS"),
        *_of_vocabulary(credit.VOCABULARY, "CREDITS"),
        _Registry(
            kind="objective",
            name="OBJECTIVES",
            parts=OBJECTIVES,
            options=lambda part: _fields(arms(ObjectiveConfig)[part.__name__]),
        ),
        _Registry(
            kind="curriculum",
            name="CURRICULA",
            parts=CURRICULA,
            options=lambda part: _fields(arms(CurriculumConfig)[part.__name__.lower()]),
        ),
        _Registry(
            kind="proposal",
            name="PROPOSALS",
            parts=PROPOSALS,
            options=lambda part: _fields(arms(ProposalsConfig)[part.__name__.lower()]),
        ),
        _Registry(
            kind="monitor",
            name="MONITORS",
            parts=MONITORS,
            options=lambda part: _thresholds(MonitorsConfig.model_fields[part.__name__]),
        ),
        _Registry(kind="replay", name="PARTS", parts=REPLAY_PARTS, options=lambda _: ()),
        *_of_vocabulary(CURATION_VOCABULARY, "RULES"),
        *_of_vocabulary(STRATEGY_VOCABULARY, "STRATEGIES", lambda part: ("writer",) if part.__name__ in WRITES else ()),
        _Registry(kind="merge", name="MERGES", parts=MERGES, options=_defaults),
        _Registry(kind="benchmark", name="BENCHMARKS", parts=BENCHMARKS, options=_defaults),
        _Registry(kind="judge measure", name="JUDGE_MEASURES", parts=JUDGE_MEASURES, options=_defaults),
        _Registry(kind="measure", name="TOOL_MEASURES", parts=TOOL_MEASURES, options=lambda _: ()),
        _Registry(kind="measure", name="ROBUSTNESS", parts=ROBUSTNESS, options=lambda _: ()),
        _Registry(
            kind="inference",
            name="INFERENCE",
            parts=INFERENCE,
            options=lambda part: _fields(arm) if (arm := MADE.get(part.__name__)) else (),
        ),
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


def _of_vocabulary(
    words: Vocabulary, name: str, more: Callable[[Any], tuple[str, ...]] = lambda part: ()
) -> Iterator[_Registry]:
    """The parts of expressions, and what combines them; `more`: what they need that is no parameter."""

    def options(part: Any) -> tuple[str, ...]:
        return tuple(_bounded(option) for option in options_of(part, words).values())

    def needed(part: Any) -> tuple[str, ...]:
        return (*needs_of(part, words), *more(part))

    signs = {sign: part for sign, part in (("+", words.add), ("*", words.multiply)) if part}
    combinators = {**signs, **words.combinators}
    yield _Registry(kind=words.kind, name=name, parts=words.parts, options=options, needs=needed)
    yield _Registry(
        kind=f"{words.kind} combinator", name="COMBINATORS", parts=combinators, options=options, needs=needed
    )


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
                needs=registry.needs(part),
                test=test_of(tests, named.__module__, named.__name__, key=name),
                tested=tests_of(tests, named.__module__, named.__name__, key=name, registry=registry.name),
                module=named.__module__,
            )


def _samplers(tests: Path) -> Iterator[Entry]:
    for name, (config, engine) in SAMPLERS.items():
        module, _, attribute = engine.partition(":")
        text = inspect.getdoc(config) or ""
        tested = tests_of(tests, module, attribute)
        yield _entry("sampler", name, text=text, options=_fields(config), tested=tested, module=module)


def _chosen(tests: Path, kind: str, union: Any, played: Mapping[str, str]) -> Iterator[Entry]:
    """What the config tells apart by `type`, with what plays it."""
    known = arms(union)
    assert set(known) == set(played), f"{set(known)} in the config, {set(played)} in the catalog"
    for name, config in known.items():
        module, _, attribute = played[name].partition(":")
        text = inspect.getdoc(config) or ""
        yield _entry(
            kind,
            name,
            text=text,
            options=_fields(config),
            test=test_of(tests, module, attribute, key=name),
            tested=tests_of(tests, module, attribute),
            module=module,
        )


def _entry(kind: str, name: str, *, text: str, more: str = "", **fields: Any) -> Entry:
    """`more`: text that names papers of the part, too."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    whole = " ".join(f"{text} {more}".split())
    bias = BIAS.search(text)
    return Entry(
        kind=kind,
        name=name,
        doc=paragraph,
        papers=tuple(dict.fromkeys(PAPER.findall(whole))),
        source=dict(STATUS.findall(whole)),
        bias=" ".join(bias[1].split()) if bias else "",
        **{"needs": (), "test": "", **fields},
    )


def _parameters(function: Callable) -> tuple[str, ...]:
    """`query: str`, `results: int = 1`, ... without what the model is not shown."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(_without_quotes(parameter) for parameter in parameters if parameter.name not in ("self", "context"))


def _defaults(function: Callable) -> tuple[str, ...]:
    """The parameters that have defaults: the others are what every such part is given."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(_without_quotes(p) for p in parameters if p.default is not inspect.Parameter.empty)


def _bounded(parameter: inspect.Parameter) -> str:
    """`share: float = 0.2 (0 to 1)`: what pydantic checks stands behind."""
    annotation, bounds = _plain_type(parameter.annotation)
    return _without_quotes(parameter.replace(annotation=annotation)) + bounds


def _plain_type(annotation: Any) -> tuple[Any, str]:
    """A type without pydantic's marks, and the bounds that they set; also of one that may be None."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return inner, _bounds([bound for mark in marks for bound in getattr(mark, "metadata", ())])
    if get_origin(annotation) in (Union, UnionType) and type(None) in get_args(annotation):
        [first, *rest] = [_plain_type(one) for one in get_args(annotation) if one is not type(None)]
        return (annotation, "") if rest else (first[0] | None, first[1])
    return annotation, ""


def _bounds(found: Sequence[Any]) -> str:
    known = {name: getattr(bound, name) for bound in found for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)}
    if "ge" in known and "le" in known:
        return f" ({known['ge']} to {known['le']})"
    words = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
    return f" ({', '.join(f'{words[name]} {value}' for name, value in known.items())})" if known else ""


def _without_quotes(parameter: inspect.Parameter) -> str:
    return str(parameter).replace("'", "")


def _fields(config: type[BaseModel], but: Sequence[str] = ("type",)) -> tuple[str, ...]:
    fields = config.model_fields.items()
    return tuple(f"{name} = {_default(field)}" for name, field in fields if name not in but)


def _thresholds(field: FieldInfo) -> tuple[str, ...]:
    """`warn = 0.5 (highest)`: what is set, and to which side it is fine; `off (highest)` where nothing is."""
    side = type(field.default).__name__.lower()
    found = [f"{name} = {value} ({side})" for name, value in field.default if name in LEVELS and value is not None]
    return tuple(found) or (f"off ({side})",)


def _default(field: FieldInfo) -> str:
    """As pipelines.yaml would have it; of a block of several types its own type, and the others."""
    default, kinds = field.get_default(call_default_factory=True, validated_data={}), list(arms(field.annotation))
    if not kinds:
        return "needed" if field.is_required() else str(default)
    own = str(vars(default)["type"]) if isinstance(default, BaseModel) else str(default)
    return " | ".join([own, *(kind for kind in kinds if kind != own)])
