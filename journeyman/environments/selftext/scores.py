"""How close an answer comes: orders, filled gaps, continued texts. Plain functions of text and numbers."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from typing import Any

from journeyman.environments.multihop import f1, normal

FORMAT, PARTIAL, REPETITION = 0.2, 0.2, 0.5
"""Visual Jigsaw's own (#169): what the format pays, the discount on partial orders, the penalty for repeating lines."""
TASK_FORMAT = 0.1
"""What the format pays beside a task's reward of at most 1. Ours (#173, #196)."""
SAME_TEXT = 0.8
"""F1 of words from which two texts count as the same. Ours (#185)."""
_ORDER = re.compile(r"\s*\[?\s*\d+(\s*,\s*\d+)*\s*\]?\s*")
_REPEATED_WORDS, _REPEATED_RUN = 7, 3


def read_order(answer: str) -> list[int] | None:
    """Whole numbers with commas between; None for anything else."""
    return [int(number) for number in re.findall(r"\d+", answer)] if _ORDER.fullmatch(answer) else None


def jigsaw(answer: str, gold: Sequence[int], written: str = "") -> dict[str, float]:
    """Visual Jigsaw's score (#169) as `raw`, from -0.3 to 1.2, and what it is made of.

    `format` 0.2 for numbers with commas; `order` 1 for the exact one, else, of more than four parts, 0.2 times the share
    of the positions that are right; `repetition` -0.5 where `written` repeats a line, not applied without the format. An
    answer that is no permutation gets nothing for its order: the paper's code asks only for as many distinct numbers.
    """
    given = read_order(answer)
    if given is None:
        return {"format": 0.0, "order": 0.0, "repetition": 0.0, "raw": 0.0}
    order = 0.0
    if given == list(gold):
        order = 1.0
    elif sorted(given) == sorted(gold) and len(gold) > 4:
        order = PARTIAL * sum(a == b for a, b in zip(given, gold, strict=True)) / len(gold)
    repetition = -REPETITION if repeats(written) else 0.0
    return {"format": FORMAT, "order": order, "repetition": repetition, "raw": FORMAT + order + repetition}


def repeats(text: str) -> bool:
    """Whether a line of at least seven words stands more than three times in a row."""
    return any(
        len(line.split()) >= _REPEATED_WORDS and sum(1 for _ in run) > _REPEATED_RUN
        for line, run in groupby(text.splitlines())
    )


def in_order(answer: str, gold: Sequence[int], pairs: Iterable[tuple[int, int]] | None = None) -> float:
    """`1 - inversions / pairs`, MR-RLVR's reward for an order (#173): (Kendall's tau + 1) / 2.

    `pairs`: which positions of the gold order must stand in it, where others may change places; None: all.
    """
    given = read_order(answer)
    if given is None or sorted(given) != sorted(gold):
        return 0.0
    place = {label: at for at, label in enumerate(given)}
    ordered = [(gold[i], gold[j]) for i, j in (combinations(range(len(gold)), 2) if pairs is None else pairs)]
    if not ordered:
        return 1.0
    return 1.0 - sum(place[first] > place[second] for first, second in ordered) / len(ordered)


def read_list(answer: str, count: int) -> list[Any] | None:
    """A JSON list of so many values; for a single one its bare text will do. None for anything else."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return [answer.strip()] if count == 1 and answer.strip() else None
    value = value if isinstance(value, list) else [value]
    return value if len(value) == count else None


def filled(given: Sequence[Any], wanted: Sequence[Any]) -> float:
    """Share of the gaps that were filled right (#173)."""
    return sum(same_value(a, b) for a, b in zip(given, wanted, strict=True)) / len(wanted)


def same_value(given: Any, wanted: Any) -> bool:
    """Equal as JSON once numbers written as text are numbers; text without regard to case and space."""
    if isinstance(given, dict) and isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(same_value(given[key], wanted[key]) for key in wanted)
    if isinstance(given, list) and isinstance(wanted, list):
        return len(given) == len(wanted) and all(map(same_value, given, wanted))
    if isinstance(given, dict | list) or isinstance(wanted, dict | list):
        return False
    first, second = _number(given), _number(wanted)
    if first is not None and second is not None:
        return abs(first - second) <= 1e-6
    return " ".join(str(given).casefold().split()) == " ".join(str(wanted).casefold().split()) != ""


def _number(value: Any) -> float | None:
    """A finite number of at most 30 digits."""
    text = str(value).strip().replace(",", "")
    return float(text) if re.fullmatch(r"[-+]?\d{1,30}(\.\d{1,30})?", text) else None


def continues(prediction: str, truth: Sequence[str]) -> bool:
    """Whether a prediction is the first sentence of the truth, or its first two, and so on: RLPT's prefix rule (#185).

    The same means an F1 of words of at least `SAME_TEXT` and the same numbers (ours): `47 litres` is not `48 litres`.
    """
    return any(_same_text(prediction, " ".join(truth[:count])) for count in range(1, len(truth) + 1))


def _same_text(given: str, wanted: str) -> bool:
    numbers = [sorted(re.findall(r"\d+", normal(text))) for text in (given, wanted)]
    return numbers[0] == numbers[1] and f1(given, wanted) >= SAME_TEXT


def same_call(prediction: str, name: str, arguments: Any) -> bool:
    """Whether a prediction is a call in JSON of that name with those arguments."""
    try:
        value = json.loads(prediction)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        return False
    return value["name"] == name and same_value(value["arguments"], arguments)
