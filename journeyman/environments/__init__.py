"""The problem families. To add one: a module here, a test, a line in `ENVIRONMENTS`."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from journeyman.environments.ambiguous import Ambiguous
from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.base import Course, Environment, Generator, Step
from journeyman.environments.built import Built
from journeyman.environments.calls import Calls
from journeyman.environments.code import Code
from journeyman.environments.compressed import Compressed
from journeyman.environments.databases import Databases
from journeyman.environments.fictional import Fictional
from journeyman.environments.folding import Folding
from journeyman.environments.gateway import Conversions
from journeyman.environments.gsm8k import Gsm8k
from journeyman.environments.gymnasium import Gymnasium
from journeyman.environments.lookup import Lookup
from journeyman.environments.maths import Maths
from journeyman.environments.mcp import Mcp
from journeyman.environments.multihop import MultiHop
from journeyman.environments.noise import Noisy
from journeyman.environments.openenv import OpenEnv
from journeyman.environments.pictures import Pictures
from journeyman.environments.reasoning_gym import ReasoningGym
from journeyman.environments.recommend import Recommend
from journeyman.environments.recurring import Recurring
from journeyman.environments.renamed import Renamed
from journeyman.environments.selftext import Masking, MaskSearch, Ordering, Segments
from journeyman.environments.skills import Skills
from journeyman.environments.tables import Tables
from journeyman.environments.tau2.desk import Desk
from journeyman.environments.tool_choice import ToolChoice
from journeyman.environments.translation import Translation
from journeyman.environments.verifiers import Verifiers
from journeyman.errors import ConfigError, UserError
from journeyman.problem import Problem
from journeyman.tools.base import Tool
from journeyman.trajectory import Trajectory

ENVIRONMENTS: dict[str, Callable[[], Environment]] = {
    "arithmetic": Arithmetic,
    "lookup": Lookup,
    "tables": Tables,
    "gsm8k": Gsm8k,
    "maths": Maths,
    "calls": Calls,
    "pictures": Pictures,
    "code": Code,
    "databases": Databases,
    "translation": Translation,
    "tool_choice": ToolChoice,
    "mcp": Mcp,
    "desk": Desk,
    "ambiguous": Ambiguous,
    "toolbox": Conversions,
    "built": Built,
    "fictional": Fictional,
    "multihop": MultiHop,
    "ordering": Ordering,
    "masking": Masking,
    "segments": Segments,
    "masksearch": MaskSearch,
    "recommend": Recommend,
    "skills": Skills,
    "noisy": Noisy,
    "renamed": Renamed,
    "openenv": OpenEnv,
    "folding": Folding,
    "compressed": Compressed,
    "recurring": Recurring,
    "reasoning-gym": ReasoningGym,
    "gymnasium": Gymnasium,
    "verifiers": Verifiers,
}


@cache
def environment(name: str, options: str = "") -> Environment:
    """The environment of a family, made once in a process; `options` are its class's keyword arguments as JSON.

    Raises `KeyError` for an unknown family and `ConfigError` for options that it doesn't take.
    """
    make: Callable[..., Environment] = ENVIRONMENTS[name]
    try:
        return make(**json.loads(options or "{}"))
    except TypeError as error:
        raise ConfigError(
            f"the family does not take these options: {error}",
            place=f"problems.worlds.{name}",
            remedy=f"it takes {', '.join(inspect.signature(make).parameters) or 'none'}",
        ) from error


def environment_with(name: str, worlds: Mapping[str, Mapping[str, Any]]) -> Environment:
    """The environment of a family with its options, those that stand under its name."""
    options = worlds.get(name)
    return environment(name, json.dumps(dict(options), sort_keys=True)) if options else environment(name)


def environment_of(problem: Problem) -> Environment:
    """The environment that a problem lives in."""
    return environment_with(problem.family, {problem.family: problem.world})


def tools_named(family: str, names: Sequence[str], home: Environment | None = None) -> dict[str, Tool]:
    """The tools on offer in a problem: its family's own, and for other names those of the first family that has them."""
    own = (home or environment(family)).tools()
    return {name: own[name] if name in own else tool_of_any(name) for name in names}


@cache
def tool_of_any(name: str) -> Tool:
    """The tool of that name of the first family that has one. Raises `KeyError`."""
    for family in ENVIRONMENTS:
        try:
            found = environment(family).tools().get(name)
        except UserError:  # it needs a package or a server that isn't there
            continue
        if found is not None:
            return found
    raise KeyError(name)


def specs_of(trajectory: Trajectory) -> list[dict[str, Any]]:
    """Specs of the tools that were on offer in an attempt."""
    if trajectory.specs:
        return [dict(spec) for spec in trajectory.specs]
    return [tool.spec() for tool in tools_named(trajectory.family, trajectory.tools).values()]


__all__ = [
    "ENVIRONMENTS",
    "Course",
    "Environment",
    "Generator",
    "Step",
    "environment",
    "environment_of",
    "environment_with",
    "specs_of",
    "tool_of_any",
    "tools_named",
]
