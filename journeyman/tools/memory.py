"""Memory folding: what happened so far as notes of three kinds, from which the attempt goes on in a short context (#130)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from journeyman.messages import Message, ToolCall, ToolResult
from journeyman.tools.base import CallContext, FunctionTool, ToolError
from journeyman.tools.documents import json_object
from journeyman.tools.similarity import hashed

if TYPE_CHECKING:
    from journeyman.llm import Chat
    from journeyman.trajectory import Turn

MAX_NOTE = 1000
"""Most characters of one note (ours)."""
MAX_NOTES = 40
"""Most notes of one kind; the oldest go first (ours)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened on the way."""

    step: str
    """What was done."""
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolNote:
    """What is known of a tool from using it."""

    tool: str
    calls: int = 0
    failures: int = 0
    works: str = ""
    """Arguments that worked."""
    fails: str = ""
    """What went wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Episodic (`task`, `events`, `progress`), working (`goal`, `problems`, `next_actions`) and tool memory (`tools`)."""

    task: str = ""
    events: tuple[Event, ...] = ()
    progress: str = ""
    goal: str = ""
    """What is to be reached right now."""
    problems: tuple[str, ...] = ()
    next_actions: tuple[str, ...] = ()
    tools: tuple[ToolNote, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, notes: Mapping[str, Any]) -> "Memory":
        """Raises `ToolError` for an unknown key or a value of another kind, in words that a model can act on."""
        _known(notes, cls, "the memory")
        return cls(
            task=_text(notes.get("task", ""), "task"),
            events=tuple(Event(**_row(row, Event, "events")) for row in _list(notes, "events")),
            progress=_text(notes.get("progress", ""), "progress"),
            goal=_text(notes.get("goal", ""), "goal"),
            problems=tuple(_text(note, "problems") for note in _list(notes, "problems")),
            next_actions=tuple(_text(note, "next_actions") for note in _list(notes, "next_actions")),
            tools=tuple(ToolNote(**_row(row, ToolNote, "tools")) for row in _list(notes, "tools")),
        )

    def merged(self, newer: "Memory") -> "Memory":
        """This memory with a newer one on top: events are joined, counts of a tool added, the rest is the newer's."""
        tools = {note.tool: note for note in self.tools}
        for note in newer.tools:
            old = tools.get(note.tool, ToolNote(tool=note.tool))
            tools[note.tool] = ToolNote(
                tool=note.tool,
                calls=old.calls + note.calls,
                failures=old.failures + note.failures,
                works=note.works or old.works,
                fails=note.fails or old.fails,
            )
        return Memory(
            task=newer.task or self.task,
            events=(*self.events, *newer.events)[-MAX_NOTES:],
            progress=newer.progress or self.progress,
            goal=newer.goal or self.goal,
            problems=newer.problems,
            next_actions=newer.next_actions,
            tools=tuple(tools.values()),
        )

    def text(self) -> str:
        """The notes as a model reads them: JSON without what is empty."""
        kept = {key: value for key, value in self.to_json().items() if value}
        return json.dumps(kept, ensure_ascii=False)


def _known(row: Mapping[str, Any], kind: type, place: str) -> None:
    names = [each.name for each in fields(kind)]
    if unknown := [key for key in row if key not in names]:
        raise ToolError(f"{place} has no {unknown[0]}; there are {', '.join(names)}")


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise ToolError(f"{place} must be text")
    return value[:MAX_NOTE]


def _list(notes: Mapping[str, Any], place: str) -> Sequence[Any]:
    value = notes.get(place, ())
    if not isinstance(value, list | tuple):
        raise ToolError(f"{place} must be a list")
    return value[-MAX_NOTES:]


