"""Rewards for how an attempt ended and how well it was written: form, calls that worked, bonuses, levels."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from journeyman.environments.multihop import accepted
from journeyman.expressions import Count, NotNegative
from journeyman.rewards.base import UNSCORED, Group, Score, Scores, TurnScores, per_turn, scorable
from journeyman.rewards.similarity import token_f1
from journeyman.trajectory import StopReason, Trajectory, Turn


def is_well_formed(trajectory: Trajectory) -> bool:
    """Whether it has turns and none of them was rejected for its format."""
    rejected = trajectory.stop_reason is StopReason.FORMAT_ERROR or any(turn.error for turn in trajectory.turns)
    return bool(trajectory.turns) and not rejected


def answer_f1(trajectory: Trajectory, group: Sequence[Trajectory]) -> float:
    """Token F1 of its answer against the best of the problem's accepted names; 0 where it gave none."""
    if trajectory.answer is None:
        return 0.0
    names = accepted(group.problem) if isinstance(group, Group) and group.problem else ()
    return max(token_f1(trajectory.answer, name) for name in (trajectory.reference, *names))


def accuracy_of(group: Sequence[Trajectory]) -> float | None:
    """The share of right ones among the scorable; None where none is."""
    verdicts = [float(bool(t.correct)) for t in group if scorable(t)]
    return fmean(verdicts) if verdicts else None


def plain(name: str, value: float) -> Score:
    """A score of one number under its name."""
    return Score(total=value, parts={name: value})


def told(trajectory: Trajectory) -> bool:
    """Whether it says anything about the policy: all that a reward needs which looks at no verdict."""
    return trajectory.stop_reason.scorable


def well_formed(group: Sequence[Trajectory], *, strict: bool = False) -> Scores:
    """The share of turns whose format was accepted; with `strict` 1 where all were, else 0.

    0 without turns. Any format that the model's chat template asks for; which one is not looked at here.
    """
    return [plain("well_formed", _form(t, strict)) if told(t) else UNSCORED for t in group]


def _form(trajectory: Trajectory, strict: bool) -> float:
    if strict or not trajectory.turns:
        return float(is_well_formed(trajectory))
    return sum(not turn.error for turn in trajectory.turns) / len(trajectory.turns)


def tool_success(group: Sequence[Trajectory], *, share: bool = False) -> TurnScores:
    """Pays every turn 1 whose calls all succeeded; with `share` the share of its calls that did. 0 for no call."""
    return [
        per_turn(t, [_worked(turn, share) for turn in t.turns], name="tool_success") if told(t) else UNSCORED
        for t in group
    ]


def _worked(turn: Turn, share: bool) -> float:
    if not turn.results:
        return 0.0
    worked = sum(result.ok for result in turn.results) / len(turn.results)
    return worked if share else float(worked == 1)


def call_success(group: Sequence[Trajectory]) -> Scores:
    """The share of its calls that succeeded, over all turns; 1 where it made none."""
    return [plain("call_success", 1 - failed_share(t)) if told(t) else UNSCORED for t in group]


def failed_share(trajectory: Trajectory) -> float:
    """The share of its calls whose result is an error; 0 where it made none."""
    results = [result.ok for turn in trajectory.turns for result in turn.results]
    return results.count(False) / len(results) if results else 0.0


def used_tools(group: Sequence[Trajectory], *, tools: tuple[str, ...] = (), worked: bool = False) -> Scores:
    """1 where every one of `tools` was called, any tool at all where none is named, else 0.

    With `worked` only calls that succeeded count.
    """
    return [plain("used_tools", float(_used(t, tools, worked))) if told(t) else UNSCORED for t in group]


def _used(trajectory: Trajectory, tools: Sequence[str], worked: bool) -> bool:
    called = {r.name for turn in trajectory.turns for r in turn.results if r.ok or not worked}
    return called.issuperset(tools) if tools else bool(called)


def world(group: Sequence[Trajectory]) -> TurnScores:
    """What the world itself paid, turn by turn."""
    return [per_turn(t, [turn.reward for turn in t.turns], name="world") if told(t) else UNSCORED for t in group]


