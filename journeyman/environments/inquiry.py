"""What questions are worth: hidden records, what answers rule out, and what asking in vain costs (#157, #126)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations, pairwise
from typing import Literal

Attribute = Literal["colour", "size", "material", "place", "pattern"]
VALUES: Mapping[Attribute, Sequence[str]] = {
    "colour": ("red", "blue", "green", "white", "black", "yellow"),
    "size": ("small", "medium", "large", "huge"),
    "material": ("wooden", "glass", "steel", "paper", "wool"),
    "place": ("kitchen", "hall", "garage", "office", "attic"),
    "pattern": ("plain", "striped", "dotted", "checked"),
}
GAIN_WEIGHT = 0.1
"""Of what a question rules out (ours)."""
EXCESS_WEIGHT = 0.1
"""Of each question beyond the fewest that are needed (ours)."""
TURN_WEIGHT = 0.05
"""Of each question where bits are paid: else questions that tell nothing would cost nothing (ours)."""
Record = Mapping[str, str]


class Form(StrEnum):
    """What questions may ask."""

    OPEN = "open"
    """For an attribute's value."""
    YES_NO = "yes_no"
    """Whether an attribute has a value."""


class Pay(StrEnum):
    """What a question earns."""

    SHARE = "share"
    """The share of the candidates that it rules out (#157)."""
    BITS = "bits"
    """The entropy that it takes away (#126)."""


def entropy(candidates: Sequence[Record]) -> float:
    """Bits that are missing where every candidate is as likely (#126)."""
    return math.log2(len(candidates)) if candidates else 0.0


def factored_entropy(values: Mapping[str, Sequence[str]]) -> float:
    """Bits that are missing where each attribute has one of its remaining values, each as likely (#126)."""
    return sum(math.log2(len(remaining)) for remaining in values.values())


def gain(before: int, after: int) -> float:
    """What a question rules out: the share of the candidates before it; -1 where it rules out none (ours)."""
    return (before - after) / before if after < before else -1.0


def fewest(candidates: Sequence[Record], form: Form) -> int:
    """Questions needed to tell N candidates apart, at the worst.

    ceil(log2 N) for yes/no questions; for open ones the size of the smallest set of attributes in which all differ,
    so 1 where a single one splits them fully, or ceil(log2 N) where no set does.
    """
    if len(candidates) < 2:
        return 0
    if form is Form.OPEN:
        for count in range(1, len(VALUES) + 1):
            for names in combinations(VALUES, count):
                if len({tuple(record[name] for name in names) for record in candidates}) == len(candidates):
                    return count
    return math.ceil(math.log2(len(candidates)))


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What the questions of an attempt have ruled out."""

    needed: int
    """The fewest questions: K_min."""
    sizes: list[int]
    """Candidates at first and after each question."""
    chosen: str = ""
    target: str = ""

    @property
    def asked(self) -> int:
        return len(self.sizes) - 1

    @property
    def success(self) -> float:
        return float(bool(self.chosen) and self.chosen == self.target)

    def gains(self) -> list[float]:
        return [gain(before, after) for before, after in pairwise(self.sizes)]

    def bits(self) -> float:
        """Entropy that the questions took away: their sum is that of the first state less that of the last (#126)."""
        return math.log2(self.sizes[0]) - math.log2(self.sizes[-1])

    def excess(self) -> int:
        return max(0, self.asked - self.needed)

    def total(self, pay: Pay = Pay.SHARE) -> float:
        """Success, plus what the questions earn.

        Shares: + 0.1 of the sum of gains - 0.1 for each question beyond the fewest (#157). Bits: + 0.1 a bit - 0.05 a
        question (#126).
        """
        if pay is Pay.BITS:
            return self.success + GAIN_WEIGHT * self.bits() - TURN_WEIGHT * self.asked
        return self.success + GAIN_WEIGHT * sum(self.gains()) - EXCESS_WEIGHT * self.excess()


@dataclass(slots=True, kw_only=True)
class Room:
    """The hidden state of one attempt."""

    candidates: list[Record]
    """Those that fit the request and every answer so far."""
    target: Record
    form: Form
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        needed = fewest(self.candidates, self.form)
        self.ledger = Ledger(needed=needed, sizes=[len(self.candidates)], target=self.target["id"])

    def ask(self, attribute: str, value: str = "") -> str:
        """The user's answer, about its own record alone. Every question counts."""
        own = self.target[attribute]
        yes = own == value
        kept = [r for r in self.candidates if (r[attribute] == own if not value else (r[attribute] == value) == yes)]
        self.candidates = kept
        self.ledger.sizes.append(len(kept))
        if not value:
            return f"The {attribute} is {own}."
        return "Yes." if yes else "No."

    def waste(self) -> None:
        """A question that nobody can answer."""
        self.ledger.sizes.append(len(self.candidates))