def _row(value: Any, kind: type, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ToolError(f"{place} must be objects")
    _known(value, kind, f"an entry of {place}")
    if missing := [name for name in ("step", "outcome", "tool") if _has(kind, name) and name not in value]:
        raise ToolError(f"an entry of {place} needs {missing[0]}")
    counts = {name: value[name] for name in ("calls", "failures") if name in value}
    if any(type(count) is not int or count < 0 for count in counts.values()):
        raise ToolError(f"counts of {place} must be whole numbers from 0")
    return {name: counts[name] if name in counts else _text(value[name], f"{place}.{name}") for name in value}


def _has(kind: type, name: str) -> bool:
    return name in {each.name for each in fields(kind)}


class FoldMemory(FunctionTool):
    """The policy's own fold (#130): it writes the notes, they are checked and joined with those it had.

    A loop that can start a new context goes on from `folded_opening(memory, ...)`; elsewhere the notes are an
    observation like any other.
    """

    name = "fold_memory"

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory, self.folds = memory or Memory(), 0

    async def run(
        self,
        progress: str,
        events: list[dict[str, str]],
        goal: str = "",
        problems: tuple[str, ...] = (),
        next_actions: tuple[str, ...] = (),
        tools: tuple[dict[str, Any], ...] = (),
    ) -> str:
        """Fold what happened so far into notes, and go on from them alone. Write down every value you still need.

        Args:
            progress: How far the task is.
            events: What was done, each {"step": ..., "outcome": ...}.
            goal: What is to be reached next.
            problems: What is in the way.
            next_actions: What to do next, in order.
            tools: What you learned of tools, each {"tool": ..., "calls": 2, "failures": 1, "works": ..., "fails": ...}.
        """
        notes = {"progress": progress, "events": events, "goal": goal, "problems": problems}
        newer = Memory.from_json({**notes, "next_actions": next_actions, "tools": tools})
        self.memory, self.folds = self.memory.merged(newer), self.folds + 1
        return f"folded: {self.memory.text()}"

    def lent(self) -> "dict[str, Recall]":
        """`recall` of this memory."""
        return {"recall": Recall(self)}

    def open(self, context: CallContext) -> "FoldMemory":
        return FoldMemory()

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory.to_json(), "folds": self.folds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.memory, self.folds = Memory.from_json(state["memory"]), state["folds"]


class Recall(FunctionTool):
    """Finds notes by what they are about (#130), in the memory of a `FoldMemory` or one given."""

    name = "recall"

    def __init__(self, source: FoldMemory | None = None) -> None:
        self._source = source or FoldMemory()

    async def run(self, query: str, count: int = 3) -> str:
        """Look something up in your notes.

        Args:
            query: What to look for.
            count: How many notes to return, 1 to 10.
        """
        if not 1 <= count <= 10:
            raise ToolError("count must be 1 to 10")
        notes = _lines(self._source.memory)
        if not notes:
            return "there are no notes"
        rows = hashed([query, *notes])
        scores = rows[1:] @ rows[0]
        best = sorted(range(len(notes)), key=lambda i: (-scores[i], i))[:count]
        return "\n".join(notes[i] for i in best if scores[i] > 0) or "no note fits"


def _lines(memory: Memory) -> list[str]:
    events = [f"{event.step}: {event.outcome}" for event in memory.events]
    tools = [f"{note.tool}: works {note.works}; fails {note.fails}" for note in memory.tools]
    return [*events, *(text for text in (memory.progress, memory.goal) if text), *memory.problems, *tools]


def observed(calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> tuple[ToolNote, ...]:
    """Tool memory as counted, not told: calls, failures, the last arguments that worked, the last error."""
    notes: dict[str, ToolNote] = {}
    for call, result in zip(calls, results, strict=True):
        given = json.dumps(dict(call.arguments), ensure_ascii=False)[:MAX_NOTE]
        once = ToolNote(
            tool=call.name,
            calls=1,
            failures=int(not result.ok),
            works=given if result.ok else "",
            fails="" if result.ok else result.output[:MAX_NOTE],
        )
        joined = Memory(tools=(notes[call.name],) if call.name in notes else ()).merged(Memory(tools=(once,)))
        notes[call.name] = joined.tools[0]
    return tuple(notes.values())


def folded_opening(memory: Memory, question: str, system: str = "") -> tuple[Message, ...]:
    """What a context that goes on from a fold starts with: the question as it was, then the notes."""
    opening = (Message(role="system", content=system),) if system else ()
    content = f"{question}\n\nYour notes of what you did so far:\n{memory.text()}\nGo on from there."
    return (*opening, Message(role="user", content=content))


class Folder:
    """A second model that writes the fold from the turns so far, as in #130, where the policy asks for one or must."""

    def __init__(self, chat: "Chat", characters: int = 12_000) -> None:
        self._chat, self._characters = chat, characters

    def is_due(self, turns: Sequence["Turn"]) -> bool:
        """Whether the turns and their results are longer than the budget, in characters (ours: the policy may wait too long)."""
        return (
            sum(len(turn.text) + sum(len(result.output) for result in turn.results) for turn in turns)
            > self._characters
        )

    async def fold(self, question: str, turns: Sequence["Turn"], before: Memory, *, seed: int) -> Memory:
        """The memory with these turns folded in. A reply that is no memory keeps what was counted (`observed`)."""
        told = "\n\n".join(_told(turn) for turn in turns)
        prompt = _FOLD.format(question=question, before=before.text(), told=told)
        reply = await self._chat.complete([Message(role="user", content=prompt)], seed=seed, max_tokens=1024)
        try:
            newer = Memory.from_json({**json_object(reply), "task": question[:MAX_NOTE], "tools": []})
        except ToolError:
            newer = Memory(task=question[:MAX_NOTE])
        calls = [call for turn in turns for call in turn.calls]
        results = [result for turn in turns for result in turn.results]
        return before.merged(replace(newer, tools=observed(calls[: len(results)], results)))


def _told(turn: "Turn") -> str:
    return "\n".join([turn.text, *(f"[{result.name}] {result.output}" for result in turn.results)])


_FOLD = """Someone works on a task with tools. Fold what happened into short notes from which they go on alone.
Task: {question}
Notes so far: {before}
Since then:
{told}

Keep every value that is still needed. Reply with a JSON object with the keys
"events" (a list of {{"step", "outcome"}}), "progress", "goal", "problems" (a list), "next_actions" (a list)."""
