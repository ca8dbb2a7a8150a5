"""Any environment in a context that is folded: notes take the place of what happened so far, and it goes on (#130)."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from journeyman.environments.base import Environment
from journeyman.environments.episode import Episode, Reaction, Verdict
from journeyman.environments.history import turn_from_json, turn_of, turn_to_json
from journeyman.environments.users import chat_of
from journeyman.environments.wrapped import Wrapped, WrappedEpisode
from journeyman.llm import Chat
from journeyman.messages import Message, ParsedTurn
from journeyman.problem import Problem
from journeyman.seeds import derive
from journeyman.tools.base import CallContext, Tool
from journeyman.tools.memory import Folder, FoldMemory, Memory, folded_opening
from journeyman.trajectory import Turn

CHARACTERS = 12_000
"""Of turns and observations, after which a second model folds (ours)."""


class Folding(Wrapped):
    """Another environment's problems in a context that begins anew from notes (#130).

    Without a second model the policy has one tool more, `fold_memory`, and folds when it likes. With one, that model
    writes the notes whenever the turns since the last fold are too many or too long. The verdict gets the part `folds`.

    Args:
        environment: the one inside, or its family.
        options: of the family, where it is given by name.
        chat: writes the notes: a `Chat`, or the options of `users.chat_of`; None: the policy does.
        characters: of turns and their observations, more than which a second model folds; None: however long they are.
        turns: after so many a second model folds; None: however many there are.
    """

    name = "folding"

    def __init__(
        self,
        environment: Environment | str = "lookup",
        *,
        options: Mapping[str, Any] | None = None,
        chat: Chat | Mapping[str, Any] | None = None,
        characters: int | None = CHARACTERS,
        turns: int | None = None,
    ) -> None:
        given = [most for most in (characters, turns) if most is not None]
        if not given or min(given) < 1:
            raise ValueError("give characters or turns, of 1 and more: else nothing would ever be folded")
        super().__init__(environment, options)
        self._own: Mapping[str, Tool] = {"fold_memory": FoldMemory()} if chat is None else {}
        self.chat = chat_of(chat) if isinstance(chat, Mapping) else chat
        self.characters, self.turns = characters, turns

    def tools(self) -> Mapping[str, Tool]:
        return {**self.inner.tools(), **self._own}

    def added(self, problem: Problem) -> Mapping[str, Tool]:
        return self._own

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        if self.chat is None:
            return SelfFoldedEpisode(self, problem, context)
        return FoldedEpisode(self, problem, context, self.chat)


class _FoldingEpisode(WrappedEpisode):
    """An attempt that goes on from notes."""

    @property
    def folds(self) -> int:
        raise NotImplementedError

    async def verify(self, answer: str | None) -> Verdict:
        verdict = await super().verify(answer)
        return replace(verdict, parts={**verdict.parts, "folds": float(self.folds)})

    def restarted(self, memory: Memory, *behind: str) -> tuple[Message, ...]:
        """What the context begins anew with: the world's opening, the notes in its last message, and what is new."""
        *before, asked = self.opening()
        (folded,) = folded_opening(memory, asked.content)
        content = "\n\n".join((folded.content, *behind))
        return (*before, replace(folded, content=content, images=asked.images))


class SelfFoldedEpisode(_FoldingEpisode):
    """An attempt in which the policy folds."""

    def __init__(self, environment: Folding, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        tool = self.tools["fold_memory"]
        assert isinstance(tool, FoldMemory), "it was added just now"
        self._tool = tool

    @property
    def folds(self) -> int:
        return self._tool.folds

    async def step(self, turn: ParsedTurn) -> Reaction:
        before = self.folds
        reaction = await super().step(turn)
        if self.folds == before or reaction.done:
            return reaction
        beside = [f"[{result.name}] {result.output}" for result in reaction.results if result.name != self._tool.name]
        return replace(reaction, restart=self.restarted(self._tool.memory, *beside, *_said(reaction)))


class FoldedEpisode(_FoldingEpisode):
    """An attempt that a second model folds when the turns since the last fold are too many or too long."""

    def __init__(self, environment: Folding, problem: Problem, context: CallContext, chat: Chat) -> None:
        super().__init__(environment, problem, context)
        self._folder, self._most = Folder(chat, environment.characters or CHARACTERS), environment
        self._memory, self._folds = Memory(), 0
        self._since: list[Turn] = []

    @property
    def folds(self) -> int:
        return self._folds

    async def step(self, turn: ParsedTurn) -> Reaction:
        reaction = await super().step(turn)
        if reaction.done:
            return reaction
        self._since.append(_with_calls(turn_of(turn, reaction)))
        if not self._due():
            return reaction
        seed = derive(self.context.seed, "fold", self._folds)
        self._memory = await self._folder.fold(self.problem.question, self._since, self._memory, seed=seed)
        self._folds += 1
        self._since.clear()
        return replace(reaction, restart=self.restarted(self._memory, *_said(reaction)))

    def _due(self) -> bool:
        turns, characters = self._most.turns, self._most.characters
        many = turns is not None and len(self._since) >= turns
        return many or (characters is not None and self._folder.is_due(self._since))

    def state_dict(self) -> dict[str, Any]:
        since = [turn_to_json(turn) for turn in self._since]
        return {**super().state_dict(), "memory": self._memory.to_json(), "folds": self._folds, "since": since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._memory, self._folds = Memory.from_json(state["memory"]), state["folds"]
        self._since = [turn_from_json(row) for row in state["since"]]


def _said(reaction: Reaction) -> list[str]:
    """What the user said just now: it is in no notes yet."""
    return [f"The user says now:\n{reaction.reply.content}"] if reaction.reply else []


def _with_calls(turn: Turn) -> Turn:
    """The turn with its calls told in its text: a folder reads texts."""
    calls = [f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})" for call in turn.calls]
    return replace(turn, text="\n".join(part for part in (turn.text, *calls) if part))
