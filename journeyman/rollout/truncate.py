"""Long observations made short: the marker stands where something is missing, and counts towards the limit (#1)."""

from collections.abc import Callable
from enum import StrEnum


class Side(StrEnum):
    """Which part of a long text is left out."""

    LEFT = "left"
    """The beginning: of a log, where the end tells what happened."""
    RIGHT = "right"
    """The end: of a page or a table, where the best comes first."""
    MIDDLE = "middle"
    """The middle, the two ends equally long."""


def truncate(text: str, limit: int, side: Side = Side.MIDDLE, measure: Callable[[str], int] = len) -> str:
    """As much of a text as fits, with a marker for what is missing; the text itself where all of it fits.

    Args:
        text: the observation.
        limit: most that the result may measure, marker included.
        side: what is left out.
        measure: how long a text is: characters, or tokens (`lambda text: len(tokenizer.encode(text))`). It is asked
            some twenty times and may be a little uneven, as tokens are: the result is measured as it is.
    """
    if limit < 0:
        raise ValueError(f"the limit must not be negative, but is {limit}")
    if measure(text) <= limit:
        return text
    for marker in (_counted, _short, _none):
        if (kept := _longest(text, limit, side, measure, marker)) is not None:
            return kept
    return ""


def _longest(
    text: str, limit: int, side: Side, measure: Callable[[str], int], marker: Callable[[int], str]
) -> str | None:
    """The longest cut that fits, by bisection; None where not even the marker does."""
    low, high, best = 0, len(text) - 1, None
    while low <= high:
        kept = (low + high) // 2
        cut = _cut(text, kept, side, marker(len(text) - kept))
        if measure(cut) <= limit:
            low, best = kept + 1, cut
        else:
            high = kept - 1
    return best


def _cut(text: str, kept: int, side: Side, marker: str) -> str:
    head = {Side.LEFT: 0, Side.RIGHT: kept, Side.MIDDLE: kept - kept // 2}[side]
    tail = kept - head
    return text[:head] + marker + text[len(text) - tail :]


def _counted(missing: int) -> str:
    return f"\n[... {missing} characters left out ...]\n"


def _short(missing: int) -> str:
    return "[...]"


def _none(missing: int) -> str:
    return ""
