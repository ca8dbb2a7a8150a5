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
    logprobs: tuple[float, ...] = ()
    """T entries: the sampler's, 0 where mask is 0; empty for supervised rows."""
    advantages: tuple[float, ...] = ()
    """T entries; empty for supervised rows (weight 1 each)."""
    temperature: float = 1.0


class LearnerHandle(Protocol):
    """Trains. Built from a model folder and a `LearnerSpec`; every call returns when it is done."""

    def step(self, rows: Sequence[Row], objective: ObjectiveConfig) -> dict[str, float]:
        """One optimizer step on `rows`; metrics by name from `journeyman.metrics`."""
        ...

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of each row's tokens 1..T-1 (T-1 numbers a row), at temperature 1."""
        ...

    def weights(self) -> Mapping[str, "torch.Tensor"]:
        """The weights on the CPU in the sampler's precision, names as in `state_dict`."""
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
    seed: int
