"""The other objectives by hand, and the gradients of all of them against finite differences."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journeyman.config import GrpoObjective, NllObjective
from journeyman.config.objective import (
    BaseObjective,
    ChiSquarePenalty,
    ClipCovariance,
    ConstantLength,
    FlowObjective,
    KlCovariance,
    KlPenalty,
    LaserObjective,
    PolicyGradient,
    R0Objective,
    Rejection,
    RoverObjective,
    SequenceMean,
    SuperHfObjective,
    WeightedMean,
)
from journeyman.training.handle import Row
from journeyman.training.objectives import (
    TOKEN_OBJECTIVES,
    TokenBatch,
    flow,
    laser_self,
    nll,
    outcome_mixture,
    r0,
    rover,
    superhf,
)
from journeyman.training.objectives.policy_gradient import hinge_advantages
from journeyman.training.objectives.survey import prepare
from tests.unit.token_batches import NAN, Token, f64, one_thread, part_of, token_batch  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def slopes(objective: Callable, made: TokenBatch, config: BaseObjective) -> tuple[float, list[list[float]]]:
    """The loss, and its derivative by each token's log-probability."""
    loss, _ = objective(made, config)
    loss.backward()
    assert made.logprobs_BT.grad is not None
    return loss.item(), made.logprobs_BT.grad.tolist()


def test_nll_by_hand() -> None:
    row = [Token(now=-1, advantage=2), Token(now=-3, advantage=-1), Token(now=-5, mask=0)]
    # 2 * 1 + 0 * 3; a row weight of 3 three times that.
    assert slopes(nll, token_batch([row]), NllObjective()) == (2, [[-2, 0, 0]])
    assert slopes(nll, token_batch([row], weight_B=[3.0]), NllObjective()) == (6, [[-6, 0, 0]])


def logs(*probabilities: float) -> torch.Tensor:
    """Places at which the first of two tokens has a probability: 1 x S x 2."""
    return torch.log(f64([[[p, 1 - p] for p in probabilities]]))


def test_superhf_by_hand() -> None:
    config = SuperHfObjective(kl=0.5)
    row = [Token(now=math.log(0.5)), Token(now=math.log(0.25)), Token(mask=0)]
    same = logs(0.5, 0.25, 0.5, 0.5)
    made = token_batch([row], logs_BSV=same, reference_logs_BSV=same)
    # At the start KL = 0 and the loss is the cross-entropy: (ln 2 + ln 4) / 2, times 2 tokens.
    assert superhf(made, config)[0].item() == pytest.approx(3 * math.log(2))
    # pi_0 = (3/4, 1/4) against (1/2, 1/2) and (1/4, 3/4): .75 ln 1.5 + .25 ln .5 = .130812; .75 ln 3 - .25 ln 3 = .549306
    moved = replace(made, reference_logs_BSV=logs(0.75, 0.75, 0.5, 0.5))
    expected = (3 * math.log(2) + 0.5 * (0.130812 + 0.549306)) / 2
    loss, sums = superhf(moved, config)
    assert loss.item() / 2 == pytest.approx(expected, rel=1e-5)
    assert float(sums["policy/reference_kl_nats"]) / 2 == pytest.approx((0.130812 + 0.549306) / 2, rel=1e-5)


def test_the_divergence_of_superhf_grows_with_the_batch_in_the_authors_code() -> None:
    two = token_batch(
        [[Token(now=-1)]] * 2,
        logs_BSV=logs(0.5, 0.5).repeat(2, 1, 1),
        reference_logs_BSV=logs(0.75, 0.5).repeat(2, 1, 1),
    )
    mean, summed = (superhf(two, SuperHfObjective(kl=1, kl_reduction=how))[0].item() / 2 for how in ("mean", "sum"))
    assert (mean, summed) == (pytest.approx(1 + 0.130812, rel=1e-5), pytest.approx(1 + 2 * 0.130812, rel=1e-5))


def test_superhf_learns_from_rows_of_positive_advantage_alone() -> None:
    best, other = (Row(token_ids=(1, 2), mask=(0, 1), advantages=(0.0, a)) for a in (1.0, 0.0))
    assert prepare([best, other], SuperHfObjective()) == [best]
    # Without a divergence and with all rows at weight 1 it is the mean of their likelihoods.
    made = token_batch([[Token(now=-2)], [Token(now=-4)]], reference_logs_BSV=torch.zeros(2, 2, 2).double())
    assert superhf(made, SuperHfObjective(kl=0))[0].item() / 2 == pytest.approx(3)


