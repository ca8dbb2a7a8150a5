"""Which documents fit a query: BM25 by `bm25s`, vectors, or both; kept on disk for large corpora."""

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import bm25s
    import numpy as np

    from journeyman.tools.similarity import Embed

T = TypeVar("T")
FUSION = 60
"""Added to ranks, from 1, in reciprocal-rank fusion (Cormack et al. 2009)."""
CANDIDATES = 100
"""Documents that each ranking gives to the fusion (ours)."""
LARGE = 10_000
"""Documents from which an index is kept on disk unasked (ours)."""
_VERSION = "1"
"""Of what is written to disk; another one when words are cut in another way."""
_BATCH = 64


def plain_bm25s() -> ModuleType:
    """The module `bm25s`, without JAX: where that is installed it would start it up, which takes most of a GPU's memory
    and leaves threads behind that don't survive a fork."""
    if "bm25s" in sys.modules or "jax" in sys.modules:
        return import_module("bm25s")
    sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        return import_module("bm25s")
    finally:
        del sys.modules["jax"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """How texts become vectors."""

    embed: "Embed"
    """For documents, and for queries too where they have none of their own."""
    embed_query: "Embed | None" = None
    name: str = ""
    """Names the model among the vectors on disk; without one they are not kept."""

    @classmethod
    def of_folder(cls, folder: Path | str, *, document_prefix: str = "", query_prefix: str = "") -> "Dense":
        """A sentence-transformers or transformers encoder: mean of the last layer over the tokens, length 1."""
        from journeyman.tools.embedder import Encoder

        encoder = Encoder(Path(folder))
        return cls(
            embed=lambda texts: encoder([document_prefix + text for text in texts]),
            embed_query=lambda texts: encoder([query_prefix + text for text in texts]),
            name=f"{encoder.digest}{document_prefix}",
        )

    def query(self, text: str) -> "np.ndarray":
        """D numbers."""
        return (self.embed_query or self.embed)([text])[0]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def reciprocal_ranks(rankings: Iterable[Sequence[T]]) -> dict[T, float]:
    """The sum of 1 / (60 + rank) over the rankings that something is in, in order of appearance."""
    scores: dict[T, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + 1 / (FUSION + rank)
    return scores


def fused(rankings: Iterable[Sequence[int]]) -> list[tuple[int, float]]:
    """(document, score) by `reciprocal_ranks`, best first; equal ones in document order."""
    return sorted(reciprocal_ranks(rankings).items(), key=lambda item: (-item[1], item[0]))


class SearchIndex:
    """An index over texts, made when first asked.

    Args:
        texts: what is searched.
        dense: with it, a search is hybrid.
        folder: where the index is kept, under the digest of the texts. None: in the user's cache where there are
            many texts, else nowhere.
    """

    def __init__(self, texts: Sequence[str], *, dense: Dense | None = None, folder: Path | None = None) -> None:
        self._texts, self._dense = texts, dense
        self._folder = cache_folder() if folder is None and len(texts) >= LARGE else folder

    def search(self, query: str, count: int) -> list[int]:
        """Numbers of the documents that fit best, best first. Without a known word and without vectors: none."""
        if self._dense is None:
            return self.by_words(query, count)
        return [i for i, _ in fused((self.by_words(query, CANDIDATES), self.by_meaning(query, CANDIDATES)))][:count]

    def by_words(self, query: str, count: int) -> list[int]:
        """The order of BM25; documents without any of the words are not there."""
        known = [word for word in words(query) if word in self._words.vocab_dict]
        if not known:
            return []
        count = min(count, len(self._texts))
        found, scores = self._words.retrieve([known], k=count, show_progress=False, n_threads=0)
        return [int(i) for i, score in zip(found[0], scores[0], strict=True) if score > 0]

    def by_meaning(self, query: str, count: int) -> list[int]:
        """The order of the vectors' inner products."""
        import numpy as np

        assert self._dense is not None
        scores = self._vectors @ self._dense.query(query)
        count = min(count, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        return [int(i) for i in best[np.lexsort((best, -scores[best]))]]

    @cached_property
    def digest(self) -> str:
        """Of all texts."""
        made = hashlib.sha256(_VERSION.encode())
        for text in self._texts:
            data = text.encode("utf-8", "surrogatepass")
            made.update(len(data).to_bytes(8, "big") + data)
        return made.hexdigest()[:32]

    @cached_property
    def _words(self) -> "bm25s.BM25":
        bm25s = plain_bm25s()
        kept = self._folder / self.digest / "words" if self._folder else None
        if kept and kept.is_dir():
            return bm25s.BM25.load(str(kept), mmap=True)
        index = bm25s.BM25()
        index.index([words(text) for text in self._texts], show_progress=False)
        if kept:
            _keep(kept, lambda folder: index.save(str(folder), show_progress=False))
        return index

    @cached_property
    def _vectors(self) -> "np.ndarray":
        import numpy as np

        assert self._dense is not None
        name = hashlib.sha256(self._dense.name.encode()).hexdigest()[:16]
        kept = self._folder / self.digest / f"vectors-{name}" if self._folder and self._dense.name else None
        if kept and kept.is_dir():
            return np.load(kept / "vectors.npy", mmap_mode="r")
        batches = [self._texts[i : i + _BATCH] for i in range(0, len(self._texts), _BATCH)]
        vectors = np.concatenate([self._dense.embed(batch) for batch in batches]).astype(np.float32)
        if kept:
            _keep(kept, lambda folder: np.save(folder / "vectors.npy", vectors))
        return vectors


def cache_folder() -> Path:
    """Where large indexes are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "journeyman" / "search"


def _keep(target: Path, write: Callable[[Path], object]) -> None:
    """Make a folder that is either whole or not there; another process that was first is as good."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
    try:
        write(made)
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
