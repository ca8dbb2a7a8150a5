"""The curation rules. To add one: a function in a module here, a test, a line in `RULES`."""

from collections.abc import Callable
from typing import Any

from journeyman.curation.base import Rule
from journeyman.curation.rules.agreement import agreement, best
from journeyman.curation.rules.balance import balance, ordered
from journeyman.curation.rules.benefit import tool_benefit, tool_classes
from journeyman.curation.rules.contamination import decontaminate, looked_up
from journeyman.curation.rules.difficulty import difficulty, edge
from journeyman.curation.rules.duplicates import exact, near, unique_ids
from journeyman.curation.rules.shape import (
    calls,
    complete,
    errors,
    format_errors,
    length,
    printable,
    repeated_calls,
    script,
)
from journeyman.curation.rules.verdicts import confident, scored, verified
from journeyman.expressions import Vocabulary, build

RULES: dict[str, Callable[..., Any]] = {
    # a row by itself
    "complete": complete,
    "format": format_errors,
    "errors": errors,
    "verified": verified,
    "scored": scored,
    "confident": confident,
    "length": length,
    "calls": calls,
    "repeated_calls": repeated_calls,
    "printable": printable,
    "script": script,
    # against other rows
    "exact": exact,
    "near": near,
    "unique_ids": unique_ids,
    "agreement": agreement,
    "best": best,
    "balance": balance,
    "ordered": ordered,
    # against what is evaluated on
    "decontaminate": decontaminate,
    "looked_up": looked_up,
    # by a policy's attempts
    "difficulty": difficulty,
    "edge": edge,
    "tool_benefit": tool_benefit,
    "tool_classes": tool_classes,
}
"""Name in pipelines.yaml -> function of rows."""

VOCABULARY = Vocabulary(kind="curation rule", parts=RULES, combinators={}, add=None, multiply=None, constant=None)


def build_rule(expression: str) -> Rule:
    """The rule that an expression of pipelines.yaml stands for: `near(threshold=0.9)`. Raises `ExpressionError`."""
    return build(expression, VOCABULARY)


__all__ = ["RULES", "VOCABULARY", "build_rule"]
