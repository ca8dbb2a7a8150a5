"""Entropy that is kept between two bounds."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from journeyman.config.objective import EntropyBounds, GrpoObjective
from journeyman.training.handle import Row
from journeyman.training.objectives import Totals, grpo
from journeyman.training.objectives.parts import entropy_coefficient
from tests.unit.token_batches import Token, one_thread, part_of, token_batch  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
BOUNDS = EntropyBounds(low=0.2, high=0.8, gain=0.1)


def test_entropy_coefficient_by_hand() -> None:
    # .1 (.2 - .05), nothing between, .1 (.8 - 1)
    assert [entropy_coefficient(h, BOUNDS) for h in (0.05, 0.2, 0.5, 0.8, 1.0)] == pytest.approx(
        [0.015, 0, 0, 0, -0.02]
    )
    assert entropy_coefficient(9.0, EntropyBounds(low=0.2)) == 0.0
    assert entropy_coefficient(9.0, EntropyBounds(high=1.0)) == pytest.approx(-0.08)


@given(st.floats(0, 5), st.floats(0, 5))
def test_more_entropy_is_never_asked_for_more(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert entropy_coefficient(low, BOUNDS) >= entropy_coefficient(high, BOUNDS)


@pytest.mark.parametrize("options", [{"low": 0.5, "high": 0.5}, {}, {"low": 0.0, "high": None}, {"gain": 0}])
def test_bounds_that_bind_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EntropyBounds.model_validate(options)


def test_a_batchs_entropy_by_hand() -> None:
    rows = [
        Row(token_ids=(1, 2, 3), mask=(0, 1, 1), logprobs=(0.0, -1.0, -2.0)),
        Row(token_ids=(1, 2), mask=(0, 1), logprobs=(0.0, -9.0), old_logprobs=(0.0, -3.0)),
        Row(token_ids=(1, 2), mask=(0, 1)),
    ]
    assert Totals.of(rows).entropy_nats == 2.0  # (1 + 2 + 3) / 3: the third row tells nothing
    assert Totals.of(rows[2:]).entropy_nats == 0.0


def loss_of(nats: float, **options: Any) -> tuple[float, dict[str, float]]:
    """Of two tokens under even odds of two, one in each row, with no advantage."""
    even = torch.full((2, 2, 2), 0.5, dtype=torch.float64).log()
    batch = token_batch([[Token(advantage=0.0)], [Token(advantage=0.0)]], logs_BSV=even)
    whole = replace(batch, totals=replace(batch.totals, entropy_nats=nats))
    loss, sums = grpo(whole, GrpoObjective.model_validate(options))
    parts = [grpo(part_of(whole, slice(i, i + 1)), GrpoObjective.model_validate(options))[0] for i in range(2)]
    assert sum(map(torch.Tensor.item, parts)) == pytest.approx(loss.item())  # the same under any micro-batching
    return loss.item(), {name: value.item() for name, value in sums.items()}


def test_entropy_bounds_by_hand() -> None:
    bounds = {"low": 0.2, "high": 0.8, "gain": 0.1}
    # two tokens of log 2 = .693147 nats each, times -.015
    loss, sums = loss_of(0.05, entropy_bounds=bounds)
    assert loss == pytest.approx(-0.0207944, abs=1e-7) and sums["policy/entropy_coefficient"] == pytest.approx(0.03)
    assert loss_of(0.5, entropy_bounds=bounds)[0] == 0
    assert loss_of(1.0, entropy_bounds=bounds)[0] == pytest.approx(0.0277259, abs=1e-7)
    # on top of the constant one: -(.015 + .01) 1.386294
    assert loss_of(0.05, entropy=0.01, entropy_bounds=bounds)[0] == pytest.approx(-0.0346574, abs=1e-7)
    assert "policy/entropy_coefficient" not in loss_of(0.05)[1]
