"""Who the model talks to: users by script, and users that a language model plays (#55).

A user sees the dialogue alone, neither the desk's calls nor what they returned.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from journeyman.errors import UserError
from journeyman.llm import Cached, Chat, Endpoint
from journeyman.messages import Message, ToolCall
from journeyman.seeds import derive

STOP, TRANSFER, OUT_OF_SCOPE = "###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###"
STOPS = (STOP, TRANSFER, OUT_OF_SCOPE)
"""What a simulated user writes to end the dialogue; tau2's tokens."""
GREETING = "Hello, how can I help you?"
"""What a simulated user is shown as the desk's first words."""
FIRST = "Hello, I need some help."
"""What a simulated user begins with: known before any model is asked."""
PATIENCE = 30
"""Replies after which a scripted user ends the dialogue whatever happens (ours)."""
MAX_CALLS = 4
"""Most calls that a user makes in one turn (ours)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTurn:
    """What a user does next."""

    text: str
    """Said to the desk; empty where the user only acts or only ends the dialogue."""
    stop: bool = False
    """Whether the dialogue ends here."""
    calls: tuple[ToolCall, ...] = ()
    """Of the user's own tools; the user is asked again with what they returned."""


class User(Protocol):
    """The other side of a dialogue. Inherit from it."""

    def opening(self) -> str:
        """The first message."""
        ...

    async def reply(self, messages: Sequence[Message]) -> UserTurn:
        """The next turn after a dialogue of `user` and `assistant` messages, and `tool` ones for the user's own calls.

        Raises `InfrastructureError` where a model is needed and can't be had.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the user stands, as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state that `state_dict` gave."""


class ListedUser(User):
    """Says one thing after another, whatever it is told; the last ends the dialogue."""

    def __init__(self, turns: Sequence[UserTurn | str]) -> None:
        """`turns`: at least one; the first is the opening."""
        if not turns:
            raise ValueError("a listed user has something to say: give one turn at least")
        self._turns = [turn if isinstance(turn, UserTurn) else UserTurn(text=turn) for turn in turns]
        self._next = 1

    def opening(self) -> str:
        return self._turns[0].text

    async def reply(self, messages: Sequence[Message]) -> UserTurn:
        if self._next >= len(self._turns):
            return UserTurn(text="", stop=True)
        self._next += 1
        return self._turns[self._next - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._next = state["next"]


_MORE = re.compile(r"\b(?:any|some)thing (?:else|more)\b|\bany other\b|\bfurther (?:help|questions?)\b", re.IGNORECASE)
_CONFIRM = re.compile(
    r"\b(?:(?:shall|should|may|can) i|confirm|go ahead|proceed|would you like|do you want|is (?:that|this))\b",
    re.IGNORECASE,
)


class ScriptedUser(User):
    """A deterministic user that fills slots: gives the request part by part and answers by keyword.

    A question with a known keyword gets its slot's answer, one for consent a yes, "anything else?" the next part, any
    other "I don't know". Words that are no question get the next part too. The dialogue ends when no part is left.
    """

    def __init__(
        self,
        parts: Sequence[str],
        slots: Mapping[str, str] | None = None,
        *,
        agree: str = "Yes, please.",
        unknown: str = "I don't know.",
        closing: str = "Thank you, that is all.",
    ) -> None:
        """Make a user.

        Args:
            parts: the request; the first opens the dialogue.
            slots: answer by keyword; several keywords of one slot stand between bars: `email|e-mail`.
            agree: to questions for consent.
            unknown: to questions that nothing is known about.
            closing: the last words.
        """
        if not parts:
            raise ValueError("a scripted user wants something: give one part at least")
        self._parts, self._slots = list(parts), dict(slots or {})
        self._agree, self._unknown, self._closing = agree, unknown, closing
        self._next, self._replies = 1, 0

    def opening(self) -> str:
        return self._parts[0]

    async def reply(self, messages: Sequence[Message]) -> UserTurn:
        self._replies += 1
        said = next((message.content for message in reversed(messages) if message.role == "assistant"), "")
        if self._replies >= PATIENCE:
            return UserTurn(text=self._closing, stop=True)
        if "?" not in said or _MORE.search(said):
            return self._next_part()
        if known := self._known(said):
            return UserTurn(text=" ".join(known))
        return UserTurn(text=self._agree if _CONFIRM.search(said) else self._unknown)

    def _known(self, said: str) -> list[str]:
        """Answers to what the questions among the words ask for, each once."""
        asked = " ".join(re.findall(r"[^.!?\n]*\?", said))
        found = (answer for keys, answer in self._slots.items() if _mentions(asked, keys))
        return list(dict.fromkeys(found))

    def _next_part(self) -> UserTurn:
        if self._next >= len(self._parts):
            return UserTurn(text=self._closing, stop=True)
        self._next += 1
        return UserTurn(text=self._parts[self._next - 1])

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next, "replies": self._replies}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._next, self._replies = state["next"], state["replies"]


