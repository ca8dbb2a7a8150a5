"""The strategies of synthesis. To add one: an async function in a module here, a test, a line in `STRATEGIES`."""

from collections.abc import Callable
from typing import Any

from journeyman.expressions import Vocabulary, build
from journeyman.synthesis.base import Strategy
from journeyman.synthesis.strategies.attempts import plain, rejection
from journeyman.synthesis.strategies.augmented import code_augmented
from journeyman.synthesis.strategies.constraints import constrained
from journeyman.synthesis.strategies.experience import early_experience
from journeyman.synthesis.strategies.gains import gain_driven
from journeyman.synthesis.strategies.hints import hinted, tool_prompted
from journeyman.synthesis.strategies.masked import masked_spans
from journeyman.synthesis.strategies.normal import normalized, without_error_spans
from journeyman.synthesis.strategies.plans import hierarchical_plan, plan_search
from journeyman.synthesis.strategies.privileged import privileged
from journeyman.synthesis.strategies.remapped import remap_reflect_adjust
from journeyman.synthesis.strategies.repairs import repaired
from journeyman.synthesis.strategies.retries import guided_retry
from journeyman.synthesis.strategies.rewrites import rewritten
from journeyman.synthesis.strategies.schemas import from_schemas
from journeyman.synthesis.strategies.signals import signals
from journeyman.synthesis.strategies.thoughts import corrected_thoughts
from journeyman.synthesis.strategies.trees import tree_search

STRATEGIES: dict[str, Callable[..., Any]] = {
    # attempts
    "plain": plain,
    "rejection": rejection,
    # hints, retries, searches
    "tool_prompted": tool_prompted,
    "hinted": hinted,
    "gain_driven": gain_driven,
    "guided_retry": guided_retry,
    "tree_search": tree_search,
    "plan_search": plan_search,
    "hierarchical_plan": hierarchical_plan,
    "privileged": privileged,
    # rewrites
    "code_augmented": code_augmented,
    "corrected_thoughts": corrected_thoughts,
    "rewritten": rewritten,
    "remap_reflect_adjust": remap_reflect_adjust,
    # problems of its own
    "constrained": constrained,
    "from_schemas": from_schemas,
    "masked_spans": masked_spans,
    # samples for sft
    "early_experience": early_experience,
    "signals": signals,
    # normalisation
    "normalized": normalized,
    "without_error_spans": without_error_spans,
    "repaired": repaired,
}
"""Name in pipelines.yaml -> async function of a lesson and a studio."""

WRITES: frozenset[str] = frozenset(
    {"code_augmented", "corrected_thoughts", "guided_retry", "hierarchical_plan", "remap_reflect_adjust", "rewritten"}
)
"""Those that can't do without `studio.writer`: refused at load where nothing writes."""

WRITES_WITH: dict[str, tuple[str, Any]] = {
    "constrained": ("reword", True),
    "early_experience": ("reflection", True),
    "from_schemas": ("writer", True),
    "masked_spans": ("choose", "writer"),
    "plan_search": ("ask", True),
    "tree_search": ("value", "writer"),
}
"""Those that need it under one of their options: the option, and the value under which they do."""

VOCABULARY = Vocabulary(
    kind="strategy", parts=STRATEGIES, combinators={}, add=None, multiply=None, constant=None, needs={}
)


def build_strategy(expression: str) -> Strategy:
    """The strategy that an expression of pipelines.yaml stands for: `rejection(tries=4)`. Raises `ExpressionError`."""
    return build(expression, VOCABULARY)


__all__ = ["STRATEGIES", "VOCABULARY", "WRITES", "WRITES_WITH", "build_strategy"]
