"""Full-text search over a small corpus: BM25 by `bm25s`."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from journeyman.tools.base import FunctionTool, ToolError

if TYPE_CHECKING:
    import bm25s


class Search(FunctionTool):
    """Finds the document of a corpus that fits a query best."""

    name = "search"

    def __init__(self, documents: Sequence[str], results: int = 1) -> None:
        self._documents = list(documents)
        self._results = results
        self._cached = lru_cache(maxsize=8192)(self._search)

    async def run(self, query: str) -> str:
        """Search the encyclopedia."""
        return self._cached(query)

    def _search(self, query: str) -> str:
        words = _words(query)
        if not words:
            raise ToolError("the query has no word in it")
        known = [word for word in words if word in self._index.vocab_dict]
        if not known:
            return "nothing found"
        count = min(self._results, len(self._documents))
        found, scores = self._index.retrieve([known], k=count, show_progress=False, n_threads=0)
        best = [self._documents[i] for i, score in zip(found[0], scores[0], strict=True) if score > 0]
        return "\n".join(best) or "nothing found"

    @cached_property
    def _index(self) -> "bm25s.BM25":
        import bm25s

        index = bm25s.BM25()
        index.index([_words(document) for document in self._documents], show_progress=False)
        return index


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
