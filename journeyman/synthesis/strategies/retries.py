"""Failed attempts made again under guidance that the student never sees."""

import re
from collections.abc import Sequence
from typing import Any

from journeyman.curation.normal_form import question_form
from journeyman.environments import environment_of
from journeyman.environments.base import same_answer
from journeyman.expressions import Count
from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.rollout.parse import render_call
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed, tagged_text
from journeyman.synthesis.written import transcript
from journeyman.tools.similarity import grams, words
from journeyman.trajectory import Trajectory

GUIDE = """An assistant has failed at a task. Write guidance for its next try.
Never say or imply the final answer; nothing that has to be found out may be told.

{shown}

How it ended: {verdict}
{reference}
Reply with any of these, a few sentences each:
<plan>which steps to take, in which order</plan>
<feedback>what went wrong in this try</feedback>
<hints>what to look at</hints>"""
REFERENCE = """
Steps of a right solution, for you alone:
{steps}
"""
GUIDED = """Advice for this task, which only you can see; follow it, and don't mention it:
{guidance}"""
PARTS = {"plan": "Plan", "feedback": "Last time", "hints": "Hints"}
"""Tag of a part of the guidance -> how the teacher reads it."""
LONGEST = 2000
"""Characters of guidance. Ours."""
RUN = 8
"""Words in a row that count as repeated. Ours."""
TELLTALES = frozenset({"hint", "hints", "guidance", "advice", "advised"})
"""Words by which an attempt speaks of what the student won't have been told. Ours."""
_NUMBERED = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_UNITS = "+-$€£% "
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


async def guided_retry(
    lesson: Lesson, studio: Studio, *, retries: Count = 1, reference: bool = False
) -> Sequence[Lesson]:
    """Guided retries: what has failed is tried again with guidance, a plan, feedback on the error, hints.
    Agent-RLVR (#161, derived): the guidance is not in what is learned; passing and failing attempts make pairs.

    The writer sees the failed attempt and its verdict, with `reference` also the steps of the gold course, never the
    answer; guidance that states it is not used. Wrong attempts of the lesson are replaced by a right retry; a lesson
    without attempts gets one first. What failed is refused, and so is a retry that speaks of its guidance or repeats
    it. A right retry's `pair` names the two for preference learning: the failing one is among the refused.
    """
    studio.writer("guided_retry")  # without one nothing is tried at all
    taken: list[Trajectory] = []
    refused: list[Trajectory] = []
    for first in lesson.trajectories or [await _first(lesson, studio)]:
        *failed, last = await _attempts(first, lesson.problem, studio, retries=retries, reference=reference)
        refused += failed
        (refused if "refused" in last.provenance else taken).append(last)
    return [lesson.taking(taken, refused)]


async def _first(lesson: Lesson, studio: Studio) -> Trajectory:
    made = await studio.teacher.attempt(lesson.problem, seed=studio.seed_of("guided_retry", lesson.problem.id))
    return signed(made, "guided_retry", retry=0)


async def _attempts(
    first: Trajectory, problem: Problem, studio: Studio, *, retries: int, reference: bool
) -> list[Trajectory]:
    """The first attempt and its retries; all but a right one at the end are refused."""
    current, refused, unused = first, [], []
    for number in range(1, retries + 1):
        if current.correct is not False:
            break
        seed = studio.seed_of("guided_retry", first.id, number)
        guidance, fault = await _guidance(current, problem, studio, seed=seed, reference=reference)
        if fault:
            unused.append(fault)
            continue
        retried = await studio.teacher.attempt(problem, seed=seed, hint=GUIDED.format(guidance=guidance))
        made = signed(retried, "guided_retry", retry=number, guidance=guidance, **_relation(retried, current))
        if told := tells(made, guidance):
            refused.append(refusal(made, told))
            continue
        refused.append(refusal(current, not_right(current)))
        current = made
    if reason := not_right(current):
        current = refusal(current, "; ".join([reason, *unused]))
    return [*refused, current]


def _relation(retried: Trajectory, failed: Trajectory) -> dict[str, Any]:
    pair = {"pair": {"passing": retried.id, "failing": failed.id}} if retried.correct else {}
    return {"from": [failed.id], **pair}


async def _guidance(
    failed: Trajectory, problem: Problem, studio: Studio, *, seed: int, reference: bool
) -> tuple[str, str]:
    """(guidance, "") or ("", why there is none)."""
    opening = failed.opening or (Message(role="user", content=failed.question),)
    prompt = GUIDE.format(
        shown=transcript(opening, failed.turns),
        verdict=_verdict(failed),
        reference=_reference(problem) if reference else "",
    )
    reply = await asked(studio.writer("guided_retry"), prompt, seed=seed)
    parts = {name: tagged_text(reply, tag) for tag, name in PARTS.items()}
    guidance = "\n".join(f"{name}: {text}" for name, text in parts.items() if text)
    if not guidance:
        return "", "guidance that can't be read"
    if len(guidance) > LONGEST:
        return "", f"guidance of more than {LONGEST} characters"
    if states(guidance, problem.answer):
        return "", "guidance that gives the answer away"
    return guidance, ""


def _verdict(failed: Trajectory) -> str:
    parts = [f"{name} {value:g}" for name, value in sorted(failed.score_parts.items())]
    return "; ".join([f"{not_right(failed)}, stopped by {failed.stop_reason}", *parts])


def _reference(problem: Problem) -> str:
    for gold in environment_of(problem).courses(problem)[:1]:
        lines = [part for step in gold.steps for part in (step.thought, step.call and render_call(step.call)) if part]
        return REFERENCE.format(steps="\n".join(lines))
    return ""


def states(text: str, answer: str) -> bool:
    """Whether a text has an answer in it as whole words, or any number that equals it; numbers of lists don't count."""
    wanted, said = question_form(answer), question_form(_NUMBERED.sub("", text))
    if not wanted:
        return False
    amount = wanted.strip(_UNITS)
    if _NUMBER.fullmatch(amount):
        return any(same_answer(amount, number) for number in _NUMBER.findall(said))
    return bool(re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", said))


def tells(trajectory: Trajectory, guidance: str) -> str:
    """How an attempt shows that it was guided; empty where it doesn't.

    It repeats `RUN` words in a row of its guidance that stand nowhere else, or speaks of advice where nobody else does.
    """
    shown = [trajectory.question, *(message.content for message in trajectory.opening)]
    known = words("\n".join([*shown, *(output for turn in trajectory.turns for output in turn.outputs())]))
    said = words("\n".join(turn.text for turn in trajectory.turns))
    if (set(said) - set(known)) & TELLTALES:
        return "speaks of its guidance"
    secret = grams(words(guidance), RUN).keys() - grams(known, RUN).keys()
    return "repeats its guidance" if secret & grams(said, RUN).keys() else ""
