"""From a worked course to a trajectory: the calls are really run."""

from collections.abc import Mapping
from typing import Any

from journeyman.environments import environment_of
from journeyman.environments.base import Course, Step, walked
from journeyman.environments.episode import Reaction
from journeyman.problem import Problem
from journeyman.rollout.parse import render_call
from journeyman.seeds import derive
from journeyman.trajectory import StopReason, Trajectory, Turn


async def play(problem: Problem, course: Course, *, source: str, provenance: Mapping[str, Any]) -> Trajectory:
    """Take the course in the real world; the verdict is recorded but decides nothing."""
    walk = await walked(environment_of(problem), problem, course)
    turns = [_turn(step, reaction) for step, reaction in zip(course.steps, walk.reactions, strict=False)]
    answers = [step.answer for step in course.steps if step.answer is not None]
    if walk.answer is not None:
        turns.append(Turn(text=f"<answer>{walk.answer}</answer>"))
    return Trajectory.at(
        problem,
        id=f"{derive(problem.id, source, repr(course), *answers):016x}",
        opening=walk.opening,
        specs=walk.specs,
        turns=tuple(turns),
        stop_reason=StopReason.DONE if walk.answer is None else StopReason.ANSWER,
        answer=walk.answer,
        source=source,
        correct=walk.verdict.correct,
        score=walk.verdict.score,
        score_parts=dict(walk.verdict.parts),
        provenance=dict(provenance),
    )


def written_step(step: Step) -> str:
    """A step as the text of a turn, in the default format."""
    called = render_call(step.call) if step.call else ""
    answered = f"<answer>{step.answer}</answer>" if step.answer is not None else ""
    asked = "\n".join(part for part in (step.say, called, answered) if part)
    return f"<think>{step.thought}</think>\n{asked}"


def _turn(step: Step, reaction: Reaction) -> Turn:
    return Turn(
        text=written_step(step),
        calls=(step.call,) if step.call else (),
        results=reaction.results,
        reply=reaction.reply.content if reaction.reply else "",
        reward=reaction.reward,
        restart=reaction.restart or (),
    )
