"""Language models that play a part: users, judges, teachers, makers of tools. Text in, text out."""

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from journeyman.errors import InfrastructureError, UserError
from journeyman.messages import Message

if TYPE_CHECKING:
    import httpx

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""Between two tries: twice as long each time, with jitter."""
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
class Endpoint:
    """Any OpenAI-compatible server."""

    base_url: str
    """Up to and including the version: `http://localhost:8000/v1`."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; it may be unset."""
    tries: int = 6
    """Requests before it gives up."""
    timeout_s: float = 120.0

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "seed": seed % 2**31,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        answer = await self.post("chat/completions", body)
        try:
            return answer["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise InfrastructureError(f"{self.base_url} gave no chat completion: {str(answer)[:200]}") from None

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The server's JSON answer. Raises as `complete` does, and `UserError` where trying again won't help."""
        import httpx

        key = os.environ.get(self.key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(timeout=self.timeout_s, headers=headers) as client:
            for attempt in range(self.tries):
                reason = await self._try(client, path, body)
                if isinstance(reason, dict):
                    return reason
                if attempt + 1 < self.tries:
                    await asyncio.sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt) * random.uniform(0.5, 1.0))
        raise InfrastructureError(f"{self.base_url}: {self.tries} tries failed, the last with {reason}")

    async def _try(self, client: "httpx.AsyncClient", path: str, body: dict[str, Any]) -> dict[str, Any] | str:
        """The answer, or why there was none this time."""
        import httpx

        try:
            response = await client.post(f"{self.base_url.rstrip('/')}/{path}", json=body)
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}"
        if response.status_code in RETRIED:
            return f"status {response.status_code}"
        if response.is_error:
            remedy = f"set {self.key_variable}" if response.status_code in (401, 403) else "check the model's name"
            raise UserError(f"status {response.status_code}: {response.text[:200]}", place=self.base_url, remedy=remedy)
        try:
            return response.json()
        except json.JSONDecodeError:
            return "a reply that is not JSON"


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
    """Asks a model only what it was not asked before: answers are kept in a folder by content."""

    chat: Chat
    folder: Path
    name: str
    """Of the model: part of what an answer is kept under."""
    hits: int = field(default=0, init=False)

    async def complete(
        self, messages: Sequence[Message], *, seed: int, temperature: float = 0.0, max_tokens: int = 512
    ) -> str:
        asked = [self.name, [[m.role, m.content] for m in messages], seed, temperature, max_tokens]
        path = self.folder / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]}.json"
        if path.is_file():
            self.hits += 1
            return json.loads(path.read_text(encoding="utf-8"))["answer"]
        answer = await self.chat.complete(messages, seed=seed, temperature=temperature, max_tokens=max_tokens)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}-{id(asked)}.part")
        part.write_text(json.dumps({"asked": asked, "answer": answer}, ensure_ascii=False), encoding="utf-8")
        part.replace(path)
        return answer
