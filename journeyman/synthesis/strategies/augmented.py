"""Solutions in words, rewritten so that tools do the work."""

from collections.abc import Sequence
from typing import Literal

from journeyman.environments import environment_of
from journeyman.expressions import Count
from journeyman.problem import Problem
from journeyman.rollout.formats.base import between, split_thought
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed
from journeyman.synthesis.courses import play
from journeyman.synthesis.written import WrittenAttempt, instructions
from journeyman.trajectory import StopReason, Trajectory

REWRITE = """Rewrite a solution so that tools do its work: each step that calculates, counts, looks up or checks becomes a call.
Keep the rest of its reasoning, in the first person. A result is known only after its call.

{instructions}

Write each turn between <turn> and </turn>: a thought and its calls, at the end a thought and the answer. Nothing else
stands in a turn; leave out what tools return.

Task: {question}
Solution:
{solution}"""
TEMPERATURE = 0.7
"""Of rewriting: another try is another text. Ours."""
LONGEST_TOKENS, MOST_TURNS = 2048, 16
"""Of a rewriting. Ours."""


async def code_augmented(
    lesson: Lesson,
    studio: Studio,
    *,
    solution: Literal["attempt", "trajectories", "course"] = "attempt",
    tries: Count = 2,
) -> Sequence[Lesson]:
    """A right solution in words is rewritten by the writer so that calculations become code or other calls.
    ReTool (#2, secondary): kept after two verifications, of the format and of the answer.

    `solution`: a tool-free attempt of the teacher, the thoughts of the lesson's right trajectories, or the gold course's.
    The rewriting is played: its calls are run. Format: every turn but the last calls, the last one answers, no call
    fails. Answer: the environment's verdict. Up to `tries` rewritings each; added to what the lesson has. The rest is
    refused, tool-free attempts too. Not covered: a check that what a thought says about a result agrees with it.
    """
    studio.writer("code_augmented")  # without one nothing is tried at all
    taken: list[Trajectory] = []
    refused: list[Trajectory] = []
    for given in await _given(lesson, solution):
        for number in range(tries):
            seed = studio.seed_of("code_augmented", lesson.problem.id, given.id if given else "", number)
            words = given or await _attempted(lesson, studio, seed)
            if given is None:
                refused.append(refusal(words, not_right(words) or "a tool-free draft"))
            if not words.correct:
                continue
            made, fault = await _rewritten(lesson.problem, words, studio, seed)
            if not fault:
                taken.append(made)
                break
            refused.append(refusal(made, fault))
    return [lesson.taking((*lesson.trajectories, *taken), refused)]


async def _given(lesson: Lesson, solution: str) -> Sequence[Trajectory | None]:
    """The solutions that are there already; None stands for one that the teacher has yet to find."""
    if solution == "trajectories":
        return [one for one in lesson.trajectories if one.correct]
    if solution == "course":
        gold = environment_of(lesson.problem).courses(lesson.problem)[:1]
        return [await play(lesson.problem, course, source="course", provenance={}) for course in gold]
    return [None]


async def _attempted(lesson: Lesson, studio: Studio, seed: int) -> Trajectory:
    return signed(await studio.teacher.attempt(lesson.problem, seed=seed, tools=()), "code_augmented")


async def _rewritten(problem: Problem, solved: Trajectory, studio: Studio, seed: int) -> tuple[Trajectory, str]:
    """(the rewriting as it was played, why it isn't taken: empty where it is)."""
    attempt = await WrittenAttempt.begin(problem, seed=seed, max_turns=MOST_TURNS + 1)
    prompt = REWRITE.format(
        instructions=instructions(attempt.specs), question=problem.question, solution=in_words(solved)
    )
    reply = await asked(
        studio.writer("code_augmented"), prompt, seed=seed, temperature=TEMPERATURE, max_tokens=LONGEST_TOKENS
    )
    texts, fault = read_turns(reply)
    for text in texts:
        if attempt.stop_reason is None:
            await attempt.say(text)
    made = await attempt.finish(source="writer", provenance={} if texts else {"reply": reply})
    made = signed(made, "code_augmented", **{"from": [solved.id]}, verified="environment")
    return made, fault or _misplayed(made) or not_right(made)


def in_words(trajectory: Trajectory) -> str:
    """What an attempt thought, saw and said, without its calls."""
    lines: list[str] = []
    for turn in trajectory.turns:
        parsed = parse_turn(turn.text)
        if not parsed.error:
            lines += [split_thought(turn.text)[0].strip(), parsed.text, *turn.outputs()]
    return "\n".join([*filter(None, lines), f"Answer: {trajectory.answer}"])


def read_turns(reply: str) -> tuple[list[str], str]:
    """(the turns of a rewriting, "") or ([], why it has none that could be played)."""
    texts = [body.strip() for body in between(reply, ("<turn>", "</turn>"))[0]]
    parsed = [parse_turn(text) for text in texts]
    if not texts:
        fault = "no <turn>"
    elif len(texts) > MOST_TURNS:
        fault = f"more than {MOST_TURNS} turns"
    elif error := next((turn.error for turn in parsed if turn.error), ""):
        fault = error
    elif len(texts) == 1 or not all(turn.calls for turn in parsed[:-1]):
        fault = "a turn before the last without a call" if len(texts) > 1 else "no call"
    else:
        fault = "" if parsed[-1].answer is not None else "no answer at the end"
    return ([], f"format: {fault}") if fault else (texts, "")


def _misplayed(made: Trajectory) -> str:
    failed = [result.name for turn in made.turns for result in turn.results if not result.ok]
    if failed:
        return f"format: a call of {failed[0]} fails"
    return "" if made.stop_reason is StopReason.ANSWER else f"format: stopped by {made.stop_reason}"
