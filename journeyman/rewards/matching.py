"""Rewards that hold the calls of an attempt against reference calls."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from journeyman.environments.multihop import normal
from journeyman.environments.solve_score import Goal, TurnScore, end_score, shows, solved_goals, turn_score
from journeyman.expressions import NotNegative, Positive
from journeyman.graders.partial import jaccard
from journeyman.messages import ToolCall
from journeyman.rewards.base import UNSCORED, Group, Score, Scores, TurnScores, per_turn
from journeyman.rewards.outcome import is_well_formed, plain, told
from journeyman.rewards.reference import reference_calls, reference_goals
from journeyman.trajectory import Trajectory

FIRST_STAGE, SMOOTH, GROWING = 30, 150, 105
"""ToolRL's schedules, in steps: where the second stage begins, and how long the slow ones take."""
LONG_THOUGHT, SHORTEST, LONGEST = 512, 384, 640
"""Words of a thought that earn all of ToolRL's length reward: always, and at both ends of the growing one."""
REGULARISATION, ROUNDS = 0.1, 100
"""Of Sinkhorn's algorithm; the rounds are ours."""

Granularity = Literal["fine", "refined", "intermediate", "coarse"]
Matching = Literal["optimal", "greedy", "transport"]

# --- ToolRL -----------------------------------------------------------------------------------------------------------


def toolrl(
    group: Group,
    *,
    correct_max: Positive = 3.0,
    granularity: Granularity = "fine",
    schedule: Literal["none", "two_stage", "smooth"] = "none",
    length: Literal["none", "fixed", "growing"] = "none",
) -> Scores:
    """ToolRL (#4, verified): format, in [0, 1], plus calls against the reference's, in [-`correct_max`, `correct_max`].

    Format: all turns are accepted, and there are calls where and only where the reference has some. Calls: S is the
    multiset Jaccard of the tools' names and, for each reference call g in order with its best unused call of that name,
    the Jaccard of the parameters' names and the number of equal values; S of S_max = 1 + sum(1 + |g|) is scaled to the
    range. Where the reference has no call they earn 0, whatever is called.

    Args:
        granularity: `refined`: names of tools, and of a call's parameters, all equal or 0; `intermediate`: a call all
            right or 0; `coarse`: all calls equal, or the least.
        schedule: `two_stage`: calls count a third in the first 30 steps, then the format a half; `smooth`: over 150
            steps the format's most goes from 2 to 1 and the calls' from 2 to `correct_max`.
        length: adds words of thought / 512, at most 1; `growing`: / 384 to 640 over 105 steps.

    The authors score one turn. Over several (ours) all calls of the attempt are matched, and thoughts are averaged.
    """
    gold = reference_calls(group.problem)
    if gold is None:
        return [UNSCORED for _ in group]
    most_format, most_correct = _most(schedule, group.step, correct_max)
    words = LONG_THOUGHT if length == "fixed" else SHORTEST + (LONGEST - SHORTEST) * min(1.0, group.step / GROWING)
    scores: list[Score] = []
    for t in group:
        form = most_format * (is_well_formed(t) and bool(t.calls) == bool(gold))
        matched, parts = calls_matched(t.calls, gold, granularity)
        parts = {"format": form, "calls": most_correct * (2 * matched - 1) if gold else 0.0, **parts}
        longer = {"length": min(1.0, _thought_words(t) / words)} if length != "none" else {}
        total = parts["format"] + parts["calls"] + sum(longer.values())
        scores.append(Score(total=total, parts={**parts, **longer}) if told(t) else UNSCORED)
    return scores


def exact_calls(group: Group) -> Scores:
    """1 where the calls of the attempt are the reference's, one by one in order, else 0: ToolRL's coarse reward (#4, verified).

    What finer rewards have to beat.
    """
    gold = reference_calls(group.problem)
    return [UNSCORED if gold is None or not told(t) else plain("exact_calls", float(t.calls == gold)) for t in group]


