"""Rewards that tick off what a problem's data asks for: checklists, rules, principles."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from journeyman.errors import DataError
from journeyman.expressions import Count, NotNegative
from journeyman.rewards.base import Group, Judge, Score, TurnScores
from journeyman.rewards.judge import (
    Rule,
    asked,
    judgeable,
    numbered,
    question,
    quoted,
    read_json,
    shares_of_yes,
    spread,
    ticked,
    transcript,
)
from journeyman.trajectory import Trajectory

# ---- CM2's checklists


class Criterion(BaseModel):
    """One thing that a turn of the dialogue must show (#120)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    """Is it so? In words."""
    id: str = ""
    """What others depend on; empty: its place in the turn's list, from 1."""
    focus_on: str = ""
    pass_condition: str = ""
    failure_examples: tuple[str, ...] = ()
    evidence: str = ""
    """What a good dialogue shows at this point."""
    weight: float = Field(default=1.0, gt=0)
    """Those of a turn are scaled to a sum of 1."""
    depends_on: tuple[str, ...] = ()
    """Ids of criteria of the same turn, without which this one doesn't count."""


class Checked(BaseModel):
    """What is looked for after one turn of the user (#120)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turn: int = Field(default=0, ge=0)
    """Of the user: 0 is the request, 1 what it said next."""
    criteria: tuple[Criterion, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class _Ticks:
    """What of a checklist an attempt has passed."""

    turns: tuple[float, ...]
    """One number in [0, 1] for each turn of the user that is looked at."""
    passed: float
    """Share of all criteria, whatever they weigh."""


def checklist(group: Group, *, votes: Count = 1, rule: Rule = "majority", judge: Judge) -> list[Score]:
    """CM2's checklist reward (#120, verified), sparse as its script has it: the mean over the user's turns of
    r_t = sum_k w_k b_k, b_k whether a judge finds criterion k met; one counts only if those that it depends on do.

    `data["checklist"]` is a list of `Checked`, one for each turn of the user. A turn that the attempt never came to earns
    0 (ours). All criteria of a turn are asked for at once (ours). The authors take A = R - mean: the
    credit `group_mean`. Unscorable where a turn's answer can't be read.
    """
    return [
        Score(total=None) if one is None else Score(total=fmean(one.turns), parts=_parts(one))
        for one in _checked(group, votes, rule, judge)
    ]


def checklist_turns(group: Group, *, votes: Count = 1, rule: Rule = "majority", judge: Judge) -> TurnScores:
    """CM2's checklist reward, turn by turn (#120, verified: in the authors' code, but not what its script selects).

    As `checklist`, but each r_t is earned by the policy's last turn before the user speaks again, divided by #turns (ours)
    so that the sum is the same. NOT covered: credit for single criteria with a delay.
    """
    scores = []
    for t, one in zip(group, _checked(group, votes, rule, judge), strict=True):
        if one is None:
            scores.append(Score(total=None))
            continue
        paid, stretches = [0.0] * len(t.turns), exchanges(t)
        for entry, earned in zip(_checklist(group), one.turns, strict=True):
            if entry.turn < len(stretches):
                paid[stretches[entry.turn].stop - 1] += earned / len(one.turns)
        scores.append(
            Score(total=sum(paid), parts=_parts(one), turns=tuple(paid), turn_parts={"checklist": tuple(paid)})
        )
    return scores


def exchanges(trajectory: Trajectory) -> list[slice]:
    """The policy's turns between two words of the user: one stretch for the request, and one for each reply."""
    ends = [number for number, turn in enumerate(trajectory.turns, 1) if turn.reply]
    size = len(trajectory.turns)
    stops = [*ends, *([size] if size > (ends[-1] if ends else 0) else [])]
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def counted(criteria: Sequence[Criterion], met: Sequence[bool]) -> list[bool]:
    """Which criteria count: those that are met and whose dependencies count, however far back.

    Raises `DataError` where a dependency is not in the list, or depends on itself.
    """
    places = {criterion.id or str(number): number - 1 for number, criterion in enumerate(criteria, 1)}
    found: dict[int, bool] = {}

    def counts(place: int, above: tuple[int, ...]) -> bool:
        if place in above:
            raise DataError(f"criterion {criteria[place].question!r} depends on itself", place="checklist")
        if place not in found:
            needed = []
            for name in criteria[place].depends_on:
                if name not in places:
                    raise DataError(f"there is no criterion {name!r} to depend on", place="checklist")
                needed.append(counts(places[name], (*above, place)))
            found[place] = met[place] and all(needed)
        return found[place]

    return [counts(place, ()) for place in range(len(criteria))]


def _checklist(group: Group) -> list[Checked]:
    return _data(group, "checklist", _CHECKLIST)


