"""Texts whose masked spans only a search can fill, as problems of their own."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from journeyman.environments.selftext import MaskSearch, mark_spans
from journeyman.errors import UserError
from journeyman.expressions import Count
from journeyman.problem import Problem, problem_id
from journeyman.synthesis.base import Lesson, Studio, not_right, refusal, signed, unread
from journeyman.trajectory import Trajectory

PAGES = 20
"""Most pages of a lesson that are looked at (ours)."""


async def masked_spans(
    lesson: Lesson,
    studio: Studio,
    *,
    masks: Count = 4,
    tries: Count = 2,
    choose: Literal["rule", "writer"] = "rule",
) -> Sequence[Lesson]:
    """Retrieval-augmented mask prediction: salient spans of a text are masked, and filled by search.
    MaskSearch (#196, derived): curriculum of k = 1 .. 4 masked spans, verified by how many are recovered.

    The pages are the problem's own (`data["corpus"]`), else what the calls of the lesson's trajectories showed; one is
    masked and the others are searched, in problems of the family `masksearch` whose `masks` is k. Spans are names and
    numbers of that page (`rule`) or what a writer chooses of it (`writer`), where another page has them. Of up to
    `tries` attempts at each problem the first is taken that searches and recovers every span; the others are refused.
    The lesson stays, the new ones come behind it, the easiest first; a lesson of the family itself is attempted as it
    is. Pages, tries and exact match for all spans are ours. Spans chosen by perplexity are not covered.
    """
    if lesson.problem.family == MaskSearch.name:
        return [await _attempted(lesson, lesson.problem, studio, tries)]
    pages, origin = _pages(lesson)
    problems, faults = await _curriculum(lesson, studio, pages, masks=masks, choose=choose)
    made = [await _attempted(Lesson(problem=one), one, studio, tries, **{"from": origin}) for one in problems]
    return [lesson.taking(lesson.trajectories, faults), *made]


def _pages(lesson: Lesson) -> tuple[list[str], list[str]]:
    """(distinct pages, ids of the trajectories that showed them: none for a problem's own)."""
    if own := lesson.problem.data.get("corpus"):
        return list(dict.fromkeys(map(str, own)))[:PAGES], []
    results = [(result, t.id) for t in lesson.trajectories for turn in t.turns for result in turn.results]
    seen = {result.output: number for result, number in reversed(results) if result.ok}
    pages = list(reversed(seen))[:PAGES]
    return pages, list(dict.fromkeys(seen[page] for page in pages))


async def _curriculum(
    lesson: Lesson, studio: Studio, pages: Sequence[str], *, masks: int, choose: str
) -> tuple[list[Problem], list[Trajectory]]:
    """(problems of the page that gives most of them, a writer's choice that can't be used)."""
    seed = studio.seed_of("masked_spans", lesson.problem.id)
    shuffled = random.Random(seed).sample(list(pages), len(pages))
    ladders = {page: _ladder(page, [one for one in pages if one != page], masks, seed) for page in shuffled}
    page = max(ladders, key=lambda one: len(ladders[one]), default=None)
    if page is None or not ladders[page]:
        return [], []
    if choose == "rule":
        return ladders[page], []
    marked = await mark_spans(page, studio.writer("masked_spans"), count=masks, seed=seed)
    named = _ladder(marked, [one for one in pages if one != page], masks, seed) if marked != page else []
    reason = "" if named else "no span is named that stands in the page and in another"
    return named, [unread(lesson.problem, marked, reason, strategy="masked_spans")] if reason else []


def _ladder(text: str, others: Sequence[str], masks: int, seed: int) -> list[Problem]:
    """Problems with 1, 2, .. masked spans of a text, as far as it has them."""
    made = list[Problem]()
    for count in range(1, masks + 1):
        try:
            world = MaskSearch(texts=[text], documents=list(others), masks=(count, count))
            problem = next(world.generate(random.Random(seed)))
        except UserError:  # too few spans, or no page to search
            break
        data = {**problem.data, "corpus": list(others)}
        made.append(replace(problem, data=data, id=problem_id(problem.family, problem.question, data)))
    return made


async def _attempted(lesson: Lesson, problem: Problem, studio: Studio, tries: int, **more: Sequence[str]) -> Lesson:
    """With the first attempt that searches and is right, if one does."""
    refused = list[Trajectory]()
    for number in range(tries):
        seed = studio.seed_of("masked_spans", problem.id, number)
        attempt = await studio.teacher.attempt(problem, seed=seed)
        made = signed(attempt, "masked_spans", attempt=number, masks=problem.data["masks"], **more)
        reason = not_right(made) or ("" if made.calls else "filled without a search")
        if not reason:
            return lesson.taking((*lesson.trajectories, made), refused)
        refused.append(refusal(made, reason))
    return lesson.taking(lesson.trajectories, refused)
