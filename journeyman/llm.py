"""Language models that play a part: users, judges, teachers, makers of tools. Text in, text out."""

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import Message

if TYPE_CHECKING:
    import ssl

    import httpx

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""Between two tries: twice as long each time, with jitter."""
LONGEST_ASKED_WAIT_S = 300.0
"""Of what a server asks for by Retry-After, at most so much is waited."""
CHARACTERS_PER_TOKEN = 4
"""Where a server doesn't say how many tokens a text had: English text in a usual tokenizer. Ours."""
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses after which the same request may succeed."""


class Chat(Protocol):
    """A model that continues a conversation."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        """The assistant's next message. Raises `InfrastructureError` where the model can't be had."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A message, and what it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    """Whether the tokens were not counted by the model's server, but estimated here."""
    cached: bool = False
    """Whether it was kept from earlier: nothing was asked now."""


@runtime_checkable
class Replying(Protocol):
    """A `Chat` that says what its messages take."""

    async def reply(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> Reply:
        """As `Chat.complete`."""
        ...


async def reply_of(
    chat: Chat, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
) -> Reply:
    """A chat's next message and what it took, estimated where the chat doesn't say."""
    limits = {"temperature": temperature, "max_tokens": max_tokens}
    if isinstance(chat, Replying):
        return await chat.reply(messages, seed=seed, **limits)
    return estimated(messages, await chat.complete(messages, seed=seed, **limits))


def estimated(messages: Sequence[Message], text: str) -> Reply:
    """A message whose tokens nobody has counted."""
    read = sum(len(message.content) for message in messages)
    return Reply(
        text=text,
        prompt_tokens=-(-read // CHARACTERS_PER_TOKEN),
        completion_tokens=-(-len(text) // CHARACTERS_PER_TOKEN),
        estimated=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Any OpenAI-compatible server. It is asked in texts: images are left out."""

    base_url: str
    """Up to and including the version: `http://localhost:8000/v1`."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; it may be unset."""
    tries: int = 6
    """Requests before it gives up."""
    timeout_s: float = 120.0
    pace: Callable[[], Awaitable[None]] | None = None
    """Waited for before every request: what keeps to a rate."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        return (await self.reply(messages, seed=seed, temperature=temperature, max_tokens=max_tokens)).text

    async def reply(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> Reply:
        body = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "seed": seed % 2**31,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        answer = await self.post("chat/completions", body)
        try:
            text = answer["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise InfrastructureError(f"{self.base_url} gave no chat completion: {str(answer)[:200]}") from None
        return _counted(answer.get("usage"), estimated(messages, str(text)))

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The server's JSON answer. Raises as `complete` does, and `UserError` where trying again won't help."""
        import httpx

        key = os.environ.get(self.key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(timeout=self.timeout_s, headers=headers, verify=_tls()) as client:
            for attempt in range(self.tries):
                if self.pace is not None:
                    await self.pace()
                made = await self._try(client, path, body)
                if not isinstance(made, _Failure):
                    return made
                if attempt + 1 < self.tries:
                    wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt) * random.uniform(0.5, 1.0)
                    await asyncio.sleep(max(wait, made.wait_s))
        raise InfrastructureError(f"{self.base_url}: {self.tries} tries failed, the last with {made.reason}")

    async def _try(self, client: "httpx.AsyncClient", path: str, body: dict[str, Any]) -> "dict[str, Any] | _Failure":
        """The answer, or why there was none this time."""
        import httpx

        try:
            response = await client.post(f"{self.base_url.rstrip('/')}/{path}", json=body)
        except httpx.TransportError as error:
            return _Failure(reason=f"{type(error).__name__}: {error}")
        if response.status_code in RETRIED:
            asked = _asked_wait(response.headers.get("retry-after", ""))
            return _Failure(reason=f"status {response.status_code}", wait_s=asked)
        if response.is_error:
            remedy = f"set {self.key_variable}" if response.status_code in (401, 403) else "check the model's name"
            raise UserError(f"status {response.status_code}: {response.text[:200]}", place=self.base_url, remedy=remedy)
        try:
            answer = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            return _Failure(reason="a reply that is not JSON")
        return answer if isinstance(answer, dict) else _Failure(reason="a reply that is no JSON object")


@cache
def _tls() -> "ssl.SSLContext":
    """Made once: reading the certificates takes longer than many a request."""
    import httpx

    return httpx.create_ssl_context()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A request that may be made again."""

    reason: str
    wait_s: float = 0.0
    """How long the server asks to be left alone."""


def _asked_wait(header: str) -> float:
    """What Retry-After says: seconds, or a date; 0 for anything else."""
    with suppress(ValueError):
        return min(max(0.0, float(header)), LONGEST_ASKED_WAIT_S)
    with suppress(ValueError, TypeError):
        left = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        return min(max(0.0, left), LONGEST_ASKED_WAIT_S)
    return 0.0


def _counted(usage: Any, guess: Reply) -> Reply:
    """A reply with the server's own count of its tokens, where that makes sense."""
    if not isinstance(usage, dict):
        return guess
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(read) is not int or type(written) is not int or min(read, written) < 0:
        return guess
    return Reply(text=guess.text, prompt_tokens=read, completion_tokens=written)


class Scripted:
    """Says what it was told to: for tests, and for parts that need no model."""

    def __init__(self, says: Iterable[str] | Callable[[Sequence[Message]], str]) -> None:
        self._say: Callable[[Sequence[Message]], str]
        if callable(says):
            self._say = says
        else:
            left = iter(says)
            self._say = lambda _: next(left)
        self.asked: list[tuple[Message, ...]] = []
        """Every conversation that it was given."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        self.asked.append(tuple(messages))
        return self._say(messages)


@dataclass(slots=True, kw_only=True)
class Cached:
    """Asks a model only what it was not asked before: answers are kept in a folder by content.

    Millions of them may lie there, in subfolders by the first digits of their names.
    """

    chat: Chat
    folder: Path
    name: str
    """Of the model: part of what an answer is kept under."""
    hits: int = field(default=0, init=False)

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        return (await self.reply(messages, seed=seed, temperature=temperature, max_tokens=max_tokens)).text

    async def reply(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> Reply:
        """A reply that was kept takes what it took when it was made."""
        limits = {"seed": seed, "temperature": temperature, "max_tokens": max_tokens}
        asked = [self.name, [[m.role, m.content] for m in messages], *limits.values()]
        name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
        path = self.folder / name[:3] / f"{name}.json"
        for place in (path, self.folder / path.name):  # flat, as long as they were few
            if (kept := _kept(place, messages)) is not None:
                self.hits += 1
                return kept
        made = await reply_of(self.chat, messages, **limits)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}-{id(asked)}.part")
        row = {"asked": asked, "answer": made.text, **{name: getattr(made, name) for name in _TOOK}}
        part.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
        part.replace(path)
        return made


_TOOK = ("prompt_tokens", "completion_tokens", "estimated")


def _kept(path: Path, messages: Sequence[Message]) -> Reply | None:
    """A kept reply; None where there is none, or a damaged one. Those from before tokens were counted are estimated."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        guess = estimated(messages, row["answer"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return Reply(text=row["answer"], cached=True, **{name: row.get(name, getattr(guess, name)) for name in _TOOK})