def _checked(group: Group, votes: int, rule: Rule, judge: Judge) -> list[_Ticks | None]:
    entries = _checklist(group)
    places = judgeable(group) if entries else []
    stretches = {i: exchanges(group[i]) for i in places}
    reached = [(i, entry) for i in places for entry in entries if entry.turn < len(stretches[i])]
    asks = [(_checking(group[i], stretches[i][e.turn], e.criteria), len(e.criteria)) for i, e in reached]
    found = iter(ticked(judge, asks, votes=votes, rule=rule))
    met = {
        i: [next(found) if e.turn < len(stretches[i]) else [False] * len(e.criteria) for e in entries] for i in places
    }
    return [_weighed(entries, met[i]) if i in met else None for i in range(len(group))]


def _weighed(entries: Sequence[Checked], met: Sequence[Sequence[bool] | None]) -> _Ticks | None:
    """None where what is met of an entry could not be read."""
    turns: list[float] = []
    passed: list[bool] = []
    for entry, own in zip(entries, met, strict=True):
        if own is None:
            return None
        counts = counted(entry.criteria, own)
        weights = [criterion.weight for criterion in entry.criteria]
        turns.append(sum(w for w, b in zip(weights, counts, strict=True) if b) / sum(weights))
        passed += counts
    return _Ticks(tuple(turns), fmean(passed))


def _parts(ticks: _Ticks) -> dict[str, float]:
    return {"checklist": fmean(ticks.turns), "criteria_passed": ticks.passed}


def _checking(trajectory: Trajectory, turns: slice, criteria: Sequence[Criterion]) -> str:
    return question(
        "Which of these criteria does the assistant meet in the last exchange? A criterion is met only if what it is about "
        "is there, its condition holds, and nothing like its examples of failure is.\n" + numbered(_lines(criteria)),
        asked(trajectory),
        *(["What came before:", transcript(trajectory, slice(0, turns.start))] if turns.start else []),
        "The last exchange:",
        transcript(trajectory, turns),
        reply=f"Write a JSON list of {len(criteria)} times true or false, in order, and nothing else.",
    )


def _lines(criteria: Sequence[Criterion]) -> list[str]:
    return [
        " ".join(
            [
                c.question,
                *([f"Look at: {c.focus_on}."] if c.focus_on else []),
                *([f"Met if: {c.pass_condition}."] if c.pass_condition else []),
                *([f"Not met if, for example: {'; '.join(c.failure_examples)}."] if c.failure_examples else []),
                *([f"A good one: {c.evidence}."] if c.evidence else []),
            ]
        )
        for c in criteria
    ]


# ---- AutoRule


def rules(
    group: Group, *, rules: tuple[str, ...] = (), votes: Count = 1, rule: Rule = "majority", judge: Judge
) -> list[Score]:
    """AutoRule (#166, secondary): the share of K rules that a judge finds kept, all of them asked for in one call.

    The rules are those of the option and of `data["rules"]`; `extract_rules` makes them out of pairs. The authors add
    a learned reward model's score, normalised, and train with group advantages. Unscorable without rules.
    """
    every = [*rules, *_data(group, "rules", _TEXTS)]
    places = judgeable(group) if every else []
    asks = [(ruling(asked(group[i]) + "\n" + transcript(group[i]), every), len(every)) for i in places]
    shares = [None if kept is None else fmean(kept) for kept in ticked(judge, asks, votes=votes, rule=rule)]
    found = spread(places, shares, len(group))
    return [Score(total=share, parts={} if share is None else {"rules": share}) for share in found]


def ruling(shown: str, rules: Sequence[str]) -> str:
    """The question which rules an attempt keeps; `shown` is quoted already."""
    return question(
        f"Which of these rules does the assistant keep?\n{numbered(rules)}",
        shown,
        reply=f"Write a JSON list of {len(rules)} times true or false, in order, and nothing else.",
    )


KEPT_FROM, MOST_RULES = 0.6, 20
"""Agreement from which a rule is kept, and how many at most. Ours (#166)."""


def rule_agreement(pairs: Sequence[tuple[bool, bool]]) -> float:
    """How well one rule tells the better of two apart (AutoRule #166, ours): the share of pairs (kept by the chosen,
    kept by the rejected) in which only the chosen keeps it, and half of those in which both do or neither."""
    return fmean((1 + chosen - rejected) / 2 for chosen, rejected in pairs) if pairs else 0.0


def keep_rules(agreement: Mapping[str, float], *, least: float = KEPT_FROM, most: int = MOST_RULES) -> list[str]:
    """The rules that agree best with the pairs, best first: none below `least`, at most `most` (#166, ours)."""
    kept = sorted((rule for rule, share in agreement.items() if share >= least), key=lambda rule: -agreement[rule])
    return kept[:most]


