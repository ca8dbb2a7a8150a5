"""Rewards for atomic facts: whether a report has them, and whether a verifier tells them apart (#77)."""

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from journeyman.expressions import Count, Share
from journeyman.rewards.base import Group, Judge, Score
from journeyman.rewards.checklists import read_data
from journeyman.rewards.judge import (
    Ask,
    answer_of,
    asked,
    judgeable,
    numbered,
    question,
    quoted,
    read_json,
    read_words,
    readings,
    split_thought,
    spread,
)
from journeyman.trajectory import Trajectory

LABELS = ("support", "partial_support", "not_support")
"""What a text does for a nugget (#77)."""


class Nugget(BaseModel):
    """An atomic fact that a good report has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    weight: float = Field(default=1.0, gt=0)


def nuggets(group: Group, *, partial_support: Share = 0.5, at_once: Count = 10, judge: Judge) -> list[Score]:
    """Search-Gen-V's policy reward (#77, secondary): the weighted share of a problem's nuggets that the final answer has,
    sum w V / sum w, with V = 1 for a supported one, 0 for one that isn't.

    What a partly supported one counts (0.5) and how many are asked for at once (10) is ours. `data["nuggets"]` are
    texts, or `Nugget`s with weights; without any the reference answer is the only one. Recall alone pays for padding:
    add a term for length. Unscorable without nuggets, or where the judge can't be read; an empty answer is 0.
    """
    wanted = _nuggets(group)
    values = {"support": 1.0, "partial_support": partial_support, "not_support": 0.0}
    places = [i for i in judgeable(group) if wanted]
    answered = [i for i in places if answer_of(group[i]).strip()]
    portions = [wanted[start : start + at_once] for start in range(0, len(wanted), at_once)]
    asks = [
        Ask(_labelling(group[i], own), partial(read_words, count=len(own), among=LABELS))
        for i in answered
        for own in portions
    ]
    found = iter(readings(judge, asks))
    labels = {i: [next(found) for _ in portions] for i in answered}
    return [
        score or Score(total=None)
        for score in spread(places, [_scored(labels.get(i), wanted, values) for i in places], len(group))
    ]


def _scored(labels: list[list[list[str]]] | None, wanted: Sequence[Nugget], values: dict[str, float]) -> Score | None:
    """`labels`: of each portion the answers that could be read; None: there was nothing to label."""
    if labels is None:
        return Score(total=0.0, parts={"nuggets": 0.0})
    if any(not answers for answers in labels):
        return None
    flat = [label for answers in labels for label in answers[0]]
    whole = sum(nugget.weight for nugget in wanted)
    share = sum(n.weight * values[label] for n, label in zip(wanted, flat, strict=True)) / whole
    return Score(total=share, parts={"nuggets": share})


def nugget_verifier(group: Group) -> list[Score]:
    """Search-Gen-V's reward for a verifier that is trained (#77, verified): 0.35 macro-F1 + 0.35 [all labels right] + 0.2
    reasoning tags + 0.1 list format; 0 where the number of labels is wrong or F1 is 0; a tenth where a thought opens twice.

    `data["labels"]` are the gold labels. A label that stands in neither list has F1 1, as in the authors' code. Tags
    count 1 for one thought before the answer, 0.5 for a single tag or a wrong order, else 0, and the format is a JSON
    list (ours); a list in other brackets or with other separators is read, without what the format pays.
    """
    gold = read_data(group, "labels", _LABELS.validate_python)
    return [
        _verified(t.turns[-1].text if t.turns else "", gold) if gold and t.stop_reason.scorable else Score(total=None)
        for t in group
    ]


def _verified(text: str, gold: Sequence[str]) -> Score:
    visible = split_thought(text)[1]
    listed = read_words(visible, count=len(gold), among=LABELS)
    given = listed or [word for word in _plain(visible) if word in LABELS]
    f1 = macro_f1(gold, given) if len(given) == len(gold) else 0.0
    tags = _tags(text)
    total = 0.35 * f1 + 0.35 * (list(gold) == given) + 0.2 * tags + 0.1 * (listed is not None) if f1 > 0 else 0.0
    total *= 0.1 if text.count("<think>") > 1 else 1.0
    return Score(total=total, parts={"macro_f1": f1, "exact": float(list(gold) == given), "reasoning_tags": tags})


def macro_f1(gold: Sequence[str], given: Sequence[str]) -> float:
    """The mean over the labels of 2 right / (in gold + in given); 1 for a label in neither."""
    scores = []
    for label in LABELS:
        size = list(gold).count(label) + list(given).count(label)
        right = sum(a == b == label for a, b in zip(gold, given, strict=True))
        scores.append(2 * right / size if size else 1.0)
    return fmean(scores)


def _tags(text: str) -> float:
    opened, closed = text.find("<think>"), text.find("</think>")
    if opened < 0 and closed < 0:
        return 0.0
    return 1.0 if 0 <= opened < closed and not text[:opened].strip() and text.count("</think>") == 1 else 0.5


def _plain(text: str) -> list[str]:
    """The words of a text that is no JSON list; of one that is JSON, but something else, none."""
    if read_json(text) is not None:
        return []
    return "".join(c if c.isalpha() or c == "_" else " " for c in text.casefold()).split()


_NUGGETS: TypeAdapter[list[Nugget | str]] = TypeAdapter(list[Nugget | str])
_LABELS = TypeAdapter(list[Literal["support", "partial_support", "not_support"]])


def _nuggets(group: Group) -> list[Nugget]:
    listed: list[Any] = read_data(group, "nuggets", _NUGGETS.validate_python)
    if not listed and len(group) and group[0].reference:
        listed = [f"The answer to the request is: {group[0].reference}"]
    return [one if isinstance(one, Nugget) else Nugget(text=one) for one in listed]


def _labelling(trajectory: Trajectory, wanted: Sequence[Nugget]) -> str:
    task = (
        "Which of these facts does the answer state? Go by the answer alone, not by what you know: support if it states the "
        "fact fully, partial_support if in part, not_support if not or if it says otherwise.\n"
    )
    return question(
        task + numbered([nugget.text for nugget in wanted]),
        asked(trajectory),
        quoted("answer", answer_of(trajectory)),
        reply=f"Write a JSON list of {len(wanted)} labels, in order, and nothing else.",
    )
