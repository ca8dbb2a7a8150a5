"""How near a translation comes to another (#14)."""

import math
import re
import unicodedata

from journeyman.tools.similarity import grams

ORDER = 4
"""Longest word sequence that counts."""


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation; an apostrophe or hyphen inside a word stays."""
    return re.findall(r"\w+(?:['’-]\w+)*", unicodedata.normalize("NFC", text).casefold())


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """BLEU-4 of one sentence in [0, 1], 1 added to both counts from two words on; 0 without a word in common.

    Without smoothing a sentence that shares no four words in a row has 0 (Lin and Och 2004, smoothing 2).
    """
    made, gold = words(hypothesis), words(reference)
    if not made or not gold:
        return 0.0
    total = 0.0
    for order in range(1, ORDER + 1):
        mine, theirs = grams(made, order), grams(gold, order)
        hits, count = (mine & theirs).total(), mine.total()
        if order == 1 and not hits:
            return 0.0
        total += math.log(hits / count if order == 1 else (hits + 1) / (count + 1)) / ORDER
    return math.exp(total + min(0.0, 1 - len(gold) / len(made)))
