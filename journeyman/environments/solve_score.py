"""Precision of the calls and completeness of the task, turn by turn (#5)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from journeyman.messages import ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A sub-question of a problem: the tool that answers it, and what its output must hold."""

    tool: str
    answer: str


class TurnScore(StrEnum):
    """How a turn with p calls that solve q sub-questions is paid; the four that the authors release."""

    F1 = "f1"
    """2q / (p + 1): the one they train with."""
    PRECISION = "precision"
    """q / p."""
    RATE = "rate"
    """q."""
    PRODUCT = "product"
    """q * q / p."""


EMPTY, BROKEN, ALL_SOLVED = -0.5, -0.3, 0.5


def turn_score(solved: int, calls: int, kind: TurnScore = TurnScore.F1) -> float:
    """Of a turn with at least one call; `f1` of a turn with several sub-questions in it can pass 1."""
    match kind:
        case TurnScore.F1:
            return 2 * solved / (calls + 1)
        case TurnScore.PRECISION:
            return solved / calls
        case TurnScore.RATE:
            return float(solved)
        case TurnScore.PRODUCT:
            return solved * solved / calls


def end_score(text: str, *, right: bool, broken: bool, unsolved: int) -> float:
    """Of a turn without calls: what it says, whether the answer in it is right, whether it holds a broken call.

    A right answer earns 1 / (1 + unsolved sub-questions): one that was guessed earns less. Silence about it after all
    is solved earns half.
    """
    if not text.strip():
        return EMPTY
    if broken:
        return BROKEN
    if right:
        return 1 / (1 + unsolved)
    return ALL_SOLVED if unsolved == 0 else 0.0


def solved_goals(goals: Sequence[Goal], solved: Sequence[int], results: Sequence[ToolResult]) -> list[int]:
    """Indices of the goals that these results solve anew: a result solves at most one, and only one of its own tool."""
    new: list[int] = []
    for result in results:
        for i, goal in enumerate(goals):
            its_own = i not in solved and i not in new and result.ok and result.name == goal.tool
            if its_own and shows(result.output, goal.answer):
                new.append(i)
                break
    return new


def shows(text: str, answer: str) -> bool:
    """Whether an answer stands in a text as a whole, but for case and commas: 4 is not in 42, nor in 4.5 (ours)."""
    plain, wanted = (value.replace(",", "").casefold().strip() for value in (text, answer))
    return bool(wanted) and re.search(rf"(?<![\w.]){re.escape(wanted)}(?!\w|\.\d)", plain) is not None