def calls_matched(
    calls: Sequence[ToolCall], gold: Sequence[ToolCall], granularity: Granularity = "fine"
) -> tuple[float, dict[str, float]]:
    """(ToolRL's S / S_max in [0, 1], the sums S is made of)."""
    if granularity == "coarse":
        return float(tuple(calls) == tuple(gold)), {}
    one, other = [call.name for call in calls], [call.name for call in gold]
    names = float(one == other) if granularity == "refined" else jaccard(one, other)
    pairs = list(_greedily(calls, gold, granularity))
    if granularity == "intermediate":
        equal = float(sum(call == wanted for call, wanted in pairs))
        return (names + equal) / (1 + len(gold)), {"names": names, "equal": equal}
    keys = sum(_keys(call, wanted, granularity) for call, wanted in pairs)
    values = float(sum(_values(call, wanted) for call, wanted in pairs))
    most = 1 + sum(1 + len(wanted.arguments) for wanted in gold)
    return (names + keys + values) / most, {"names": names, "parameters": keys, "values": values}


def _greedily(
    calls: Sequence[ToolCall], gold: Sequence[ToolCall], granularity: Granularity
) -> Iterator[tuple[ToolCall, ToolCall]]:
    left = list(calls)
    for wanted in gold:
        worth = [_worth(call, wanted, granularity) for call in left]
        if worth and max(worth) > 0:
            yield left.pop(worth.index(max(worth))), wanted


def _worth(call: ToolCall, wanted: ToolCall, granularity: Granularity) -> float:
    if call.name != wanted.name:
        return 0.0
    if granularity == "intermediate":
        return float(call == wanted)
    return _keys(call, wanted, granularity) + _values(call, wanted)


def _keys(call: ToolCall, wanted: ToolCall, granularity: Granularity = "fine") -> float:
    if granularity == "refined":
        return float(list(call.arguments) == list(wanted.arguments))
    return jaccard(call.arguments, wanted.arguments)


def _values(call: ToolCall, wanted: ToolCall) -> int:
    return sum(key in call.arguments and call.arguments[key] == value for key, value in wanted.arguments.items())


def _most(schedule: str, step: int, correct_max: float) -> tuple[float, float]:
    """Most that the format and the calls earn at a step."""
    if schedule == "two_stage":
        return (1.0, correct_max / 3) if step < FIRST_STAGE else (0.5, correct_max)
    if schedule == "smooth":
        share = min(1.0, step / SMOOTH)
        return 2 - share, 2 + (correct_max - 2) * share
    return 1.0, correct_max


def _thought_words(trajectory: Trajectory) -> float:
    thoughts = [turn.text.partition("<think>")[2].partition("</think>")[0] for turn in trajectory.turns]
    return sum(len(thought.split()) for thought in thoughts) / max(1, len(thoughts))


# --- FTRL -------------------------------------------------------------------------------------------------------------


def solved_calls(
    group: Group,
    *,
    formula: Literal["f1", "rate", "precision", "product"] = "f1",
    answer: Literal["contained", "verified"] = "contained",
) -> TurnScores:
    """FTRL (#5, verified): a turn with c calls, s of which give a sub-answer that is still missing, earns 2s / (c + 1).

    `rate` is s, `precision` s / c, `product` s^2 / c. A turn without calls earns -0.5 where it is empty, -0.3 where its
    form was rejected, 1 / (1 + u) with u sub-answers missing where it holds the reference answer as a whole (which a
    list of guesses does, too; `verified` asks the environment's verdict), 0.5 where none is missing, else 0.
    """
    goals = reference_goals(group.problem)
    if goals is None:
        return [UNSCORED for _ in group]
    return [
        per_turn(t, list(_solved(t, goals, TurnScore(formula), answer)), name="solved_calls") if told(t) else UNSCORED
        for t in group
    ]


def _solved(t: Trajectory, goals: Sequence[Goal], formula: TurnScore, answer: str) -> Iterator[float]:
    done: list[int] = []
    for turn in t.turns:
        if turn.calls:
            new = solved_goals(goals, done, turn.results)
            done += new
            yield turn_score(len(new), len(turn.calls), formula)
        else:
            last = turn is t.turns[-1]
            said = t.answer if last and t.answer is not None else turn.text
            right = bool(t.correct) and last if answer == "verified" else shows(said, t.reference)
            yield end_score(turn.text, right=right, broken=bool(turn.error), unsolved=len(goals) - len(done))


