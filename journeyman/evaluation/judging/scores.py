"""What a judge says of items: a score for each answer, who wins in either order, and whether it falls for probes."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

from journeyman.evaluation.judging.items import Item, Kind, blind
from journeyman.progress import Observer
from journeyman.rewards.base import Group, Judge, Reward, Score
from journeyman.rewards.graded import RUBRIC, comparing
from journeyman.rewards.judge import judgeable, read_choice
from journeyman.rewards.probes import PROBES
from journeyman.trajectory import StopReason, Trajectory, Turn

CHUNK = 16
"""Questions after which progress is told."""
FOOLED_FROM = 0.5
"""The score from which an answer is taken for right. Ours; for verdicts of 0 and 1 it is without meaning."""
SMALLEST = 1e-6
"""How near to 0 and 1 a step's score may come where its logarithm or odds are taken. Ours."""

Outcome = float | None
"""1: the chosen one is better, 0: the rejected one, .5: neither; None: could not be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An item with its scores; None, or what is no number: could not be scored."""

    item: Item
    chosen: tuple[float | None, ...]
    rejected: tuple[float | None, ...]

    def known(self) -> tuple[list[float], list[float]] | None:
        """Both sides' scores; None where one is missing: the item is then left out, and counted."""
        right, wrong = (
            [score for score in side if score is not None and not math.isnan(score)]
            for side in (self.chosen, self.rejected)
        )
        complete = len(right) == len(self.chosen) and len(wrong) == len(self.rejected)
        return (right, wrong) if complete else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A pair shown in both orders."""

    item: Item
    first: Outcome
    """With the chosen one first."""
    second: Outcome
    """With the chosen one second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """An answer that says nothing, in place of an item's."""

    family: str
    probe: str
    fooled: bool | None
    """Whether it was taken for right; None: could not be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All that a judge was asked."""

    scored: tuple[Scored, ...]
    swaps: tuple[Swap, ...] = ()
    probed: tuple[Probed, ...] = ()

    def of(self, *kinds: Kind) -> list[tuple[Item, list[float], list[float]]]:
        """(item, scores of the chosen ones, of the rejected ones) of those kinds, where all could be scored."""
        found = [(one.item, one.known()) for one in self.scored if one.item.kind in kinds]
        return [(item, *known) for item, known in found if known is not None]


class Asking(Protocol):
    """What stands for the judge here."""

    def scores(self, item: Item) -> Scored: ...

    def outcome(self, first: Trajectory, second: Trajectory) -> Outcome:
        """Of a pair in this order; 1: the first is better."""
        ...

    def fooled(self, probe: Trajectory) -> bool | None:
        """Whether a probe is taken for right; None: it can't be told."""
        ...


def ask_all(
    asking: Asking,
    items: Sequence[Item],
    observer: Observer,
    *,
    swaps: bool = True,
    probes: bool = True,
    at_once: int = 1,
) -> Judged:
    """Ask a judge about all items, `at_once` of them at the same time. Raises what asking raises."""
    work: list[Callable[[], Scored | Swap | Probed]] = [_bind(_scores, asking, item) for item in items]
    if swaps:
        work += [_bind(_swap, asking, item) for item in items if item.kind in (Kind.ANSWER, Kind.STEP)]
    if probes:
        asked_for = {(item.family, t.question): t for item in items for t in item.chosen[:1]}
        work += [_bind(_probe, asking, family, probe, t) for (family, _), t in asked_for.items() for probe in PROBES]
    made: list[Scored | Swap | Probed] = []
    with ThreadPoolExecutor(at_once) as threads:
        for start in range(0, len(work), CHUNK):
            observer.progress(start, len(work), "asking the judge")
            made += threads.map(lambda one: one(), work[start : start + CHUNK])
    observer.progress(len(work), len(work), "asking the judge")
    return Judged(
        scored=tuple(one for one in made if isinstance(one, Scored)),
        swaps=tuple(one for one in made if isinstance(one, Swap)),
        probed=tuple(one for one in made if isinstance(one, Probed)),
    )


def _bind(function: Callable, *arguments: object) -> Callable[[], Scored | Swap | Probed]:
    return lambda: function(*arguments)


def _scores(asking: Asking, item: Item) -> Scored:
    return asking.scores(item)


def _swap(asking: Asking, item: Item) -> Swap:
    """The first of either side, in both orders."""
    chosen, rejected = item.chosen[0], item.rejected[0]
    second = asking.outcome(rejected, chosen)
    return Swap(
        item=item,
        first=asking.outcome(chosen, rejected),
        second=None if second is None else 1 - second,
    )


def _probe(asking: Asking, family: str, probe: str, instead_of: Trajectory) -> Probed:
    turns = (Turn(text=probe),)
    said = replace(instead_of, turns=turns, answer=probe, stop_reason=StopReason.ANSWER, correct=None, score=None)
    return Probed(family=family, probe=probe, fooled=asking.fooled(said))