def test_rover_by_hand() -> None:
    # Q = log pi - log pi_old: .5 and 0; advantage 1. The state after the first learned token is that of the next one:
    # mean over two tokens of log pi is (ln .25 + ln .75) / 2 = -.836988, of log pi_old -1: target 1 + .163012.
    row = [Token(now=-1, old=-1.5, advantage=1), Token(mask=0), Token(now=-2, old=-2, advantage=1)]
    made = token_batch([row], logs_BSV=logs(0.5, 0.5, 0.25, 0.5), old_means_BT=[[-1.0, -9.0, -1.0]])
    first, last = 0.5 - 1.163012, 0 - 1  # nothing follows the last
    loss, [gradient] = slopes(rover, made, RoverObjective())
    assert loss == pytest.approx(first**2 + last**2, rel=1e-5)
    assert gradient == pytest.approx([2 * first, 0, 2 * last], rel=1e-5)
    # Before the first update pi is pi_old: the squared advantage.
    fresh = token_batch([[Token(advantage=0.5), Token(advantage=0.5)]], logs_BSV=logs(0.5, 0.3, 0.5))
    assert slopes(rover, fresh, RoverObjective()) == (0.5, [[-1, -1]])


def test_flow_by_hand() -> None:
    # A root with leaves of reward 2 and 1 (beta r = ln 2 and 0): log F(root) = ln 3, pi = (2/3, 1/3), both residuals 0.
    config = FlowObjective(beta=1.0)
    rows = [[Token(now=math.log(2 / 3))], [Token(now=math.log(1 / 3))]]
    made = token_batch(rows, flows_BS=f64([[math.log(3), 9.0]] * 2), reward_B=[math.log(2), 0.0])
    assert slopes(flow, made, config) == (pytest.approx(0), [pytest.approx([0], abs=1e-12)] * 2)
    # With a flow of 0: residuals ln(2/3) - ln 2 = -ln 3 and ln(1/3) = -ln 3.
    empty = token_batch(rows, flows_BS=torch.zeros(2, 2).double(), reward_B=[math.log(2), 0.0])
    loss, gradient = slopes(flow, empty, config)
    assert loss == pytest.approx(2 * math.log(3) ** 2) and gradient[0] == pytest.approx([-2 * math.log(3)])


def test_flow_between_turns_by_hand() -> None:
    row = [Token(now=-1, turn=0), Token(now=-2, turn=0), Token(mask=0), Token(now=-3, turn=2)]
    flows = f64([[5.0, 77, 77, 2.0, 1.0]])
    # First turn: 5 - 3 - 2 = 0 (no reward). Last turn: 2 - 3 - 0 - 2 * 1 = -3; two turns, four places, three tokens.
    made = token_batch([row], flows_BS=flows, reward_B=[1.0])
    assert flow(made, FlowObjective(beta=2.0))[0].item() / 3 == pytest.approx(9 / 2)
    # Cut off: what follows is not the end, its flow is the head's, 1: residual -4.
    cut = replace(made, truncated_B=f64([1.0]))
    assert flow(cut, FlowObjective(beta=2.0))[0].item() / 3 == pytest.approx(16 / 2)
    # Rewards of turns from their tokens: .5 and 1 -> residuals 0 - 1 and -1 - 2.
    paid = token_batch(
        [[replace(t, advantage=0.5 if t.turn == 0 else 1.0) for t in row]], flows_BS=flows, reward_B=[1.0]
    )
    assert flow(paid, FlowObjective(beta=2.0, rewards="turns"))[0].item() / 3 == pytest.approx((1 + 9) / 2)
    # Against pi_ref: its log-probabilities of a turn are taken off, -1.5 each token: +3 and +1.5.
    referred = token_batch([[replace(t, reference=-1.5) for t in row]], flows_BS=flows, reward_B=[1.0])
    loss, _ = flow(referred, FlowObjective(beta=2.0, to_reference=True))
    assert loss.item() / 3 == pytest.approx((3**2 + 1.5**2) / 2)


def test_without_a_reward_the_turns_before_the_last_still_count() -> None:
    row = [Token(now=-1, turn=0), Token(now=-1, turn=1)]
    made = token_batch([row], flows_BS=f64([[3.0, 1.0, 7.0]]))
    assert flow(made, FlowObjective())[0].item() == pytest.approx((3 - 1 - 1) ** 2)


