"""Hierarchical search: drafts that are climbed level by level, from coarse to fine, by comparing pairs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

Draft = tuple[str, ...]
"""A text for each level so far, coarse to fine."""
Propose = Callable[[Sequence[Draft], int], Awaitable[str]]
"""(drafts, number of the proposal) -> another text for the last level of the first draft: its revision where it stands alone,
else what joins them all."""
Better = Callable[[Draft, Draft], Awaitable[bool]]
"""Whether the first is strictly better than the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """MOOSE-Chem2's constants (#224, verified)."""

    lines: int = 3
    """Independent lines from each draft."""
    failures: int = 2
    """So many in a row are a local optimum."""
    steps: int = 150
    """Most proposals of a line."""
    recombinations: int = 2
    """Trials to join a level's optima."""
    beam: int = 3
    """Drafts that enter the next level."""


async def hierarchical(
    levels: int, propose: Propose, better: Better, *, climb: Climb = Climb(), parallel: int = 8
) -> list[Draft]:
    """The drafts that the last level ends with, best first: MOOSE-Chem2 (#224, verified).

    At a level every draft of the beam is climbed in `lines` lines: a revision is taken if it is strictly better; two
    failures in a row end a line. Optima are ranked by how many of the others they beat, all of them are joined into another,
    which is climbed no further and stays if it beats the best, and the first `beam` enter the next level. Levels above stay
    as they are: a proposal writes its own level only. A level makes at most lines x (accepted + failures + 1) proposals a
    draft, and the recombinations.
    """
    beam, numbers = [()], iter(range(2**62))
    places = asyncio.Semaphore(parallel)

    async def line(draft: Draft, first: int) -> Draft:
        async with places:
            return await _climbed(draft, propose, better, climb=climb, first=first)

    for _ in range(levels):
        starts = [(draft, next(numbers) * (climb.steps + 1)) for draft in beam for _ in range(climb.lines)]
        optima = list(dict.fromkeys(await asyncio.gather(*(line(*start) for start in starts))))
        ranked = await ranking(optima, better)
        ranked = await _joined(ranked, propose, better, climb=climb, first=next(numbers) * (climb.steps + 1))
        beam = ranked[: climb.beam]
    return beam


async def _climbed(above: Draft, propose: Propose, better: Better, *, climb: Climb, first: int) -> Draft:
    """A local optimum of the level below a draft. The level's first text is taken as it comes."""
    current = (*above, await propose([(*above, "")], first))
    failed, made = 0, 1
    while failed < climb.failures and made < climb.steps:
        revised = (*above, await propose([current], first + made))
        made += 1
        if revised != current and await better(revised, current):
            current, failed = revised, 0
        else:
            failed += 1
    return current


async def _joined(ranked: list[Draft], propose: Propose, better: Better, *, climb: Climb, first: int) -> list[Draft]:
    """With another in front that joins them all, where one of the trials beats the best."""
    for trial in range(climb.recombinations if len(ranked) > 1 else 0):
        joined = (*ranked[0][:-1], await propose(ranked, first + trial))
        if joined not in ranked and await better(joined, ranked[0]):
            return [joined, *ranked]
    return ranked


async def ranking(drafts: Sequence[Draft], better: Better) -> list[Draft]:
    """Those that beat most of the others first; of equals the one that came first."""
    pairs = list(permutations(range(len(drafts)), 2))
    won = await asyncio.gather(*(better(drafts[i], drafts[j]) for i, j in pairs))
    wins = [sum(one for (i, _), one in zip(pairs, won, strict=True) if i == place) for place in range(len(drafts))]
    return [drafts[place] for place in sorted(range(len(drafts)), key=lambda place: -wins[place])]


def by_number(value: Callable[[Draft], Awaitable[float]]) -> Better:
    """Compares what was measured; every draft is measured once."""
    known: dict[Draft, asyncio.Task[float]] = {}

    def measured(draft: Draft) -> "asyncio.Task[float]":
        if draft not in known:
            known[draft] = asyncio.ensure_future(value(draft))
        return known[draft]

    async def better(new: Draft, old: Draft) -> bool:
        return await measured(new) > await measured(old)

    return better


def by_votes(judges: Sequence[Callable[[Draft, Draft], Awaitable[bool | None]]]) -> Better:
    """An ensemble: a judge says whether its first draft is strictly better, and is asked in both orders.

    A judge that prefers the place rather than the draft says yes twice, or no twice, and has no vote; None is no vote, too.
    The new one is better by more votes for than against it. The same model may be several judges (#224).
    """

    async def vote(judge: Callable[[Draft, Draft], Awaitable[bool | None]], new: Draft, old: Draft) -> int:
        forth, back = await judge(new, old), await judge(old, new)
        return 0 if forth is None or back is None or forth == back else (1 if forth else -1)

    async def better(new: Draft, old: Draft) -> bool:
        return sum(await asyncio.gather(*(vote(judge, new, old) for judge in judges))) > 0

    return better
