"""Which tools are worth calling: every path of tools against none, and the one that gains most is learned."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from journeyman.expressions import Count
from journeyman.problem import Problem
from journeyman.synthesis.base import Lesson, Studio, not_right, refusal, signed
from journeyman.synthesis.strategies.hints import tool_helped
from journeyman.synthesis.written import retold
from journeyman.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The attempts with certain tools on offer."""

    tools: tuple[str, ...]
    """Empty: without tools."""
    attempts: tuple[Trajectory, ...]

    @property
    def right(self) -> list[Trajectory]:
        """Those that are right by the means of this path: the tool-free one has no call that worked, others have."""
        solved = [one for one in self.attempts if one.correct and tool_helped(one) == bool(self.tools)]
        return sorted(solved, key=lambda one: len(one.calls))

    @property
    def score(self) -> float | None:
        """Pass rate among the attempts with a verdict; None where none has one."""
        verified = [one for one in self.attempts if one.correct is not None]
        # In a world that puts its tools on offer anyway, what they gave a tool-free attempt doesn't count.
        solved = [one for one in verified if one.correct and (self.tools or not tool_helped(one))]
        return len(solved) / len(verified) if verified else None

    @property
    def calls(self) -> float:
        """Mean number of calls of its right attempts."""
        return sum(len(one.calls) for one in self.right) / len(self.right)


async def gain_driven(
    lesson: Lesson,
    studio: Studio,
    *,
    samples: Count = 4,
    combine: Count = 2,
    paths: Count = 12,
    keep: Count = 1,
) -> Sequence[Lesson]:
    """Gain-driven trajectories: the pass rate with each path of tools against that without tools decides what is kept.
    ForgeryVCR (#147, derived); that a tool has to benefit is DeepEyesV2's rule for data, too (#149, derived).

    A path is a tool of the problem's, or a combination of up to `combine` of them; the first `paths` are tried, small
    ones first. s is the pass rate over `samples` attempts, the same number with and without tools. The path with the
    largest s - s_0 is kept if that is over 0 (ties: fewer calls, then fewer tools): its `keep` right attempts with the
    fewest calls. Where no path gains, a right tool-free one is kept; a problem that nobody solves is dropped. All
    numbers are ours. Added to what the lesson has; a kept attempt shows all of the problem's tools, for not to take
    the others is what is learned. The rest is refused.
    """
    tools = lesson.problem.tools
    sizes = (combinations(tools, size) for size in range(1, combine + 1))
    on_offer = [(), *islice((path for size in sizes for path in size), paths)]
    free, *others = await _attempted(on_offer, lesson, studio, samples)
    best = best_path(free, others)
    kept = best.right[:keep] if best else []
    scores = {"+".join(path.tools) or "none": path.score for path in (free, *others)}
    taken, refused = [], []
    for path in (free, *others):
        for made in path.attempts:
            known = signed(made, "gain_driven", path=list(path.tools), scores=scores)
            if path is best and made in kept:
                shown = await _with_all_tools(known, lesson.problem)
                (refused if not_right(shown) else taken).append(shown)
            else:
                refused.append(refusal(known, _why_not(made, path, best)))
    return [lesson.taking((*lesson.trajectories, *taken), refused)]


def best_path(free: Path, paths: Sequence[Path]) -> Path | None:
    """Of all paths the one to learn from: the largest gain, else the tool-free one; None where nothing is right.

    Without a verdict on the tool-free attempts no gain can be told: None, too.
    """
    if free.score is None:
        return None
    gaining = [path for path in paths if path.right and (path.score or 0.0) > free.score]
    if gaining:
        return min(gaining, key=lambda path: (-(path.score or 0.0), path.calls, len(path.tools)))
    return free if free.right else None


async def _attempted(
    on_offer: Sequence[tuple[str, ...]], lesson: Lesson, studio: Studio, samples: int
) -> Sequence[Path]:
    """`samples` attempts with each of the offers, some of them at once."""
    places = asyncio.Semaphore(studio.parallel)

    async def attempt(tools: tuple[str, ...], number: int) -> Trajectory:
        async with places:
            seed = studio.seed_of("gain_driven", lesson.problem.id, "+".join(tools), number)
            return await studio.teacher.attempt(lesson.problem, seed=seed, tools=tools)

    made = await asyncio.gather(*(attempt(tools, number) for tools in on_offer for number in range(samples)))
    return [
        Path(tools=tools, attempts=tuple(made[i * samples : (i + 1) * samples])) for i, tools in enumerate(on_offer)
    ]


async def _with_all_tools(made: Trajectory, problem: Problem) -> Trajectory:
    """The attempt as one that had all tools on offer: played anew where it shows or has read less."""
    if made.tools == problem.tools and not made.specs and not made.token_ids:
        return made
    texts = [turn.text for turn in made.turns]
    again = await retold(problem, texts, source=made.source, seed=made.seed, provenance=made.provenance)
    reason = not_right(again)
    return refusal(again, f"with all tools on offer: {reason}") if reason else again


def _why_not(made: Trajectory, path: Path, best: Path | None) -> str:
    if reason := not_right(made):
        return reason
    if made not in path.right:
        return "right without a call that worked" if path.tools else "a tool-free attempt that called a tool"
    if best is None or best.tools == ():
        return "its tools gain nothing" if path.tools else "another is kept"
    return "another of its path is kept" if path is best else "another path gains more"
