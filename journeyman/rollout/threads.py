"""Threads of a program's conversation with the policy, each a growing row of token ids.

A request that goes on from what the policy said before gets the earlier ids with those of the new messages appended,
never encoded again. One that goes on from an earlier place in a thread forks it. Any other starts a thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from journeyman.messages import Fault, Message, ParsedTurn, ToolResult
from journeyman.rollout.openai_wire import Said
from journeyman.rollout.sampler import Completion
from journeyman.trajectory import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a thread from which a conversation can go on: after one of the policy's turns."""

    keys: tuple[tuple[Any, ...], ...]
    """`Said.key` of every message up to here, the policy's last included."""
    call_ids: tuple[str, ...]
    """Of the calls of the last turn."""
    length: int
    """Token ids up to here."""
    turns: int
    closed: bool
    """Whether the last turn ended with its end-of-turn token; one that was cut off did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What a program adds to a thread before it asks again."""

    outputs: tuple[str, ...] = ()
    """Of the last turn's calls, in the order of the calls."""
    reply: str = ""
    """The user's words."""


@dataclass(slots=True, kw_only=True)
class Thread:
    """One row in the making."""

    index: int
    opening: tuple[Message, ...]
    """The messages before the policy's first turn."""
    specs: tuple[Mapping[str, Any], ...]
    temperature: float
    seed: int
    ids: list[int]
    mask: list[int]
    logprobs: list[float]
    versions: list[int]
    turns: list[Turn] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    parent: dict[str, int] = field(default_factory=dict)
    """The thread it was forked from and after how many turns; empty for one that was not."""
    busy: bool = False
    """Whether a turn is being sampled."""
    cut: bool = False
    """Whether the last turn ran into a limit."""
    answer: str | None = None
    """What stood between the answer tags of the last turn."""

    @classmethod
    def begun(
        cls,
        *,
        index: int,
        opening: Iterable[Message],
        specs: Sequence[Mapping[str, Any]],
        ids: Sequence[int],
        **rest: Any,
    ) -> "Thread":
        """A thread with nothing but its prompt."""
        count = len(ids)
        return cls(
            index=index,
            opening=tuple(opening),
            specs=tuple(specs),
            ids=list(ids),
            mask=[0] * count,
            logprobs=[0.0] * count,
            versions=[0] * count,
            **rest,
        )

    def forked(self, mark: Mark, *, index: int, seed: int) -> "Thread":
        """A thread that begins with the same ids up to a mark. They are learned from in this one, not again there."""
        made = Thread.begun(
            index=index,
            opening=self.opening,
            specs=self.specs,
            ids=self.ids[: mark.length],
            temperature=self.temperature,
            seed=seed,
            parent={"thread": self.index, "turns": mark.turns},
        )
        made.turns = self.turns[: mark.turns]
        made.marks = [kept for kept in self.marks if kept.turns <= mark.turns]
        return made

    def append(self, ids: Sequence[int], appended: Appended) -> None:
        """Append what follows a turn, and note it with the turn."""
        self._extend(ids, 0, [0.0] * len(ids), 0)
        last = self.turns[-1]
        self.turns[-1] = replace(last, results=results_of(last, appended.outputs), reply=appended.reply)

    def sampled(self, pieces: Sequence[Completion], text: str, parsed: ParsedTurn) -> None:
        """Append a turn of the policy."""
        start = len(self.ids)
        for piece in pieces:
            self._extend(piece.token_ids, 1, piece.logprobs, piece.policy_version)
        self.turns.append(Turn(text=text, calls=parsed.calls, start=start, stop=len(self.ids), error=parsed.error))

    def _extend(self, ids: Sequence[int], mask: int, logprobs: Sequence[float], version: int) -> None:
        self.ids += ids
        self.mask += [mask] * len(ids)
        self.logprobs += logprobs
        self.versions += [version] * len(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a request goes on."""

    thread: Thread
    mark: Mark
    appended: Appended

    @property
    def in_place(self) -> bool:
        """Whether the thread itself goes on; otherwise it is forked."""
        return self.mark is self.thread.marks[-1] and not self.thread.busy


def find(threads: Iterable[Thread], said: Sequence[Said], specs: object, temperature: float) -> Place | None:
    """The furthest place that a request goes on from, with the same tools and temperature; None for a new thread.

    Of equally far ones that with the same call ids is taken, then one that need not be forked.
    """
    keys = tuple(message.key() for message in said)
    found: list[tuple[tuple[int, bool, bool], Place]] = []
    for thread in threads:
        if thread.specs != specs or thread.temperature != temperature:
            continue
        for mark in thread.marks:
            size = len(mark.keys)
            if size >= len(keys) or mark.keys != keys[:size]:
                continue
            appended = read_appended(mark, said[size:])
            if appended is not None:
                place = Place(thread=thread, mark=mark, appended=appended)
                found.append(((size, said[size - 1].call_ids == mark.call_ids, place.in_place), place))
    return max(found, key=lambda one: one[0])[1] if found else None


def read_appended(mark: Mark, said: Sequence[Said]) -> Appended | None:
    """New messages as a result for each call of the last turn, then at most one message of the user.

    None for anything else, which no chat template puts behind a turn without encoding it anew.
    """
    tools = [message for message in said if message.message.role == "tool"]
    rest = list(said[len(tools) :])
    if list(said[: len(tools)]) != tools or len(tools) != len(mark.call_ids) or len(rest) > 1:
        return None
    if any(message.message.role != "user" for message in rest) or any(message.message.images for message in said):
        return None
    reply = rest[0].message.content if rest else ""
    if not tools and not reply:
        return None
    return Appended(outputs=_in_order(mark, tools), reply=reply)


def _in_order(mark: Mark, tools: Sequence[Said]) -> tuple[str, ...]:
    """Outputs in the order of the calls that they answer; as they come where the ids are of no use."""
    by_id = {tool.call_ids[0]: tool.message.content for tool in tools}
    if set(by_id) == set(mark.call_ids):
        return tuple(by_id[call_id] for call_id in mark.call_ids)
    return tuple(tool.message.content for tool in tools)


def results_of(turn: Turn, outputs: Sequence[str]) -> tuple[ToolResult, ...]:
    """What a turn's calls led to, as far as the program has shown it: a text that begins with `error:` is a failure."""
    failed = [output.startswith("error:") for output in outputs]
    return tuple(
        ToolResult(name=call.name, ok=not bad, output=output, fault=Fault.POLICY if bad else None)
        for call, output, bad in zip(turn.calls, outputs, failed, strict=True)
    )
