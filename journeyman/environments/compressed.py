"""Any environment in a context that is built anew each turn: all actions stay, old observations go (#193)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from journeyman.environments.base import Environment
from journeyman.environments.episode import Episode, Reaction
from journeyman.environments.history import turn_from_json, turn_messages, turn_of, turn_to_json
from journeyman.environments.wrapped import Wrapped, WrappedEpisode
from journeyman.messages import Message, ParsedTurn
from journeyman.problem import Problem
from journeyman.tools.base import CallContext
from journeyman.trajectory import Turn, message_from_json, message_to_json


def compressed(opening: Sequence[Message], turns: Sequence[Turn], keep: int) -> tuple[Message, ...]:
    """The prompt of the next turn: every action, and in full only the last `keep` observations.

    An observation is what one turn's calls led to, and counted from 1. What the user said stays.
    """
    messages, seen = list(opening), sum(bool(turn.results) for turn in turns)
    number = 0
    for turn in turns:
        number += bool(turn.results)
        messages += turn_messages(turn, None if number > seen - keep else f"[observation {number} omitted]")
    return tuple(messages)


class Compressed(Wrapped):
    """Another environment's problems in a short context (#193): each turn is a sample of its own.

    A world inside that begins its context anew has its way, and from there on this one goes on.

    Args:
        environment: the one inside, or its family.
        options: of the family, where it is given by name.
        keep: observations that stay in full.
        thoughts: whether thoughts of earlier turns stay.
    """

    name = "compressed"

    def __init__(
        self,
        environment: Environment | str = "lookup",
        *,
        options: Mapping[str, Any] | None = None,
        keep: int = 1,
        thoughts: bool = False,
    ) -> None:
        if keep < 1:
            raise ValueError("keep must be at least 1: the model has to see what it just asked for")
        super().__init__(environment, options)
        self.keep, self.thoughts = keep, thoughts

    def reset(self, problem: Problem, context: CallContext) -> Episode:
        return CompressedEpisode(self, problem, context)


class CompressedEpisode(WrappedEpisode):
    """An attempt whose context begins anew after each turn."""

    def __init__(self, environment: Compressed, problem: Problem, context: CallContext) -> None:
        super().__init__(environment, problem, context)
        self._keep, self._thoughts = environment.keep, environment.thoughts
        self._begins: tuple[Message, ...] = ()
        self._turns: list[Turn] = []

    async def step(self, turn: ParsedTurn) -> Reaction:
        self._begins = self._begins or self.opening()
        reaction = await super().step(turn)
        if reaction.restart is not None:
            self._begins, self._turns = reaction.restart, []
            return reaction
        self._turns.append(turn_of(turn, reaction, thoughts=self._thoughts))
        if reaction.done or not (reaction.results or reaction.reply):
            return reaction
        return replace(reaction, restart=compressed(self._begins, self._turns, self._keep))

    def state_dict(self) -> dict[str, Any]:
        begins = [message_to_json(message) for message in self._begins]
        return {**super().state_dict(), "begins": begins, "turns": [turn_to_json(turn) for turn in self._turns]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._begins = tuple(map(message_from_json, state["begins"]))
        self._turns = [turn_from_json(row) for row in state["turns"]]
