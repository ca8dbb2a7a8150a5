"""Tool use drawn out of a teacher: by an instruction, or by a hint put into its own tool-free thoughts."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from journeyman.expressions import Count
from journeyman.rollout.formats.base import split_thought
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Studio, not_right, refusal, signed
from journeyman.synthesis.written import rethought, retold
from journeyman.trajectory import Trajectory

USE_TOOLS = (
    "Solve it with the tools: whatever has to be looked up, computed or checked is done by a call and not from memory. "
    "Think before each call about what is still missing."
)
GO_ON = """Your thoughts have come this far:
{thought}
Go on from exactly here without saying it again, with the tools."""
DOUBTS = re.compile(
    r"\b(?:wait|hmm|but|however|alternatively|perhaps|maybe|not (?:so |quite )?sure|(?:let me|let's) "
    r"(?:re-?check|check|verify|think again))\b[,.:;!]?",
    re.IGNORECASE,
)
"""Words at which a thought hesitates. Ours."""
HINTS = {
    "doubt": (
        "I am not certain of this, so a tool should settle it.",
        "Instead of guessing I can find this out with a tool.",
        "This step is easy to get wrong; let me use a tool for it.",
    ),
    "answer": (
        "Before I answer, let me verify this with a tool.",
        "I should not answer from memory; a tool can confirm or correct this.",
    ),
}
"""What is put in, by where. Ours."""


def tool_helped(trajectory: Trajectory) -> bool:
    """Whether a call of it came to something."""
    return any(result.ok for turn in trajectory.turns for result in turn.results)


async def tool_prompted(lesson: Lesson, studio: Studio, *, tries: Count = 4, keep: Count = 1) -> Sequence[Lesson]:
    """Tool-integrated prompting: attempts of a teacher that is told to work with tools, kept if right.
    Tool-Star (#19, secondary): its first way to tool-use data; `hinted` is the second, both listed give the union.

    Up to `tries` attempts until `keep` are right and have a call that worked; added to what the lesson has. The
    instruction is not in the trajectory. The others are refused.
    """
    taken: list[Trajectory] = []
    refused: list[Trajectory] = []
    for number in range(tries):
        if len(taken) == keep:
            break
        seed = studio.seed_of("tool_prompted", lesson.problem.id, number)
        made = await studio.teacher.attempt(lesson.problem, seed=seed, hint=USE_TOOLS)
        _sort(signed(made, "tool_prompted", attempt=number), taken, refused)
    return [lesson.taking((*lesson.trajectories, *taken), refused)]


async def hinted(
    lesson: Lesson,
    studio: Studio,
    *,
    tries: Count = 4,
    keep: Count = 1,
    where: Literal["doubt", "answer", "both"] = "both",
) -> Sequence[Lesson]:
    """Hint-based sampling: a tool-free attempt is cut, a hint to use a tool put in, and the teacher goes on with tools.
    Tool-Star (#19, secondary): cut behind a word of doubt, or before the answer to verify it; kept if right.

    As in the paper the hint stays, as a part of the thought. Teachers write whole turns, so the cut thought is told to
    the teacher and joined with what it thinks next; the result is played anew. Up to `tries` until `keep` are right and
    have a call that worked; added to what the lesson has. The tool-free drafts and the others are refused. Not covered:
    going on inside a turn token by token.
    """
    taken: list[Trajectory] = []
    refused: list[Trajectory] = []
    for number in range(tries):
        if len(taken) == keep:
            break
        seed = studio.seed_of("hinted", lesson.problem.id, number)
        draft = signed(await studio.teacher.attempt(lesson.problem, seed=seed, tools=()), "hinted", attempt=number)
        cut, why_not = _cut(draft, where, random.Random(seed))
        refused.append(refusal(draft, why_not or "a tool-free draft"))
        if cut is not None:
            _sort(await _continued(draft, cut, lesson, studio), taken, refused)
    return [lesson.taking((*lesson.trajectories, *taken), refused)]


def _sort(made: Trajectory, taken: list[Trajectory], refused: list[Trajectory]) -> None:
    if reason := not_right(made) or ("" if tool_helped(made) else "no call that worked"):
        refused.append(refusal(made, reason))
    else:
        taken.append(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a tool-free attempt is cut, and what stands there from then on."""

    turn: int
    thought: str
    """Of that turn: what came before the cut, and the hint."""
    where: str
    hint: str


def _cut(draft: Trajectory, where: str, rng: random.Random) -> tuple[Cut | None, str]:
    """(a cut, "") or (None, why there is none). The kind of place is drawn first, then the place."""
    if draft.calls:
        return None, "a draft that calls tools which weren't on offer"
    places = _places(draft)
    kinds = [kind for kind in HINTS if where in (kind, "both") and places[kind]]
    if not kinds:
        return None, "no place for a hint"
    kind = rng.choice(kinds)
    turn, before = rng.choice(places[kind])
    hint = rng.choice(HINTS[kind])
    return Cut(turn=turn, thought=f"{before} {hint}".strip(), where=kind, hint=hint), ""


def _places(draft: Trajectory) -> dict[str, list[tuple[int, str]]]:
    """For each kind, where a hint could stand: the turn, and its thought up to there."""
    found: dict[str, list[tuple[int, str]]] = {kind: [] for kind in HINTS}
    for i, turn in enumerate(draft.turns):
        parsed = parse_turn(turn.text)
        if parsed.error:
            continue
        thought, _ = split_thought(turn.text)
        found["doubt"] += [(i, thought[: doubt.end()].strip()) for doubt in DOUBTS.finditer(thought)]
        if parsed.answer is not None:
            found["answer"].append((i, thought.strip()))
    return found


async def _continued(draft: Trajectory, cut: Cut, lesson: Lesson, studio: Studio) -> Trajectory:
    """The draft up to the cut, the hint, and how the teacher goes on, as one attempt that is really played."""
    seed, start = studio.seed_of("hinted", draft.id, "goes on"), draft.turns[: cut.turn]
    told = GO_ON.format(thought=cut.thought)
    after = await studio.teacher.attempt(lesson.problem, seed=seed, hint=told, start=start)
    provenance = {**after.provenance, "attempt": draft.provenance["attempt"], "from": [draft.id]}
    texts = [turn.text for turn in after.turns]
    if len(texts) > cut.turn:
        texts[cut.turn] = _joined(cut.thought, texts[cut.turn])
    made = await retold(lesson.problem, texts, source=studio.teacher.name, seed=seed, provenance=provenance)
    return signed(made, "hinted", hint=cut.hint, where=cut.where)


def _joined(thought: str, text: str) -> str:
    """A turn that begins with a thought and goes on with its own; one that can't be read stays as it is."""
    if parse_turn(text).error:
        return text
    more = split_thought(text)[0].strip()
    # Told where it was, a teacher may begin there again.
    return rethought(text, more if more.startswith(thought) else f"{thought} {more}".strip())
