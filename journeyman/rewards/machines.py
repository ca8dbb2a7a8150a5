"""Rewards that read the order of events: reward machines, and temporal formulas over the calls of a trajectory.

An event label holds at a call where the call fits the label's pattern: `search` for a call of that tool that went
well, `search:failed` for one that did not, `search:any` for either; `*` stands for any letters. A label that `events`
doesn't give a pattern for is a pattern itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator

from journeyman.expressions import NotNegative
from journeyman.rewards.base import UNSCORED, Score, TurnScores
from journeyman.trajectory import ToolResult, Trajectory, Turn

LONGEST_FORMULA, MOST_OPERATORS = 500, 60
"""Characters of a formula, and operators and parentheses in it."""
MOST_STATES, LARGEST_STATE = 200, 2000
"""Of a formula's automaton: states that a trajectory may pass, and terms of one, before it is given up (ours)."""

_OPERATORS = frozenset("!&|(XFGU")
Instant = frozenset[str]
"""The labels that hold at one call."""


def machine(
    group: Sequence[Trajectory],
    *,
    order: tuple[str, ...] = (),
    never: tuple[str, ...] = (),
    strict: bool = False,
    pays: Literal["end", "steps"] = "end",
    penalty: NotNegative = 1.0,
    transitions: dict[str, dict[str, tuple[str, float]]] | None = None,
    events: dict[str, str] | None = None,
) -> TurnScores:
    """Reward machine (#90, derived): an automaton whose states move on event labels, and which pays for its moves.

    `machine(order=["search", "book"], never=["delete"])` pays 1 with the turn that completes the order, minus
    `penalty` for what must never happen, after which nothing is earned any more. Events out of order are passed over,
    or with `strict` end the hope for a 1. `pays="steps"` shares the 1 among the members of the order. `transitions`
    spells a machine out, {state: {label: [next state, reward]}}, first state first; labels that a state doesn't name
    leave it as it is, and a state without moves absorbs. Of several labels at one call the first in the machine's
    order moves it. The state after each turn is logged among the turn's parts, as a number.
    """
    moves = transitions or _ordered(order, never, strict, pays, penalty)
    labels = list(dict.fromkeys(label for state in moves.values() for label in state))
    return [_run(t, moves, {label: (events or {}).get(label, label) for label in labels}) for t in group]


def _ordered(
    order: Sequence[str], never: Sequence[str], strict: bool, pays: str, penalty: float
) -> dict[str, dict[str, tuple[str, float]]]:
    """The machine of an order of sub-goals; states are `0`, `1`, ... members done, `done`, `broken` and `lost`."""
    names = [*(str(i) for i in range(len(order))), "done"]
    broken: dict[str, tuple[str, float]] = dict.fromkeys(never, ("broken", -penalty))
    moves: dict[str, dict[str, tuple[str, float]]] = {}
    for i, name in enumerate(names):
        onward = {order[i]: (names[i + 1], _pay(i, len(order), pays))} if i < len(order) else {}
        later = set(order[i + 1 :]) - onward.keys() if strict else ()
        moves[name] = {**broken, **onward, **dict.fromkeys(later, ("lost", 0.0))}
    return {**moves, "lost": broken, "broken": {}}


def _pay(i: int, n: int, pays: str) -> float:
    return 1 / n if pays == "steps" else float(i == n - 1)


def _run(
    trajectory: Trajectory, moves: Mapping[str, Mapping[str, tuple[str, float]]], patterns: Mapping[str, str]
) -> Score:
    if not trajectory.stop_reason.scorable:
        return UNSCORED
    names = list(dict.fromkeys([*moves, *(to for state in moves.values() for to, _ in state.values())]))
    state, earned, states = names[0], list[float](), list[float]()
    for turn in trajectory.turns:
        paid = 0.0
        for instant in _instants(turn, patterns):
            label = next((label for label in moves.get(state, {}) if label in instant), None)
            if label is not None:
                state, reward = moves[state][label]
                paid += reward
        earned.append(paid)
        states.append(float(names.index(state)))
    return _score("machine", earned, {"machine_state": tuple(states)})


