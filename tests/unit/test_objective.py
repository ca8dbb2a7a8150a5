"""Objectives: against naive loops, by hand, and their gradients against finite differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import ObjectiveConfig
from journeyman.training.objective import OBJECTIVES, TokenBatch, grpo, nll

GRPO = ObjectiveConfig(clip_low=0.2, clip_high=0.28, importance_cap=2.0, negative_scale=0.5)
NLL = ObjectiveConfig(type="nll")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token's numbers, all log-probabilities in nats."""

    now: float
    old: float
    sampler: float
    advantage: float
    mask: int = 1


def batch(rows: Sequence[Sequence[Token]]) -> TokenBatch:
    def tensor(name: str) -> torch.Tensor:
        return torch.tensor([[getattr(token, name) for token in row] for row in rows], dtype=torch.float64)

    return TokenBatch(
        logprobs_BT=tensor("now").requires_grad_(),
        old_logprobs_BT=tensor("old"),
        sampler_logprobs_BT=tensor("sampler"),
        advantages_BT=tensor("advantage"),
        mask_BT=tensor("mask"),
    )


def naive_grpo(rows: Sequence[Sequence[Token]], config: ObjectiveConfig) -> tuple[float, dict[str, float]]:
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
    ObjectiveConfig,
    clip_low=st.floats(0.01, 0.9),
    clip_high=st.floats(0.01, 2),
    importance_cap=st.floats(0.1, 5),
    negative_scale=st.floats(0, 1),
)


@given(ROWS, CONFIGS)
def test_grpo_is_the_naive_loop(rows: list[list[Token]], config: ObjectiveConfig) -> None:
    loss, sums = grpo(batch(rows), config)
    expected, expected_sums = naive_grpo(rows, config)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(expected_sums, rel=1e-9, abs=1e-9)
    assert not any(value.requires_grad for value in sums.values())


@given(ROWS)
def test_nll_is_the_naive_loop(rows: list[list[Token]]) -> None:
    loss, sums = nll(batch(rows), NLL)
    expected = -sum(max(t.advantage, 0) * t.now for row in rows for t in row if t.mask)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9) and sums == {}


def one(**token: float) -> float:
    return grpo(batch([[Token(**token)]]), GRPO)[0].item()  # type: ignore[arg-type]


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
        made = batch([[Token(now=math.log(ratio), old=0, sampler=0, advantage=advantage)]])
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
    made = batch(on_policy)
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
    capped, _ = grpo(batch(agreeing), GRPO.model_copy(update={"importance_cap": cap}))
    free, _ = grpo(batch(agreeing), GRPO.model_copy(update={"importance_cap": 1e9}))
    assert capped.item() == free.item()


@given(ROWS, st.floats(0, 1))
def test_negative_scale_touches_negative_advantages_alone(rows: list[list[Token]], scale: float) -> None:
    scaled, _ = grpo(batch(rows), GRPO.model_copy(update={"negative_scale": scale}))
    full = GRPO.model_copy(update={"negative_scale": 1.0})
    signs = ([t for row in rows for t in row if t.advantage >= 0], [t for row in rows for t in row if t.advantage < 0])
    positive, negative = (grpo(batch([part]), full)[0].item() if part else 0.0 for part in signs)
    assert scaled.item() == pytest.approx(positive + scale * negative, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("name", "config"), [("grpo", GRPO), ("nll", NLL)])
@given(rows=ROWS)
def test_masked_tokens_have_no_part_in_loss_gradient_or_metrics(
    name: str, config: ObjectiveConfig, rows: list[list[Token]]
) -> None:
    objective = OBJECTIVES[name]
    made = batch(rows)
    loss, sums = objective(made, config)
    loss.backward()
    assert made.logprobs_BT.grad is not None
    assert not (made.logprobs_BT.grad * (1 - made.mask_BT)).any()
    strange = [[t if t.mask else Token(now=-3, old=-2, sampler=-1, advantage=7, mask=0) for t in r] for r in rows]
    other, other_sums = objective(batch(strange), config)
    assert loss.item() == other.item() and {k: v.item() for k, v in sums.items()} == {
        k: v.item() for k, v in other_sums.items()
    }


@pytest.mark.parametrize(("name", "config"), [("grpo", GRPO), ("nll", NLL)])
def test_gradients_agree_with_finite_differences(name: str, config: ObjectiveConfig) -> None:
    torch.manual_seed(0)
    weights, states = torch.randn(5, 7, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    picked = torch.randint(7, (2, 3, 1))

    def loss_of(parameters: torch.Tensor) -> torch.Tensor:
        logprobs = torch.log_softmax(states @ parameters, -1).gather(-1, picked).squeeze(-1)
        noise = torch.linspace(-0.1, 0.1, 6, dtype=torch.float64).reshape(2, 3)  # inside the clip range
        reference = torch.log_softmax(states @ weights, -1).gather(-1, picked).squeeze(-1)
        made = TokenBatch(
            logprobs_BT=logprobs,
            old_logprobs_BT=reference + noise,
            sampler_logprobs_BT=reference - noise,
            advantages_BT=torch.tensor([[1.0, -2, 0.5], [3, -0.1, 0]], dtype=torch.float64),
            mask_BT=torch.tensor([[1.0, 1, 0], [1, 1, 1]], dtype=torch.float64),
        )
        return OBJECTIVES[name](made, config)[0]

    assert torch.autograd.gradcheck(loss_of, (weights.clone().requires_grad_(),), eps=1e-6, atol=1e-6)