@given(
    st.lists(st.floats(-3, 0), min_size=3, max_size=3),
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.floats(-1, 1),
)
def test_the_residuals_of_a_path_sum_to_trajectory_balance(now: list[float], flows: list[float], reward: float) -> None:
    """log F(root) + log pi(path) - beta R, whatever the flows between are."""

    def residual(tokens: list[Token], own: list[float], paid: float, cut: bool) -> float:
        made = token_batch([tokens], flows_BS=f64([own]), reward_B=[paid], truncated_B=[float(cut)])
        loss, [gradient] = slopes(flow, made, FlowObjective(beta=2.0))
        return gradient[0] / 2 if loss else 0.0

    steps = [
        residual([Token(now=now[t])], [flows[t], flows[t + 1] if t < 2 else 0.0], 0 if t < 2 else reward, t < 2)
        for t in range(3)
    ]
    assert sum(steps) == pytest.approx(flows[0] + sum(now) - 2 * reward, abs=1e-9)


def test_outcome_mixture_by_hand() -> None:
    flows, policies = f64([0.5, 0.5]), f64([[1.0, 0.0], [0.0, 1.0]])
    # r = (3, 1): 3 * .5 / (3 * .5 + 1 * .5) = .75.
    assert outcome_mixture(flows, f64([3.0, 1.0]), policies).tolist() == [0.75, 0.25]
    assert outcome_mixture(f64([0.2, 0.8]), f64([7.0, 7.0]), policies).tolist() == pytest.approx([0.2, 0.8])
    assert outcome_mixture(flows, f64([1.0, 0.0]), policies).tolist() == [1, 0]


def test_r0_by_hand() -> None:
    config = R0Objective(negative_scale=1.0, floor=-1.0, validity=0.1)
    # Mean log pi_0 -1.5 is .5 below the floor; inside the band nothing. Against the group's mean of .25: -+ .1 * .25.
    assert hinge_advantages(f64([-1.5, -0.5]), torch.tensor([4, 4]), config).tolist() == pytest.approx([-0.025, 0.025])
    assert hinge_advantages(f64([-1.5, -0.5]), torch.tensor([4, 7]), config).tolist() == [0, 0]
    rows = [
        Row(token_ids=(1, 2, 3), mask=(0, 1, 1), advantages=(0, 1, 1), reference_logprobs=(0, -1, -2), group=4),
        Row(token_ids=(1, 2, 3), mask=(0, 1, 0), advantages=(0, -1, 0), reference_logprobs=(0, -0.5, -9), group=4),
    ]
    found = [row.advantages for row in prepare(rows, config)]
    assert found == [pytest.approx((0, 0.975, 0.975)), pytest.approx((0, -0.975, 0))]
    assert slopes(r0, token_batch([[Token(advantage=0.975)]]), config) == (-0.975, [[-0.975]])


def laser_batch(rewards: list[float], told: list[float], **more: Any) -> TokenBatch:
    """Rows of one token, after which the second of two tokens has a log-probability."""
    places = [[[0.0, -1.0], [0.0, logprob]] for logprob in told]
    return token_batch([[Token(advantage=0)]] * len(rewards), reward_B=rewards, logs_BSV=f64(places), **more)


def test_laser_self_by_hand() -> None:
    config = LaserObjective(token=1, beta=0.1, reference_logprob=-23.0, self_weight=1.0)
    # log pi = -13 -> s = .1 * 10 = 1: error 0 for a right row; -18 -> .5 -> error .25 either way.
    assert laser_self(laser_batch([1.0], [-13.0]), config)[0].item() == pytest.approx(0)
    assert laser_self(laser_batch([0.0], [-18.0]), config)[0].item() == pytest.approx(0.25)
    # One right row of error .25, two wrong ones of error 0 and 1: weights 3/2, 3/4, 3/4; sum .375 + .75, the mean of 3.
    three = laser_batch([1.0, 0.0, 0.0], [-18.0, -23.0, -13.0])
    loss, sums = laser_self(three, config)
    assert loss.item() / 3 == pytest.approx(1.125 / 3)
    assert float(sums["policy/self_reward_error"]) / 3 == pytest.approx(1.125 / 3)
    # Without a reward, or cut off, a row is no example.
    kept = laser_batch([1.0, NAN, 0.0], [-18.0, -1.0, -1.0], truncated_B=[0.0, 0.0, 1.0])
    assert laser_self(kept, config)[0].item() / 3 == pytest.approx(0.25)


def test_laser_of_the_authors_code_multiplies_by_the_temperature() -> None:
    config = LaserObjective(token=1, self_weight=1.0)
    made = laser_batch([1.0], [-26.0], temperature_B=[0.5])
    # Paper: s = .1 * (-26 + 23) = -.3; code: .1 * (-13 + 23) = 1.
    assert laser_self(made, config)[0].item() == pytest.approx(1.69)
    assert laser_self(made, config.model_copy(update={"times_temperature": True}))[0].item() == pytest.approx(0)


