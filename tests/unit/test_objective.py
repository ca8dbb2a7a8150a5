"""Objectives: against naive loops, by hand, and their gradients against finite differences."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import GrpoObjective, NllObjective
from journeyman.config.objective import (
    ChiSquarePenalty,
    ClipCovariance,
    ConstantLength,
    KlCovariance,
    KlPenalty,
    Rejection,
    SequenceMean,
    TokenMean,
    WeightedMean,
)
from journeyman.training.handle import Row
from journeyman.training.objectives import grpo, nll
from journeyman.training.objectives.parts import turn_index
from journeyman.training.objectives.policy_gradient import covariant
from journeyman.training.objectives.survey import prepare, survey_covariance
from tests.unit.token_batches import Token, one_thread, token_batch  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

GRPO = GrpoObjective(clip_low=0.2, clip_high=0.28, importance_cap=2.0, negative_scale=0.5)
FULL = GrpoObjective(negative_scale=1.0)
NLL = NllObjective()


def naive_grpo(rows: Sequence[Sequence[Token]], config: GrpoObjective) -> tuple[float, dict[str, float]]:
    """Token after token, as the paper has it."""
    loss = ratio_sum = clipped = truncated = 0.0
    for token in (token for row in rows for token in row if token.mask):
        advantage = token.advantage * (config.negative_scale if token.advantage < 0 else 1)
        ratio = math.exp(token.now - token.old)
        bounded = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
        weight = min(math.exp(token.old - token.sampler), config.importance_cap)
        loss -= weight * min(ratio * advantage, bounded * advantage)
        ratio_sum += math.exp(token.now - token.sampler)
        clipped += bounded * advantage < ratio * advantage
        truncated += math.exp(token.old - token.sampler) > config.importance_cap
    return loss, {
        "policy/importance_ratio_mean": ratio_sum,
        "policy/clip_fraction": clipped,
        "policy/truncated_fraction": truncated,
    }


LOGPROB = st.floats(-4, 0).map(lambda x: round(x, 3))
TOKENS = st.builds(
    Token, now=LOGPROB, old=LOGPROB, sampler=LOGPROB, advantage=st.floats(-3, 3).map(lambda x: round(x, 2)),
    mask=st.integers(0, 1),
)  # fmt: skip
ROWS = st.integers(1, 4).flatmap(lambda t: st.lists(st.lists(TOKENS, min_size=t, max_size=t), min_size=1, max_size=3))
CONFIGS = st.builds(
    GrpoObjective,
    clip_low=st.floats(0.01, 0.9),
    clip_high=st.floats(0.01, 2),
    importance_cap=st.floats(0.1, 5),
    negative_scale=st.floats(0, 1),
)


@given(ROWS, CONFIGS)
def test_grpo_is_the_naive_loop(rows: list[list[Token]], config: GrpoObjective) -> None:
    loss, sums = grpo(token_batch(rows), config)
    expected, expected_sums = naive_grpo(rows, config)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(expected_sums, rel=1e-9, abs=1e-9)
    assert not any(value.requires_grad for value in sums.values())


@given(ROWS)
def test_nll_is_the_naive_loop(rows: list[list[Token]]) -> None:
    loss, sums = nll(token_batch(rows), NLL)
    expected = -sum(max(t.advantage, 0) * t.now for row in rows for t in row if t.mask)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9) and sums == {}


def one(**token: float) -> float:
    return grpo(token_batch([[Token(**token)]]), GRPO)[0].item()  # type: ignore[arg-type]


def test_grpo_by_hand() -> None:
    half, double = math.log(0.5), math.log(2)
    # On policy: minus the advantage; a negative one counts half (negative_scale).
    assert one(now=-1, old=-1, sampler=-1, advantage=3) == pytest.approx(-3)
    assert one(now=-1, old=-1, sampler=-1, advantage=-3) == pytest.approx(1.5)
    # ratio 2, advantage 3: min(2, 1.28) * 3
    assert one(now=-1 + double, old=-1, sampler=-1, advantage=3) == pytest.approx(-3.84)
    # ratio 2, advantage -3 -> -1.5: min(2 * -1.5, 1.28 * -1.5) = -3, not clipped
    assert one(now=-1 + double, old=-1, sampler=-1, advantage=-3) == pytest.approx(3)
    # ratio 1/2, advantage 3: min(.5 * 3, .8 * 3) = 1.5, not clipped
    assert one(now=-1 + half, old=-1, sampler=-1, advantage=3) == pytest.approx(-1.5)
    # ratio 1/2, advantage -1.5: min(-.75, .8 * -1.5) = -1.2
    assert one(now=-1 + half, old=-1, sampler=-1, advantage=-3) == pytest.approx(1.2)
    # importance weight e^.5 = 1.6487 below the cap, e^1 = 2.718 truncated to 2
    assert one(now=-1, old=-1, sampler=-1.5, advantage=1) == pytest.approx(-1.6487213)
    assert one(now=-1, old=-1, sampler=-2, advantage=1) == pytest.approx(-2)
    # the sampler was surer than the learner: weight e^-1, never truncated
    assert one(now=-1, old=-1, sampler=0, advantage=1) == pytest.approx(-0.3678794)


def test_clip_higher_leaves_more_room_upwards() -> None:
    def gradient(ratio: float, advantage: float) -> float:
        made = token_batch([[Token(now=math.log(ratio), old=0, sampler=0, advantage=advantage)]])
        grpo(made, GRPO)[0].backward()
        assert made.logprobs_BT.grad is not None
        return float(made.logprobs_BT.grad)

    assert gradient(1.27, 1) == pytest.approx(-1.27) and gradient(1.29, 1) == 0
    assert gradient(0.81, -1) == pytest.approx(0.405) and gradient(0.79, -1) == 0
    # Moves back towards the old policy are never clipped.
    assert gradient(5, -1) == pytest.approx(2.5) and gradient(0.1, 1) == pytest.approx(-0.1)


@given(ROWS)
def test_at_ratio_one_grpo_is_the_plain_policy_gradient(rows: list[list[Token]]) -> None:
    on_policy = [
        [Token(now=t.now, old=t.now, sampler=t.now, advantage=t.advantage, mask=t.mask) for t in r] for r in rows
    ]
    made = token_batch(on_policy)
    loss, sums = grpo(made, GRPO.model_copy(update={"negative_scale": 1.0}))
    loss.backward()
    assert made.logprobs_BT.grad is not None
    torch.testing.assert_close(made.logprobs_BT.grad, -made.advantages_BT * made.mask_BT, rtol=0, atol=0)
    assert loss.item() == pytest.approx(-float((made.advantages_BT * made.mask_BT).sum()), abs=1e-12)
    assert float(sums["policy/importance_ratio_mean"]) == float(made.mask_BT.sum())
    assert float(sums["policy/clip_fraction"]) == float(sums["policy/truncated_fraction"]) == 0


@given(ROWS, st.floats(1, 10))
def test_truncation_is_exactly_off_where_sampler_and_learner_agree(rows: list[list[Token]], cap: float) -> None:
    agreeing = [
        [Token(now=t.now, old=t.old, sampler=t.old, advantage=t.advantage, mask=t.mask) for t in r] for r in rows
    ]
    capped, _ = grpo(token_batch(agreeing), GRPO.model_copy(update={"importance_cap": cap}))
    free, _ = grpo(token_batch(agreeing), GRPO.model_copy(update={"importance_cap": 1e9}))
    assert capped.item() == free.item()


@given(ROWS, st.floats(0, 1))
def test_negative_scale_touches_negative_advantages_alone(rows: list[list[Token]], scale: float) -> None:
    scaled, _ = grpo(token_batch(rows), GRPO.model_copy(update={"negative_scale": scale}))
    full = GRPO.model_copy(update={"negative_scale": 1.0})
    signs = ([t for row in rows for t in row if t.advantage >= 0], [t for row in rows for t in row if t.advantage < 0])
    positive, negative = (grpo(token_batch([part]), full)[0].item() if part else 0.0 for part in signs)
    assert scaled.item() == pytest.approx(positive + scale * negative, rel=1e-9, abs=1e-9)


# The parts


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def naive_parts(rows: Sequence[Sequence[Token]], config: GrpoObjective) -> float:
    """The loss with all parts, row after row, token after token, divided as it is meant."""
    learned = [[t for t in row if t.mask] for row in rows]
    count, per_row = sum(map(len, learned)), [row for row in learned if row]
    total = 0.0
    for row in per_row:
        losses = [naive_token(token, row, config) for token in row]
        how = config.normalisation
        if isinstance(how, SequenceMean):
            total += mean(losses) / len(per_row)
        elif isinstance(how, ConstantLength):
            total += sum(losses) / how.length / len(per_row)
        elif isinstance(how, WeightedMean):
            weighted = [t.weight * loss for t, loss in zip(row, losses, strict=True)]
            total += sum(weighted) / sum(t.weight for t in row) / len(per_row)
        else:
            total += sum(losses) / count
        if config.chi_square:
            apart = sum(t.now - t.reference for t in row)
            total += config.chi_square.coefficient * (math.exp(min(apart, config.chi_square.cap)) - 1) / len(per_row)
    return total


def naive_token(token: Token, row: Sequence[Token], config: GrpoObjective) -> float:
    shared = {"token": [token], "turn": [t for t in row if t.turn == token.turn], "sequence": row}[config.ratio]
    ratio = math.exp(mean([t.now - t.old for t in shared]))
    advantage = token.advantage * (config.negative_scale if token.advantage < 0 else 1)
    bounded = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
    gain = {"clip": min(ratio * advantage, bounded * advantage), "plain": ratio * advantage}.get(
        config.surrogate, bounded * advantage * token.now
    )
    if config.dual_clip and advantage < 0:
        gain = max(gain, config.dual_clip * advantage)
    loss = -min(math.exp(token.old - token.sampler), config.importance_cap) * gain
    if config.kl:
        x = token.reference - token.now
        estimate = {"k1": -x, "k2": x * x / 2}.get(config.kl.estimator, math.exp(x) - x - 1)
        loss += config.kl.coefficient * estimate * (ratio if config.kl.weighted else 1)
    return loss * naive_kept(token, row, config.reject) if config.reject else loss


def naive_kept(token: Token, row: Sequence[Token], config: Rejection) -> bool:
    def within(ratio: float, band: tuple[float, float] | None) -> bool:
        return band is None or band[0] <= ratio <= band[1]

    ratios = [math.exp(t.old - t.sampler) for t in row]
    average = math.exp(mean([t.old - t.sampler for t in row]))
    vetoed = config.veto is not None and min(ratios) < config.veto
    return within(math.exp(token.old - token.sampler), config.token) and within(average, config.sequence) and not vetoed


RICH = st.builds(
    Token,
    now=LOGPROB,
    old=LOGPROB,
    sampler=LOGPROB,
    reference=LOGPROB,
    advantage=st.floats(-3, 3).map(lambda x: round(x, 2)),
    mask=st.integers(0, 1),
    weight=st.sampled_from([0.5, 1.0, 2.0]),
)
TURNS = (0, 0, 1, 3)
RICH_ROWS = st.lists(
    st.lists(RICH, min_size=4, max_size=4).map(
        lambda row: [replace(token, turn=turn) for token, turn in zip(row, TURNS, strict=True)]
    ),
    min_size=1,
    max_size=3,
)
BANDS = st.tuples(st.floats(0.1, 1), st.floats(1, 4))
PARTS = st.builds(
    GrpoObjective,
    clip_high=st.floats(0.01, 2),
    negative_scale=st.floats(0, 1),
    surrogate=st.sampled_from(["clip", "cispo", "plain"]),
    ratio=st.sampled_from(["token", "turn", "sequence"]),
    normalisation=st.sampled_from([TokenMean(), SequenceMean(), ConstantLength(length=7), WeightedMean()]),
    reject=st.none()
    | st.builds(Rejection, token=st.none() | BANDS, sequence=st.none() | BANDS, veto=st.none() | st.just(0.2)),
    kl=st.none()
    | st.builds(
        KlPenalty,
        coefficient=st.floats(0.01, 1),
        estimator=st.sampled_from(["k1", "k2", "k3", "k3+"]),
        weighted=st.booleans(),
    ),
    chi_square=st.none() | st.builds(ChiSquarePenalty, coefficient=st.floats(0.01, 1), cap=st.floats(0.5, 3)),
)


@given(RICH_ROWS, PARTS)
def test_every_combination_of_parts_is_the_naive_loop(rows: list[list[Token]], config: GrpoObjective) -> None:
    if not any(token.mask for row in rows for token in row):
        return
    made = token_batch(rows)
    loss = grpo(made, config)[0] / made.totals.tokens
    assert loss.item() == pytest.approx(naive_parts(rows, config), rel=1e-9, abs=1e-9)


def value_and_slope(row: Sequence[Token], config: GrpoObjective, **more: object) -> tuple[float, list[float]]:
    """The loss summed over one row's tokens, and its derivative by each token's log-probability."""
    made = token_batch([row], **more)
    loss, _ = grpo(made, config)
    loss.backward()
    assert made.logprobs_BT.grad is not None
    return loss.item(), made.logprobs_BT.grad[0].tolist()


def at(ratio: float, advantage: float, **more: float) -> Token:
    return Token(now=math.log(ratio), old=0, advantage=advantage, **more)  # type: ignore[arg-type]


def test_the_ratio_of_a_sequence_by_hand() -> None:
    wide = FULL.model_copy(update={"ratio": "sequence", "clip_high": 1.0})
    row = [at(2, 1), at(1, 3)]
    # Ratios 2 and 1, their geometric mean s = sqrt 2 on both: loss -(1 + 3) s; s moves by s/2 with either log-probability.
    root = math.sqrt(2)
    assert value_and_slope(row, wide) == (pytest.approx(-4 * root), pytest.approx([-2 * root, -2 * root]))
    # GSPO-token: the same value; each token's own gradient, s times its advantage.
    own = wide.model_copy(update={"ratio_gradient": "token"})
    assert value_and_slope(row, own) == (pytest.approx(-4 * root), pytest.approx([-root, -3 * root]))
    # Clipped at 1.28, all of the row or nothing of it.
    assert value_and_slope(row, FULL.model_copy(update={"ratio": "sequence"})) == (pytest.approx(-4 * 1.28), [0, 0])


def test_both_gradients_of_a_sequence_agree_where_its_advantages_are_equal() -> None:
    row = [at(1.2, 2), at(0.9, 2), at(1.1, 2, mask=0)]
    one, other = (
        value_and_slope(row, FULL.model_copy(update={"ratio": "sequence", "ratio_gradient": how}))
        for how in ("mean", "token")
    )
    assert one[1] == pytest.approx(other[1]) and one[0] == pytest.approx(other[0])


def test_the_ratio_of_a_turn_by_hand() -> None:
    # Rank-GRPO's item: the first two tokens share sqrt(1.21 * 1) = 1.1, clipped at 1.08; the third stays 0.9 (bound .94).
    item = FULL.model_copy(update={"ratio": "turn", "clip_low": 0.06, "clip_high": 0.08})
    row = [at(1.21, 1, turn=1), at(1, 1, turn=1), at(0.9, 1, turn=2)]
    # A > 0: min(1.1, 1.08) twice, min(.9, .94) once; only the last has a gradient.
    assert value_and_slope(row, item) == (pytest.approx(-(1.08 + 1.08 + 0.9)), pytest.approx([0, 0, -0.9]))


def test_turns_are_counted_within_their_row() -> None:
    turns = torch.tensor([[-1, 4, -1, 4, 7, -1], [0, 0, 1, 1, 2, 2], [-1, -1, -1, -1, -1, -1]])
    index, begins = turn_index(turns)
    assert index.tolist() == [[-1, 0, -1, 0, 1, -1], [0, 0, 1, 1, 2, 2], [-1] * 6]
    assert begins.int().tolist() == [[0, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0], [0] * 6]


def test_the_stretched_trust_region_by_hand() -> None:
    # clip(rho, .6, 1.8) of #71 is clip_low .4, clip_high .8.
    stretched = FULL.model_copy(update={"clip_low": 0.4, "clip_high": 0.8})
    assert [value_and_slope([at(rho, 1)], stretched)[0] for rho in (1.5, 2)] == pytest.approx([-1.5, -1.8])
    assert value_and_slope([at(0.4, -1)], stretched) == (pytest.approx(0.6), [0])


def test_the_dual_clip_bounds_negative_advantages_by_hand() -> None:
    dual = FULL.model_copy(update={"dual_clip": 10.0})
    # rho 20, A -1: PPO's bound lets -20 through; at least 10 * -1.
    assert value_and_slope([at(20, -1)], FULL) == (pytest.approx(20), pytest.approx([20]))
    assert value_and_slope([at(20, -1)], dual) == (pytest.approx(10), [0])
    assert value_and_slope([at(9, -1)], dual) == value_and_slope([at(9, -1)], FULL)
    assert value_and_slope([at(20, 1)], dual) == value_and_slope([at(20, 1)], FULL)
    assert float(grpo(token_batch([[at(20, -1), at(0.5, -1), at(5, -1)]]), dual)[1]["policy/clip_fraction"]) == 2


def test_cispo_by_hand() -> None:
    config = FULL.model_copy(update={"surrogate": "cispo", "clip_low": 1.0})
    # rho 2 clipped to 1.28, times A = 3, times log pi = -1: loss 3.84; the gradient -3.84 stays where PPO has none.
    token = Token(now=-1, old=-1 - math.log(2), advantage=3)
    assert value_and_slope([token], config) == (pytest.approx(3.84), pytest.approx([-3.84]))
    assert value_and_slope([token], FULL)[1] == [0]
    # No lower bound at clip_low 1.
    assert value_and_slope([replace(token, old=-1 + math.log(10))], config)[1] == pytest.approx([-0.3])


def test_nothing_is_clipped_by_hand() -> None:
    unbounded = FULL.model_copy(update={"surrogate": "plain"})
    assert value_and_slope([at(5, 2)], unbounded) == (pytest.approx(-10), pytest.approx([-10]))


# Two rows of 1 and 3 tokens, at ratio 1: losses 4 | 1, 1, 4.
UNEVEN = [
    [Token(advantage=-4), Token(mask=0), Token(mask=0)],
    [Token(advantage=-1), Token(advantage=-1), Token(advantage=-4, weight=2)],
]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (TokenMean(), 10 / 4),
        (SequenceMean(), (4 + 2) / 2),
        (ConstantLength(length=64), (4 + 6) / 64 / 2),
        (
            WeightedMean(),
            (4 + (1 + 1 + 2 * 4) / 4) / 2,
        ),  # #71's 10/4 = 2.5 in the second row, where the plain mean is 2
    ],
)
def test_means_by_hand(how: TokenMean, expected: float) -> None:
    made = token_batch(UNEVEN)
    loss, _ = grpo(made, FULL.model_copy(update={"normalisation": how}))
    assert loss.item() / 4 == pytest.approx(expected)


def test_weights_of_one_are_the_plain_mean_of_a_row() -> None:
    rows = [[replace(token, weight=1.0) for token in row] for row in UNEVEN]
    one, other = (
        grpo(token_batch(rows), FULL.model_copy(update={"normalisation": how}))[0].item()
        for how in (WeightedMean(), SequenceMean())
    )
    assert one == pytest.approx(other)


def test_a_rows_weight_multiplies_its_loss() -> None:
    made = token_batch(UNEVEN, weight_B=[3.0, 1.0])
    # (3 * 4 + 1 + 1 + 4) / 4
    assert grpo(made, FULL)[0].item() / 4 == pytest.approx(18 / 4)


def test_rejection_by_hand() -> None:
    # pi_old / pi_sampler: 3 and 1 in the first row (geometric mean 1.732), 1/2 and 1/2 in the second.
    first = [Token(now=-1, sampler=-1 - math.log(3)), Token()]
    second = [Token(now=-1, sampler=-1 + math.log(2))] * 2

    def rejected(**how: object) -> list[float]:
        made = token_batch([first, second])
        grpo(made, FULL.model_copy(update={"reject": Rejection(**how)}))[0].backward()  # type: ignore[arg-type]
        assert made.logprobs_BT.grad is not None
        return (made.logprobs_BT.grad == 0).int().flatten().tolist()

    assert rejected(token=(0.4, 2)) == [1, 0, 0, 0]
    assert rejected(token=(0.6, 2)) == [1, 0, 1, 1]
    assert rejected(sequence=(0.4, 1.7)) == [1, 1, 0, 0]
    assert rejected(sequence=(0.6, 1.8)) == [0, 0, 1, 1]
    assert rejected(veto=0.6) == [0, 0, 1, 1]
    assert rejected(token=(0.4, 2), veto=0.4) == [1, 0, 0, 0]
    share = grpo(token_batch([first, second]), FULL.model_copy(update={"reject": Rejection(token=(0.6, 2))}))[1]
    assert float(share["policy/rejected_fraction"]) == 3


@given(ROWS, BANDS)
def test_rejection_is_exactly_off_where_sampler_and_learner_agree(
    rows: list[list[Token]], band: tuple[float, float]
) -> None:
    agreeing = [[replace(token, sampler=token.old) for token in row] for row in rows]
    strict = GRPO.model_copy(update={"reject": Rejection(token=band, sequence=band, veto=0.99)})
    loss, sums = grpo(token_batch(agreeing), strict)
    assert loss.item() == grpo(token_batch(agreeing), GRPO)[0].item()
    assert float(sums["policy/rejected_fraction"]) == 0


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    [
        # x = log pi_ref - log pi = -ln 2: k1 = ln 2, k2 = ln^2 2 / 2, k3 = 1/2 + ln 2 - 1; slopes 1, -x, 1 - e^x, -x.
        ("k1", 0.693147, 1.0),
        ("k2", 0.240227, 0.693147),
        ("k3", 0.193147, 0.5),
        ("k3+", 0.193147, 0.693147),
    ],
)
def test_the_divergence_from_the_reference_by_hand(estimator: str, value: float, slope: float) -> None:
    config = FULL.model_copy(update={"kl": KlPenalty(coefficient=0.1, estimator=estimator)})  # type: ignore[arg-type]
    token = Token(now=-1, reference=-1 - math.log(2), advantage=0)
    loss, [slope_now] = value_and_slope([token], config)
    assert loss == pytest.approx(0.1 * value, rel=1e-5) and slope_now == pytest.approx(0.1 * slope, rel=1e-5)
    assert float(grpo(token_batch([[token]]), config)[1]["policy/reference_kl_nats"]) == pytest.approx(value, rel=1e-5)


def test_the_weighted_divergence_has_the_gradient_of_the_divergence() -> None:
    """Over all outcomes of a policy, weighted by the probability that sampled them: exactly grad KL(pi || pi_ref)."""
    theta = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    old, reference = (
        torch.log_softmax(torch.tensor(x, dtype=torch.float64), 0) for x in ([0.0, 0.5, 0.1], [1.0, 0, 0])
    )
    logs = torch.log_softmax(theta, 0)
    exact = torch.autograd.grad((logs.exp() * (logs - reference)).sum(), theta, retain_graph=True)[0]
    config = FULL.model_copy(update={"kl": KlPenalty(coefficient=1.0, weighted=True)})
    made = replace(
        token_batch([[Token(advantage=0)]] * 3),
        logprobs_BT=logs[:, None],
        old_logprobs_BT=old[:, None],
        sampler_logprobs_BT=old[:, None],
        reference_logprobs_BT=reference[:, None],
        weight_B=old.exp(),
    )
    torch.testing.assert_close(torch.autograd.grad(grpo(made, config)[0], theta)[0], exact)


def test_chi_square_by_hand() -> None:
    config = FULL.model_copy(update={"chi_square": ChiSquarePenalty(coefficient=0.5, cap=2.0)})
    # pi / pi_ref of the row: 3 * 1; chi^2 estimate 3 - 1 = 2, times .5; by rows, so times 2 tokens / 1 row in the sum.
    row = [Token(now=-1, reference=-1 - math.log(3), advantage=0), Token(now=-1, reference=-1, advantage=0)]
    assert value_and_slope(row, config) == (pytest.approx(2 * 0.5 * 2), pytest.approx([2 * 0.5 * 3] * 2))
    far = [Token(now=-1, reference=-9, advantage=0)]
    assert value_and_slope(far, config) == (pytest.approx(0.5 * (math.exp(2) - 1)), [0])  # capped


def test_the_entropy_bonus_by_hand() -> None:
    logs = torch.log(torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]], dtype=torch.float64))
    made = token_batch([[Token(advantage=0), Token(advantage=0, mask=0)]], logs_BSV=logs)
    # The first place predicts the only learned token: ln 2.
    loss, _ = grpo(made, FULL.model_copy(update={"entropy": 0.1}))
    assert loss.item() == pytest.approx(-0.1 * math.log(2))


def test_covariances_by_hand() -> None:
    # log pi - mean: 1, 0, -1; A - mean: 1, 1, -2 -> covariances 1, 0, 2.
    logprobs, advantages = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([2.0, 2.0, -1.0])
    draws = torch.Generator().manual_seed(0)
    assert covariant(logprobs, advantages, KlCovariance(share=0.5), draws).tolist() == [False, False, True]
    assert covariant(logprobs, advantages, KlCovariance(share=0.7), draws).tolist() == [True, False, True]
    assert covariant(logprobs, advantages, ClipCovariance(share=1, low=0.5, high=40), draws).tolist() == [1, 0, 1]
    assert covariant(logprobs, advantages, ClipCovariance(share=1, low=1.5, high=40), draws).tolist() == [0, 0, 1]
    one_of_two = covariant(logprobs, advantages, ClipCovariance(share=0.01, low=0.5, high=40), draws)
    assert one_of_two.sum() == 1 and not one_of_two[1]
    assert covariant(logprobs, advantages, ClipCovariance(low=3, high=40), draws).sum() == 0


def test_marked_tokens_by_hand() -> None:
    clipped = FULL.model_copy(update={"covariance": ClipCovariance()})
    row = [at(1.1, 1, mark=1), at(1.1, 1)]
    # The value stays, the gradient of the marked one goes.
    assert value_and_slope(row, clipped) == (pytest.approx(-2.2), pytest.approx([0, -1.1]))
    held = FULL.model_copy(update={"covariance": KlCovariance(coefficient=2.0)})
    # + 2 |ln 1.1| on the marked one: gradient -1.1 + 2.
    assert value_and_slope(row, held) == (pytest.approx(-2.2 + 2 * math.log(1.1)), pytest.approx([0.9, -1.1]))
    assert float(grpo(token_batch([row]), held)[1]["policy/covariance_fraction"]) == 1


def test_the_survey_marks_learned_tokens_of_the_whole_batch() -> None:
    rows = [
        Row(token_ids=(1, 2, 3), mask=(0, 1, 0), advantages=(0, 2, 9)),
        Row(token_ids=(1, 2, 3), mask=(1, 1, 1), advantages=(0, 2, -1)),
    ]
    # As above: the learned ones are -1, -2, -3 with covariances 1, 0, 2.
    config = FULL.model_copy(update={"covariance": KlCovariance(share=0.7)})
    found = survey_covariance(rows, [[-1.0, 5.0], [-2.0, -3.0]], config, seed=0)
    assert [list(one.marks) for one in found.rows] == [[0, 1, 0], [0, 0, 1]] and found.metrics == {}


def test_rows_that_were_cut_off_leave_the_loss() -> None:
    whole, cut = Row(token_ids=(1, 2), mask=(0, 1)), Row(token_ids=(1, 3), mask=(0, 1), truncated=True)
    assert prepare([whole, cut], FULL) == [whole, cut]
    assert prepare([whole, cut], FULL.model_copy(update={"overlong_filter": True})) == [whole]


@given(RICH_ROWS, PARTS)
def test_at_ratio_one_every_surrogate_and_level_is_the_plain_policy_gradient(
    rows: list[list[Token]], config: GrpoObjective
) -> None:
    even = [[replace(t, old=t.now, sampler=t.now, advantage=row[0].advantage) for t in row] for row in rows]
    made = token_batch(even)
    parts = {"negative_scale": 1.0, "kl": None, "chi_square": None, "normalisation": TokenMean()}
    grpo(made, config.model_copy(update=parts))[0].backward()
    torch.testing.assert_close(made.logprobs_BT.grad, -made.advantages_BT * made.mask_BT)
