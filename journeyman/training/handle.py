"""What the training loops hold of a learner: the Ray actor group, or the plain class in process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from journeyman.config import ObjectiveConfig, OptimizerConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the learner is given of a trajectory: it knows nothing of rewards or environments."""

    token_ids: tuple[int, ...]
    """T ids."""
    mask: tuple[int, ...]
    """T entries, 1 where the token is learned from; entry 0 is never learned from."""
    advantages: tuple[float, ...] = ()
    """T entries; empty for supervised rows (1 each)."""
    logprobs: tuple[float, ...] = ()
    """T entries: the sampler's, 0 where mask is 0; empty for supervised rows."""
    old_logprobs: tuple[float, ...] = ()
    """T entries: the learner's before the step's first update; empty: the sampler's stand for them."""
    temperature: float = 1.0
    """Of sampling: log-probabilities are taken of logits / temperature."""


class LearnerHandle(Protocol):
    """Trains. Built from a `LearnerSpec`; every call returns when it is done."""

    def step(self, rows: Sequence[Row], objective: ObjectiveConfig) -> dict[str, float]:
        """One optimizer step on `rows`; metrics by name from `journeyman.metrics`."""
        ...

    def score(
        self, rows: Sequence[Sequence[int]], temperature: float = 1.0, *, exact: bool = False
    ) -> list[list[float]]:
        """Log-probabilities of each row's tokens 1..T-1 given those before (T-1 numbers a row).

        In the arithmetic that training uses, or in float32 where `exact` is asked for.
        """
        ...

    def sampler_precision(self) -> str:
        """`float32` or `bfloat16`: in what a sampler on the same kind of device computes."""
        ...

    def weights(self) -> Mapping[str, "torch.Tensor"]:
        """The weights on the CPU, names as in `state_dict`, tied ones once."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write the model and its tokenizer in the usual Hugging Face format."""
        ...

    def save_checkpoint(self, folder: Path) -> None:
        """Everything needed to go on: weights, optimizer, schedule, counters."""
        ...

    def load_checkpoint(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """How a learner is built."""

    model: Path
    """Folder in Hugging Face format."""
    optimizer: OptimizerConfig
    total_steps: int
    """Optimizer steps the schedule is laid out for."""
    microbatch_tokens: int
    """Most tokens, padding included, in one forward pass."""
    seed: int
