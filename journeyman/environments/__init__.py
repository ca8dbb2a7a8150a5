"""The problem families. To add one: a module here, a test, a line in `ENVIRONMENTS`."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.base import Course, Environment, Generator, Step
from journeyman.environments.gsm8k import Gsm8k
from journeyman.environments.lookup import Lookup
from journeyman.environments.tables import Tables
from journeyman.tools.base import Tool

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


def tools_named(family: str, names: Sequence[str]) -> dict[str, Tool]:
    """The tools on offer in a problem: its family's own, and for other names those of the family that has them."""
    own = environment(family).tools()
    return {name: own[name] if name in own else _tools_of_all()[name] for name in names}


@lru_cache(maxsize=1)
def _tools_of_all() -> dict[str, Tool]:
    return {name: tool for family in ENVIRONMENTS for name, tool in environment(family).tools().items()}


__all__ = ["ENVIRONMENTS", "Course", "Environment", "Generator", "Step", "environment", "tools_named"]
