"""The scripted teacher: imperfect and unverified, as real logs are.

It knows every family's gold course and its typical mistakes. A share of its work contains one mistake, a share of the
rest repeats calls needlessly, and a few rows are broken as rows of logs are: a format slip, a tool error, a duplicate.
That both the right and the wrong course are in the demonstrations is what leaves RL a decision to settle.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from journeyman.config import SynthesizeConfig
from journeyman.environments import environment_of
from journeyman.environments.base import Course
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.synthesis.courses import play
from journeyman.trajectory import ToolCall, Trajectory, Turn

SOURCE = "scripted"
SLIPS = ("format", "tool error", "duplicate", "leak")


async def demonstrate(
    problem: Problem, config: SynthesizeConfig, *, seed: int, leaked: Sequence[Problem]
) -> list[Trajectory]:
    """One problem's rows of the log: usually one trajectory. `leaked` are problems that must not be learned from."""
    rng = random.Random(derive(seed, "teacher", problem.id))
    slip = rng.choice(SLIPS) if rng.random() < config.broken else ""
    if slip == "leak" and leaked:
        problem = rng.choice(leaked)
    course = _choose(problem, config, rng)
    if slip == "tool error":
        course = _with_tool_error(course)
    made = await play(
        problem, course, source=SOURCE, provenance={"mistake": course.mistake, "slip": slip, "seed": seed}
    )
    if slip == "format":
        return [replace(made, turns=(_without_tag(made.turns[0], rng), *made.turns[1:]))]
    return [made, replace(made, id=made.id[::-1])] if slip == "duplicate" else [made]


def _choose(problem: Problem, config: SynthesizeConfig, rng: random.Random) -> Course:
    gold, *mistaken = environment_of(problem).courses(problem)
    if mistaken and rng.random() < config.mistakes:
        return rng.choice(mistaken)
    return _repeated(gold, rng) if rng.random() < config.repeats else gold


def _repeated(course: Course, rng: random.Random) -> Course:
    """The course with one of its calls made twice in a row, where it has any."""
    if not course.steps:
        return course
    at = rng.randrange(len(course.steps))
    answer = course.answer
    return replace(course, steps=(*course.steps[: at + 1], *course.steps[at:]), answer=answer)


def _with_tool_error(course: Course) -> Course:
    """The course with a first call that the tool rejects, where it begins with one."""
    first = course.steps[0] if course.steps else None
    if first is None or first.call is None:
        return course
    empty = ToolCall(name=first.call.name, arguments=dict.fromkeys(first.call.arguments, ""))
    return replace(course, steps=(replace(first, call=empty), *course.steps))


def _without_tag(turn: Turn, rng: random.Random) -> Turn:
    """The turn with one closing tag lost."""
    tag = rng.choice([tag for tag in ("</think>", "</tool_call>", "</answer>") if tag in turn.text])
    return replace(turn, text=turn.text.replace(tag, "", 1))
