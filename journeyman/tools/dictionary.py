"""A dictionary over any glossary: words in, the nearest entries out (#14)."""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from journeyman.errors import DataError
from journeyman.tools.base import FunctionTool, ToolError

MAX_WORDS = 4
"""Words of a look-up (#14)."""
MAX_ENTRIES = 5
"""Entries shown for a word (#14)."""
MAX_LENGTH = 60
"""Characters of a word that is looked up."""
MIN_PREFIX = 2
"""Characters that a word and an entry must begin with in common, where one begins with the other (ours)."""
LIKENESS = 75.0
"""Per cent of letters in common, by `rapidfuzz.fuzz.ratio`, for an inflected form (ours)."""


class Dictionary(FunctionTool):
    """Gives entries in the order exact, beginning alike, one letter off, inflected: the order of ours.

    Args:
        entries: word or phrase to what it means: a text, or several; or
        path: of a glossary, see `read_glossary`.
    """

    name = "dictionary"

    def __init__(
        self, entries: Mapping[str, str | Sequence[str]] | None = None, *, path: Path | str | None = None
    ) -> None:
        if (entries is None) == (path is None):
            raise TypeError("a dictionary takes either entries or the path of a glossary")
        given = entries if path is None else read_glossary(Path(path))
        assert given is not None
        self.entries: dict[str, str] = {
            word: meaning if isinstance(meaning, str) else "; ".join(meaning) for word, meaning in given.items()
        }

    async def run(self, words: list[str]) -> str:
        """Look up words in the dictionary. Gives the nearest entries of each.

        Args:
            words: up to 4 words or short phrases.
        """
        asked = [word.strip() for word in words]
        if not 1 <= len(asked) <= MAX_WORDS:
            raise ToolError(f"look up 1 to {MAX_WORDS} words at once")
        if any(not 1 <= len(word) <= MAX_LENGTH for word in asked):
            raise ToolError(f"a word has 1 to {MAX_LENGTH} characters")
        return "\n".join(self._told(word) for word in asked)

    def _told(self, word: str) -> str:
        found = self.nearest(word)
        if not found:
            return f"{word}: no entry"
        return f"{word}:\n" + "\n".join(f"  {entry} = {self.entries[entry]}" for entry in found)

    def nearest(self, word: str) -> list[str]:
        """At most 5 entries, best first."""
        from rapidfuzz import fuzz
        from rapidfuzz.distance import Levenshtein

        asked = normal(word)
        ranked = []
        for entry, form in self._forms:
            likeness = fuzz.ratio(asked, form, score_cutoff=LIKENESS)
            if form == asked:
                rank = 0
            elif min(len(form), len(asked)) >= MIN_PREFIX and (form.startswith(asked) or asked.startswith(form)):
                rank, likeness = 1, fuzz.ratio(asked, form)
            elif Levenshtein.distance(asked, form, score_cutoff=1) <= 1 < len(asked):
                rank = 2
            elif likeness:
                rank = 3
            else:
                continue
            ranked.append((rank, -likeness, len(ranked), entry))
        return [entry for *_, entry in sorted(ranked)[:MAX_ENTRIES]]

    @cached_property
    def _forms(self) -> list[tuple[str, str]]:
        """(entry, its normal form)."""
        return [(entry, normal(entry)) for entry in self.entries]


def normal(word: str) -> str:
    """A word without case, with its accents in one form."""
    return unicodedata.normalize("NFC", word.strip().casefold())


def read_glossary(path: Path) -> dict[str, list[str]]:
    """A TSV file, `word TAB meaning` a line, or a JSON object. A word of several lines has several meanings.

    Raises `DataError` with the line where it is neither.
    """
    try:
        pairs = list(_of_json(path) if path.suffix == ".json" else _of_tsv(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the glossary can't be read: {error}", place=str(path)) from None
    entries: dict[str, list[str]] = {}
    for word, meaning in pairs:
        entries.setdefault(word, []).append(meaning)
    if not entries:
        raise DataError("a dictionary without entries", place=str(path))
    return entries


def _of_tsv(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, tab, meaning = line.partition("\t")
        if not tab or not word.strip() or not meaning.strip():
            raise DataError("a line is WORD, a tab, MEANING", place=f"{path}:{number}")
        yield word.strip(), meaning.strip()


def _of_json(path: Path) -> Iterator[tuple[str, str]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not JSON: {error}", place=str(path)) from None
    if not isinstance(entries, dict):
        raise DataError("a dictionary is a JSON object, word to meaning", place=str(path))
    for word, meaning in entries.items():
        for one in meaning if isinstance(meaning, list) else [meaning]:
            if not isinstance(one, str):
                raise DataError(f"the meaning of {word!r} is a text or a list of texts", place=str(path))
            yield word, one
