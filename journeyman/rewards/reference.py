"""What is known of a right attempt: its calls, what they give, and what the tools on offer take."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from journeyman.environments.solve_score import Goal
from journeyman.graders.calls import tool_schemas
from journeyman.messages import ToolCall
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory


def reference_calls(problem: Problem | None) -> tuple[ToolCall, ...] | None:
    """The calls of a right attempt in order; empty: no call is right; None: nobody knows.

    data["reference_calls"], [{"name", "arguments"}], where the problem has them, else those of its family's gold
    course: of calls that BFCL accepts with several values the first ones.
    """
    if problem is None:
        return None
    if (given := problem.data.get("reference_calls")) is not None:
        return tuple(ToolCall(name=call["name"], arguments=call["arguments"]) for call in given)
    return _course_calls(problem)


def _course_calls(problem: Problem) -> tuple[ToolCall, ...] | None:
    from journeyman.environments import environment_of

    try:
        courses = environment_of(problem).courses(problem)
    except KeyError:  # not a problem as its family makes them
        return None
    if not courses:
        return None
    calls = tuple(step.call for step in courses[0].steps if step.call is not None)
    return calls if calls or not problem.min_calls else None


def reference_goals(problem: Problem | None) -> tuple[Goal, ...] | None:
    """The sub-answers of a problem with the tools that give them; None: nobody knows.

    data["goals"], [{"tool", "answer"}], as built worlds have them, else the reference calls beside
    data["reference_outputs"], a text each. A gold course is not walked for them.
    """
    if problem is None:
        return None
    if (goals := problem.data.get("goals")) is not None:
        if any("answer" not in goal for goal in goals):
            return None
        return tuple(Goal(tool=goal["tool"], answer=goal["answer"]) for goal in goals)
    outputs, calls = problem.data.get("reference_outputs"), reference_calls(problem)
    if outputs is None or calls is None:
        return None
    return tuple(Goal(tool=call.name, answer=str(output)) for call, output in zip(calls, outputs, strict=True))


def schemas_of(trajectory: Trajectory) -> Mapping[str, Mapping[str, Any]]:
    """Tool on offer -> JSON Schema of its parameters."""
    if trajectory.specs:
        return tool_schemas([dict(spec) for spec in trajectory.specs])
    return _family_schemas(trajectory.family, trajectory.tools)


@lru_cache(maxsize=256)
def _family_schemas(family: str, tools: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    from journeyman.environments import tools_named

    return tool_schemas([tool.spec() for tool in tools_named(family, tools).values()])