# --- temporal formulas -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Formula:
    """A temporal formula over a finite trace, in a normal form that keeps equal ones equal."""

    kind: Literal["true", "false", "label", "not", "and", "or", "next", "eventually", "always", "until"]
    parts: tuple["Formula", ...] = ()
    label: str = ""


TRUE, FALSE = Formula("true"), Formula("false")
_ANOTHER = Formula("eventually", (TRUE,))
"""That there is a further call."""


def parse_formula(text: str) -> Formula:
    """`F a`, `G !b`, `a U b`, `X a`, `!`, `&`, `|`, parentheses. Raises `ValueError`."""
    if len(text) > LONGEST_FORMULA:
        raise ValueError(f"should have at most {LONGEST_FORMULA} characters")
    tokens = _tokens(text)
    if sum(token in _OPERATORS for token in tokens) > MOST_OPERATORS:
        raise ValueError(f"should have at most {MOST_OPERATORS} operators and parentheses")
    formula = _either(tokens)
    if tokens:
        raise ValueError(f"has `{tokens[0]}` where it should end")
    return formula


def _readable(text: str) -> str:
    parse_formula(text)
    return text


def temporal(
    group: Sequence[Trajectory],
    *,
    formula: Annotated[str, AfterValidator(_readable)],
    penalty: NotNegative = 1.0,
    events: dict[str, str] | None = None,
) -> TurnScores:
    """A linear temporal formula over the calls of a trajectory, an instant each (#90, derived; finite-trace semantics).

    `temporal(formula="F (search & F book) & G !delete")`. Letters bind from loose to tight: `|`, `&`, `U`, then
    `F` (at last), `G` (always), `X` (at a next call) and `!`. The turn from which on the formula holds whatever comes
    is paid 1, the one from which on nothing can mend it minus `penalty`; a trajectory that ends undecided is paid 1
    with its last turn if the formula holds of the calls that there were, else 0. The formula is taken as an automaton
    whose states are what is left to be shown; where a trajectory passes more than 200 of them it is None.
    """
    whole = parse_formula(formula)
    patterns = {label: (events or {}).get(label, label) for label in _labels(whole)}
    return [_show(t, whole, patterns, penalty) for t in group]


def _show(trajectory: Trajectory, formula: Formula, patterns: Mapping[str, str], penalty: float) -> Score:
    if not trajectory.stop_reason.scorable:
        return UNSCORED
    earned = [0.0] * len(trajectory.turns)
    seen = {formula}
    for place, turn in enumerate(trajectory.turns):
        for instant in _instants(turn, patterns):
            formula = progressed(formula, instant)
            seen.add(formula)
            if formula in (TRUE, FALSE):
                earned[place] = 1.0 if formula == TRUE else -penalty
                return _score("temporal", earned, {})
            if len(seen) > MOST_STATES or _size(formula) > LARGEST_STATE:
                return UNSCORED
    if earned:
        earned[-1] = float(at_end(formula))
    return _score("temporal", earned, {})


@lru_cache(maxsize=10_000)
def progressed(formula: Formula, instant: Instant) -> Formula:
    """What is left to be shown of the calls that follow, after one call at which these labels hold."""
    parts = formula.parts
    match formula.kind:
        case "label":
            return TRUE if formula.label in instant else FALSE
        case "not":
            return _negated(progressed(parts[0], instant))
        case "and" | "or":
            return _joined(formula.kind, [progressed(part, instant) for part in parts])
        case "next":
            return _joined("and", [parts[0], _ANOTHER])
        case "eventually":
            return _joined("or", [progressed(parts[0], instant), formula])
        case "always":
            return _joined("and", [progressed(parts[0], instant), formula])
        case "until":
            held = _joined("and", [progressed(parts[0], instant), formula])
            return _joined("or", [progressed(parts[1], instant), held])
    return formula


