"""Full-text search: in a few documents in memory, or in a corpus with titles and snippets."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from journeyman.tools.base import FunctionTool, ToolError
from journeyman.tools.corpus import Document, read_corpus, read_dataset
from journeyman.tools.search_index import Dense, SearchIndex, words

SNIPPET = 300
"""Characters of a passage."""
RESULTS = 5
_KEPT = 8192
"""Queries whose results are kept."""


class CorpusSearch(FunctionTool):
    """Finds documents of a corpus and shows where in them the query's words stand.

    Args:
        documents: the corpus; held in memory.
        results: documents of a search.
        snippet: characters of each that are shown.
        dense: with it a search is hybrid: BM25 and vectors, fused by their ranks.
        folder: where the index is kept on disk; None: in the user's cache where there are many documents.
    """

    name = "search"

    def __init__(
        self,
        documents: Iterable[Document],
        *,
        results: int = RESULTS,
        snippet: int = SNIPPET,
        dense: Dense | None = None,
        folder: Path | None = None,
    ) -> None:
        self.documents = list(documents)
        self._results, self._snippet = results, snippet
        self._index = SearchIndex([f"{one.title}\n{one.text}" for one in self.documents], dense=dense, folder=folder)
        self._cached = lru_cache(maxsize=_KEPT)(self._search)

    async def run(self, query: str) -> str:
        """Search a collection of documents. Gives titles, and of each document the passage that fits best.

        Args:
            query: a few words, or a question.
        """
        return self._cached(query)

    def _search(self, query: str) -> str:
        if not words(query):
            raise ToolError("the query has no word in it")
        found = [self.documents[i] for i in self._index.search(query, self._results)]
        shown = [f"[{i}] {one.title}\n{snippet(one.text, query, self._snippet)}" for i, one in enumerate(found, 1)]
        return "\n\n".join(shown) or "nothing found"


class Search(FunctionTool):
    """Finds the documents that fit a query best: in a few in memory, or in a corpus as `CorpusSearch` does.

    Args:
        documents: few texts, shown as they are; or
        path: of a folder or file of text, Markdown, JSONL, Parquet; or
        dataset: name of a data set that `datasets` loads, and its `split`.
        results: documents of a search; 1 of a few texts and 5 of a corpus by default.
        encoder: folder of a sentence encoder: with it the search of a corpus is hybrid.
    """

    name = "search"

    def __init__(
        self,
        documents: Sequence[str] | None = None,
        results: int | None = None,
        *,
        path: Path | str | None = None,
        dataset: str | None = None,
        split: str = "train",
        encoder: Path | str | None = None,
    ) -> None:
        if sum(one is not None for one in (documents, path, dataset)) != 1:
            raise TypeError("search takes either documents, a path or a dataset")
        self._documents = list(documents or ())
        self._results = results or (1 if documents is not None else RESULTS)
        self._corpus: CorpusSearch | None = None
        if documents is None:
            read = read_corpus(path) if path is not None else read_dataset(str(dataset), split=split)
            dense = None if encoder is None else Dense.of_folder(encoder)
            self._corpus = CorpusSearch(read, results=self._results, dense=dense)
        self._cached = lru_cache(maxsize=_KEPT)(self._search)

    def spec(self) -> dict[str, Any]:
        return super().spec() if self._corpus is None else self._corpus.spec()

    async def run(self, query: str) -> str:
        """Search the encyclopedia."""
        return self._cached(query) if self._corpus is None else await self._corpus.run(query)

    def _search(self, query: str) -> str:
        if not words(query):
            raise ToolError("the query has no word in it")
        best = [self._documents[i] for i in self._index.by_words(query, self._results)]
        return "\n".join(best) or "nothing found"

    @cached_property
    def _index(self) -> SearchIndex:
        return SearchIndex(self._documents)


def snippet(text: str, query: str, length: int) -> str:
    """At most `length` characters of a text: the stretch with the most different words of the query, the first of
    equals, words whole, `…` where something is left out."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    room = max(1, length - 4)  # for the dots and a space on either side
    asked = set(words(query))
    hits = [(found.start(), found.end(), found[0].casefold()) for found in re.finditer(r"\w+", text)]
    hits = [hit for hit in hits if hit[2] in asked]
    first, last = _densest(hits, room) if hits else (0, 0)
    start = max(0, min(first - (room - (last - first)) // 2, len(text) - room))
    stop = start + room
    if start and text[start - 1] != " ":
        start = text.find(" ", start, first) + 1 or first
    if stop < len(text) and text[stop] != " " and last < stop:
        stop = max(text.rfind(" ", last, stop), last) or stop  # a word longer than the room is cut
    return f"{'… ' if start else ''}{text[start:stop].strip()}{' …' if stop < len(text) else ''}"


def _densest(hits: Sequence[tuple[int, int, str]], room: int) -> tuple[int, int]:
    """(start, stop) of the stretch of at most `room` characters with the most different words."""
    best, first, seen = (0, hits[0][0], hits[0][1]), 0, dict[str, int]()
    for i, (_, stop, word) in enumerate(hits):
        seen[word] = seen.get(word, 0) + 1
        while first < i and stop - hits[first][0] > room:
            seen[hits[first][2]] -= 1
            first += 1
        different = sum(count > 0 for count in seen.values())
        if different > best[0]:
            best = (different, hits[first][0], stop)
    return best[1], best[2]
