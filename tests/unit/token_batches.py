"""Made-up batches for the tests of objectives, in float64."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch

from journeyman.training.objectives import RowBatch, TokenBatch, Totals

NAN = float("nan")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take longer than sums this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token's numbers, all log-probabilities in nats."""

    now: float = -1.0
    old: float | None = None
    """None: as now."""
    sampler: float | None = None
    """None: as old."""
    reference: float = 0.0
    advantage: float = 1.0
    mask: int = 1
    weight: float = 1.0
    turn: int = 0
    mark: float = 0.0


def token_batch(rows: Sequence[Sequence[Token]], **more: Any) -> TokenBatch:
    """Rows of one length; `more`: other fields of the batch."""

    def tensor(take: Callable[[Token], float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.tensor([[take(token) for token in row] for row in rows], dtype=dtype)

    def old(token: Token) -> float:
        return token.now if token.old is None else token.old

    mask_BT, turns_BT = tensor(lambda t: t.mask), tensor(lambda t: t.turn if t.mask else -1, torch.int64)
    size = mask_BT.shape
    made: dict[str, Any] = {
        "logprobs_BT": tensor(lambda t: t.now).requires_grad_(),
        "old_logprobs_BT": tensor(old),
        "sampler_logprobs_BT": tensor(lambda t: old(t) if t.sampler is None else t.sampler),
        "reference_logprobs_BT": tensor(lambda t: t.reference),
        "old_means_BT": torch.full(size, NAN, dtype=torch.float64),
        "advantages_BT": tensor(lambda t: t.advantage),
        "mask_BT": mask_BT,
        "weights_BT": tensor(lambda t: t.weight),
        "turns_BT": turns_BT,
        "marks_BT": tensor(lambda t: t.mark),
        "logs_BSV": torch.zeros(size[0], size[1] + 1, 2, dtype=torch.float64),
        "temperature_B": torch.ones(size[0], dtype=torch.float64),
        "weight_B": torch.ones(size[0], dtype=torch.float64),
        "reward_B": torch.full((size[0],), NAN, dtype=torch.float64),
        "truncated_B": torch.zeros(size[0], dtype=torch.float64),
        "term_B": torch.zeros(size[0], dtype=torch.float64),
        **{name: f64(value) if isinstance(value, list) else value for name, value in more.items()},
    }
    return TokenBatch(**{"totals": totals(made), **made})


def f64(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def totals(made: dict[str, Any]) -> Totals:
    """Of a batch that is the whole."""
    mask_BT, turns_BT, reward_B = made["mask_BT"], made["turns_BT"], made["reward_B"]
    judged_B = ~reward_B.isnan() & (made["truncated_B"] == 0) & (mask_BT.sum(1) > 0)
    turns = [{int(t) for t in row if t >= 0} for row in turns_BT]
    return Totals(
        tokens=int(mask_BT.sum()),
        rows=int((mask_BT.sum(1) > 0).sum()),
        turns=sum(map(len, turns)),
        judged=int(judged_B.sum()),
        right=int((judged_B & (reward_B > 0.5)).sum()),
    )


def part_of(batch: TokenBatch, rows: slice) -> TokenBatch:
    """A micro-batch of it, with the whole batch's totals."""
    cut = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return TokenBatch(**{name: v[rows] if isinstance(v, torch.Tensor) else v for name, v in cut.items()})


def row_batch(logprobs: Sequence[float], rewards: Sequence[float], **more: Sequence[float]) -> RowBatch:
    """Rows of one group; old and reference log-probabilities are 0, lengths 1."""
    zeros = [0.0] * len(logprobs)
    return RowBatch(
        logprob_B=f64(list(logprobs)).requires_grad_(),
        old_B=f64(list(more.get("old", zeros))),
        reference_B=f64(list(more.get("reference", zeros))),
        length_B=f64(list(more.get("length", [1.0] * len(logprobs)))),
        advantage_B=f64(list(more.get("advantage", [1.0] * len(logprobs)))),
        reward_B=f64(list(rewards)),
        group_B=torch.tensor(list(more.get("group", [0] * len(logprobs)))),
        weight_B=f64(list(more.get("weight", [1.0] * len(logprobs)))),
    )
