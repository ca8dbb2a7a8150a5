"""The policy as rewards see it: its own log-probabilities of texts that are put in its mouth."""

from collections.abc import Sequence
from threading import Lock

from journeyman.messages import Message
from journeyman.rollout.chat import ChatFormat
from journeyman.training.handle import LearnerHandle


class LearnerPolicy:
    """A `Policy` on the learner, which has the weights that sampled the step until it learns from it."""

    def __init__(self, learner: LearnerHandle, chat: ChatFormat) -> None:
        self._learner, self._chat, self._one_at_a_time = learner, chat, Lock()

    def logprobs(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """At temperature 1, in float32. A prompt has at least one token."""
        with self._one_at_a_time:
            scores = self._learner.score([[*prompt, *said] for prompt, said in rows], exact=True)
        return [score[len(score) - len(said) :] for score, (_, said) in zip(scores, rows, strict=True)]

    def encode(self, text: str) -> list[int]:
        return self._chat.outside(text)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        return self._chat.prompt(messages, ())
