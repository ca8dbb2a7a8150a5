"""How much of a list of calls is right: names, parameters, values, as ToolRL pays for them (#4).

Of the calls and the accepted ones as bags, per accepted call g with its best predicted call p of the same name, one to
one: name = multiset Jaccard of the names; parameters = sum of Jaccard(p's names, g's names); values = sum over g's
parameters of "p's value is accepted". The score is (name + parameters + values) / (1 + sum(1 + |g|)).

Different from ToolRL: a bag of lists of accepted values in place of one; calls are assigned to each other so that the
sum is largest (#135 asks for it, the code of both is greedy); parameters that may be left out and are don't count.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from journeyman.graders.calls import Accepted, CallItem, value_mismatch
from journeyman.messages import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """Shares in [0, 1] of what is right."""

    name: float
    parameters: float
    values: float
    score: float
    """1.0 for calls that are right."""


def partial_match(item: CallItem) -> Partial:
    """How much of the predicted calls is right. Where no call is right: all or nothing."""
    predicted, accepted = item.predicted, item.accepted
    if not accepted or not predicted or item.offence:
        share = float(not accepted and not predicted and not item.offence)
        return Partial(name=share, parameters=share, values=share, score=share)
    names = jaccard((call.name for call in predicted), (one.name for one in accepted))
    pairs = _assigned(item)
    sizes = [len(_wanted(call, one)) for call, one in pairs]
    keys = [_keys(call, one) if call else 0.0 for call, one in pairs]
    values = [_values(call, one, item) if call else 0 for call, one in pairs]
    best = 1 + len(accepted) + sum(sizes)
    return Partial(
        name=names,
        parameters=sum(keys) / len(accepted),
        values=sum(values) / sum(sizes) if sum(sizes) else sum(keys) / len(accepted),
        score=(names + sum(keys) + sum(values)) / best,
    )


def _assigned(item: CallItem) -> list[tuple[ToolCall | None, Accepted]]:
    """The predicted call of each accepted one: together the best one-to-one assignment of the same names."""
    from scipy.optimize import linear_sum_assignment

    def worth(call: ToolCall, one: Accepted) -> float:
        return 1e-6 + _keys(call, one) + _values(call, one, item) if call.name == one.name else 0.0

    table = [[worth(call, one) for call in item.predicted] for one in item.accepted]
    chosen = dict(zip(*(side.tolist() for side in linear_sum_assignment(table, maximize=True)), strict=True))
    calls = [
        item.predicted[chosen[row]] if row in chosen and table[row][chosen[row]] else None for row in range(len(table))
    ]
    return list(zip(calls, item.accepted, strict=True))


def _wanted(call: ToolCall | None, one: Accepted) -> list[str]:
    """Parameters that count: all but those that may be left out and are."""
    given: Mapping[str, object] = call.arguments if call else {}
    return [name for name, values in one.arguments.items() if name in given or "" not in values]


def _keys(call: ToolCall, one: Accepted) -> float:
    return jaccard(call.arguments, _wanted(call, one))


def _values(call: ToolCall, one: Accepted, item: CallItem) -> int:
    schema = item.schemas.get(one.name, {})
    return sum(
        name in call.arguments and not value_mismatch(call.arguments[name], values, schema, name)
        for name, values in one.arguments.items()
    )


def jaccard(one: Iterable[Hashable], other: Iterable[Hashable]) -> float:
    """What two bags have in common of what they have together; 1 for two empty ones."""
    first, second = Counter(iter(one)), Counter(iter(other))  # of a mapping the keys, never its values as counts
    either = (first | second).total()
    return (first & second).total() / either if either else 1.0
