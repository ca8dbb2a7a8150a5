"""From a worked course to a trajectory: the calls are really run."""

from collections.abc import Mapping
from typing import Any

from journeyman.environments import environment, tools_named
from journeyman.environments.base import Course, Step
from journeyman.problem import Problem
from journeyman.rollout.parse import render_call
from journeyman.seeds import derive
from journeyman.trajectory import StopReason, ToolResult, Trajectory, Turn


async def play(problem: Problem, course: Course, *, source: str, provenance: Mapping[str, Any]) -> Trajectory:
    """Walk the course with the real tools; the verdict is recorded but decides nothing."""
    tools = tools_named(problem.family, problem.tools)
    turns, observation = [], ""
    for step in course.steps:
        result = await tools[step.call.name].call(step.call.arguments)
        turns.append(_call_turn(step, result))
        observation = result.output
    answer = observation if course.answer is None else course.answer
    turns.append(Turn(text=f"<answer>{answer}</answer>"))
    return Trajectory.at(
        problem,
        id=f"{derive(problem.id, source, repr(course)):016x}",
        turns=tuple(turns),
        stop_reason=StopReason.ANSWER,
        answer=answer,
        source=source,
        correct=environment(problem.family).verify(problem, answer),
        provenance=dict(provenance),
    )


def _call_turn(step: Step, result: ToolResult) -> Turn:
    text = f"<think>{step.thought}</think>\n{render_call(step.call)}"
    return Turn(text=text, calls=(step.call,), results=(result,))
