"""Runs of words that rows have in common with questions."""

import numpy as np
import numpy.typing as npt

from journeyman.curation.base import Rows
from journeyman.curation.tokens import Hashes, Words, insert, words_of

_BITS = 24
_LAST = np.uint64((1 << _BITS) - 1)


def find(rows: Rows, text: str, question: str, length: int, which: str) -> None:
    """Add the runs of `length` words of the questions that are meant, and the rows that have one of them."""
    wanted = f"(SELECT * FROM questions WHERE {which})"
    salt = np.uint64(question != "question")  # the two ways to write a question have no runs in common
    known = [_runs(words, length, salt) for words in words_of(rows.database, wanted, question)]
    if not known:
        return
    grams, questions = (np.concatenate(parts) for parts in zip(*known, strict=True))
    insert(rows.database, "grams", {"gram": grams, "question": questions})
    ordered = np.unique(grams)
    likely = np.zeros(1 << _BITS, dtype=bool)
    likely[ordered & _LAST] = True
    for words in words_of(rows.database, "rows", text):
        found, positions = _runs(words, length, salt, likely)
        same = ordered[np.minimum(np.searchsorted(ordered, found), len(ordered) - 1)] == found
        if same.any():
            insert(rows.database, "hits", {"position": positions[same], "gram": found[same]})


def _runs(
    words: Words, length: int, salt: np.uint64, likely: npt.NDArray[np.bool_] | None = None
) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """(the runs of each text, each once; whose they are), of those whose last bits are likely."""
    runs, offsets = words.runs(length)
    runs ^= salt
    owners = np.repeat(words.positions_B, np.diff(offsets))
    if likely is not None:
        kept = likely[runs & _LAST]
        runs, owners = runs[kept], owners[kept]
    order = np.lexsort((runs, owners))
    runs, owners = runs[order], owners[order]
    first = np.ones(len(runs), dtype=bool)
    first[1:] = (runs[1:] != runs[:-1]) | (owners[1:] != owners[:-1])
    return runs[first], owners[first]
