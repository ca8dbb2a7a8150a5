"""Thoughts put right while actions stay."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from journeyman.messages import Message
from journeyman.rollout.formats.base import split_thought
from journeyman.rollout.formats.hermes import TAGS
from journeyman.rollout.parse import parse_turn
from journeyman.seeds import derive
from journeyman.synthesis.base import Lesson, Studio, asked, not_right, refusal, signed, tagged_text
from journeyman.synthesis.written import rethought, transcript
from journeyman.trajectory import Trajectory, Turn

CORRECT = """Check the thought of an assistant's latest turn against what it has been shown so far: is anything wrong, made up,
beside the point or missing? The action that follows the thought stays as it is.

{shown}

Latest turn:
{latest}

Reply with
<errors>each error of the thought on a line, or: none</errors>
and, unless there is none, the thought as it should have been: first person, plain text, nothing in it that the assistant
could not know yet.
<thought>...</thought>"""
LONGEST = 4000
"""Characters of a thought. Ours."""
MOST_ERRORS = 20
"""Errors of a thought that are kept. Ours."""


async def corrected_thoughts(
    lesson: Lesson,
    studio: Studio,
    *,
    only: Literal["invalid", "all"] = "invalid",
    wrong: bool = False,
) -> Sequence[Lesson]:
    """Turn by turn the writer marks the errors of a thought and writes it anew; calls, answers and words stay as they are.
    GTR (#88, secondary): a corrector that sees what the student has seen up to that turn, never the answer.

    `only="invalid"` (our budget rule) asks about turns without a thought, with a call that fails, or with one made
    before. Corrected trajectories take the place of theirs; `corrected_turns` says where, `thought_errors` why. A
    trajectory with a correction that can't be read is refused, and so is one that is not right unless `wrong`: its
    actions would be learned along with its thoughts. Turns that no parser reads are left alone. Not covered: worlds that
    build the context anew out of earlier thoughts (refused), a loss on thoughts alone, the aggregation over iterations.
    """
    studio.writer("corrected_thoughts")  # without one nothing is tried at all
    taken: list[Trajectory] = []
    refused: list[Trajectory] = []
    for given in lesson.trajectories:
        reason = not_right(given)
        made, fault = (given, reason) if reason and not wrong else await _corrected(given, studio, only)
        if fault:
            refused.append(refusal(made, fault))
        else:
            taken.append(made)
    return [lesson.taking(taken, refused)]


async def _corrected(given: Trajectory, studio: Studio, only: str) -> tuple[Trajectory, str]:
    """(the trajectory with better thoughts, "") or (as it was, why a correction can't be used)."""
    turns, found = list(given.turns), {}
    for i in _chosen(given.turns, only):
        seed = studio.seed_of("corrected_thoughts", given.id, i)
        prompt = CORRECT.format(shown=_shown(given, turns[:i]), latest=turns[i].text)
        reply = await asked(studio.writer("corrected_thoughts"), prompt, seed=seed, max_tokens=LONGEST // 2)
        errors, thought, fault = read_correction(reply)
        if fault:
            return given, f"turn {i + 1}: {fault}"
        if errors:
            turns[i] = replace(turns[i], text=rethought(turns[i].text, thought))
            found[i] = errors
    if found and any(turn.restart for turn in turns):
        return given, "a world that shows earlier thoughts again"
    made = _retexted(given, turns) if found else given
    of = {"from": [given.id]} if found else {}
    return signed(
        made, "corrected_thoughts", **of, corrected_turns=list(found), thought_errors=list(found.values())
    ), ""


def _shown(given: Trajectory, turns: Sequence[Turn]) -> str:
    return transcript(given.opening or (Message(role="user", content=given.question),), turns)


def _chosen(turns: Sequence[Turn], only: str) -> list[int]:
    """The turns whose thoughts are looked at."""
    readable = [i for i, turn in enumerate(turns) if not parse_turn(turn.text).error]
    return readable if only == "all" else [i for i in readable if _invalid(turns, i)]


def _invalid(turns: Sequence[Turn], i: int) -> bool:
    before = [call for turn in turns[:i] for call in turn.calls]
    failed = any(not result.ok for result in turns[i].results)
    return failed or any(call in before for call in turns[i].calls) or not split_thought(turns[i].text)[0].strip()


def read_correction(reply: str) -> tuple[list[str], str, str]:
    """(errors, the thought, "") or ([], "", why it can't be used). No errors: the thought may stay."""
    marked, thought = tagged_text(reply, "errors"), tagged_text(reply, "thought")
    if marked is None:
        return [], "", "no <errors>"
    errors = [line.strip() for line in marked.splitlines() if line.strip()][:MOST_ERRORS]
    if [line.casefold().rstrip(".") for line in errors] in ([], ["none"]):
        return [], "", ""
    if not thought:
        return [], "", "errors, but no <thought>"
    if len(thought) > LONGEST:
        return [], "", f"a thought of more than {LONGEST} characters"
    if any(tag in thought for tag in TAGS):
        return [], "", "a tag in a thought"
    return errors, thought, ""


def _retexted(given: Trajectory, turns: Sequence[Turn]) -> Trajectory:
    """Other texts, so another id; tokens and scores of the old texts are dropped, the verdict on its actions stays."""
    untokenized = [replace(turn, start=0, stop=0, policy="") for turn in turns]
    tokens = dict.fromkeys(("token_ids", "cuts", "loss_mask", "logprobs", "policy_versions"), ())
    made = replace(
        given, id=f"{derive(given.id, *(turn.text for turn in turns)):016x}", turns=tuple(untokenized), **tokens
    )
    return made.scored(None, {})
