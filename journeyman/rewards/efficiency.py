"""Rewards for getting by with few tool calls."""

import math
from collections.abc import Sequence
from typing import Literal

from journeyman.expressions import Count, NotNegative, Share
from journeyman.rewards.base import UNSCORED, Group, History, Score, Scores, scorable
from journeyman.rewards.outcome import accuracy_of, answer_f1, failed_share, is_well_formed
from journeyman.trajectory import Trajectory

MOST_CALLS = 6
"""The constant c of OTC's n = 0 case: most calls that are allowed (ours)."""


def otc(
    group: Sequence[Trajectory], *, form: Literal["grpo", "ppo"] = "grpo", most_calls: Count = MOST_CALLS
) -> Scores:
    """OTC (#18, secondary): correctness times tool efficiency.

    With n the fewest calls among the group's right trajectories and m a trajectory's own, f = 2mn/(m+n) and the
    efficiency is sin(f pi / 2n): 1 at m = n, falling on both sides. Where n = 0 it is cos(m pi / (2m + c)), and this
    is all there is to the PPO form, which knows no n. c = `most_calls`. n is of this group alone, which is noisy:
    `otc_history` keeps the fewest ever.
    """
    return [_otc(t, _fewest(group) if form == "grpo" else 0, most_calls) for t in group]


def otc_history(group: Sequence[Trajectory], *, most_calls: Count = MOST_CALLS, history: History) -> Scores:
    """OTC (#18, secondary) with the fewest calls that were ever right on the problem (#11, verified).

    As `otc`, but n is MASH's running minimum: it never rises again, so that a group which is right only the long way is
    not paid in full for it.
    """
    fewest = _fewest_ever("otc_history", group, [len(t.calls) for t in _right(group)], history)
    return [_otc(t, fewest or 0, most_calls) for t in group]


def _right(group: Sequence[Trajectory]) -> list[Trajectory]:
    return [t for t in group if scorable(t) and t.correct]


def _fewest(group: Sequence[Trajectory]) -> int:
    return min((len(t.calls) for t in _right(group)), default=0)


def _fewest_ever(name: str, group: Sequence[Trajectory], counts: Sequence[int], history: History) -> int | None:
    """The running minimum of the group's problem; None where nobody ever got there."""
    if not len(group):
        return None
    least = history.least(name, group[0].problem_id, float(min(counts)) if counts else None)
    return None if least is None else int(least)


def _otc(trajectory: Trajectory, fewest: int, most_calls: int) -> Score:
    if not scorable(trajectory):
        return UNSCORED
    efficiency = tool_efficiency(len(trajectory.calls), fewest, most_calls)
    verdict = float(bool(trajectory.correct))
    return Score(total=verdict * efficiency, parts={"correct": verdict, "tool_efficiency": efficiency})


def tool_efficiency(calls: int, fewest: int, most_calls: int = MOST_CALLS) -> float:
    """OTC's coefficient in [0, 1] for m = `calls` and n = `fewest` (#18)."""
    if fewest == 0:
        return math.cos(calls * math.pi / (2 * calls + most_calls))
    f = 2 * calls * fewest / (calls + fewest)
    return math.sin(f * math.pi / (2 * fewest))


Penalty = Literal["linear", "exponential", "otc", "otc_strict"]


def mash(
    group: Group,
    *,
    penalty: Penalty = "otc_strict",
    decay: Share = 0.8,
    most_calls: Count = 5,
    f1: bool = False,
    f1_from: Share = 0.0,
    format_credit: NotNegative = 0.1,
    format_steps: int = 0,
    history: History,
) -> Scores:
    """MASH's pay-per-search (#11, verified): R_base times a penalty for m calls, n being the fewest that ever sufficed.

    R_base is the verdict, or with `f1` the answer's F1 if at least `f1_from`, times well-formedness. The penalties:
    `linear` max(1 - m / (M + 1), 0) with M = `most_calls`; `exponential` decay^(m - n), where the authors' scripts
    have 0.5 for single-hop and 0.8 for multi-hop questions; `otc`; `otc_strict`, which pays nothing for m > 0 where
    n = 0. In the first `format_steps` steps what is well-formed but wrong has `format_credit` as its base.

    n is a running minimum over training, of attempts with an answer that counts; the released code also lets format
    credit lower it. Which penalty is the default is ours. At test time a search stands for an abstention once the
    tool is taken away: that is no matter of the reward.
    """
    bases = {i: _base(t, answer_f1(t, group) if f1 else None, f1_from) for i, t in enumerate(group) if scorable(t)}
    sufficient = [len(group[i].calls) for i, base in bases.items() if base > 0]
    fewest = _fewest_ever("mash", group, sufficient, history)
    warming = group.step < format_steps
    scores = []
    for i, t in enumerate(group):
        if i not in bases:
            scores.append(UNSCORED)
            continue
        credit = format_credit if warming and is_well_formed(t) else 0.0
        base, m = bases[i] or credit, len(t.calls)
        kept = _kept(penalty, m, m if fewest is None else fewest, decay, most_calls) if base else 0.0
        scores.append(Score(total=base * kept, parts={"base": base, "kept": kept}))
    return scores


