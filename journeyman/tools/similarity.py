"""How alike two texts are: words, vectors without a model, BLEU."""

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Embed = Callable[[Sequence[str]], np.ndarray]
    """N texts to an (N, D) matrix whose rows have length 1 (0 for a text without words)."""

DIMENSIONS = 4096
"""Of `hashed` (ours): collisions are rare at the length of a tool's document."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_+")
_ENDINGS = ("ings", "ing", "ies", "ed", "es", "s")
_SMOOTHING = 5
"""`k` of smoothing method 4 of Chen and Cherry's BLEU study."""


def words(text: str) -> list[str]:
    """The words of a text in lower case; `getCamelCase` and `snake_case` are several."""
    return re.findall(r"[^\W_]+", _HUMP.sub(" ", text).casefold())


def stem(word: str) -> str:
    """A word without its common English ending; a stem keeps at least three letters (ours)."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def hashed(texts: Sequence[str]) -> "np.ndarray":
    """Stems and their letter triples, hashed into a vector of length 1: an `Embed` that needs no model (ours)."""
    import numpy as np

    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for part, count in _parts(text).items():
            row[zlib.crc32(part.encode()) % DIMENSIONS] += math.sqrt(count) * (1.0 if part[0] == " " else 0.3)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def _parts(text: str) -> Counter[str]:
    parts: Counter[str] = Counter()
    for word in map(stem, words(text)):
        parts[f" {word}"] += 1
        parts.update(word[i : i + 3] for i in range(len(word) - 2))
    return parts


def cosine(one: str, other: str, embed: "Embed | None" = None) -> float:
    """Inner product of two texts' vectors: 1 for equal texts, 0 where nothing is in common."""
    rows = (embed or hashed)([one, other])
    return float(rows[0] @ rows[1])


def bleu(reference: str, candidate: str) -> float:
    """BLEU-4 of one sentence with smoothing method 4, over lower-case words, in [0, 1]; 0 without a common word."""
    gold, made = words(reference), words(candidate)
    if not made:
        return float(not gold)
    total, unmatched = 0.0, 0
    for order in range(1, 5):
        mine, theirs = grams(made, order), grams(gold, order)
        matched: float = sum(min(count, theirs[gram]) for gram, count in mine.items())
        if matched == 0 and order == 1:
            return 0.0
        if matched == 0:
            unmatched += 1
            matched = math.log(len(made)) / (2**unmatched * _SMOOTHING) if len(made) > 1 else 0.0
        if matched == 0:
            return float(made == gold)
        total += math.log(matched / max(1, sum(mine.values()))) / 4
    shortness = 0.0 if len(made) > len(gold) else 1 - len(gold) / len(made)
    # Texts of under four words have no 4-grams: equal is equal.
    return 1.0 if made == gold else min(1.0, math.exp(total + shortness))


def grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of `order` tokens stands there."""
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
