"""What rewards are supplied with in the unit tests: a judge that is a rule, a policy that counts, a small encoder."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from journeyman.messages import Message
from journeyman.problem import Problem
from journeyman.rewards.base import Group, History
from journeyman.trajectory import Trajectory
from tests.unit.fakes import problem


class RuleJudge:
    """A Judge that answers by a rule; it keeps what it was asked."""

    def __init__(self, rule: Callable[[str], str] = lambda question: "yes") -> None:
        self._rule = rule
        self.asked: list[str] = []

    def ask(self, questions: Sequence[str], *, samples: int = 1, temperature: float = 0.0) -> list[list[str]]:
        self.asked += questions
        return [[self._rule(question)] * samples for question in questions]


class WordEncoder:
    """Every word is a direction of its own (64 of them, by hash): equal bags of words have cosine 1."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 64))
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split() or [""]:
                row[int(hashlib.sha256(word.encode()).hexdigest(), 16) % 64] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class FlatPolicy:
    """A Policy under which every token has one log-probability; ids are bytes."""

    def __init__(self, logprob: float = -1.0) -> None:
        self._logprob = logprob

    def logprobs(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        return [[self._logprob] * len(continuation) for _, continuation in rows]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        return list("\n".join(message.content for message in messages).encode())


def supplies(**own: Any) -> dict[str, Any]:
    """One of each, fresh."""
    return {"judge": RuleJudge(), "encoder": WordEncoder(), "policy": FlatPolicy(), "history": History(), **own}


def group(*trajectories: Trajectory, data: dict[str, Any] | None = None, **fields: Any) -> Group:
    """A group of one problem; `data` is the problem's own."""
    asked: Problem = fields.pop("problem", None) or problem(data=data or {})
    return Group(trajectories=trajectories, problem=asked, **fields)
