"""Ladders: what is wrong with a call, how far an attempt came through a chain of tools."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from journeyman.expressions import NotNegative, Positive
from journeyman.graders.values import fits
from journeyman.messages import ToolCall
from journeyman.rewards.base import UNSCORED, Group, Score, Scores, TurnScores, per_turn, scorable
from journeyman.rewards.matching import assigned
from journeyman.rewards.outcome import is_well_formed, told
from journeyman.rewards.reference import reference_calls, schemas_of
from journeyman.rewards.similarity import rouge_l
from journeyman.trajectory import Trajectory

UNREADABLE, WRONG_TOOL = -2.0, -1.5
WRONG_VALUE, EXACT = -0.25, 1.0
WRONG_PARAMETERS = {
    (True, True, True): -1.8,
    (True, True, False): -1.3,
    (True, False, True): -1.3,
    (False, True, True): -1.0,
    (True, False, False): -0.8,
    (False, True, False): -0.5,
    (False, False, True): -0.5,
}
"""TL-Training's steps for parameters that (the tool hasn't got, the reference hasn't got, are missing)."""
BEST_CALL, RIGHT = 4.0, 8.0
"""AdaReasoner's most for a call, and what a right answer earns whatever was called."""
FORM, KIND, DETAIL = 0.5, 0.3, 0.2
"""Shop-R1's: a readable action, the right kind of action, its details given."""
RAN, PASSED, FLOOR = 0.2, 1.0, 0.1
"""ChipSeek-R1's: it compiles, it passes the test bench, the least of its quality."""

# --- TL-Training ------------------------------------------------------------------------------------------------------


def tl_ladder(group: Group, *, missed: NotNegative = 0.0) -> TurnScores:
    """TL-Training (#7, verified): pays every call by its worst error, from -2 for a tool that isn't there to 1 for none.

    -2 for a tool that is not on offer, or a turn whose form was rejected; -1.5 for a wrong tool. Of parameters that the
    tool has not got (h), that the reference has not got (r) and that are missing (m): all three -1.8, h with r or m
    -1.3, r and m -1, h -0.8, r or m -0.5. -0.25 for a wrong value.

    Ours, where the authors score one call a step: calls are matched to the reference's as MatchTIR does (#135), one that
    is left over is a wrong tool, and a turn earns the mean of its calls. A turn without calls earns 0, so that to call
    nothing is better than to call wrongly: `missed` is taken off at the end for each reference call without a match.
    """
    gold = reference_calls(group.problem)
    if gold is None:
        return [UNSCORED for _ in group]
    return [_ladder(t, gold, missed) if told(t) else UNSCORED for t in group]


def _ladder(t: Trajectory, gold: Sequence[ToolCall], missed: float) -> Score:
    schemas, matched = schemas_of(t), assigned(t.calls, gold)
    steps = iter([call_error(call, wanted, schemas) for call, wanted in zip(t.calls, matched, strict=True)])
    turns = [
        fmean([next(steps) for _ in turn.calls]) if turn.calls else UNREADABLE * bool(turn.error) for turn in t.turns
    ]
    unmatched = len(gold) - sum(wanted is not None for wanted in matched)
    return per_turn(t, turns, end=-missed * unmatched, name="tl_ladder")


def call_error(call: ToolCall, wanted: ToolCall | None, schemas: Mapping[str, Mapping[str, Any]]) -> float:
    """TL-Training's step for one call. `wanted`: the reference call; None: there is none for it."""
    if call.name not in schemas and (wanted is None or wanted.name != call.name):
        return UNREADABLE
    if wanted is None or wanted.name != call.name:
        return WRONG_TOOL
    has = set(schemas.get(call.name, {}).get("properties") or {}) | set(wanted.arguments)
    given = set(call.arguments)
    faults = (bool(given - has), bool((given & has) - set(wanted.arguments)), bool(set(wanted.arguments) - given))
    if any(faults):
        return WRONG_PARAMETERS[faults]
    return EXACT if call.arguments == wanted.arguments else WRONG_VALUE


# --- AdaReasoner ------------------------------------------------------------------------------------------------------


def adareasoner(group: Sequence[Trajectory], *, right: Positive = RIGHT) -> Scores:
    """AdaReasoner (#132, verified): 8 for a right answer whatever was called, else the mean score of the turns' calls, at most 4.

    So tools pay where the answer is in doubt. A call has 1 for being readable, 1 for a tool that is on offer, the share
    of the required parameters that are there, and the share of its values that the tool's schema allows; a turn has the
    mean of its calls (ours: the authors run the first alone), 0 without one, and the zeros at the end don't count. 0 for
    all where any turn's form was rejected.
    """
    scores: list[Score] = []
    for t in group:
        verdict, form = float(bool(t.correct)), float(is_well_formed(t))
        quality = _calls_quality(t)
        total = form * (right if t.correct else quality)
        parts = {"form": form, "correct": verdict, "call_quality": quality}
        scores.append(Score(total=total, parts=parts) if scorable(t) else UNSCORED)
    return scores


def _calls_quality(t: Trajectory) -> float:
    schemas = schemas_of(t)
    turns = [fmean([call_quality(call, schemas) for call in turn.calls]) if turn.calls else 0.0 for turn in t.turns]
    while turns and turns[-1] == 0:
        turns.pop()
    return fmean(turns) if turns else 0.0


def call_quality(call: ToolCall, schemas: Mapping[str, Mapping[str, Any]]) -> float:
    """AdaReasoner's score of a readable call, 1 to 4."""
    if call.name not in schemas:
        return 1.0
    schema = schemas[call.name]
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    names = sum(name in call.arguments for name in required) / len(required) if required else 1.0
    valid = [name in properties and fits(value, properties[name]) for name, value in call.arguments.items()]
    return 2 + names + (sum(valid) / len(valid) if valid else float(not required))