def at_end(formula: Formula) -> bool:
    """Whether it holds where no call follows: `F`, `U`, `X` and labels don't, `G` does."""
    match formula.kind:
        case "not":
            return not at_end(formula.parts[0])
        case "and":
            return all(at_end(part) for part in formula.parts)
        case "or":
            return any(at_end(part) for part in formula.parts)
    return formula.kind in ("true", "always")


def _negated(formula: Formula) -> Formula:
    if formula in (TRUE, FALSE):
        return FALSE if formula == TRUE else TRUE
    return formula.parts[0] if formula.kind == "not" else Formula("not", (formula,))


def _joined(kind: Literal["and", "or"], parts: Sequence[Formula]) -> Formula:
    """Flat, each part once, in one order, without those that make no difference."""
    neutral, deciding = (TRUE, FALSE) if kind == "and" else (FALSE, TRUE)
    flat = {inner for part in parts for inner in (part.parts if part.kind == kind else (part,))} - {neutral}
    if deciding in flat or any(_negated(part) in flat for part in flat):
        return deciding
    if len(flat) < 2:
        return next(iter(flat), neutral)
    return Formula(kind, tuple(sorted(flat, key=repr)))


def _size(formula: Formula) -> int:
    return 1 + sum(_size(part) for part in formula.parts)


def _labels(formula: Formula) -> Iterator[str]:
    if formula.kind == "label":
        yield formula.label
    for part in formula.parts:
        yield from _labels(part)


def _tokens(text: str) -> list[str]:
    tokens = re.findall(r"[A-Za-z_][\w*]*(?::(?:any|failed))?|[!&|()]|\S", text)
    strange = next((token for token in tokens if not re.match(r"[A-Za-z_!&|()]", token)), None)
    if strange is not None:
        raise ValueError(f"has `{strange}` in it; letters are F, G, X, U, !, &, | and parentheses")
    return tokens


def _either(tokens: list[str]) -> Formula:
    return _chain(tokens, "|", lambda: _chain(tokens, "&", lambda: _until(tokens), "and"), "or")


def _chain(tokens: list[str], sign: str, member: Callable[[], Formula], kind: Literal["and", "or"]) -> Formula:
    members = [member()]
    while tokens and tokens[0] == sign:
        tokens.pop(0)
        members.append(member())
    return _joined(kind, members)


def _until(tokens: list[str]) -> Formula:
    first = _unary(tokens)
    if tokens and tokens[0] == "U":
        tokens.pop(0)
        return Formula("until", (first, _until(tokens)))
    return first


_UNARY: dict[str, Literal["next", "eventually", "always"]] = {"X": "next", "F": "eventually", "G": "always"}


def _unary(tokens: list[str]) -> Formula:
    token = tokens.pop(0) if tokens else ""
    if token == "!":
        return _negated(_unary(tokens))
    if token in _UNARY:
        return Formula(_UNARY[token], (_unary(tokens),))
    if token == "(":
        inner = _either(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("has a `(` that is not closed")
        return inner
    if not token or token in "&|)U":
        raise ValueError(f"has `{token}` where a label should stand" if token else "ends where a label should stand")
    return Formula("label", label=token)


# --- what both have ---------------------------------------------------------------------------------------------------


def _instants(turn: Turn, patterns: Mapping[str, str]) -> Iterator[Instant]:
    for result in turn.results:
        yield frozenset(label for label, pattern in patterns.items() if _fits(result, pattern))


def _fits(result: ToolResult, pattern: str) -> bool:
    name, _, how = pattern.partition(":")
    return fnmatchcase(result.name, name) and (how == "any" or result.ok == (how != "failed"))


def _score(name: str, earned: Sequence[float], more: Mapping[str, tuple[float, ...]]) -> Score:
    total = sum(earned)
    return Score(total=total, parts={name: total}, turns=tuple(earned), turn_parts={name: tuple(earned), **more})