def extract_rules(
    judge: Judge, pairs: Sequence[tuple[str, str]], *, held_out: Sequence[tuple[str, str]] = ()
) -> dict[str, float]:
    """Rules out of (chosen, rejected) attempts, each with its agreement on the held-out pairs (AutoRule #166, verified).

    Three steps: the judge says why the chosen one is better, states what it said as rules, and merges all of them. That
    rules are tested on pairs which they were not made of is ours; without any, they are tested on their own. Texts are
    quoted here. `keep_rules` chooses.
    """
    why = [answers[0] for answers in judge.ask([_explaining(*pair) for pair in pairs])]
    stated = [line for reply in judge.ask([_stating(one) for one in why]) for line in _texts(reply[0])]
    if not stated:
        return {}
    merged = _texts(judge.ask([_merging(stated)])[0][0]) or list(dict.fromkeys(stated))
    tested = held_out or pairs
    asks = [(ruling(quoted("attempt", text), merged), len(merged)) for pair in tested for text in pair]
    kept = ticked(judge, asks)
    both = [(a, b) for a, b in zip(kept[::2], kept[1::2], strict=True) if a is not None and b is not None]
    return {rule: rule_agreement([(a[i], b[i]) for a, b in both]) for i, rule in enumerate(merged)}


def _explaining(chosen: str, rejected: str) -> str:
    task = "The first of two attempts is the better one. Say step by step why."
    return question(task, quoted("better", chosen), quoted("worse", rejected), reply="Think aloud.")


def _stating(why: str) -> str:
    task = "State the reasons given here as rules that anybody can check on an attempt, one sentence each."
    return question(task, quoted("reasons", why), reply="Write a JSON list of texts, and nothing else.")


def _merging(stated: Sequence[str]) -> str:
    task = "Merge the rules that say the same, and leave out those that are vague."
    return question(task, quoted("rules", numbered(stated)), reply="Write a JSON list of texts, and nothing else.")


def _texts(reply: str) -> list[str]:
    """The texts of a JSON list."""
    values = read_json(reply)
    said = [" ".join(value.split()) for value in values if isinstance(value, str)] if isinstance(values, list) else []
    return list(dict.fromkeys(text for text in said if text))


# ---- RLBFF


def principles(
    group: Group,
    *,
    principles: tuple[str, ...] = (),
    form: Literal["logit", "difference"] = "logit",
    votes: Count = 4,
    smoothing: NotNegative = 0.5,
    judge: Judge,
) -> list[Score]:
    """RLBFF (#189, derived): for each principle logit(yes) - logit(no) of a judge who says whether it is kept; the mean.

    The judge's probability of a yes is here the share of its votes, (yes + s) / (votes + 2 s) with s = `smoothing`, so
    that the logit is finite (ours). `difference`: p(yes) - p(no), in [-1, 1] (ours). The principles are those of the
    option and of `data["principles"]`. Unscorable without principles, or where one can't be read.
    """
    every = [*principles, *_data(group, "principles", _TEXTS)]
    places = judgeable(group) if every else []
    asks = [_principled(group[i], one) for i in places for one in every]
    shares = iter(shares_of_yes(judge, asks, votes=votes))
    worth = partial(leaning, votes=votes, smoothing=smoothing, form=form)
    values = [[worth(share) for share in own] for own in _portions(shares, len(places), len(every))]
    means = [None if None in own else fmean(value for value in own if value is not None) for own in values]
    found = spread(places, means, len(group))
    return [Score(total=mean, parts={} if mean is None else {"principles": mean}) for mean in found]


def leaning(share: float | None, *, votes: int, smoothing: float, form: Literal["logit", "difference"]) -> float | None:
    """How much a judge leans to a yes, of whose votes so many were one; 0 for half of them (#189).

    Without smoothing a judge of one mind has an infinite logit.
    """
    if share is None:
        return None
    yes = (share * votes + smoothing) / (votes + 2 * smoothing)
    if form == "difference":
        return 2 * yes - 1
    return math.log(yes / (1 - yes)) if 0 < yes < 1 else math.copysign(math.inf, yes - 0.5)


def _portions(values: Iterator[Any], count: int, size: int) -> list[list[Any]]:
    return [[next(values) for _ in range(size)] for _ in range(count)]


def _principled(trajectory: Trajectory, principle: str) -> str:
    task = f"Does what the assistant did keep this principle? {principle}"
    return question(task, asked(trajectory), transcript(trajectory), reply="Write yes or no, and nothing else.")


# ---- data

_CHECKLIST: TypeAdapter[list[Checked]] = TypeAdapter(list[Checked])
_TEXTS: TypeAdapter[list[str]] = TypeAdapter(list[str])


def _data(group: Group, key: str, kind: TypeAdapter[Any]) -> Any:
    """What stands under a key of the problem's data; an empty list where there is nothing. Raises `DataError`."""
    return read_data(group, key, kind.validate_python)


def read_data(group: Group, key: str, read: Callable[[Any], Any]) -> Any:
    try:
        return read(group.data.get(key) or [])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("data", key, *first["loc"]))
        name = group.problem.id if group.problem else "problem"
        raise DataError(first["msg"], place=f"{name}: {where}", remedy=f"mend the problem's `{key}`") from None