# --- Shop-R1 ----------------------------------------------------------------------------------------------------------


def shop_r1(group: Group, *, difficulty: NotNegative = 1000.0) -> TurnScores:
    """Shop-R1 (#148, secondary): pays an action for its form, its kind and its details, hard details `difficulty` times.

    0.5 where it is readable, 0.3 for the right kind, held against the k-th reference call where it is the k-th call.
    `click`: 0.2 for a name, D ROUGE-L(name); `type_and_submit`: 0.1 for a name, 0.1 for a text, 0.1 ROUGE-L(name),
    D ROUGE-L(text); `terminate`: its kind alone. Any other tool (ours): 0.2 and D are shared out among the reference's
    arguments. A turn earns 0.5 and the mean of its calls, one behind the last reference call 0 (ours). D = 1000 is the
    authors': with advantages by the group's deviation it only says which part outweighs which. Their reward for the
    rationale, how certain the policy is of it, is not covered.
    """
    gold = reference_calls(group.problem)
    if gold is None:
        return [UNSCORED for _ in group]
    return [per_turn(t, list(_actions(t, gold, difficulty)), name="shop_r1") if told(t) else UNSCORED for t in group]


def _actions(t: Trajectory, gold: Sequence[ToolCall], difficulty: float) -> Iterator[float]:
    place = 0
    for turn in t.turns:
        wanted = gold[place : place + len(turn.calls)]
        place += len(turn.calls)
        earned = [action_reward(call, one, difficulty) for call, one in zip(turn.calls, wanted, strict=False)]
        yield FORM + sum(earned) / len(turn.calls) if earned else 0.0


def action_reward(call: ToolCall, wanted: ToolCall, difficulty: float) -> float:
    """Shop-R1's reward for an action without its form."""
    if call.name != wanted.name:
        return 0.0
    return KIND + sum(
        bool(said := str(call.arguments.get(name, ""))) * given
        + weight * rouge_l(said, str(wanted.arguments.get(name, "")))
        for name, (given, weight) in _details(wanted, difficulty).items()
    )


def _details(wanted: ToolCall, difficulty: float) -> Mapping[str, tuple[float, float]]:
    """Argument -> (what it earns for being there, what for being like the reference's)."""
    match wanted.name:
        case "terminate":
            return {}
        case "click":
            return {"name": (DETAIL, difficulty)}
        case "type_and_submit":
            return {"name": (DETAIL / 2, 0.1), "text": (DETAIL / 2, difficulty)}
    count = max(1, len(wanted.arguments))
    return dict.fromkeys(wanted.arguments, (DETAIL / count, difficulty / count))


# --- ChipSeek-R1 ------------------------------------------------------------------------------------------------------


def tool_chain(
    group: Group,
    *,
    quality: Literal["ratio", "root", "gain"] = "ratio",
    gate: Literal["passed", "ran"] = "passed",
) -> Scores:
    """ChipSeek-R1's ladder (#207, secondary): 0.2 for what runs, 1 for what passes, and behind that gate its quality.

    Here: it runs where every turn is readable and the last call went well, it passes by the environment's verdict, and
    its quality is how it compares with data["reference_run"], any of {"calls", "tokens", "seconds"} (calls alone, from
    `min_calls`, where it has none), in place of power, area and delay. `ratio`: the product of reference / actual, at
    least 0.1, and 0.1 where there is nothing to compare; it has no upper end, so that a tiny actual value pays hugely.
    `root`: 0.4 + clip(product^(1/3) - 1, 0.01, 0.6), a later form of others. `gain` (ours): 0.6 clip(g - 1, 0, 1), g the
    geometric mean, 0 where there is nothing to compare. With the gate `ran`, as in the code, what only runs collects
    its quality, too.
    """
    scores: list[Score] = []
    for t in group:
        if not scorable(t):
            scores.append(UNSCORED)
            continue
        ran = is_well_formed(t) and [r.ok for turn in t.turns for r in turn.results][-1:] == [True]
        base = PASSED if t.correct else RAN * ran
        ratios = _ratios(t, group.data.get("reference_run"))
        paid = chain_quality(ratios, quality) if t.correct or (gate == "ran" and ran) else 0.0
        parts = {"ran": float(ran), "passed": float(bool(t.correct)), "quality": paid}
        scores.append(Score(total=base + paid, parts=parts))
    return scores


def chain_quality(ratios: Sequence[float], form: Literal["ratio", "root", "gain"]) -> float:
    """What the ratios reference / actual earn; none, or a ratio of 0: nothing to compare."""
    product = math.prod(ratios) if ratios else 0.0
    if form == "ratio":
        return max(FLOOR, product)
    if form == "root":
        return 0.4 + min(0.6, max(0.01, product ** (1 / 3) - 1))
    return 0.6 * min(1.0, max(0.0, product ** (1 / len(ratios)) - 1)) if product else 0.0


def _ratios(t: Trajectory, reference: Mapping[str, float] | None) -> list[float]:
    """reference / actual; 0 where either is 0."""
    wanted = reference if reference is not None else ({"calls": float(t.min_calls)} if t.min_calls else {})
    return [value / actual if (actual := _actual(t, name)) else 0.0 for name, value in wanted.items()]


def _actual(t: Trajectory, name: str) -> float:
    match name:
        case "calls":
            return float(len(t.calls))
        case "tokens":
            return float(sum(t.loss_mask))
        case "seconds":
            return sum(result.seconds for turn in t.turns for result in turn.results)
    raise ValueError(f"a reference run has calls, tokens and seconds, not {name!r}")
