"""Memory folding: checked notes, joined folds, contexts that start from them."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.environments.arithmetic import Arithmetic
from journeyman.environments.lending import Lending
from journeyman.llm import Scripted
from journeyman.messages import ToolCall, ToolResult
from journeyman.tools.base import CallContext, ToolError
from journeyman.tools.memory import Event, Folder, FoldMemory, Memory, Recall, ToolNote, folded_opening, observed
from journeyman.trajectory import Turn
from tests.unit.fakes import call, problem

EVENTS = [{"step": "looked up Rome", "outcome": "2.8 million people"}, {"step": "looked up Bonn", "outcome": "0.3"}]


def test_notes_are_checked_joined_and_found_again() -> None:
    tool = FoldMemory().open(CallContext())
    first = call(tool, progress="two of three", events=EVENTS, tools=[{"tool": "search", "calls": 2, "works": "city"}])
    assert first.ok and first.output.startswith("folded: ") and "2.8 million" in first.output
    second = call(
        tool,
        progress="all three",
        events=[{"step": "looked up Oslo", "outcome": "0.7"}],
        next_actions=["add them"],
        tools=[{"tool": "search", "calls": 1, "failures": 1, "fails": "empty query"}],
    )
    assert second.ok and tool.folds == 2
    memory = tool.memory
    assert [event.outcome for event in memory.events] == ["2.8 million people", "0.3", "0.7"]
    assert memory.tools == (ToolNote(tool="search", calls=3, failures=1, works="city", fails="empty query"),)
    assert (memory.progress, memory.next_actions) == ("all three", ("add them",))
    recall = Recall(tool)
    assert call(recall, query="Bonn", count=1).output == "looked up Bonn: 0.3"
    assert call(recall, query="zzz").output == "no note fits"
    assert call(Recall(), query="Bonn").output == "there are no notes"
    assert not call(recall, query="Bonn", count=11).ok
    other = FoldMemory().open(CallContext())
    assert other.memory == Memory(), "another attempt has its own"
    other.load_state_dict(json.loads(json.dumps(tool.state_dict())))
    assert other.memory == memory and other.folds == 2


def test_recall_on_offer_reads_the_notes_of_its_own_attempt() -> None:
    async def attempt() -> None:
        world = Lending(Arithmetic(), {"fold_memory": FoldMemory(), "recall": Recall()})
        episodes = [
            world.reset(problem(tools=("recall", "fold_memory")), CallContext(trajectory=name)) for name in "ab"
        ]
        note = ToolCall(name="fold_memory", arguments={"progress": "half", "events": EVENTS})
        ask = ToolCall(name="recall", arguments={"query": "Bonn", "count": 1})
        assert (await episodes[0].call(note)).ok
        assert (await episodes[0].call(ask)).output == "looked up Bonn: 0.3"
        assert (await episodes[0].fork(CallContext()).call(ask)).output == "looked up Bonn: 0.3"
        assert (await episodes[1].call(ask)).output == "there are no notes"

    asyncio.run(attempt())


@pytest.mark.parametrize(
    ("notes", "error"),
    [
        ({"event": []}, "no event; there are task"),
        ({"events": "all"}, "events must be a list"),
        ({"events": ["a"]}, "events must be objects"),
        ({"events": [{"step": "a"}]}, "needs outcome"),
        ({"events": [{"step": "a", "outcome": 3}]}, "events.outcome must be text"),
        ({"tools": [{"calls": 1}]}, "needs tool"),
        ({"tools": [{"tool": "t", "calls": -1}]}, "whole numbers"),
        ({"tools": [{"tool": "t", "calls": True}]}, "whole numbers"),
        ({"problems": [1]}, "problems must be text"),
        ({"progress": None}, "progress must be text"),
    ],
)
def test_wrong_notes_are_told(notes: dict[str, Any], error: str) -> None:
    with pytest.raises(ToolError, match=error):
        Memory.from_json(notes)


TEXTS = st.text(max_size=20)
MEMORIES = st.builds(
    Memory,
    task=TEXTS,
    events=st.lists(st.builds(Event, step=TEXTS, outcome=TEXTS), max_size=4).map(tuple),
    progress=TEXTS,
    problems=st.lists(TEXTS, max_size=3).map(tuple),
    tools=st.lists(
        st.builds(ToolNote, tool=TEXTS, calls=st.integers(0, 9)), max_size=3, unique_by=lambda n: n.tool
    ).map(tuple),
)


@given(MEMORIES, MEMORIES)
def test_folds_keep_every_event_and_count(first: Memory, second: Memory) -> None:
    both = first.merged(second)
    assert both.events == (*first.events, *second.events)
    calls = sum(note.calls for memory in (first, second) for note in memory.tools)
    assert sum(note.calls for note in both.tools) == calls
    assert Memory.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert json.loads(first.text()).keys() <= first.to_json().keys()


TURNS = [
    Turn(
        text="looking",
        calls=(ToolCall(name="search", arguments={"q": "a"}), ToolCall(name="search", arguments={"q": ""})),
        results=(
            ToolResult(name="search", ok=True, output="A" * 50),
            ToolResult(name="search", ok=False, output="error: no word"),
        ),
    )
]


def test_tool_memory_is_counted_not_told() -> None:
    notes = observed(TURNS[0].calls, TURNS[0].results)
    assert notes == (ToolNote(tool="search", calls=2, failures=1, works='{"q": "a"}', fails="error: no word"),)


def test_a_folder_folds_and_a_context_starts_from_it() -> None:
    reply = json.dumps({"events": EVENTS, "progress": "half", "tools": [{"tool": "invented"}]})
    chat = Scripted([f"Notes:\n{reply}", "I can't."])
    folder = Folder(chat, characters=60)
    assert folder.is_due(TURNS) and not Folder(chat, characters=100).is_due(TURNS)
    before = Memory(tools=(ToolNote(tool="search", calls=3),))
    memory = asyncio.run(folder.fold("Which city?", TURNS, before, seed=1))
    assert (memory.progress, memory.tools[0].calls, len(memory.tools), len(memory.events)) == ("half", 5, 1, 2)
    again = asyncio.run(folder.fold("Which city?", TURNS, memory, seed=2))
    assert again.tools[0].calls == 7 and again.events == memory.events and again.progress == "half"
    system, user = folded_opening(memory, "Which city?", system="Be kind.")
    assert (system.role, user.role) == ("system", "user") and user.content.startswith("Which city?\n")
    assert '"progress": "half"' in user.content and "A" * 50 not in user.content
    assert "A" * 50 in chat.asked[0][0].content and len(folded_opening(memory, "Which city?")) == 1
