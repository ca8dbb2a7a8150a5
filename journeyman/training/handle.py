"""What the training loops hold of a learner: the Ray actor group, or the plain class in process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from journeyman.config import LoraConfig, ObjectiveConfig, OptimizerConfig

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
    reference_logprobs: tuple[float, ...] = ()
    """T entries: the reference policy's; empty: the learner asks its own, the weights that it was built from."""
    old_means: tuple[float, ...] = ()
    """T entries: the mean over the vocabulary of the old log-probabilities; empty: the learner's now."""
    weights: tuple[float, ...] = ()
    """T entries: what a token weighs in its row; empty: 1 each."""
    turns: tuple[int, ...] = ()
    """T entries: number of the turn that a learned token belongs to, -1 elsewhere; empty: all belong to one."""
    group: int = 0
    """Rows of one problem share it."""
    reward: float | None = None
    """Of the whole attempt; None: could not be scored."""
    truncated: bool = False
    """Whether the attempt was cut off by a limit."""
    weight: float = 1.0
    """What the row weighs in the batch."""


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

    def score_reference(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        """`score` of the weights that the learner was built from, in training's arithmetic."""
        ...

    def score_means(self, rows: Sequence[Sequence[int]], temperature: float = 1.0) -> list[list[float]]:
        """Means over the vocabulary of the log-probabilities at the places that `score` scores."""
        ...

    def values(
        self, rows: Sequence[Sequence[int]], heads: Sequence[str] = ("value",), *, slow: bool = False
    ) -> dict[str, list[list[float]]]:
        """By head, T+1 numbers a row: entry t is the value of the first t tokens, 0 where there are none.

        `slow`: of the heads' copies that follow them.
        """
        ...

    def fit_values(
        self,
        rows: Sequence[Sequence[int]],
        targets: Mapping[str, Sequence[Sequence[float]]],
        *,
        learning_rate: float,
        epochs: int = 1,
        polyak: float = 1.0,
    ) -> dict[str, float]:
        """Regress heads to targets, T+1 numbers a row like `values`, NaN where there is none; metrics by name.

        Heads are made when first named. The policy's weights stay as they are. `polyak`: how far the slow copies go
        towards the heads afterwards.
        """
        ...

    def hidden_ranks(self, rows: Sequence[Row], stride: int) -> list[tuple[float, float, float]]:
        """Effective rank of the learned tokens' last hidden states, its velocity and acceleration (#98), by row."""
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

    def save_optimizer(self, folder: Path) -> None:
        """The optimizer's state alone, for a learner that goes on from this one's model."""
        ...

    def load_optimizer(self, folder: Path) -> None:
        """Take over that state; rates and other settings stay the learner's own."""
        ...


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
    packing: bool = False
    """Whether rows of different length share sequences in a forward pass."""
    lora: LoraConfig | None = None
    """Only adapters of this kind are trained; None: all weights."""
    reference: Path | None = None
    """Model that objectives hold the policy against, such as a teacher; None: what the policy began as."""
