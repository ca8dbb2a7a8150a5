"""Tool documents rewritten from trial and error: explore, analyse, rewrite, until they settle (#43)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from journeyman.messages import Message, ToolResult
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.calls import run_call
from journeyman.tools.similarity import bleu, hashed

if TYPE_CHECKING:
    from journeyman.llm import Chat
    from journeyman.tools.similarity import Embed

EPISODES = 5
"""Most explorations of one tool."""
TOO_LIKE, ASKS = 0.9, 3
"""A query as like an earlier one is asked for again; the third is taken as it is."""
SETTLED = 0.75
"""Likeness of two versions in a row from which a document has settled (from memory of the paper)."""
OBSERVATION = 2048
"""Characters of a result that the models are shown."""
TEMPERATURE = 0.2
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class StopRule(StrEnum):
    """When rewriting ends before `EPISODES`."""

    PAPER = "paper"
    """Once two versions are alike: the document has settled."""
    RELEASE = "release"
    """Once they are not: what the published code does, the opposite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A query that the explorer thought of, and the call it made for it."""

    query: str
    arguments: Mapping[str, Any]
    ok: bool
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A document as it was once."""

    description: str
    episode: int
    """0: as it came."""
    accepted: bool = True
    likeness: float | None = None
    """To the version before it, in [0, 1]."""
    probe_score: float | None = None
    """Share of the probes that succeed with it; None where there are none."""
    trial: Trial | None = None
    suggestions: str = ""
    hints: str = ""
    """For the next exploration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A tool's document with its history."""

    spec: Mapping[str, Any]
    """With the last accepted description: for prompts and for the tool index."""
    versions: tuple[Version, ...]
    """Oldest first, the refused ones too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A fixed request that a document is tried on: the model writes the arguments, the tool must take them."""

    query: str
    expected: str = ""
    """What the result must contain; empty: it must be no error."""


def likeness(old: str, new: str, embed: "Embed | None" = None) -> float:
    """(BLEU + cosine) / 2 of two documents, in [0, 1]; 1 for equal ones."""
    rows = (embed or hashed)([old, new])
    return (bleu(old, new) + float(rows[0] @ rows[1])) / 2


def stops(value: float, rule: StopRule) -> bool:
    """Whether a rewrite of that likeness to the document before it is the last."""
    return value > SETTLED if rule is StopRule.PAPER else value < SETTLED


