"""A model around the tool index: documents enriched before, requests planned, results judged after (#20)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journeyman.messages import Message
from journeyman.seeds import derive
from journeyman.tools.documents import json_object
from journeyman.tools.tool_index import ToolIndex, shorten, sub_questions

if TYPE_CHECKING:
    from journeyman.llm import Chat

MAX_QUESTIONS, MAX_VARIANTS = 6, 3
"""Most sub-questions of a request, and variants of each (ours)."""
SHOWN = 600
"""Characters of a spec that the judge sees (ours)."""


async def write_questions(specs: Sequence[Mapping[str, Any]], chat: "Chat", *, seed: int) -> dict[str, list[str]]:
    """Name -> questions that the tool could serve and its topics, for `ToolIndex.build`.

    They are written from the spec alone: from an evaluation set they would leak it.
    """
    made = {}
    for spec in specs:
        name = spec["function"]["name"]
        reply = await _ask(chat, _WRITE.format(spec=shorten(spec, 4 * SHOWN)), derive(seed, name))
        made[name] = _texts(reply.get("questions")) + _texts(reply.get("topics"))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a search led to."""

    names: tuple[str, ...]
    """The tools to put into the model's hands, best first."""
    questions: tuple[tuple[str, ...], ...]
    """Sub-questions, each with its variants."""
    rounds: int
    """1, or 2 where the judge asked for another search."""


class PlannedSearch:
    """Decompose, expand, retrieve, drop what doesn't fit, and search once more where something is missing."""

    def __init__(self, index: ToolIndex, specs: Mapping[str, Mapping[str, Any]], chat: "Chat") -> None:
        self._index, self._specs, self._chat = index, specs, chat

    async def retrieve(self, request: str, count: int, *, seed: int) -> Planned:
        """A reply that can't be read costs nothing but its part: the rule's sub-questions, or all that was found, stay."""
        questions = await self._plan(request, derive(seed, "plan"))
        names = self._index.retrieve_all(questions, 2 * count)
        kept, missing = await self._judge(request, names, derive(seed, "judge"))
        if not missing:
            return Planned(names=tuple(kept[:count]), questions=tuple(map(tuple, questions)), rounds=1)
        more = [name for name in self._index.retrieve_all([[missing]], count) if name not in kept]
        again, _ = await self._judge(request, [*kept, *more], derive(seed, "again"))
        return Planned(names=tuple(again[:count]), questions=(*map(tuple, questions), (missing,)), rounds=2)

    async def _plan(self, request: str, seed: int) -> list[list[str]]:
        reply = await _ask(self._chat, _PLAN.format(request=request), seed)
        rows = reply.get("questions")
        made = [_texts(row)[: 1 + MAX_VARIANTS] for row in rows] if isinstance(rows, list) else []
        return [row for row in made if row][:MAX_QUESTIONS] or [[part] for part in sub_questions(request) or [request]]

    async def _judge(self, request: str, names: Sequence[str], seed: int) -> tuple[list[str], str]:
        """(names that serve the request, best first; a search for what is missing, or nothing)."""
        specs = "\n".join(shorten(self._specs[name], SHOWN) for name in names)
        reply = await _ask(self._chat, _JUDGE.format(request=request, specs=specs), seed)
        kept = [name for name in dict.fromkeys(_texts(reply.get("keep"))) if name in names]
        missing = reply.get("missing")
        return kept or list(names), missing.strip() if isinstance(missing, str) else ""


async def _ask(chat: "Chat", prompt: str, seed: int) -> dict[str, Any]:
    return json_object(await chat.complete([Message(role="user", content=prompt)], seed=seed))


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str) and text.strip()] if isinstance(value, list) else []


_WRITE = """What would users ask that this tool can answer? Use words that the document does not use.
Document: {spec}
Reply with a JSON object: {{"questions": ["...", "..."], "topics": ["...", "..."]}}"""
_PLAN = """Split this request into what each single tool would have to do, and word each part in up to three ways.
Request: {request}
Reply with a JSON object: {{"questions": [["first part", "in other words"], ["second part"]]}}"""
_JUDGE = """Which of these tools does the request need? Name the best first, and leave out what does not help.
Request: {request}
Tools, one a line:
{specs}
If something has no tool here, say in a few words what to search for, else leave it empty.
Reply with a JSON object: {{"keep": ["name", "name"], "missing": ""}}"""
