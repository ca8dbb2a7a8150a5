"""Which of thousands of tools fit a request: BM25 and vectors, fused by rank, a quota for every sub-question (#20)."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from journeyman.tools.search_index import plain_bm25s, reciprocal_ranks
from journeyman.tools.similarity import stem, words

if TYPE_CHECKING:
    import bm25s
    import numpy as np

    from journeyman.tools.similarity import Embed

BATCH = 64
"""Documents that are embedded at once."""
CANDIDATES = 50
"""Length of a ranked list (ours)."""
_BREAK = re.compile(
    r"(?:^|[.?!;]\s+|,?\s+)(?:and then|then|after that|afterwards|finally|additionally|and also|as well as)\b,?"
    r"|[.?!;]\s+|,\s+and\s+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDocument:
    """A tool as the index sees it."""

    name: str
    text: str


def document(spec: Mapping[str, Any], questions: Sequence[str] = ()) -> ToolDocument:
    """One tool's document: name, description, parameters, and questions that it could serve (#20)."""
    function = spec["function"]
    parameters = function.get("parameters", {}).get("properties", {})
    told = [f"{name} {_details(value).get('description', '')}" for name, value in parameters.items()]
    # The name says most; twice it weighs more.
    text = [function["name"], function["name"], function.get("description", ""), *told, *questions]
    return ToolDocument(name=function["name"], text="\n".join(text))


def _details(schema: Any) -> Mapping[str, Any]:
    """A parameter's schema; `true` is one too, without details."""
    return schema if isinstance(schema, Mapping) else {}


class ToolIndex:
    """Ranked retrieval over tool documents. Reads nothing, changes nothing: safe to share."""

    def __init__(self, documents: Sequence[ToolDocument], embed: "Embed | None" = None) -> None:
        self.names = [made.name for made in documents]
        if len(set(self.names)) != len(self.names):
            raise ValueError("two tools have one name: prefix them with their server's")
        self._texts, self._embed = [made.text for made in documents], embed

    @classmethod
    def build(
        cls,
        specs: Iterable[Mapping[str, Any]],
        *,
        questions: Mapping[str, Sequence[str]] | None = None,
        embed: "Embed | None" = None,
    ) -> "ToolIndex":
        """Index specs; `questions` by tool are added to the documents, `embed` adds a second ranking to BM25's.

        Questions made from an evaluation set leak it. Raises `ValueError` for two tools of one name.
        """
        asked = questions or {}
        return cls([document(spec, asked.get(spec["function"]["name"], ())) for spec in specs], embed)

    def retrieve(self, query: str, count: int, split: "Callable[[str], Sequence[str]] | None" = None) -> list[str]:
        """The `count` tools that fit a request best; `split` makes sub-questions of it (None: `sub_questions`)."""
        parts = (split or sub_questions)(query)
        return self.retrieve_all([[part] for part in parts] or [[query]], count)

    def retrieve_all(self, questions: Sequence[Sequence[str]], count: int) -> list[str]:
        """As `retrieve`, for sub-questions that are already there, each with its variants (#20)."""
        return pick(
            [[ranking for text in variants for ranking in self.rankings(text)] for variants in questions], count
        )

    def rankings(self, text: str) -> list[list[str]]:
        """A ranked list of names by BM25, and one by vectors where there are any."""
        lists = [self._lexical(text)]
        if self._embed is not None:
            lists.append(self._dense(text))
        return [ranking for ranking in lists if ranking]

    def _lexical(self, text: str) -> list[str]:
        known = [word for word in map(stem, words(text)) if word in self._bm25.vocab_dict]
        if not known:
            return []
        count = min(CANDIDATES, len(self.names))
        found, scores = self._bm25.retrieve([known], k=count, show_progress=False, n_threads=0)
        return [self.names[i] for i, score in zip(found[0], scores[0], strict=True) if score > 0]

    def _dense(self, text: str) -> list[str]:
        import numpy as np

        assert self._embed is not None
        scores = self._vectors @ self._embed([text])[0]
        best = np.argsort(-scores, kind="stable")[:CANDIDATES]
        return [self.names[i] for i in best if scores[i] > 0]

    @cached_property
    def _bm25(self) -> "bm25s.BM25":
        index = plain_bm25s().BM25()
        index.index([[stem(word) for word in words(text)] for text in self._texts], show_progress=False)
        return index

    @cached_property
    def _vectors(self) -> "np.ndarray":
        import numpy as np

        assert self._embed is not None
        texts = self._texts
        return np.concatenate([self._embed(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])


def sub_questions(text: str) -> list[str]:
    """A request cut at its sentences and at `then`, `after that` and their like (ours): a rule, not a model."""
    return [part.strip() for part in _BREAK.split(text) if len(words(part)) > 1]


def fuse(rankings: Iterable[Sequence[str]]) -> dict[str, float]:
    """Names by `reciprocal_ranks` over the lists they are in (ours), best first; ties in order of appearance."""
    return dict(sorted(reciprocal_ranks(rankings).items(), key=lambda item: -item[1]))


def pick(questions: Sequence[Sequence[Sequence[str]]], count: int) -> list[str]:
    """The best names over the ranked lists of several sub-questions, the first of each sub-question among them (ours).

    With fewer places than sub-questions the better of their firsts are taken.
    """
    overall = fuse(ranking for lists in questions for ranking in lists)
    firsts = {next(iter(fuse(lists))) for lists in questions if any(lists)}
    order = {name: i for i, name in enumerate(overall)}
    kept = sorted(firsts, key=order.__getitem__)[:count]
    kept += [name for name in overall if name not in firsts][: count - len(kept)]
    return sorted(kept, key=order.__getitem__)


def recall(found: Iterable[str], gold: Iterable[str]) -> float:
    """Share of the gold names that were found, in [0, 1]; 1 where there is no gold name."""
    wanted = set(gold)
    return len(wanted & set(found)) / len(wanted) if wanted else 1.0


def shorten(spec: Mapping[str, Any], characters: int) -> str:
    """A spec as JSON text of at most so many characters: descriptions go first, then the parameters' details.

    #48 cuts the text anywhere at 20,000 characters; here it stays JSON (ours), and at the shortest is a name alone.
    """
    function = spec["function"]
    schema = function.get("parameters", {})
    properties = schema.get("properties", {})
    details = {name: _details(value) for name, value in properties.items()}
    terse = {name: {key: value[key] for key in ("type", "enum") if key in value} for name, value in details.items()}
    description = function.get("description", "")
    forms = (
        {**function},
        {**function, "parameters": {**schema, "properties": terse}},
        {**function, "description": description[:200], "parameters": {**schema, "properties": terse}},
        {"name": function["name"], "description": description[:200], "parameters": {"required": list(properties)}},
        {"name": function["name"], "description": description[:80]},
    )
    texts = (json.dumps(form, ensure_ascii=False) for form in forms)
    return next((text for text in texts if len(text) <= characters), json.dumps({"name": function["name"]}))