def graded(group: Sequence[Trajectory]) -> Scores:
    """The environment's graded verdict in [0, 1]; None where it gives none."""
    return [
        UNSCORED if t.score is None or not told(t) else Score(total=t.score, parts={"graded": t.score, **t.score_parts})
        for t in group
    ]


def tool_star(
    group: Sequence[Trajectory], *, tools: tuple[str, str] = ("search", "python"), bonus: NotNegative = 0.1
) -> Scores:
    """Tool-Star (#19, verified): -1 for bad form; else the answer's F1, and `bonus` where both tools were called.

    Without F1 there is no bonus. The mere call earns it, as in the released code, so that a call for show pays.
    Its self-critic stage, which makes preference pairs, is not covered.
    """
    return [_tool_star(t, answer_f1(t, group), tools, bonus) if told(t) else UNSCORED for t in group]


def _tool_star(trajectory: Trajectory, f1: float, tools: Sequence[str], bonus: float) -> Score:
    if not is_well_formed(trajectory):
        return Score(total=-1.0, parts={"f1": 0.0, "tool_bonus": 0.0})
    earned = bonus if f1 > 0 and _used(trajectory, tools, worked=False) else 0.0
    return Score(total=f1 + earned, parts={"f1": f1, "tool_bonus": earned})


def gra(
    group: Sequence[Trajectory],
    *,
    outcomes: tuple[float, float, float, float] = (0.0, 0.1, 0.5, 1.0),
    at: float = 0.5,
    form: NotNegative = 0.05,
    valid: NotNegative = 0.05,
) -> TurnScores:
    """G-RA, gated reward accumulation (#67, secondary): R_high + 1[R_high >= at] times the sum of step rewards.

    R_high has four levels; for software they are no submission, an empty patch, one that fails, one that passes, here
    no answer, an empty one, a wrong one, the right one. A turn earns `form` where its format was accepted and `valid`
    where it called and all calls succeeded. The levels' values, `at` and both step rewards are ours; the authors'
    reward for the choice of scaffold is not covered. Other step rewards: `high + gate(high, low)`.
    """
    return [_gated_steps(t, outcomes, at, form, valid) if scorable(t) else UNSCORED for t in group]


def _gated_steps(trajectory: Trajectory, outcomes: Sequence[float], at: float, form: float, valid: float) -> Score:
    high = outcomes[_level(trajectory)]
    steps = [form * (not turn.error) + valid * _worked(turn, share=False) for turn in trajectory.turns]
    score = per_turn(trajectory, [step * (high >= at) for step in steps], end=high, name="steps")
    return Score(
        total=score.total, parts={"outcome": high, **score.parts}, turns=score.turns, turn_parts=score.turn_parts
    )


def _level(trajectory: Trajectory) -> int:
    if trajectory.correct:
        return 3
    if trajectory.answer is None:
        return 0
    return 2 if trajectory.answer.strip() else 1


def spear_tool(
    group: Group,
    *,
    each: NotNegative = 0.1,
    most: NotNegative = 1.0,
    until: Count = 100,
    schedule: Literal["cosine", "constant"] = "cosine",
    variant: Literal["posneg", "qwen3"] = "posneg",
) -> Scores:
    """SPEAR's intrinsic reward (#12, verified): mu(t) min(`most`, `each` times the turns with a call).

    mu(t) = (1 + cos(pi t / `until`)) / 2 at step t, 0 after `until`: 100 in the README, 200 in the script. It is paid
    to right and wrong alike: `correct + spear_tool`. The released variant for Qwen3 pays a right answer mu(t) flat if
    there was any call. Early on a wrong answer with many calls earns as much as a right one without, by design.
    """
    now = (1 + math.cos(math.pi * group.step / until)) / 2 if group.step <= until else 0.0
    mu = 1.0 if schedule == "constant" else now
    scores = []
    for t in group:
        calling = min(most, each * sum(bool(turn.calls) for turn in t.turns))
        if variant == "qwen3" and t.correct:
            calling = float(calling > 0)
        told_enough = told(t) if variant == "posneg" else scorable(t)
        scores.append(plain("spear_tool", mu * calling) if told_enough else UNSCORED)
    return scores
