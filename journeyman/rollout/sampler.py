"""The Sampler protocol: token ids in, sampled token ids and their log-probabilities out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from journeyman.messages import Image

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """Continue one prompt."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 1.0
    """0 means greedy; log-probabilities are then those of temperature 1."""
    seed: int = 0
    """Same weights, prompt and seed: same completion, whatever else is in the batch."""
    stop_ids: tuple[int, ...] = ()
    """Generation ends with, and includes, the first of these."""
    images: tuple[Image, ...] = ()
    """Those whose placeholders stand in the prompt, in their order."""
    policy: str = ""
    """Whose turn it is, where a sampler has several policies; empty: the one that is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What was sampled."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Nats, one for each of `token_ids`, under the distribution it was drawn from (temperature included)."""
    stopped: bool
    """True when it ended with a stop id, False when it ran into the limit or was interrupted."""
    policy_version: int
    """Version of the weights that sampled it."""
    interrupted: bool = False
    """Whether `Sampler.interrupt` cut it short: whoever asked may go on from where it ends. It may be empty."""


class Sampler(Protocol):
    """Generates. Many `generate` calls run at once; a finished one makes room for the next."""

    async def generate(self, request: SampleRequest) -> Completion: ...

    async def load_weights(self, weights: Mapping[str, "torch.Tensor"], version: int) -> None:
        """Take the learner's weights (names as in the model's `state_dict`); no request may be half-sampled from both."""
        ...

    async def interrupt(self) -> None:
        """Give back every completion as far as it is, so that it can go on under other weights."""
        ...

    async def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of each row's tokens 1..T-1 given those before (T-1 numbers a row), at temperature 1."""
        ...

    async def close(self) -> None: ...