# All of them


def grpo(**options: Any) -> GrpoObjective:
    return GrpoObjective(**{"negative_scale": 0.5, **options})


CONFIGS: dict[str, BaseObjective] = {
    "grpo": grpo(),
    "sequence": grpo(ratio="sequence"),
    "sequence by token": grpo(ratio="sequence", ratio_gradient="token"),
    "turn": grpo(ratio="turn", clip_low=0.06, clip_high=0.08),
    "turn by token": grpo(ratio="turn", ratio_gradient="token"),
    "dual clip": grpo(dual_clip=1.5),
    "cispo": grpo(surrogate="cispo"),
    "plain": grpo(surrogate="plain"),
    "stretched": grpo(clip_low=0.4, clip_high=0.8),
    "positive only": grpo(negative_scale=0.0),
    "sequence mean": grpo(normalisation=SequenceMean()),
    "constant": grpo(normalisation=ConstantLength(length=64)),
    "weighted": grpo(normalisation=WeightedMean()),
    "rejection": grpo(reject=Rejection(token=(0.9, 1.2), sequence=(0.8, 1.5), veto=0.1)),
    **{f"kl {k}": grpo(kl=KlPenalty(coefficient=0.3, estimator=k)) for k in ("k1", "k2", "k3", "k3+")},
    "kl weighted": grpo(kl=KlPenalty(coefficient=0.3, weighted=True)),
    "chi square": grpo(chi_square=ChiSquarePenalty(coefficient=0.1)),
    "entropy": grpo(entropy=0.3),
    "clip-cov": grpo(covariance=ClipCovariance()),
    "kl-cov": grpo(covariance=KlCovariance()),
    "everything": grpo(
        ratio="turn",
        dual_clip=3.0,
        normalisation=WeightedMean(),
        reject=Rejection(token=(0.8, 1.2)),
        kl=KlPenalty(coefficient=0.3, weighted=True),
        chi_square=ChiSquarePenalty(coefficient=0.1),
        entropy=0.1,
        covariance=KlCovariance(),
    ),
    "r0": R0Objective(),
    "laser_self": LaserObjective(token=2),
    "laser_self times temperature": LaserObjective(token=2, times_temperature=True),
    "nll": NllObjective(),
    "superhf": SuperHfObjective(),
    "superhf sum": SuperHfObjective(kl_reduction="sum"),
    "rover": RoverObjective(),
    "flow": FlowObjective(),
    "flow of turns": FlowObjective(rewards="turns", to_reference=True),
}


