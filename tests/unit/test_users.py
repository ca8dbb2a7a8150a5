"""Users: by script, and played by a model; seeded, and said again instead of asked again."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.environments.users import (
    GREETING,
    PATIENCE,
    PERSONAS,
    ListedUser,
    ScriptedUser,
    SimulatedUser,
    User,
    UserTurn,
    chat_of,
    draw_persona,
    flipped,
    read_turn,
)
from journeyman.errors import UserError
from journeyman.llm import Cached, Chat, Endpoint, Scripted
from journeyman.messages import Message, ToolCall


def told(user: User, *said: str) -> list[UserTurn]:
    """What a user answers to one thing after another."""
    dialogue = [Message(role="user", content=user.opening())]
    turns = []
    for words in said:
        dialogue.append(Message(role="assistant", content=words))
        turns.append(asyncio.run(user.reply(dialogue)))
        dialogue.append(Message(role="user", content=turns[-1].text))
    return turns


def texts(turns: Sequence[UserTurn]) -> list[str]:
    return [turn.text for turn in turns]


def renter() -> ScriptedUser:
    return ScriptedUser(
        ["I want a bicycle.", "And a lock."], {"e-mail|email": "It is a@b.org.", "size|frame": "A small one."}
    )


def test_a_listed_user_says_its_list_and_stops() -> None:
    user = ListedUser(["a", "b", UserTurn(text="c", stop=True)])
    assert user.opening() == "a"
    assert told(user, "?", "?", "?") == [
        UserTurn(text="b"),
        UserTurn(text="c", stop=True),
        UserTurn(text="", stop=True),
    ]
    with pytest.raises(ValueError, match="one turn at least"):
        ListedUser([])


def test_a_scripted_user_fills_slots_agrees_and_goes_on_part_by_part() -> None:
    turns = told(
        renter(),
        "What is your E-MAIL address, and which frame size?",
        "I will book B7. Your e-mail is noted. Shall I go ahead?",
        "What is the capital of France?",
        "It is booked. Anything else?",
        "Here is the lock.",
    )
    assert texts(turns) == [
        *("It is a@b.org. A small one.", "Yes, please.", "I don't know.", "And a lock.", "Thank you, that is all."),
    ]
    assert [turn.stop for turn in turns] == [False] * 4 + [True]


def test_a_scripted_user_is_not_endlessly_patient() -> None:
    turns = told(renter(), *["Which size?"] * PATIENCE)
    assert [turn.stop for turn in turns] == [False] * (PATIENCE - 1) + [True]
    with pytest.raises(ValueError, match="one part at least"):
        ScriptedUser([])


@given(said=st.lists(st.text(max_size=40), min_size=1, max_size=5), cut=st.integers(0, 4))
@settings(max_examples=80)
def test_a_scripted_user_goes_on_from_its_state(said: list[str], cut: int) -> None:
    whole = told(renter(), *said)
    first, second = renter(), renter()
    begun = told(first, *said[:cut])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + told(second, *said[cut:]) == whole


def simulated(chat: Chat, seed: int = 1) -> SimulatedUser:
    return SimulatedUser(chat=chat, instruction="You want tea.", seed=seed, persona=PERSONAS[1])


def test_the_sides_are_swapped_for_the_model_that_plays_the_user() -> None:
    model = Scripted(["Tea."])
    told(simulated(model), "What would you like?")
    [asked] = model.asked
    assert [(m.role, m.content) for m in asked[1:]] == [
        *(("user", GREETING), ("assistant", "Hello, I need some help."), ("user", "What would you like?")),
    ]
    hidden = asked[0].content
    assert hidden.endswith("Your instructions:\nYou want tea.") and PERSONAS[1].manner in hidden
    own = [
        Message(role="assistant", content="Hi"),
        Message(role="user", content="Tea"),
        Message(role="tool", content="7"),
    ]
    assert [m.role for m in flipped(own)] == ["user", "assistant", "user"]
    assert flipped(own)[-1].content == "<tool_response>\n7\n</tool_response>"


class SeedTeller:
    """Says the seed that it is asked with."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        return str(seed)


def test_a_seed_fixes_what_is_drawn_and_each_turn_draws_anew() -> None:
    one, same, other = (texts(told(simulated(SeedTeller(), seed), "a?", "b?")) for seed in (1, 1, 2))
    assert one == same and not set(one) & set(other) and one[0] != one[1]
    assert {draw_persona(seed).name for seed in range(60)} == {persona.name for persona in PERSONAS}
    assert draw_persona(5) is draw_persona(5)


def test_what_was_said_is_said_again_without_asking() -> None:
    model = Scripted(["one", "two", "three"])
    user = simulated(model)
    told(user, "a?", "b?")
    again = SimulatedUser(chat=Scripted([]), instruction="", seed=1, replies=list(user.replies))
    assert texts(told(again, "a?", "b?")) == ["one", "two"]
    later = simulated(model)
    later.load_state_dict(json.loads(json.dumps(user.state_dict())))
    assert texts(told(later, "c?")) == ["three"] and len(model.asked) == 3
    assert user.state_dict() == {"turn": 2, "replies": ["one", "two"]}


def test_stop_tokens_thoughts_and_calls() -> None:
    assert read_turn("Thanks! ###STOP###") == UserTurn(text="Thanks!", stop=True)
    assert read_turn("###TRANSFER###") == read_turn(" ###OUT-OF-SCOPE### ") == UserTurn(text="", stop=True)
    assert read_turn("<think>###STOP###</think>Hi") == UserTurn(text="Hi")
    assert read_turn("") == UserTurn(text="...")
    call = '<tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'
    assert read_turn(call, with_tools=True) == UserTurn(text="", calls=(ToolCall(name="look", arguments={"x": 1}),))
    assert read_turn(call) == UserTurn(text="...")  # without tools it is only noise
    assert read_turn(f"{call} ###STOP###", with_tools=True) == UserTurn(text="", stop=True)
    assert read_turn("<tool_call>{</tool_call>[", with_tools=True) == UserTurn(text="[")


@given(text=st.text(alphabet='<>/tool_callthink#STOP{}"name: x', max_size=80), tools=st.booleans())
@settings(max_examples=100)
def test_any_text_is_a_turn(text: str, tools: bool) -> None:
    turn = read_turn(text, with_tools=tools)
    assert turn.text or turn.stop or turn.calls


def test_a_model_is_named_as_in_a_pipeline(tmp_path: Path) -> None:
    options = {"base_url": "http://localhost:1/v1", "model": "m"}
    assert chat_of(options) == Endpoint(base_url="http://localhost:1/v1", model="m")
    cached = chat_of({**options, "cache": str(tmp_path)})
    assert isinstance(cached, Cached) and cached.folder == tmp_path and cached.name == "m"
    with pytest.raises(UserError, match="base_url"):
        chat_of({"model": "m"})


def test_a_cached_user_is_replayed_from_the_folder(tmp_path: Path) -> None:
    model = Scripted(["tea", "milk"])
    first = texts(told(simulated(Cached(chat=model, folder=tmp_path, name="m")), "a?", "b?"))
    again = Cached(chat=Scripted([]), folder=tmp_path, name="m")
    assert texts(told(simulated(again), "a?", "b?")) == first == ["tea", "milk"] and again.hits == 2