def _mentions(text: str, keys: str) -> bool:
    return any(re.search(rf"\b{re.escape(key.strip())}\b", text, re.IGNORECASE) for key in keys.split("|"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """A manner of speaking; it changes nothing of what the user wants."""

    name: str
    manner: str
    """In the second person, for the model that plays the user."""


PERSONAS = (
    Persona(name="plain", manner="You speak plainly and to the point."),
    Persona(name="terse", manner="You answer in as few words as you can, often without a full sentence."),
    Persona(
        name="chatty", manner="You like to talk, and mention small things that have nothing to do with the matter."
    ),
    Persona(name="impatient", manner="You are in a hurry and say so, but you stay polite."),
    Persona(name="unsure", manner="You are not sure of yourself and sometimes correct what you said before."),
)
"""Ours."""


def draw_persona(seed: int) -> Persona:
    """One of `PERSONAS`."""
    return random.Random(derive(seed, "persona")).choice(PERSONAS)


def chat_of(options: Mapping[str, Any]) -> Chat:
    """The model that a mapping names, as `pipelines.yaml` writes it.

    `base_url`, `model` and whatever else `Endpoint` takes; with `cache`, a folder, answers are kept there and given
    again for the same words and seed. Raises `UserError`.
    """
    rest = {name: value for name, value in options.items() if name != "cache"}
    try:
        endpoint = Endpoint(**rest)
    except TypeError as error:
        remedy = "give base_url and model, and if you like key_variable and cache"
        raise UserError(f"no chat model: {error}", place="chat", remedy=remedy) from None
    cache = options.get("cache")
    return Cached(chat=endpoint, folder=Path(cache), name=endpoint.model) if cache else endpoint


GUIDE = f"""You play a customer who talks to a service desk. Stay in this part.
- Write one short message at a time, in your own words; do not copy the instructions.
- Say only what the instructions say; what they don't say you don't know. Never invent numbers, names or ids.
- Give away little by little: answer what you are asked, and keep the rest until it is needed.
- When all that you want is done, or clearly can't be done, write {STOP} and nothing else.
- When you are handed over to another person, write {TRANSFER} and nothing else.
- When the instructions don't tell you how to go on, write {OUT_OF_SCOPE} and nothing else."""
CALL_GUIDE = """You have tools of your own. To use one, write only
<tool_call>{"name": NAME, "arguments": {...}}</tool_call>
and you will be shown what it gives. The tools:
"""
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(slots=True, kw_only=True)
class SimulatedUser(User):
    """A language model that plays a user with a hidden instruction. Its seed fixes all it draws.

    What it has said is kept in its state, so an episode that is taken up again, or replayed, asks the model for
    nothing it has already said.
    """

    chat: Chat
    instruction: str
    """What the user knows and wants; the policy never sees it."""
    seed: int
    persona: Persona | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    """Specs of the user's own tools."""
    first: str = FIRST
    """The opening."""
    temperature: float = 0.7
    max_tokens: int = 256
    replies: list[str] = field(default_factory=list)
    """What it has said, raw; given beforehand, it is said again instead of asking the model."""
    _turn: int = field(default=0, init=False)

    def opening(self) -> str:
        return self.first

    async def reply(self, messages: Sequence[Message]) -> UserTurn:
        if self._turn == len(self.replies):
            seed = derive(self.seed, "user", self._turn)
            asked = [Message(role="system", content=self.briefing()), *flipped(messages)]
            said = await self.chat.complete(asked, seed=seed, temperature=self.temperature, max_tokens=self.max_tokens)
            self.replies.append(said)
        self._turn += 1
        return read_turn(self.replies[self._turn - 1], with_tools=bool(self.tools))

    def briefing(self) -> str:
        """The hidden instruction as the model reads it."""
        manner = f"\n\nYour manner: {self.persona.manner}" if self.persona else ""
        tools = "\n\n" + CALL_GUIDE + "\n".join(json.dumps(spec) for spec in self.tools) if self.tools else ""
        return f"{GUIDE}{tools}{manner}\n\nYour instructions:\n{self.instruction}"

    def state_dict(self) -> dict[str, Any]:
        return {"turn": self._turn, "replies": list(self.replies)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._turn, self.replies = state["turn"], list(state["replies"])


def flipped(messages: Sequence[Message]) -> list[Message]:
    """The dialogue from the user's side: its own words are the assistant's, the desk's are the user's.

    A user speaks first, and chat templates want the other side to: the desk's greeting is put in front.
    """
    made = [] if messages and messages[0].role == "assistant" else [Message(role="user", content=GREETING)]
    for message in messages:
        if message.role == "tool":
            content = f"<tool_response>\n{message.content}\n</tool_response>"
            made.append(Message(role="user", content=content))
        elif message.role in ("user", "assistant"):
            made.append(Message(role="assistant" if message.role == "user" else "user", content=message.content))
    return made


def read_turn(said: str, *, with_tools: bool = False) -> UserTurn:
    """What a simulated user's words mean: any text is a turn.

    Calls that can't be read are left out. Words before a stop token are said; empty words are the stop's alone.
    """
    visible = _THOUGHT.sub("", said)
    stop = any(token in visible for token in STOPS)
    calls = tuple(_calls(visible))[:MAX_CALLS] if with_tools and not stop else ()
    text = _CALL.sub("", visible)
    for token in STOPS:
        text = text.replace(token, "")
    text = text.strip()
    return UserTurn(text=text if text or stop or calls else "...", stop=stop, calls=calls)


def _calls(text: str) -> list[ToolCall]:
    found = []
    for body in _CALL.findall(text):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            arguments = value.get("arguments")
            found.append(ToolCall(name=value["name"], arguments=arguments if isinstance(arguments, dict) else {}))
    return found
