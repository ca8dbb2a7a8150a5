"""How good a judge is, in figures with intervals. To add a measure: a function, a test, a line in `JUDGE_MEASURES`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import tanh
from statistics import fmean
from typing import TYPE_CHECKING

from journeyman.evaluation.judging.items import Item, Kind
from journeyman.evaluation.judging.scores import Judged, Outcome
from journeyman.evaluation.statistics import Estimate, Sums, estimate, pass_hat_k, wilson
from journeyman.rewards.judge import transcript
from journeyman.rewards.probes import MOST_FOOLED
from journeyman.trajectory import Trajectory

if TYPE_CHECKING:
    import numpy as np

LENGTHS = ("short", "middle", "long")
"""Thirds of the items by the characters of both sides. Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number on a judge with its 95 % interval."""

    value: float
    low: float
    high: float
    items: int
    """What it is made of: items, pairs or probes."""
    chance: float | None = None
    """What a judge that knows nothing gets."""
    note: str = ""
    """What to think of it, where there is something."""


Figures = dict[str, Figure]
JudgeMeasure = Callable[[Judged], Figures]
"""Figures by name; none where there are no items that the measure is about."""


def pairwise(judged: Judged) -> Figures:
    """Pairwise accuracy as RewardBench has it (arXiv 2403.13787, derived): the right answer scores higher; a tie is a half.

    An item is the mean over its pairs, a family the mean over its items, `macro` the plain mean over the families.
    """
    found = {item: fmean(_wins(right, wrong)) for item, right, wrong in _answers(judged)}
    return _by_family(found, chance=0.5)


def best_of_n(judged: Judged) -> Figures:
    """Best-of-N accuracy with ties (RewardBench 2, #58, verified): 0 where a wrong answer scores highest, else 1 over
    the number of answers that do.

    `macro` is the plain mean over the families; the tied items' score (`ties`) is one of them where there are any. Of
    several right answers those at the top count together (ours).
    """
    found = {item: _top_share(right, wrong) for item, right, wrong in _answers(judged)}
    also = _tie_scores(judged)
    chances = [len(item.chosen) / (len(item.chosen) + len(item.rejected)) for item in found]
    return _by_family(found, chance=fmean(chances) if chances and not also else None, also=also)


def ties(judged: Judged) -> Figures:
    """The ties score (RewardBench 2, #58, verified): all right answers above all wrong ones, and nearer to each other
    than to those.

    With the spread of the right ones and the gap down to the best wrong one: 0.3 [gap > 0] + 0.3 [the twin's gap > 0] +
    0.2 [gap > spread] + 0.2 [the smaller gap > spread] + 0.01 tanh(the smaller gap / spread - 1). At most 1.01. Tied
    items whose twin isn't there, or isn't scored, are left out.
    """
    scores = {item.id: (score, 1.0) for item, score in _tie_scores(judged).items()}
    return _named("ties", estimate(scores), len(scores))


def one_to_many(judged: Judged) -> Figures:
    """One right answer against many wrong ones (RewardMATH, #25, verified): `strict`, above all of them; `weak`, at least
    as high as all; `mrr`, one over its rank, last among its equals; `acc@k`, above k of them drawn at random.

    `acc@k` is exact, not drawn, over the items with k wrong answers or more. Of several right ones the mean is taken
    (ours). Strict accuracy of a judge that knows nothing is 1 / (1 + wrong ones), not a half.
    """
    rows = [(item, right, wrong) for item, right, wrong in _answers(judged) if len(wrong) > 1]
    chance = fmean([1 / (1 + len(wrong)) for _, _, wrong in rows]) if rows else None

    def figure(name: str, value: Callable[[float, Sequence[float]], float], chance: float | None = None) -> Figures:
        sums = {item.id: (fmean(value(c, wrong) for c in right), 1.0) for item, right, wrong in rows}
        return _named(name, estimate(sums), len(rows), chance=chance)

    made = figure("strict", lambda c, wrong: float(c > max(wrong)), chance)
    made |= figure("weak", lambda c, wrong: float(c >= max(wrong)))
    made |= figure("mrr", lambda c, wrong: 1 / (1 + sum(w >= c for w in wrong)))
    for k in range(1, max((len(wrong) for _, _, wrong in rows), default=0) + 1):
        made |= _at_k(rows, k)
    return made


def families(judged: Judged) -> Figures:
    """Whole attempts pair by pair, by family and by length (Plan-RewardBench, #124, secondary).

    The first of either side is a pair; a tie is a half. Lengths are thirds of the items (ours). The order in which a
    judge is shown the sides is drawn by seed.
    """
    found = {item: _win(right[0], wrong[0]) for item, right, wrong in _answers(judged)}
    order = sorted(found, key=lambda item: (_length(item.chosen[0]) + _length(item.rejected[0]), item.id))
    parts = {f"family/{name}": [i for i in found if i.family == name] for name in sorted({i.family for i in found})}
    for number, name in enumerate(LENGTHS):
        parts[f"length/{name}"] = order[len(order) * number // 3 : len(order) * (number + 1) // 3]
    return {
        name: figure
        for part, items in parts.items()
        for name, figure in _named(
            part, estimate({i.id: (found[i], 1.0) for i in items}), len(items), chance=0.5
        ).items()
    }


def steps(judged: Judged) -> Figures:
    """Steps and answers (ToolComp, #9, derived): `step`, how often the step that a human has corrected scores higher than
    the original (a tie is a half, ours); `answer_rank@1`, how often an attempt with the right answer is the best of N.

    Items of kind `step` hold attempts up to that step; a reward that pays turn by turn is read with `reduce: last`.
    """
    step = {item.id: (fmean(_wins(right, wrong)), 1.0) for item, right, wrong in judged.of(Kind.STEP)}
    best = {item.id: (_top_share(right, wrong), 1.0) for item, right, wrong in _answers(judged)} if step else {}
    return _named("step", estimate(step), len(step), chance=0.5) | _named("answer_rank@1", estimate(best), len(best))


def agreement(judged: Judged) -> Figures:
    """Agreement with people's preferences (LitBench, #205, verified): how often the chosen one scores strictly higher, with
    Wilson's interval.

    Beside it two judges that read nothing, the longer one wins and the one with more calls wins: an interval of theirs
    without a half says that the set itself is biased. The first of either side is a pair; their ties are a half (ours).
    """
    rows = _answers(judged)
    made = {"agreement": [float(right[0] > wrong[0]) for _, right, wrong in rows]}
    made["longer_wins"] = [_win(_length(item.chosen[0]), _length(item.rejected[0])) for item, _, _ in rows]
    made["more_calls_wins"] = [_win(len(i.chosen[0].calls), len(i.rejected[0].calls)) for i, _, _ in rows]
    figures: Figures = {}
    for name, wins in made.items():
        found = wilson(sum(wins), len(wins))
        biased = found is not None and name != "agreement" and not found.low <= 0.5 <= found.high
        figures |= _named(name, found, len(wins), chance=0.5, note="the set is biased" if biased else "")
    return figures


def swap(judged: Judged) -> Figures:
    """Swap consistency (LitBench, #205, derived): how often the same one wins after the two have changed places.

    `first_wins` is how often the one shown first wins, a half where places don't count. A tie in both orders is
    consistent, and half a win (ours). A judge that always says "first" has consistency 0.
    """
    known = [pair for one in judged.swaps if (pair := _both(one.first, one.second)) is not None]
    same = wilson(sum(first == second for first, second in known), len(known))
    first = wilson(sum((first + 1 - second) / 2 for first, second in known), len(known))
    return _named("consistency", same, len(known)) | _named("first_wins", first, len(known), chance=0.5)


def probes(judged: Judged) -> Figures:
    """False positives of answers that say nothing (One Token to Fool, #60, derived): the share of requests in which each
    of ten probes is taken for right, by probe and by family, with Wilson's interval.

    A judge should pay no reward unless every rate is below 1 %. What could not be read is no false positive.
    """
    groups: dict[str, list[bool]] = {}
    told = _told(judged)
    for (family, probe), fooled in told.items():
        groups.setdefault(repr(probe), []).extend(fooled)
        if len({family for family, _ in told}) > 1:
            groups[f"{family}/{probe!r}"] = fooled
    figures: Figures = {}
    for name, fooled in groups.items():
        rate = fmean(fooled)
        note = "" if rate < MOST_FOOLED else f"not below {MOST_FOOLED:.0%}"
        figures |= _named(name, wilson(sum(fooled), len(fooled)), len(fooled), note=note)
    return figures


def worst_rates(judged: Judged) -> dict[str, float]:
    """Of each probe the highest false positive rate among the families, for `journeyman.rewards.probes.gate`."""
    rates: dict[str, float] = {}
    for (_, probe), fooled in _told(judged).items():
        rates[probe] = max(rates.get(probe, 0.0), fmean(fooled))
    return rates


JUDGE_MEASURES: dict[str, JudgeMeasure] = {
    "pairwise": pairwise,
    "best_of_n": best_of_n,
    "ties": ties,
    "one_to_many": one_to_many,
    "families": families,
    "steps": steps,
    "agreement": agreement,
    "swap": swap,
    "probes": probes,
}
"""Name on the command line -> function of all that a judge was asked."""


def _told(judged: Judged) -> dict[tuple[str, str], list[bool]]:
    """(family, probe) -> whether the judge was fooled, where that could be told."""
    groups: dict[tuple[str, str], list[bool]] = {}
    for one in judged.probed:
        if one.fooled is not None:
            groups.setdefault((one.family, one.probe), []).append(one.fooled)
    return groups


def _answers(judged: Judged) -> list[tuple[Item, list[float], list[float]]]:
    return judged.of(Kind.ANSWER)


def _win(better: float, worse: float) -> float:
    return 1.0 if better > worse else 0.5 if better == worse else 0.0


def _wins(right: Sequence[float], wrong: Sequence[float]) -> list[float]:
    return [_win(c, w) for c in right for w in wrong]


def _top_share(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Which share of the answers with the highest score is right."""
    top = max(*right, *wrong)
    best = sum(score == top for score in right)
    return best / (best + sum(score == top for score in wrong))


def _both(first: Outcome, second: Outcome) -> tuple[float, float] | None:
    return None if first is None or second is None else (first, second)


def _length(trajectory: Trajectory) -> int:
    """Characters of all that the attempt says and sees."""
    return len(transcript(trajectory))


def _tie_scores(judged: Judged) -> dict[Item, float]:
    twins = {item.id: (right, wrong) for item, right, wrong in judged.of(Kind.TWIN)}
    tied = [(item, right, wrong) for item, right, wrong in judged.of(Kind.TIED) if item.twin in twins]
    return {item: tie_score((right, wrong), twins[item.twin]) for item, right, wrong in tied}


def tie_score(tied: tuple[Sequence[float], Sequence[float]], twin: tuple[Sequence[float], Sequence[float]]) -> float:
    """Of one tied item and its twin, each (scores of the right ones, of the wrong ones); see `ties`."""
    spread = max(tied[0]) - min(tied[0])
    gap, twins = (min(right) - max(wrong) for right, wrong in (tied, twin))
    smaller = min(gap, twins)
    score = 0.3 * (gap > 0) + 0.3 * (twins > 0) + 0.2 * (gap > spread) + 0.2 * (smaller > spread)
    return score + 0.01 * _margin(smaller, spread)


def _margin(gap: float, spread: float) -> float:
    """tanh(gap / spread - 1), at its limits where there is no spread, and 0 where there is no gap either."""
    return tanh(gap / spread - 1) if spread else float(gap > 0) - float(gap < 0)


def _at_k(rows: Sequence[tuple[Item, list[float], list[float]]], k: int) -> Figures:
    sums = {
        item.id: (fmean(pass_hat_k(len(wrong), sum(w < c for w in wrong), k) for c in right), 1.0)
        for item, right, wrong in rows
        if len(wrong) >= k
    }
    return _named(f"acc@{k}", estimate(sums), len(sums), chance=1 / (1 + k))


def _by_family(
    found: Mapping[Item, float], *, chance: float | None, also: Mapping[Item, float] | None = None
) -> Figures:
    """Each family's mean, the mean of these, and that over all items; `also`: items of a family of their own, `ties`."""
    values = {item.id: (item.family, value) for item, value in found.items()}
    values |= {item.id: ("ties", value) for item, value in (also or {}).items()}
    names = sorted({family for family, _ in values.values()})
    sums: dict[str, Sums] = {
        item: tuple(part for name in names for part in ((value, 1.0) if name == family else (0.0, 0.0)))
        for item, (family, value) in values.items()
    }
    made = _named("macro", estimate(sums, statistic=_mean_of_shares) if sums else None, len(sums), chance=chance)
    if len(names) < 2:
        return made
    made |= _named("micro", estimate({item: (v, 1.0) for item, (_, v) in values.items()}), len(sums), chance=chance)
    for name in names:
        own = {item: (value, 1.0) for item, (family, value) in values.items() if family == name}
        made |= _named(f"family/{name}", estimate(own), len(own))
    return made


def _mean_of_shares(sums: "np.ndarray") -> "np.ndarray":
    """From sums and counts in turns, a pair a family, to the mean of their shares; NaN where a family was not drawn."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        return (sums[0::2] / sums[1::2]).mean(axis=0)


def _named(name: str, found: Estimate | None, items: int, *, chance: float | None = None, note: str = "") -> Figures:
    if found is None:
        return {}
    values = {side: round(getattr(found, side), 6) for side in ("value", "low", "high")}
    return {name: Figure(**values, items=items, chance=None if chance is None else round(chance, 6), note=note)}
