"""Rewards for attempts that keep to a law which can be measured: books that balance."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from journeyman.messages import ToolCall
from journeyman.rewards.base import UNSCORED, Group, Score, Scores
from journeyman.rewards.outcome import told
from journeyman.trajectory import Trajectory

_NUMBER = r"[^\w+-]{0,20}(?:(?:is|are|now|of)\b[^\w+-]{0,20}){0,2}([+-]?\d{1,15}(?:\.\d{1,9})?)"

Effects = Mapping[str, Sequence[Any]]


def conservation(group: Group, *, law: Literal["ledger", "linear"] = "ledger") -> Scores:
    """NewtonRewards (#162, derived): exp(-residual) of a law that the attempt's claims keep, times a guard against silence.

    data["law"] has `quantity`, a word; `start`, its value; `effects`, tool -> [argument, factor]; `entities`, names that
    matter (maybe none). A claim is the number behind the quantity in a turn's own text, the last one of a turn.
    `ledger` (ours): the squares of claim - (claim before + effects of the calls between them that went well), over the
    number of claims that had effects to tell of, so that no claim can be repeated to thin an error out. `linear`, the
    paper's: the mean of |v(t+1) - 2 v(t) + v(t-1)|^2 over the claims. A residual is 0 for who says nothing: the guard
    is min(1, claims with effects / `min_calls`), times the share of the entities that the attempt mentions (ours).
    """
    about: Mapping[str, Any] | None = group.data.get("law")
    if not about:
        return [UNSCORED for _ in group]
    scores: list[Score] = []
    for t in group:
        steps = list(_claims(t, about))
        told_of = sum(1 for _, moved, _ in steps if moved)
        if law == "ledger":
            residual = ledger_residual(float(about["start"]), [(claim, effect) for claim, _, effect in steps], told_of)
        else:
            residual = linear_residual([claim for claim, _, _ in steps])
        guard = min(1.0, told_of / max(1, t.min_calls)) * _mentioned(t, about.get("entities") or ())
        parts = {"law": math.exp(-residual), "guard": guard}
        scores.append(Score(total=parts["law"] * guard, parts=parts) if told(t) else UNSCORED)
    return scores


def ledger_residual(start: float, steps: Sequence[tuple[float, float]], count: int) -> float:
    """Squared errors of (claim, effect since the claim before), over `count`; 0 without a claim."""
    claims = [start, *(claim for claim, _ in steps)]
    errors = [after - (before + effect) for (before, after), (_, effect) in zip(pairwise(claims), steps, strict=True)]
    return sum(error * error for error in errors) / max(1, count)


def linear_residual(values: Sequence[float]) -> float:
    """The mean square of the second differences; 0 for fewer than three values."""
    steps = [after - before for before, after in pairwise(values)]
    bends = [after - before for before, after in pairwise(steps)]
    return sum(bend * bend for bend in bends) / len(bends) if bends else 0.0


def _claims(t: Trajectory, about: Mapping[str, Any]) -> Iterator[tuple[float, bool, float]]:
    """(claim, whether a call with an effect went well since the claim before, its effect)."""
    pattern = re.compile(re.escape(str(about["quantity"])) + _NUMBER, re.IGNORECASE)
    effect, moved = 0.0, False
    for turn in t.turns:
        if found := pattern.findall(turn.text):
            yield float(found[-1]), moved, effect
            effect, moved = 0.0, False
        for call, result in zip(turn.calls, turn.results, strict=False):
            if result.ok and call.name in about["effects"]:
                effect, moved = effect + _effect(call, about["effects"]), True


def _effect(call: ToolCall, effects: Effects) -> float:
    argument, factor = effects[call.name]
    value = call.arguments.get(argument)
    return factor * value if isinstance(value, int | float) else 0.0


def _mentioned(t: Trajectory, entities: Sequence[str]) -> float:
    said = " ".join([*(turn.text for turn in t.turns), t.answer or ""]).casefold()
    return sum(entity.casefold() in said for entity in entities) / len(entities) if entities else 1.0