def modelled(parameters: torch.Tensor) -> TokenBatch:
    """Three rows of four tokens by a linear model, off-policy, with everything that an objective may look at."""
    draw = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64)

    states, picked = normal(3, 5, 5), torch.randint(7, (3, 4, 1), generator=draw)
    base = torch.log_softmax(states @ normal(5, 7), -1)
    reference = torch.log_softmax(states @ normal(5, 7), -1)
    logs_BSV = torch.log_softmax(states @ parameters[:, :7], -1)

    def chosen(of: torch.Tensor) -> torch.Tensor:
        return of[:, :-1].gather(-1, picked).squeeze(-1)

    mask = f64([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
    turns = torch.tensor([[0, 0, -1, 1], [2, 3, 3, 3], [-1, 0, 0, -1]])
    blank = token_batch([[Token()] * 4] * 3)
    made = {
        "logprobs_BT": chosen(logs_BSV),
        "old_logprobs_BT": chosen(base) + 0.1 * normal(3, 4),
        "sampler_logprobs_BT": chosen(base) + 0.1 * normal(3, 4),
        "reference_logprobs_BT": chosen(reference),
        "old_means_BT": base[:, :-1].mean(-1) + 0.1 * normal(3, 4),
        "advantages_BT": f64([[1, -2, 0, 0.5], [3, -0.1, 1, 1], [0, 1.5, 0.2, 0]]),
        "mask_BT": mask,
        "weights_BT": f64([[1, 2, 1, 0.5], [1, 1, 3, 1], [1, 1, 1, 1]]),
        "turns_BT": turns,
        "marks_BT": f64([[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]]),
        "logs_BSV": logs_BSV,
        "reference_logs_BSV": reference,
        "flows_BS": (states @ parameters[:, 7:]).squeeze(-1),
        "temperature_B": f64([1.0, 0.7, 1.0]),
        "weight_B": f64([1.0, 2.0, 0.5]),
        "reward_B": f64([1.0, 0.0, NAN]),
        "truncated_B": f64([0.0, 0.0, 1.0]),
    }
    whole = replace(blank, **made)
    return replace(whole, totals=replace(whole.totals, tokens=9, rows=3, turns=5, judged=2, right=1))


def at_the_policy(shift: float = 0.2) -> torch.Tensor:
    """Parameters near those that the old log-probabilities are of: 5 x (7 tokens and a flow)."""
    draw = torch.Generator().manual_seed(0)
    torch.randn(3, 5, 5, generator=draw, dtype=torch.float64)
    torch.randint(7, (3, 4, 1), generator=draw)
    base = torch.randn(5, 7, generator=draw, dtype=torch.float64)
    return torch.cat([base + shift * torch.cos(torch.arange(35.0, dtype=torch.float64)).reshape(5, 7), base[:, :1]], 1)


class Held:
    """Stands for `Tensor.detach`: notes what is detached, and gives the same again when it is played back."""

    def __init__(self) -> None:
        self.noted: list[torch.Tensor] = []
        self.place: int | None = None

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.place is None:
            self.noted.append(tensor.data.clone())
            return self.noted[-1]
        self.place += 1
        return self.noted[self.place - 1]


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("shift", [0.05, 0.4], ids=["near", "far"])
def test_gradients_agree_with_finite_differences(case: str, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of everything but what is meant to have no gradient, which is held still."""
    config = CONFIGS[case]
    objective = TOKEN_OBJECTIVES[config.type]  # type: ignore[attr-defined]
    parameters = at_the_policy(shift).requires_grad_()
    [gradient] = torch.autograd.grad(objective(modelled(parameters), config)[0], parameters)
    held = Held()
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(torch.Tensor, "detach", lambda tensor: held(tensor))
        objective(modelled(parameters), config)

        def value(moved: torch.Tensor) -> float:
            held.place = 0
            return objective(modelled(moved), config)[0].item()

        draw = torch.Generator().manual_seed(1)
        ways = [torch.randn(parameters.shape, generator=draw, dtype=torch.float64) for _ in range(4)]
        found = [(value(parameters + 1e-6 * way) - value(parameters - 1e-6 * way)) / 2e-6 for way in ways]
    assert [float((gradient * way).sum()) for way in ways] == pytest.approx(found, rel=1e-5, abs=1e-6)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("case", CONFIGS)
def test_parts_of_a_batch_sum_to_the_whole(case: str) -> None:
    config = CONFIGS[case]
    objective = TOKEN_OBJECTIVES[config.type]  # type: ignore[attr-defined]
    batch = modelled(at_the_policy())
    whole, sums = objective(batch, config)
    parts = [objective(part_of(batch, slice(i, i + 1)), config) for i in range(3)]
    assert sum(loss.item() for loss, _ in parts) == pytest.approx(whole.item(), rel=1e-10)
    for name, value in sums.items():
        assert sum(float(own[name]) for _, own in parts) == pytest.approx(float(value), rel=1e-10), name


@pytest.mark.parametrize("case", CONFIGS)
def test_masked_tokens_have_no_part_in_loss_gradient_or_metrics(case: str) -> None:
    config = CONFIGS[case]
    objective = TOKEN_OBJECTIVES[config.type]  # type: ignore[attr-defined]
    batch = modelled(at_the_policy())
    named = (
        "old_logprobs_BT",
        "sampler_logprobs_BT",
        "reference_logprobs_BT",
        "advantages_BT",
        "weights_BT",
        "old_means_BT",
    )
    strange = {name: torch.where(batch.mask_BT > 0, getattr(batch, name), -3.5) for name in named}
    now = torch.where(batch.mask_BT > 0, batch.logprobs_BT, -7.0).requires_grad_()
    loss, sums = objective(batch, config)
    other, other_sums = objective(replace(batch, **strange, logprobs_BT=now), config)
    assert loss.item() == pytest.approx(other.item(), rel=1e-12)
    assert {name: float(v) for name, v in sums.items()} == pytest.approx({n: float(v) for n, v in other_sums.items()})
    [gradient] = torch.autograd.grad(other, now)
    assert not (gradient * (1 - batch.mask_BT)).any()


@pytest.mark.parametrize("case", CONFIGS)
def test_options_of_other_types_do_not_exist(case: str) -> None:
    config = CONFIGS[case]
    assert isinstance(config, PolicyGradient) == ("clip_low" in type(config).model_fields)
    assert type(config).model_validate(config.model_dump()) == config
