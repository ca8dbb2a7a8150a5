"""What every grader gives: a verdict with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class GradeError(ValueError):
    """The item can't be graded: its reference, its tools or its form are wrong. A wrong prediction is a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """A verdict."""

    id: str | int
    """As the item gave it."""
    correct: bool
    reason: str
    """Why, in a few words."""


def identity(item: Mapping[str, Any]) -> str | int:
    """The item's id. Raises `GradeError`."""
    if not isinstance(item, Mapping):
        raise GradeError("not an object")
    name = item.get("id")
    if "id" not in item:
        raise GradeError("no key 'id'")
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise GradeError("the id is neither a text nor a whole number")
    return name
