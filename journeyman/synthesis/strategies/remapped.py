"""Recommendations of a teacher who doesn't know the catalogue, made into lists of the catalogue."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeGuard

from journeyman.expressions import Count, Share
from journeyman.rollout.formats.base import TurnError, read_json, split_thought
from journeyman.rollout.formats.hermes import Hermes
from journeyman.rollout.parse import parse_turn
from journeyman.synthesis.base import Lesson, Studio, asked, refusal, tagged_text
from journeyman.synthesis.strategies.replays import fault_of, replayed, reworked, unread
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    from journeyman.environments.recommend import Recommend

NAME = "remap_reflect_adjust"
REFLECT = """Somebody was asked:
{question}
How well does each of these fit?
{items}
Reply with a JSON object in <scores></scores>: for each id a number from 0 (not at all) to 5 (exactly)."""
BEST = 5
REPLY_TOKENS, REPLY_CHARACTERS = 2048, 100_000
_NUMBERING = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•])\s+")
_YEAR = re.compile(r"\s*\(\d{4}\)$")


async def remap_reflect_adjust(
    lesson: Lesson, studio: Studio, *, likeness: Share = 0.85, candidates: Count = 40
) -> Sequence[Lesson]:
    """Lists of a teacher become lists of the catalogue: names are remapped to items, the writer scores each item for the
    question, the list is adjusted to the scores. ConvRec-R1 (#195, derived): its demonstrations for behaviour cloning.

    For problems of `recommend`, others stay as they are. Remap: an id, a title, or the one title at least so like it
    (difflib, ours); what is in no catalogue, or what the user had, is dropped; ids that the attempt's tools showed come
    behind, up to `candidates`. Reflect: 0 to 5 each. Adjust: by score, equal ones as they stood, cut to the length that
    is asked for. The attempt is replayed with the new list as its answer and its place is taken where that is right and
    scores no lower; else it stays and the new one is refused. The writer never sees the held-out item as such.

    NOT covered: the popularity of items, which the source is said to adjust for.
    """
    from journeyman.environments import environment_of
    from journeyman.environments.recommend import Recommend

    world = environment_of(lesson.problem)
    if not isinstance(world, Recommend):
        return [lesson]

    async def change(one: Trajectory) -> list[Trajectory]:
        last = one.turns[-1] if one.turns else None
        if last is None or parse_turn(last.text).answer is None:
            return [one]
        pool = _pool(one, world, lesson.problem.data["history"], likeness)[:candidates]
        return await _adjusted(lesson, studio, one, world, pool)

    return [await reworked(lesson, change)]


async def _adjusted(
    lesson: Lesson, studio: Studio, old: Trajectory, world: "Recommend", pool: Sequence[str]
) -> list[Trajectory]:
    """The attempt with the adjusted list; or as it is, and what was refused."""
    listed = "\n".join(map(world.catalogue.line, pool))
    prompt = REFLECT.format(question=lesson.problem.question, items=listed)
    seed = studio.seed_of(NAME, old.id)
    reply = await asked(studio.writer(NAME), prompt, seed=seed, max_tokens=REPLY_TOKENS) if pool else ""
    try:
        scores = _scores(reply, pool)
    except TurnError as error:
        return [old, unread(old, reply, str(error), strategy=NAME, kind="reflection")]
    answer = ", ".join(adjusted(pool, scores)[: world.length])
    thought, _ = split_thought(old.turns[-1].text)
    texts = [*(turn.text for turn in old.turns[:-1]), Hermes().render(thought, answer=answer)]
    made = await replayed(lesson.problem, texts, old, strategy=NAME, list_of=old.answer, scores=scores)
    reason = fault_of(made, old) or ("" if made.correct else "wrong")
    if not reason and (made.score or 0) < (old.score or 0):
        reason = "a list that scores lower than the one before"
    return [old, refusal(made, reason)] if reason else [made]


def _pool(attempt: Trajectory, world: "Recommend", had: Sequence[str], likeness: float) -> list[str]:
    """Items that may be recommended: those of the answer in its order, then those that tools showed."""
    from journeyman.environments.recommend_tools import read_ids

    titles: dict[str, str | None] = {}
    for item in world.catalogue.items.values():
        title = item.title.casefold()
        titles[title] = None if title in titles else item.id
    named = read_ids(attempt.answer or "")
    found = [item for name in named if (item := remapped(name, world.catalogue.items, titles, likeness))]
    shown = [word for turn in attempt.turns for out in turn.outputs() for word in re.findall(r"[\w-]+", out)]
    known = [item for item in shown if item in world.catalogue.items]
    return [item for item in dict.fromkeys([*found, *known]) if item not in had]


def remapped(
    name: str, ids: Mapping[str, object], titles: Mapping[str, str | None], likeness: float = 0.85
) -> str | None:
    """The id that a name stands for: itself, or that of its title or of the title nearest to it; None: no or no one item.

    `titles`: of the catalogue, case folded -> id; None where several items have it.
    """
    plain = _NUMBERING.sub("", name, count=1).strip().strip("\"'`*")
    if plain in ids:
        return plain
    title = plain.casefold()
    if title not in titles:
        title = _YEAR.sub("", title)
    near = [title] if title in titles else get_close_matches(title, list(titles), n=1, cutoff=likeness)
    return titles[near[0]] if near else None


def adjusted(items: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Items by their score, the best first; those with equal ones stay in order."""
    return sorted(items, key=lambda item: -scores[item])


def _scores(reply: str, items: Sequence[str]) -> dict[str, float]:
    """A number from 0 to 5 for each item. Raises `TurnError`."""
    if not items:
        raise TurnError("a list without an item of the catalogue")
    body = tagged_text(reply[:REPLY_CHARACTERS], "scores")
    value = read_json(body) if body is not None else None
    if not isinstance(value, dict):
        raise TurnError("scores that can't be read")
    scores = {item: score for item in items if _is_score(score := value.get(item))}
    if len(scores) < len(items):
        raise TurnError("an item without a score from 0 to 5")
    return scores


def _is_score(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= BEST