class Rewriter:
    """Rewrites tool documents with one model in three parts: explorer, analyser, rewriter."""

    def __init__(
        self,
        chat: "Chat",
        *,
        rule: StopRule = StopRule.PAPER,
        embed: "Embed | None" = None,
        probes: Sequence[Probe] = (),
    ) -> None:
        self._chat, self._rule, self._embed, self._probes = chat, rule, embed or hashed, tuple(probes)

    async def rewrite(self, tool: Tool, seed: int) -> Rewritten:
        """Explore a tool for at most `EPISODES` and rewrite its description after each.

        With probes, a rewrite under which fewer of them succeed is refused, and the old document explored again (ours).
        """
        spec = tool.spec()
        current = Version(description=spec["function"]["description"], episode=0)
        current = replace(current, probe_score=await self._probe(tool, spec, derive(seed, "probe")))
        versions, hints = [current], ""
        for episode in range(1, EPISODES + 1):
            shown = _described(spec, current.description)
            trial = await self._explore(tool, shown, versions, hints, derive(seed, "explore", episode))
            made = await self._revise(shown, trial, versions, derive(seed, "revise", episode))
            score = await self._probe(tool, _described(spec, made.description), derive(seed, "probe"))
            alike = likeness(current.description, made.description, self._embed)
            kept = score is None or current.probe_score is None or score >= current.probe_score
            made = replace(made, episode=episode, likeness=alike, probe_score=score, accepted=kept)
            versions.append(made)
            hints = made.hints
            if kept:
                current = made
            if stops(alike, self._rule):
                break
        return Rewritten(spec=_described(spec, current.description), versions=tuple(versions))

    async def _explore(
        self, tool: Tool, spec: Mapping[str, Any], versions: Sequence[Version], hints: str, seed: int
    ) -> Trial:
        """A query unlike the earlier ones, and what the tool says to it."""
        earlier = [version.trial.query for version in versions if version.trial is not None]
        query, arguments = "", {}
        for ask in range(ASKS):
            prompt = _EXPLORE.format(spec=_shown(spec), earlier="\n".join(earlier) or "none", hints=hints or "none")
            made = await self._ask(prompt, derive(seed, ask))
            query, arguments = str(made.get("query", "")), made.get("arguments", {})
            if not earlier or self._nearest(query, earlier) < TOO_LIKE:
                break
        given = arguments if isinstance(arguments, dict) else {}
        result = await _run(tool, given, seed)
        return Trial(query=query, arguments=given, ok=result.ok, output=result.output[:OBSERVATION])

    def _nearest(self, query: str, earlier: Sequence[str]) -> float:
        rows = self._embed([query, *earlier])
        return float((rows[1:] @ rows[0]).max())

    async def _revise(self, spec: Mapping[str, Any], trial: Trial, versions: Sequence[Version], seed: int) -> Version:
        history = "\n---\n".join(version.description for version in versions)
        seen = f"query: {trial.query}\narguments: {json.dumps(dict(trial.arguments))}\nresult: {trial.output}"
        analysed = await self._ask(
            _ANALYSE.format(spec=_shown(spec), history=history, trial=seen), derive(seed, "analyse")
        )
        suggestions = str(analysed.get("suggestions", ""))
        made = await self._ask(
            _REWRITE.format(spec=_shown(spec), suggestions=suggestions, trial=seen), derive(seed, "rewrite")
        )
        old = spec["function"]["description"]
        description = str(made.get("description") or old).strip() or old
        return Version(
            description=description,
            episode=0,
            trial=trial,
            suggestions=suggestions,
            hints=str(made.get("hints", "")),
        )

    async def _probe(self, tool: Tool, spec: Mapping[str, Any], seed: int) -> float | None:
        if not self._probes:
            return None
        right = 0
        for number, probe in enumerate(self._probes):
            made = await self._ask(_CALL.format(spec=_shown(spec), query=probe.query), derive(seed, number))
            result = await _run(tool, made, derive(seed, number))
            right += result.ok and probe.expected in result.output
        return right / len(self._probes)

    async def _ask(self, prompt: str, seed: int) -> dict[str, Any]:
        """The JSON object of a reply; empty where there is none."""
        text = await self._chat.complete([Message(role="user", content=prompt)], seed=seed, temperature=TEMPERATURE)
        return json_object(text)


def json_object(text: str) -> dict[str, Any]:
    """The JSON object in a reply, from its first brace to its last; empty where that is none."""
    if (found := _OBJECT.search(text)) is None:
        return {}
    try:
        made = json.loads(found[0])
    except (json.JSONDecodeError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


async def _run(tool: Tool, arguments: Mapping[str, Any], seed: int) -> ToolResult:
    """A call in a state of its own: explorations don't see each other's effects."""
    context = CallContext(trajectory="documents", seed=seed)
    opened = tool.open(context)
    try:
        return await run_call(opened, arguments, context)
    finally:
        await opened.close()


def _described(spec: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {**spec, "function": {**spec["function"], "description": description}}


def _shown(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec["function"], ensure_ascii=False)


_EXPLORE = """You try out a tool, to find out what its document leaves unsaid.
Document: {spec}
Queries tried so far:
{earlier}
Hints: {hints}
Think of a new, different thing that a user could want of it, and call the tool for it.
Reply with a JSON object: {{"query": "what the user says", "arguments": {{...}}}}"""
_ANALYSE = """A tool was tried. Compare its document with what it did.
Document: {spec}
Earlier versions:
{history}
Trial:
{trial}
What is wrong, missing or needless in the document?
Reply with a JSON object: {{"suggestions": "..."}}"""
_REWRITE = """Rewrite the description of a tool along the suggestions; be short and exact.
Document: {spec}
Suggestions: {suggestions}
Trial:
{trial}
Say also what should be tried out next.
Reply with a JSON object: {{"description": "...", "hints": "..."}}"""
_CALL = """Call this tool for a user.
Document: {spec}
The user says: {query}
Reply with a JSON object: its arguments."""