class ByReward:
    """A reward as a judge: the answers of an item are a group, in an order drawn by seed.

    Args:
        reward: any of the project's; it must be safe in threads.
        reduce: a name of `REDUCERS`: the score is then made of what the reward pays turn by turn (#25).
        verdicts: whether the world's verdicts, where attempts bring them, can be seen.
    """

    def __init__(self, reward: Reward, *, reduce: str = "", verdicts: bool = False, seed: int = 0) -> None:
        self._reward, self._verdicts, self._seed = reward, verdicts, seed
        self._reduce = REDUCERS[reduce] if reduce else None

    def scores(self, item: Item) -> Scored:
        order = item.shuffled(self._seed)
        found = self._of([t for _, _, t in order])
        by_place = {(chosen, place): score for (chosen, place, _), score in zip(order, found, strict=True)}
        return Scored(
            item=item,
            chosen=tuple(by_place[True, i] for i in range(len(item.chosen))),
            rejected=tuple(by_place[False, i] for i in range(len(item.rejected))),
        )

    def outcome(self, first: Trajectory, second: Trajectory) -> Outcome:
        a, b = self._of([first, second])
        return None if a is None or b is None else (float(a > b) if a != b else 0.5)

    def fooled(self, probe: Trajectory) -> bool | None:
        [score] = self._of([probe])
        return None if score is None else score >= FOOLED_FROM

    def _of(self, trajectories: Sequence[Trajectory]) -> list[float | None]:
        shown = tuple(trajectories) if self._verdicts else blind(trajectories)
        return [self._total(score) for score in self._reward(Group(trajectories=shown))]

    def _total(self, score: Score) -> float | None:
        if self._reduce is None or score.total is None:
            return score.total
        return self._reduce(score.turns) if score.turns else None


class ByComparison:
    """A model that is shown two answers and says which is better; each pair in one order, drawn by seed.

    An item's scores are those of RewardMATH for judges that compare (#25, verified): with n wrong answers the right one
    has 1 + its wins, each one that it beats 1, each other one n + 2; a tie beats nobody. Items with several right
    answers can't be scored so. Probes are not put to it: nothing is right or wrong in a comparison.
    """

    def __init__(self, judge: Judge, *, rubric: str = RUBRIC, seed: int = 0) -> None:
        self._judge, self._rubric, self._seed = judge, rubric, seed

    def scores(self, item: Item) -> Scored:
        nothing = Scored(item=item, chosen=(None,) * len(item.chosen), rejected=(None,) * len(item.rejected))
        if len(item.chosen) > 1:
            return nothing
        outcomes = [self._either_way(item, place) for place in range(len(item.rejected))]
        if any(outcome is None for outcome in outcomes):
            return nothing
        right, wrong = from_wins([outcome == 1 for outcome in outcomes])
        return Scored(item=item, chosen=(right,), rejected=wrong)

    def outcome(self, first: Trajectory, second: Trajectory) -> Outcome:
        a, b = blind([first, second])
        if len(judgeable([a, b])) < 2:
            return None
        said = self._judge.ask([comparing(a, b, self._rubric)])[0][0]
        return {"a": 1.0, "b": 0.0, "tie": 0.5}.get(read_choice(said, among=("a", "b", "tie")) or "")

    def fooled(self, probe: Trajectory) -> bool | None:
        return None

    def _either_way(self, item: Item, place: int) -> Outcome:
        order = replace(item, id=f"{item.id} {place}", rejected=(item.rejected[place],)).shuffled(self._seed)
        found = self.outcome(order[0][2], order[1][2])
        return found if found is None or order[0][0] else 1 - found


def from_wins(won: Sequence[bool]) -> tuple[float, tuple[float, ...]]:
    """(score of the right answer, scores of the wrong ones) out of which of them it beats (#25)."""
    return 1.0 + sum(won), tuple(1.0 if beaten else len(won) + 2.0 for beaten in won)


def _clipped(value: float) -> float:
    return min(max(value, SMALLEST), 1 - SMALLEST)


def _geometric(values: Sequence[float]) -> float:
    return math.exp(fmean(math.log(max(value, SMALLEST)) for value in values))


REDUCERS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "max": max,
    "product": math.prod,
    "geometric": _geometric,
    "mean": fmean,
    "mean_logit": lambda values: fmean(math.log(_clipped(v) / (1 - _clipped(v))) for v in values),
    "mean_odds": lambda values: fmean(_clipped(v) / (1 - _clipped(v)) for v in values),
    "last": lambda values: values[-1],
}
"""Scores of steps to one of the whole, as RewardMATH has them for step models (#25): report several, they reorder models."""
