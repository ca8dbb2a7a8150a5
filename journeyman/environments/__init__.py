"""The problem families. To add one: a module here, a test, a line in `ENVIRONMENTS`."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.base import Course, Environment, Generator, Step
from journeyman.environments.gsm8k import Gsm8k
from journeyman.environments.lookup import Lookup
from journeyman.environments.tables import Tables
from journeyman.tools.base import Tool
from journeyman.trajectory import Trajectory

ENVIRONMENTS: dict[str, Callable[[], Environment]] = {
    "arithmetic": Arithmetic,
    "gsm8k": Gsm8k,
    "lookup": Lookup,
    "tables": Tables,
}


@cache
def environment(name: str) -> Environment:
    """The environment of a family, made once in a process. Raises `KeyError` for an unknown one."""
    return ENVIRONMENTS[name]()


def tools_named(family: str, names: Sequence[str], home: Environment | None = None) -> dict[str, Tool]:
    """The tools on offer in a problem: its family's own, and for other names those of the family that has them."""
    own = (home or environment(family)).tools()
    return {name: own[name] if name in own else _tools_of_all()[name] for name in names}


def specs_of(trajectory: Trajectory) -> list[dict[str, Any]]:
    """Specs of the tools that were on offer in an attempt."""
    if trajectory.specs:
        return [dict(spec) for spec in trajectory.specs]
    return [tool.spec() for tool in tools_named(trajectory.family, trajectory.tools).values()]


@lru_cache(maxsize=1)
def _tools_of_all() -> dict[str, Tool]:
    return {name: tool for family in ENVIRONMENTS for name, tool in environment(family).tools().items()}


__all__ = ["ENVIRONMENTS", "Course", "Environment", "Generator", "Step", "environment", "specs_of", "tools_named"]
