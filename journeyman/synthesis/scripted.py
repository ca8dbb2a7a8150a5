"""Teachers that play worked courses: the scripted expert, and the annotations of a data set."""

import random
from collections.abc import Sequence
from dataclasses import replace

from journeyman.config import ScriptedTeacherConfig
from journeyman.environments import environment_of
from journeyman.environments.base import Course
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.synthesis.courses import play, written_step
from journeyman.synthesis.written import WrittenAttempt
from journeyman.trajectory import StopReason, ToolCall, Trajectory, Turn

SLIPS = ("format", "tool error", "duplicate", "leak")
PLAYED_SLIPS = SLIPS[:2]
"""Those that an attempt can have; only a log repeats rows, and has rows of problems that it shouldn't."""
NO_COURSE = "the problem has no worked course"
WITHOUT_TOOLS = "answers without the tools that it needs"
UNKNOWN = "unknown"
PERFECT = ScriptedTeacherConfig(mistakes=0, repeats=0, broken=0)
MOST_TURNS = 64
"""Longest course that is played turn by turn. Ours."""


class ScriptedTeacher:
    """An expert by script: imperfect and unverified, as real logs are.

    It knows every family's gold course and its typical mistakes. A share of its work contains one mistake, a share of
    the rest repeats calls needlessly, and a few rows are broken as rows of logs are: a format slip, a tool error, a
    duplicate, a problem that must not be learned from. That both the right and the wrong course are in its log is what
    leaves RL a decision to settle. It knows no temperature; what it is told as a hint keeps it from mistakes and slips.

    Args:
        config: how often it errs.
        seed: of its log.
        leaked: problems that must not be learned from: what its log leaks.
        name: its name in provenance.
    """

    def __init__(
        self,
        config: ScriptedTeacherConfig = PERFECT,
        *,
        seed: int = 0,
        leaked: Sequence[Problem] = (),
        name: str = "scripted",
    ) -> None:
        self._config, self._seed, self._leaked, self.name = config, seed, leaked, name

    async def logged(self, problem: Problem) -> Sequence[Trajectory]:
        """What its log has of a problem: usually one trajectory, none where there is no worked course."""
        rng = random.Random(derive(self._seed, "teacher", problem.id))
        slip = rng.choice(SLIPS) if rng.random() < self._config.broken else ""
        if slip == "leak" and self._leaked:
            problem = rng.choice(self._leaked)
        course = _choose(problem, self._config, rng)
        if course is None:
            return []
        if slip == "tool error":
            course = _with_tool_error(course)
        told = {"mistake": course.mistake, "slip": slip, "seed": self._seed, "teacher": self.name}
        made = await play(problem, course, source=self.name, provenance=told)
        if slip == "format":  # after its verdict, which is then nobody's
            turns = (_without_tag(made.turns[0], rng), *made.turns[1:])
            return [replace(made, turns=turns, provenance={**told, "verified": "none"})]
        return [made, replace(made, id=made.id[::-1])] if slip == "duplicate" else [made]

    async def attempt(
        self,
        problem: Problem,
        *,
        seed: int,
        temperature: float = 1.0,
        hint: str = "",
        tools: Sequence[str] | None = None,
        start: Sequence[Turn] = (),
    ) -> Trajectory:
        """A course that it draws by the seed, played turn by turn; after `start` it makes what is left of it."""
        rng = random.Random(derive(seed, "teacher", problem.id))
        config = PERFECT if hint else self._config
        slip = rng.choice(PLAYED_SLIPS) if rng.random() < config.broken else ""
        course = _choose(problem, config, rng)
        attempt = await WrittenAttempt.begin(problem, seed=seed, tools=tools, start=start, max_turns=MOST_TURNS)
        if course is None:
            attempt.stop_reason = StopReason.ENVIRONMENT
            return await attempt.finish(source=self.name, provenance={"teacher": self.name, "failure": NO_COURSE})
        course = _as_far_as_offered(course, tools)
        if slip == "tool error":
            course = _with_tool_error(course)
        await _go_on(attempt, course, rng if slip == "format" else None)
        told = {"mistake": course.mistake, "slip": slip, "seed": seed, "teacher": self.name}
        return await attempt.finish(source=self.name, provenance=told)


def annotations_teacher(seed: int = 0) -> ScriptedTeacher:
    """The worked solutions of a data set's rows, or a family's gold courses: right as far as those are."""
    return ScriptedTeacher(PERFECT, seed=seed, name="annotations")


async def _go_on(attempt: WrittenAttempt, course: Course, broken: random.Random | None) -> None:
    """Make the steps of a course that were not made yet, and give its answer; `broken`: draws the tag that is lost."""

    async def say(text: str) -> None:
        if attempt.stop_reason is None:  # a lost tag ends the attempt: only its first turn can have one
            await attempt.say(text if broken is None else _without_tag(Turn(text=text), broken).text)

    texts = {turn.text for turn in attempt.turns}
    made = [call for turn in attempt.turns for call in turn.calls]
    for step in course.steps:
        if (text := written_step(step)) not in texts and step.call not in made:
            await say(text)
    seen = [result.output for turn in attempt.turns for result in turn.results]
    answer = course.answer if course.answer is not None else seen[-1] if seen else UNKNOWN
    await say(f"<answer>{answer}</answer>")


def _choose(problem: Problem, config: ScriptedTeacherConfig, rng: random.Random) -> Course | None:
    courses = environment_of(problem).courses(problem)
    if not courses:
        return None
    gold, *mistaken = courses
    if mistaken and rng.random() < config.mistakes:
        return rng.choice(mistaken)
    return _repeated(gold, rng) if rng.random() < config.repeats else gold


def _as_far_as_offered(course: Course, tools: Sequence[str] | None) -> Course:
    """The course, or an answer without it where it needs tools that are not on offer."""
    called = {step.call.name for step in course.steps if step.call}
    if tools is None or called <= {*tools}:
        return course
    return Course(steps=(), answer=UNKNOWN, mistake=WITHOUT_TOOLS)


def _repeated(course: Course, rng: random.Random) -> Course:
    """The course with one of its calls made twice in a row, where it has any."""
    steps = [place for place, step in enumerate(course.steps) if step.answer is None]
    if not steps:
        return course
    at = steps[rng.randrange(len(steps))]
    return replace(course, steps=(*course.steps[: at + 1], *course.steps[at:]))


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
