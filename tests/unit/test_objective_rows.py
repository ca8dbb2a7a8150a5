"""Objectives of whole rows: by hand, against naive loops, and exactly the same gradient however the rows are parted."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config.objective import (
    DpoObjective,
    ImplicitRewardObjective,
    IpoObjective,
    KtoObjective,
    PacsObjective,
    RegressionObjective,
    RowObjective,
)
from journeyman.training.batching import Surveyed
from journeyman.training.handle import Row
from journeyman.training.objectives import (
    ROW_OBJECTIVES,
    TokenBatch,
    Totals,
    dpo,
    implicit_reward,
    ipo,
    kto,
    pacs,
    regression,
)
from journeyman.training.objectives.base import RowBatch
from journeyman.training.objectives.rows import group_sums, marked
from journeyman.training.objectives.survey import row_batch as summed
from journeyman.training.objectives.survey import survey_rows
from tests.unit.token_batches import NAN, Token, f64, one_thread, row_batch, token_batch  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS: dict[str, RowObjective] = {
    "pacs": PacsObjective(),
    "pacs 2": PacsObjective(beta=2.0),
    "dpo": DpoObjective(),
    "ipo": IpoObjective(),
    "ipo average": IpoObjective(average=True),
    "kto": KtoObjective(desirable=1.5, undesirable=0.5),
    "implicit_reward": ImplicitRewardObjective(),
    "dpo average": DpoObjective(average=True),
    "regression": RegressionObjective(),
    "regression of successes": RegressionObjective(positive_only=True),
}


def loss_of(batch: RowBatch, config: RowObjective) -> float:
    return ROW_OBJECTIVES[config.type](batch, config)[0].sum().item()  # type: ignore[attr-defined]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_pacs_by_hand() -> None:
    # u = 1, -1: each against the other, A = 2, -2; both verdicts at log(1 + e^-2) = .126928.
    parts, sums = pacs(row_batch([1, -1], [1, 0]), PacsObjective())
    assert (
        parts.tolist() == pytest.approx([0.126928 / 2] * 2, rel=1e-5) and float(sums["policy/implicit_accuracy"]) == 1
    )
    # Old log-probabilities are taken off, beta multiplies: u = 2 * (.5, 0) -> A = 1, -1: log(1 + e^-1) = .313262.
    half = row_batch([-1.5, -3], [1, 0], old=[-2.0, -3.0])
    assert loss_of(half, PacsObjective(beta=2.0)) == pytest.approx(0.313262, rel=1e-5)
    # One right, two wrong at u = 0: A = 0, ln 2 each, weights 3/2, 3/4, 3/4 whose mean is 1.
    assert loss_of(row_batch([0, 0, 0], [1, 0, 0]), PacsObjective()) == pytest.approx(math.log(2))
    # u = (3, 0, 0): A = 3 - 0, 0 - 1.5 twice: (1.5 log(1 + e^-3) + 2 * .75 log(1 + e^-1.5)) / 3.
    expected = (1.5 * softplus(-3) + 1.5 * softplus(-1.5)) / 3
    assert loss_of(row_batch([3, 0, 0], [1, 0, 0]), PacsObjective()) == pytest.approx(expected)


def test_pacs_leaves_out_what_has_no_verdict_or_nothing_to_compare_with() -> None:
    pair = row_batch([1, -1], [1, 0])
    more = row_batch([1, -1, 7, 5], [1, 0, NAN, 1], group=[0, 0, 0, 1])
    assert loss_of(more, PacsObjective()) == pytest.approx(loss_of(pair, PacsObjective()))
    pacs(more, PacsObjective())[0].sum().backward()
    assert more.logprob_B.grad is not None and more.logprob_B.grad[2:].tolist() == [0, 0]
    assert loss_of(row_batch([1], [1]), PacsObjective()) == 0


def test_regression_by_hand() -> None:
    rows = {
        "logprobs": [-1.0, -0.05, 0.0, -1.0],
        "reference": [-1.5, -0.1, -0.2, -1.5],
        "advantage": [1.0, 1.0, 0.6, -0.6],
    }
    batch = row_batch(rows["logprobs"], [1, 1, 1, 0], reference=rows["reference"], advantage=rows["advantage"])
    # d = .5, the reference gives .223: b = 1 and (.5 - 1)^2 = .25.
    # d = .05, the reference gives .905: b = 5, for 1 / .05 is more, and (.25 - 1)^2 / 5 = .1125.
    # d = .2, .819: b = .6 / .2 = 3, and (.6 - .6)^2 / 3 = 0.
    # d = .5, a bad row of which it was not sure: b = 1.2 and (.6 + .6)^2 / 1.2 = 1.2.
    parts, sums = regression(batch, RegressionObjective())
    assert parts.tolist() == pytest.approx([0.25 / 4, 0.1125 / 4, 0.0, 1.2 / 4])
    assert float(sums["policy/implicit_accuracy"]) == 0.75  # the last one's ratio rose
    alone = regression(batch, RegressionObjective(positive_only=True))[0]
    assert alone.tolist() == pytest.approx([0.25 / 3, 0.1125 / 3, 0.0, 0.0])
    # Log-ratios are means over a row's tokens: twice the length and twice the sums are the same row.
    longer = row_batch([-2.0], [1], reference=[-3.0], length=[2.0], advantage=[1.0])
    assert loss_of(longer, RegressionObjective()) == pytest.approx(0.25)


def test_averaged_dpo_by_hand() -> None:
    # Log-ratios by token 4 / 2 = 2 and 1 / 1 = 1: -log sigmoid(.5 * (2 - 1)) = log(1 + e^-.5) = .474077.
    batch = row_batch([4.0, 1.0], [1, 0], length=[2.0, 1.0])
    assert loss_of(batch, DpoObjective(beta=0.5, average=True)) == pytest.approx(0.474077, rel=1e-5)


def test_dpo_by_hand() -> None:
    # Margin (3 - 1) - (-1 - -1) = 2: -log sigmoid(.1 * 2) = .598139.
    batch = row_batch([3, -1], [1, 0], reference=[1, -1])
    assert loss_of(batch, DpoObjective()) == pytest.approx(0.598139, rel=1e-5)
    # At the reference: ln 2, and equal rewards make no pair.
    assert loss_of(row_batch([0, 0], [1, 0]), DpoObjective()) == pytest.approx(math.log(2))
    assert loss_of(row_batch([5, 0], [1, 1]), DpoObjective()) == 0
    # Rows of different groups are no pair; of three rewards there are three pairs, of margins 1, 2, 1.
    assert loss_of(row_batch([5, 0], [1, 0], group=[0, 1]), DpoObjective()) == 0
    three = loss_of(row_batch([2, 1, 0], [1, 0.5, 0]), DpoObjective(beta=1.0))
    assert three == pytest.approx((2 * softplus(-1) + softplus(-2)) / 3)
    assert float(dpo(batch, DpoObjective())[1]["policy/implicit_accuracy"]) == 1


def test_ipo_by_hand() -> None:
    # (2 - 1 / (2 * .1))^2 = 9; by tokens, margins 3/2 - 0/4 = 1.5: (1.5 - 5)^2.
    batch = row_batch([2, 0], [1, 0], length=[2, 4])
    assert loss_of(batch, IpoObjective()) == pytest.approx(9)
    longer = row_batch([3, 0], [1, 0], length=[2, 4])
    assert loss_of(longer, IpoObjective(average=True)) == pytest.approx(3.5**2)
    assert float(ipo(batch, IpoObjective())[1]["policy/implicit_accuracy"]) == 1


def test_kto_by_hand() -> None:
    # q = 2, -1: z = .5. Good: 1 - sigmoid(.1 * 1.5) = .462570; bad: 1 - sigmoid(.1 * (.5 + 1)) the same.
    batch = row_batch([2, -1], [1, 0])
    assert loss_of(batch, KtoObjective()) == pytest.approx(0.462570, rel=1e-5)
    weighted = KtoObjective(desirable=3.0, undesirable=1.0)
    assert loss_of(batch, weighted) == pytest.approx(2 * 0.462570, rel=1e-5)
    # A mean below 0 counts as 0: 1 - sigmoid(-.1) = .524979 and 1 - sigmoid(.3) = .425557.
    assert loss_of(row_batch([-1, -3], [1, 0]), KtoObjective()) == pytest.approx((0.524979 + 0.425557) / 2, rel=1e-5)
    assert float(kto(batch, KtoObjective())[1]["policy/implicit_accuracy"]) == 1


def test_implicit_reward_by_hand() -> None:
    # Log-ratios 2 - 4 + 10 = 8: .05 * 8 = .4, sigmoid .598688; right: -log of it = .513015, wrong: .913015.
    assert loss_of(row_batch([8], [1]), ImplicitRewardObjective()) == pytest.approx(0.513015, rel=1e-5)
    assert loss_of(row_batch([8], [0]), ImplicitRewardObjective()) == pytest.approx(0.913015, rel=1e-5)
    assert loss_of(row_batch([3], [1], reference=[3]), ImplicitRewardObjective()) == pytest.approx(math.log(2))
    unscored = row_batch([8, 99], [1, NAN])
    assert loss_of(unscored, ImplicitRewardObjective()) == pytest.approx(0.513015, rel=1e-5)
    assert (
        float(implicit_reward(row_batch([8, 8], [1, 0]), ImplicitRewardObjective())[1]["policy/implicit_accuracy"])
        == 0.5
    )


def test_sums_of_groups() -> None:
    assert group_sums(f64([1, 2, 4, 8]), torch.tensor([7, 3, 7, 3])).tolist() == [5, 10, 5, 10]


SUMS = st.floats(-5, 5).map(lambda x: round(x, 2))
BATCHES = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        *(st.lists(SUMS, min_size=n, max_size=n),) * 3,
        st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=n, max_size=n),
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.5, 1.0]), min_size=n, max_size=n),
    )
)
Drawn = tuple[list[float], list[float], list[float], list[float], list[int], list[float]]


def drawn(made: Drawn) -> RowBatch:
    now, old, reference, reward, group, weight = made
    return row_batch(now, reward, old=old, reference=reference, group=group, weight=weight)


def naive_pacs(made: Drawn, beta: float) -> float:
    now, old, _, rewards, groups, weights = made
    u = [beta * (n - o) for n, o in zip(now, old, strict=True)]
    losses = []
    for i, reward in enumerate(rewards):
        members = [j for j, r in enumerate(rewards) if groups[j] == groups[i] and r == r]
        others = [j for j in members if j != i]
        if reward != reward or not others:
            continue
        gained = u[i] - sum(u[j] for j in others) / len(others)
        alike = sum(rewards[j] == reward for j in members)
        balance = len(members) / (len({rewards[j] for j in members}) * alike)
        losses.append(weights[i] * balance * softplus(-gained if reward else gained))
    return sum(losses) / max(1, len(losses))


def naive_pairs(made: Drawn, of_margin: object) -> float:
    now, _, reference, rewards, groups, weights = made
    pairs = [(i, j) for i, j in permutations(range(len(now)), 2) if groups[i] == groups[j] and rewards[i] > rewards[j]]
    ratio = [n - r for n, r in zip(now, reference, strict=True)]
    losses = [weights[i] * weights[j] * of_margin(ratio[i] - ratio[j]) for i, j in pairs]  # type: ignore[operator]
    return sum(losses) / max(1, len(losses))


@given(BATCHES)
def test_pacs_is_the_naive_loop(made: Drawn) -> None:
    assert loss_of(drawn(made), PacsObjective(beta=1.5)) == pytest.approx(naive_pacs(made, 1.5), rel=1e-9, abs=1e-12)


@given(BATCHES)
def test_pairs_are_the_naive_loop(made: Drawn) -> None:
    assert loss_of(drawn(made), DpoObjective()) == pytest.approx(
        naive_pairs(made, lambda m: softplus(-0.1 * m)), abs=1e-12
    )
    assert loss_of(drawn(made), IpoObjective()) == pytest.approx(naive_pairs(made, lambda m: (m - 5) ** 2), abs=1e-9)


@pytest.mark.parametrize("case", CONFIGS)
@given(made=BATCHES, seed=st.integers(0, 99))
def test_the_order_of_rows_and_the_names_of_groups_are_nothing(case: str, made: Drawn, seed: int) -> None:
    order = torch.randperm(len(made[0]), generator=torch.Generator().manual_seed(seed)).tolist()
    moved = tuple([column[i] for i in order] for column in made)
    now, old, reference, reward, group, weight = moved
    renamed = drawn((now, old, reference, reward, [9 - g for g in group], weight))
    assert loss_of(renamed, CONFIGS[case]) == pytest.approx(loss_of(drawn(made), CONFIGS[case]), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", CONFIGS)
def test_gradients_agree_with_finite_differences(case: str) -> None:
    """By the rows' log-probabilities; `kto` holds its zero point still, which is 0 here."""
    config = CONFIGS[case]
    rest = {
        "old": [-0.5, 0.2, -1.0, 0.3, 0.1],
        "reference": [1.0, 2.0, 0.7, 1.2, 3.0],
        "length": [2.0, 3.0, 1.0, 5.0, 2.0],
        "weight": [1.0, 2.0, 1.0, 0.5, 1.0],
    }

    def value(now: torch.Tensor) -> torch.Tensor:
        made = row_batch([0.0] * 5, [1, 0, 0.6, 0, NAN], group=[0, 0, 0, 1, 0], **rest)
        held = RowBatch(
            **{name: getattr(made, name) for name in RowBatch.__slots__ if name != "logprob_B"}, logprob_B=now
        )
        return ROW_OBJECTIVES[config.type](held, config)[0].sum()  # type: ignore[attr-defined]

    assert torch.autograd.gradcheck(value, (f64([0.3, -1.2, 0.4, -0.1, 0.2]).requires_grad_(),), eps=1e-6, atol=1e-6)