def _base(trajectory: Trajectory, f1: float | None, f1_from: float) -> float:
    if not is_well_formed(trajectory):
        return 0.0
    value = float(bool(trajectory.correct)) if f1 is None else f1
    return value if value >= f1_from else 0.0


def _kept(penalty: Penalty, calls: int, fewest: int, decay: float, most_calls: int) -> float:
    """The share of the base that is left."""
    if penalty == "linear":
        return max(1 - calls / (most_calls + 1), 0.0)
    if penalty == "exponential":
        return decay ** max(0, calls - fewest)
    if penalty == "otc_strict" and fewest == 0:
        return float(calls == 0)
    return tool_efficiency(calls, fewest, most_calls)


def lightsearcher(
    group: Sequence[Trajectory],
    *,
    weight: Share = 0.5,
    decay: NotNegative = 0.75,
    enough: Share = 0.8,
    history: History,
) -> Scores:
    """LightSearcher (#143, secondary): (1 - `weight`) F1 + `weight` Tool, -1 for bad form.

    Tool = exp(-`decay` max(0, m - n)) for an answer with F1 >= `enough`, else 0; m calls, and n the fewest of any
    success on the question so far, this group's with it. The experience memory that is put into training prompts is
    not covered: it is no part of the reward.
    """
    f1s = {i: answer_f1(t, group) if is_well_formed(t) else None for i, t in enumerate(group) if scorable(t)}
    succeeded = [len(group[i].calls) for i, f1 in f1s.items() if f1 is not None and f1 >= enough]
    fewest = _fewest_ever("lightsearcher", group, succeeded, history) or 0
    scores = []
    for i, t in enumerate(group):
        f1 = f1s.get(i)
        if i not in f1s:
            scores.append(UNSCORED)
        elif f1 is None:
            scores.append(Score(total=-1.0, parts={"f1": 0.0, "tool": 0.0}))
        else:
            tool = math.exp(-decay * max(0, len(t.calls) - fewest)) if f1 >= enough else 0.0
            scores.append(Score(total=(1 - weight) * f1 + weight * tool, parts={"f1": f1, "tool": tool}))
    return scores


def fewest_turns_when_right(group: Sequence[Trajectory]) -> Scores:
    """HDPO's efficiency channel (#118, verified): 1 / (T + 1) for a right answer, T turns with a call that was made.

    None for a wrong one: it takes no part in the comparison. So this is a channel beside one for accuracy, which in
    the paper is 0.9 correct + 0.1 well formed, and no summand. No call at all gives 1.
    """
    return [_thrift(t) if scorable(t) and t.correct else UNSCORED for t in group]


def _thrift(trajectory: Trajectory) -> Score:
    value = 1 / (sum(bool(turn.results) for turn in trajectory.turns) + 1)
    return Score(total=value, parts={"fewest_turns": value})


def codedance(
    group: Sequence[Trajectory],
    *,
    tool: NotNegative = 0.5,
    form: NotNegative = 0.1,
    most_calls: Count = 4,
    excess: NotNegative = 0.1,
    failed: NotNegative = 0.1,
) -> Scores:
    """CodeDance's adaptive tool reward (#119, derived): hard groups pay for calling, easy ones for not calling.

    R = correct + form well_formed + R_tool; with p the group's accuracy and m calls, R_tool = `tool` times
    ((1 - p) 1[m > 0, some call worked] + p 1[m = 0]) for a right answer, minus `excess` max(0, m - `most_calls`) minus
    `failed` times the share of failed calls. A reading of the abstract: form and all constants are ours.
    """
    accuracy = accuracy_of(group) or 0.0
    return [_whole(t, form, _adaptive(t, accuracy, tool, most_calls, excess, failed)) for t in group]


def _adaptive(
    trajectory: Trajectory, accuracy: float, tool: float, most_calls: int, excess: float, failed: float
) -> float:
    m, broken = len(trajectory.calls), failed_share(trajectory)
    balanced = accuracy if m == 0 else (1 - accuracy) * (broken < 1)
    return bool(trajectory.correct) * tool * balanced - excess * max(0, m - most_calls) - failed * broken


def tgrl(
    group: Sequence[Trajectory],
    *,
    tool: NotNegative = 0.2,
    most_calls: Count = 4,
    excess: NotNegative = 0.25,
) -> Scores:
    """TGRL's two components (#121, derived): R = correct + `tool` R_tool.

    R_tool = 1[every turn well formed, no call failed] + 1[it ended by an answer of its own] - `excess` times the calls
    beyond `most_calls`. A reading of the abstract, which names standard calls, explicit termination and efficiency:
    form and all constants are ours. Its template, which keeps thoughts, calls and responses apart, is not covered.
    """

    def standard(t: Trajectory) -> float:
        valid = is_well_formed(t) and not failed_share(t)
        return tool * (valid + (t.answer is not None) - excess * max(0, len(t.calls) - most_calls))

    return [_whole(t, 0.0, standard(t)) for t in group]


def _whole(trajectory: Trajectory, form: float, tool: float) -> Score:
    """The verdict, a weight for good form, and what the calls earned."""
    if not scorable(trajectory):
        return UNSCORED
    verdict, good = float(bool(trajectory.correct)), form * is_well_formed(trajectory)
    return Score(total=verdict + good + tool, parts={"correct": verdict, "format": good, "tool": tool})