# --- MatchTIR ---------------------------------------------------------------------------------------------------------


def matchtir(group: Group, *, matching: Matching = "optimal", unmatched: NotNegative = 0.0) -> TurnScores:
    """MatchTIR (#135, verified): a turn earns the mean likeness of its calls to the reference calls they are matched to.

    All calls of the attempt are matched one to one so that the likenesses' sum is largest; a call that is left over
    earns -`unmatched`. A turn without calls earns 0, but the last one the F1 of its answer's set of words against the
    reference answer. `transport` shares calls out by Sinkhorn's algorithm (cost -likeness, regularisation 0.1): what a
    call earns then falls as 1 / calls. `greedy`, the likeliest pair first, is what the authors' code does where the
    paper says it is optimal.
    """
    gold = reference_calls(group.problem)
    if gold is None:
        return [UNSCORED for _ in group]
    return [
        per_turn(t, list(_matched_turns(t, gold, matching, unmatched)), name="matchtir") if told(t) else UNSCORED
        for t in group
    ]


def _matched_turns(t: Trajectory, gold: Sequence[ToolCall], matching: Matching, unmatched: float) -> Iterator[float]:
    earned = iter(earned_by_calls(t.calls, gold, matching=matching, unmatched=unmatched))
    for number, turn in enumerate(t.turns):
        if turn.calls:
            yield sum(next(earned) for _ in turn.calls) / len(turn.calls)
        else:
            yield set_f1(t.answer or "", t.reference) if number == len(t.turns) - 1 else 0.0


def earned_by_calls(
    calls: Sequence[ToolCall], gold: Sequence[ToolCall], *, matching: Matching = "optimal", unmatched: float = 0.0
) -> list[float]:
    """What each call earns by its likeness to the reference calls."""
    table = [[call_similarity(call, wanted) for wanted in gold] for call in calls]
    if matching == "transport":
        return _transported(table)
    pairs = _best_pairs(table) if matching == "optimal" else _greedy_pairs(table)
    return [table[i][pairs[i]] if i in pairs else -unmatched for i in range(len(calls))]


def assigned(calls: Sequence[ToolCall], gold: Sequence[ToolCall]) -> list[ToolCall | None]:
    """The reference call that each call is matched to, all likenesses together as large as can be; None: left over."""
    pairs = _best_pairs([[call_similarity(call, wanted) for wanted in gold] for call in calls])
    return [gold[pairs[i]] if i in pairs else None for i in range(len(calls))]


def call_similarity(call: ToolCall, wanted: ToolCall) -> float:
    """MatchTIR's (1 + Jaccard of the parameters' names + equal values) / (2 + parameters); 0 for another tool."""
    if call.name != wanted.name:
        return 0.0
    return (1 + _keys(call, wanted) + _values(call, wanted)) / (2 + len(wanted.arguments))


def set_f1(answer: str, reference: str) -> float:
    """F1 of two texts' sets of words in SQuAD's normal form."""
    given, wanted = set(normal(answer).split()), set(normal(reference).split())
    shared = len(given & wanted)
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def _best_pairs(table: Sequence[Sequence[float]]) -> Mapping[int, int]:
    from scipy.optimize import linear_sum_assignment

    if not table or not table[0]:
        return {}
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {i: j for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if table[i][j] > 0}


def _greedy_pairs(table: Sequence[Sequence[float]]) -> Mapping[int, int]:
    pairs: dict[int, int] = {}
    likeliest = sorted(((-value, i, j) for i, row in enumerate(table) for j, value in enumerate(row) if value > 0))
    for _, i, j in likeliest:
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _transported(table: Sequence[Sequence[float]]) -> list[float]:
    import numpy as np

    if not table or not table[0]:
        return [0.0] * len(table)
    likeness = np.array(table)
    kernel = np.exp(likeness / REGULARISATION)
    rows, columns = (np.full(size, 1 / size) for size in likeness.shape)
    across = np.ones_like(columns)
    for _ in range(ROUNDS):
        along = rows / (kernel @ across)
        across = columns / (kernel.T @ along)
    return ((along[:, None] * kernel * across) * likeness).sum(1).tolist()