# What the learner makes of them: a look at the whole batch, then micro-batches

ROWS = [
    Row(
        token_ids=(1,) * 4,
        mask=mask,
        old_logprobs=(0.0, -1.0, -2.0, -0.5),
        reference_logprobs=(0.0, -1.5, -1.0, -2.0),
        group=group,
        reward=reward,
        weight=weight,
    )
    for mask, group, reward, weight in [
        ((0, 1, 1, 0), 0, 1.0, 1.0),
        ((0, 1, 0, 1), 0, 0.0, 2.0),
        ((1, 1, 1, 1), 0, 0.0, 1.0),
        ((0, 0, 0, 1), 1, 1.0, 1.0),
        ((0, 1, 1, 1), 1, None, 1.0),
    ]
]
NOW = [[-1.2, -1.7, -0.3], [-0.4, -2.2, -0.9], [-1.0, -1.0, -1.1], [-3.0, -0.2, -0.6], [-1.4, -0.8, -0.1]]


def test_log_probabilities_are_summed_over_learned_tokens() -> None:
    batch = summed(ROWS, NOW)
    assert batch.logprob_B.tolist() == pytest.approx([-2.9, -1.3, -3.1, -0.6, -2.3])
    assert batch.old_B.tolist() == pytest.approx([-3.0, -1.5, -3.5, -0.5, -3.5])
    assert batch.reference_B.tolist() == pytest.approx([-2.5, -3.5, -4.5, -2.0, -4.5])
    assert batch.length_B.tolist() == [2, 2, 3, 1, 3]
    assert batch.group_B.tolist() == [0, 0, 0, 1, 1] and batch.reward_B.isnan().tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_parted_rows_have_exactly_the_gradient_of_the_whole(case: str, size: int) -> None:
    config = CONFIGS[case]
    objective = ROW_OBJECTIVES[config.type]  # type: ignore[attr-defined]
    now = f64(NOW).requires_grad_()
    mask = f64([row.mask[1:] for row in ROWS])
    whole = summed(ROWS, NOW)
    joined = RowBatch(
        **{name: getattr(whole, name) for name in RowBatch.__slots__ if name != "logprob_B"},
        logprob_B=(now * mask).sum(1),
    )
    loss = objective(joined, config)[0].sum()
    [expected] = torch.autograd.grad(loss, now)

    survey, totals = survey_rows(ROWS, NOW, objective, config), Totals.of(ROWS)
    parts: Sequence[torch.Tensor] = [
        marked(part(survey.rows[i : i + size], NOW[i : i + size], now[i : i + size])) / totals.tokens
        for i in range(0, len(ROWS), size)
    ]
    assert sum(p.item() for p in parts) == pytest.approx(loss.item(), rel=1e-12)
    [found] = torch.autograd.grad(torch.stack(list(parts)).sum(), now)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def part(surveyed: Sequence[Surveyed], values: Sequence[Sequence[float]], now: torch.Tensor) -> TokenBatch:
    tokens = [
        [Token(now=p, mask=m, mark=mark) for p, m, mark in zip(own, one.row.mask[1:], one.marks[1:], strict=True)]
        for one, own in zip(surveyed, values, strict=True)
    ]
    return replace(token_batch(tokens, term_B=[one.term for one in surveyed]), logprobs_BT=now)
